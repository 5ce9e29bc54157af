"""IAM roles: the hosts', the execution role of all tasks, and one for each sort of task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import ENVIRONMENT, Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

HOSTS, TASKS = "ec2.amazonaws.com", "ecs-tasks.amazonaws.com"

ROLES = {
    "ecs-instance": (
        HOSTS,
        ("service-role/AmazonEC2ContainerServiceforEC2Role", "AmazonSSMManagedInstanceCore"),
    ),
    "ecs-execution": (TASKS, ("service-role/AmazonECSTaskExecutionRolePolicy",)),
    "temporal-task": (TASKS, ()),
    "grafana-task": (TASKS, ()),
    "temporal-ui-task": (TASKS, ()),
    "adot-task": (TASKS, ()),
    "benchmark-task": (TASKS, ()),
    "opensearch-setup-task": (TASKS, ()),
}


@dataclass(frozen=True, kw_only=True)
class Role(Resource):
    """A role that one AWS service may assume, with AWS-managed policies; its own policy is a RolePolicy."""

    role_name: str
    trust: str  # service principal
    managed: tuple[str | Ref, ...] = ()  # ARNs

    group = "iam"
    listing = "iam-roles"
    tagging = "iam-role"
    absent = frozenset({"NoSuchEntity"})
    exists = frozenset({"EntityAlreadyExists"})
    not_yet = frozenset({"DeleteConflict", "ConcurrentModification", "UnmodifiableEntity"})
    mutable = frozenset({"trust", "managed"})
    timeout = 120  # IAM's propagation: two minutes at most

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        for row in aws.roles(self):
            if row["RoleName"] == self.role_name:
                trust = row["AssumeRolePolicyDocument"]
                attached = {policy["PolicyArn"] for policy in row["AttachedManagedPolicies"]}
                return {
                    "id": self.role_name,
                    "role_name": self.role_name,
                    "trust": self.trust if trust == _assumed_by(self.trust) else json.dumps(trust, sort_keys=True),
                    "managed": [p for p in self.managed if p in attached] + sorted(attached - set(self.managed)),
                    "arn": row["Arn"],
                    "tags": {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())},
                }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        trust = json.dumps(_assumed_by(self.trust))
        aws.iam.create_role(RoleName=self.role_name, AssumeRolePolicyDocument=trust, Tags=aws.tag_list(self))
        return self.role_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:
        if "trust" in changed:
            trust = json.dumps(_assumed_by(self.trust))
            aws.iam.update_assume_role_policy(RoleName=self.role_name, PolicyDocument=trust)
        for arn in set(self.managed) - set(live["managed"]):
            aws.iam.attach_role_policy(RoleName=self.role_name, PolicyArn=arn)
        for arn in set(live["managed"]) - set(self.managed):
            aws.iam.detach_role_policy(RoleName=self.role_name, PolicyArn=arn)

    def delete(self, aws: Aws, live: Live) -> None:
        """Whatever was hung on the role since goes with it: IAM refuses otherwise."""
        for arn in live["managed"]:
            aws.iam.detach_role_policy(RoleName=live["id"], PolicyArn=arn)
        for name in aws.iam.list_role_policies(RoleName=live["id"])["PolicyNames"]:
            aws.iam.delete_role_policy(RoleName=live["id"], PolicyName=name)
        aws.iam.delete_role(RoleName=live["id"])


def _assumed_by(service: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def declare(config: Config) -> Iterator[Resource]:
    for role, (trust, managed) in ROLES.items():
        yield Role(
            name=f"{role}-role",
            role_name=config.iam_name(role),
            trust=trust,
            managed=tuple(Ref(ENVIRONMENT, "partition", f"arn:{{}}:iam::aws:policy/{name}") for name in managed),
        )
