"""VPC endpoints: the AWS APIs that tasks and hosts use most, without the NAT gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource, in_order

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

INTERFACE = (
    "ecr.api",
    "ecr.dkr",
    "logs",
    "ssm",
    "ssmmessages",
    "ec2messages",
    "secretsmanager",
    "aps-workspaces",
)
TRANSITION = {
    "pending": "being created",
    "pendingacceptance": "waiting for acceptance",
    "deleting": "being deleted",
}
FAILED = {"failed", "rejected", "expired"}


@dataclass(frozen=True, kw_only=True)
class VpcEndpoint(Resource):
    vpc: str | Ref
    service: str
    type: str
    subnets: tuple[str | Ref, ...] = ()
    security_groups: tuple[str | Ref, ...] = ()
    route_tables: tuple[str | Ref, ...] = ()
    private_dns: bool | None = None

    group = "network"
    absent = frozenset({"InvalidVpcEndpointId.NotFound", "InvalidVpcEndpoint.NotFound"})
    # The private DNS name of one being deleted stays taken for a while.
    not_yet = frozenset(
        {
            "DependencyViolation",
            "InvalidParameter: conflicting DNS domain",
            "InvalidParameter: Enabling private DNS requires",
        }
    )
    mutable = frozenset({"subnets", "security_groups", "route_tables", "private_dns"})
    timeout = 900
    typical = (30, 120)

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId")
        if row is None:
            return None
        state = row["State"].lower()
        return {
            "id": row["VpcEndpointId"],
            "vpc": row["VpcId"],
            "service": row["ServiceName"],
            "type": row["VpcEndpointType"],
            "subnets": in_order(row.get("SubnetIds", ()), self.subnets),
            "security_groups": in_order((g["GroupId"] for g in row.get("Groups", ())), self.security_groups),
            "route_tables": in_order(row.get("RouteTableIds", ()), self.route_tables),
            "private_dns": bool(row.get("PrivateDnsEnabled")),
            "pending": TRANSITION.get(state, ""),
            "failed": row.get("LastError", {}).get("Message", state) if state in FAILED else "",
            "tags": row["tags"],
        }

    def create(self, aws: Aws, token: str) -> str:
        made = aws.ec2.create_vpc_endpoint(
            VpcId=self.vpc,
            ServiceName=self.service,
            VpcEndpointType=self.type,
            ClientToken=token,
            TagSpecifications=aws.tag_specifications(self, "vpc-endpoint"),
            **self._placement(),
        )
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:
        request: dict[str, Any] = {"VpcEndpointId": live["id"]}
        for field, noun in (
            ("subnets", "Subnet"),
            ("security_groups", "SecurityGroup"),
            ("route_tables", "RouteTable"),
        ):
            wanted, now = set(getattr(self, field)), set(live[field])
            if field in changed and wanted - now:
                request[f"Add{noun}Ids"] = sorted(wanted - now)
            if field in changed and now - wanted:
                request[f"Remove{noun}Ids"] = sorted(now - wanted)
        if "private_dns" in changed:
            request["PrivateDnsEnabled"] = bool(self.private_dns)
        aws.ec2.modify_vpc_endpoint(**request)

    def delete(self, aws: Aws, live: Live) -> None:
        for refused in aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[live["id"]])["Unsuccessful"]:
            aws.refuse("DeleteVpcEndpoints", refused["Error"])

    def _placement(self) -> dict[str, Any]:
        if self.type == "Gateway":
            return {"RouteTableIds": list(self.route_tables)}
        return {
            "SubnetIds": list(self.subnets),
            "SecurityGroupIds": list(self.security_groups),
            "PrivateDnsEnabled": bool(self.private_dns),
        }


def declare(config: Config) -> Iterator[Resource]:
    for service in INTERFACE:
        yield VpcEndpoint(
            name=f"{service.replace('.', '-')}-endpoint",
            vpc=Ref("vpc"),
            service=f"com.amazonaws.{config.region}.{service}",
            type="Interface",
            subnets=tuple(Ref(f"private-{index}") for index in range(config.zone_count)),
            security_groups=(Ref("vpc-endpoints-sg"),),
            private_dns=True,
        )
    yield VpcEndpoint(
        name="s3-endpoint",
        vpc=Ref("vpc"),
        service=f"com.amazonaws.{config.region}.s3",
        type="Gateway",
        route_tables=(Ref("private-rt"),),
    )
