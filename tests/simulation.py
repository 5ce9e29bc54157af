"""The real engine over the real stack's graph, every resource with its delay in the real AWS, on a virtual clock.

Calls cost nothing; ECS's token buckets hold. So what comes out is how well the engine orders and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from fakes import VirtualClock
from temporal_ecs.config import Config
from temporal_ecs.engine import Engine
from temporal_ecs.pace import _ECS, Pace
from temporal_ecs.resource import Live, Resource
from temporal_ecs.sandbox.clock import DELAYS
from temporal_ecs.stack import Stack, load
from temporal_ecs.state import State

TASK_ENI = DELAYS["task eni detach"]
SECONDS = {  # kind: (create, delete), from the sandbox's table of AWS's delays, which gives the sources
    "NatGateway": (DELAYS["nat gateway create"], DELAYS["nat gateway delete"]),
    "VpcEndpoint": (DELAYS["vpc endpoint create"], DELAYS["vpc endpoint delete"]),
    "OpenSearchDomain": (DELAYS["opensearch create"], DELAYS["opensearch delete"]),
    "DsqlCluster": (DELAYS["dsql create"], DELAYS["dsql delete"]),
    "PrometheusWorkspace": (DELAYS["amp create"], DELAYS["amp delete"]),
    "Namespace": (DELAYS["cloud map operation"], DELAYS["service connect clean-up"]),
    "ClusterCapacity": (DELAYS["capacity provider association"], DELAYS["capacity provider association"]),
    "CapacityProvider": (0, DELAYS["capacity provider delete"]),
    "AutoScalingGroup": (0, DELAYS["instance terminate"]),
    "EcsService": (0, DELAYS["ecs service drain"]),
    "TaskDefinition": (0, DELAYS["task definition delete"]),
    "InstanceProfile": (DELAYS["instance profile"], 0),
    "SecurityGroup": (0, TASK_ENI),
    "Subnet": (0, TASK_ENI),
    "InternetGateway": (0, 300),  # 5 to 10 min until the public addresses are unmapped
}
CALLS = {  # kind: the ECS operations of create and delete
    "EcsCluster": ("CreateCluster", "DeleteCluster"),
    "ClusterCapacity": ("PutClusterCapacityProviders", "PutClusterCapacityProviders"),
    "CapacityProvider": ("CreateCapacityProvider", "DeleteCapacityProvider"),
    "TaskDefinition": ("RegisterTaskDefinition", "DeregisterTaskDefinition"),
    "EcsService": ("CreateService", "DeleteService"),
}


class World:
    """What the engine asks of Aws, and when each thing is ready or gone."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.pace = clock, Pace(clock)
        self.ready: dict[str, float] = {}
        self.gone: dict[str, float] = {}

    def forget(self, listing: str, *, before: float = 0) -> None: ...

    def look_afresh(self) -> None: ...

    def transient(self, _: BaseException) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Simulated(Resource):
    """Something that takes `seconds` to be made and to be removed."""

    kind: str = ""
    tagging = None
    timeout = 1e6

    def find(self, aws: World, id: str | None) -> Live | None:  # type: ignore[override]  # noqa: A002
        now = aws.clock.now()
        if self.name not in aws.ready or aws.gone.get(self.name, now + 1) <= now:
            return None
        changing = self.name in aws.gone or now < aws.ready[self.name]
        return {"id": self.name, "kind": self.kind, "pending": "changing" if changing else ""}

    def create(self, aws: World, token: str) -> str:  # type: ignore[override]
        self._pace(aws, 0)
        aws.ready[self.name] = aws.clock.now() + seconds(self.kind)[0]
        return self.name

    def delete(self, aws: World, live: Live) -> None:  # type: ignore[override]
        self._pace(aws, 1)
        aws.gone[self.name] = aws.clock.now() + seconds(self.kind)[1]

    def _pace(self, aws: World, which: int) -> None:
        if self.kind in CALLS:
            aws.pace.wait("ecs", CALLS[self.kind][which])


def seconds(kind: str) -> tuple[float, float]:
    return SECONDS.get(kind, (0, 0))


@cache
def simulated_kind(kind: type[Resource]) -> type[Simulated]:
    return type(f"Simulated{kind.__name__}", (Simulated,), {"typical": kind.typical, "__doc__": kind.__doc__})


def simulated_stack() -> Stack:
    real = load(Config())
    return Stack(
        simulated_kind(type(item))(name=name, kind=type(item).__name__, after=tuple(sorted(real.needs(name))))
        for name, item in real.items()
    )


class Figure(NamedTuple):
    """Seconds that a run took, and that it cannot take less than."""

    makespan: float
    critical_path: float

    @property
    def ratio(self) -> float:
        return self.makespan / self.critical_path


def critical_path(stack: Stack, which: int) -> float:
    """The longest chain of delays, or what the busiest token bucket needs, whichever is longer."""
    finish: dict[str, float] = {}
    needs = {name: stack.needs(name) for name in stack}
    if which == 1:
        needs = {name: {user for user in stack if name in stack.needs(user)} for name in stack}
    for name in TopologicalSorter(needs).static_order():
        own = seconds(stack[name].kind)[which]  # type: ignore[attr-defined]
        finish[name] = own + max((finish[need] for need in needs[name]), default=0.0)
    return max(max(finish.values()), busiest_bucket(stack, which))


def busiest_bucket(stack: Stack, which: int) -> float:
    def needed(burst: float, rate: float, operations: str) -> float:
        kinds = [item.kind for item in stack.values()]  # type: ignore[attr-defined]
        calls = sum(CALLS.get(kind, ("", ""))[which] in operations.split() for kind in kinds)
        return max(0.0, (calls - burst) / rate)

    return max(needed(*row) for row in _ECS)


def run(folder: Path, *, poll: float = 1.0) -> tuple[Figure, Figure]:
    """Provision and teardown of the default stack with its data."""
    stack, clock = simulated_stack(), VirtualClock()
    world = World(clock)
    state = State(folder / "simulated.json", project="p", account="1", region="r")

    def timed(act: Callable[[Engine], Any], which: int) -> Figure:
        start = clock.now()
        result = act(Engine(stack, state, world, clock=clock, poll=poll))  # type: ignore[arg-type]
        assert result.ok, result.errors
        return Figure(clock.now() - start, critical_path(stack, which))

    return (
        timed(lambda engine: engine.provision(), 0),
        timed(lambda engine: engine.teardown(with_data=True), 1),
    )


def lines(figures: Iterable[tuple[str, Figure]]) -> Iterable[str]:
    for name, figure in figures:
        at_least = f"critical path {figure.critical_path:.0f} s"
        yield f"{name}: makespan {figure.makespan:.0f} s, {at_least}: {figure.ratio:.3f}"
