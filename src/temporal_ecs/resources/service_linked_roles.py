"""Service-linked roles, which AWS needs before the first cluster and the first domain in a VPC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class ServiceLinkedRole(Resource):
    """Shared by the whole account, so it is never deleted."""

    service: str
    role_name: str

    group = "iam"
    listing = "iam-roles"
    tagging = None
    permanent = True
    exists = frozenset({"InvalidInput: has been taken"})
    timeout = 120

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        for row in aws.roles(self):
            if row["RoleName"] == self.role_name:
                return {
                    "id": self.role_name,
                    "role_name": self.role_name,
                    "service": row["Path"].split("/")[2],
                    "arn": row["Arn"],
                }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        return str(aws.iam.create_service_linked_role(AWSServiceName=self.service)["Role"]["RoleName"])


def declare(config: Config) -> Iterator[Resource]:  # noqa: ARG001
    yield ServiceLinkedRole(name="ecs-service-role", service="ecs.amazonaws.com", role_name="AWSServiceRoleForECS")
    yield ServiceLinkedRole(
        name="opensearch-service-role",
        service="opensearchservice.amazonaws.com",
        role_name="AWSServiceRoleForAmazonOpenSearchService",
    )
