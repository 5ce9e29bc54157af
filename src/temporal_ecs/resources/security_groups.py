"""Security groups, empty; their rules name each other and so come later, in security_group_rules.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

GROUPS = {  # what carries it; a group's description cannot be changed
    "vpc-endpoints": "Interface VPC endpoints",
    "ecs-instances": "EC2 hosts of the ECS cluster",
    "temporal-history": "Temporal History tasks",
    "temporal-matching": "Temporal Matching tasks",
    "temporal-frontend": "Temporal Frontend tasks",
    "temporal-worker": "Temporal Worker tasks",
    "temporal-ui": "Temporal UI tasks",
    "grafana": "Grafana tasks",
    "opensearch": "OpenSearch domain",
    "opensearch-setup": "OpenSearch schema set-up task",
    "adot": "Metrics collector tasks",
    "benchmark": "Benchmark tasks",
}


@dataclass(frozen=True, kw_only=True)
class SecurityGroup(Resource):
    group_name: str
    description: str
    vpc: str | Ref

    group = "security"
    listing = "security-groups"
    absent = frozenset({"InvalidGroup.NotFound", "InvalidGroupId.Malformed"})
    exists = frozenset({"InvalidGroup.Duplicate"})
    not_yet = frozenset({"DependencyViolation", "InvalidGroup.InUse"})  # ENIs leave late, up to 15 min seen
    timeout = 1500

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        name = {"vpc_id": self.vpc, "group_name": self.group_name}
        row = aws.ec2_row(self, id, "describe_security_groups", "SecurityGroups", "GroupId", **name)
        return row and {
            "id": row["GroupId"],
            "group_name": row["GroupName"],
            "description": row["Description"],
            "vpc": row["VpcId"],
            "tags": row["tags"],
        }

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        made = aws.ec2.create_security_group(
            GroupName=self.group_name,
            Description=self.description,
            VpcId=self.vpc,
            TagSpecifications=aws.tag_specifications(self, "security-group"),
        )
        return str(made["GroupId"])

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.delete_security_group(GroupId=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    for group, description in GROUPS.items():
        yield SecurityGroup(
            name=f"{group}-sg",
            group_name=f"{config.project}-{group}",
            description=description,
            vpc=Ref("vpc"),
        )
