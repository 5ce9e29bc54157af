"""What was changed behind our back is shown by the name of its field and put back; what cannot be is blocked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import inventory
from cloud import STACK, Project
from temporal_ecs.resource import Ref, Resource

pytestmark = pytest.mark.xdist_group("drift")

KINDS = {
    name: kind for name, kind in sorted(Resource.kinds.items()) if kind.__module__.startswith("temporal_ecs.resources.")
}
CLUSTER = "temporal-dev-cluster"
WEIGHT_50 = ({"capacityProvider": Ref("ec2-capacity"), "weight": 50, "base": 1},)
ROLE_ARN = Ref("grafana-task-role", "arn")


def field(name: str, *path: str, **changes: Any) -> Any:
    """The declared value of a field, with some keys changed."""
    return {**getattr(STACK[name], path[0]), **changes}


# For each field that can change: which resource, and what another declaration, or another hand, makes of it.
VARIANTS: dict[tuple[str, str], tuple[str, Any]] = {
    ("AutoScalingGroup", "launch_template"): ("benchmark-asg", Ref("ecs-launch-template")),
    ("AutoScalingGroup", "version"): ("benchmark-asg", "$Latest"),
    ("AutoScalingGroup", "subnets"): ("ecs-asg", (Ref("private-1"),)),
    ("AutoScalingGroup", "min"): ("ecs-asg", 2),
    ("AutoScalingGroup", "max"): ("ecs-asg", 9),
    ("AutoScalingGroup", "protected"): ("ecs-asg", False),
    ("AutoScalingGroup", "propagated"): ("ecs-asg", ("Name",)),
    ("AutoScalingGroup", "health_check_grace"): ("ecs-asg", 60),
    ("CapacityProvider", "scaling"): ("benchmark-capacity", "DISABLED"),
    ("CapacityProvider", "target"): ("ec2-capacity", 90),
    ("CapacityProvider", "min_step"): ("ec2-capacity", 2),
    ("CapacityProvider", "max_step"): ("ec2-capacity", 5),
    ("CapacityProvider", "termination_protection"): ("ec2-capacity", "DISABLED"),
    ("ClusterCapacity", "providers"): ("cluster-capacity", (Ref("ec2-capacity"),)),
    ("ClusterCapacity", "strategy"): ("cluster-capacity", WEIGHT_50),
    ("DsqlCluster", "deletion_protection"): ("dsql", False),
    ("EcsCluster", "insights"): ("cluster", "disabled"),
    ("EcsCluster", "exec_logging"): ("cluster", "NONE"),
    ("EcsCluster", "exec_log_group"): ("cluster", Ref("adot-logs")),
    ("EcsService", "task_definition"): ("grafana-service", Ref("benchmark-task")),
    ("EcsService", "capacity"): ("grafana-service", WEIGHT_50),
    ("EcsService", "placement"): ("temporal-history-service", ({"type": "spread", "field": "instanceId"},)),
    ("EcsService", "subnets"): ("grafana-service", (Ref("private-1"),)),
    ("EcsService", "security_groups"): ("grafana-service", (Ref("adot-sg"), Ref("grafana-sg"))),
    ("EcsService", "public_addresses"): ("grafana-service", True),
    ("EcsService", "service_connect"): ("adot-service", {"enabled": False}),
    ("EcsService", "execute_command"): ("grafana-service", False),
    ("EcsService", "zone_rebalancing"): ("grafana-service", "ENABLED"),
    ("InstanceProfile", "role"): ("ecs-instance-profile", Ref("grafana-task-role")),
    ("LaunchTemplate", "image"): ("ecs-launch-template", "ami-0123456789abcdef0"),
    ("LaunchTemplate", "instance_type"): ("ecs-launch-template", "m7g.2xlarge"),
    ("LaunchTemplate", "instance_profile"): (
        "ecs-launch-template", "arn:aws:iam::123456789012:instance-profile/another",
    ),
    ("LaunchTemplate", "security_groups"): ("ecs-launch-template", (Ref("adot-sg"),)),
    ("LaunchTemplate", "disk"): ("ecs-launch-template", field("ecs-launch-template", "disk", VolumeSize=60)),
    ("LaunchTemplate", "cluster"): ("ecs-launch-template", "another"),
    ("LaunchTemplate", "agent"): ("ecs-launch-template", {"ECS_RESERVED_MEMORY": "64"}),
    ("LaunchTemplate", "metadata"): (
        "ecs-launch-template", field("ecs-launch-template", "metadata", HttpPutResponseHopLimit=2),
    ),
    ("LaunchTemplate", "instance_tags"): ("ecs-launch-template", {"Name": "another"}),
    ("LaunchTemplate", "public_address"): ("ecs-launch-template", True),
    ("LaunchTemplate", "monitoring"): ("ecs-launch-template", False),
    ("LogGroup", "retention_days"): ("adot-logs", 30),
    ("Namespace", "description"): ("namespace", "another"),
    ("OpenSearchDomain", "instance_type"): ("opensearch", "m6g.xlarge.search"),
    ("OpenSearchDomain", "instance_count"): ("opensearch", 5),
    ("OpenSearchDomain", "dedicated_masters"): ("opensearch", True),
    ("OpenSearchDomain", "volume"): ("opensearch", field("opensearch", "volume", VolumeSize=200)),
    ("OpenSearchDomain", "security_groups"): ("opensearch", (Ref("adot-sg"),)),
    ("OpenSearchDomain", "access"): (
        "opensearch",
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"AWS": [ROLE_ARN]}, "Action": "es:*", "Resource": "*"},
            ],
        },
    ),
    ("OpenSearchDomain", "endpoint_options"): (
        "opensearch", field("opensearch", "endpoint_options", TLSSecurityPolicy="Policy-Min-TLS-1-0-2019-07"),
    ),
    ("OpenSearchDomain", "advanced_options"): (
        "opensearch", {"rest.action.multi.allow_explicit_index": "false"},
    ),
    ("Parameter", "description"): ("adot-config", "another"),
    ("Parameter", "body"): ("adot-config", "another"),
    ("PrometheusWorkspace", "alias"): ("prometheus", "another"),
    ("Repository", "scan_on_push"): ("temporal-dsql-repository", False),
    ("Repository", "tag_mutability"): ("temporal-dsql-repository", "MUTABLE"),
    ("RepositoryLifecycle", "rules"): (
        "temporal-dsql-lifecycle",
        ({**STACK["temporal-dsql-lifecycle"].spec()["rules"][0], "description": "another"},),
    ),
    ("Role", "trust"): ("grafana-task-role", "ec2.amazonaws.com"),
    ("Role", "managed"): ("grafana-task-role", ("arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",)),
    ("RolePolicy", "statements"): (
        "temporal-ui-task-policy",
        ({"Sid": "All", "Effect": "Allow", "Action": ["*"], "Resource": ["*"]},),
    ),
    ("RouteTableAssociation", "table"): ("private-1-routing", Ref("public-rt")),
    ("SecurityGroupRules", "rules"): (
        "grafana-rules",
        ({"direction": "in", "protocol": "tcp", "from": 22, "to": 22, "peer": "0.0.0.0/0", "description": "ssh"},),
    ),
    ("Subnet", "public_addresses"): ("private-0", True),
    ("TaskDefinition", "compatibility"): ("benchmark-task", "FARGATE"),
    ("TaskDefinition", "cpu"): ("temporal-ui-task", 512),
    ("TaskDefinition", "memory"): ("temporal-ui-task", 1024),
    ("TaskDefinition", "network_mode"): ("benchmark-task", "host"),
    ("TaskDefinition", "architecture"): ("temporal-ui-task", "X86_64"),
    ("TaskDefinition", "execution_role"): ("temporal-ui-task", ROLE_ARN),
    ("TaskDefinition", "task_role"): ("temporal-ui-task", ROLE_ARN),
    ("TaskDefinition", "container"): (
        "temporal-ui-task", field("temporal-ui-task", "container", environment={"A": "b"}),
    ),
    ("TaskDefinition", "image"): ("temporal-ui-task", "temporalio/ui:1.0.0"),
    ("Vpc", "dns_support"): ("vpc", False),
    ("Vpc", "dns_hostnames"): ("vpc", False),
    ("VpcEndpoint", "subnets"): ("logs-endpoint", (Ref("private-1"),)),
    ("VpcEndpoint", "security_groups"): ("logs-endpoint", (Ref("adot-sg"),)),
    ("VpcEndpoint", "route_tables"): ("s3-endpoint", (Ref("private-rt"), Ref("public-rt"))),
    ("VpcEndpoint", "private_dns"): ("logs-endpoint", False),
}  # fmt: skip


def put_back(project: Project, name: str) -> str:
    """Provision a resource, and where it may have got a successor what uses it; the outcome."""
    users = [user for user, item in STACK.items() if type(STACK[name]).renewed and name in item.needs()]
    return project.provision(name, *users).outcomes[name]


# -- by another's hand ---------------------------------------------------------------------------------------


def id_of(project: Project, name: str) -> str:
    return project.state.get(name)["id"]


def vpc_without_names(project: Project) -> None:
    project.client("ec2").modify_vpc_attribute(VpcId=id_of(project, "vpc"), EnableDnsHostnames={"Value": False})


def default_route_to_the_internet(project: Project) -> None:
    project.client("ec2").replace_route(
        RouteTableId=id_of(project, "private-rt"),
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId=id_of(project, "igw"),
    )


def default_route_to_the_nat(project: Project) -> None:
    project.client("ec2").replace_route(
        RouteTableId=id_of(project, "public-rt"),
        DestinationCidrBlock="0.0.0.0/0",
        NatGatewayId=id_of(project, "nat"),
    )


def ssh_for_everyone(project: Project) -> None:
    project.client("ec2").authorize_security_group_ingress(
        GroupId=id_of(project, "temporal-ui-sg"),
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        ],
    )


def everything_out(project: Project) -> None:
    project.client("ec2").authorize_security_group_egress(
        GroupId=id_of(project, "temporal-ui-sg"),
        IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )


def rule(project: Project, group: str, **wanted: Any) -> dict[str, Any]:
    filters = [{"Name": "group-id", "Values": [id_of(project, group)]}]
    rows = project.client("ec2").describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
    return next(row for row in rows if wanted.items() <= row.items())


def no_grpc_to_the_frontend(project: Project) -> None:
    found = rule(project, "temporal-ui-sg", FromPort=7233)
    project.client("ec2").revoke_security_group_egress(
        GroupId=found["GroupId"], SecurityGroupRuleIds=[found["SecurityGroupRuleId"]]
    )


def a_rule_described_otherwise(project: Project) -> None:
    found = rule(project, "temporal-ui-sg", FromPort=443)
    project.client("ec2").update_security_group_rule_descriptions_egress(
        GroupId=found["GroupId"],
        SecurityGroupRuleDescriptions=[{"SecurityGroupRuleId": found["SecurityGroupRuleId"], "Description": "another"}],
    )


def a_newer_template_with_user_data_by_hand(project: Project) -> None:
    project.client("ec2").create_launch_template_version(
        LaunchTemplateId=id_of(project, "ecs-launch-template"),
        SourceVersion="$Latest",
        LaunchTemplateData={"UserData": "ZWNobyBoaQo="},
    )


def an_endpoint_in_one_zone(project: Project) -> None:
    project.client("ec2").modify_vpc_endpoint(
        VpcEndpointId=id_of(project, "ssm-endpoint"), RemoveSubnetIds=[id_of(project, "private-0")]
    )


def a_role_with_more_rights(project: Project) -> None:
    project.client("iam").attach_role_policy(
        RoleName=id_of(project, "adot-task-role"), PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    )


def a_role_with_fewer_rights(project: Project) -> None:
    project.client("iam").detach_role_policy(
        RoleName=id_of(project, "ecs-execution-role"),
        PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy",
    )


def a_role_trusted_by_another_account(project: Project) -> None:
    trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::210987654321:root"}, "Action": "sts:AssumeRole"}
    project.client("iam").update_assume_role_policy(
        RoleName=id_of(project, "adot-task-role"),
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )


def a_policy_written_over(project: Project) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    project.client("iam").put_role_policy(
        RoleName=id_of(project, "adot-task-role"),
        PolicyName="permissions",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": everything}),
    )


def a_profile_without_role(project: Project) -> None:
    project.client("iam").remove_role_from_instance_profile(
        InstanceProfileName=id_of(project, "ecs-instance-profile"), RoleName=id_of(project, "ecs-instance-role")
    )


def logs_for_ever(project: Project) -> None:
    project.client("logs").delete_retention_policy(logGroupName="/ecs/temporal-dev/grafana")


def a_service_without_exec(project: Project) -> None:
    project.client("ecs").update_service(
        cluster=CLUSTER, service="temporal-dev-temporal-matching", enableExecuteCommand=False
    )


def a_service_that_stops_before_it_starts(project: Project) -> None:
    project.client("ecs").update_service(
        cluster=CLUSTER,
        service="temporal-dev-temporal-history",
        deploymentConfiguration={"minimumHealthyPercent": 0, "maximumPercent": 100},
    )


def an_older_definition(project: Project) -> None:
    project.client("ecs").update_service(
        cluster=CLUSTER, service="temporal-dev-grafana", taskDefinition="temporal-dev-benchmark"
    )


def a_revision_by_hand(project: Project) -> None:
    ecs = project.client("ecs")
    row = ecs.describe_task_definition(taskDefinition="temporal-dev-adot")["taskDefinition"]
    keys = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn", "taskRoleArn")
    (container,) = row["containerDefinitions"]
    ecs.register_task_definition(
        **{key: row[key] for key in keys},
        runtimePlatform=row["runtimePlatform"],
        containerDefinitions=[{**container, "command": ["--config", "/etc/mine.yaml"]}],
        tags=[{"key": key, "value": value} for key, value in project.aws.tags(STACK["adot-task"]).items()],
    )


def a_cluster_without_insights(project: Project) -> None:
    project.client("ecs").update_cluster_settings(
        cluster=CLUSTER, settings=[{"name": "containerInsights", "value": "disabled"}]
    )


def a_cluster_with_another_namespace(project: Project) -> None:
    discovery = project.client("servicediscovery")
    discovery.create_http_namespace(Name="another")
    (arn,) = (row["Arn"] for row in discovery.list_namespaces()["Namespaces"] if row["Name"] == "another")
    project.client("ecs").update_cluster(cluster=CLUSTER, serviceConnectDefaults={"namespace": arn})


def a_provider_that_fills_less(project: Project) -> None:
    project.client("ecs").update_capacity_provider(
        name="temporal-dev-ec2",
        autoScalingGroupProvider={"managedScaling": {"status": "ENABLED", "targetCapacity": 60}},
    )


def fargate_beside_ours(project: Project) -> None:
    project.client("ecs").put_cluster_capacity_providers(
        cluster=CLUSTER,
        capacityProviders=["temporal-dev-ec2", "temporal-dev-benchmark", "FARGATE"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "temporal-dev-ec2", "weight": 100, "base": 1}],
    )


def a_group_that_may_be_empty(project: Project) -> None:
    project.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName="temporal-dev-ecs-asg", MinSize=0, NewInstancesProtectedFromScaleIn=False
    )


def a_tag_that_instances_do_not_inherit(project: Project) -> None:
    tag = {"ResourceId": "temporal-dev-ecs-asg", "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
    project.client("autoscaling").create_or_update_tags(Tags=[{**tag, "Key": "Name", "Value": "temporal-dev-ecs"}])


def a_domain_with_more_nodes(project: Project) -> None:
    project.client("opensearch").update_domain_config(
        DomainName="temporal-dev-visibility", ClusterConfig={"InstanceCount": 4}
    )


def a_workspace_renamed(project: Project) -> None:
    project.client("amp").update_workspace_alias(workspaceId=id_of(project, "prometheus"), alias="mine")


def a_parameter_edited(project: Project) -> None:
    project.client("ssm").put_parameter(
        Name="/temporal-dev/adot/collector-config", Value="receivers: {}", Type="String", Overwrite=True
    )


def a_parameter_made_anew(project: Project) -> None:
    ssm, name = project.client("ssm"), "/temporal-dev/adot/collector-config"
    value = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    ssm.delete_parameter(Name=name)
    tags = [{"Key": key, "Value": each} for key, each in project.aws.tags(STACK["adot-config"]).items()]
    description = STACK["adot-config"].spec()["description"]
    ssm.put_parameter(Name=name, Value=value[:100], Type="String", Description=description, Tags=tags)


def a_secret_scheduled_for_deletion(project: Project) -> None:
    project.client("secretsmanager").delete_secret(SecretId="grafana/admin", RecoveryWindowInDays=7)


def tags_that_may_be_overwritten(project: Project) -> None:
    project.client("ecr").put_image_tag_mutability(repositoryName="temporal-grafana", imageTagMutability="MUTABLE")


def leftovers_kept_longer(project: Project) -> None:
    rule = {**STACK["temporal-grafana-lifecycle"].spec()["rules"][0]}
    rule["selection"] = {**rule["selection"], "countNumber": 99}
    project.client("ecr").put_lifecycle_policy(
        repositoryName="temporal-grafana", lifecyclePolicyText=json.dumps({"rules": [rule]})
    )


def a_database_without_protection(project: Project) -> None:
    project.client("dsql").update_cluster(identifier=id_of(project, "dsql"), deletionProtectionEnabled=False)


def a_namespace_described_otherwise(project: Project) -> None:
    project.client("servicediscovery").update_http_namespace(
        Id=id_of(project, "namespace"), Namespace={"Description": "another"}
    )


# What is done, which resource shows it, and under which fields.
BY_HAND: list[tuple[Callable[[Project], None], str, set[str]]] = [
    (vpc_without_names, "vpc", {"dns_hostnames"}),
    (default_route_to_the_internet, "private-default", {"gateway", "nat"}),
    (default_route_to_the_nat, "public-default", {"gateway", "nat"}),
    (ssh_for_everyone, "temporal-ui-rules", {"rules"}),
    (everything_out, "temporal-ui-rules", {"rules"}),
    (no_grpc_to_the_frontend, "temporal-ui-rules", {"rules"}),
    (a_rule_described_otherwise, "temporal-ui-rules", {"rules"}),
    (a_newer_template_with_user_data_by_hand, "ecs-launch-template", {"agent", "cluster"}),
    (an_endpoint_in_one_zone, "ssm-endpoint", {"subnets"}),
    (a_role_with_more_rights, "adot-task-role", {"managed"}),
    (a_role_with_fewer_rights, "ecs-execution-role", {"managed"}),
    (a_role_trusted_by_another_account, "adot-task-role", {"trust"}),
    (a_policy_written_over, "adot-task-policy", {"statements"}),
    (a_profile_without_role, "ecs-instance-profile", {"role"}),
    (logs_for_ever, "grafana-logs", {"retention_days"}),
    (a_service_without_exec, "temporal-matching-service", {"execute_command"}),
    (a_service_that_stops_before_it_starts, "temporal-history-service", {"rollout"}),
    (an_older_definition, "grafana-service", {"task_definition"}),
    (a_revision_by_hand, "adot-task", {"container"}),
    (a_cluster_without_insights, "cluster", {"insights"}),
    (a_cluster_with_another_namespace, "cluster", {"namespace"}),
    (a_provider_that_fills_less, "ec2-capacity", {"target"}),
    (fargate_beside_ours, "cluster-capacity", {"providers"}),
    (a_group_that_may_be_empty, "ecs-asg", {"min", "protected"}),
    (a_tag_that_instances_do_not_inherit, "ecs-asg", {"propagated"}),
    (a_domain_with_more_nodes, "opensearch", {"instance_count"}),
    (a_workspace_renamed, "prometheus", {"alias"}),
    (a_parameter_edited, "adot-config", {"body"}),
    (a_parameter_made_anew, "adot-config", {"body", "tier"}),
    (a_secret_scheduled_for_deletion, "grafana-secret", {"scheduled_for_deletion"}),
    (tags_that_may_be_overwritten, "temporal-grafana-repository", {"tag_mutability"}),
    (leftovers_kept_longer, "temporal-grafana-lifecycle", {"rules"}),
    (a_database_without_protection, "dsql", {"deletion_protection"}),
    (a_namespace_described_otherwise, "namespace", {"description"}),
]


@pytest.mark.parametrize(("change", "name", "shown"), BY_HAND, ids=[case[0].__name__ for case in BY_HAND])
def test_what_another_hand_did_is_shown_and_put_back(provisioned: Project, change, name: str, shown: set[str]):
    change(provisioned)
    planned = provisioned.plan(name)
    assert planned.keys() == {name}
    assert planned[name].action in ("update", "replace")
    assert planned[name].fields.keys() == shown
    assert put_back(provisioned, name) in ("updated", "replaced")


def test_a_gateway_that_was_detached_is_attached_again(new_project: Callable[..., Project]):
    project = new_project('project = "temporal-two"\n')  # without addresses in its VPC, which would forbid it
    project.provision("igw")
    ec2 = project.client("ec2")
    ec2.detach_internet_gateway(InternetGatewayId=id_of(project, "igw"), VpcId=id_of(project, "vpc"))
    assert project.plan("igw")["igw"].fields == {"vpc": ("", id_of(project, "vpc"))}
    project.provision("igw")
    assert project.plan("igw") == {}
    project.teardown()


def test_every_field_that_can_change_is_tried():
    tried = set(VARIANTS) | {(type(STACK[name]).__name__, field) for _, name, shown in BY_HAND for field in shown}
    tried |= {("InternetGateway", "vpc")}  # in a test of its own
    assert tried == {(name, field) for name, kind in KINDS.items() for field in kind.mutable | kind.renewed}


# -- by another declaration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "changed"), sorted(VARIANTS))
def test_another_value_is_shown_by_its_name_and_put_back(provisioned: Project, kind: str, changed: str):
    name, value = VARIANTS[kind, changed]
    other = provisioned.declaring(name, **{changed: value})
    successor = changed in KINDS[kind].renewed
    result = provisioned.provision(name, stack=other)
    assert result.outcomes[name] == ("replaced" if successor else "updated")
    assert result.count("same") == len(result.outcomes) - 1
    change = provisioned.plan(name)[name]
    assert change.action == ("replace" if successor else "update")
    assert change.fields.keys() == {changed}
    assert change.fields[changed][1] == provisioned.item(name).spec()[changed]
    assert put_back(provisioned, name) == ("replaced" if successor else "updated")


def other_than(value: Any) -> Any:
    """Some other value of the same form."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, (tuple, list)):
        return ("another",)
    return "another"


FIXED = [
    (name, field)
    for name in sorted({type(item).__name__: name for name, item in STACK.items()}.values())
    for kind in [type(STACK[name])]
    for field in sorted(STACK[name].spec().keys() - kind.mutable - kind.renewed - kind.initial - kind.unread)
]


@pytest.mark.parametrize(("name", "changed"), FIXED)
def test_what_cannot_change_in_place_is_blocked_with_the_way_out(provisioned: Project, name: str, changed: str):
    now = provisioned.item(name).spec()[changed]
    other = provisioned.declaring(name, **{changed: other_than(now)})
    change = provisioned.plan(name, stack=other)[name]
    assert change.action == "blocked"
    assert change.fields[changed][0] == now
    assert f"{changed} is {now!r}" in change.reason
    assert f"`tecs teardown {name}`" in change.reason
    mutations = provisioned.aws.mutations
    result = provisioned.engine(other).provision([name])
    assert change.reason in str(result.errors[name])
    assert provisioned.aws.mutations == mutations


# -- tags ----------------------------------------------------------------------------------------------------

TOLD = [
    name
    for name, item in STACK.items()
    if item.tagging in ("ec2", "iam-role", "iam-profile", "ecs", "autoscaling", "amp", "secretsmanager", "dsql")
]
"""Those whose listing tells their tags."""


def untag(project: Project, name: str, keys: list[str]) -> None:
    """Take some tags off, by each service's own call."""
    live, dialect = project.live(name), STACK[name].tagging
    client = {"iam-role": "iam", "iam-profile": "iam"}.get(str(dialect), dialect)
    service = project.client(str(client))
    match dialect:
        case "ec2":
            service.delete_tags(Resources=[live["id"]], Tags=[{"Key": key} for key in keys])
        case "iam-role":
            service.untag_role(RoleName=live["id"], TagKeys=keys)
        case "iam-profile":
            service.untag_instance_profile(InstanceProfileName=live["id"], TagKeys=keys)
        case "ecs":
            service.untag_resource(resourceArn=live["arn"], tagKeys=keys)
        case "autoscaling":
            tag = {"ResourceId": live["id"], "ResourceType": "auto-scaling-group"}
            service.delete_tags(Tags=[{**tag, "Key": key} for key in keys])
        case "secretsmanager":
            service.untag_resource(SecretId=live["id"], TagKeys=keys)
        case "amp" | "dsql":
            service.untag_resource(resourceArn=live["arn"], tagKeys=keys)


OURS = ["tecs:project", "tecs:region", "tecs:name", "Project", "Environment", "ManagedBy"]


@pytest.mark.parametrize("keys", [["ManagedBy"], OURS], ids=["one", "all"])
def test_tags_that_were_removed_are_shown_and_written_again(provisioned: Project, keys: list[str]):
    provisioned.provision()
    for name in TOLD:
        untag(provisioned, name, keys)
    changes = provisioned.plan()
    for name in TOLD:
        assert changes[name].action == "update"
        assert changes[name].fields.keys() == {"tags"}
        assert changes[name].fields["tags"][0] == dict.fromkeys(keys)
    result = provisioned.provision()
    assert {name for name, outcome in result.outcomes.items() if outcome == "updated"} == set(TOLD)
    assert set(result.outcomes.values()) == {"updated", "same"}
    assert provisioned.plan() == {}


def test_every_other_taggable_kind_keeps_its_tags_to_itself(provisioned: Project):
    silent = [name for name, item in STACK.items() if item.tagging and name not in TOLD]
    assert not [name for name in silent if "tags" in provisioned.live(name)]
    assert {STACK[name].tagging for name in silent} == {"logs", "ecr", "ssm", "opensearch", "servicediscovery"}


# -- AWS's own defaults --------------------------------------------------------------------------------------


def test_what_aws_adds_of_its_own_is_there_and_is_no_drift(provisioned: Project):
    provisioned.provision()
    found = inventory.read(provisioned.endpoint)

    def has(row: Mapping[str, Any], *keys: str) -> bool:
        return row.keys() >= set(keys)

    assert has(found["services"]["grafana-service"], "healthCheckGracePeriodSeconds", "deploymentController", "roleArn")
    assert has(found["services"]["grafana-service"]["deploymentConfiguration"], "deploymentCircuitBreaker", "strategy")
    (container,) = found["task-definitions"]["grafana-task"]["containerDefinitions"]
    assert has(container, "cpu", "mountPoints", "volumesFrom", "systemControls")
    assert has(container["portMappings"][0], "hostPort")
    assert has(found["capacity-providers"]["ec2-capacity"]["autoScalingGroupProvider"], "managedDraining")
    assert has(found["domains"]["opensearch"]["AdvancedOptions"], "override_main_response_version")
    assert has(found["domains"]["opensearch"]["EBSOptions"], "Iops", "Throughput")
    assert has(found["auto-scaling-groups"]["ecs-asg"], "TerminationPolicies", "DefaultCooldown")
    assert has(found["endpoints"]["s3-endpoint"], "PolicyDocument")
    assert provisioned.plan() == {}


def test_after_all_of_that_the_stack_is_as_it_was(provisioned: Project):
    provisioned.provision()
    assert provisioned.plan() == {}
