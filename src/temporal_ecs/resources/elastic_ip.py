"""The NAT gateway's public address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class ElasticIp(Resource):
    group = "network"
    unnamed = True
    absent = frozenset({"InvalidAllocationID.NotFound"})
    # Both: a NAT gateway has not let go of it yet.
    not_yet = frozenset({"InvalidIPAddress.InUse", "AuthFailure: You do not have permission to access the specified"})
    timeout = 600

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_addresses", "Addresses", "AllocationId")
        return row and {"id": row["AllocationId"], "address": row["PublicIp"], "tags": row["tags"]}

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        tags = aws.tag_specifications(self, "elastic-ip")
        return str(aws.once("ec2").allocate_address(Domain="vpc", TagSpecifications=tags)["AllocationId"])

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.release_address(AllocationId=live["id"])


def declare(config: Config) -> Iterator[Resource]:  # noqa: ARG001
    yield ElasticIp(name="nat-eip", after=("igw",))
