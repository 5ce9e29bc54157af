"""VPCs, subnets, internet gateways, addresses and routes: moto's, with what AWS refuses."""

from __future__ import annotations

import ipaddress
from typing import Any

from temporal_ecs.sandbox.aws.ec2.common import dependency, ec2, forget_tags, interfaces, tags_of
from temporal_ecs.sandbox.world import Fault, Request, operation


@operation("ec2", "CreateVpc")
def create_vpc(request: Request) -> Any:
    """As moto; it's here because moto makes one even when DryRun is set."""
    return request.moto()


@operation("ec2", "CreateSubnet")
def create_subnet(request: Request) -> Any:
    """A block is /16 to /28."""
    block = request.params.get("CidrBlock")
    if block and not 16 <= ipaddress.ip_network(block, strict=False).prefixlen <= 28:
        raise Fault("InvalidSubnet.Range", f"The CIDR '{block}' is invalid.")
    return request.moto()


@operation("ec2", "DeleteVpc")
def delete_vpc(request: Request) -> Any:
    """Refused while anything but the default group, the main table and the default list is in it."""
    vpc, backend = request.params["VpcId"], ec2(request)
    inside = [
        *(gateway for gateway in backend.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc),
        *(group for group in backend.groups[vpc].values() if not group.is_default),
        *(endpoint for endpoint in backend.vpc_end_points.values() if endpoint.vpc_id == vpc),
        *(interface for interface in interfaces(request) if interface.subnet.vpc_id == vpc),
    ]
    if inside:
        raise dependency("vpc", vpc)
    leftovers = [
        *backend.groups[vpc].values(),
        *(t for t in backend.route_tables.values() if t.vpc_id == vpc),
    ]
    answer = request.moto()
    for gone in leftovers:
        forget_tags(request, gone.id)
        for rule in [*getattr(gone, "ingress_rules", ()), *getattr(gone, "egress_rules", ())]:
            forget_tags(request, rule.id)
    for acl in [acl for acl in backend.network_acls.values() if acl.vpc_id == vpc]:
        del backend.network_acls[acl.id]
    forget_tags(request, vpc)
    return answer


@operation("ec2", "DeleteSubnet")
def delete_subnet(request: Request) -> Any:
    """Refused while a network interface is in it. Its route-table association goes with it."""
    subnet, backend = request.params["SubnetId"], ec2(request)
    if any(interface.subnet.id == subnet for interface in interfaces(request)):
        raise dependency("subnet", subnet)
    answer = request.moto()
    for table in backend.route_tables.values():
        for association in [a for a, target in table._associations.items() if target == subnet]:
            del table._associations[association]
    forget_tags(request, subnet)
    return answer


@operation("ec2", "AttachInternetGateway")
def attach_internet_gateway(request: Request) -> Any:
    """One gateway to a VPC."""
    vpc, gateway = request.params["VpcId"], request.params["InternetGatewayId"]
    for other in ec2(request).internet_gateways.values():
        if other.id != gateway and other.vpc and other.vpc.id == vpc:
            raise Fault("InvalidParameterValue", f"Network {vpc} already has an internet gateway attached")
    return request.moto()


@operation("ec2", "DetachInternetGateway")
def detach_internet_gateway(request: Request) -> Any:
    """Refused while a public address is in use in the VPC."""
    vpc = request.params["VpcId"]
    if any(one.public_ip and one.subnet.vpc_id == vpc for one in interfaces(request)):
        raise Fault(
            "DependencyViolation",
            f"Network {vpc} has some mapped public address(es). "
            "Please unmap those public address(es) before detaching the gateway.",
        )
    return request.moto()


@operation("ec2", "ReleaseAddress")
def release_address(request: Request) -> Any:
    """Refused while a NAT gateway or an instance holds it."""
    allocation = request.params.get("AllocationId")
    for address in ec2(request).addresses:
        if address.allocation_id == allocation and address.eni:
            raise Fault("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")
    answer = request.moto()
    forget_tags(request, str(allocation))
    return answer


@operation("ec2", "DeleteInternetGateway")
def delete_internet_gateway(request: Request) -> Any:
    """Its tags go with it."""
    answer = request.moto()
    forget_tags(request, request.params["InternetGatewayId"])
    return answer


@operation("ec2", "AssociateRouteTable")
def associate_route_table(request: Request) -> Any:
    """A subnet has one table; moto would silently keep the old one."""
    table, subnet = request.params["RouteTableId"], request.params.get("SubnetId")
    for other in ec2(request).route_tables.values():
        if subnet and other.id != table and subnet in other._associations.values():
            raise Fault(
                "Resource.AlreadyAssociated",
                f"the specified association for route table {table} conflicts with an existing association",
            )
    return request.moto()


class RouteTableTokens(dict[str, str]):
    """Which table a client token made."""


@operation("ec2", "CreateRouteTable")
def create_route_table(request: Request) -> Any:
    """The same client token again: the same table; moto would make another."""
    token, known, backend = request.params.get("ClientToken", ""), request.state(RouteTableTokens), ec2(request)
    if table := backend.route_tables.get(known.get(token)):
        shown = {"RouteTableId": table.id, "VpcId": table.vpc_id, "OwnerId": request.account}
        return {"RouteTable": shown | {"Tags": tags_of(request, table.id)}, "ClientToken": token}
    answer = request.moto()
    if token:
        known[token] = list(backend.route_tables)[-1]
    return answer


@operation("ec2", "DeleteRouteTable")
def delete_route_table(request: Request) -> Any:
    """The main table lives as long as its VPC."""
    table = ec2(request).get_route_table(request.params["RouteTableId"])
    if table.main_association_id:
        raise dependency("routeTable", table.id)
    answer = request.moto()
    forget_tags(request, table.id)
    return answer


@operation("ec2", "CreateRoute", "ReplaceRoute")
def create_route(request: Request) -> Any:
    """The target must exist."""
    backend, params = ec2(request), request.params
    nat, gateway = params.get("NatGatewayId"), params.get("GatewayId", "")
    if nat and nat not in backend.nat_gateways:
        raise Fault("InvalidNatGatewayID.NotFound", f"The NatGateway ID '{nat}' does not exist")
    if gateway.startswith("igw-") and gateway not in backend.internet_gateways:
        raise Fault("InvalidGatewayID.NotFound", f"The gateway ID '{gateway}' does not exist")
    return request.moto()
