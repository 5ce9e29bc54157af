"""The tasks that are members of Temporal's ring, as ECS tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from temporal_ecs.errors import TecsError
from temporal_ecs.services import TEMPORAL

from .status import service_rows

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws

DESCRIBED = 100
"""Tasks that one DescribeTasks takes (Amazon ECS API reference)."""


class RingTask(NamedTuple):
    """A task of a Temporal service. `address` is its private one, "" before it has one."""

    service: str
    id: str
    address: str
    status: str


def ring_tasks(aws: Aws, project: str) -> list[RingTask]:
    """All of them that are to run, by one listing of the cluster; no call for tasks when no service has any."""
    if not any(row.running or row.pending for row in _temporal_rows(aws, project)):
        return []
    cluster = f"{project}-cluster"
    pages = aws.ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="RUNNING")
    arns = [arn for page in pages for arn in page["taskArns"]]
    groups = {f"service:{project}-{service.title}": service.name for service in TEMPORAL}
    rows = [
        row
        for start in range(0, len(arns), DESCRIBED)
        for row in aws.ecs.describe_tasks(cluster=cluster, tasks=arns[start : start + DESCRIBED])["tasks"]
    ]
    return [
        RingTask(groups[row["group"]], row["taskArn"].rpartition("/")[2], _address(row), row["lastStatus"])
        for row in rows
        if row.get("group") in groups
    ]


def require_stopped(aws: Aws, project: str) -> None:
    """TecsError unless none of the four Temporal services runs a task, starts one or is to have one."""
    busy = [row for row in _temporal_rows(aws, project) if row.running or row.pending or row.wanted]
    if busy:
        shown = "; ".join(f"{r.service}: {r.running} running, {r.pending} pending, {r.wanted} wanted" for r in busy)
        raise TecsError(
            f"Temporal is not stopped: {shown}", "Nothing was changed. Stop it with `tecs scale down`, then try again."
        )


def _temporal_rows(aws: Aws, project: str) -> list[Any]:
    names = {service.name for service in TEMPORAL}
    return [row for row in service_rows(aws, project) if row.service in names]


def _address(row: dict[str, Any]) -> str:
    """Of its network interface; that of a container where the attachment does not tell."""
    for attachment in row.get("attachments", ()):
        for detail in attachment.get("details", ()):
            if detail.get("name") == "privateIPv4Address":
                return str(detail["value"])
    interfaces = [i for c in row.get("containers", ()) for i in c.get("networkInterfaces", ())]
    return next((str(i["privateIpv4Address"]) for i in interfaces if i.get("privateIpv4Address")), "")
