"""Resource Groups Tagging API: everything of the stack that carries tags and still exists.

Not in it, as in AWS: IAM roles and profiles, and Auto Scaling groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moto.core.resource_tagging import iter_taggable_backends, make_tag_matcher, match_resource_type

from temporal_ecs.sandbox.aws.amp import Amp
from temporal_ecs.sandbox.aws.cloudmap import CloudMap
from temporal_ecs.sandbox.aws.dsql import Dsql
from temporal_ecs.sandbox.aws.ecs.state import Ecs
from temporal_ecs.sandbox.aws.opensearch import OpenSearch
from temporal_ecs.sandbox.world import Request, operation, page, tag_dict, tag_list

Resource = tuple[str, str, dict[str, str]]  # ARN, type, tags

_EC2_KINDS = {
    "vpc": "vpc", "subnet": "subnet", "igw": "internet-gateway", "eipalloc": "elastic-ip", "nat": "natgateway",
    "rtb": "route-table", "vpce": "vpc-endpoint", "sg": "security-group", "sgr": "security-group-rule",
    "lt": "launch-template", "i": "instance", "vol": "volume", "eni": "network-interface",
}  # fmt: skip
_OURS = ("ec2", "ecs", "es", "dsql", "aps", "servicediscovery", "autoscaling", "iam", "ecr")


@operation("resourcegroupstaggingapi", "GetResources")
def get_resources(request: Request) -> dict[str, Any]:
    """Filtered by tag, by type and by ARN."""
    params = request.params
    fits, kinds = make_tag_matcher(params.get("TagFilters")), params.get("ResourceTypeFilters")
    arns = params.get("ResourceARNList")
    rows = [
        {"ResourceARN": arn, "Tags": tag_list(tags)}
        for arn, kind, tags in _resources(request)
        if tags and fits(tags) and match_resource_type(kind, kinds) and (not arns or arn in arns)
    ]
    shown, token = page(rows, params, "ResourcesPerPage", "PaginationToken", 50)
    return {"ResourceTagMappingList": shown, "PaginationToken": token or ""}


@operation("resourcegroupstaggingapi", "GetTagKeys")
def get_tag_keys(request: Request) -> dict[str, Any]:
    """Every key in use."""
    return {
        "TagKeys": sorted({key for _, _, tags in _resources(request) for key in tags}),
        "PaginationToken": "",
    }


@operation("resourcegroupstaggingapi", "GetTagValues")
def get_tag_values(request: Request) -> dict[str, Any]:
    """Every value of one key."""
    key = request.params["Key"]
    values = sorted({tags[key] for _, _, tags in _resources(request) if key in tags})
    return {"TagValues": values, "PaginationToken": ""}


def _resources(request: Request) -> Iterator[Resource]:
    yield from _of_ec2(request)
    yield from _of_ecs(request)
    yield from _of_ours(request)
    for repository in request.backend("ecr").repositories.values():
        tags = request.backend("ecr").tagger.get_tag_dict_for_resource(repository.arn)
        yield repository.arn, "ecr:repository", tags
    for backend in iter_taggable_backends(request.account, request.region):
        for resource in backend.iter_tagged_resources():
            if resource.resource_type.split(":")[0] not in _OURS:
                yield resource.arn, resource.resource_type, resource.tags


def _of_ec2(request: Request) -> Iterator[Resource]:
    backend = request.backend("ec2")
    for identifier, tags in list(backend.tags.items()):
        kind = _EC2_KINDS.get(identifier.split("-")[0])
        if kind is None:
            continue
        if kind == "instance":
            instance = backend.get_instance_by_id(identifier)
            if instance is None or instance.state == "terminated":
                continue
        yield request.arn("ec2", f"{kind}/{identifier}"), f"ec2:{kind}", dict(tags)


def _of_ecs(request: Request) -> Iterator[Resource]:
    state = request.state(Ecs)
    for cluster in state.clusters.values():
        if cluster.active:
            yield cluster.data["clusterArn"], "ecs:cluster", tag_dict(cluster.tags)
        for service in cluster.services.values():
            if service.status != "INACTIVE":
                yield service.data["serviceArn"], "ecs:service", tag_dict(service.tags)
    for provider in state.providers.values():
        if provider.data["status"] == "ACTIVE":
            yield provider.data["capacityProviderArn"], "ecs:capacity-provider", tag_dict(provider.tags)
    for revisions in state.families.values():
        for one in revisions.values():
            if one.data["status"] == "ACTIVE":
                yield one.data["taskDefinitionArn"], "ecs:task-definition", tag_dict(one.tags)


def _of_ours(request: Request) -> Iterator[Resource]:
    for cluster in request.state(Dsql).clusters.values():
        yield cluster.data["arn"], "dsql:cluster", cluster.tags
    for workspace in request.state(Amp).workspaces.values():
        yield workspace.data["arn"], "aps:workspace", workspace.tags
    for domain in request.state(OpenSearch).domains.values():
        yield domain.data["ARN"], "es:domain", domain.tags
    for namespace in request.state(CloudMap).namespaces.values():
        yield namespace.arn, "servicediscovery:namespace", namespace.tags
    for service in request.state(CloudMap).services.values():
        yield service.arn, "servicediscovery:service", service.tags
