"""The tasks that are members of Temporal's ring, as ECS tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from temporal_ecs.errors import TecsError
from temporal_ecs.services import TEMPORAL

from . import fleet
from .fleet import ServiceState

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws


class RingTask(NamedTuple):
    """A task of a Temporal service. `address` is its private one, "" before it has one."""

    service: str
    id: str
    address: str
    status: str


def ring_tasks(aws: Aws, project: str) -> list[RingTask]:
    """All of them that are to run, by one listing of the cluster; no call for tasks when no service has any."""
    members = {state.name: state for state in _members(aws, project)}
    if not any(state.running or state.pending for state in members.values()):
        return []
    found = fleet.tasks(aws, project)
    return [RingTask(t.service, t.id, t.address, t.status) for t in found if t.service in members]


def require_stopped(aws: Aws, project: str) -> None:
    """TecsError unless none of the four Temporal services runs a task, starts one or is to have one."""
    busy = [state for state in _members(aws, project) if state.running or state.pending or state.wanted]
    if busy:
        shown = "; ".join(f"{s.name}: {s.running} running, {s.pending} pending, {s.wanted} wanted" for s in busy)
        raise TecsError(
            f"Temporal is not stopped: {shown}", "Nothing was changed. Stop it with `tecs scale down`, then try again."
        )


def _members(aws: Aws, project: str) -> list[ServiceState]:
    states = fleet.services(aws, project)
    return [states[service.name] for service in TEMPORAL]
