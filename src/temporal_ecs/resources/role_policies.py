"""What each role may do: one inline policy for each, a statement with a Sid for each purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import ENVIRONMENT, Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

Statement = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RolePolicy(Resource):
    """An inline policy. IAM keeps a document as it was written, so it compares as it is."""

    role: str | Ref
    policy_name: str
    statements: tuple[Statement, ...]

    group = "iam"
    listing = "iam-roles"
    tagging = None
    absent = frozenset({"NoSuchEntity"})
    not_yet = frozenset({"ConcurrentModification", "UnmodifiableEntity"})
    mutable = frozenset({"statements"})
    timeout = 120

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        for row in aws.roles(self):
            for policy in row["RolePolicyList"]:
                if row["RoleName"] == self.role and policy["PolicyName"] == self.policy_name:
                    return {
                        "id": f"{self.role}/{self.policy_name}",
                        "role": self.role,
                        "policy_name": self.policy_name,
                        "statements": policy["PolicyDocument"]["Statement"],
                    }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        self._put(aws)
        return f"{self.role}/{self.policy_name}"

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        self._put(aws)

    def delete(self, aws: Aws, live: Live) -> None:  # noqa: ARG002
        aws.iam.delete_role_policy(RoleName=self.role, PolicyName=self.policy_name)

    def _put(self, aws: Aws) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": self.statements})
        aws.iam.put_role_policy(RoleName=self.role, PolicyName=self.policy_name, PolicyDocument=document)


def allow(sid: str, actions: str, *resources: str | Ref) -> Statement:
    """A statement; `actions` is "service:A B C", several of them separated by commas."""
    names = []
    for group in actions.split(", "):
        service, _, verbs = group.partition(":")
        names += [f"{service}:{verb}" for verb in verbs.split()]
    return {"Sid": sid, "Effect": "Allow", "Action": names, "Resource": list(resources) or ["*"]}


EXEC = (
    allow("ExecChannel", "ssmmessages:CreateControlChannel CreateDataChannel OpenControlChannel OpenDataChannel"),
    allow("ExecLog", "logs:CreateLogStream DescribeLogGroups DescribeLogStreams PutLogEvents"),
)
REMOTE_WRITE = allow("MetricsWrite", "aps:RemoteWrite GetSeries GetLabels GetMetricMetadata", Ref("prometheus", "arn"))


def declare(config: Config) -> Iterator[Resource]:
    domain = Ref(ENVIRONMENT, "arn:es", f"{{}}:domain/{config.project}-visibility/*")
    parameters = Ref(ENVIRONMENT, "arn:ssm", f"{{}}:parameter/{config.project}/adot/*")
    cluster: str | Ref = config.dsql.arn or Ref("dsql", "arn")
    policies: dict[str, tuple[Statement, ...]] = {
        "ecs-instance": (allow("DatabaseConnect", "dsql:DbConnect DbConnectAdmin"),),
        "ecs-execution": (
            allow("GrafanaSecret", "secretsmanager:GetSecretValue", Ref("grafana-secret", "arn")),
            allow("CollectorConfig", "ssm:GetParameter GetParameters", parameters),
        ),
        "temporal-task": (
            *EXEC,
            allow("DatabaseConnect", "dsql:DbConnect DbConnectAdmin", cluster),
            REMOTE_WRITE,
            allow("Visibility", "es:ESHttpGet ESHttpHead ESHttpPost ESHttpPut ESHttpDelete", domain),
        ),
        "grafana-task": (
            *EXEC,
            allow(
                "MetricsRead",
                "aps:QueryMetrics GetSeries GetLabels GetMetricMetadata",
                Ref("prometheus", "arn"),
            ),
            allow(
                "CloudWatchRead",
                "cloudwatch:DescribeAlarmsForMetric DescribeAlarmHistory DescribeAlarms ListMetrics GetMetricData "
                "GetMetricStatistics GetInsightRuleReport",
            ),
            allow(
                "LogsRead",
                "logs:DescribeLogGroups GetLogGroupFields StartQuery StopQuery GetQueryResults GetLogEvents",
            ),
            allow("InstancesRead", "ec2:DescribeTags DescribeInstances DescribeRegions"),
            allow("TagsRead", "tag:GetResources"),
        ),
        "temporal-ui-task": EXEC,
        "adot-task": (
            REMOTE_WRITE,
            allow(
                "TaskDiscovery",
                "ecs:ListTasks ListServices DescribeTasks DescribeServices DescribeTaskDefinition "
                "DescribeContainerInstances, ec2:DescribeInstances",
            ),
            *EXEC,
            allow("CollectorConfig", "ssm:GetParameter GetParameters", Ref("adot-config", "arn")),
        ),
        "benchmark-task": EXEC,
        "opensearch-setup-task": (allow("Visibility", "es:ESHttp*", domain), *EXEC),
    }
    for role, statements in policies.items():
        yield RolePolicy(
            name=f"{role}-policy", role=Ref(f"{role}-role"), policy_name="permissions", statements=statements
        )
