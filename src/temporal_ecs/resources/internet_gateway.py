"""The internet gateway: the NAT gateway's way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class InternetGateway(Resource):
    vpc: str | Ref

    group = "network"
    unnamed = True
    absent = frozenset({"InvalidInternetGatewayID.NotFound", "Gateway.NotAttached"})
    exists = frozenset({"Resource.AlreadyAssociated"})
    not_yet = frozenset({"DependencyViolation"})  # detaching waits for public addresses: up to 20 min seen
    mutable = frozenset({"vpc"})
    timeout = 1200

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_internet_gateways", "InternetGateways", "InternetGatewayId")
        if row is None:
            return None
        attached = [attachment["VpcId"] for attachment in row["Attachments"]]
        return {"id": row["InternetGatewayId"], "vpc": attached[0] if attached else "", "tags": row["tags"]}

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        tags = aws.tag_specifications(self, "internet-gateway")
        made = aws.once("ec2").create_internet_gateway(TagSpecifications=tags)
        return str(made["InternetGateway"]["InternetGatewayId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        if live["vpc"]:
            aws.ec2.detach_internet_gateway(InternetGatewayId=live["id"], VpcId=live["vpc"])
        aws.ec2.attach_internet_gateway(InternetGatewayId=live["id"], VpcId=self.vpc)

    def delete(self, aws: Aws, live: Live) -> None:
        """One of the two: the engine looks again and asks again until it is gone."""
        if live["vpc"]:
            aws.ec2.detach_internet_gateway(InternetGatewayId=live["id"], VpcId=live["vpc"])
        else:
            aws.ec2.delete_internet_gateway(InternetGatewayId=live["id"])


def declare(config: Config) -> Iterator[Resource]:  # noqa: ARG001
    yield InternetGateway(name="igw", vpc=Ref("vpc"))
