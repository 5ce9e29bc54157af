"""The sandbox answers as AWS does: states, codes, dependencies and defaults, over HTTP, through boto3."""

from __future__ import annotations

import base64
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from temporal_ecs.errors import TecsError
from temporal_ecs.sandbox import process
from temporal_ecs.sandbox.server import Call, Fault, Server

REGION = "eu-west-1"
ACCOUNT = "123456789012"


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


class Hooks:
    """What the running test wants done before and after each call."""

    def __init__(self) -> None:
        self.before: Callable[[Call], None] = lambda call: None
        self.after: Callable[[Call], None] = lambda call: None


time, hooks = Time(), Hooks()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server(speed=1, now=time, before=lambda call: hooks.before(call), after=lambda call: hooks.after(call))
    with running:
        running.reset()
        yield running
    running.reset()


@pytest.fixture(autouse=True)
def _quiet_hooks() -> Iterator[None]:
    yield
    hooks.__init__()


@pytest.fixture(scope="module")
def aws(server: Server) -> Callable[..., Any]:
    """Clients by service, made once. `key` is an access key id."""
    made: dict[Any, Any] = {}

    def client(service: str, key: str = "AKIASANDBOX", region: str = REGION, endpoint: str | None = None) -> Any:
        if (service, key, region, endpoint) not in made:
            made[service, key, region, endpoint] = boto3.client(
                service,
                region_name=region,
                endpoint_url=endpoint or server.endpoint,
                aws_access_key_id=key,
                aws_secret_access_key="secret",
                config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
            )
        return made[service, key, region, endpoint]

    return client


def refused(code: str, act: Callable[..., Any], **params: Any) -> str:
    """The call is refused with that code; its message."""
    with pytest.raises(ClientError) as caught:
        act(**params)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return str(caught.value.response["Error"]["Message"])


def unique(prefix: str = "t") -> str:
    return f"{prefix}-{uuid4().hex[:8]}"


TRUST = json.dumps({
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
})  # fmt: skip


@pytest.fixture
def net(aws: Callable[..., Any]) -> Any:
    """A VPC with two subnets, an internet gateway, an address and a security group."""
    ec2 = aws("ec2")

    class Net:
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
        ec2.modify_vpc_attribute(VpcId=Net.vpc, **{attribute: {"Value": True}})
    Net.subnets = [
        ec2.create_subnet(VpcId=Net.vpc, CidrBlock=f"10.0.{16 * i}.0/20", AvailabilityZone=f"{REGION}{zone}")["Subnet"][
            "SubnetId"
        ]
        for i, zone in enumerate("ab")
    ]
    Net.gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=Net.gateway, VpcId=Net.vpc)
    Net.address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    Net.group = ec2.create_security_group(GroupName=unique(), Description="d", VpcId=Net.vpc)["GroupId"]
    return Net


# ------------------------------------------------------------------------------------------- the front


def test_every_call_is_counted_and_seen_by_both_hooks(server, aws):
    seen = []
    hooks.before = lambda call: seen.append(("before", call.operation))
    hooks.after = lambda call: seen.append(("after", call.operation))
    already = len(server.calls)
    aws("ecs").list_clusters()
    name = unique()
    aws("ecs").create_cluster(clusterName=name)
    assert seen == [
        ("before", "ListClusters"), ("after", "ListClusters"),
        ("before", "CreateCluster"), ("after", "CreateCluster"),
    ]  # fmt: skip
    first, second = server.calls[already:]
    assert (first.service, first.mutating, second.mutating) == ("ecs", False, True)
    assert second.params == {"clusterName": name}
    assert second.number == first.number + 1
    assert server.count(mutating=True)["ecs", "CreateCluster"] >= 1
    assert ("ecs", "ListClusters") not in server.count(mutating=True)


def test_a_fault_from_a_hook_is_what_aws_answers_and_nothing_is_done(aws):
    def fail(call: Call) -> None:
        raise Fault("ThrottlingException", "Rate exceeded")

    hooks.before = fail
    name = unique()
    assert refused("ThrottlingException", aws("ecs").create_cluster, clusterName=name) == "Rate exceeded"
    refused("ThrottlingException", aws("ec2").describe_vpcs)
    refused("ThrottlingException", aws("iam").list_roles)
    refused("ThrottlingException", aws("opensearch").list_domain_names)
    hooks.before = lambda call: None
    assert aws("ecs").describe_clusters(clusters=[name])["clusters"] == []


@pytest.mark.parametrize(
    ("service", "operation", "expired", "invalid"),
    [
        ("ec2", "describe_vpcs", "RequestExpired", "AuthFailure"),
        ("sts", "get_caller_identity", "ExpiredToken", "InvalidClientTokenId"),
        ("ecs", "list_clusters", "ExpiredTokenException", "UnrecognizedClientException"),
        ("opensearch", "list_domain_names", "ExpiredTokenException", "UnrecognizedClientException"),
    ],
)
def test_credentials_can_be_expired_or_invalid(aws, service, operation, expired, invalid):
    refused(expired, getattr(aws(service, "EXPIRED"), operation))
    refused(invalid, getattr(aws(service, "INVALID"), operation))
    getattr(aws(service), operation)()


@pytest.mark.parametrize(
    ("service", "operation", "params"),
    [
        ("opensearch", "describe_domain_health", {"DomainName": "domain"}),
        ("ecs", "list_service_deployments", {"service": "s"}),
        ("ssm", "describe_instance_information", {}),
        ("pricing", "describe_services", {}),
        (
            "iam",
            "simulate_principal_policy",
            {"PolicySourceArn": "arn:aws:iam::123456789012:role/r", "ActionNames": ["s3:GetObject"]},
        ),
    ],
)
def test_a_gap_is_a_clean_501(aws, service, operation, params):
    with pytest.raises(ClientError) as caught:
        getattr(aws(service), operation)(**params)
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


@pytest.mark.parametrize(
    ("service", "operation", "code", "params"),
    [
        ("ecs", "create_cluster", "InvalidParameterException", {"clusterName": "a b"}),
        (
            "ecs",
            "create_cluster",
            "InvalidParameterException",
            {"settings": [{"name": "containerInsight", "value": "x"}]},
        ),
        (
            "ecs",
            "register_task_definition",
            "ClientException",
            {"family": "f", "networkMode": "awsvpcc", "containerDefinitions": []},
        ),
        (
            "ec2",
            "create_launch_template",
            "InvalidParameterValue",
            {"LaunchTemplateName": "abc", "LaunchTemplateData": {"InstanceType": "m7g.huge"}},
        ),
        ("iam", "create_role", "ValidationError", {"RoleName": "r r", "AssumeRolePolicyDocument": TRUST}),
        ("iam", "create_role", "MalformedPolicyDocument", {"RoleName": "r", "AssumeRolePolicyDocument": "{"}),
        (
            "iam",
            "put_role_policy",
            "LimitExceeded",
            {"RoleName": "r", "PolicyName": "p", "PolicyDocument": json.dumps({"Statement": ["x" * 10241]})},
        ),
        ("logs", "put_retention_policy", "InvalidParameterException", {"logGroupName": "g", "retentionInDays": 8}),
        ("ssm", "put_parameter", "ValidationException", {"Name": "n", "Type": "String", "Value": "x" * 4097}),
        ("dsql", "get_cluster", "ValidationException", {"identifier": "BAD"}),
        ("opensearch", "create_domain", "ValidationException", {"DomainName": "n" * 29}),
        (
            "autoscaling",
            "create_auto_scaling_group",
            "ValidationError",
            {"AutoScalingGroupName": "g", "MinSize": 2, "MaxSize": 1},
        ),
    ],
)
def test_requests_are_checked_strictly_with_the_services_own_code(aws, service, operation, code, params):
    refused(code, getattr(aws(service), operation), **params)


def test_simultaneous_creates_have_one_winner(aws):
    ecs, name, made = aws("iam"), unique(), []

    def create() -> None:
        try:
            made.append(ecs.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST))
        except ClientError as error:
            assert error.response["Error"]["Code"] == "EntityAlreadyExists"  # noqa: PT017

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_child_forked_in_a_hook_serves_what_the_parent_had(server, aws):
    name = unique("fork")

    def fork(call: Call) -> None:
        hooks.after = lambda call: None
        if os.fork():
            _, status = os.wait()
            assert os.waitstatus_to_exitcode(status) == 0
            return
        code = 1
        try:
            with Server(speed=math.inf) as mine:
                ecs = aws("ecs", endpoint=mine.endpoint)
                found = ecs.describe_clusters(clusters=[name])["clusters"]
                ecs.create_cluster(clusterName=f"{name}-child")
                code = 0 if found[0]["status"] == "ACTIVE" else 2
        finally:
            os._exit(code)

    hooks.after = fork
    aws("ecs").create_cluster(clusterName=name)
    names = aws("ecs").list_clusters()["clusterArns"]
    assert any(arn.endswith(name) for arn in names)
    assert not any(arn.endswith(f"{name}-child") for arn in names)


# ------------------------------------------------------------------------------------------------ EC2


def test_dry_run_of_create_vpc_makes_none(aws):
    ec2 = aws("ec2")
    before = len(ec2.describe_vpcs()["Vpcs"])
    refused("DryRunOperation", ec2.create_vpc, CidrBlock="10.0.0.0/16", DryRun=True)
    refused("DryRunOperation", ec2.create_nat_gateway, SubnetId="subnet-1", DryRun=True)
    assert len(ec2.describe_vpcs()["Vpcs"]) == before


def nat_state(ec2: Any, identifier: str) -> str:
    return ec2.describe_nat_gateways(NatGatewayIds=[identifier])["NatGateways"][0]["State"]


def test_a_nat_gateway_takes_its_time_and_holds_its_address(aws, net):
    ec2 = aws("ec2")
    wanted = {"SubnetId": net.subnets[0], "AllocationId": net.address, "ClientToken": unique()}
    tags = [{"ResourceType": "natgateway", "Tags": [{"Key": "Name", "Value": "mine"}]}]
    made = ec2.create_nat_gateway(**wanted, TagSpecifications=tags)
    nat = made["NatGateway"]["NatGatewayId"]
    assert (made["NatGateway"]["State"], made["ClientToken"]) == ("pending", wanted["ClientToken"])
    assert ec2.create_nat_gateway(**wanted)["NatGateway"]["NatGatewayId"] == nat
    time.passes(91)
    shown = ec2.describe_nat_gateways(
        Filters=[{"Name": "tag:Name", "Values": ["mine"]}, {"Name": "vpc-id", "Values": [net.vpc]}]
    )
    (gateway,) = shown["NatGateways"]
    assert (gateway["State"], gateway["ConnectivityType"], gateway["Tags"]) == (
        "available",
        "public",
        [{"Key": "Name", "Value": "mine"}],
    )
    assert gateway["NatGatewayAddresses"][0]["PrivateIp"].startswith("10.0.")
    assert ec2.describe_nat_gateways(Filters=[{"Name": "tag:Name", "Values": ["other"]}])["NatGateways"] == []
    refused("InvalidParameterValue", ec2.describe_nat_gateways, Filters=[{"Name": "color", "Values": ["red"]}])
    (interface,) = ec2.describe_network_interfaces(Filters=[{"Name": "subnet-id", "Values": [net.subnets[0]]}])[
        "NetworkInterfaces"
    ]
    assert interface["InterfaceType"] == "nat_gateway"

    table = ec2.create_route_table(VpcId=net.vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    refused(
        "InvalidNatGatewayID.NotFound",
        ec2.create_route,
        RouteTableId=table,
        DestinationCidrBlock="1.0.0.0/8",
        NatGatewayId="nat-0123456789abcdef0",
    )
    refused("InvalidIPAddress.InUse", ec2.release_address, AllocationId=net.address)
    refused("DependencyViolation", ec2.delete_subnet, SubnetId=net.subnets[0])
    refused("DependencyViolation", ec2.detach_internet_gateway, InternetGatewayId=net.gateway, VpcId=net.vpc)

    ec2.delete_nat_gateway(NatGatewayId=nat)
    assert nat_state(ec2, nat) == "deleting"
    refused("InvalidIPAddress.InUse", ec2.release_address, AllocationId=net.address)
    routes = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"][0]["Routes"]
    assert {"0.0.0.0/0": "blackhole"}.items() <= {r["DestinationCidrBlock"]: r["State"] for r in routes}.items()
    time.passes(61)
    assert nat_state(ec2, nat) == "deleted"
    ec2.delete_nat_gateway(NatGatewayId=nat)
    ec2.release_address(AllocationId=net.address)
    ec2.delete_subnet(SubnetId=net.subnets[0])
    refused("NatGatewayNotFound", ec2.delete_nat_gateway, NatGatewayId="nat-0123456789abcdef0")
    refused("NatGatewayNotFound", ec2.describe_nat_gateways, NatGatewayIds=["nat-0123456789abcdef0"])


def test_a_nat_gateway_without_internet_gateway_fails_later(aws, net):
    ec2 = aws("ec2")
    ec2.detach_internet_gateway(InternetGatewayId=net.gateway, VpcId=net.vpc)
    nat = ec2.create_nat_gateway(SubnetId=net.subnets[0], AllocationId=net.address)["NatGateway"]["NatGatewayId"]
    time.passes(91)
    (gateway,) = ec2.describe_nat_gateways(NatGatewayIds=[nat])["NatGateways"]
    assert (gateway["State"], gateway["FailureCode"]) == ("failed", "Gateway.NotAttached")


def test_an_interface_endpoint_is_pending_then_available_and_keeps_its_group(aws, net):
    ec2 = aws("ec2")
    wanted = {
        "VpcId": net.vpc, "ServiceName": f"com.amazonaws.{REGION}.logs", "VpcEndpointType": "Interface",
        "SubnetIds": net.subnets, "SecurityGroupIds": [net.group], "ClientToken": unique(),
    }  # fmt: skip
    tags = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "Name", "Value": "logs"}]}]
    endpoint = ec2.create_vpc_endpoint(**wanted, TagSpecifications=tags)["VpcEndpoint"]
    identifier = endpoint["VpcEndpointId"]
    assert (endpoint["State"], endpoint["PrivateDnsEnabled"], len(endpoint["NetworkInterfaceIds"])) == (
        "pending",
        True,
        2,
    )
    assert json.loads(endpoint["PolicyDocument"])["Statement"][0]["Action"] == "*"
    assert ec2.create_vpc_endpoint(**wanted)["VpcEndpoint"]["VpcEndpointId"] == identifier
    message = refused("InvalidParameter", ec2.create_vpc_endpoint, **{**wanted, "ClientToken": unique()})
    assert "conflicting DNS domain" in message
    refused(
        "InvalidServiceName",
        ec2.create_vpc_endpoint,
        **{**wanted, "ClientToken": unique(), "ServiceName": "com.amazonaws.x.y"},
    )
    time.passes(61)
    found = ec2.describe_vpc_endpoints(
        Filters=[{"Name": "tag:Name", "Values": ["logs"]}, {"Name": "vpc-id", "Values": [net.vpc]}]
    )
    assert [one["State"] for one in found["VpcEndpoints"]] == ["available"]
    refused("DependencyViolation", ec2.delete_security_group, GroupId=net.group)
    refused("DependencyViolation", ec2.delete_subnet, SubnetId=net.subnets[1])
    ec2.modify_vpc_endpoint(VpcEndpointId=identifier, RemoveSubnetIds=[net.subnets[1]])
    ec2.delete_subnet(SubnetId=net.subnets[1])
    answer = ec2.delete_vpc_endpoints(VpcEndpointIds=[identifier, "vpce-0123456789abcdef0"])
    assert answer["Unsuccessful"][0]["Error"]["Code"] == "InvalidVpcEndpointId.NotFound"
    assert ec2.describe_vpc_endpoints(VpcEndpointIds=[identifier])["VpcEndpoints"][0]["State"] == "deleting"
    time.passes(61)
    refused("InvalidVpcEndpointId.NotFound", ec2.describe_vpc_endpoints, VpcEndpointIds=[identifier])
    ec2.delete_security_group(GroupId=net.group)


def test_private_dns_needs_dns_hostnames(aws, net):
    ec2 = aws("ec2")
    ec2.modify_vpc_attribute(VpcId=net.vpc, EnableDnsHostnames={"Value": False})
    message = refused(
        "InvalidParameter", ec2.create_vpc_endpoint,
        VpcId=net.vpc, ServiceName=f"com.amazonaws.{REGION}.ssm", VpcEndpointType="Interface", SubnetIds=net.subnets,
    )  # fmt: skip
    assert "enableDnsHostnames" in message


def test_a_gateway_endpoint_brings_and_takes_its_routes(aws, net):
    ec2 = aws("ec2")
    table = ec2.create_route_table(VpcId=net.vpc)["RouteTable"]["RouteTableId"]
    wanted = {"VpcId": net.vpc, "ServiceName": f"com.amazonaws.{REGION}.s3", "RouteTableIds": [table]}
    endpoint = ec2.create_vpc_endpoint(**wanted)["VpcEndpoint"]
    assert endpoint["State"] == "available"

    def prefixes() -> list[str]:
        routes = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"][0]["Routes"]
        return [route["GatewayId"] for route in routes if "DestinationPrefixListId" in route]

    assert prefixes() == [endpoint["VpcEndpointId"]]
    refused("RouteAlreadyExists", ec2.create_vpc_endpoint, **wanted)
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    assert prefixes() == []
    assert ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [net.vpc]}])["VpcEndpoints"] == []


def permission(port: int, to: int | None = None, protocol: str = "tcp", **peer: Any) -> dict[str, Any]:
    return {"IpProtocol": protocol, "FromPort": port, "ToPort": to or port, **peer}


def test_security_groups_refuse_what_aws_refuses(aws, net):
    ec2, name = aws("ec2"), unique()
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": "Name", "Value": "x"}]}]
    made = ec2.create_security_group(GroupName=name, Description="d", VpcId=net.vpc, TagSpecifications=tags)
    assert made["Tags"] == [{"Key": "Name", "Value": "x"}]
    refused("InvalidGroup.Duplicate", ec2.create_security_group, GroupName=name, Description="d", VpcId=net.vpc)
    refused(
        "InvalidVpcID.NotFound",
        ec2.create_security_group,
        GroupName=unique(),
        Description="d",
        VpcId="vpc-0123456789abcdef0",
    )
    for wrong in ("sg-name", "default", "x" * 256):
        refused("InvalidParameterValue", ec2.create_security_group, GroupName=wrong, Description="d", VpcId=net.vpc)
    refused("InvalidParameterValue", ec2.create_security_group, GroupName=unique(), Description="dé", VpcId=net.vpc)
    found = ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [net.vpc]}, {"Name": "group-name", "Values": ["default"]}]
    )
    refused("CannotDelete", ec2.delete_security_group, GroupId=found["SecurityGroups"][0]["GroupId"])
    ec2.authorize_security_group_ingress(
        GroupId=net.group, IpPermissions=[permission(80, UserIdGroupPairs=[{"GroupId": made["GroupId"]}])]
    )
    refused("DependencyViolation", ec2.delete_security_group, GroupId=made["GroupId"])
    ec2.delete_security_group(GroupId=net.group)
    ec2.delete_security_group(GroupId=made["GroupId"])
    refused("InvalidGroup.NotFound", ec2.delete_security_group, GroupId=made["GroupId"])


def test_security_group_rules_keep_everything_and_are_found_by_id(aws, net):
    ec2 = aws("ec2")
    peer = {"GroupId": net.group, "Description": "from itself"}
    answer = ec2.authorize_security_group_ingress(
        GroupId=net.group,
        IpPermissions=[
            permission(7233, UserIdGroupPairs=[peer]),
            permission(443, IpRanges=[{"CidrIp": "10.0.0.1/8", "Description": "web"}]),
        ],
        TagSpecifications=[{"ResourceType": "security-group-rule", "Tags": [{"Key": "k", "Value": "v"}]}],
    )
    from_group, from_block = answer["SecurityGroupRules"]
    assert from_group["Description"] == "from itself"
    assert from_group["ReferencedGroupInfo"]["GroupId"] == net.group
    assert from_group["Tags"] == [{"Key": "k", "Value": "v"}]
    assert from_block["CidrIpv4"] == "10.0.0.0/8"
    for description in ("from itself", "another", None):
        again = {"GroupId": net.group, **({"Description": description} if description else {})}
        refused(
            "InvalidPermission.Duplicate",
            ec2.authorize_security_group_ingress,
            GroupId=net.group,
            IpPermissions=[permission(7233, UserIdGroupPairs=[again])],
        )
    for wrong in (permission(70000), permission(90, 80), permission(80, protocol="tpc")):
        wrong["IpRanges"] = [{"CidrIp": "10.0.0.0/8"}]
        refused("InvalidParameterValue", ec2.authorize_security_group_ingress, GroupId=net.group, IpPermissions=[wrong])
    refused(
        "InvalidParameterValue",
        ec2.authorize_security_group_ingress,
        GroupId=net.group,
        IpPermissions=[permission(1, IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "é"}])],
    )

    rule = from_block["SecurityGroupRuleId"]
    change = {"IpProtocol": "tcp", "FromPort": 8443, "ToPort": 8444, "CidrIpv4": "10.0.0.0/16", "Description": "new"}
    ec2.modify_security_group_rules(
        GroupId=net.group, SecurityGroupRules=[{"SecurityGroupRuleId": rule, "SecurityGroupRule": change}]
    )
    (shown,) = ec2.describe_security_group_rules(SecurityGroupRuleIds=[rule])["SecurityGroupRules"]
    assert shown.items() >= (change | {"Tags": [{"Key": "k", "Value": "v"}], "IsEgress": False}).items()
    descriptions = [{"SecurityGroupRuleId": rule, "Description": "newer"}]
    ec2.update_security_group_rule_descriptions_ingress(GroupId=net.group, SecurityGroupRuleDescriptions=descriptions)
    (group,) = ec2.describe_security_groups(GroupIds=[net.group])["SecurityGroups"]
    ranges = [p["IpRanges"] for p in group["IpPermissions"] if p.get("FromPort") == 8443]
    assert ranges == [[{"CidrIp": "10.0.0.0/16", "Description": "newer"}]]

    ec2.create_tags(Resources=[rule], Tags=[{"Key": "t", "Value": "w"}])
    by_tag = ec2.describe_security_group_rules(Filters=[{"Name": "tag:t", "Values": ["w"]}])["SecurityGroupRules"]
    assert [one["SecurityGroupRuleId"] for one in by_tag] == [rule]
    ec2.revoke_security_group_ingress(GroupId=net.group, SecurityGroupRuleIds=[rule])
    refused(
        "InvalidSecurityGroupRuleId.NotFound",
        ec2.revoke_security_group_ingress,
        GroupId=net.group,
        SecurityGroupRuleIds=[rule],
    )
    ec2.revoke_security_group_ingress(
        GroupId=net.group, IpPermissions=[permission(7233, UserIdGroupPairs=[{"GroupId": net.group}])]
    )
    refused(
        "InvalidPermission.NotFound",
        ec2.revoke_security_group_ingress,
        GroupId=net.group,
        IpPermissions=[permission(7233, UserIdGroupPairs=[{"GroupId": net.group}])],
    )
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.revoke_security_group_egress(GroupId=net.group, IpPermissions=everything)
    left = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [net.group]}])
    assert left["SecurityGroupRules"] == []


def test_routes_and_subnets_refuse_what_aws_refuses(aws, net):
    ec2 = aws("ec2")
    first, second = (ec2.create_route_table(VpcId=net.vpc)["RouteTable"]["RouteTableId"] for _ in range(2))
    made = ec2.associate_route_table(RouteTableId=first, SubnetId=net.subnets[0])["AssociationId"]
    assert ec2.associate_route_table(RouteTableId=first, SubnetId=net.subnets[0])["AssociationId"] == made
    refused("Resource.AlreadyAssociated", ec2.associate_route_table, RouteTableId=second, SubnetId=net.subnets[0])
    refused(
        "InvalidGatewayID.NotFound",
        ec2.create_route,
        RouteTableId=first,
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId="igw-0123456789abcdef0",
    )
    (main,) = ec2.describe_route_tables(
        Filters=[{"Name": "vpc-id", "Values": [net.vpc]}, {"Name": "association.main", "Values": ["true"]}]
    )["RouteTables"]
    refused("DependencyViolation", ec2.delete_route_table, RouteTableId=main["RouteTableId"])
    refused("InvalidSubnet.Range", ec2.create_subnet, VpcId=net.vpc, CidrBlock="10.0.200.0/29")
    other = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    refused("InvalidParameterValue", ec2.attach_internet_gateway, InternetGatewayId=other, VpcId=net.vpc)


def test_a_vpc_is_deleted_last_and_leaves_no_tag(aws, net):
    ec2 = aws("ec2")
    everything = [net.vpc, *net.subnets, net.gateway, net.address, net.group]
    mark = unique()
    ec2.create_tags(Resources=everything, Tags=[{"Key": "mark", "Value": mark}])
    deletions = [
        *(lambda s=s: ec2.delete_subnet(SubnetId=s) for s in net.subnets),
        lambda: ec2.detach_internet_gateway(InternetGatewayId=net.gateway, VpcId=net.vpc),
        lambda: ec2.delete_security_group(GroupId=net.group),
    ]
    for delete in deletions:
        refused("DependencyViolation", ec2.delete_vpc, VpcId=net.vpc)
        delete()
    ec2.delete_vpc(VpcId=net.vpc)
    ec2.delete_internet_gateway(InternetGatewayId=net.gateway)
    ec2.release_address(AllocationId=net.address)
    refused("InvalidVpcID.NotFound", ec2.describe_vpcs, VpcIds=[net.vpc])
    assert ec2.describe_tags(Filters=[{"Name": "value", "Values": [mark]}])["Tags"] == []


def test_launch_template_versions(aws):
    ec2, name = aws("ec2"), unique("lt")
    text = base64.b64encode(b"#!/bin/sh\n").decode()
    data = {
        "ImageId": "ami-1",
        "InstanceType": "m8g.xlarge",
        "UserData": text,
        "MetadataOptions": {"HttpTokens": "required"},
    }
    tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "Name", "Value": name}]}]
    template = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data, TagSpecifications=tags)[
        "LaunchTemplate"
    ]
    assert (template["LatestVersionNumber"], template["Tags"]) == (1, tags[0]["Tags"])
    refused(
        "InvalidLaunchTemplateName.AlreadyExistsException",
        ec2.create_launch_template,
        LaunchTemplateName=name,
        LaunchTemplateData=data,
    )
    refused(
        "InvalidUserData.Malformed",
        ec2.create_launch_template,
        LaunchTemplateName=unique(),
        LaunchTemplateData={"UserData": "%%"},
    )
    second = ec2.create_launch_template_version(
        LaunchTemplateName=name, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-2"}
    )
    assert second["LaunchTemplateVersion"]["LaunchTemplateData"] == {**data, "ImageId": "ami-2"}
    ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-3"})
    latest = ec2.describe_launch_template_versions(Versions=["$Latest"])["LaunchTemplateVersions"]
    assert [one["VersionNumber"] for one in latest if one["LaunchTemplateName"] == name] == [3]
    default = ec2.describe_launch_template_versions(Versions=["$Default"])["LaunchTemplateVersions"]
    assert [one["VersionNumber"] for one in default if one["LaunchTemplateName"] == name] == [1]
    identifier = template["LaunchTemplateId"]
    ec2.modify_launch_template(LaunchTemplateId=identifier, DefaultVersion="2")
    answer = ec2.delete_launch_template_versions(LaunchTemplateId=identifier, Versions=["1", "2"])
    assert [one["VersionNumber"] for one in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [1]
    assert len(answer["UnsuccessfullyDeletedLaunchTemplateVersions"]) == 1
    kept = ec2.describe_launch_template_versions(LaunchTemplateId=identifier)["LaunchTemplateVersions"]
    assert [one["VersionNumber"] for one in kept] == [3, 2]
    ec2.delete_launch_template(LaunchTemplateId=identifier)
    refused("InvalidLaunchTemplateId.NotFound", ec2.describe_launch_templates, LaunchTemplateIds=[identifier])
    refused("InvalidLaunchTemplateName.NotFoundException", ec2.describe_launch_templates, LaunchTemplateNames=[name])


# ------------------------------------------------------------------------------------------------ IAM


def test_service_linked_roles(aws):
    iam = aws("iam")
    role = iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")["Role"]
    assert role["RoleName"] == "AWSServiceRoleForEC2Spot"
    assert iam.get_role(RoleName=role["RoleName"])["Role"]["Path"] == "/aws-service-role/spot.amazonaws.com/"
    message = refused("InvalidInput", iam.create_service_linked_role, AWSServiceName="spot.amazonaws.com")
    assert "has been taken in this account" in message
    refused("InvalidInput", iam.create_service_linked_role, AWSServiceName="nonsense.amazonaws.com")
    refused("UnmodifiableEntity", iam.delete_role, RoleName=role["RoleName"])
    iam.delete_service_linked_role(RoleName=role["RoleName"])
    refused("NoSuchEntity", iam.get_role, RoleName=role["RoleName"])


def test_the_role_listing_shows_roles_whole_and_in_pages(aws):
    iam, names = aws("iam"), [unique("role") for _ in range(3)]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
    for name in names:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST, Tags=[{"Key": "k", "Value": "v"}])
        iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(policy))
        iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    refused("NoSuchEntity", iam.attach_role_policy, RoleName=names[0], PolicyArn="arn:aws:iam::aws:policy/Nonsense")
    refused(
        "MalformedPolicyDocument",
        iam.create_role,
        RoleName=unique(),
        AssumeRolePolicyDocument=TRUST.replace("ec2.amazonaws.com", "nobody"),
    )
    pages = list(
        iam.get_paginator("get_account_authorization_details").paginate(
            Filter=["Role"], PaginationConfig={"PageSize": 2}
        )
    )
    assert len(pages) > 1
    roles = {role["RoleName"]: role for one in pages for role in one["RoleDetailList"]}
    role = roles[names[0]]
    assert role["AssumeRolePolicyDocument"] == json.loads(TRUST)
    assert role["RolePolicyList"] == [{"PolicyName": "inline", "PolicyDocument": policy}]
    assert role["AttachedManagedPolicies"][0]["PolicyName"] == "AmazonSSMManagedInstanceCore"
    assert role["Tags"] == [{"Key": "k", "Value": "v"}]
    assert role["InstanceProfileList"][0]["InstanceProfileName"] == names[0]
    refused("DeleteConflict", iam.delete_role, RoleName=names[0])


# ------------------------------------------------------------------------------------- Auto Scaling


@pytest.fixture
def group(aws, net) -> Any:
    """A launch template with everything, and the parameters of a group on it."""
    iam, ec2, name = aws("iam"), aws("ec2"), unique("group")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    time.passes(11)
    data = {
        "ImageId": "ami-12c6146b",
        "InstanceType": "m8g.xlarge",
        "IamInstanceProfile": {"Name": name},
        "UserData": base64.b64encode(b"#!/bin/sh").decode(),
        "Monitoring": {"Enabled": True},
        "MetadataOptions": {"HttpTokens": "required"},
        "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [net.group], "AssociatePublicIpAddress": False}],
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 50, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}],
    }
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return {
        "AutoScalingGroupName": name, "MinSize": 0, "MaxSize": 6, "DesiredCapacity": 0,
        "LaunchTemplate": {"LaunchTemplateName": name, "Version": "1"}, "VPCZoneIdentifier": ",".join(net.subnets),
        "Tags": [{"Key": "AmazonECSManaged", "Value": "true", "PropagateAtLaunch": True}],
    }  # fmt: skip


def described(aws: Any, name: str) -> Any:
    return aws("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]


def test_a_group_echoes_defaults_and_refuses_what_isnt_there(aws, group):
    scaling, name = aws("autoscaling"), group["AutoScalingGroupName"]
    scaling.create_auto_scaling_group(**group)
    shown = described(aws, name)
    assert (shown["DefaultCooldown"], shown["HealthCheckType"], shown["TerminationPolicies"]) == (
        300,
        "EC2",
        ["Default"],
    )
    assert shown["LaunchTemplate"]["LaunchTemplateId"].startswith("lt-")
    assert shown["AvailabilityZones"] == [f"{REGION}a", f"{REGION}b"]
    assert shown["Tags"][0]["ResourceId"] == name
    refused("AlreadyExists", scaling.create_auto_scaling_group, **group)
    fresh = {**group, "AutoScalingGroupName": unique()}
    refused("ValidationError", scaling.create_auto_scaling_group, **{**fresh, "DesiredCapacity": 7})
    refused(
        "ValidationError",
        scaling.create_auto_scaling_group,
        **{**fresh, "VPCZoneIdentifier": "subnet-0123456789abcdef0"},
    )
    refused(
        "ValidationError",
        scaling.create_auto_scaling_group,
        **{**fresh, "LaunchTemplate": {"LaunchTemplateName": "none", "Version": "1"}},
    )
    refused("ValidationError", scaling.create_auto_scaling_group, **{**fresh, "HealthCheckType": "NOPE"})
    refused("ValidationError", scaling.set_desired_capacity, AutoScalingGroupName=name, DesiredCapacity=7)
    scaling.delete_auto_scaling_group(AutoScalingGroupName=name)
    refused("ValidationError", scaling.delete_auto_scaling_group, AutoScalingGroupName=name)


def test_a_fresh_instance_profile_is_refused_for_some_seconds(aws, group):
    iam, ec2, name = aws("iam"), aws("ec2"), unique("profile")
    iam.create_instance_profile(InstanceProfileName=name)
    ec2.create_launch_template_version(
        LaunchTemplateName=group["AutoScalingGroupName"], SourceVersion="1",
        LaunchTemplateData={"IamInstanceProfile": {"Name": name}},
    )  # fmt: skip
    group["LaunchTemplate"]["Version"] = "$Latest"
    assert "Invalid IAM Instance Profile" in refused(
        "ValidationError", aws("autoscaling").create_auto_scaling_group, **group
    )
    time.passes(11)
    aws("autoscaling").create_auto_scaling_group(**group)


def test_instances_spread_over_zones_carry_the_template_and_leave(aws, net, group):
    scaling, ec2, name = aws("autoscaling"), aws("ec2"), group["AutoScalingGroupName"]
    scaling.create_auto_scaling_group(**{**group, "DesiredCapacity": 4, "NewInstancesProtectedFromScaleIn": True})
    assert {one["LifecycleState"] for one in described(aws, name)["Instances"]} == {"Pending"}
    time.passes(61)
    instances = described(aws, name)["Instances"]
    assert {one["LifecycleState"] for one in instances} == {"InService"}
    assert sorted(one["AvailabilityZone"] for one in instances) == [f"{REGION}{zone}" for zone in "aabb"]
    (reservation, *_) = ec2.describe_instances(InstanceIds=[instances[0]["InstanceId"]])["Reservations"]
    (instance,) = reservation["Instances"]
    assert instance["State"]["Name"] == "running"
    assert instance["IamInstanceProfile"]["Arn"].endswith(name)
    assert [one["GroupId"] for one in instance["SecurityGroups"]] == [net.group]
    assert (instance["Monitoring"]["State"], instance["MetadataOptions"]["HttpTokens"]) == ("enabled", "required")
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags.items() >= {"AmazonECSManaged": "true", "Name": name, "aws:autoscaling:groupName": name}.items()

    refused("ResourceInUse", scaling.delete_auto_scaling_group, AutoScalingGroupName=name)
    scaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=0)
    assert {one["LifecycleState"] for one in described(aws, name)["Instances"]} == {"InService"}  # protected
    first = instances[0]["InstanceId"]
    scaling.set_instance_protection(AutoScalingGroupName=name, InstanceIds=[first], ProtectedFromScaleIn=False)
    states = {one["InstanceId"]: one["LifecycleState"] for one in described(aws, name)["Instances"]}
    assert states.pop(first) == "Terminating"
    assert set(states.values()) == {"InService"}
    refused("DependencyViolation", ec2.delete_security_group, GroupId=net.group)
    scaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    assert described(aws, name)["Status"] == "Delete in progress"
    time.passes(61)
    assert scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"] == []
    found = ec2.describe_instances(Filters=[{"Name": "vpc-id", "Values": [net.vpc]}])["Reservations"]
    assert {one["State"]["Name"] for r in found for one in r["Instances"]} <= {"terminated"}
    ec2.delete_security_group(GroupId=net.group)
    for subnet in net.subnets:
        ec2.delete_subnet(SubnetId=subnet)


def test_a_later_template_version_with_user_data_launches(aws, group):
    ec2, name = aws("ec2"), group["AutoScalingGroupName"]
    text = base64.b64encode(b"second").decode()
    ec2.create_launch_template_version(
        LaunchTemplateName=name, SourceVersion="1", LaunchTemplateData={"UserData": text}
    )
    scaling = aws("autoscaling")
    scaling.create_auto_scaling_group(
        **{**group, "DesiredCapacity": 1, "LaunchTemplate": {"LaunchTemplateName": name, "Version": "$Latest"}}
    )
    (one,) = described(aws, name)["Instances"]
    assert one["LaunchTemplate"]["Version"] == "2"
    user_data = ec2.describe_instance_attribute(InstanceId=one["InstanceId"], Attribute="userData")["UserData"]["Value"]
    assert user_data == text


def test_group_tags(aws, group):
    scaling, name = aws("autoscaling"), group["AutoScalingGroupName"]
    scaling.create_auto_scaling_group(**group)
    tag = {
        "ResourceId": name,
        "ResourceType": "auto-scaling-group",
        "Key": "mine",
        "Value": name,
        "PropagateAtLaunch": False,
    }
    scaling.create_or_update_tags(Tags=[tag])
    found = scaling.describe_auto_scaling_groups(Filters=[{"Name": "tag:mine", "Values": [name]}])["AutoScalingGroups"]
    assert [one["AutoScalingGroupName"] for one in found] == [name]
    scaling.delete_tags(Tags=[tag])
    assert "mine" not in {one["Key"] for one in described(aws, name)["Tags"]}


# ------------------------------------------------------------------------------------------------ ECS


def test_clusters_are_idempotent_by_name_and_remembered_when_deleted(aws):
    ecs, name = aws("ecs"), unique("cluster")
    configuration = {
        "executeCommandConfiguration": {"logging": "OVERRIDE", "logConfiguration": {"cloudWatchLogGroupName": "g"}}
    }
    wanted = {
        "clusterName": name, "settings": [{"name": "containerInsights", "value": "enabled"}],
        "configuration": configuration, "tags": [{"key": "k", "value": "v"}],
    }  # fmt: skip
    made = ecs.create_cluster(**wanted)["cluster"]
    assert ecs.create_cluster(clusterName=name)["cluster"] == made
    bare = ecs.describe_clusters(clusters=[name])["clusters"][0]
    assert (bare["settings"], bare["tags"]) == ([], [])
    assert "configuration" not in bare
    full = ecs.describe_clusters(clusters=[name], include=["SETTINGS", "CONFIGURATIONS", "ATTACHMENTS", "TAGS"])[
        "clusters"
    ][0]
    assert (full["settings"], full["configuration"], full["tags"]) == (
        wanted["settings"],
        configuration,
        wanted["tags"],
    )
    updated = ecs.update_cluster_settings(cluster=name, settings=[{"name": "containerInsights", "value": "disabled"}])
    assert updated["cluster"]["settings"][0]["value"] == "disabled"
    assert ecs.describe_clusters(clusters=["none"])["failures"][0]["reason"] == "MISSING"
    ecs.delete_cluster(cluster=name)
    assert ecs.describe_clusters(clusters=[name])["clusters"][0]["status"] == "INACTIVE"
    assert not any(arn.endswith(name) for arn in ecs.list_clusters()["clusterArns"])
    refused("ClusterNotFoundException", ecs.delete_cluster, cluster=name)
    assert ecs.create_cluster(clusterName=name)["cluster"]["tags"] == []


@pytest.fixture
def provider(aws, group) -> dict[str, Any]:
    """The parameters of a capacity provider on a group that exists."""
    aws("autoscaling").create_auto_scaling_group(**group)
    arn = described(aws, group["AutoScalingGroupName"])["AutoScalingGroupARN"]
    scaling = {"status": "ENABLED", "maximumScalingStepSize": 2}
    return {"name": unique("cp"), "autoScalingGroupProvider": {"autoScalingGroupArn": arn, "managedScaling": scaling}}


def test_capacity_providers(aws, provider):
    ecs, name = aws("ecs"), provider["name"]
    made = ecs.create_capacity_provider(**provider, tags=[{"key": "k", "value": "v"}])["capacityProvider"]
    assert made["autoScalingGroupProvider"]["managedScaling"] == {
        "status": "ENABLED", "targetCapacity": 100, "minimumScalingStepSize": 1, "maximumScalingStepSize": 2,
        "instanceWarmupPeriod": 300,
    }  # fmt: skip
    assert made["autoScalingGroupProvider"]["managedDraining"] == "ENABLED"
    shown = ecs.describe_capacity_providers(capacityProviders=[name], include=["TAGS"])["capacityProviders"][0]
    assert shown["tags"] == [{"key": "k", "value": "v"}]
    assert {"FARGATE", "FARGATE_SPOT", name} <= {
        one["name"] for one in ecs.describe_capacity_providers()["capacityProviders"]
    }
    assert "already exists" in refused("ClientException", ecs.create_capacity_provider, **provider)
    assert "already being used" in refused(
        "ClientException", ecs.create_capacity_provider, **{**provider, "name": unique()}
    )
    refused("ClientException", ecs.create_capacity_provider, **{**provider, "name": "aws-mine"})
    nowhere = {
        "autoScalingGroupArn": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:x:autoScalingGroupName/none"
    }
    refused("ClientException", ecs.create_capacity_provider, name=unique(), autoScalingGroupProvider=nowhere)
    protect = {"managedTerminationProtection": "ENABLED"}
    refused("InvalidParameterException", ecs.update_capacity_provider, name=name, autoScalingGroupProvider=protect)

    cluster = unique("cluster")
    ecs.create_cluster(clusterName=cluster)
    strategy = [{"capacityProvider": name, "base": 1, "weight": 100}]
    refused(
        "InvalidParameterException",
        ecs.put_cluster_capacity_providers,
        cluster=cluster,
        capacityProviders=["none"],
        defaultCapacityProviderStrategy=[],
    )
    ecs.put_cluster_capacity_providers(
        cluster=cluster, capacityProviders=[name], defaultCapacityProviderStrategy=strategy
    )
    refused(
        "UpdateInProgressException",
        ecs.put_cluster_capacity_providers,
        cluster=cluster,
        capacityProviders=[],
        defaultCapacityProviderStrategy=[],
    )
    time.passes(21)
    full = ecs.describe_clusters(clusters=[cluster], include=["ATTACHMENTS"])["clusters"][0]
    assert (full["attachmentsStatus"], full["attachments"][0]["status"]) == ("UPDATE_COMPLETE", "CREATED")
    assert full["defaultCapacityProviderStrategy"] == strategy
    failed = ecs.delete_capacity_provider(capacityProvider=name)["capacityProvider"]
    assert (failed["status"], failed["updateStatus"]) == ("ACTIVE", "DELETE_FAILED")
    refused("ClusterContainsCapacityProviderException", ecs.delete_cluster, cluster=cluster)
    ecs.put_cluster_capacity_providers(cluster=cluster, capacityProviders=[], defaultCapacityProviderStrategy=[])
    time.passes(21)
    assert (
        ecs.delete_capacity_provider(capacityProvider=name)["capacityProvider"]["updateStatus"] == "DELETE_IN_PROGRESS"
    )
    time.passes(11)
    assert ecs.describe_capacity_providers(capacityProviders=[name])["capacityProviders"][0]["status"] == "INACTIVE"
    refused("ClientException", ecs.delete_capacity_provider, capacityProvider=name)
    ecs.create_capacity_provider(**provider)
    ecs.delete_cluster(cluster=cluster)


def definition(family: str, **changes: Any) -> dict[str, Any]:
    """A task definition as the stack's services have them."""
    container = {
        "name": "main", "image": "repository:tag",
        "portMappings": [{"name": "grpc", "containerPort": 7233, "appProtocol": "grpc"}],
        "environment": [{"name": name, "value": name} for name in "ABC"],
        "healthCheck": {"command": ["CMD", "true"], "interval": 10},
        "stopTimeout": 60, "versionConsistency": "disabled", "linuxParameters": {"initProcessEnabled": True},
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}},
    }  # fmt: skip
    return {
        "family": family, "networkMode": "awsvpc", "requiresCompatibilities": ["EC2"], "cpu": "256", "memory": "512",
        "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
        "enableFaultInjection": False, "containerDefinitions": [container], **changes,
    }  # fmt: skip


def contains(actual: Any, wanted: Any) -> bool:
    """Everything wanted is there, whatever else is, and in whatever order."""
    if isinstance(wanted, dict):
        return all(name in actual and contains(actual[name], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return len(actual) >= len(wanted) and all(any(contains(a, w) for a in actual) for w in wanted)
    return bool(actual == wanted)


def test_task_definitions_keep_every_field_and_never_reuse_a_number(aws):
    ecs, family = aws("ecs"), unique("family")
    wanted = definition(family)
    answer = ecs.register_task_definition(**wanted, tags=[{"key": "k", "value": "v"}])
    assert answer["tags"] == [{"key": "k", "value": "v"}]
    shown = ecs.describe_task_definition(taskDefinition=family, include=["TAGS"])
    assert contains(shown["taskDefinition"], wanted)
    assert shown["tags"] == answer["tags"]
    (container,) = shown["taskDefinition"]["containerDefinitions"]
    assert (container["cpu"], container["essential"], container["mountPoints"]) == (0, True, [])
    assert container["portMappings"][0]["hostPort"] == 7233
    assert container["healthCheck"] == {"command": ["CMD", "true"], "interval": 10, "timeout": 5, "retries": 3}
    assert shown["taskDefinition"]["registeredAt"]
    assert [ecs.register_task_definition(**wanted)["taskDefinition"]["revision"] for _ in range(2)] == [2, 3]
    ecs.deregister_task_definition(taskDefinition=f"{family}:3")
    assert ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]["revision"] == 2
    assert ecs.describe_task_definition(taskDefinition=f"{family}:3")["taskDefinition"]["status"] == "INACTIVE"
    newest = ecs.list_task_definitions(familyPrefix=family, sort="DESC")["taskDefinitionArns"]
    assert [arn.rsplit(":")[-1] for arn in newest] == ["2", "1"]
    assert ecs.list_task_definition_families(familyPrefix=family)["families"] == [family]
    answer = ecs.delete_task_definitions(taskDefinitions=[f"{family}:3", f"{family}:2"])
    assert [one["revision"] for one in answer["taskDefinitions"]] == [3]
    assert "ACTIVE" in answer["failures"][0]["reason"]
    time.passes(6)
    refused("ClientException", ecs.describe_task_definition, taskDefinition=f"{family}:3")
    assert ecs.register_task_definition(**wanted)["taskDefinition"]["revision"] == 4
    refused("ClientException", ecs.deregister_task_definition, taskDefinition=family)
    refused("ClientException", ecs.register_task_definition, **definition(family, taskRoleArn="arn:garbage"))


@pytest.fixture
def home(aws, net, provider) -> Any:
    """A cluster with a namespace, a provider and a task definition."""
    ecs, cloudmap = aws("ecs"), aws("servicediscovery")

    class Home:
        name = unique("home")

    operation = cloudmap.create_http_namespace(Name=Home.name)["OperationId"]
    time.passes(6)
    Home.namespace_id = cloudmap.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    Home.namespace = cloudmap.get_namespace(Id=Home.namespace_id)["Namespace"]["Arn"]
    ecs.create_capacity_provider(**provider)
    ecs.create_cluster(clusterName=Home.name, serviceConnectDefaults={"namespace": Home.namespace})
    Home.strategy = [{"capacityProvider": provider["name"], "base": 1, "weight": 100}]
    ecs.put_cluster_capacity_providers(
        cluster=Home.name, capacityProviders=[provider["name"]], defaultCapacityProviderStrategy=Home.strategy
    )
    time.passes(21)
    Home.definition = ecs.register_task_definition(**definition(Home.name))["taskDefinition"]["taskDefinitionArn"]
    Home.service = {
        "cluster": Home.name, "serviceName": Home.name, "taskDefinition": Home.name, "desiredCount": 0,
        "capacityProviderStrategy": Home.strategy,
        "placementStrategy": [{"type": "spread", "field": "attribute:ecs.availability-zone"}],
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": net.subnets, "securityGroups": [net.group]}},
        "serviceConnectConfiguration": {
            "enabled": True, "namespace": Home.namespace,
            "services": [{
                "portName": "grpc", "discoveryName": Home.name,
                "clientAliases": [{"port": 7233, "dnsName": "frontend"}],
                "timeout": {"perRequestTimeoutSeconds": 0},
            }],
        },
        "enableExecuteCommand": True, "propagateTags": "SERVICE", "availabilityZoneRebalancing": "DISABLED",
        "deploymentConfiguration": {"maximumPercent": 150, "minimumHealthyPercent": 50},
        "tags": [{"key": "k", "value": "v"}],
    }  # fmt: skip
    return Home


def shown_service(aws: Any, home: Any) -> Any:
    return aws("ecs").describe_services(cluster=home.name, services=[home.name], include=["TAGS"])["services"][0]


def test_a_service_echoes_what_was_sent_and_awss_defaults(aws, home):
    ecs = aws("ecs")
    ecs.create_service(**home.service)
    shown = shown_service(aws, home)
    sent = {
        k: v for k, v in home.service.items() if k not in ("cluster", "taskDefinition", "serviceConnectConfiguration")
    }
    assert contains(shown, sent)
    assert shown["taskDefinition"] == home.definition
    assert shown["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"
    configuration = shown["deploymentConfiguration"]
    assert (configuration["strategy"], configuration["bakeTimeInMinutes"]) == ("ROLLING", 0)
    assert configuration["deploymentCircuitBreaker"]["enable"] is False
    assert (shown["schedulingStrategy"], shown["healthCheckGracePeriodSeconds"], shown["loadBalancers"]) == (
        "REPLICA",
        0,
        [],
    )
    assert "launchType" not in shown
    (deployment,) = shown["deployments"]
    assert (deployment["status"], deployment["rolloutState"]) == ("PRIMARY", "COMPLETED")
    assert deployment["serviceConnectConfiguration"] == home.service["serviceConnectConfiguration"]
    assert deployment["serviceConnectResources"][0]["discoveryName"] == home.name
    bare = ecs.describe_services(cluster=home.name, services=[home.name, "none"])
    assert "tags" not in bare["services"][0]
    assert bare["failures"][0]["reason"] == "MISSING"
    plain = {k: home.service[k] for k in ("cluster", "taskDefinition", "networkConfiguration", "desiredCount")}
    defaults = ecs.create_service(serviceName=unique(), **plain)["service"]
    assert defaults["availabilityZoneRebalancing"] == "ENABLED"
    assert defaults["capacityProviderStrategy"] == home.strategy
    assert defaults["deploymentConfiguration"]["maximumPercent"] == 200


def test_create_service_is_idempotent_by_token_only(aws, home):
    ecs = aws("ecs")
    first = ecs.create_service(**home.service, clientToken="token")["service"]
    assert ecs.create_service(**home.service, clientToken="token")["service"]["serviceArn"] == first["serviceArn"]
    assert (
        refused("InvalidParameterException", ecs.create_service, **home.service)
        == "Creation of service was not idempotent."
    )
    refused("ClusterNotFoundException", ecs.create_service, **{**home.service, "cluster": "none"})


def test_create_service_refuses_what_it_cant_find(aws, home):
    ecs, wanted = aws("ecs"), home.service
    connect = wanted["serviceConnectConfiguration"]
    wrong = [
        ("ClientException", {"taskDefinition": "none"}),
        ("InvalidParameterException", {"capacityProviderStrategy": [{"capacityProvider": "none", "weight": 1}]}),
        ("InvalidParameterException", {"launchType": "EC2"}),
        ("NamespaceNotFoundException", {"serviceConnectConfiguration": {**connect, "namespace": "none"}}),
        ("InvalidParameterException", {"serviceConnectConfiguration": {**connect, "services": [{"portName": "none"}]}}),
        (
            "InvalidParameterException",
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-0123456789abcdef0"]}}},
        ),
        (
            "InvalidParameterException",
            {"deploymentConfiguration": {"maximumPercent": 100, "minimumHealthyPercent": 100}},
        ),
        ("InvalidParameterException", {"placementStrategy": [{"type": "spred"}]}),
    ]
    for code, change in wrong:
        refused(code, ecs.create_service, **{**wanted, **change})
    without = {k: v for k, v in wanted.items() if k != "networkConfiguration"}
    assert "networkMode 'awsvpc'" in refused("InvalidParameterException", ecs.create_service, **without)
    assert ecs.list_services(cluster=home.name)["serviceArns"] == []


def test_update_service_deploys_where_tasks_would_differ(aws, home):
    ecs = aws("ecs")
    ecs.create_service(**home.service)
    before = shown_service(aws, home)["deployments"][0]["id"]
    same = {"cluster": home.name, "service": home.name}
    answer = ecs.update_service(**same, enableExecuteCommand=False, taskDefinition=home.name)["service"]
    assert (answer["deployments"][0]["id"], answer["enableExecuteCommand"]) == (before, False)
    revision = ecs.register_task_definition(**definition(home.name, cpu="512"))["taskDefinition"]["taskDefinitionArn"]
    (deployment,) = ecs.update_service(**same, taskDefinition=home.name)["service"]["deployments"]
    assert (deployment["taskDefinition"], deployment["rolloutState"]) == (revision, "COMPLETED")
    assert deployment["id"] != before
    forced = ecs.update_service(**same, forceNewDeployment=True)["service"]["deployments"][0]["id"]
    assert forced != deployment["id"]
    container = definition(home.name)["containerDefinitions"][0]
    container["portMappings"][0].pop("appProtocol")
    ecs.register_task_definition(**definition(home.name, containerDefinitions=[container]))
    assert "appProtocol" in refused("InvalidParameterException", ecs.update_service, **same, taskDefinition=home.name)
    running = ecs.update_service(**same, desiredCount=2)["service"]
    assert (running["desiredCount"], running["runningCount"]) == (2, 0)
    refused("ServiceNotFoundException", ecs.update_service, cluster=home.name, service="none")


def test_a_deleted_service_drains_and_its_namespace_is_busy_for_minutes(aws, home):
    ecs, cloudmap = aws("ecs"), aws("servicediscovery")
    ecs.create_service(**{**home.service, "desiredCount": 1})
    assert [
        one["Name"]
        for one in cloudmap.list_services(Filters=[{"Name": "NAMESPACE_ID", "Values": [home.namespace_id]}])["Services"]
    ] == [home.name]
    refused("InvalidParameterException", ecs.delete_service, cluster=home.name, service=home.name)
    refused("ClusterContainsServicesException", ecs.delete_cluster, cluster=home.name)
    ecs.update_service(cluster=home.name, service=home.name, desiredCount=0)
    assert ecs.delete_service(cluster=home.name, service=home.name)["service"]["status"] == "DRAINING"
    assert shown_service(aws, home)["status"] == "DRAINING"
    assert ecs.list_services(cluster=home.name)["serviceArns"] == []
    assert "still Draining" in refused("InvalidParameterException", ecs.create_service, **home.service)
    refused("ServiceNotActiveException", ecs.delete_service, cluster=home.name, service=home.name)
    refused("ServiceNotActiveException", ecs.update_service, cluster=home.name, service=home.name, desiredCount=1)
    time.passes(31)
    assert shown_service(aws, home)["status"] == "INACTIVE"
    refused("ResourceInUse", cloudmap.delete_namespace, Id=home.namespace_id)
    ecs.create_service(**home.service)  # the name is free, and the leftovers are taken over
    time.passes(120)
    assert (
        len(cloudmap.list_services(Filters=[{"Name": "NAMESPACE_ID", "Values": [home.namespace_id]}])["Services"]) == 1
    )
    ecs.delete_service(cluster=home.name, service=home.name, force=True)
    time.passes(121)
    operation = cloudmap.delete_namespace(Id=home.namespace_id)["OperationId"]
    time.passes(6)
    assert cloudmap.get_operation(OperationId=operation)["Operation"]["Status"] == "SUCCESS"
    refused("NamespaceNotFound", cloudmap.get_namespace, Id=home.namespace_id)


def test_listings_come_in_pages(aws, home):
    ecs = aws("ecs")
    plain = {k: home.service[k] for k in ("cluster", "taskDefinition", "networkConfiguration", "desiredCount")}
    for _ in range(12):
        ecs.create_service(serviceName=unique(), **plain)
    assert len(ecs.list_services(cluster=home.name)["serviceArns"]) == 10
    pages = ecs.get_paginator("list_services").paginate(cluster=home.name)
    assert len([arn for one in pages for arn in one["serviceArns"]]) == 12


def test_ecs_tags_and_account_settings(aws):
    ecs = aws("ecs")
    arn = ecs.create_cluster(clusterName=unique(), tags=[{"key": "a", "value": "1"}])["cluster"]["clusterArn"]
    ecs.tag_resource(resourceArn=arn, tags=[{"key": "a", "value": "2"}, {"key": "b", "value": "3"}])
    ecs.untag_resource(resourceArn=arn, tagKeys=["b"])
    assert ecs.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "a", "value": "2"}]
    ecs.put_account_setting_default(name="awsvpcTrunking", value="enabled")
    settings = {one["name"]: one["value"] for one in ecs.list_account_settings(effectiveSettings=True)["settings"]}
    assert settings["awsvpcTrunking"] == "enabled"
    assert settings["taskLongArnFormat"] == "enabled"
    assert ecs.describe_tasks(cluster=arn, tasks=["x"])["failures"][0]["reason"] == "MISSING"


# ----------------------------------------------------------------------------------------- the others


def test_an_opensearch_domain_is_slow_and_says_so(aws, net):
    search, iam, ec2, name = aws("opensearch"), aws("iam"), aws("ec2"), unique("os")
    wanted = {
        "DomainName": name, "EngineVersion": "OpenSearch_2.11",
        "ClusterConfig": {"InstanceType": "m6g.large.search", "InstanceCount": 3},
        "EBSOptions": {"EBSEnabled": True, "VolumeType": "gp3", "VolumeSize": 100},
        "VPCOptions": {"SubnetIds": net.subnets[:1], "SecurityGroupIds": [net.group]},
        "AdvancedOptions": {"rest.action.multi.allow_explicit_index": "true"},
        "TagList": [{"Key": "k", "Value": "v"}],
    }  # fmt: skip
    assert "service-linked role" in refused("ValidationException", search.create_domain, **wanted)
    iam.create_service_linked_role(AWSServiceName="opensearchservice.amazonaws.com")
    for change in (
        {"EngineVersion": "OpenSearch_9.9"}, {"EBSOptions": {"EBSEnabled": True, "VolumeSize": 1}},
        {"VPCOptions": {"SubnetIds": net.subnets}}, {"VPCOptions": {"SubnetIds": ["subnet-0123456789abcdef0"]}},
    ):  # fmt: skip
        refused("ValidationException", search.create_domain, **{**wanted, **change})
    made = search.create_domain(**wanted)["DomainStatus"]
    assert (made["Processing"], made["DomainProcessingStatus"], made.get("Endpoints")) == (True, "Creating", None)
    refused("ResourceAlreadyExistsException", search.create_domain, **wanted)
    refused("ValidationException", search.update_domain_config, DomainName=name, AdvancedOptions={})
    time.passes(1201)
    ready = search.describe_domain(DomainName=name)["DomainStatus"]
    assert (ready["Processing"], ready["DomainProcessingStatus"]) == (False, "Active")
    assert ready["Endpoints"]["vpc"].startswith(f"vpc-{name}")
    assert "Endpoint" not in ready
    assert contains(ready, {k: v for k, v in wanted.items() if k != "TagList"})
    assert (ready["VPCOptions"]["VPCId"], ready["OffPeakWindowOptions"]["Enabled"]) == (net.vpc, True)
    assert ready["AdvancedOptions"]["override_main_response_version"] == "false"
    assert search.list_tags(ARN=ready["ARN"])["TagList"] == [{"Key": "k", "Value": "v"}]
    refused("DependencyViolation", ec2.delete_security_group, GroupId=net.group)

    config = search.update_domain_config(DomainName=name, ClusterConfig={"InstanceCount": 5})["DomainConfig"]
    assert config["ClusterConfig"]["Options"]["InstanceCount"] == 5
    assert config["ClusterConfig"]["Status"]["State"] == "Processing"
    assert search.describe_domain(DomainName=name)["DomainStatus"]["DomainProcessingStatus"] == "Modifying"
    time.passes(601)
    assert search.describe_domain_change_progress(DomainName=name)["ChangeProgressStatus"]["Status"] == "COMPLETED"
    assert search.delete_domain(DomainName=name)["DomainStatus"]["Deleted"] is True
    assert "still being deleted" in refused("ValidationException", search.create_domain, **wanted)
    time.passes(901)
    refused("ResourceNotFoundException", search.describe_domain, DomainName=name)
    ec2.delete_security_group(GroupId=net.group)


def test_cloud_map_namespaces_are_asynchronous(aws):
    cloudmap, name = aws("servicediscovery"), unique("ns")
    operation = cloudmap.create_http_namespace(Name=name, Tags=[{"Key": "k", "Value": "v"}])["OperationId"]
    assert cloudmap.get_operation(OperationId=operation)["Operation"]["Status"] == "SUBMITTED"
    refused("NamespaceAlreadyExists", cloudmap.create_http_namespace, Name=name)
    time.passes(6)
    identifier = cloudmap.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    (found,) = cloudmap.list_namespaces(
        Filters=[{"Name": "NAME", "Values": [name]}, {"Name": "TYPE", "Values": ["HTTP"]}]
    )["Namespaces"]
    assert found["Id"] == identifier
    assert cloudmap.list_tags_for_resource(ResourceARN=found["Arn"])["Tags"] == [{"Key": "k", "Value": "v"}]
    service = cloudmap.create_service(Name="s", NamespaceId=identifier)["Service"]
    refused("ServiceAlreadyExists", cloudmap.create_service, Name="s", NamespaceId=identifier)
    refused("ResourceInUse", cloudmap.delete_namespace, Id=identifier)
    cloudmap.delete_service(Id=service["Id"])
    cloudmap.delete_namespace(Id=identifier)
    time.passes(6)
    refused("NamespaceNotFound", cloudmap.delete_namespace, Id=identifier)


def test_dsql_in_any_region(aws):
    dsql, token = aws("dsql", region="eu-central-1"), unique()
    made = dsql.create_cluster(clientToken=token, tags={"k": "v"})
    identifier = made["identifier"]
    assert (made["status"], made["deletionProtectionEnabled"]) == ("CREATING", True)
    assert made["endpoint"] == f"{identifier}.dsql.eu-central-1.on.aws"
    assert dsql.create_cluster(clientToken=token, tags={"k": "v"})["identifier"] == identifier
    refused("ConflictException", dsql.create_cluster, clientToken=token, tags={"k": "w"})
    time.passes(46)
    shown = dsql.get_cluster(identifier=identifier)
    assert (shown["status"], shown["tags"]) == ("ACTIVE", {"k": "v"})
    refused("ConflictException", dsql.delete_cluster, identifier=identifier)
    dsql.update_cluster(identifier=identifier, deletionProtectionEnabled=False)
    dsql.tag_resource(resourceArn=shown["arn"], tags={"l": "w"})
    assert dsql.list_tags_for_resource(resourceArn=shown["arn"])["tags"] == {"k": "v", "l": "w"}
    assert dsql.delete_cluster(identifier=identifier)["status"] == "DELETING"
    time.passes(46)
    refused("ResourceNotFoundException", dsql.get_cluster, identifier=identifier)


def test_prometheus_workspaces(aws):
    amp, alias, token = aws("amp"), unique("amp"), unique()
    made = amp.create_workspace(alias=alias, clientToken=token, tags={"k": "v"})
    identifier = made["workspaceId"]
    assert made["status"]["statusCode"] == "CREATING"
    assert amp.create_workspace(alias=alias, clientToken=token)["workspaceId"] == identifier
    other = amp.create_workspace(alias=alias)["workspaceId"]
    assert other != identifier
    time.passes(6)
    found = amp.list_workspaces(alias=alias)["workspaces"]
    assert {one["workspaceId"] for one in found} == {identifier, other}
    shown = amp.describe_workspace(workspaceId=identifier)["workspace"]
    assert (shown["status"]["statusCode"], shown["tags"]) == ("ACTIVE", {"k": "v"})
    assert shown["prometheusEndpoint"].endswith("/")
    amp.delete_workspace(workspaceId=identifier)
    time.passes(6)
    refused("ResourceNotFoundException", amp.delete_workspace, workspaceId=identifier)


def test_a_secret_scheduled_for_deletion_keeps_its_name(aws):
    secrets, name = aws("secretsmanager"), unique("secret")
    arn = secrets.create_secret(Name=name, SecretString="x", Tags=[{"Key": "k", "Value": "v"}])["ARN"]
    refused("ResourceExistsException", secrets.create_secret, Name=name, SecretString="y")
    secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    assert "scheduled for deletion" in refused(
        "InvalidRequestException", secrets.create_secret, Name=name, SecretString="y"
    )
    secrets.restore_secret(SecretId=name)
    assert secrets.describe_secret(SecretId=name)["ARN"] == arn


def test_log_groups(aws):
    logs, name = aws("logs"), unique("/ecs/x")
    logs.create_log_group(logGroupName=name, tags={"k": "v"})
    refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=name)
    logs.put_retention_policy(logGroupName=name, retentionInDays=7)
    (group,) = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert (group["retentionInDays"], group["logGroupClass"]) == (7, "STANDARD")


def test_the_tag_sweep_sees_every_kind_and_nothing_that_is_gone(aws, net, home):
    mark = unique("sweep")
    pair, ecs_pair = [{"Key": "sweep", "Value": mark}], [{"key": "sweep", "value": mark}]
    ec2, ecs = aws("ec2"), aws("ecs")
    endpoint = ec2.create_vpc_endpoint(VpcId=net.vpc, ServiceName=f"com.amazonaws.{REGION}.s3")["VpcEndpoint"][
        "VpcEndpointId"
    ]
    nat = ec2.create_nat_gateway(SubnetId=net.subnets[0], AllocationId=net.address)["NatGateway"]["NatGatewayId"]
    table = ec2.create_route_table(VpcId=net.vpc)["RouteTable"]["RouteTableId"]
    template = ec2.create_launch_template(LaunchTemplateName=unique(), LaunchTemplateData={"ImageId": "ami-1"})[
        "LaunchTemplate"
    ]["LaunchTemplateId"]
    rule = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [net.group]}])[
        "SecurityGroupRules"
    ][0]["SecurityGroupRuleId"]
    ids = [net.vpc, net.subnets[0], net.gateway, net.address, net.group, endpoint, nat, table, template, rule]
    ec2.create_tags(Resources=ids, Tags=pair)
    ecs.create_service(**{**home.service, "tags": ecs_pair})
    cluster = ecs.describe_clusters(clusters=[home.name])["clusters"][0]["clusterArn"]
    provider = ecs.describe_capacity_providers(capacityProviders=[home.strategy[0]["capacityProvider"]])[
        "capacityProviders"
    ][0]
    for arn in (cluster, provider["capacityProviderArn"], home.definition):
        ecs.tag_resource(resourceArn=arn, tags=ecs_pair)
    aws("ecr").create_repository(repositoryName=mark, tags=pair)
    aws("logs").create_log_group(logGroupName=mark, tags={"sweep": mark})
    aws("ssm").put_parameter(Name=mark, Type="String", Value="x", Tags=pair)
    aws("secretsmanager").create_secret(Name=mark, SecretString="x", Tags=pair)
    aws("amp").create_workspace(alias=mark, tags={"sweep": mark})
    aws("dsql").create_cluster(tags={"sweep": mark})
    aws("servicediscovery").create_http_namespace(Name=mark, Tags=pair)
    aws("opensearch").create_domain(DomainName=mark, EBSOptions={"EBSEnabled": True, "VolumeSize": 10}, TagList=pair)
    tagging = aws("resourcegroupstaggingapi")
    pages = tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": "sweep", "Values": [mark]}], ResourcesPerPage=10
    )
    arns = [row["ResourceARN"] for one in pages for row in one["ResourceTagMappingList"]]
    kinds = {":".join((arn.split(":")[2], arn.split(":", 5)[5].split("/")[0].split(":")[0])) for arn in arns}
    assert kinds == {
        "ec2:vpc", "ec2:subnet", "ec2:internet-gateway", "ec2:elastic-ip", "ec2:security-group", "ec2:vpc-endpoint",
        "ec2:natgateway", "ec2:route-table", "ec2:launch-template", "ec2:security-group-rule",
        "ecs:service", "ecs:cluster", "ecs:capacity-provider", "ecs:task-definition", "ecr:repository",
        "logs:log-group", "ssm:parameter", "secretsmanager:secret", "aps:workspace", "dsql:cluster",
        "servicediscovery:namespace", "es:domain",
    }  # fmt: skip
    assert len(arns) == len(set(arns)) == 22
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    ec2.delete_launch_template(LaunchTemplateId=template)
    ec2.delete_nat_gateway(NatGatewayId=nat)
    ecs.delete_service(cluster=home.name, service=home.name)
    time.passes(3600)
    left = tagging.get_resources(TagFilters=[{"Key": "sweep", "Values": [mark]}])["ResourceTagMappingList"]
    assert len(left) == 18
    only = tagging.get_resources(TagFilters=[{"Key": "sweep", "Values": [mark]}], ResourceTypeFilters=["ecs:cluster"])
    assert [row["ResourceARN"] for row in only["ResourceTagMappingList"]] == [cluster]


def test_reset_empties_the_account(server, aws):
    aws("ecs").create_cluster(clusterName=unique())
    aws("ec2").create_vpc(CidrBlock="10.9.0.0/16")
    server.reset()
    assert server.calls == []
    assert aws("ecs").list_clusters()["clusterArns"] == []
    assert [vpc["CidrBlock"] for vpc in aws("ec2").describe_vpcs()["Vpcs"]] == ["172.31.0.0/16"]


# ----------------------------------------------------------------------------------------- the process


def test_the_process_starts_once_answers_and_stops(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    assert process.find(tmp_path) is None
    assert process.stop(tmp_path) is False
    first = process.start(tmp_path, speed=1000, lifetime=60)
    try:
        assert process.start(tmp_path) == first == process.find(tmp_path)
        variables = process.environment(first)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE")
        assert boto3.client("sts").get_caller_identity()["Account"] == ACCOUNT
        assert boto3.client("servicediscovery").list_namespaces()["Namespaces"] == []
    finally:
        assert process.stop(tmp_path) is True
    assert process.find(tmp_path) is None
    assert not first.answers()


def test_a_process_that_isnt_ours_is_left_alone(tmp_path):
    other = process.Sandbox(os.getpid(), "http://127.0.0.1:9", "2026-01-01T00:00:00+00:00", 1, 1, REGION)
    (tmp_path / "sandbox.json").write_text(json.dumps(asdict(other)))
    assert process.stop(tmp_path) is False
    assert not (tmp_path / "sandbox.json").exists()


def test_the_process_stops_itself_after_its_lifetime(tmp_path):
    from time import monotonic, sleep

    sandbox = process.start(tmp_path, lifetime=0.5)
    deadline = monotonic() + 10
    while sandbox.answers() and monotonic() < deadline:
        sleep(0.1)
    assert not sandbox.answers()
    process._children.pop().wait()


def test_a_sandbox_that_doesnt_start_says_why(tmp_path):
    from socket import create_server

    with create_server(("127.0.0.1", 0)) as taken, pytest.raises(TecsError, match="didn't start") as caught:
        process.start(tmp_path, port=taken.getsockname()[1])
    assert "sandbox.log" in caught.value.hint
    process._children.pop().wait()
