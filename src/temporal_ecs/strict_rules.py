"""Rules that AWS documents and its service models don't hold, as one table.

Rules about what else exists (is that subnet there?) don't belong here: only AWS, or the sandbox, can answer those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from temporal_ecs.strict_terms import (
    Params,
    Rule,
    Wrong,
    at_most,
    each,
    matches,
    must,
    not_both,
    one_of,
    policy,
    refers,
    unique,
    within,
)

# ------------------------------------------------------------------------------------------------ ECS

_FARGATE_MEMORY = {
    256: {512, 1024, 2048}, 512: range(1024, 4097, 1024), 1024: range(2048, 8193, 1024),
    2048: range(4096, 16385, 1024), 4096: range(8192, 30721, 1024), 8192: range(16384, 61441, 4096),
    16384: range(32768, 122881, 8192),
}  # fmt: skip


def _task_size(params: Params) -> Iterator[Wrong]:
    """Task-level CPU and memory. RegisterTaskDefinition, members `cpu` and `memory`."""
    cpu, memory = params.get("cpu"), params.get("memory")
    if not all(size is None or str(size).isdigit() for size in (cpu, memory)):
        return  # "1 vCPU" and "2 GB" are legal too; AWS converts them
    if "FARGATE" in params.get("requiresCompatibilities", ()):
        if params.get("networkMode") != "awsvpc":
            yield "networkMode", "must be awsvpc for Fargate"
        if int(memory or 0) not in _FARGATE_MEMORY.get(int(cpu or 0), ()):
            yield "memory", f"Fargate has no size with cpu {cpu} and memory {memory}"
        return
    if cpu is not None and not 128 <= int(cpu) <= 196608:
        yield "cpu", f"must be from 128 to 196608 units, not {cpu}"
    for index, container in enumerate(params["containerDefinitions"]):
        if memory is None and not (container.get("memory") or container.get("memoryReservation")):
            yield f"containerDefinitions[{index}].memory", "is required when the task has none"


def _essential(params: Params) -> Iterator[Wrong]:
    """RegisterTaskDefinition, ContainerDefinition `essential`: all tasks must have at least one."""
    if not any(container.get("essential", True) for container in params["containerDefinitions"]):
        yield "containerDefinitions", "must hold an essential container"


def _one_source(params: Params) -> Iterator[Wrong]:
    """RegisterTaskDefinition: "The secret name must be unique and not shared with any new or existing environment
    variables"."""
    for index, container in enumerate(params["containerDefinitions"]):
        secrets = {pair["name"] for pair in container.get("secrets", ())}
        for shared in sorted(secrets & {pair.get("name", "") for pair in container.get("environment", ())}):
            yield f"containerDefinitions[{index}].environment", f"has {shared}, which is a secret too"


def _deployment(params: Params) -> Iterator[Wrong]:
    """CreateService: 100 and 100, or a maximum below the minimum, leave no room to replace a task."""
    configuration = params.get("deploymentConfiguration") or {}
    low, high = configuration.get("minimumHealthyPercent"), configuration.get("maximumPercent")
    if low is not None and high is not None and high <= low:
        yield (
            "deploymentConfiguration.maximumPercent",
            f"must be above minimumHealthyPercent {low}, not {high}",
        )


def _one_base(params: Params) -> Iterator[Wrong]:
    """CapacityProviderStrategyItem `base`: only one provider of a strategy may have one."""
    if sum(1 for _, base in each(params, "capacityProviderStrategy[].base") if base) > 1:
        yield "capacityProviderStrategy", "may hold one base only"


_ECS_NAME = r"[A-Za-z0-9_-]{1,255}"
_ECS_NAME_TEXT = "must be 1 to 255 letters, digits, hyphens and underscores"
_CONTAINERS = "containerDefinitions[]"
_AWSVPC = "networkConfiguration.awsvpcConfiguration"

_SERVICE: list[Rule] = [  # CreateService and UpdateService; DeploymentConfiguration, AwsVpcConfiguration
    within("desiredCount", 0, 100_000),
    within("healthCheckGracePeriodSeconds", 0, 2_147_483_647),
    _deployment, _one_base,
    at_most("placementStrategy", 5, "strategies"),
    at_most("placementConstraints", 10, "constraints"),
    at_most("capacityProviderStrategy", 20, "providers"),
    at_most(f"{_AWSVPC}.subnets", 16, "subnets"),
    at_most(f"{_AWSVPC}.securityGroups", 5, "groups"),
    at_most("serviceConnectConfiguration.services[].clientAliases", 1, "alias"),  # ServiceConnectService
    within("serviceConnectConfiguration.services[].clientAliases[].port", 1, 65535),
    within("serviceConnectConfiguration.services[].timeout.perRequestTimeoutSeconds", 0, 2_147_483_647),
    unique("serviceConnectConfiguration.services[].discoveryName", "discovery names"),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------ EC2

_GROUP_TEXT = "[a-zA-Z0-9. _\\-:/()#,@\\[\\]+=&;{}!$*]"  # API_CreateSecurityGroup, API_IpRange
_GROUP_TEXT_MEANING = "must be at most 255 of a-z A-Z 0-9 space and ._-:/()#,@[]+=&;{}!$*"
_PROTOCOL = r"(?i:-1|all|tcp|udp|icmp|icmpv6)|\d{1,2}|1\d\d|2[0-4]\d|25[0-5]"


def _ports(path: str) -> Rule:
    """IpPermission: a port range of TCP or UDP is complete, in order, and within 0 to 65535."""

    def rule(params: Params) -> Iterator[Wrong]:
        for at, permission in each(params, path):
            if str(permission.get("IpProtocol")).lower() in ("tcp", "udp", "6", "17"):
                low, high = permission.get("FromPort"), permission.get("ToPort")
                if low is None or high is None or not 0 <= low <= high <= 65535:
                    yield at, f"must have ports 0 ≤ FromPort ≤ ToPort ≤ 65535, not {low} to {high}"

    return rule


_PERMISSIONS: list[Rule] = [
    matches("IpPermissions[].IpProtocol", _PROTOCOL, "must be tcp, udp, icmp, icmpv6, -1 or a protocol number"),
    _ports("IpPermissions[]"),
    *(
        matches(f"IpPermissions[].{peers}[].Description", _GROUP_TEXT + "{0,255}", _GROUP_TEXT_MEANING)
        for peers in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds")
    ),
]
_TAGS: list[Rule] = [  # EC2 User Guide, tag restrictions
    rule
    for path in ("TagSpecifications[].Tags[]", "Tags[]")
    for rule in (
        matches(f"{path}.Key", r"(?s)(?!aws:).{1,128}", "must be 1 to 128 characters that don't start with aws:"),
        at_most(f"{path}.Value", 256, "characters"),
    )
]
_USER_DATA = 4 * -(-16 * 1024 // 3)  # 16 KB before base64, API_RequestLaunchTemplateData

# ---------------------------------------------------------------------------------------- the others


def _capacity(params: Params) -> Iterator[Wrong]:
    """CreateAutoScalingGroup: DesiredCapacity lies between MinSize and MaxSize."""
    low, high = params.get("MinSize"), params.get("MaxSize")
    desired = params.get("DesiredCapacity", low)
    if low is not None and high is not None and not low <= desired <= high:
        yield "DesiredCapacity", f"must be between min {low} and max {high}, not {desired}"


def _parameter_size(params: Params) -> Iterator[Wrong]:
    """PutParameter, member `Value`: 4 KB in the standard tier, 8 KB in the advanced one."""
    limit = {"Advanced": 8192, "Intelligent-Tiering": 8192}.get(params.get("Tier", "Standard"), 4096)
    if (size := len(params.get("Value", "").encode())) > limit:
        yield "Value", f"has {size} bytes, more than {limit}"


_HEALTH = "(EC2|ELB|EBS|VPC_LATTICE)"
_RETENTION = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)

RULES: Mapping[tuple[str, str], list[Rule]] = {
    ("ecs", "RegisterTaskDefinition"): [
        matches("family", _ECS_NAME, _ECS_NAME_TEXT),
        at_most("containerDefinitions", 10, "containers"),  # ECS service quotas
        must("containerDefinitions", bool, "must hold a container"),
        matches(f"{_CONTAINERS}.name", _ECS_NAME, _ECS_NAME_TEXT),
        unique(f"{_CONTAINERS}.name", "container names"),
        _essential, _one_source, _task_size,
        within(f"{_CONTAINERS}.memory", 4, 25_165_824),  # Docker's floor
        within(f"{_CONTAINERS}.healthCheck.interval", 5, 300),  # HealthCheck
        within(f"{_CONTAINERS}.healthCheck.timeout", 2, 120),
        within(f"{_CONTAINERS}.healthCheck.retries", 1, 10),
        within(f"{_CONTAINERS}.healthCheck.startPeriod", 0, 300),
        must(f"{_CONTAINERS}.healthCheck.command", lambda c: c[:1] in (["CMD"], ["CMD-SHELL"], ["NONE"]),
             "must start with CMD or CMD-SHELL"),
        within(f"{_CONTAINERS}.stopTimeout", 2, 120),
        within(f"{_CONTAINERS}.startTimeout", 2, 120),
        within(f"{_CONTAINERS}.portMappings[].containerPort", 1, 65535),
        within(f"{_CONTAINERS}.portMappings[].hostPort", 0, 65535),
        matches(f"{_CONTAINERS}.portMappings[].name", r"[a-z0-9_][a-z0-9_-]{0,63}",
                "must be at most 64 lower-case letters, digits, _ and -"),
        unique(f"{_CONTAINERS}.portMappings[].name", "port names"),
        refers(f"{_CONTAINERS}.mountPoints[].sourceVolume", "volumes[].name", "volume"),
        refers(f"{_CONTAINERS}.dependsOn[].containerName", f"{_CONTAINERS}.name", "container"),
    ],
    ("ecs", "CreateCluster"): [matches("clusterName", _ECS_NAME, _ECS_NAME_TEXT)],
    ("ecs", "CreateCapacityProvider"): [
        matches("name", rf"(?!(?i:aws|ecs|fargate)){_ECS_NAME}", f"{_ECS_NAME_TEXT}, not start with aws, ecs, fargate"),
    ],
    ("ecs", "CreateService"): [
        matches("serviceName", _ECS_NAME, _ECS_NAME_TEXT),
        matches("clientToken", "[!-~]{1,36}", "must be 1 to 36 printable ASCII characters"),
        not_both("launchType", "capacityProviderStrategy"),
        *_SERVICE,
    ],
    ("ecs", "UpdateService"): _SERVICE,
    ("ecs", "RunTask"): [
        within("count", 1, 10),
        matches("clientToken", "[!-~]{1,64}", "must be 1 to 64 printable ASCII characters"),
        not_both("launchType", "capacityProviderStrategy"),
        at_most("startedBy", 128, "characters"),
    ],
    ("ecs", "DescribeServices"): [at_most("services", 10, "services")],
    ("ecs", "DescribeTasks"): [at_most("tasks", 100, "tasks")],
    ("ecs", "DescribeClusters"): [at_most("clusters", 100, "clusters")],
    ("ecs", "DeleteTaskDefinitions"): [at_most("taskDefinitions", 10, "definitions")],
    ("ec2", "CreateSecurityGroup"): [
        matches("GroupName", f"(?!sg-)(?!default$){_GROUP_TEXT}{{1,255}}", f"{_GROUP_TEXT_MEANING}, not sg-…"),
        matches("Description", _GROUP_TEXT + "{1,255}", _GROUP_TEXT_MEANING),
    ],
    **{
        ("ec2", f"{verb}SecurityGroup{direction}"): _PERMISSIONS
        for verb in ("Authorize", "Revoke")
        for direction in ("Ingress", "Egress")
    },
    ("ec2", "ModifySecurityGroupRules"): [
        matches("SecurityGroupRules[].SecurityGroupRule.IpProtocol", _PROTOCOL, "must be a protocol name or number"),
        _ports("SecurityGroupRules[].SecurityGroupRule"),
        matches("SecurityGroupRules[].SecurityGroupRule.Description", _GROUP_TEXT + "{0,255}", _GROUP_TEXT_MEANING),
    ],
    **{
        ("ec2", operation): [at_most("LaunchTemplateData.UserData", _USER_DATA, "characters of base64 (16 KB)")]
        for operation in ("CreateLaunchTemplate", "CreateLaunchTemplateVersion")
    },
    ("ec2", "CreateVpcEndpoint"): [at_most("ClientToken", 64, "characters")],
    ("ec2", "CreateNatGateway"): [at_most("ClientToken", 64, "characters")],
    ("ec2", "*"): _TAGS,
    **{
        ("autoscaling", operation): [
            _capacity,
            matches("HealthCheckType", f"{_HEALTH}(,{_HEALTH})*", "must name known health checks"),
        ]
        for operation in ("CreateAutoScalingGroup", "UpdateAutoScalingGroup")
    },
    ("iam", "CreateRole"): [policy("AssumeRolePolicyDocument")],
    ("iam", "UpdateAssumeRolePolicy"): [policy("PolicyDocument")],
    ("iam", "PutRolePolicy"): [policy("PolicyDocument", limit=10_240)],  # IAM quotas: all inline policies of a role
    ("logs", "PutRetentionPolicy"): [one_of("retentionInDays", _RETENTION)],
    ("ssm", "PutParameter"): [_parameter_size, not_both("Overwrite", "Tags")],
    ("opensearch", "CreateDomain"): [policy("AccessPolicies")],
    ("opensearch", "UpdateDomainConfig"): [policy("AccessPolicies")],
    ("servicediscovery", "CreateHttpNamespace"): [
        matches("Name", "[!-~]{1,1024}", "must be 1 to 1024 printable characters without a space"),
    ],
}  # fmt: skip
"""What a request must fulfil, by (service, operation); `*` stands for every operation of a service."""
