"""Changing a service."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.aws.ecs import deployments, scheduler
from temporal_ecs.sandbox.aws.ecs.services import _shown, connect, existing
from temporal_ecs.sandbox.aws.ecs.state import Service, Tagged, ecs
from temporal_ecs.sandbox.world import Fault, Request, operation

_NOT_MEMBERS = ("cluster", "service", "forceNewDeployment")


@operation("ecs", "UpdateService")
def update_service(request: Request) -> dict[str, Any]:
    """Changes what is given. A new deployment starts where new tasks would differ, or where it is forced."""
    cluster = ecs(request).cluster(request.params.get("cluster"))
    service = existing(cluster, request.params["service"])
    if service.status != "ACTIVE":
        raise Fault("ServiceNotActiveException", "Service was not ACTIVE.")
    changes: dict[str, Any] = {name: value for name, value in request.params.items() if name not in _NOT_MEMBERS}
    reference = str(changes.get("taskDefinition") or service.data["taskDefinition"])
    definition = deployments.definition_of(request, reference)
    if "taskDefinition" in changes:
        changes["taskDefinition"] = definition.data["taskDefinitionArn"]
    if "deploymentConfiguration" in changes:
        changes["deploymentConfiguration"] = {
            **service.data["deploymentConfiguration"], **changes["deploymentConfiguration"],
        }  # fmt: skip
    wanted = {**service.data, **changes}
    deployments.check(request, cluster, wanted, definition)
    _refuse_new_protocol(service, wanted, definition)
    if (
        changes.get("capacityProviderStrategy")
        and service.data.get("capacityProviderStrategy")
        and changes["capacityProviderStrategy"] != service.data["capacityProviderStrategy"]
        and not request.params.get("forceNewDeployment")
    ):
        raise deployments.refuse(
            "When switching from launch type to capacity provider strategy on an existing service, or making a change "
            "to a capacity provider strategy on a service that is already using one, you must force a new deployment."
        )
    due = deployments.needs_deployment(
        service.data, changes | {"forceNewDeployment": request.params.get("forceNewDeployment")}
    )
    service.data.update(deployments.with_defaults(wanted))
    if changes.get("capacityProviderStrategy"):
        service.data.pop("launchType", None)
    if due:
        resources = connect(request, cluster, service)
        deployments.deploy(service, resources)
    service.failures = 0  # an update takes the brake off
    scheduler.schedule(request, cluster)
    return {"service": _shown(service, tags=True)}


def _refuse_new_protocol(service: Service, wanted: dict[str, Any], definition: Tagged) -> None:
    """PortMapping `appProtocol`: once a Service Connect service has it, it can't be changed."""
    new = deployments.port_protocols(definition)
    for endpoint in (wanted.get("serviceConnectConfiguration") or {}).get("services", ()):
        port = endpoint["portName"]
        if port in service.app_protocols and service.app_protocols[port] != new.get(port):
            raise deployments.refuse(
                f"The appProtocol of port {port} can't be changed from {service.app_protocols[port]} "
                f"to {new.get(port)} in an existing Service Connect service."
            )
    service.app_protocols = {**new, **service.app_protocols}
