"""CloudWatch log groups: one for each task family, one for ECS Exec sessions, one for Container Insights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource
from temporal_ecs.services import SERVICES

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class LogGroup(Resource):
    path: str
    retention_days: int

    group = "logs"
    tagging = "logs"
    absent = frozenset({"ResourceNotFoundException"})
    exists = frozenset({"ResourceAlreadyExistsException"})
    not_yet = frozenset({"OperationAbortedException"})
    mutable = frozenset({"retention_days"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        ours = f"/ecs/{aws.project}/"
        prefix = ours if self.path.startswith(ours) else self.path
        for row in aws.rows(self, "logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
            if row["logGroupName"] == self.path:
                return {
                    "id": self.path,
                    "path": self.path,
                    "retention_days": row.get("retentionInDays", 0),
                    "arn": row["arn"].removesuffix(":*"),
                }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.logs.create_log_group(logGroupName=self.path, tags=aws.tags(self))
        return self.path

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.logs.put_retention_policy(logGroupName=self.path, retentionInDays=self.retention_days)

    def delete(self, aws: Aws, live: Live) -> None:
        aws.logs.delete_log_group(logGroupName=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    # AWS makes this one by itself once the cluster has Container Insights, and leaves it behind for ever.
    yield LogGroup(
        name="container-insights-logs",
        path=f"/aws/ecs/containerinsights/{config.project}-cluster/performance",
        retention_days=config.logs.retention_days,
    )
    labels = {service.title: {"Service": service.name} for service in SERVICES.values()}
    labels["opensearch-setup"] = {"Service": "opensearch-setup"}
    for title in (
        "ecs-exec",
        *(service.title for service in SERVICES.values()),
        "benchmark",
        "opensearch-setup",
    ):
        yield LogGroup(
            name=f"{title}-logs",
            path=f"/ecs/{config.project}/{title}",
            retention_days=config.logs.retention_days,
            labels=labels.get(title),
        )
