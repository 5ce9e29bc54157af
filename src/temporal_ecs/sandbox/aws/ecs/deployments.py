"""What a service's members must fulfil, the defaults that AWS shows, and deployments."""

from __future__ import annotations

from moto.moto_api._internal import mock_random

from temporal_ecs.sandbox.aws import cloudmap
from temporal_ecs.sandbox.aws.ecs.state import Cluster, Data, Service, Tagged, ecs
from temporal_ecs.sandbox.world import Fault, Request, moment, uuid

_BREAKER = {
    "enable": False,
    "rollback": False,
    "resetOnHealthyTask": True,
    "thresholdConfiguration": {"type": "BOUNDED_PERCENT", "value": 50},
}
_DEPLOYED = ("capacityProviderStrategy", "launchType", "networkConfiguration", "platformVersion",
             "serviceConnectConfiguration", "volumeConfigurations")  # fmt: skip
"""Members of a service that its deployments carry too; changing one of them starts a deployment."""

_UPPER_FIELDS = {
    "cpu",
    "memory",
}  # DescribeServices gives these fields of a placement strategy back in capitals


def refuse(message: str) -> Fault:
    """The code that ECS uses for nearly everything that is wrong with a service."""
    return Fault("InvalidParameterException", message)


def check(request: Request, cluster: Cluster, data: Data, definition: Tagged) -> None:
    """What a service names must exist, and must fit its task definition."""
    for item in data.get("capacityProviderStrategy") or ():
        if item["capacityProvider"] not in cluster.data["capacityProviders"]:
            raise refuse(
                f"The specified capacity provider {item['capacityProvider']} was not found. "
                "Specify a valid name or ARN and try again."
            )
    network = (data.get("networkConfiguration") or {}).get("awsvpcConfiguration")
    awsvpc = definition.data.get("networkMode") == "awsvpc"
    if awsvpc and not network:
        raise refuse("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    if network and not awsvpc:
        raise refuse("Network Configuration is not valid for the given networkMode of this task definition.")
    if network:
        _check_network(request, network)
    connect = data.get("serviceConnectConfiguration") or {}
    if connect.get("enabled"):
        _check_connect(request, cluster, connect, definition)


def _check_network(request: Request, network: Data) -> None:
    ec2 = request.backend("ec2")
    for subnet in network["subnets"]:
        if not any(subnet in zone for zone in ec2.subnets.values()):
            raise refuse(f"The subnet ID '{subnet}' does not exist")
    vpc = ec2.get_subnet(network["subnets"][0]).vpc_id
    if not network.get("securityGroups"):
        network["securityGroups"] = [ec2.get_default_security_group(vpc).id]
    for group in network["securityGroups"]:
        found = ec2.get_security_group_from_id(group)
        if found is None:
            raise refuse(f"The security group '{group}' does not exist")
        if found.vpc_id != vpc:
            raise refuse("The security groups must belong to the VPC of the subnets.")
    network.setdefault("assignPublicIp", "DISABLED")


def _check_connect(request: Request, cluster: Cluster, connect: Data, definition: Tagged) -> None:
    if definition.data.get("networkMode") not in ("awsvpc", "bridge"):
        raise refuse("Service Connect needs the network mode awsvpc or bridge.")
    namespace(request, cluster, connect)
    ports = port_protocols(definition)
    for service in connect.get("services", ()):
        if service["portName"] not in ports:
            port = service["portName"]
            raise refuse(f"portName({port}) does not refer to any named PortMapping in the task definition.")


def namespace(request: Request, cluster: Cluster, connect: Data) -> cloudmap.Namespace:
    """The namespace of a Service Connect configuration, or the cluster's default."""
    wanted = connect.get("namespace") or (cluster.data["serviceConnectDefaults"] or {}).get("namespace")
    if not wanted:
        raise refuse("Service Connect namespace is required, as the cluster has no default.")
    if found := cloudmap.find_namespace(request, wanted):
        return found
    raise Fault("NamespaceNotFoundException", f"The namespace {wanted} was not found.")


def port_protocols(definition: Tagged) -> dict[str, str | None]:
    """The application protocol of each named port."""
    return {
        port["name"]: port.get("appProtocol")
        for container in definition.data["containerDefinitions"]
        for port in container["portMappings"]
        if "name" in port
    }


def with_defaults(data: Data) -> Data:
    """A service's members with everything that DescribeServices shows unasked."""
    configuration = data.get("deploymentConfiguration") or {}
    return {
        "healthCheckGracePeriodSeconds": 0,
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "enableECSManagedTags": False,
        "enableExecuteCommand": False,
        "propagateTags": "NONE",
        "availabilityZoneRebalancing": "ENABLED",  # on creation, where nothing is said
        "loadBalancers": [],
        "serviceRegistries": [],
        "placementConstraints": [],
        **data,
        "placementStrategy": [_strategy(one) for one in data.get("placementStrategy") or ()],
        "deploymentConfiguration": {
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
            "strategy": "ROLLING",
            "bakeTimeInMinutes": 0,
            "alarms": {"alarmNames": [], "rollback": False, "enable": False},
            **configuration,
            "deploymentCircuitBreaker": {**_BREAKER, **configuration.get("deploymentCircuitBreaker", {})},
        },
    }


def _strategy(one: dict[str, str]) -> dict[str, str]:
    place = one.get("field")
    return {**one, "field": place.upper()} if place in _UPPER_FIELDS else one


def needs_deployment(old: Data, changes: Data) -> bool:
    """Whether an update starts a deployment: new tasks would differ, or it is forced."""
    members = (*_DEPLOYED, "taskDefinition")
    different = any(name in changes and changes[name] != old.get(name) for name in members)
    return different or bool(changes.get("forceNewDeployment"))


def deploy(service: Service, resources: list[Data]) -> None:
    """Put a new primary deployment before the others."""
    data = service.data
    for deployment in data["deployments"]:
        deployment["status"] = "ACTIVE"
    data["deployments"].insert(0, {
        "id": f"ecs-svc/{mock_random.randint(10**18, 10**19 - 1)}",
        "status": "PRIMARY",
        "taskDefinition": data["taskDefinition"],
        "desiredCount": data["desiredCount"],
        "runningCount": 0, "pendingCount": 0, "failedTasks": 0,
        "createdAt": moment(), "updatedAt": moment(),
        "rolloutState": "IN_PROGRESS",
        "serviceConnectResources": resources,
        **{name: data[name] for name in _DEPLOYED if data.get(name) is not None},
    })  # fmt: skip
    service.primary["rolloutStateReason"] = f"ECS deployment {service.primary['id']} in progress."


def event(service: Service, message: str) -> None:
    """A line in the service's events, newest first; AWS keeps a hundred."""
    service.data["events"].insert(0, {"id": uuid(), "createdAt": moment(), "message": message})
    del service.data["events"][100:]


def definition_of(request: Request, reference: str) -> Tagged:
    """The active task definition that a service is to run."""
    found = ecs(request).definition(reference)
    if not found:
        raise Fault("ClientException", "TaskDefinition not found.")
    if found.data["status"] != "ACTIVE":
        raise Fault("ClientException", "TaskDefinition is inactive")
    return found
