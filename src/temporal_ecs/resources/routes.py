"""The default routes. The S3 endpoint adds its own route to the private table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class Route(Resource):
    table: str | Ref
    destination: str
    gateway: str | Ref = ""
    nat: str | Ref = ""

    group = "network"
    listing = "route-tables"
    tagging = None
    absent = frozenset({"InvalidRoute.NotFound", "InvalidRouteTableID.NotFound"})
    exists = frozenset({"RouteAlreadyExists"})
    mutable = frozenset({"gateway", "nat"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        """By natural key: table and destination."""
        filters = [{"Name": "tag:tecs:project", "Values": [aws.project]}]
        for table in aws.rows(self, "ec2", "describe_route_tables", "RouteTables", Filters=filters):
            for route in table["Routes"]:
                if table["RouteTableId"] == self.table and route.get("DestinationCidrBlock") == self.destination:
                    return {
                        "id": f"{self.table} {self.destination}",
                        "table": self.table,
                        "destination": self.destination,
                        "gateway": route.get("GatewayId", ""),
                        "nat": route.get("NatGatewayId", ""),
                    }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.ec2.create_route(**self._request())
        return f"{self.table} {self.destination}"

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.ec2.replace_route(**self._request())

    def delete(self, aws: Aws, live: Live) -> None:  # noqa: ARG002
        aws.ec2.delete_route(RouteTableId=self.table, DestinationCidrBlock=self.destination)

    def _request(self) -> dict[str, Any]:
        target = {"NatGatewayId": self.nat} if self.nat else {"GatewayId": self.gateway}
        return {"RouteTableId": self.table, "DestinationCidrBlock": self.destination, **target}


def declare(config: Config) -> Iterator[Resource]:  # noqa: ARG001
    yield Route(name="public-default", table=Ref("public-rt"), destination="0.0.0.0/0", gateway=Ref("igw"))
    yield Route(name="private-default", table=Ref("private-rt"), destination="0.0.0.0/0", nat=Ref("nat"))
