"""What ECS knows in one region: AWS's own members in `data`, and beside them what AWS keeps to itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from temporal_ecs.sandbox.world import Fault, Request

Data = dict[str, Any]


@dataclass
class Service:
    """A service. Its deployments are AWS's `deployments`, the primary one first."""

    data: Data
    token: str | None = None
    tags: list[dict[str, str]] = field(default_factory=list)
    cloud_map: list[str] = field(default_factory=list)  # ids of the Cloud Map services made for Service Connect
    app_protocols: dict[str, str | None] = field(default_factory=dict)  # by port name, fixed for life
    waiting: int = 0  # tasks without a place
    held: bool = False  # no task is started for a moment
    failures: int = 0  # tasks in a row that never reached RUNNING
    steady: bool = False  # whether its events say so

    @property
    def status(self) -> str:
        """ACTIVE, DRAINING or INACTIVE."""
        return str(self.data["status"])

    @property
    def primary(self) -> Data:
        """The deployment that the service is moving to, or has reached."""
        first: Data = self.data["deployments"][0]
        return first


@dataclass
class Cluster:
    """A cluster with its services, tasks and instances; the last two by id."""

    data: Data
    tags: list[dict[str, str]] = field(default_factory=list)
    services: dict[str, Service] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    instances: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return str(self.data["clusterName"])

    @property
    def active(self) -> bool:
        """Whether it exists: INACTIVE ones are only remembered."""
        return bool(self.data["status"] == "ACTIVE")

    def active_services(self) -> list[Service]:
        """The services that ListServices shows."""
        return [service for service in self.services.values() if service.status == "ACTIVE"]


@dataclass
class Tagged:
    """A capacity provider or a task definition."""

    data: Data
    tags: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Ecs:
    """ECS in one region."""

    clusters: dict[str, Cluster] = field(default_factory=dict)
    providers: dict[str, Tagged] = field(default_factory=dict)
    families: dict[str, dict[int, Tagged]] = field(default_factory=dict)
    last_revision: dict[str, int] = field(default_factory=dict)  # numbers are never used again
    settings: dict[str, str] = field(default_factory=dict)

    def cluster(self, reference: str | None) -> Cluster:
        """The active cluster with that name or ARN."""
        found = self.clusters.get(name_of(reference or "default"))
        if found is None or not found.active:
            raise Fault("ClusterNotFoundException", "Cluster not found.")
        return found

    def provider(self, reference: str) -> Tagged | None:
        """The capacity provider with that name or ARN, unless it is deleted."""
        found = self.providers.get(name_of(reference))
        return found if found and found.data["status"] == "ACTIVE" else None

    def definition(self, reference: str) -> Tagged | None:
        """A task definition by ARN, `family:revision`, or family, which means its latest active revision."""
        family, _, revision = name_of(reference).partition(":")
        revisions = self.families.get(family, {})
        if revision:
            return revisions.get(int(revision)) if revision.isdigit() else None
        active = [number for number, one in revisions.items() if one.data["status"] == "ACTIVE"]
        return revisions[max(active)] if active else None

    def tagged(self, arn: str) -> Cluster | Service | Tagged:
        """Whatever an ARN means, for the tag operations."""
        kind, _, rest = arn.split(":", 5)[5].partition("/")
        found: Cluster | Service | Tagged | None = None
        if kind == "cluster":
            found = self.clusters.get(rest)
        elif kind == "service":
            cluster, _, name = rest.rpartition("/")
            found = self.clusters[cluster].services.get(name) if cluster in self.clusters else None
        elif kind == "capacity-provider":
            found = self.providers.get(rest)
        elif kind == "task-definition":
            found = self.definition(rest)
        if found is None:
            raise Fault("InvalidParameterException", "The specified resource cannot be found.")
        return found


def ecs(request: Request) -> Ecs:
    """ECS in the request's region."""
    return request.state(Ecs)


def name_of(reference: str) -> str:
    """The name at the end of an ARN, or the name itself."""
    return reference.rsplit("/", 1)[-1]


def missing(request: Request, kind: str, reference: str) -> dict[str, str]:
    """An entry of `failures` for a thing that isn't there."""
    arn = reference if reference.startswith("arn:") else request.arn("ecs", f"{kind}/{reference}")
    return {"arn": arn, "reason": "MISSING"}
