"""The running cluster as ECS tells it: services, tasks, hosts. Each by as few calls as there are pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from temporal_ecs.errors import code
from temporal_ecs.services import SERVICES

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws

DESCRIBED = 100
"""Tasks or container instances that one Describe call takes (Amazon ECS API reference)."""

GROUPS = {f"{service.title}": service.name for service in SERVICES.values()}


class Said(NamedTuple):
    """A line among a service's events."""

    time: datetime
    text: str


@dataclass(frozen=True)
class ServiceState:
    """A service. `rollout` is the primary deployment's state; `old` are other deployments that still have tasks;
    `deployment` is the primary's id, which its tasks carry."""

    name: str
    status: str
    wanted: int = 0
    running: int = 0
    pending: int = 0
    rollout: str = ""
    deployment: str = ""
    old: int = 0
    definition: str = ""
    events: tuple[Said, ...] = ()

    @property
    def event(self) -> str:
        """The newest."""
        return self.events[0].text if self.events else ""

    @property
    def settled(self) -> bool:
        """Whether ECS has done all that it was asked to, but for the health of the tasks."""
        return self.status == "ACTIVE" and self.running == self.wanted and not (self.pending or self.old) and (
            self.rollout == "COMPLETED"
        )  # fmt: skip


@dataclass(frozen=True)
class TaskState:
    """A task. `address` is "" before it has one; `stop_code` and `reason` say why it stopped; `exit_code` is its
    container's, None while it runs."""

    service: str
    id: str
    status: str
    wanted: bool
    health: str
    address: str
    host: str
    deployment: str
    definition: str
    started: datetime | None
    created: datetime | None
    stop_code: str
    reason: str
    exit_code: int | None


@dataclass(frozen=True)
class Host:
    """A container instance: what it registered, what is left of it, CPU units and MiB."""

    id: str
    ec2_id: str
    status: str
    connected: bool
    zone: str
    kind: str
    running: int
    pending: int
    raw: Mapping[str, Any]


def services(aws: Aws, project: str) -> dict[str, ServiceState]:
    """All services in start order, by one call; MISSING ones too."""
    names = {f"{project}-{service.title}": service.name for service in SERVICES.values()}
    try:
        found = aws.ecs.describe_services(cluster=f"{project}-cluster", services=list(names))["services"]
    except Exception as error:
        if code(error) != "ClusterNotFoundException":
            raise
        found = []  # removed behind our back: all are missing
    by_name = {row["serviceName"]: row for row in found}
    return {name: _service(name, by_name.get(full)) for full, name in names.items()}


def _service(name: str, row: Mapping[str, Any] | None) -> ServiceState:
    if row is None:
        return ServiceState(name, "MISSING")
    deployments = row.get("deployments", ())
    primary: Mapping[str, Any] = next((d for d in deployments if d["status"] == "PRIMARY"), {})
    old = [d for d in deployments if d is not primary]
    return ServiceState(
        name,
        row["status"],
        row["desiredCount"],
        row["runningCount"],
        row["pendingCount"],
        primary.get("rolloutState", ""),
        primary.get("id", ""),
        len(old),
        row.get("taskDefinition", ""),
        tuple(Said(e["createdAt"], e["message"]) for e in row.get("events", ())),
    )


def tasks(aws: Aws, project: str, *, stopped: bool = False, service: str = "") -> list[TaskState]:
    """Tasks of the services that are to run, or that stopped within the hour; of one service, or of all."""
    cluster = f"{project}-cluster"
    only = {"serviceName": f"{project}-{SERVICES[service].title}"} if service else {}
    wanted = "STOPPED" if stopped else "RUNNING"
    try:
        pages = aws.ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus=wanted, **only)
        arns = [arn for page in pages for arn in page["taskArns"]]
    except Exception as error:
        if code(error) not in ("ClusterNotFoundException", "ServiceNotFoundException"):
            raise
        return []
    groups = {f"service:{project}-{title}": name for title, name in GROUPS.items()}
    rows = (row for some in _batches(arns) for row in aws.ecs.describe_tasks(cluster=cluster, tasks=some)["tasks"])
    return [_task(groups[row["group"]], row) for row in rows if row.get("group") in groups]


def _task(service: str, row: Mapping[str, Any]) -> TaskState:
    containers = row.get("containers", ())
    exit_codes = [c["exitCode"] for c in containers if "exitCode" in c]
    reasons = [c["reason"] for c in containers if c.get("reason")]
    return TaskState(
        service,
        row["taskArn"].rpartition("/")[2],
        row["lastStatus"],
        row.get("desiredStatus") == "RUNNING",
        row.get("healthStatus", "UNKNOWN"),
        address(row),
        row.get("containerInstanceArn", "").rpartition("/")[2],
        row.get("startedBy", ""),
        row.get("taskDefinitionArn", ""),
        row.get("startedAt"),
        row.get("createdAt"),
        row.get("stopCode", ""),
        reasons[0] if reasons else row.get("stoppedReason", ""),
        exit_codes[0] if exit_codes else None,
    )


def address(row: Mapping[str, Any]) -> str:
    """A task's private address: of its network interface, or of a container where the attachment does not tell."""
    for attachment in row.get("attachments", ()):
        for detail in attachment.get("details", ()):
            if detail.get("name") == "privateIPv4Address":
                return str(detail["value"])
    interfaces = [i for c in row.get("containers", ()) for i in c.get("networkInterfaces", ())]
    return next((str(i["privateIpv4Address"]) for i in interfaces if i.get("privateIpv4Address")), "")


def hosts(aws: Aws, project: str) -> list[Host]:
    """The container instances of the services' and the benchmark's groups, ACTIVE and DRAINING ones."""
    cluster = f"{project}-cluster"
    try:
        pages = aws.ecs.get_paginator("list_container_instances").paginate(cluster=cluster)
        arns = [arn for page in pages for arn in page["containerInstanceArns"]]
    except Exception as error:
        if code(error) != "ClusterNotFoundException":
            raise
        return []
    rows = (
        row
        for some in _batches(arns)
        for row in aws.ecs.describe_container_instances(cluster=cluster, containerInstances=some)["containerInstances"]
    )
    return [_host(row) for row in rows]


def _host(row: Mapping[str, Any]) -> Host:
    attributes = {each["name"]: each.get("value", "") for each in row.get("attributes", ())}
    return Host(
        row["containerInstanceArn"].rpartition("/")[2],
        row["ec2InstanceId"],
        row["status"],
        row["agentConnected"],
        attributes.get("ecs.availability-zone", ""),
        attributes.get("ecs.instance-type", ""),
        row["runningTasksCount"],
        row["pendingTasksCount"],
        row,
    )


def _batches(arns: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(arns), DESCRIBED):
        yield arns[start : start + DESCRIBED]


def of(tasks: Iterable[TaskState], service: str) -> list[TaskState]:
    """The tasks of one service."""
    return [task for task in tasks if task.service == service]
