"""NAT gateways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moto.ec2.models.route_tables import Route

from temporal_ecs.sandbox.aws.ec2.common import (
    Fields,
    ec2,
    forget_tags,
    select,
    tag_from_specification,
    tags_of,
)
from temporal_ecs.sandbox.world import Fault, Request, hex_id, moment, operation


@dataclass
class NatGateway:
    """A NAT gateway, kept in moto's dictionary so that moto's routes find it."""

    id: str
    data: dict[str, Any]
    interface: Any
    token: str
    tags: list[dict[str, str]] = field(default_factory=list)  # shown once it is deleted

    @property
    def state(self) -> str:
        """pending, available, failed, deleting or deleted."""
        return str(self.data["State"])


# A route to a gateway that is going away stays, and leads nowhere.
Route.state = property(
    lambda route: "blackhole" if getattr(route.nat_gateway, "state", "") in ("deleting", "deleted") else "active"
)

_FIELDS: Fields[NatGateway] = {
    "nat-gateway-id": lambda one: one.id,
    "state": lambda one: one.state,
    "subnet-id": lambda one: one.data["SubnetId"],
    "vpc-id": lambda one: one.data["VpcId"],
}


@operation("ec2", "CreateNatGateway")
def create_nat_gateway(request: Request) -> dict[str, Any]:
    """Pending, then available. What is wrong with its address or VPC shows as `failed`, not as a refusal."""
    backend, params = ec2(request), request.params
    for other in backend.nat_gateways.values():
        if params.get("ClientToken") == other.token:
            return {"NatGateway": _shown(request, other), "ClientToken": other.token}
    subnet = backend.get_subnet(params["SubnetId"])
    public = params.get("ConnectivityType", "public") == "public"
    if public and "AllocationId" not in params:
        raise Fault("MissingParameter", "The request must contain the parameter AllocationId")
    address = backend.address_by_allocation([params["AllocationId"]])[0] if public else None
    failure = _failure(request, subnet, address) if address else None
    identifier = f"nat-{hex_id(17)}"
    interface = backend.create_network_interface(subnet, None, description=f"Interface for NAT Gateway {identifier}")
    interface.interface_type, interface.requester_managed, interface._group_set = "nat_gateway", True, []
    if address and not failure:
        backend.associate_address(eni=interface, allocation_id=address.allocation_id)
    gateway = NatGateway(identifier, {
        "NatGatewayId": identifier, "SubnetId": subnet.id, "VpcId": subnet.vpc_id, "State": "pending",
        "CreateTime": moment(), "ConnectivityType": params.get("ConnectivityType", "public"),
        "NatGatewayAddresses": [{
            "NetworkInterfaceId": interface.id, "PrivateIp": interface.private_ip_address, "IsPrimary": True,
            **({"AllocationId": address.allocation_id, "PublicIp": address.public_ip,
                "AssociationId": address.association_id, "Status": "succeeded"} if address else {}),
        }],
    }, interface, params.get("ClientToken", ""))  # fmt: skip
    backend.nat_gateways[identifier] = gateway
    tag_from_specification(request, identifier, "natgateway")

    def settle() -> None:
        if gateway.state != "pending":
            return
        if failure:
            gateway.data |= {
                "State": "failed",
                "FailureCode": failure.code,
                "FailureMessage": failure.message,
            }
            backend.enis.pop(interface.id, None)
        else:
            gateway.data["State"] = "available"

    request.after("nat gateway create", settle)
    return {"NatGateway": _shown(request, gateway), "ClientToken": gateway.token}


@operation("ec2", "DescribeNatGateways")
def describe_nat_gateways(request: Request) -> dict[str, Any]:
    """Deleted ones are still shown; AWS keeps them for an hour."""
    backend, wanted = ec2(request), request.params.get("NatGatewayIds", [])
    for identifier in wanted:
        _existing(request, identifier)
    rows = [one for one in backend.nat_gateways.values() if not wanted or one.id in wanted]
    chosen = select(request, rows, _FIELDS, lambda one: one.id)
    return {"NatGateways": [_shown(request, one) for one in chosen]}


@operation("ec2", "DeleteNatGateway")
def delete_nat_gateway(request: Request) -> dict[str, Any]:
    """Deleting, then deleted; only then is its address free and its interface gone."""
    backend, gateway = ec2(request), _existing(request, request.params["NatGatewayId"])
    if gateway.state in ("deleting", "deleted"):
        return {"NatGatewayId": gateway.id}
    gateway.data["State"] = "deleting"

    def finish() -> None:
        gateway.tags = tags_of(request, gateway.id)
        gateway.data |= {"State": "deleted", "DeleteTime": moment()}
        forget_tags(request, gateway.id)
        for address in backend.addresses:
            if address.eni is gateway.interface:
                backend.disassociate_address(address=address.public_ip)
        backend.enis.pop(gateway.interface.id, None)

    request.after("nat gateway delete", finish)
    return {"NatGatewayId": gateway.id}


def _existing(request: Request, identifier: str) -> NatGateway:
    found: NatGateway | None = ec2(request).nat_gateways.get(identifier)
    if found is None:
        raise Fault("NatGatewayNotFound", f"The Nat Gateway {identifier} was not found")
    return found


def _failure(request: Request, subnet: Any, address: Any) -> Fault | None:
    if address.eni:
        message = f"Elastic IP address [{address.allocation_id}] is already associated"
        return Fault("Resource.AlreadyAssociated", message)
    attached = {gateway.vpc.id for gateway in ec2(request).internet_gateways.values() if gateway.vpc}
    if subnet.vpc_id not in attached:
        return Fault("Gateway.NotAttached", f"Network {subnet.vpc_id} has no Internet gateway attached")
    return None


def _shown(request: Request, one: NatGateway) -> dict[str, Any]:
    return {**one.data, "Tags": one.tags or tags_of(request, one.id)}
