"""The Aurora DSQL cluster, unless tecs.toml names an existing one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

TRANSITION = {
    "CREATING": "being created",
    "UPDATING": "being changed",
    "PENDING_SETUP": "being set up",
    "PENDING_DELETE": "about to be deleted",
    "DELETING": "being deleted",
}


@dataclass(frozen=True, kw_only=True)
class DsqlCluster(Resource):
    """Without a name: known by id or tag. IDLE and INACTIVE are healthy, it wakes on connect."""

    deletion_protection: bool = True

    group = "database"
    tagging = "dsql"
    absent = frozenset({"ResourceNotFoundException"})
    not_yet = frozenset({"ConflictException"})
    mutable = frozenset({"deletion_protection"})
    timeout = 1800
    typical = (30, 90)
    holds_data = "Temporal's workflows"
    costs = "storage by the GiB, and work done"

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        identifier = id or self._by_tag(aws)
        if identifier is None:
            return None
        row = aws.answer(self, "dsql", "get_cluster", identifier=identifier)
        if row["status"] == "DELETED":
            return None
        return {
            "id": row["identifier"],
            "deletion_protection": row["deletionProtectionEnabled"],
            "arn": row["arn"],
            "endpoint": row.get("endpoint") or f"{row['identifier']}.dsql.{aws.region}.on.aws",
            "pending": TRANSITION.get(row["status"], ""),
            "failed": "DSQL reports FAILED" if row["status"] == "FAILED" else "",
            "tags": row.get("tags", {}),
        }

    def _by_tag(self, aws: Aws) -> str | None:
        for row in aws.rows(self, "dsql", "list_clusters", "clusters"):
            if aws.owns(self, aws.tags_of(self, row)):  # none for one that has just vanished
                return str(row["identifier"])
        return None

    def create(self, aws: Aws, token: str) -> str:
        made = aws.dsql.create_cluster(
            deletionProtectionEnabled=self.deletion_protection, clientToken=token, tags=aws.tags(self)
        )
        return str(made["identifier"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.dsql.update_cluster(identifier=live["id"], deletionProtectionEnabled=self.deletion_protection)

    def delete(self, aws: Aws, live: Live) -> None:
        """Reached only with --with-data and the project's name typed; protection goes off here alone."""
        if live["deletion_protection"]:
            aws.dsql.update_cluster(identifier=live["id"], deletionProtectionEnabled=False)
        aws.dsql.delete_cluster(identifier=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    if not config.dsql.arn:
        yield DsqlCluster(name="dsql")
