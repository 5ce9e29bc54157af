"""VPC endpoints."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import Any

from temporal_ecs.sandbox.aws.ec2.common import (
    Fields,
    ec2,
    forget_tags,
    select,
    tag_from_specification,
    tags_of,
)
from temporal_ecs.sandbox.world import Fault, Request, hex_id, moment, operation

_FULL_ACCESS = json.dumps({
    "Statement": [{"Action": "*", "Effect": "Allow", "Principal": "*", "Resource": "*"}],
})  # fmt: skip


@dataclass
class Endpoint:
    """An endpoint, kept in moto's dictionary so that moto's routes find it."""

    id: str
    data: dict[str, Any]
    token: str | None

    @property
    def vpc_id(self) -> str:
        """The VPC it stands in."""
        return str(self.data["VpcId"])

    @property
    def interface(self) -> bool:
        """Whether it is an interface endpoint, as against a gateway endpoint."""
        return bool(self.data["VpcEndpointType"] == "Interface")


_FIELDS: Fields[Endpoint] = {
    "service-name": lambda one: one.data["ServiceName"],
    "vpc-id": lambda one: one.vpc_id,
    "vpc-endpoint-id": lambda one: one.id,
    "vpc-endpoint-state": lambda one: one.data["State"],
    "vpc-endpoint-type": lambda one: one.data["VpcEndpointType"],
}


@functools.cache
def _service_names(region: str) -> frozenset[str]:
    from moto.ec2.models import ec2_backends

    backend = next(iter(ec2_backends.values()))[region]
    rows = backend._collect_default_endpoint_services(backend.account_id, region)
    return frozenset({row["ServiceName"] for row in rows} | {f"com.amazonaws.{region}.dsql"})


def _knows(region: str, service: str) -> bool:
    # The connection endpoint of a DSQL cluster has a name of its own: GetVpcEndpointServiceName.
    return service in _service_names(region) or bool(
        re.fullmatch(rf"com\.amazonaws\.{region}\.dsql-[a-z0-9]+", service)
    )


@operation("ec2", "CreateVpcEndpoint")
def create_vpc_endpoint(request: Request) -> dict[str, Any]:
    """An interface endpoint is pending first. Private DNS is on unless refused, once to a service and VPC."""
    backend, params = ec2(request), request.params
    service, kind = params["ServiceName"], params.get("VpcEndpointType", "Gateway")
    token = params.get("ClientToken")
    others = list(backend.vpc_end_points.values())
    for other in others:
        if token and other.token == token:
            return {"VpcEndpoint": _shown(request, other), "ClientToken": token}
    vpc = backend.get_vpc(params["VpcId"])
    if not _knows(request.region, service):
        raise Fault("InvalidServiceName", f"The Vpc Endpoint Service '{service}' does not exist")
    same = [other for other in others if other.vpc_id == vpc.id and other.data["ServiceName"] == service]
    identifier = f"vpce-{hex_id(17)}"
    data = {
        "VpcEndpointId": identifier, "VpcEndpointType": kind, "VpcId": vpc.id, "ServiceName": service,
        "PolicyDocument": params.get("PolicyDocument", _FULL_ACCESS), "OwnerId": request.account,
        "CreationTimestamp": moment(), "RequesterManaged": False, "PrivateDnsEnabled": False,
        "RouteTableIds": [], "SubnetIds": [], "Groups": [], "NetworkInterfaceIds": [], "DnsEntries": [],
    }  # fmt: skip
    endpoint = Endpoint(identifier, data, token)
    if kind == "Interface":
        data["PrivateDnsEnabled"] = _private_dns(vpc, same, params)
        data["Groups"] = _groups(request, params.get("SecurityGroupIds"), vpc.id)
        _check_zones(request, params.get("SubnetIds", []))
        _add_subnets(request, endpoint, params.get("SubnetIds", []))
        data |= {"State": "pending", "IpAddressType": "ipv4", "DnsOptions": {"DnsRecordIpType": "ipv4"}}
        data["DnsEntries"] = [{"DnsName": f"{identifier}-{hex_id(8)}.{service}.vpce.amazonaws.com"}]
        request.after("vpc endpoint create", lambda: _become_available(endpoint))
    else:
        data["State"] = "available"
    backend.vpc_end_points[identifier] = endpoint
    try:
        _add_tables(request, endpoint, params.get("RouteTableIds", []))
    except Fault:
        del backend.vpc_end_points[identifier]
        raise
    tag_from_specification(request, identifier, "vpc-endpoint")
    return {"VpcEndpoint": _shown(request, endpoint), "ClientToken": token}


@operation("ec2", "DescribeVpcEndpoints")
def describe_vpc_endpoints(request: Request) -> dict[str, Any]:
    """Deleted ones are gone."""
    endpoints, wanted = ec2(request).vpc_end_points, request.params.get("VpcEndpointIds", [])
    for identifier in wanted:
        if identifier not in endpoints:
            raise _not_found(identifier)
    rows = [one for one in endpoints.values() if not wanted or one.id in wanted]
    chosen = select(request, rows, _FIELDS, lambda one: one.id)
    return {"VpcEndpoints": [_shown(request, one) for one in chosen]}


@operation("ec2", "ModifyVpcEndpoint")
def modify_vpc_endpoint(request: Request) -> dict[str, Any]:
    """Adds and removes subnets, route tables and groups; changes the policy and private DNS."""
    params, backend = request.params, ec2(request)
    endpoint = backend.vpc_end_points.get(params["VpcEndpointId"])
    if endpoint is None:
        raise _not_found(params["VpcEndpointId"])
    data = endpoint.data
    if "PolicyDocument" in params or params.get("ResetPolicy"):
        data["PolicyDocument"] = params.get("PolicyDocument", _FULL_ACCESS)
    if "PrivateDnsEnabled" in params:
        data["PrivateDnsEnabled"] = params["PrivateDnsEnabled"]
    removed = params.get("RemoveSecurityGroupIds", [])
    kept = [group["GroupId"] for group in data["Groups"] if group["GroupId"] not in removed]
    added = [group for group in params.get("AddSecurityGroupIds", []) if group not in kept]
    data["Groups"] = _groups(request, kept + added, endpoint.vpc_id) if endpoint.interface else []
    remaining = [s for s in data["SubnetIds"] if s not in params.get("RemoveSubnetIds", [])]
    _check_zones(request, remaining + params.get("AddSubnetIds", []))
    for subnet in params.get("RemoveSubnetIds", []):
        _remove_subnet(request, endpoint, subnet)
    _add_subnets(request, endpoint, params.get("AddSubnetIds", []))
    for table in params.get("RemoveRouteTableIds", []):
        _remove_table(request, endpoint, table)
    _add_tables(request, endpoint, params.get("AddRouteTableIds", []))
    return {"Return": True}


@operation("ec2", "DeleteVpcEndpoints")
def delete_vpc_endpoints(request: Request) -> dict[str, Any]:
    """An interface endpoint takes its time, and keeps its interfaces until then. Unknown ids are reported."""
    endpoints, unsuccessful = ec2(request).vpc_end_points, []
    for identifier in request.params["VpcEndpointIds"]:
        if identifier not in endpoints:
            fault = _not_found(identifier)
            error = {"Code": fault.code, "Message": fault.message}
            unsuccessful.append({"ResourceId": identifier, "Error": error})
            continue
        endpoint = endpoints[identifier]
        for table in list(endpoint.data["RouteTableIds"]):
            _remove_table(request, endpoint, table)
        if not endpoint.interface:
            _forget(request, endpoint)
        elif endpoint.data["State"] != "deleting":
            endpoint.data["State"] = "deleting"
            request.after("vpc endpoint delete", functools.partial(_forget, request, endpoint))
    return {"Unsuccessful": unsuccessful}


def _become_available(endpoint: Endpoint) -> None:
    if endpoint.data["State"] == "pending":
        endpoint.data["State"] = "available"


def _forget(request: Request, endpoint: Endpoint) -> None:
    for subnet in list(endpoint.data["SubnetIds"]):
        _remove_subnet(request, endpoint, subnet)
    ec2(request).vpc_end_points.pop(endpoint.id, None)
    forget_tags(request, endpoint.id)


def _private_dns(vpc: Any, same: list[Endpoint], params: dict[str, Any]) -> bool:
    if not params.get("PrivateDnsEnabled", True):
        return False
    if not (vpc.enable_dns_hostnames and vpc.enable_dns_support):
        raise Fault(
            "InvalidParameter",
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes "
            f"set to true for {vpc.id}",
        )
    if any(other.data["PrivateDnsEnabled"] for other in same):
        raise Fault(
            "InvalidParameter",
            "private-dns-enabled cannot be set because there is already a conflicting DNS domain for "
            f"{params['ServiceName']} in the VPC {vpc.id}",
        )
    return True


def _groups(request: Request, identifiers: list[str] | None, vpc: str) -> list[dict[str, str]]:
    backend = ec2(request)
    found = []
    for identifier in identifiers or [backend.get_default_security_group(vpc).id]:
        group = backend.get_security_group_from_id(identifier)
        if group is None:
            raise Fault("InvalidGroup.NotFound", f"The security group '{identifier}' does not exist")
        found.append({"GroupId": group.id, "GroupName": group.name})
    return found


def _check_zones(request: Request, subnets: list[str]) -> None:
    seen: set[str] = set()
    for subnet in subnets:
        zone = ec2(request).get_subnet(subnet).availability_zone
        if zone in seen:
            message = f"Found another VPC endpoint subnet in the availability zone of {subnet}: {zone}"
            raise Fault("DuplicateSubnetsInSameZone", message)
        seen.add(zone)


def _add_subnets(request: Request, endpoint: Endpoint, subnets: list[str]) -> None:
    for subnet in subnets:
        interface = ec2(request).create_network_interface(
            subnet,
            None,
            description=f"VPC Endpoint Interface {endpoint.id}",
            group_ids=[group["GroupId"] for group in endpoint.data["Groups"]],
        )
        interface.interface_type, interface.requester_managed = "vpc_endpoint", True
        endpoint.data["NetworkInterfaceIds"].append(interface.id)
        endpoint.data["SubnetIds"].append(subnet)


def _remove_subnet(request: Request, endpoint: Endpoint, subnet: str) -> None:
    enis, mine = ec2(request).enis, endpoint.data["NetworkInterfaceIds"]
    for interface in [i for i in mine if i in enis and enis[i].subnet.id == subnet]:
        del enis[interface]
        mine.remove(interface)
    endpoint.data["SubnetIds"].remove(subnet)


def _add_tables(request: Request, endpoint: Endpoint, tables: list[str]) -> None:
    """A gateway endpoint puts a route to its prefix list into each of its tables."""
    backend = ec2(request)
    for table in tables:
        routes = backend.get_route_table(table)._routes.values()
        prefix = _prefix_list(request, endpoint.data["ServiceName"])
        if any(route.destination_prefix_list_id == prefix for route in routes):
            message = f"route table {table} already has a route with destination-prefix-list-id {prefix}"
            raise Fault("RouteAlreadyExists", message)
        backend.create_route(table, None, gateway_id=endpoint.id, destination_prefix_list_id=prefix)
        endpoint.data["RouteTableIds"].append(table)


def _remove_table(request: Request, endpoint: Endpoint, table: str) -> None:
    routes = ec2(request).get_route_table(table)._routes
    for key in [key for key, route in routes.items() if route.gateway is endpoint]:
        del routes[key]
    endpoint.data["RouteTableIds"].remove(table)


def _prefix_list(request: Request, service: str) -> str:
    lists = ec2(request).managed_prefix_lists.values()
    return next(str(one.id) for one in lists if one.prefix_list_name == service)


def _shown(request: Request, one: Endpoint) -> dict[str, Any]:
    return {**one.data, "Tags": tags_of(request, one.id)}


def _not_found(identifier: str) -> Fault:
    return Fault("InvalidVpcEndpointId.NotFound", f"The Vpc Endpoint Id '{identifier}' does not exist")
