"""Clusters, and which capacity providers they use."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.aws import cloudmap, iam
from temporal_ecs.sandbox.aws.ecs import instances, scheduler
from temporal_ecs.sandbox.aws.ecs.state import Cluster, Ecs, ecs, missing, name_of
from temporal_ecs.sandbox.world import Fault, Request, hex_id, operation, page, uuid

_FARGATE = ("FARGATE", "FARGATE_SPOT")


@operation("ecs", "CreateCluster")
def create_cluster(request: Request) -> dict[str, Any]:
    """Idempotent by name: a second call answers with the first one's cluster and changes nothing."""
    state, params = ecs(request), request.params
    name = params.get("clusterName", "default")
    existing = state.clusters.get(name)
    if existing and existing.active:
        return {"cluster": _shown(existing, {"TAGS", "SETTINGS", "CONFIGURATIONS"})}
    _check_providers(state, params)
    data = {
        "clusterArn": request.arn("ecs", f"cluster/{name}"),
        "clusterName": name,
        "status": "ACTIVE",
        "settings": _settings(params.get("settings"), []),
        "capacityProviders": params.get("capacityProviders", []),
        "defaultCapacityProviderStrategy": params.get("defaultCapacityProviderStrategy", []),
        "configuration": params.get("configuration"),
        "serviceConnectDefaults": _namespace(request, params.get("serviceConnectDefaults")),
        "attachments": [],
    }
    # ECS makes its service-linked role in the background when an account's first cluster is created.
    iam.ensure_service_linked_role(request, "ecs.amazonaws.com")
    cluster = state.clusters[name] = Cluster(data, params.get("tags", []))
    return {"cluster": _shown(cluster, {"TAGS", "SETTINGS", "CONFIGURATIONS"})}


@operation("ecs", "DescribeClusters")
def describe_clusters(request: Request) -> dict[str, Any]:
    """Deleted clusters are still found, as INACTIVE. Members named by `include` are left out without it."""
    state, include = ecs(request), set(request.params.get("include", ()))
    found, failures = [], []
    for reference in request.params.get("clusters") or ["default"]:
        if cluster := state.clusters.get(name_of(reference)):
            found.append(_shown(cluster, include))
        else:
            failures.append(missing(request, "cluster", reference))
    return {"clusters": found, "failures": failures}


@operation("ecs", "ListClusters")
def list_clusters(request: Request) -> dict[str, Any]:
    """The active ones."""
    arns = [cluster.data["clusterArn"] for cluster in ecs(request).clusters.values() if cluster.active]
    shown, token = page(arns, request.params, "maxResults", "nextToken", 100)
    return {"clusterArns": shown, "nextToken": token}


@operation("ecs", "UpdateCluster", "UpdateClusterSettings")
def update_cluster(request: Request) -> dict[str, Any]:
    """Settings are merged by name; the configuration and the defaults are replaced."""
    cluster, params = ecs(request).cluster(request.params.get("cluster")), request.params
    if "settings" in params:
        cluster.data["settings"] = _settings(params["settings"], cluster.data["settings"])
    if "configuration" in params:
        cluster.data["configuration"] = params["configuration"]
    if "serviceConnectDefaults" in params:
        cluster.data["serviceConnectDefaults"] = _namespace(request, params["serviceConnectDefaults"])
    return {"cluster": _shown(cluster, {"TAGS", "SETTINGS", "CONFIGURATIONS"})}


@operation("ecs", "DeleteCluster")
def delete_cluster(request: Request) -> dict[str, Any]:
    """Refused while anything is in it, and while its capacity providers are still being changed."""
    cluster = ecs(request).cluster(request.params["cluster"])
    refusals = (
        (cluster.active_services(), "ClusterContainsServicesException", "Services are active."),
        (cluster.instances, "ClusterContainsContainerInstancesException",
         "Container Instances are active or draining."),
        (unfinished(cluster), "ClusterContainsTasksException", "Tasks are active."),
        (set(cluster.data["capacityProviders"]) - set(_FARGATE), "ClusterContainsCapacityProviderException",
         "Capacity Providers are associated."),
    )  # fmt: skip
    for contents, code, what in refusals:
        if contents:
            raise Fault(code, f"The Cluster cannot be deleted while {what}")
    _refuse_in_progress(cluster)
    cluster.data["status"] = "INACTIVE"
    return {"cluster": _shown(cluster, set())}


@operation("ecs", "PutClusterCapacityProviders")
def put_cluster_capacity_providers(request: Request) -> dict[str, Any]:
    """Replaces both lists. The attachments follow some seconds later; until then no further change is taken."""
    state, params = ecs(request), request.params
    cluster = state.cluster(params["cluster"])
    _refuse_in_progress(cluster)
    _check_providers(state, params)
    for provider in set(cluster.data["capacityProviders"]) - set(params["capacityProviders"]):
        if any(_uses(service.data, provider) for service in cluster.services.values()):
            raise Fault(
                "ResourceInUseException",
                f"The specified capacity provider is in use and cannot be removed: {provider}",
            )
    cluster.data |= {
        "capacityProviders": params["capacityProviders"],
        "defaultCapacityProviderStrategy": params["defaultCapacityProviderStrategy"],
        "attachments": [
            {
                "id": uuid(),
                "type": "as_policy",
                "status": "PRECREATED",
                "details": [
                    {"name": "capacityProviderName", "value": name},
                    {"name": "scalingPolicyName", "value": f"ECSManagedAutoScalingPolicy-{hex_id(8)}"},
                ],
            }
            for name in params["capacityProviders"]
            if name not in _FARGATE
        ],
        "attachmentsStatus": "UPDATE_IN_PROGRESS",
    }

    def attached() -> None:
        cluster.data["attachmentsStatus"] = "UPDATE_COMPLETE"
        for attachment in cluster.data["attachments"]:
            attachment["status"] = "CREATED"
        instances.associate(request, cluster)
        scheduler.schedule(request, cluster)

    request.after("capacity provider association", attached)
    return {"cluster": _shown(cluster, {"SETTINGS", "ATTACHMENTS", "TAGS"})}


def _shown(cluster: Cluster, include: set[str]) -> dict[str, Any]:
    data = dict(cluster.data)
    if "ATTACHMENTS" not in include:
        data.pop("attachments")
        data.pop("attachmentsStatus", None)
    if "CONFIGURATIONS" not in include:
        data.pop("configuration")
    running = [task for task in unfinished(cluster) if task.status == "RUNNING"]
    return data | {
        "settings": data["settings"] if "SETTINGS" in include else [],
        "tags": cluster.tags if "TAGS" in include else [],
        "statistics": [],
        "registeredContainerInstancesCount": len(cluster.instances),
        "activeServicesCount": len(cluster.active_services()),
        "runningTasksCount": len(running),
        "pendingTasksCount": len(unfinished(cluster)) - len(running),
    }


def unfinished(cluster: Cluster) -> list[Any]:
    """Its tasks that have not stopped."""
    return [task for task in cluster.tasks.values() if task.status != "STOPPED"]


def _settings(new: list[dict[str, str]] | None, old: list[dict[str, str]]) -> list[dict[str, str]]:
    """Container Insights is off where nobody says anything, and is always shown."""
    merged = {"containerInsights": "disabled"}
    merged |= {one["name"]: one["value"] for one in [*old, *(new or ())]}
    return [{"name": name, "value": value} for name, value in merged.items()]


def _namespace(request: Request, defaults: dict[str, str] | None) -> dict[str, str] | None:
    """The default namespace by its ARN; an empty one takes the default away."""
    if not defaults or not defaults["namespace"]:
        return None
    if found := cloudmap.find_namespace(request, defaults["namespace"]):
        return {"namespace": found.arn}
    raise Fault("NamespaceNotFoundException", f"The namespace {defaults['namespace']} was not found.")


def _check_providers(state: Ecs, params: dict[str, Any]) -> None:
    names = params.get("capacityProviders", [])
    used = [item["capacityProvider"] for item in params.get("defaultCapacityProviderStrategy", [])]
    for name in names:
        if name not in _FARGATE and not state.provider(name):
            raise Fault(
                "InvalidParameterException",
                "The specified capacity provider was not found. Specify a valid name or ARN and try again.",
            )
    if not set(used) <= set(names):
        raise Fault(
            "InvalidParameterException",
            "The default capacity provider strategy can contain only the cluster's capacity providers.",
        )


def _refuse_in_progress(cluster: Cluster) -> None:
    if cluster.data.get("attachmentsStatus") == "UPDATE_IN_PROGRESS":
        raise Fault(
            "UpdateInProgressException",
            "The specified cluster is in a busy state. Cluster attachments must be in UPDATE_COMPLETE or "
            "UPDATE_FAILED state before they can be updated.",
        )


def _uses(service: dict[str, Any], provider: str) -> bool:
    strategy = service.get("capacityProviderStrategy") or ()
    return service["status"] != "INACTIVE" and any(item["capacityProvider"] == provider for item in strategy)
