"""After provision, a reader that knows nothing of tecs finds every object of the stack with its exact values.

What is expected is written out by hand from the description of the stack that tecs replaces, with the changes that
docs/architecture.md lists.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

import inventory
from cloud import ACCOUNT, PROJECT, REGION, Project
from temporal_ecs.outputs import outputs

pytestmark = pytest.mark.xdist_group("inventory")

Found = dict[str, Any]

ANY, VPC = "0.0.0.0/0", "10.0.0.0/16"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/temporal-dev-eu-west-1-"
REGISTRY = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com"
DOMAIN = f"arn:aws:es:eu-west-1:{ACCOUNT}:domain/temporal-dev-visibility/*"
WORKSPACE = f"arn:aws:aps:eu-west-1:{ACCOUNT}:workspace/<prometheus>"
COLLECTOR_CONFIG = f"arn:aws:ssm:eu-west-1:{ACCOUNT}:parameter/temporal-dev/adot/collector-config"
NAMESPACE = f"arn:aws:servicediscovery:eu-west-1:{ACCOUNT}:namespace/<namespace>"

TEMPORAL = ("history", "matching", "frontend", "worker")
SERVICES = (
    "temporal-history",
    "temporal-matching",
    "temporal-frontend",
    "temporal-worker",
    "temporal-ui",
    "grafana",
    "adot",
)
TASKS = (*SERVICES, "benchmark", "opensearch-setup")


@pytest.fixture(scope="module")
def found(provisioned: Project) -> Found:
    return inventory.read(provisioned.endpoint)


def only(rows: dict[str, Any]) -> Any:
    (row,) = rows.values()
    return row


def has(row: dict[str, Any], **wanted: Any) -> bool:
    """Whether a row has exactly these values of these members."""
    assert {key: row.get(key) for key in wanted} == wanted
    return True


# -- everything, and nothing else --------------------------------------------------------------------------------


def test_the_account_holds_these_objects_and_no_others(found: Found):
    names = {kind: sorted(rows) for kind, rows in found.items() if kind not in ("tagged", "rules")}
    groups = [
        "adot", "benchmark", "ecs-instances", "grafana", "opensearch", "opensearch-setup", "temporal-frontend",
        "temporal-history", "temporal-matching", "temporal-ui", "temporal-worker", "vpc-endpoints",
    ]  # fmt: skip
    roles = [
        "adot-task", "benchmark-task", "ecs-execution", "ecs-instance", "grafana-task", "opensearch-setup-task",
        "temporal-task", "temporal-ui-task",
    ]  # fmt: skip
    endpoints = [
        "aps-workspaces", "ec2messages", "ecr-api", "ecr-dkr", "logs", "s3", "secretsmanager", "ssm", "ssmmessages",
    ]  # fmt: skip
    repositories = [
        "temporal-benchmark", "temporal-dsql", "temporal-dsql-admin-tools", "temporal-dsql-runtime", "temporal-grafana",
    ]  # fmt: skip
    assert (
        names
        == {
            "vpcs": ["vpc"],
            "subnets": ["nat-public", "private-0", "private-1"],
            "internet-gateways": ["igw"],
            "addresses": ["nat-eip"],
            "nat-gateways": ["nat"],
            "route-tables": ["main", "private-rt", "public-rt"],  # AWS makes the main one, and nothing uses it
            "endpoints": [f"{name}-endpoint" for name in endpoints],
            "security-groups": sorted(f"{name}-sg" for name in groups),
            "roles": [f"{name}-role" for name in roles],
            "instance-profiles": ["ecs-instance-profile"],
            "service-linked-roles": ["AWSServiceRoleForAmazonOpenSearchService", "AWSServiceRoleForECS"],
            "log-groups": sorted(f"{name}-logs" for name in (*TASKS, "ecs-exec", "container-insights")),
            "namespaces": ["namespace"],
            "discovery-services": sorted(
                [*(f"temporal-{name}" for name in TEMPORAL[:3]), *(f"temporal-{name}-metrics" for name in TEMPORAL)]
            ),
            "clusters": ["cluster"],
            "launch-templates": ["benchmark-launch-template", "ecs-launch-template"],
            "auto-scaling-groups": ["benchmark-asg", "ecs-asg"],
            "capacity-providers": ["benchmark-capacity", "ec2-capacity"],
            "instances": ["temporal-dev-ecs-asg"],
            "interfaces": sorted(found["interfaces"]),
            "domains": ["opensearch"],
            "workspaces": ["prometheus"],
            "parameters": ["adot-config"],
            "databases": ["dsql"],
            "repositories": sorted(f"{name}-repository" for name in repositories),
            "secrets": ["grafana-secret"],
            "task-definitions": sorted(f"{name}-task" for name in TASKS),
            "revisions": sorted(f"temporal-dev-{name}" for name in TASKS),
            "services": sorted(f"{name}-service" for name in SERVICES),
        }
    )


def test_the_index_of_tags_knows_nothing_that_the_listings_do_not(found: Found):
    listed = {name for kind, rows in found.items() if kind not in ("tagged", "rules") for name in rows}
    listed |= {f"{group}-rules" for group in (name.removeprefix("temporal-dev-") for name in found["rules"])}
    assert {each.partition(" ")[2] for each in found["tagged"]} <= listed
    twice = {each for each, times in found["tagged"].items() if times > 1 and not each.endswith("-rules")}
    assert not twice


UNTAGGED = ("main",)  # AWS's own main route table


def test_every_taggable_object_carries_its_tags(found: Found):
    untaggable = {
        "tagged", "rules", "instances", "interfaces", "revisions", "service-linked-roles", "discovery-services",
    }  # fmt: skip
    for kind in found.keys() - untaggable:
        for name, row in found[kind].items():
            if name in UNTAGGED:
                continue
            tags = {
                "tecs:project": "temporal-dev",
                "tecs:region": "eu-west-1",
                "tecs:name": name,
                "Name": f"temporal-dev-{name}",
                "Project": "temporal-dev",
                "Environment": "development",
                "ManagedBy": "tecs",
                **EXTRA_TAGS.get(name, {}),
            }
            assert row["tags"] == tags, (kind, name)
    for group, rules in found["rules"].items():
        for rule in rules:
            name = f"{group.removeprefix('temporal-dev-')}-rules"
            assert rule["tags"]["tecs:name"] == name
            assert rule["tags"]["tecs:project"] == "temporal-dev"
            assert rule["description"]


SHORT = {
    **{f"temporal-{name}": name for name in TEMPORAL},
    "temporal-ui": "ui",
    "grafana": "grafana",
    "adot": "adot-collector",
}

EXTRA_TAGS: dict[str, dict[str, str]] = {
    "private-0": {"Type": "private"},
    "private-1": {"Type": "private"},
    "nat-public": {"Type": "public"},
    "opensearch": {"Service": "opensearch"},
    "benchmark-capacity": {"Workload": "benchmark"},
    "ecs-asg": {"Name": "temporal-dev-ecs", "AmazonECSManaged": "true"},
    "benchmark-asg": {"Name": "temporal-dev-benchmark", "AmazonECSManaged": "true", "Workload": "benchmark"},
    "benchmark-task": {"Service": "benchmark"},
    "opensearch-setup-task": {"Service": "opensearch-setup"},
    "opensearch-setup-logs": {"Service": "opensearch-setup"},
    **{f"{name}-{kind}": {"Service": short} for name, short in SHORT.items() for kind in ("task", "service", "logs")},
    "adot-logs": {"Service": "adot"},
}


# -- network -----------------------------------------------------------------------------------------------------


def test_the_vpc_resolves_names(found: Found):
    vpc = only(found["vpcs"])
    assert has(vpc, CidrBlock=VPC, InstanceTenancy="default", Ipv6CidrBlockAssociationSet=[])
    assert has(vpc, DnsSupport={"Value": True}, DnsHostnames={"Value": True})


@pytest.mark.parametrize(
    ("name", "cidr", "zone"),
    [
        ("private-0", "10.0.0.0/20", "eu-west-1a"),
        ("private-1", "10.0.16.0/20", "eu-west-1b"),
        ("nat-public", "10.0.255.0/24", "eu-west-1a"),
    ],
)
def test_each_subnet_has_its_range_and_zone_and_gives_no_public_address(found: Found, name, cidr, zone):
    row = found["subnets"][name]
    assert has(row, VpcId="<vpc>", CidrBlock=cidr, AvailabilityZone=zone, MapPublicIpOnLaunch=False)


def test_one_nat_gateway_leads_out_through_one_address(found: Found):
    assert only(found["internet-gateways"])["Attachments"] == [{"VpcId": "<vpc>"}]
    assert has(only(found["addresses"]), Domain="vpc", PublicIp="<nat-eip>")
    nat = only(found["nat-gateways"])
    assert has(nat, SubnetId="<nat-public>", VpcId="<vpc>", ConnectivityType="public")
    assert [address["AllocationId"] for address in nat["NatGatewayAddresses"]] == ["<nat-eip>"]


def test_routes_lead_to_the_gateways_and_each_subnet_has_its_table(found: Found):
    def routes(table: str) -> dict[str, str]:
        return {
            row.get("DestinationCidrBlock", row.get("DestinationPrefixListId")): row.get("GatewayId")
            or row.get("NatGatewayId")
            for row in found["route-tables"][table]["Routes"]
        }

    def subnets(table: str) -> list[str]:
        return sorted(row["SubnetId"] for row in found["route-tables"][table]["Associations"] if not row["Main"])

    assert routes("public-rt") == {VPC: "local", ANY: "<igw>"}
    assert routes("private-rt") == {VPC: "local", ANY: "<nat>", "<pl>": "<s3-endpoint>"}
    assert routes("main") == {VPC: "local"}
    assert subnets("public-rt") == ["<nat-public>"]
    assert subnets("private-rt") == ["<private-0>", "<private-1>"]
    assert subnets("main") == []


@pytest.mark.parametrize(
    "service",
    ["ecr.api", "ecr.dkr", "logs", "ssm", "ssmmessages", "ec2messages", "secretsmanager", "aps-workspaces"],
)
def test_each_interface_endpoint_stands_in_all_private_subnets(found: Found, service: str):
    row = found["endpoints"][f"{service.replace('.', '-')}-endpoint"]
    assert has(row, ServiceName=f"com.amazonaws.eu-west-1.{service}", VpcEndpointType="Interface", VpcId="<vpc>")
    assert has(row, PrivateDnsEnabled=True, RouteTableIds=[])
    assert sorted(row["SubnetIds"]) == ["<private-0>", "<private-1>"]
    assert [group["GroupId"] for group in row["Groups"]] == ["<vpc-endpoints-sg>"]


def test_the_s3_endpoint_is_a_gateway_in_the_private_table_alone(found: Found):
    row = found["endpoints"]["s3-endpoint"]
    assert has(row, ServiceName="com.amazonaws.eu-west-1.s3", VpcEndpointType="Gateway", RouteTableIds=["<private-rt>"])
    assert has(row, SubnetIds=[], Groups=[])


# -- security groups ---------------------------------------------------------------------------------------------

RINGPOP = {"history": 6934, "matching": 6935, "frontend": 6933, "worker": 6939}
GRPC = {"history": 7234, "matching": 7235, "frontend": 7233}
CALLERS = {
    "history": ("frontend", "history", "matching", "worker"),
    "matching": ("frontend", "history", "matching", "worker"),
    "frontend": ("history", "worker"),
}


def temporal_rules(name: str) -> list[tuple[str, int, str]]:
    """Ringpop with all four, gRPC with its callers and with whom it calls, metrics, visibility, the way out."""
    return [
        *(("in", RINGPOP[name], f"temporal-{peer}") for peer in TEMPORAL),
        *(("out", RINGPOP[peer], f"temporal-{peer}") for peer in TEMPORAL),
        *(("in", GRPC[name], f"temporal-{peer}") for peer in CALLERS.get(name, ())),
        *(("out", GRPC[peer], f"temporal-{peer}") for peer in GRPC if name in CALLERS[peer]),
        ("in", 9090, "adot"),
        ("out", 443, "opensearch"),
        ("out", 443, ANY),
        ("out", 5432, ANY),
    ]


RULES = {
    **{f"temporal-{name}": temporal_rules(name) for name in TEMPORAL},
    "temporal-ui": [("out", 7233, "temporal-frontend"), ("out", 443, ANY)],
    "grafana": [("out", 443, ANY)],
    "opensearch": [*(("in", 443, f"temporal-{name}") for name in TEMPORAL), ("in", 443, "opensearch-setup")],
    "opensearch-setup": [("out", 443, "opensearch"), ("out", 443, "vpc-endpoints"), ("out", 443, ANY)],
    "vpc-endpoints": [("in", 443, VPC), ("in", 443, "opensearch-setup")],
    "adot": [*(("out", 9090, f"temporal-{name}") for name in TEMPORAL), ("out", 9090, "benchmark"), ("out", 443, ANY)],
    "benchmark": [("in", 9090, "adot"), ("out", 7233, "temporal-frontend"), ("out", 443, ANY)],
    "ecs-instances": [("out", 443, ANY), ("out", 5432, ANY)],
}
RULES["temporal-frontend"] += [("in", 7233, "temporal-ui"), ("in", 7233, "benchmark")]


@pytest.mark.parametrize("group", sorted(RULES))
def test_each_group_has_exactly_its_rules(found: Found, group: str):
    expected = sorted(
        (direction, "tcp", port, port, peer if "/" in peer else f"temporal-dev-{peer}")
        for direction, port, peer in RULES[group]
    )
    assert inventory.rules(found, f"temporal-dev-{group}") == expected


def test_no_group_lets_everything_out_and_none_lets_the_internet_in(found: Found):
    rules = [rule for group in found["rules"].values() for rule in group]
    assert len(rules) == 94
    assert not [rule for rule in rules if rule["protocol"] == "-1" or rule["from"] == -1]
    assert not [rule for rule in rules if rule["direction"] == "in" and rule["peer"] == ANY]


def test_each_group_is_named_after_the_project(found: Found):
    for name, row in found["security-groups"].items():
        assert has(row, GroupName=f"temporal-dev-{name.removesuffix('-sg')}", VpcId="<vpc>")
        assert row["Description"]


# -- IAM ---------------------------------------------------------------------------------------------------------


def may(service: str, verbs: str, resource: str = "*") -> tuple[str, str]:
    """A statement, as its sorted actions and its resource."""
    return " ".join(sorted(f"{service}:{verb}" for verb in verbs.split())), resource


EXEC = [
    may("ssmmessages", "CreateControlChannel CreateDataChannel OpenControlChannel OpenDataChannel"),
    may("logs", "CreateLogStream DescribeLogGroups DescribeLogStreams PutLogEvents"),
]
REMOTE_WRITE = may("aps", "RemoteWrite GetSeries GetLabels GetMetricMetadata", WORKSPACE)
PARAMETERS = f"arn:aws:ssm:eu-west-1:{ACCOUNT}:parameter/temporal-dev/adot/*"
ALARMS = "DescribeAlarmsForMetric DescribeAlarmHistory DescribeAlarms"
METRICS = "ListMetrics GetMetricData GetMetricStatistics GetInsightRuleReport"
ECS_READ = "ListTasks ListServices DescribeTasks DescribeServices DescribeTaskDefinition DescribeContainerInstances"
HOSTS, TASKS_OF_ECS = "ec2.amazonaws.com", "ecs-tasks.amazonaws.com"

ROLES: dict[str, tuple[str, list[str], list[tuple[str, str]]]] = {
    "ecs-instance": (
        HOSTS,
        ["AmazonSSMManagedInstanceCore", "service-role/AmazonEC2ContainerServiceforEC2Role"],
        [may("dsql", "DbConnect DbConnectAdmin")],
    ),
    "ecs-execution": (
        TASKS_OF_ECS,
        ["service-role/AmazonECSTaskExecutionRolePolicy"],
        [
            may("secretsmanager", "GetSecretValue", "<grafana-secret>"),
            may("ssm", "GetParameter GetParameters", PARAMETERS),
        ],
    ),
    "temporal-task": (
        TASKS_OF_ECS,
        [],
        [
            *EXEC,
            may("dsql", "DbConnect DbConnectAdmin", f"arn:aws:dsql:eu-west-1:{ACCOUNT}:cluster/<dsql>"),
            REMOTE_WRITE,
            may("es", "ESHttpGet ESHttpHead ESHttpPost ESHttpPut ESHttpDelete", DOMAIN),
        ],
    ),
    "grafana-task": (
        TASKS_OF_ECS,
        [],
        [
            *EXEC,
            may("aps", "QueryMetrics GetSeries GetLabels GetMetricMetadata", WORKSPACE),
            may("cloudwatch", f"{ALARMS} {METRICS}"),
            may("logs", "DescribeLogGroups GetLogGroupFields StartQuery StopQuery GetQueryResults GetLogEvents"),
            may("ec2", "DescribeTags DescribeInstances DescribeRegions"),
            may("tag", "GetResources"),
        ],
    ),
    "temporal-ui-task": (TASKS_OF_ECS, [], [*EXEC]),
    "adot-task": (
        TASKS_OF_ECS,
        [],
        [
            *EXEC,
            REMOTE_WRITE,
            ("ec2:DescribeInstances " + may("ecs", ECS_READ)[0], "*"),  # to find every task's address
            may("ssm", "GetParameter GetParameters", COLLECTOR_CONFIG),
        ],
    ),
    "benchmark-task": (TASKS_OF_ECS, [], [*EXEC]),
    "opensearch-setup-task": (TASKS_OF_ECS, [], [*EXEC, may("es", "ESHttp*", DOMAIN)]),
}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_role_is_trusted_by_one_service_and_may_do_exactly_this(found: Found, role: str):
    service, managed, allowed = ROLES[role]
    row = found["roles"][f"{role}-role"]
    assert has(row, RoleName=f"temporal-dev-eu-west-1-{role}", Path="/")
    assert row["AssumeRolePolicyDocument"] == {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    assert row["AttachedManagedPolicies"] == [f"arn:aws:iam::aws:policy/{name}" for name in managed]
    (policy,) = row["RolePolicyList"]
    assert policy["PolicyDocument"]["Version"] == "2012-10-17"
    statements = policy["PolicyDocument"]["Statement"]
    assert all(each.keys() == {"Sid", "Effect", "Action", "Resource"} for each in statements)
    assert {each["Effect"] for each in statements} == {"Allow"}
    assert len({each["Sid"] for each in statements}) == len(statements)
    assert sorted((" ".join(sorted(s["Action"])), *s["Resource"]) for s in statements) == sorted(allowed)


def test_the_hosts_profile_holds_the_hosts_role(found: Found):
    profile = only(found["instance-profiles"])
    assert has(profile, InstanceProfileName="temporal-dev-eu-west-1-ecs-instance-profile")
    assert profile["Roles"] == ["temporal-dev-eu-west-1-ecs-instance"]


# -- logs, namespace, cluster, capacity --------------------------------------------------------------------------


def test_every_log_group_keeps_a_week(found: Found):
    paths = {name: f"/ecs/temporal-dev/{name}" for name in (*TASKS, "ecs-exec")}
    paths["container-insights"] = "/aws/ecs/containerinsights/temporal-dev-cluster/performance"
    for name, path in paths.items():
        assert has(found["log-groups"][f"{name}-logs"], logGroupName=path, retentionInDays=7, kmsKeyId=None)


def test_the_namespace_is_for_api_calls_and_described(found: Found):
    namespace = only(found["namespaces"])
    assert has(namespace, Name="temporal-dev", Type="HTTP")
    assert namespace["Description"]


def test_the_cluster_has_insights_exec_logging_and_the_namespace(found: Found):
    cluster = only(found["clusters"])
    assert has(cluster, clusterName="temporal-dev-cluster", status="ACTIVE", tasks=0)
    assert has(cluster, settings=[{"name": "containerInsights", "value": "enabled"}])
    assert has(cluster, serviceConnectDefaults={"namespace": NAMESPACE})
    assert cluster["configuration"] == {
        "executeCommandConfiguration": {
            "logging": "OVERRIDE",
            "logConfiguration": {
                "cloudWatchLogGroupName": "/ecs/temporal-dev/ecs-exec",
                "cloudWatchEncryptionEnabled": False,
            },
        }
    }


def test_the_cluster_uses_both_capacity_providers_and_the_services_by_default(found: Found):
    cluster = only(found["clusters"])
    assert sorted(cluster["capacityProviders"]) == ["temporal-dev-benchmark", "temporal-dev-ec2"]
    assert cluster["defaultCapacityProviderStrategy"] == [
        {"capacityProvider": "temporal-dev-ec2", "base": 1, "weight": 100}
    ]
    assert cluster["attachmentsStatus"] == "UPDATE_COMPLETE"


AGENT = [
    "ECS_CLUSTER=temporal-dev-cluster",
    "ECS_ENABLE_CONTAINER_METADATA=true",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
    "ECS_AWSVPC_BLOCK_IMDS=true",
]


@pytest.mark.parametrize(
    ("title", "gib", "more_agent", "more_tags"),
    [
        ("ecs", 50, [], {}),
        ("benchmark", 30, ['ECS_INSTANCE_ATTRIBUTES={"workload": "benchmark"}'], {"Workload": "benchmark"}),
    ],
)
def test_each_launch_template_makes_hardened_hosts_of_the_cluster(found: Found, title, gib, more_agent, more_tags):
    row = found["launch-templates"][f"{title}-launch-template"]
    assert has(row, LaunchTemplateName=f"temporal-dev-{title}", DefaultVersionNumber=1, versions=1)
    assert has(row, instance_tags={"Name": f"temporal-dev-{title}", **more_tags})
    data = row["data"]
    assert has(data, ImageId="<ami>", InstanceType="m7g.xlarge", Monitoring={"Enabled": True}, KeyName=None)
    profile = "temporal-dev-eu-west-1-ecs-instance-profile"
    assert data["IamInstanceProfile"] == {"Arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}"}
    (interface,) = data["NetworkInterfaces"]
    assert has(interface, DeviceIndex=0, AssociatePublicIpAddress=False, DeleteOnTermination=True)
    assert interface["Groups"] == ["<ecs-instances-sg>"]
    (disk,) = data["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/xvda"
    assert has(disk["Ebs"], VolumeType="gp3", VolumeSize=gib, Encrypted=True, DeleteOnTermination=True, Iops=None)
    assert has(data["MetadataOptions"], HttpTokens="required", HttpPutResponseHopLimit=1)
    lines = row["user_data"].splitlines()
    assert lines[:2] == ["#!/bin/bash", "cat >> /etc/ecs/ecs.config <<'END'"]
    assert lines[2:] == [*AGENT, *more_agent, "END"]


@pytest.mark.parametrize(
    ("title", "low", "high", "desired", "protected", "inherited"),
    [
        ("ecs", 1, 8, 6, True, ["AmazonECSManaged", "Name"]),
        ("benchmark", 0, 4, 0, False, ["AmazonECSManaged", "Name", "Workload"]),
    ],
)
def test_each_auto_scaling_group_spans_the_zones(found: Found, title, low, high, desired, protected, inherited):
    row = found["auto-scaling-groups"][f"{title}-asg"]
    assert has(
        row, AutoScalingGroupName=f"temporal-dev-{title}-asg", MinSize=low, MaxSize=high, DesiredCapacity=desired
    )
    assert has(row, subnets=["<private-0>", "<private-1>"], NewInstancesProtectedFromScaleIn=protected)
    assert has(row, HealthCheckType="EC2", HealthCheckGracePeriod=300, DefaultCooldown=300, propagated=inherited)
    template = {"LaunchTemplateId": f"<{title}-launch-template>", "LaunchTemplateName": f"temporal-dev-{title}"}
    assert row["LaunchTemplate"] == {**template, "Version": "1"}
    assert found["instances"].get(f"temporal-dev-{title}-asg", 0) == desired


@pytest.mark.parametrize(
    ("title", "asg", "step", "protection"), [("ec2", "ecs", 2, "ENABLED"), ("benchmark", "benchmark", 4, "DISABLED")]
)
def test_each_capacity_provider_scales_its_group(found: Found, title, asg, step, protection):
    row = found["capacity-providers"][f"{title}-capacity"]
    assert has(row, name=f"temporal-dev-{title}", status="ACTIVE")
    provider = row["autoScalingGroupProvider"]
    assert has(provider, autoScalingGroupArn=f"<{asg}-asg>", managedTerminationProtection=protection)
    assert provider["managedScaling"] == {
        "status": "ENABLED",
        "targetCapacity": 100,
        "minimumScalingStepSize": 1,
        "maximumScalingStepSize": step,
        "instanceWarmupPeriod": 300,  # the API's default
    }


# -- data and telemetry ------------------------------------------------------------------------------------------


def test_the_search_domain_is_private_encrypted_and_open_to_two_roles(found: Found):
    domain = only(found["domains"])
    assert has(domain, DomainName="temporal-dev-visibility", EngineVersion="OpenSearch_2.11")
    assert has(domain["ClusterConfig"], InstanceType="m6g.large.search", InstanceCount=3)
    assert has(domain["ClusterConfig"], ZoneAwarenessEnabled=False, DedicatedMasterEnabled=False, WarmEnabled=False)
    assert domain["EBSOptions"] == {
        "EBSEnabled": True, "VolumeType": "gp3", "VolumeSize": 100, "Iops": 3000, "Throughput": 125,
    }  # fmt: skip
    assert has(domain["VPCOptions"], SubnetIds=["<private-0>"], SecurityGroupIds=["<opensearch-sg>"])
    assert has(domain, EncryptionAtRestOptions={"Enabled": True}, NodeToNodeEncryptionOptions={"Enabled": True})
    options = domain["DomainEndpointOptions"]
    assert has(options, EnforceHTTPS=True, TLSSecurityPolicy="Policy-Min-TLS-1-2-2019-07", CustomEndpointEnabled=False)
    assert domain["AdvancedOptions"]["rest.action.multi.allow_explicit_index"] == "true"
    assert domain["AdvancedSecurityOptions"]["Enabled"] is False
    assert domain["AccessPolicies"] == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": [f"{ROLE}temporal-task", f"{ROLE}opensearch-setup-task"]},
                "Action": "es:ESHttp*",
                "Resource": DOMAIN,
            }
        ],
    }


def test_the_metrics_workspace_has_its_alias(found: Found):
    assert has(only(found["workspaces"]), alias="temporal-dev-metrics", status={"statusCode": "ACTIVE"})


def test_the_collector_scrapes_every_replica_and_writes_to_the_workspace(found: Found):
    parameter = only(found["parameters"])
    assert has(parameter, Name="/temporal-dev/adot/collector-config", Type="String", Tier="Advanced")
    assert len(parameter["Value"]) < 8192  # what the Advanced tier holds
    text = yaml.safe_load(parameter["Value"])
    observer = text["extensions"]["ecs_observer"]
    assert has(observer, cluster_name="temporal-dev-cluster", cluster_region="eu-west-1")
    (tasks,) = observer["task_definitions"]
    assert tasks["metrics_ports"] == [9090]
    jobs = {job["job_name"]: job for job in text["receivers"]["prometheus"]["config"]["scrape_configs"]}
    assert list(jobs) == [*TEMPORAL, "benchmark"]
    for name, job in jobs.items():
        family = "temporal-dev-benchmark" if name == "benchmark" else f"temporal-dev-temporal-{name}"
        arn = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:task-definition/{family}:12"
        assert re.fullmatch(tasks["arn_pattern"], arn)
        assert has(job, scrape_interval="15s", scrape_timeout="10s")
        assert job["file_sd_configs"][0]["files"] == [observer["result_file"]]
        keep, *labels = job["relabel_configs"]
        assert keep == {
            "source_labels": ["__meta_ecs_task_definition_family"], "regex": family, "action": "keep",
        }  # fmt: skip
        assert {"target_label": "service", "replacement": name} in labels
        assert "task_id" in [label["target_label"] for label in labels]
        assert job["metric_relabel_configs"] == [{"target_label": "service_name", "replacement": name}]
    endpoint = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/<prometheus>/api/v1/remote_write"
    assert text["exporters"] == {
        "prometheusremotewrite": {"endpoint": endpoint, "auth": {"authenticator": "sigv4auth"}}
    }
    assert text["extensions"]["sigv4auth"] == {"region": "eu-west-1", "service": "aps"}
    assert text["service"] == {
        "extensions": ["sigv4auth", "ecs_observer"],
        "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["prometheusremotewrite"]}},
    }


def test_the_database_is_protected_from_deletion(found: Found):
    assert has(only(found["databases"]), deletionProtectionEnabled=True, status="ACTIVE")


@pytest.mark.parametrize(
    "name",
    ["temporal-dsql", "temporal-dsql-admin-tools", "temporal-dsql-runtime", "temporal-grafana", "temporal-benchmark"],
)
def test_each_repository_scans_never_overwrites_and_throws_old_leftovers_away(found: Found, name: str):
    row = found["repositories"][f"{name}-repository"]
    assert has(row, repositoryName=name, imageTagMutability="IMMUTABLE")
    assert row["imageScanningConfiguration"] == {"scanOnPush": True}
    (rule,) = row["lifecycle"]
    assert has(rule, action={"type": "expire"})
    assert rule["selection"] == {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 10}


def test_the_grafana_password_is_strong_and_known_to_the_secret_alone(provisioned: Project):
    answer = provisioned.client("secretsmanager").get_secret_value(SecretId="grafana/admin")
    secret = json.loads(answer["SecretString"])
    assert secret.keys() == {"admin_user", "admin_password"}
    assert secret["admin_user"] == "admin"
    password = secret["admin_password"]
    assert re.fullmatch("[A-Za-z0-9]{32}", password)
    assert re.search("[a-z]", password)
    assert re.search("[A-Z]", password)
    assert re.search("[0-9]", password)
    written = [path.read_text() for path in provisioned.folder.iterdir() if path.is_file()]
    assert len(written) >= 3  # the state, the one before it, the log of calls
    shown = [json.dumps(outputs(provisioned.config, provisioned.state)), repr(provisioned.events)]
    assert not [text for text in (*written, *shown) if password in text]


# -- task definitions --------------------------------------------------------------------------------------------

TEMPORAL_ENVIRONMENT = {
    "TEMPORAL_SQL_HOST": "<dsql>.dsql.eu-west-1.on.aws",
    "TEMPORAL_SQL_PORT": "5432",
    "TEMPORAL_SQL_USER": "admin",
    "TEMPORAL_SQL_DATABASE": "postgres",
    "TEMPORAL_SQL_PLUGIN": "dsql",
    "TEMPORAL_SQL_PLUGIN_NAME": "dsql",
    "TEMPORAL_SQL_TLS_ENABLED": "true",
    "TEMPORAL_SQL_IAM_AUTH": "true",
    "TEMPORAL_SQL_MAX_CONNS": "20",
    "TEMPORAL_SQL_MAX_IDLE_CONNS": "20",
    "TEMPORAL_SQL_CONNECTION_TIMEOUT": "30s",
    "TEMPORAL_SQL_MAX_CONN_LIFETIME": "55m",
    "TEMPORAL_ELASTICSEARCH_HOST": "<opensearch>",
    "TEMPORAL_ELASTICSEARCH_PORT": "443",
    "TEMPORAL_ELASTICSEARCH_SCHEME": "https",
    "TEMPORAL_ELASTICSEARCH_VERSION": "v8",
    "TEMPORAL_ELASTICSEARCH_INDEX": "temporal_visibility_v1_dev",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REGION": "eu-west-1",
    "TEMPORAL_SQL_AWS_REGION": "eu-west-1",
    "TEMPORAL_PERSISTENCE_TEMPLATE": "/etc/temporal/config/persistence-dsql-opensearch.template.yaml",
    "TEMPORAL_LOG_LEVEL": "info",
    "TEMPORAL_HISTORY_SHARDS": "4096",
    "PROMETHEUS_ENDPOINT": "0.0.0.0:9090",
}

# service: cpu, memory, gRPC port, DSQL connections a second and at once for one task.
# The budget of 100/s and 1,000 over weights of 15 for 4, 8 for 3, 5 for 2, 3 for 2 tasks and 15 for one more: 115.
SIZES = {
    "history": (2048, 8192, 7234, 13, 130),
    "matching": (1024, 4096, 7235, 6, 69),
    "frontend": (1024, 4096, 7233, 4, 43),
    "worker": (1024, 4096, 7239, 2, 26),
}
PROBES = {"history": "HistoryService", "matching": "MatchingService", "frontend": "WorkflowService"}


def definition(found: Found, title: str) -> tuple[Any, Any]:
    """A task definition and its one container, checked for what all nine have in common."""
    row = found["task-definitions"][f"{title}-task"]
    assert found["revisions"][f"temporal-dev-{title}"] == 1
    assert has(row, family=f"temporal-dev-{title}", networkMode="awsvpc", executionRoleArn=f"{ROLE}ecs-execution")
    assert has(row, runtimePlatform={"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}, volumes=[])
    assert has(row, placementConstraints=[], ephemeralStorage=None, proxyConfiguration=None)
    (container,) = row["containerDefinitions"]
    assert has(container, essential=True, cpu=0, memory=None, linuxParameters={"initProcessEnabled": True})
    assert has(container, mountPoints=[], volumesFrom=[], privileged=None, readonlyRootFilesystem=None, ulimits=None)
    assert container["logConfiguration"] == {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": f"/ecs/temporal-dev/{title}",
            "awslogs-region": "eu-west-1",
            "awslogs-stream-prefix": title,
        },
    }
    for port in container["portMappings"]:
        assert has(port, protocol="tcp", hostPort=port["containerPort"])
    return row, container


def ports(container: Any) -> list[tuple[int, str, str | None]]:
    return [(port["containerPort"], port["name"], port.get("appProtocol")) for port in container["portMappings"]]


@pytest.mark.parametrize("name", TEMPORAL)
def test_each_temporal_task_has_its_size_ports_variables_and_check(found: Found, name: str):
    cpu, memory, grpc, rate, burst = SIZES[name]
    row, container = definition(found, f"temporal-{name}")
    assert has(
        row, requiresCompatibilities=["EC2"], cpu=str(cpu), memory=str(memory), taskRoleArn=f"{ROLE}temporal-task"
    )
    assert has(container, name=f"temporal-{name}", image=f"{REGISTRY}/temporal-dsql-runtime:unpublished")
    assert has(container, command=None, entryPoint=None, secrets={}, stopTimeout=120, user=None)
    assert ports(container) == [
        (grpc, "grpc", "grpc"), (RINGPOP[name], "membership", None), (9090, "metrics", None),
    ]  # fmt: skip
    assert container["environment"] == {
        "SERVICES": name,
        "DSQL_CONNECTION_RATE_LIMIT": str(rate),
        "DSQL_CONNECTION_BURST_LIMIT": str(burst),
        **TEMPORAL_ENVIRONMENT,
    }
    assert len(container["environment"]) == 27
    probe = "nc -z localhost 6939"
    if name in PROBES:
        service = f"temporal.api.workflowservice.v1.{PROBES[name]}"
        probe = f"grpc_health_probe -addr=localhost:{grpc} -service={service}"
    assert container["healthCheck"] == {
        "command": ["CMD-SHELL", f"{probe} || exit 1"], "interval": 30, "timeout": 5, "retries": 3, "startPeriod": 60,
    }  # fmt: skip


def test_a_rolling_deployment_of_any_service_keeps_within_the_databases_connections():
    counts = {"history": 4, "matching": 3, "frontend": 2, "worker": 2}
    for limit, budget in ((3, 100), (4, 1000)):
        total = sum(counts[name] * SIZES[name][limit] for name in counts)
        assert total + max(SIZES[name][limit] for name in counts) <= budget


def web_check(path: str, start: int) -> dict[str, Any]:
    command = f"wget -nv --spider --tries=1 http://localhost:{path} || exit 1"
    return {"command": ["CMD-SHELL", command], "interval": 30, "timeout": 5, "retries": 3, "startPeriod": start}


def test_the_web_interface_asks_the_frontend(found: Found):
    row, container = definition(found, "temporal-ui")
    assert has(row, requiresCompatibilities=["EC2"], cpu="256", memory="512", taskRoleArn=f"{ROLE}temporal-ui-task")
    assert has(
        container, name="temporal-ui", image="temporalio/ui:2.43.3", secrets={}, healthCheck=web_check("8080", 30)
    )
    assert ports(container) == [(8080, "http", None)]
    assert container["environment"] == {
        "TEMPORAL_ADDRESS": "temporal-frontend:7233",
        "TEMPORAL_CORS_ORIGINS": "http://localhost:8080",
        "TEMPORAL_UI_PORT": "8080",
    }


def test_grafana_gets_its_administrator_from_the_secret(found: Found):
    row, container = definition(found, "grafana")
    assert has(row, requiresCompatibilities=["EC2"], cpu="256", memory="512", taskRoleArn=f"{ROLE}grafana-task")
    assert has(container, name="grafana", image=f"{REGISTRY}/temporal-grafana:unpublished")
    assert has(container, healthCheck=web_check("3000/api/health", 60))
    assert ports(container) == [(3000, "http", None)]
    assert container["environment"] == {
        "GF_SERVER_HTTP_PORT": "3000",
        "GF_AUTH_SIGV4_AUTH_ENABLED": "true",
        "AWS_SDK_LOAD_CONFIG": "true",
        "AMP_ENDPOINT": "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/<prometheus>/",
        "AWS_REGION": "eu-west-1",
        "GF_AUTH_ANONYMOUS_ENABLED": "false",
        "GF_LOG_MODE": "console",
        "GF_LOG_LEVEL": "info",
    }
    assert container["secrets"] == {
        "GF_SECURITY_ADMIN_USER": "<grafana-secret>:admin_user::",
        "GF_SECURITY_ADMIN_PASSWORD": "<grafana-secret>:admin_password::",
    }


def test_the_collector_reads_its_configuration_from_the_parameter(found: Found):
    row, container = definition(found, "adot")
    assert has(row, requiresCompatibilities=["EC2"], cpu="256", memory="512", taskRoleArn=f"{ROLE}adot-task")
    image = "public.ecr.aws/aws-observability/aws-otel-collector:v0.45.1"
    assert has(container, name="adot-collector", image=image, command=["--config", "env:AOT_CONFIG_CONTENT"])
    assert has(container, environment={"AWS_REGION": "eu-west-1"}, secrets={"AOT_CONFIG_CONTENT": COLLECTOR_CONFIG})
    assert has(container, portMappings=[], healthCheck=None)
    assert container["user"] == "0"  # else its ECS observer may not write down what it found


def test_the_benchmark_task_has_its_defaults(found: Found):
    row, container = definition(found, "benchmark")
    assert has(row, requiresCompatibilities=["EC2"], cpu="1024", memory="2048", taskRoleArn=f"{ROLE}benchmark-task")
    assert has(container, name="benchmark", image=f"{REGISTRY}/temporal-benchmark:unpublished", secrets={})
    assert has(container, healthCheck=None)
    assert ports(container) == [(9090, "metrics", None)]
    assert container["environment"] == {
        "TEMPORAL_ADDRESS": "temporal-frontend:7233",
        "BENCHMARK_NAMESPACE": "benchmark",
        "BENCHMARK_WORKFLOW_TYPE": "simple",
        "BENCHMARK_TARGET_RATE": "100",
        "BENCHMARK_DURATION": "5m",
        "BENCHMARK_RAMP_UP": "30s",
        "BENCHMARK_WORKER_COUNT": "4",
        "BENCHMARK_ITERATIONS": "1",
        "BENCHMARK_MAX_P99_LATENCY": "5s",
        "BENCHMARK_MIN_THROUGHPUT": "50",
    }


def test_the_search_set_up_waits_for_the_domain_and_stops_at_the_first_failure(found: Found):
    row, container = definition(found, "opensearch-setup")
    assert has(row, requiresCompatibilities=["FARGATE"], cpu="256", memory="512")
    assert has(row, taskRoleArn=f"{ROLE}opensearch-setup-task")
    assert has(container, name="opensearch-setup", image=f"{REGISTRY}/temporal-dsql-admin-tools:unpublished")
    assert has(container, portMappings=[], secrets={}, healthCheck=None)
    assert container["environment"] == {
        "AWS_REGION": "eu-west-1",
        "OPENSEARCH_HOST": "<opensearch>",
        "VISIBILITY_INDEX": "temporal_visibility_v1_dev",
    }
    shell, option, script = container["command"]
    assert (shell, option) == ("/bin/sh", "-c")
    assert script.startswith("set -eu\n")
    tool = 'temporal-elasticsearch-tool --ep "https://$OPENSEARCH_HOST:443" --aws-credentials aws-sdk-default --tls'
    steps = [line.strip().removeprefix("until ") for line in script.splitlines() if tool in line]
    assert steps == [f"{tool} ping; do", f"{tool} setup-schema", f'{tool} create-index --index "$VISIBILITY_INDEX"']
    assert "-lt 30" in script
    assert "sleep 10" in script


# -- services ----------------------------------------------------------------------------------------------------

ZONES = {"type": "spread", "field": "attribute:ecs.availability-zone"}
INSTANCES = {"type": "spread", "field": "instanceId"}


def published(name: str, port: int | None) -> list[dict[str, Any]]:
    metrics = f"temporal-{name}-metrics"
    endpoints = [
        {
            "portName": "metrics",
            "discoveryName": metrics,
            "clientAliases": [{"port": 9090, "dnsName": metrics}],
        }
    ]
    if port is not None:  # 0: no limit, else Service Connect cuts Temporal's long polls after 15 s
        endpoints.insert(
            0,
            {
                "portName": "grpc",
                "discoveryName": f"temporal-{name}",
                "clientAliases": [{"port": port, "dnsName": f"temporal-{name}"}],
                "timeout": {"perRequestTimeoutSeconds": 0},
            },
        )
    return endpoints


CONNECTED: dict[str, Any] = {
    "temporal-history": published("history", 7234),
    "temporal-matching": published("matching", 7235),
    "temporal-frontend": published("frontend", 7233),
    "temporal-worker": published("worker", None),
    "temporal-ui": [],
    "adot": [],
}
# One more task at a time: 4, 3, 2, 2 tasks, and one of each of the others.
MAXIMUM = {"temporal-history": 125, "temporal-matching": 134, "temporal-frontend": 150, "temporal-worker": 150}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_made_at_zero_with_its_network_placement_and_names(found: Found, name: str):
    row = found["services"][f"{name}-service"]
    assert has(row, serviceName=f"temporal-dev-{name}", taskDefinition=f"<{name}-task>", desiredCount=0)
    assert has(row, schedulingStrategy="REPLICA", launchType=None, enableExecuteCommand=True, status="ACTIVE")
    assert has(row, capacityProviderStrategy=[{"capacityProvider": "temporal-dev-ec2", "base": 1, "weight": 100}])
    assert has(row, placementStrategy=[ZONES, INSTANCES] if name in MAXIMUM else [ZONES], placementConstraints=[])
    assert has(row, availabilityZoneRebalancing="DISABLED", loadBalancers=[], serviceRegistries=[])
    assert has(row, enableECSManagedTags=False, propagateTags="NONE", healthCheckGracePeriodSeconds=0)
    network = row["networkConfiguration"]["awsvpcConfiguration"]
    assert has(network, securityGroups=[f"<{name}-sg>"], assignPublicIp="DISABLED")
    assert sorted(network["subnets"]) == ["<private-0>", "<private-1>"]
    deployment = row["deploymentConfiguration"]
    assert has(deployment, minimumHealthyPercent=100, maximumPercent=MAXIMUM.get(name, 200))
    assert deployment["deploymentCircuitBreaker"]["enable"] is False
    if name == "grafana":
        assert row["service_connect"] == {}
    else:
        services = {"services": CONNECTED[name]} if CONNECTED[name] else {}
        assert row["service_connect"] == {"enabled": True, "namespace": NAMESPACE, **services}


def test_the_names_and_the_account_are_those_of_the_test(provisioned: Project):
    assert (provisioned.config.project, provisioned.config.region) == (PROJECT, REGION)
    assert provisioned.aws.account == ACCOUNT
