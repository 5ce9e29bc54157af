"""The instance profile that hands the hosts their role."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class InstanceProfile(Resource):
    profile_name: str
    role: str | Ref

    group = "iam"
    tagging = "iam-profile"
    absent = frozenset({"NoSuchEntity"})
    exists = frozenset({"EntityAlreadyExists", "LimitExceeded: InstanceSessionsPerInstanceProfile"})
    not_yet = frozenset({"DeleteConflict", "ConcurrentModification"})
    mutable = frozenset({"role"})
    timeout = 120

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        row = aws.answer(self, "iam", "get_instance_profile", InstanceProfileName=self.profile_name)["InstanceProfile"]
        return {
            "id": row["InstanceProfileName"],
            "profile_name": row["InstanceProfileName"],
            "role": row["Roles"][0]["RoleName"] if row["Roles"] else "",
            "arn": row["Arn"],
            "tags": {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())},
        }

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.iam.create_instance_profile(InstanceProfileName=self.profile_name, Tags=aws.tag_list(self))
        return self.profile_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        self._remove_role(aws, live)
        aws.iam.add_role_to_instance_profile(InstanceProfileName=live["id"], RoleName=self.role)

    def delete(self, aws: Aws, live: Live) -> None:
        self._remove_role(aws, live)
        aws.iam.delete_instance_profile(InstanceProfileName=live["id"])

    def _remove_role(self, aws: Aws, live: Live) -> None:
        for role in aws.iam.get_instance_profile(InstanceProfileName=live["id"])["InstanceProfile"]["Roles"]:
            aws.iam.remove_role_from_instance_profile(InstanceProfileName=live["id"], RoleName=role["RoleName"])


def declare(config: Config) -> Iterator[Resource]:
    yield InstanceProfile(
        name="ecs-instance-profile",
        profile_name=config.iam_name("ecs-instance-profile"),
        role=Ref("ecs-instance-role"),
    )
