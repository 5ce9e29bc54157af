"""The Cloud Map namespace that Service Connect keeps its endpoints in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class Namespace(Resource):
    """Made asynchronously: until it is there, its id is the operation's."""

    namespace_name: str
    description: str

    group = "compute"
    tagging = "servicediscovery"
    absent = frozenset({"NamespaceNotFound", "OperationNotFound", "ResourceNotFoundException"})
    exists = frozenset({"NamespaceAlreadyExists"})
    not_yet = frozenset(
        {"ResourceInUse", "DuplicateRequest"}
    )  # ECS removes its services from it minutes after its own deletion
    mutable = frozenset({"description"})
    timeout = 900
    typical = (5, 60)

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        known = id is not None and id.startswith("ns-")
        filters = [{"Name": "TYPE", "Values": ["HTTP"]}]
        for row in aws.rows(self, "servicediscovery", "list_namespaces", "Namespaces", Filters=filters):
            if row["Id"] == id if known else row["Name"] == self.namespace_name:
                return {
                    "id": row["Id"],
                    "namespace_name": row["Name"],
                    "description": row.get("Description", ""),
                    "arn": row["Arn"],
                }
        return None if id is None or known else self._operation(aws, id)

    def _operation(self, aws: Aws, id: str) -> Live | None:  # noqa: A002
        """What is being made; None when that failed, which leaves nothing. It has no ARN to ask for tags yet:
        they are those that we sent."""
        operation = aws.answer(self, "servicediscovery", "get_operation", OperationId=id)["Operation"]
        if operation["Status"] in ("SUCCESS", "FAIL"):
            return None
        return {"id": id, "pending": "being created", "tags": aws.tags(self)}

    def create(self, aws: Aws, token: str) -> str:
        made = aws.servicediscovery.create_http_namespace(
            Name=self.namespace_name,
            Description=self.description,
            CreatorRequestId=token,
            Tags=aws.tag_list(self),
        )
        return str(made["OperationId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.servicediscovery.update_http_namespace(Id=live["id"], Namespace={"Description": self.description})

    def delete(self, aws: Aws, live: Live) -> None:
        """One that is still being made has no id to delete it by: the engine asks again when it has."""
        if not live.get("pending"):
            aws.servicediscovery.delete_namespace(Id=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    yield Namespace(
        name="namespace",
        namespace_name=config.project,
        description=f"Service Connect endpoints of {config.project}",
        after=("ecs-service-role",),
    )
