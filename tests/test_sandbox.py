"""The sandbox answers as AWS does: states, codes, dependencies and defaults, over HTTP, through boto3."""

from __future__ import annotations

import base64
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

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
    running = Server(
        speed=1, now=time, before=lambda call: hooks.before(call), after=lambda call: hooks.after(call)
    )
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
        ("iam", "simulate_principal_policy", {"PolicySourceArn": "arn:aws:iam::123456789012:role/r", "ActionNames": ["s3:GetObject"]}),
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
        ("ecs", "create_cluster", "InvalidParameterException", {"settings": [{"name": "containerInsight", "value": "x"}]}),
        ("ecs", "register_task_definition", "ClientException", {"family": "f", "networkMode": "awsvpcc", "containerDefinitions": []}),
        ("ec2", "create_launch_template", "InvalidParameterValue", {"LaunchTemplateName": "abc", "LaunchTemplateData": {"InstanceType": "m7g.huge"}}),
        ("iam", "create_role", "ValidationError", {"RoleName": "r r", "AssumeRolePolicyDocument": TRUST}),
        ("iam", "create_role", "MalformedPolicyDocument", {"RoleName": "r", "AssumeRolePolicyDocument": "{"}),
        ("iam", "put_role_policy", "LimitExceeded", {"RoleName": "r", "PolicyName": "p", "PolicyDocument": json.dumps({"Statement": ["x" * 10241]})}),
        ("logs", "put_retention_policy", "InvalidParameterException", {"logGroupName": "g", "retentionInDays": 8}),
        ("ssm", "put_parameter", "ValidationException", {"Name": "n", "Type": "String", "Value": "x" * 4097}),
        ("dsql", "get_cluster", "ValidationException", {"identifier": "BAD"}),
        ("opensearch", "create_domain", "ValidationException", {"DomainName": "n" * 29}),
        ("autoscaling", "create_auto_scaling_group", "ValidationError", {"AutoScalingGroupName": "g", "MinSize": 2, "MaxSize": 1}),
    ],
)  # fmt: skip
def test_requests_are_checked_strictly_with_the_services_own_code(aws, service, operation, code, params):
    refused(code, getattr(aws(service), operation), **params)


def test_it_answers_two_hundred_calls_a_second(aws):
    from time import monotonic

    ecs = aws("ecs")
    ecs.list_clusters()
    start = monotonic()
    for _ in range(100):
        ecs.list_clusters()
    assert 100 / (monotonic() - start) > 100  # twice that on an idle machine


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
    shown = ec2.describe_nat_gateways(Filters=[{"Name": "tag:Name", "Values": ["mine"]}, {"Name": "vpc-id", "Values": [net.vpc]}])
    (gateway,) = shown["NatGateways"]
    assert (gateway["State"], gateway["ConnectivityType"], gateway["Tags"]) == ("available", "public", [{"Key": "Name", "Value": "mine"}])
    assert gateway["NatGatewayAddresses"][0]["PrivateIp"].startswith("10.0.")
    assert ec2.describe_nat_gateways(Filters=[{"Name": "tag:Name", "Values": ["other"]}])["NatGateways"] == []
    refused("InvalidParameterValue", ec2.describe_nat_gateways, Filters=[{"Name": "color", "Values": ["red"]}])
    (interface,) = ec2.describe_network_interfaces(Filters=[{"Name": "subnet-id", "Values": [net.subnets[0]]}])["NetworkInterfaces"]
    assert interface["InterfaceType"] == "nat_gateway"

    table = ec2.create_route_table(VpcId=net.vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    refused("InvalidNatGatewayID.NotFound", ec2.create_route, RouteTableId=table, DestinationCidrBlock="1.0.0.0/8", NatGatewayId="nat-0123456789abcdef0")
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
    assert (endpoint["State"], endpoint["PrivateDnsEnabled"], len(endpoint["NetworkInterfaceIds"])) == ("pending", True, 2)
    assert json.loads(endpoint["PolicyDocument"])["Statement"][0]["Action"] == "*"
    assert ec2.create_vpc_endpoint(**wanted)["VpcEndpoint"]["VpcEndpointId"] == identifier
    message = refused("InvalidParameter", ec2.create_vpc_endpoint, **{**wanted, "ClientToken": unique()})
    assert "conflicting DNS domain" in message
    refused("InvalidServiceName", ec2.create_vpc_endpoint, **{**wanted, "ClientToken": unique(), "ServiceName": "com.amazonaws.x.y"})
    time.passes(61)
    found = ec2.describe_vpc_endpoints(Filters=[{"Name": "tag:Name", "Values": ["logs"]}, {"Name": "vpc-id", "Values": [net.vpc]}])
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
    refused("InvalidVpcID.NotFound", ec2.create_security_group, GroupName=unique(), Description="d", VpcId="vpc-0123456789abcdef0")
    for wrong in ("sg-name", "default", "x" * 256):
        refused("InvalidParameterValue", ec2.create_security_group, GroupName=wrong, Description="d", VpcId=net.vpc)
    refused("InvalidParameterValue", ec2.create_security_group, GroupName=unique(), Description="dé", VpcId=net.vpc)
    found = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [net.vpc]}, {"Name": "group-name", "Values": ["default"]}])
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
        refused("InvalidPermission.Duplicate", ec2.authorize_security_group_ingress, GroupId=net.group, IpPermissions=[permission(7233, UserIdGroupPairs=[again])])
    for wrong in (permission(70000), permission(90, 80), permission(80, protocol="tpc")):
        wrong["IpRanges"] = [{"CidrIp": "10.0.0.0/8"}]
        refused("InvalidParameterValue", ec2.authorize_security_group_ingress, GroupId=net.group, IpPermissions=[wrong])
    refused("InvalidParameterValue", ec2.authorize_security_group_ingress, GroupId=net.group, IpPermissions=[permission(1, IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "é"}])])

    rule = from_block["SecurityGroupRuleId"]
    change = {"IpProtocol": "tcp", "FromPort": 8443, "ToPort": 8444, "CidrIpv4": "10.0.0.0/16", "Description": "new"}
    ec2.modify_security_group_rules(GroupId=net.group, SecurityGroupRules=[{"SecurityGroupRuleId": rule, "SecurityGroupRule": change}])
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
    refused("InvalidSecurityGroupRuleId.NotFound", ec2.revoke_security_group_ingress, GroupId=net.group, SecurityGroupRuleIds=[rule])
    ec2.revoke_security_group_ingress(GroupId=net.group, IpPermissions=[permission(7233, UserIdGroupPairs=[{"GroupId": net.group}])])
    refused("InvalidPermission.NotFound", ec2.revoke_security_group_ingress, GroupId=net.group, IpPermissions=[permission(7233, UserIdGroupPairs=[{"GroupId": net.group}])])
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
    refused("InvalidGatewayID.NotFound", ec2.create_route, RouteTableId=first, DestinationCidrBlock="0.0.0.0/0", GatewayId="igw-0123456789abcdef0")
    (main,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [net.vpc]}, {"Name": "association.main", "Values": ["true"]}])["RouteTables"]
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
    data = {"ImageId": "ami-1", "InstanceType": "m8g.xlarge", "UserData": text, "MetadataOptions": {"HttpTokens": "required"}}
    tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "Name", "Value": name}]}]
    template = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data, TagSpecifications=tags)["LaunchTemplate"]
    assert (template["LatestVersionNumber"], template["Tags"]) == (1, tags[0]["Tags"])
    refused("InvalidLaunchTemplateName.AlreadyExistsException", ec2.create_launch_template, LaunchTemplateName=name, LaunchTemplateData=data)
    refused("InvalidUserData.Malformed", ec2.create_launch_template, LaunchTemplateName=unique(), LaunchTemplateData={"UserData": "%%"})
    second = ec2.create_launch_template_version(LaunchTemplateName=name, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-2"})
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
    refused("MalformedPolicyDocument", iam.create_role, RoleName=unique(), AssumeRolePolicyDocument=TRUST.replace("ec2.amazonaws.com", "nobody"))
    pages = list(
        iam.get_paginator("get_account_authorization_details").paginate(Filter=["Role"], PaginationConfig={"PageSize": 2})
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
