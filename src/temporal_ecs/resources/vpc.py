"""The VPC that everything else stands in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class Vpc(Resource):
    cidr: str
    dns_support: bool = True
    dns_hostnames: bool = True  # private DNS of the interface endpoints needs both

    group = "network"
    unnamed = True
    absent = frozenset({"InvalidVpcID.NotFound"})
    not_yet = frozenset({"DependencyViolation"})  # ENIs of deleted tasks and domains linger for minutes
    mutable = frozenset({"dns_support", "dns_hostnames"})
    timeout = 1200

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_vpcs", "Vpcs", "VpcId")
        if row is None:
            return None
        support, hostnames = (
            aws.answer(self, "ec2", "describe_vpc_attribute", VpcId=row["VpcId"], Attribute=attribute)
            for attribute in ("enableDnsSupport", "enableDnsHostnames")
        )
        return {
            "id": row["VpcId"],
            "cidr": row["CidrBlock"],
            "dns_support": support["EnableDnsSupport"]["Value"],
            "dns_hostnames": hostnames["EnableDnsHostnames"]["Value"],
            "pending": "being created" if row["State"] == "pending" else "",
            "tags": row["tags"],
        }

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        tags = aws.tag_specifications(self, "vpc")
        return str(aws.once("ec2").create_vpc(CidrBlock=self.cidr, TagSpecifications=tags)["Vpc"]["VpcId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # one attribute a call
        if "dns_support" in changed:
            aws.ec2.modify_vpc_attribute(VpcId=live["id"], EnableDnsSupport={"Value": self.dns_support})
        if "dns_hostnames" in changed:
            aws.ec2.modify_vpc_attribute(VpcId=live["id"], EnableDnsHostnames={"Value": self.dns_hostnames})

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.delete_vpc(VpcId=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    yield Vpc(name="vpc", cidr=config.network.cidr)
