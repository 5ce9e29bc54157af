"""AWS Cloud Map: HTTP namespaces and the services in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from temporal_ecs.sandbox.world import (
    Fault,
    Request,
    hex_id,
    moment,
    operation,
    page,
    tag_dict,
    tag_list,
)


@dataclass
class Namespace:
    """A namespace. It is listed once the operation that makes it has succeeded."""

    id: str
    arn: str
    name: str
    token: str
    description: str = ""
    created: datetime = field(default_factory=moment)
    tags: dict[str, str] = field(default_factory=dict)
    listed: bool = False


@dataclass
class Service:
    """A service in a namespace; `owner` is the ECS service that Service Connect made it for, if any."""

    id: str
    arn: str
    name: str
    namespace: Namespace
    owner: object = None
    data: dict[str, Any] = field(default_factory=dict)
    created: datetime = field(default_factory=moment)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class CloudMap:
    """Cloud Map in one region."""

    namespaces: dict[str, Namespace] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)


def find_namespace(request: Request, reference: str) -> Namespace | None:
    """A namespace by id, ARN or name."""
    every = request.state(CloudMap).namespaces.values()
    return next((one for one in every if one.listed and reference in (one.id, one.arn, one.name)), None)


def find_service(request: Request, namespace: Namespace, name: str) -> Service | None:
    """A service by name; names are unique in their namespace."""
    every = request.state(CloudMap).services.values()
    return next((one for one in every if one.namespace is namespace and one.name == name), None)


def add_service(request: Request, namespace: Namespace, name: str, owner: object = None) -> Service:
    """Make a service."""
    identifier = f"srv-{hex_id(16)}"
    service = Service(identifier, request.arn("servicediscovery", f"service/{identifier}"), name, namespace, owner)
    if owner:
        service.tags = {"AmazonECSManaged": "true"}
    request.state(CloudMap).services[identifier] = service
    return service


def forget_service(request: Request, identifier: str, owner: object) -> None:
    """Take away what Service Connect made for `owner`, unless a new ECS service has taken it over meanwhile."""
    services = request.state(CloudMap).services
    if identifier in services and services[identifier].owner is owner:
        del services[identifier]


@operation("servicediscovery", "CreateHttpNamespace")
def create_http_namespace(request: Request) -> dict[str, Any]:
    """Asynchronous; the namespace's id is the operation's target."""
    params, state = request.params, request.state(CloudMap)
    for other in state.namespaces.values():
        if other.name == params["Name"]:
            if other.token == params["CreatorRequestId"]:
                return {"OperationId": _started(request, "CREATE_NAMESPACE", other.id, lambda: None)}
            raise Fault("NamespaceAlreadyExists", f"A namespace with the name {params['Name']} already exists.")
    identifier = f"ns-{hex_id(16)}"
    namespace = state.namespaces[identifier] = Namespace(
        identifier,
        request.arn("servicediscovery", f"namespace/{identifier}"),
        params["Name"],
        params["CreatorRequestId"],
        params.get("Description", ""),
        tags=tag_dict(params.get("Tags")),
    )

    def done() -> None:
        namespace.listed = True

    return {"OperationId": _started(request, "CREATE_NAMESPACE", identifier, done)}


@operation("servicediscovery", "UpdateHttpNamespace")
def update_http_namespace(request: Request) -> dict[str, Any]:
    """The description only."""
    namespace = _namespace(request, request.params["Id"])
    namespace.description = request.params["Namespace"].get("Description", namespace.description)
    return {"OperationId": _started(request, "UPDATE_NAMESPACE", namespace.id, lambda: None)}


@operation("servicediscovery", "DeleteNamespace")
def delete_namespace(request: Request) -> dict[str, Any]:
    """Refused while services are in it; those of Service Connect go some minutes after the ECS service."""
    state = request.state(CloudMap)
    namespace = _namespace(request, request.params["Id"])
    if any(service.namespace is namespace for service in state.services.values()):
        raise Fault("ResourceInUse", "Namespace has associated services and cannot be deleted")

    def done() -> None:
        state.namespaces.pop(namespace.id, None)

    return {"OperationId": _started(request, "DELETE_NAMESPACE", namespace.id, done)}


@operation("servicediscovery", "GetNamespace")
def get_namespace(request: Request) -> dict[str, Any]:
    """One namespace."""
    return {"Namespace": _shown(request, _namespace(request, request.params["Id"]))}


@operation("servicediscovery", "ListNamespaces")
def list_namespaces(request: Request) -> dict[str, Any]:
    """Filtered by TYPE, NAME and HTTP_NAME."""
    shown = [_shown(request, one) for one in request.state(CloudMap).namespaces.values() if one.listed]
    for rule in request.params.get("Filters", ()):
        member = {"TYPE": "Type", "NAME": "Name", "HTTP_NAME": "Name"}.get(rule["Name"])
        if member:
            prefix = rule.get("Condition") == "BEGINS_WITH"
            values = rule["Values"]
            shown = [
                one for one in shown if (one[member].startswith(tuple(values)) if prefix else one[member] in values)
            ]
    shown, token = page(shown, request.params, "MaxResults", "NextToken", 100)
    return {"Namespaces": shown, "NextToken": token}


@operation("servicediscovery", "GetOperation")
def get_operation(request: Request) -> dict[str, Any]:
    """SUBMITTED, and SUCCESS a few seconds later."""
    found = request.state(CloudMap).operations.get(request.params["OperationId"])
    if not found:
        raise Fault("OperationNotFound", f"No operation with the ID {request.params['OperationId']}.")
    return {"Operation": found}


@operation("servicediscovery", "CreateService")
def create_service(request: Request) -> dict[str, Any]:
    """A service of one's own in a namespace."""
    params = request.params
    namespace = _namespace(request, params.get("NamespaceId", ""))
    if other := find_service(request, namespace, params["Name"]):
        if other.data.get("CreatorRequestId") == params.get("CreatorRequestId"):
            return {"Service": _shown_service(other)}
        raise Fault("ServiceAlreadyExists", f"Service already exists: {params['Name']}")
    service = add_service(request, namespace, params["Name"])
    service.data = {name: value for name, value in params.items() if name not in ("Tags", "Name")}
    service.tags = tag_dict(params.get("Tags"))
    return {"Service": _shown_service(service)}


@operation("servicediscovery", "GetService")
def get_service(request: Request) -> dict[str, Any]:
    """One service."""
    return {"Service": _shown_service(_service(request, request.params["Id"]))}


@operation("servicediscovery", "ListServices")
def list_services(request: Request) -> dict[str, Any]:
    """Filtered by NAMESPACE_ID."""
    services = list(request.state(CloudMap).services.values())
    for rule in request.params.get("Filters", ()):
        services = [one for one in services if one.namespace.id in rule["Values"]]
    shown, token = page(services, request.params, "MaxResults", "NextToken", 100)
    return {"Services": [_shown_service(one) for one in shown], "NextToken": token}


@operation("servicediscovery", "DeleteService")
def delete_service(request: Request) -> dict[str, Any]:
    """Instances aren't modelled, so that nothing stands in the way."""
    del request.state(CloudMap).services[_service(request, request.params["Id"]).id]
    return {}


@operation("servicediscovery", "TagResource", "UntagResource", "ListTagsForResource")
def tags(request: Request) -> dict[str, Any]:
    """Of namespaces and services."""
    state, params = request.state(CloudMap), request.params
    every: list[Namespace | Service] = [*state.namespaces.values(), *state.services.values()]
    thing = next((one for one in every if one.arn == params["ResourceARN"]), None)
    if thing is None:
        raise Fault("ResourceNotFoundException", f"The resource {params['ResourceARN']} was not found.")
    if request.operation == "ListTagsForResource":
        return {"Tags": tag_list(thing.tags)}
    thing.tags |= tag_dict(params.get("Tags"))
    for key in params.get("TagKeys", ()):
        thing.tags.pop(key, None)
    return {}


def _namespace(request: Request, reference: str) -> Namespace:
    if found := find_namespace(request, reference):
        return found
    raise Fault("NamespaceNotFound", f"No namespace with the ID {reference}.")


def _service(request: Request, reference: str) -> Service:
    for service in request.state(CloudMap).services.values():
        if reference in (service.id, service.arn):
            return service
    raise Fault("ServiceNotFound", f"No service with the ID {reference}.")


def _started(request: Request, kind: str, target: str, done: Any) -> str:
    identifier = f"{hex_id(32)}-{hex_id(8)}"
    record: dict[str, Any] = {
        "Id": identifier,
        "OwnerAccount": request.account,
        "Type": kind,
        "Status": "SUBMITTED",
        "CreateDate": moment(),
        "UpdateDate": moment(),
        "Targets": {"NAMESPACE": target},
    }
    request.state(CloudMap).operations[identifier] = record

    def finish() -> None:
        done()
        record.update(Status="SUCCESS", UpdateDate=moment())

    request.after("cloud map operation", finish)
    return identifier


def _shown(request: Request, one: Namespace) -> dict[str, Any]:
    inside = [service for service in request.state(CloudMap).services.values() if service.namespace is one]
    return {
        "Id": one.id,
        "Arn": one.arn,
        "ResourceOwner": request.account,
        "Name": one.name,
        "Type": "HTTP",
        "Description": one.description,
        "ServiceCount": len(inside),
        "Properties": {"DnsProperties": {"SOA": {}}, "HttpProperties": {"HttpName": one.name}},
        "CreateDate": one.created,
        "CreatorRequestId": one.token,
    }


def _shown_service(one: Service) -> dict[str, Any]:
    return {
        **one.data,
        "Id": one.id,
        "Arn": one.arn,
        "Name": one.name,
        "NamespaceId": one.namespace.id,
        "InstanceCount": 0,
        "Type": "HTTP",
        "CreateDate": one.created,
    }
