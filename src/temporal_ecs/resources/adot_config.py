"""The metrics collector's configuration, in the SSM parameter that its task reads at start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource
from temporal_ecs.services import METRICS, TEMPORAL

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class Parameter(Resource):
    parameter_name: str
    description: str
    body: str | Ref
    tier: str  # Advanced holds 8 KB and cannot be turned back

    group = "metrics"
    tagging = "ssm"
    absent = frozenset({"ParameterNotFound", "InvalidResourceId"})
    exists = frozenset({"ParameterAlreadyExists"})
    not_yet = frozenset({"TooManyUpdates"})
    mutable = frozenset({"description", "body", "tier"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        row = aws.answer(self, "ssm", "get_parameter", Name=self.parameter_name)["Parameter"]
        filters = [{"Key": "Name", "Option": "Equals", "Values": [self.parameter_name]}]
        for more in aws.rows(self, "ssm", "describe_parameters", "Parameters", ParameterFilters=filters):
            return {
                "id": row["Name"],
                "parameter_name": row["Name"],
                "description": more.get("Description", ""),
                "body": row["Value"],
                "tier": more["Tier"],
                "arn": row["ARN"],
            }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.ssm.put_parameter(**self._request(), Tags=aws.tag_list(self))
        return self.parameter_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.ssm.put_parameter(**self._request(), Overwrite=True)  # which AWS refuses together with tags

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ssm.delete_parameter(Name=live["id"])

    def _request(self) -> dict[str, str | Ref]:
        return {
            "Name": self.parameter_name,
            "Description": self.description,
            "Value": self.body,
            "Type": "String",
            "Tier": self.tier,
        }


TARGETS = "/etc/ecs_sd_targets.yaml"
"""Where the collector's image expects the list of targets that its ECS observer finds."""


def collector_config(project: str, region: str) -> str:
    """The collector's YAML; the one pair of braces takes the workspace's remote-write address.

    The ECS observer lists the cluster's tasks, so that every replica is scraped at its own address. A Service
    Connect name would lead to one of them.
    """
    scraped = {service.title: service.name for service in TEMPORAL} | {"benchmark": "benchmark"}
    jobs = "".join(
        f"""
        - job_name: {name}
          scrape_interval: 15s
          scrape_timeout: 10s
          file_sd_configs:
            - files: [{TARGETS}]
              refresh_interval: 15s
          relabel_configs:
            - source_labels: [__meta_ecs_task_definition_family]
              regex: {project}-{title}
              action: keep
            - target_label: service
              replacement: {name}
            - source_labels: [__meta_ecs_source]
              regex: .*/(.+)
              target_label: task_id
            - source_labels: [__meta_ecs_ec2_instance_id]
              target_label: instance_id
          metric_relabel_configs:
            - target_label: service_name
              replacement: {name}"""
        for title, name in scraped.items()
    )
    return f"""extensions:
  sigv4auth:
    region: {region}
    service: aps
  ecs_observer:
    cluster_name: {project}-cluster
    cluster_region: {region}
    refresh_interval: 15s
    result_file: {TARGETS}
    task_definitions:
      - arn_pattern: .*:task-definition/{project}-({"|".join(scraped)}):[0-9]+
        metrics_ports: [{METRICS}]
receivers:
  prometheus:
    config:
      scrape_configs:{jobs}
exporters:
  prometheusremotewrite:
    endpoint: {{}}
    auth:
      authenticator: sigv4auth
service:
  extensions: [sigv4auth, ecs_observer]
  pipelines:
    metrics:
      receivers: [prometheus]
      exporters: [prometheusremotewrite]
"""


def declare(config: Config) -> Iterator[Resource]:
    yield Parameter(
        name="adot-config",
        parameter_name=f"/{config.project}/adot/collector-config",
        description="OpenTelemetry collector configuration",
        body=Ref("prometheus", "remote_write", collector_config(config.project, config.region)),
        tier="Advanced",
    )
