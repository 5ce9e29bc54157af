"""The Amazon Managed Service for Prometheus workspace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

TRANSITION = {"CREATING": "being created", "UPDATING": "being changed", "DELETING": "being deleted"}


@dataclass(frozen=True, kw_only=True)
class PrometheusWorkspace(Resource):
    alias: str  # not unique in AWS: found by tag

    group = "metrics"
    tagging = "amp"
    absent = frozenset({"ResourceNotFoundException"})
    not_yet = frozenset({"ConflictException"})
    mutable = frozenset({"alias"})
    typical = (5, 60)
    holds_data = "metrics of up to 150 days"
    costs = "stored samples"

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        for row in aws.rows(self, "amp", "list_workspaces", "workspaces"):
            if row["workspaceId"] == id if id else aws.owns(self, row.get("tags", {})):
                described = aws.answer(self, "amp", "describe_workspace", workspaceId=row["workspaceId"])["workspace"]
                endpoint = described.get("prometheusEndpoint", "")
                status = described["status"]["statusCode"]
                return {
                    "id": row["workspaceId"],
                    "alias": described.get("alias", ""),
                    "arn": described["arn"],
                    "endpoint": endpoint,  # ends in a slash
                    "remote_write": f"{endpoint}api/v1/remote_write",
                    "query": f"{endpoint}api/v1/query",
                    "pending": TRANSITION.get(status, "" if endpoint else "without endpoint yet"),
                    "failed": "AMP reports CREATION_FAILED" if status == "CREATION_FAILED" else "",
                    "tags": row.get("tags", {}),
                }
        return None

    def create(self, aws: Aws, token: str) -> str:
        made = aws.amp.create_workspace(alias=self.alias, clientToken=token, tags=aws.tags(self))
        return str(made["workspaceId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.amp.update_workspace_alias(workspaceId=live["id"], alias=self.alias)

    def delete(self, aws: Aws, live: Live) -> None:
        aws.amp.delete_workspace(workspaceId=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    yield PrometheusWorkspace(name="prometheus", alias=f"{config.project}-metrics")
