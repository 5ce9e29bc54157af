"""The one NAT gateway: the way to Aurora DSQL and to the AWS APIs that have no endpoint here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

TRANSITION = {"pending": "being created", "deleting": "being deleted"}


@dataclass(frozen=True, kw_only=True)
class NatGateway(Resource):
    subnet: str | Ref
    allocation: str | Ref

    group = "network"
    absent = frozenset({"NatGatewayNotFound", "InvalidNatGatewayID.NotFound"})
    not_yet = frozenset({"Resource.AlreadyAssociated"})  # the address still belongs to one being deleted
    timeout = 900
    typical = (60, 150)

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_nat_gateways", "NatGateways", "NatGatewayId")
        if row is None:
            return None
        addresses = row["NatGatewayAddresses"]
        return {
            "id": row["NatGatewayId"],
            "subnet": row["SubnetId"],
            "allocation": addresses[0]["AllocationId"] if addresses else "",
            "pending": TRANSITION.get(row["State"], ""),
            "failed": row.get("FailureMessage", "no reason given") if row["State"] == "failed" else "",
            "tags": row["tags"],
        }

    def create(self, aws: Aws, token: str) -> str:
        made = aws.ec2.create_nat_gateway(
            SubnetId=self.subnet,
            AllocationId=self.allocation,
            ConnectivityType="public",
            ClientToken=token,
            TagSpecifications=aws.tag_specifications(self, "natgateway"),
        )
        return str(made["NatGateway"]["NatGatewayId"])

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.delete_nat_gateway(NatGatewayId=live["id"])


def declare(config: Config) -> Iterator[Resource]:  # noqa: ARG001
    yield NatGateway(name="nat", subnet=Ref("nat-public"), allocation=Ref("nat-eip"), after=("igw", "public-default"))
