"""Starting and stopping the services in order, each step proven before the next.

Up: history, matching, frontend, worker, then what serves people. Down: the other way round. A step is proven when ECS
has done all it was asked to, every task is healthy and, for Temporal's services, the ring has a fresh row for each
task. What is stuck is named as soon as ECS tells it, not at the end of a time-out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from temporal_ecs.clock import Clock
from temporal_ecs.errors import TecsError
from temporal_ecs.services import SERVICES, surge
from temporal_ecs.walk import Event

from . import fleet
from .fleet import ServiceState, TaskState

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws

Emit = Callable[[Event], None]
Fresh = Callable[[], set[tuple[str, str]]]
"""Service and address of every member whose heartbeat is fresh on the database's clock."""

DEADLINE = 900.0
"""Seconds for one step: five attempts of a server to join take a minute, a new host three, an image pull one."""

CRASHES = 3
"""So many tasks of one step that ran and ended: it will not get better by waiting."""

FAILED_STARTS = 2
"""So many tasks of one step that never ran."""

NO_ROOM = 300.0
"""Seconds to wait for the capacity provider's next host when a task has no place; a launch takes two to three
minutes."""

HELP = {  # words in ECS's reasons: what to do about it
    "CannotPullContainer": "Check that the image exists in that repository for ARM64, and that the hosts reach ECR.",
    "ResourceInitializationError": "Check the execution role's rights, the secret, and the way to Secrets Manager.",
    "Unable to assume": "The task's role does not trust ecs-tasks.amazonaws.com: `tecs plan iam` shows it.",
    "OutOfMemory": "Give the service more memory in tecs.toml (services.NAME.memory).",
    "ENI attachment": "The hosts have no network interface left: more hosts, or ENI trunking.",
    "insufficient": "Raise instances.count in tecs.toml, run `tecs provision`, or scale to less.",
    "No Container Instances": "No host is registered: `tecs status` shows the instances.",
}


@dataclass(frozen=True)
class Step:
    """One service and how many tasks of it are to run; `definition`: of this revision, "" for whichever it has."""

    service: str
    count: int
    definition: str = ""


def steps(counts: Mapping[str, int], definitions: Mapping[str, str] | None = None, *, up: bool) -> list[Step]:
    """Steps in the order in which they are safe: publishers first on the way up, callers first on the way down."""
    order = [name for name in SERVICES if name in counts]
    return [Step(name, counts[name], (definitions or {}).get(name, "")) for name in (order if up else order[::-1])]


class Scaler:
    """Takes steps on one cluster. `fresh` reads the ring; None where the database is out of reach on purpose."""

    def __init__(
        self,
        aws: Aws,
        project: str,
        *,
        fresh: Fresh | None,
        emit: Emit = lambda _: None,
        clock: Clock | None = None,
        poll: float = 3.0,
        deadline: float = DEADLINE,
    ) -> None:
        """`poll`, the longest pause between two looks, and `deadline`, for one step, are seconds."""
        self.aws, self.project, self.fresh, self.emit = aws, project, fresh, emit
        self.clock, self.poll, self.deadline = clock or Clock(), poll, deadline

    def take(self, todo: Iterable[Step]) -> dict[str, str]:
        """Every step, one after another; what was done, by service: started, stopped, scaled or same.

        TecsError at the first that fails, with the reason; the steps before it stay.
        """
        return {step.service: self._take(step) for step in todo}

    def _take(self, step: Step) -> str:
        began = self.clock.now()
        before = fleet.services(self.aws, self.project)[step.service]
        if before.status != "ACTIVE":
            raise TecsError(
                f"{step.service}: ECS says {before.status}", "Run `tecs provision services` first, then this again."
            )
        known = {task.id for task in fleet.tasks(self.aws, self.project, stopped=True, service=step.service)}
        changed = before.wanted != step.count or (step.definition and before.definition != step.definition)
        if changed:
            self.emit(Event(step.service, "update", f"{before.wanted} → {step.count}"))
            self._ask(step)
        watch = _Watch(self, step, known, began)
        while not watch.proven():
            waited = self.clock.now() - began
            self.clock.sleep(min(self.poll, max(self.poll / 15, 0.1 * waited)))  # soon at first, then with patience
        took = self.clock.now() - began
        outcome = "updated" if changed else "same"
        self.emit(Event(step.service, outcome, watch.summary, took))
        if not changed:
            return "same"
        return "stopped" if step.count == 0 else "started" if before.wanted == 0 else "scaled"

    def _ask(self, step: Step) -> None:
        settings = {"minimumHealthyPercent": 100, "maximumPercent": surge(step.count)} if step.count else None
        self.aws.ecs.update_service(
            cluster=f"{self.project}-cluster",
            service=f"{self.project}-{SERVICES[step.service].title}",
            desiredCount=step.count,
            **({"deploymentConfiguration": settings} if settings else {}),
            **({"taskDefinition": step.definition} if step.definition else {}),
        )


class _Watch:
    """One step on its way: looks, says what is new, gives up when it has reason to."""

    def __init__(self, scaler: Scaler, step: Step, known: set[str], began: float) -> None:
        self.scaler, self.step, self.known, self.began = scaler, step, known, began
        self.heard: datetime | None = None
        self.crashes: list[TaskState] = []
        self.unstarted: list[TaskState] = []
        self.without_place: tuple[str, float] | None = None
        self.summary = ""

    def proven(self) -> bool:
        aws, project, name = self.scaler.aws, self.scaler.project, self.step.service
        state = fleet.services(aws, project)[name]
        self._listen(state)
        settled = state.settled and state.wanted == self.step.count
        running = fleet.tasks(aws, project, service=name) if settled or state.running else []
        lacking = self._lacking(running)
        if settled and not lacking:
            self.summary = f"{state.running} running"
            return True
        if not settled:
            self._ended()
        waited = self.scaler.clock.now() - self.began
        detail = lacking or self._progress(state)
        self.scaler.emit(Event(name, "wait", detail, waited))
        if waited > self.scaler.deadline:
            raise self._failure(f"not proven after {waited:.0f} s: {detail}", state.event)
        return False

    def _progress(self, state: ServiceState) -> str:
        text = f"{state.running} of {state.wanted} running"
        if state.pending:
            text += f", {state.pending} pending"
        return text + (", the old deployment still has tasks" if state.old else "")

    def _lacking(self, running: list[TaskState]) -> str:
        """What is not as it should be though ECS is content; "" for nothing."""
        tasks = [task for task in running if task.wanted]
        if self.step.count == 0:
            return ""
        checked = SERVICES[self.step.service].checked
        unready = [t for t in tasks if t.status != "RUNNING" or (checked and t.health != "HEALTHY")]
        if unready or len(tasks) < self.step.count:
            return f"{len(tasks) - len(unready)} of {self.step.count} tasks ready"
        if not SERVICES[self.step.service].temporal or self.scaler.fresh is None:
            return ""
        fresh = {address for service, address in self.scaler.fresh() if service == self.step.service}
        absent = [task for task in tasks if task.address not in fresh]
        return f"{len(absent)} of {len(tasks)} tasks have no fresh row in the ring" if absent else ""

    def _listen(self, state: ServiceState) -> None:
        """Pass on what ECS says, and notice a task that has no place."""
        fresh = [said for said in reversed(state.events) if self.heard is None or said.time > self.heard]
        if self.heard is None:  # before the step began
            fresh = fresh[-1:]
        for said in fresh:
            self.heard = said.time
            self.scaler.emit(Event(self.step.service, "wait", said.text, self.scaler.clock.now() - self.began))
        if not state.pending or state.running >= self.step.count or "unable to place" not in state.event:
            self.without_place = None
            return
        since = self.without_place[1] if self.without_place else self.scaler.clock.now()
        self.without_place = (state.event, since)
        if self.scaler.clock.now() - since >= min(NO_ROOM, self.scaler.deadline):
            raise self._failure("a task finds no place on the hosts", state.event)

    def _ended(self) -> None:
        """Look at the tasks that stopped since the step began."""
        stopped = fleet.tasks(self.scaler.aws, self.scaler.project, stopped=True, service=self.step.service)
        for task in stopped:
            if task.id in self.known or self.step.count == 0:
                continue
            self.known.add(task.id)
            if task.stop_code == "TaskFailedToStart" or (task.started is None and task.reason):
                self.unstarted.append(task)
            elif task.stop_code == "EssentialContainerExited":
                self.crashes.append(task)
            else:
                continue
            self.scaler.emit(Event(self.step.service, "wait", f"task {task.id[:8]} stopped: {task.reason}"))
        if len(self.unstarted) >= FAILED_STARTS:
            raise self._failure("its tasks cannot be started", self.unstarted[-1].reason)
        if len(self.crashes) >= CRASHES:
            last = self.crashes[-1]
            said = last_lines(self.scaler.aws, self.scaler.project, self.step.service, last.id)
            code = "" if last.exit_code is None else f" with exit code {last.exit_code}"
            raise self._failure(f"its tasks end again and again{code}", said or last.reason)

    def _failure(self, what: str, reason: str) -> TecsError:
        hint = next((way for words, way in HELP.items() if words.lower() in reason.lower()), "")
        again = "What was started stays; `tecs status` shows it. Run the command again when the cause is gone."
        return TecsError(f"{self.step.service}: {what}" + (f": {reason}" if reason else ""), f"{hint} {again}".strip())


def last_lines(aws: Aws, project: str, service: str, task: str, count: int = 5) -> str:
    """The last lines that a task logged, in one text; "" when there are none."""
    title = SERVICES[service].title
    container = "adot-collector" if service == "adot" else title
    try:
        events = aws.logs.get_log_events(
            logGroupName=f"/ecs/{project}/{title}", logStreamName=f"{title}/{container}/{task}", limit=count
        )["events"]
    except Exception as error:
        from temporal_ecs.errors import code

        if code(error) != "ResourceNotFoundException":
            raise
        return ""
    return "\n    ".join(event["message"].strip() for event in events[-count:])
