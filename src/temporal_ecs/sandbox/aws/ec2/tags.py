"""Tags of anything in EC2."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.core import TaggedEC2Resource

from temporal_ecs.sandbox.aws.ec2.common import ec2
from temporal_ecs.sandbox.world import Fault, Request, operation


def _get_tags(resource: Any) -> list[dict[str, str]]:
    """moto searches every tag of the account by regular expression, for each resource that it shows."""
    tags = resource.ec2_backend.tags.get(resource.id, {})
    return [{"key": key, "value": value, "resource_id": resource.id} for key, value in tags.items()]


TaggedEC2Resource.get_tags = _get_tags


@operation("ec2", "CreateTags")
def create_tags(request: Request) -> Any:
    """Everything tagged must exist; moto looks only at some kinds."""
    backend = ec2(request)
    for identifier in request.params["Resources"]:
        known: Any = {
            "nat": backend.nat_gateways,
            "vpce": backend.vpc_end_points,
            "eipalloc": {address.allocation_id for address in backend.addresses},
        }.get(identifier.split("-")[0])
        if known is not None and identifier not in known:
            raise Fault("InvalidID", f"The ID '{identifier}' is not valid")
    return request.moto()
