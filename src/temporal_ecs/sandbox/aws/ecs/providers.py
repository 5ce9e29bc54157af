"""Capacity providers on Auto Scaling groups."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.aws.autoscaling.state import Scaling
from temporal_ecs.sandbox.aws.ecs.state import Tagged, ecs, missing, name_of
from temporal_ecs.sandbox.world import Fault, Request, operation, page

_MANAGED_SCALING = {
    "status": "DISABLED", "targetCapacity": 100, "minimumScalingStepSize": 1, "maximumScalingStepSize": 10000,
    "instanceWarmupPeriod": 300,
}  # fmt: skip  # ManagedScaling: what unset members mean


@operation("ecs", "CreateCapacityProvider")
def create_capacity_provider(request: Request) -> dict[str, Any]:
    """One provider to a group, for as long as the provider lives."""
    state, params = ecs(request), request.params
    if "autoScalingGroupProvider" not in params:
        raise Fault("NotImplemented", "not in the sandbox: managed instances", 501)
    if state.provider(params["name"]):
        raise Fault(
            "ClientException",
            "The specified capacity provider already exists. To change the configuration of an existing "
            "capacity provider, update the capacity provider.",
        )
    group = params["autoScalingGroupProvider"]["autoScalingGroupArn"]
    if any(one.data["status"] == "ACTIVE" and _group(one) == group for one in state.providers.values()):
        raise Fault(
            "ClientException",
            "The specified Auto Scaling group ARN is already being used by another capacity provider. "
            "Specify a unique Auto Scaling group ARN and try again.",
        )
    data = {
        "capacityProviderArn": request.arn("ecs", f"capacity-provider/{params['name']}"),
        "name": params["name"],
        "status": "ACTIVE",
        "autoScalingGroupProvider": _completed(request, params["autoScalingGroupProvider"], {}),
        "updateStatus": "CREATE_COMPLETE",
        "type": "EC2_AUTOSCALING",
    }
    provider = state.providers[params["name"]] = Tagged(data, params.get("tags", []))
    return {"capacityProvider": data | {"tags": provider.tags}}


@operation("ecs", "UpdateCapacityProvider")
def update_capacity_provider(request: Request) -> dict[str, Any]:
    """Changes the members given; the group itself can't be changed."""
    provider = _existing(request, request.params["name"])
    old = provider.data["autoScalingGroupProvider"]
    new = _completed(request, request.params.get("autoScalingGroupProvider", {}), old)
    provider.data |= {"autoScalingGroupProvider": new, "updateStatus": "UPDATE_COMPLETE"}
    return {"capacityProvider": provider.data | {"tags": provider.tags}}


@operation("ecs", "DescribeCapacityProviders")
def describe_capacity_providers(request: Request) -> dict[str, Any]:
    """Without names all that exist, with AWS's own two. Deleted ones are found by name, as INACTIVE."""
    state, params = ecs(request), request.params
    fargate = {
        name: Tagged({
            "capacityProviderArn": request.arn("ecs", f"capacity-provider/{name}"),
            "name": name, "status": "ACTIVE", "type": name,
        })
        for name in ("FARGATE", "FARGATE_SPOT")
    }  # fmt: skip
    every = state.providers | fargate
    if names := params.get("capacityProviders"):
        found = [every[name_of(name)] for name in names if name_of(name) in every]
        failures = [missing(request, "capacity-provider", n) for n in names if name_of(n) not in every]
    else:
        found, failures = [one for one in every.values() if one.data["status"] == "ACTIVE"], []
    found, token = page(found, params, "maxResults", "nextToken", 100)
    tags = "TAGS" in params.get("include", ())
    shown = [one.data | ({"tags": one.tags} if tags else {}) for one in found]
    return {"capacityProviders": shown, "failures": failures, "nextToken": token}


@operation("ecs", "DeleteCapacityProvider")
def delete_capacity_provider(request: Request) -> dict[str, Any]:
    """While a cluster uses it the call succeeds, and the answer says DELETE_FAILED."""
    provider = _existing(request, request.params["capacityProvider"])
    users = [
        cluster.name
        for cluster in ecs(request).clusters.values()
        if cluster.active and provider.data["name"] in cluster.data["capacityProviders"]
    ]
    if users:
        provider.data |= {
            "updateStatus": "DELETE_FAILED",
            "updateStatusReason": "The capacity provider cannot be deleted because it is associated with cluster: "
            f"{', '.join(users)}. Remove the capacity provider from the cluster and try again.",
        }
        return {"capacityProvider": provider.data}
    provider.data["updateStatus"] = "DELETE_IN_PROGRESS"
    provider.data.pop("updateStatusReason", None)
    gone = {"status": "INACTIVE", "updateStatus": "DELETE_COMPLETE"}
    request.after("capacity provider delete", lambda: provider.data.update(gone))
    return {"capacityProvider": dict(provider.data)}


def _existing(request: Request, reference: str) -> Tagged:
    if provider := ecs(request).provider(reference):
        return provider
    raise Fault(
        "ClientException",
        "The specified capacity provider does not exist. Specify a valid name or ARN and try again.",
    )


def _group(provider: Tagged) -> str:
    return str(provider.data["autoScalingGroupProvider"]["autoScalingGroupArn"])


def _completed(request: Request, new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """The group's settings with ECS's defaults, checked against the group."""
    merged = {"managedTerminationProtection": "DISABLED", "managedDraining": "ENABLED", **old, **new}
    merged["managedScaling"] = {
        **_MANAGED_SCALING, **old.get("managedScaling", {}), **new.get("managedScaling", {}),
    }  # fmt: skip
    groups = {one.data["AutoScalingGroupARN"]: one for one in request.state(Scaling).groups.values()}
    group = groups.get(merged["autoScalingGroupArn"])
    if group is None:
        raise Fault(
            "ClientException",
            "The specified Auto Scaling group ARN is not valid. Specify a valid Auto Scaling group ARN and try again.",
        )
    if merged["managedTerminationProtection"] == "ENABLED":
        if merged["managedScaling"]["status"] != "ENABLED":
            raise Fault(
                "InvalidParameterException",
                "The managed termination protection setting for the capacity provider is invalid. To enable "
                "managed termination protection for a capacity provider, enable managed scaling.",
            )
        if not group.data["NewInstancesProtectedFromScaleIn"]:
            raise Fault(
                "InvalidParameterException",
                "The managed termination protection setting for the capacity provider is invalid. To enable "
                "managed termination protection for a capacity provider, the Auto Scaling group must have "
                "instance protection from scale in enabled.",
            )
    return merged
