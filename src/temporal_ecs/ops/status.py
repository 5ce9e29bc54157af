"""The state of the services, as ECS tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from temporal_ecs.errors import code
from temporal_ecs.services import SERVICES

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws


class ServiceRow(NamedTuple):
    """One service: counts are tasks."""

    service: str
    status: str
    wanted: int
    running: int
    pending: int
    rollout: str
    event: str


def service_rows(aws: Aws, project: str) -> list[ServiceRow]:
    """All services in start order, by one call."""
    names = {f"{project}-{service.title}": service.name for service in SERVICES.values()}
    try:
        found = aws.ecs.describe_services(cluster=f"{project}-cluster", services=list(names))["services"]
    except Exception as error:
        if code(error) != "ClusterNotFoundException":
            raise
        found = []  # removed behind our back: all are missing
    by_name = {row["serviceName"]: row for row in found}
    rows = []
    for full_name, name in names.items():
        row = by_name.get(full_name)
        if row is None:
            rows.append(ServiceRow(name, "MISSING", 0, 0, 0, "", ""))
            continue
        primary: dict[str, Any] = next((d for d in row.get("deployments", ()) if d["status"] == "PRIMARY"), {})
        event = row["events"][0]["message"] if row.get("events") else ""
        counts = row["desiredCount"], row["runningCount"], row["pendingCount"]
        rows.append(ServiceRow(name, row["status"], *counts, primary.get("rolloutState", ""), event))
    return rows
