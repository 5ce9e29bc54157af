"""Aurora DSQL: clusters without names, in every region."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moto.moto_api._internal import mock_random

from temporal_ecs.sandbox.world import Fault, Request, moment, operation, page


@dataclass
class Cluster:
    """A cluster, with the token and the parameters that made it."""

    data: dict[str, Any]
    token: str
    asked: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)


class Dsql:
    """DSQL in one region."""

    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}


@operation("dsql", "CreateCluster")
def create_cluster(request: Request) -> dict[str, Any]:
    """A token that was used with other parameters is a conflict. Deletion protection is on unless refused."""
    clusters, params = request.state(Dsql).clusters, dict(request.params)
    token = params.pop("clientToken")
    for other in clusters.values():
        if other.token == token:
            if other.asked != params:
                raise Fault("ConflictException", "The client token was used with other parameters.", 409)
            return other.data
    identifier = "".join(mock_random.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(26))
    data = {
        "identifier": identifier,
        "arn": request.arn("dsql", f"cluster/{identifier}"),
        "status": "CREATING",
        "creationTime": moment(),
        "deletionProtectionEnabled": params.get("deletionProtectionEnabled", True),
        "encryptionDetails": {"encryptionType": "AWS_OWNED_KMS_KEY", "encryptionStatus": "ENABLED"},
        "endpoint": f"{identifier}.dsql.{request.region}.on.aws",
    }
    cluster = clusters[identifier] = Cluster(data, token, params, dict(params.get("tags", {})))

    def settle() -> None:
        if cluster.data["status"] == "CREATING":
            cluster.data["status"] = "ACTIVE"

    request.after("dsql create", settle)
    return dict(data)


@operation("dsql", "GetCluster")
def get_cluster(request: Request) -> dict[str, Any]:
    """With its tags."""
    cluster = _existing(request)
    return {**cluster.data, "tags": cluster.tags}


@operation("dsql", "ListClusters")
def list_clusters(request: Request) -> dict[str, Any]:
    """Identifiers and ARNs only."""
    rows = [
        {"identifier": one.data["identifier"], "arn": one.data["arn"]} for one in request.state(Dsql).clusters.values()
    ]
    shown, token = page(rows, request.params, "maxResults", "nextToken", 100)
    return {"clusters": shown, "nextToken": token}


@operation("dsql", "UpdateCluster")
def update_cluster(request: Request) -> dict[str, Any]:
    """Deletion protection changes at once."""
    cluster = _existing(request)
    if "deletionProtectionEnabled" in request.params:
        cluster.data["deletionProtectionEnabled"] = request.params["deletionProtectionEnabled"]
    return cluster.data


@operation("dsql", "DeleteCluster")
def delete_cluster(request: Request) -> dict[str, Any]:
    """Refused while deletion protection is on."""
    clusters, cluster = request.state(Dsql).clusters, _existing(request)
    if cluster.data["deletionProtectionEnabled"]:
        raise Fault(
            "ConflictException",
            f"Cluster {cluster.data['identifier']} has deletion protection enabled. Disable it and try again.",
            409,
        )
    cluster.data["status"] = "DELETING"

    def forget() -> None:
        clusters.pop(cluster.data["identifier"], None)

    request.after("dsql delete", forget)
    return dict(cluster.data)


@operation("dsql", "GetVpcEndpointServiceName")
def get_vpc_endpoint_service_name(request: Request) -> dict[str, Any]:
    """The connection endpoint's service, which is another than the management endpoint's."""
    cluster = _existing(request)
    suffix = cluster.data["identifier"][:4]
    return {
        "serviceName": f"com.amazonaws.{request.region}.dsql-{suffix}",
        "clusterVpcEndpoint": f"{cluster.data['identifier']}.dsql-{suffix}.{request.region}.on.aws",
    }


@operation("dsql", "TagResource", "UntagResource", "ListTagsForResource")
def tags(request: Request) -> dict[str, Any]:
    """By ARN."""
    arn = request.params["resourceArn"]
    for cluster in request.state(Dsql).clusters.values():
        if cluster.data["arn"] == arn:
            break
    else:
        raise Fault("ResourceNotFoundException", f"The resource with ARN {arn} doesn't exist.", 404)
    cluster.tags |= request.params.get("tags", {})
    for key in request.params.get("tagKeys", ()):
        cluster.tags.pop(key, None)
    return {"tags": cluster.tags} if request.operation == "ListTagsForResource" else {}


def _existing(request: Request) -> Cluster:
    identifier = request.params["identifier"]
    if found := request.state(Dsql).clusters.get(identifier):
        return found
    arn = request.arn("dsql", f"cluster/{identifier}")
    raise Fault("ResourceNotFoundException", f"The resource with ARN {arn} doesn't exist.", 404)
