"""Private subnets, one for each zone, and the small public one that holds only the NAT gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class Subnet(Resource):
    vpc: str | Ref
    cidr: str
    zone: str | Ref
    public_addresses: bool = False

    group = "network"
    unnamed = True
    listing = "subnets"
    absent = frozenset({"InvalidSubnetID.NotFound"})
    exists = frozenset({"InvalidSubnet.Conflict"})
    not_yet = frozenset({"DependencyViolation"})  # ENIs of tasks, endpoints and the domain leave late
    mutable = frozenset({"public_addresses"})
    timeout = 1200

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_subnets", "Subnets", "SubnetId")
        if row is None:
            return None
        return {
            "id": row["SubnetId"],
            "vpc": row["VpcId"],
            "cidr": row["CidrBlock"],
            "zone": row["AvailabilityZone"],
            "public_addresses": row["MapPublicIpOnLaunch"],
            "pending": "being created" if row["State"] == "pending" else "",
            "tags": row["tags"],
        }

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        made = aws.once("ec2").create_subnet(
            VpcId=self.vpc,
            CidrBlock=self.cidr,
            AvailabilityZone=self.zone,
            TagSpecifications=aws.tag_specifications(self, "subnet"),
        )
        return str(made["Subnet"]["SubnetId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.ec2.modify_subnet_attribute(SubnetId=live["id"], MapPublicIpOnLaunch={"Value": self.public_addresses})

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.delete_subnet(SubnetId=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    named = config.network.availability_zones
    zones: list[str | Ref] = [*named] if named else [Ref("zones", f"zone-{i}") for i in range(config.zone_count)]
    for index, zone in enumerate(zones):
        yield Subnet(
            name=f"private-{index}",
            vpc=Ref("vpc"),
            cidr=config.private_cidr(index),
            zone=zone,
            labels={"Type": "private"},
        )
    yield Subnet(name="nat-public", vpc=Ref("vpc"), cidr=config.public_cidr, zone=zones[0], labels={"Type": "public"})
