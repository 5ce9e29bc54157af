"""What Auto Scaling knows in one region."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from temporal_ecs.sandbox.world import Fault, Request


@dataclass
class Group:
    """A group: AWS's members in `data`, instances as AWS shows them, tags as they were given."""

    data: dict[str, Any]
    instances: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[str, dict[str, Any]] = field(default_factory=dict)
    activities: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.data["AutoScalingGroupName"])

    @property
    def subnets(self) -> list[str]:
        """Where its instances may stand."""
        return [subnet for subnet in self.data.get("VPCZoneIdentifier", "").split(",") if subnet]

    def staying(self) -> list[dict[str, Any]]:
        """The instances that aren't on their way out."""
        return [one for one in self.instances if not one["LifecycleState"].startswith("Terminating")]


class Scaling:
    """The groups of one region."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}


def find(request: Request, name: str) -> Group:
    """The group of that name."""
    if group := request.state(Scaling).groups.get(name):
        return group
    raise Fault("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
