"""Services: creating, finding and deleting them."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.aws import cloudmap
from temporal_ecs.sandbox.aws.ecs import deployments, scheduler
from temporal_ecs.sandbox.aws.ecs.state import Cluster, Service, ecs, missing, name_of
from temporal_ecs.sandbox.world import Fault, Request, moment, operation, page

_NOT_SHOWN = ("cluster", "clientToken", "tags", "serviceConnectConfiguration", "role", "forceNewDeployment")


@operation("ecs", "CreateService")
def create_service(request: Request) -> dict[str, Any]:
    """A name is free once its service is INACTIVE. A known client token gives back what it made."""
    params = request.params
    cluster = ecs(request).cluster(params.get("cluster"))
    name = params["serviceName"]
    existing = cluster.services.get(name)
    if existing and existing.status == "DRAINING":
        raise deployments.refuse("Unable to Start a service that is still Draining.")
    if existing and existing.status == "ACTIVE":
        if params.get("clientToken") and params["clientToken"] == existing.token:
            return {"service": _shown(existing, tags=True)}
        raise deployments.refuse("Creation of service was not idempotent.")
    definition = deployments.definition_of(request, params["taskDefinition"])
    deployments.check(request, cluster, params, definition)
    data = deployments.with_defaults({
        **params,
        "serviceArn": request.arn("ecs", f"service/{cluster.name}/{name}"),
        "clusterArn": cluster.data["clusterArn"],
        "status": "ACTIVE",
        "taskDefinition": definition.data["taskDefinitionArn"],
        "desiredCount": params.get("desiredCount", 1),
        "runningCount": 0, "pendingCount": 0,
        "deployments": [], "events": [],
        "createdAt": moment(),
        "createdBy": request.arn("iam", "root", region=""),
        "roleArn": request.arn("iam", "role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS", region=""),
    })  # fmt: skip
    if not data.get("capacityProviderStrategy") and not data.get("launchType"):
        default = cluster.data["defaultCapacityProviderStrategy"]
        data |= {"capacityProviderStrategy": default} if default else {"launchType": "EC2"}
    service = Service(data, params.get("clientToken"), params.get("tags", []))
    service.app_protocols = deployments.port_protocols(definition)
    resources = connect(request, cluster, service)
    cluster.services[name] = service
    deployments.deploy(service, resources)
    scheduler.schedule(request, cluster)
    return {"service": _shown(service, tags=True)}


@operation("ecs", "DescribeServices")
def describe_services(request: Request) -> dict[str, Any]:
    """Also draining and deleted ones; at most ten."""
    cluster = ecs(request).cluster(request.params.get("cluster"))
    tags = "TAGS" in request.params.get("include", ())
    found, failures = [], []
    for reference in request.params["services"]:
        if service := cluster.services.get(name_of(reference)):
            found.append(_shown(service, tags=tags))
        else:
            failures.append(missing(request, f"service/{cluster.name}", reference))
    return {"services": found, "failures": failures}


@operation("ecs", "ListServices")
def list_services(request: Request) -> dict[str, Any]:
    """Active ones only, ten to a page unless more are asked for."""
    cluster, params = ecs(request).cluster(request.params.get("cluster")), request.params
    arns = [
        service.data["serviceArn"]
        for service in cluster.active_services()
        if params.get("launchType") in (None, service.data.get("launchType"))
        and params.get("schedulingStrategy") in (None, service.data["schedulingStrategy"])
    ]
    shown, token = page(arns, params, "maxResults", "nextToken", 10)
    return {"serviceArns": shown, "nextToken": token}


@operation("ecs", "ListServicesByNamespace")
def list_services_by_namespace(request: Request) -> dict[str, Any]:
    """The services whose Service Connect configuration names the namespace."""
    namespace = cloudmap.find_namespace(request, request.params["namespace"])
    if not namespace:
        raise Fault("NamespaceNotFoundException", "The specified namespace was not found.")
    arns = [
        service.data["serviceArn"]
        for cluster in ecs(request).clusters.values()
        for service in cluster.active_services()
        if (settings := service.data.get("serviceConnectConfiguration"))
        and settings.get("enabled")
        and deployments.namespace(request, cluster, settings) is namespace
    ]
    shown, token = page(arns, request.params, "maxResults", "nextToken", 10)
    return {"serviceArns": shown, "nextToken": token}


@operation("ecs", "DeleteService")
def delete_service(request: Request) -> dict[str, Any]:
    """ACTIVE → DRAINING → INACTIVE. What Service Connect made in Cloud Map goes some minutes later."""
    cluster = ecs(request).cluster(request.params.get("cluster"))
    service = existing(cluster, request.params["service"])
    if service.status != "ACTIVE":
        raise Fault("ServiceNotActiveException", "Service was not ACTIVE.")
    if service.data["desiredCount"] and not request.params.get("force"):
        raise deployments.refuse("The service cannot be stopped while it is scaled above 0.")
    service.data |= {"status": "DRAINING", "desiredCount": 0}
    scheduler.schedule(request, cluster)
    answer = _shown(service, tags=True)
    request.after("ecs service drain", lambda: finish_draining(request, cluster, service))
    request.after("service connect clean-up", lambda: _disconnect(request, service))
    return {"service": answer}


def finish_draining(request: Request, cluster: Cluster, service: Service) -> None:
    """The service is gone once its tasks are: its name is free, and DescribeServices still shows it."""
    if scheduler.of(cluster, service):
        request.after("ecs service drain", lambda: finish_draining(request, cluster, service))
        return
    service.data |= {"status": "INACTIVE", "runningCount": 0, "pendingCount": 0, "deployments": []}


def _disconnect(request: Request, service: Service) -> None:
    for identifier in service.cloud_map:
        cloudmap.forget_service(request, identifier, service)


def existing(cluster: Cluster, reference: str) -> Service:
    """A service by name or ARN."""
    if service := cluster.services.get(name_of(reference)):
        return service
    raise Fault("ServiceNotFoundException", "Service not found.")


def connect(request: Request, cluster: Cluster, service: Service) -> list[dict[str, str]]:
    """Make the Cloud Map services of Service Connect's endpoints; answers as a deployment names them."""
    settings = service.data.get("serviceConnectConfiguration") or {}
    if not settings.get("enabled"):
        return []
    namespace, resources = deployments.namespace(request, cluster, settings), []
    for endpoint in settings.get("services", ()):
        name = endpoint.get("discoveryName", endpoint["portName"])
        made = cloudmap.find_service(request, namespace, name)
        if made is None:
            made = cloudmap.add_service(request, namespace, name, owner=service)
        elif isinstance(made.owner, Service) and made.owner.data["serviceArn"] == service.data["serviceArn"]:
            made.owner = service  # left over from the last service of this name
        else:
            raise deployments.refuse(f"discoveryName {name} is already used in namespace {namespace.arn}.")
        service.cloud_map.append(made.id)
        resources.append({"discoveryName": name, "discoveryArn": made.arn})
    return resources


def _shown(service: Service, *, tags: bool) -> dict[str, Any]:
    data = {name: value for name, value in service.data.items() if name not in _NOT_SHOWN}
    return data | ({"tags": service.tags} if tags else {})
