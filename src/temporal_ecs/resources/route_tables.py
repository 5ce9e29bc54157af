"""Two route tables: the NAT subnet's and the one that all private subnets share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class RouteTable(Resource):
    vpc: str | Ref

    group = "network"
    listing = "route-tables"
    absent = frozenset({"InvalidRouteTableID.NotFound"})
    not_yet = frozenset({"DependencyViolation"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_route_tables", "RouteTables", "RouteTableId")
        return row and {"id": row["RouteTableId"], "vpc": row["VpcId"], "tags": row["tags"]}

    def create(self, aws: Aws, token: str) -> str:
        made = aws.ec2.create_route_table(
            VpcId=self.vpc, ClientToken=token, TagSpecifications=aws.tag_specifications(self, "route-table")
        )
        return str(made["RouteTable"]["RouteTableId"])

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.delete_route_table(RouteTableId=live["id"])


def declare(config: Config) -> Iterator[Resource]:  # noqa: ARG001
    yield RouteTable(name="public-rt", vpc=Ref("vpc"))
    yield RouteTable(name="private-rt", vpc=Ref("vpc"))
