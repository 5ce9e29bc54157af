"""What an operator wants to know of a provisioned stack: ids, endpoints, ready-to-run commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .config import Config
from .services import SERVICES
from .state import State


def outputs(config: Config, state: State) -> dict[str, Any]:
    """Every output that the recorded resources can give, by name."""
    return dict(_outputs(config, _Facts(state), state.account))


class _Facts:
    """Recorded outputs by resource; None for what is not there."""

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, name: str, output: str = "id") -> Any:
        record = self._state.get(name)
        if record.get("status") != "ready":
            return None
        return record["id"] if output == "id" else record["outputs"].get(output, record["spec"].get(output))


def _outputs(config: Config, facts: _Facts, account: str) -> Iterator[tuple[str, Any]]:
    project, region = config.project, config.region
    subnets = [facts.get(f"private-{index}") for index in range(config.zone_count)]
    endpoint = facts.get("opensearch", "endpoint")
    plain = {
        "account": account,
        "region": region,
        "project": project,
        "vpc_id": facts.get("vpc"),
        "vpc_cidr": facts.get("vpc", "cidr"),
        "private_subnet_ids": subnets if all(subnets) else None,
        "private_subnet_cidrs": [config.private_cidr(index) for index in range(config.zone_count)],
        "nat_gateway_id": facts.get("nat"),
        "nat_gateway_public_ip": facts.get("nat-eip", "address"),
        "ecs_cluster_name": facts.get("cluster"),
        "ecs_cluster_id": facts.get("cluster", "arn"),  # as Terraform's provider calls it
        "ecs_cluster_arn": facts.get("cluster", "arn"),
        "ecs_instances_security_group_id": facts.get("ecs-instances-sg"),
        "ecs_exec_log_group_name": facts.get("ecs-exec-logs"),
        "service_connect_namespace_id": facts.get("namespace"),
        "service_connect_namespace_arn": facts.get("namespace", "arn"),
        "service_connect_namespace_name": facts.get("namespace", "namespace_name"),
        "dsql_cluster_id": facts.get("dsql"),
        "dsql_cluster_arn": config.dsql.arn or facts.get("dsql", "arn"),
        "dsql_endpoint": config.dsql.endpoint or facts.get("dsql", "endpoint"),
        "opensearch_domain_name": facts.get("opensearch"),
        "opensearch_domain_id": facts.get("opensearch", "domain_id"),
        "opensearch_domain_arn": facts.get("opensearch", "arn"),
        "opensearch_endpoint": endpoint,
        "opensearch_dashboard_endpoint": endpoint and f"{endpoint}/_dashboards",
        "opensearch_visibility_index": config.opensearch.visibility_index,
        "prometheus_workspace_id": facts.get("prometheus"),
        "prometheus_workspace_arn": facts.get("prometheus", "arn"),
        "prometheus_remote_write_endpoint": facts.get("prometheus", "remote_write"),
        "prometheus_query_endpoint": facts.get("prometheus", "query"),
        "grafana_admin_secret_name": facts.get("grafana-secret"),
        "grafana_admin_secret_arn": facts.get("grafana-secret", "arn"),
        "adot_config_ssm_parameter_name": facts.get("adot-config"),
        "adot_config_ssm_parameter_arn": facts.get("adot-config", "arn"),
        "benchmark_capacity_provider_name": facts.get("benchmark-capacity"),
        "benchmark_log_group_name": facts.get("benchmark-logs"),
        "benchmark_security_group_id": facts.get("benchmark-sg"),
    }
    yield from plain.items()
    yield from _names(facts)
    yield from _commands(config, facts, subnets)


def _names(facts: _Facts) -> Iterator[tuple[str, Any]]:
    """Roles, repositories and task definitions."""
    for role in (
        "ecs-execution",
        "temporal-task",
        "grafana-task",
        "temporal-ui-task",
        "adot-task",
        "benchmark-task",
        "opensearch-setup-task",
    ):
        word = role.replace("-", "_")
        yield f"{word}_role_arn", facts.get(f"{role}-role", "arn")
        yield f"{word}_role_name", facts.get(f"{role}-role")
    for title in (
        "temporal-dsql",
        "temporal-dsql-admin-tools",
        "temporal-dsql-runtime",
        "temporal-grafana",
        "temporal-benchmark",
    ):
        yield f"{title.replace('-', '_')}_repository", facts.get(f"{title}-repository", "uri")
    for title in (*(service.title for service in SERVICES.values()), "benchmark", "opensearch-setup"):
        word = title.replace("-", "_")
        yield f"{word}_task_definition_arn", facts.get(f"{title}-task")
        yield f"{word}_task_definition_family", facts.get(f"{title}-task", "family")


def _commands(config: Config, facts: _Facts, subnets: list[Any]) -> Iterator[tuple[str, Any]]:
    project, region = config.project, config.region
    cluster = f"{project}-cluster"
    for service in SERVICES.values():
        word = service.title.replace("-", "_")
        name = facts.get(f"{service.title}-service", "service_name")
        yield f"{word}_service_name", name
        container = "adot-collector" if service.name == "adot" else service.title
        yield f"{word}_ecs_exec_command", name and _exec(cluster, name, container, region)
        if service.http:
            yield f"{word}_port_forward_command", name and _forward(cluster, name, container, region, service.http)
    capacity = f"capacityProvider={project}-benchmark,weight=1,base=1"
    for name, title, where, places in (
        ("opensearch_setup", "opensearch-setup", "--launch-type FARGATE", subnets[:1]),
        ("benchmark_run", "benchmark", f"--capacity-provider-strategy {capacity} --enable-execute-command", subnets),
    ):
        group = facts.get(f"{title}-sg")
        ready = facts.get(f"{title}-task") and group and all(places)
        family = f"{project}-{title}"
        yield f"{name}_command", _run_task(cluster, family, where, places, [group], region) if ready else None
    logs = facts.get("benchmark-logs")
    yield "benchmark_get_results_command", logs and _results(cluster, f"{project}-benchmark", logs, region)


def _task(cluster: str, service: str, region: str) -> str:
    return (
        f"TASK=$(aws ecs list-tasks --cluster {cluster} --service-name {service} --region {region} "
        "--query 'taskArns[0]' --output text)"
    )


def _exec(cluster: str, service: str, container: str, region: str) -> str:
    return (
        f'{_task(cluster, service, region)} && aws ecs execute-command --cluster {cluster} --task "$TASK" '
        f"--container {container} --interactive --command /bin/sh --region {region}"
    )


def _forward(cluster: str, service: str, container: str, region: str, port: int) -> str:
    """Through the container's SSM agent; then http://localhost:PORT."""
    return (
        f'{_task(cluster, service, region)} && RUNTIME=$(aws ecs describe-tasks --cluster {cluster} --tasks "$TASK" '
        f"--region {region} --query \"tasks[0].containers[?name=='{container}'].runtimeId | [0]\" --output text) && "
        f'aws ssm start-session --target "ecs:{cluster}_${{TASK##*/}}_${{RUNTIME}}" '
        "--document-name AWS-StartPortForwardingSession "
        f"--parameters 'portNumber={port},localPortNumber={port}' --region {region}"
    )


def _results(cluster: str, family: str, group: str, region: str) -> str:
    """What the latest benchmark task logged."""
    return (
        f"TASK=$(aws ecs list-tasks --cluster {cluster} --family {family} --desired-status STOPPED --region {region} "
        "--query 'taskArns[0]' --output text) && "
        f'aws logs get-log-events --log-group-name {group} --log-stream-name "benchmark/benchmark/${{TASK##*/}}" '
        f"--region {region} --query 'events[].message' --output text"
    )


def _run_task(cluster: str, family: str, where: str, subnets: list[str], groups: list[str], region: str) -> str:
    network = f"subnets=[{','.join(subnets)}],securityGroups=[{','.join(groups)}],assignPublicIp=DISABLED"
    return (
        f"aws ecs run-task --cluster {cluster} --task-definition {family} {where} "
        f"--network-configuration 'awsvpcConfiguration={{{network}}}' --region {region}"
    )
