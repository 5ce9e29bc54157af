"""Which subnet uses which route table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class RouteTableAssociation(Resource):
    subnet: str | Ref
    table: str | Ref

    group = "network"
    listing = "route-tables"
    tagging = None
    absent = frozenset({"InvalidAssociationID.NotFound"})
    exists = frozenset({"Resource.AlreadyAssociated"})
    mutable = frozenset({"table"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        """By natural key: a subnet has one association at most."""
        filters = [{"Name": "tag:tecs:project", "Values": [aws.project]}]
        for table in aws.rows(self, "ec2", "describe_route_tables", "RouteTables", Filters=filters):
            for row in table["Associations"]:
                if row.get("SubnetId") == self.subnet:
                    return {
                        "id": row["RouteTableAssociationId"],
                        "subnet": self.subnet,
                        "table": table["RouteTableId"],
                    }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        made = aws.ec2.associate_route_table(RouteTableId=self.table, SubnetId=self.subnet)
        return str(made["AssociationId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> str:  # noqa: ARG002
        made = aws.ec2.replace_route_table_association(AssociationId=live["id"], RouteTableId=self.table)
        return str(made["NewAssociationId"])

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.disassociate_route_table(AssociationId=live["id"])


def declare(config: Config) -> Iterator[Resource]:
    yield RouteTableAssociation(name="nat-public-routing", subnet=Ref("nat-public"), table=Ref("public-rt"))
    for index in range(config.zone_count):
        subnet = f"private-{index}"
        yield RouteTableAssociation(name=f"{subnet}-routing", subnet=Ref(subnet), table=Ref("private-rt"))
