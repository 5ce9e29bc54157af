"""Whether the tasks of the services can be placed on the instances, asked before anything is started.

ECS places a task on an instance that has its CPU units, its memory and, as all our tasks are awsvpc tasks, a network
interface left; a task that finds none stays PENDING without an end. Two questions are asked, and answered apart:

- *Is there any way?* `pack()` searches for one. No way is a **refusal**, with the numbers and what would fit: the
  tasks on the declared instances, and beside them, on the most that the group may grow to, what a rolling deployment
  of any one service adds.
- *Does ECS find it?* `ecs_order()` places as the stack's services do, in start order, spread over zones and
  instances. ECS never moves a task, so it can leave one over where a better packing exists. That is a **warning**: how
  ECS chooses among equals is not documented, and as long as the group may grow, managed scaling adds an instance for a
  task without a place. A fleet that we recommend passes both.

The Service Connect proxy adds nothing here. ECS reckons with the size of the whole task, and the proxy runs inside it:
the containers of resources/task_definitions.py have no limits of their own, so they share the task's CPU and memory
with it (AWS recommends to allow 256 CPU units and 64 MiB for it; field.md A5).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from temporal_ecs.errors import ConfigError, TecsError
from temporal_ecs.services import PRESETS, SERVICES, headroom

GROWTH = 2
"""Instances that the group may add to the declared ones (resources/auto_scaling_groups.py)."""

DECLARED = 20
"""Instances that tecs.toml may declare (instances.count, config.py)."""

MOST = 40
"""Instances up to which a fleet that would fit is looked for."""

EFFORT = 20_000
"""Combinations that one search looks at. What is not found by then counts as no way: ECS, which never goes back on a
choice, would not find it either."""


class Room(NamedTuple):
    """What an instance has for tasks: CPU units, MiB, and network interfaces, of which each task takes one."""

    cpu: int
    memory: int
    slots: int
    zone: str = ""


class Need(NamedTuple):
    """What one task takes: CPU units, MiB, and one network interface."""

    service: str
    cpu: int
    memory: int


class Total(NamedTuple):
    """CPU units, MiB and network interfaces of many tasks or instances."""

    cpu: int
    memory: int
    slots: int


# -- instances ---------------------------------------------------------------------------------------------------


def reserve(memory: int) -> int:
    """MiB of an instance's nominal memory that it does not offer tasks. **An estimate**, on the safe side.

    The hypervisor and the kernel keep a share that nobody publishes; the agent registers what the system sees. AWS's
    one example, m4.large, registers 7,985 of 8,192 MiB (ECS developer guide, "Container instance memory management").
    Karpenter takes off 7.5 %, chosen so that no type has less than that leaves (karpenter-provider-aws#7929); a fleet
    measured 1.7 to 5.3 % (pytorch/ci-infra#910). The kernel's fixed part weighs more in small types: 256 MiB at least.
    An xlarge of 16 GiB thus has 15,155 MiB: tasks of 8 and 4 GiB, never 8, 4 and 4, which no real one holds either.
    """
    return max(256, -(-memory * 75 // 1000))


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """CPU units, nominal MiB, network interfaces, and how many awsvpc tasks it runs with trunking.

    `registered` is what such an instance really registered with ECS, in MiB; where it is known it wins over the
    estimate.
    """

    name: str
    cpu: int
    memory: int
    enis: int
    trunked: int = 0  # 0: cannot trunk, or unknown
    registered: int = 0

    def room(self, *, zone: str = "", trunking: bool = False) -> Room:
        """An instance of this type without any task; the instance keeps one network interface for itself."""
        return Room(
            self.cpu, self.registered or self.memory - reserve(self.memory), self.slots(trunking=trunking), zone
        )

    def slots(self, *, trunking: bool) -> int:
        return self.trunked if trunking and self.trunked else self.enis - 1


_GIB_PER_VCPU = {"m6g": 4, "m7g": 4, "m8g": 4, "c7g": 2, "r7g": 8}  # EC2's instance type pages

# vCPUs, network interfaces, tasks with trunking: field.md A7, after the ECS developer guide's table of instance types.
# That table is older than m8g: its interfaces are known to be m7g's for xlarge and 4xlarge, the rest is taken to be.
_SIZES = {
    "medium": (1, 2, 4),
    "large": (2, 3, 10),
    "xlarge": (4, 4, 20),
    "2xlarge": (8, 4, 40),
    "4xlarge": (16, 8, 60),
    "8xlarge": (32, 8, 60),
    "12xlarge": (48, 8, 60),
    "16xlarge": (64, 15, 120),
}

INSTANCE_TYPES: Mapping[str, InstanceType] = {
    f"{family}.{size}": InstanceType(
        name=f"{family}.{size}", cpu=vcpus * 1024, memory=vcpus * gib * 1024, enis=enis, trunked=trunked
    )
    for family, gib in _GIB_PER_VCPU.items()
    for size, (vcpus, enis, trunked) in _SIZES.items()
}
"""Graviton types by name. For another, make an InstanceType of what EC2's DescribeInstanceTypes says."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The instances, and those that the group may add while tasks find no place.

    Without a `kind` nothing is recommended.
    """

    rooms: tuple[Room, ...]
    spare: tuple[Room, ...] = ()
    kind: InstanceType | None = None
    trunking: bool = False
    zones: int = 2

    def __str__(self) -> str:
        return f"{len(self.rooms)} {f'x {self.kind.name}' if self.kind else 'instances'}"


def planned(kind: InstanceType, count: int, *, zones: int = 2, trunking: bool = False, growth: int = GROWTH) -> Fleet:
    """`count` instances that the group may grow by `growth`, balanced over the zones as the group does."""
    rooms = tuple(kind.room(zone=str(index % zones), trunking=trunking) for index in range(count + growth))
    return Fleet(rooms=rooms[:count], spare=rooms[count:], kind=kind, trunking=trunking, zones=zones)


def observed(instance: Mapping[str, Any], kind: InstanceType, *, remaining: bool = False) -> Room:
    """A container instance as DescribeContainerInstances tells it; the caller leaves out what is not ACTIVE.

    What it registered goes with all tasks that are to run; what is `remaining`, with those that are to be added. ECS
    counts no network interfaces there: they are the type's, less those of its tasks; trunking shows as an attribute.
    """
    resources = instance["remainingResources" if remaining else "registeredResources"]
    amounts = {each["name"]: int(each["integerValue"]) for each in resources if "integerValue" in each}
    attributes = {each["name"]: each.get("value", "") for each in instance.get("attributes", ())}
    slots = kind.slots(trunking="ecs.awsvpc-trunk-id" in attributes)
    if remaining:
        slots -= int(instance.get("runningTasksCount", 0)) + int(instance.get("pendingTasksCount", 0))
    return Room(amounts["CPU"], amounts["MEMORY"], max(0, slots), attributes.get("ecs.availability-zone", ""))


# -- tasks ---------------------------------------------------------------------------------------------------------


class Sized(Protocol):
    """A preset's Size or the ServiceSettings of tecs.toml: tasks, and CPU units and MiB of one."""

    @property
    def count(self) -> int: ...
    @property
    def cpu(self) -> int: ...
    @property
    def memory(self) -> int: ...


def needs(sizes: Mapping[str, Sized]) -> tuple[Need, ...]:
    """All tasks of the services in `sizes`, in the order in which they are started.

    The size of a task holds all its containers, the Service Connect proxy too.
    """
    return tuple(
        Need(name, sizes[name].cpu, sizes[name].memory)
        for name in SERVICES
        if name in sizes
        for _ in range(sizes[name].count)
    )


def rolling(tasks: Sequence[Need]) -> dict[str, tuple[Need, ...]]:
    """By service: the tasks that a rolling deployment of it runs beside all others."""
    counts = Counter(task.service for task in tasks)
    return {task.service: (task,) * headroom(counts[task.service]) for task in tasks}


def preset_for(wps: int) -> int:
    """The tier of PRESETS for a rate of workflows per second: the next one up."""
    if wps < 1:
        raise ConfigError(f"{wps} workflows per second is no rate", f"Give one from 1 to {max(PRESETS)}.")
    for tier in PRESETS:
        if wps <= tier:
            return tier
    last = max(PRESETS)
    instances = -(-len(LARGEST.rooms) * wps // last)
    raise ConfigError(
        f"There is no preset for {wps:,} workflows per second: nobody has measured sizes beyond {last}, and the run at "
        f"{last} completed 323 a second at its peak",
        f"In proportion {wps:,} would need about {instances} x {LARGEST.kind.name if LARGEST.kind else ''} "
        f"({last} has {LARGEST}). Set sizes and counts in tecs.toml, and measure with a benchmark.",
    )  # the peak: field.md B4


# -- is there any way? -----------------------------------------------------------------------------------------------


def pack(tasks: Sequence[Need], rooms: Sequence[Room]) -> tuple[int, ...] | None:
    """For each task the index of its room, or None when there is no way; see EFFORT.

    Greedy first, then every way that matters.
    """
    if not _may_fit(tasks, rooms):
        return None
    cpu = max(1, max((room.cpu for room in rooms), default=1))
    memory = max(1, max((room.memory for room in rooms), default=1))
    weights: tuple[Callable[[Need], tuple[float, float]], ...] = (
        lambda task: (task.memory / memory, task.cpu / cpu),
        lambda task: (task.cpu / cpu, task.memory / memory),
        lambda task: (max(task.cpu / cpu, task.memory / memory), task.cpu / cpu + task.memory / memory),
    )
    for weigh in weights:
        heavy = [weigh(task) for task in tasks]
        order = sorted(range(len(tasks)), key=heavy.__getitem__, reverse=True)
        found = _first_fit(tasks, rooms, order)
        if found:
            return tuple(found[index] for index in range(len(tasks)))
    return _Search(tasks, rooms).run() if tasks else ()


def _may_fit(tasks: Sequence[Need], rooms: Sequence[Room]) -> bool:
    """What can be told without searching: the sums, and for each size how many at least as large find a place."""
    if any(here > there for here, there in zip(needed(tasks), available(rooms), strict=True)):
        return False
    for cpu, memory in {(task.cpu, task.memory) for task in tasks}:
        larger = sum(task.cpu >= cpu and task.memory >= memory for task in tasks)
        if larger > sum(min(r.slots, r.cpu // max(1, cpu), r.memory // max(1, memory)) for r in rooms):
            return False
    return True


def _first_fit(tasks: Sequence[Need], rooms: Sequence[Room], order: Iterable[int]) -> dict[int, int] | None:
    free = list(rooms)
    found: dict[int, int] = {}
    for index in order:
        place = next((at for at, room in enumerate(free) if _holds(room, tasks[index])), None)
        if place is None:
            return None
        free[place] = _less(free[place], tasks[index])
        found[index] = place
    return found


class _Search:
    """Fills one room after the other, going back where the rest finds no place.

    Equal tasks are one kind, so a state is how many of each kind are left. A room is filled only in ways that take no
    further task and no larger one in place of one it has: any packing can be turned into one of those, as a room that
    holds more or larger ones leaves less for the others.
    """

    def __init__(self, tasks: Sequence[Need], rooms: Sequence[Room]) -> None:
        self.tasks, self.rooms = tasks, rooms
        self.kinds = sorted({(task.cpu, task.memory) for task in tasks}, reverse=True)
        self.larger = [
            [j for j, b in enumerate(self.kinds) if j != i and b[0] >= a[0] and b[1] >= a[1]]
            for i, a in enumerate(self.kinds)
        ]
        self.order = sorted(range(len(rooms)), key=lambda index: rooms[index][:3])  # those with the fewest ways first
        self.hopeless: set[tuple[int, tuple[int, ...]]] = set()
        self.effort = EFFORT

    def run(self) -> tuple[int, ...] | None:
        counts = Counter((task.cpu, task.memory) for task in self.tasks)
        filled = self._fill(0, tuple(counts[kind] for kind in self.kinds))
        if filled is None:
            return None
        places = {
            kind: [self.order[at] for at, way in enumerate(filled) for _ in range(way[i])]
            for i, kind in enumerate(self.kinds)
        }
        return tuple(places[task.cpu, task.memory].pop(0) for task in self.tasks)

    def _fill(self, at: int, left: tuple[int, ...]) -> list[tuple[int, ...]] | None:
        """The ways in which the rooms from `at` on are filled."""
        if not any(left):
            return []
        if (at, left) in self.hopeless or not self._enough(at, left):
            return None
        for way in self._ways(self.rooms[self.order[at]], left):
            rest = self._fill(at + 1, tuple(have - take for have, take in zip(left, way, strict=True)))
            if rest is not None:
                return [way, *rest]
            if self.effort <= 0:
                return None
        self.hopeless.add((at, left))
        return None

    def _enough(self, at: int, left: tuple[int, ...]) -> bool:
        rest = available([self.rooms[index] for index in self.order[at:]])
        pairs = list(zip(left, self.kinds, strict=True))
        return (
            sum(left) <= rest.slots
            and sum(n * cpu for n, (cpu, _) in pairs) <= rest.cpu
            and sum(n * memory for n, (_, memory) in pairs) <= rest.memory
        )

    def _ways(self, room: Room, left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """How many of each kind to put into `room`, as many of the large ones as possible first."""

        def from_kind(i: int, free: Total, taken: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            self.effort -= 1
            if self.effort <= 0:
                return
            if i == len(self.kinds):
                if not self._improvable(free, left, taken):
                    yield taken
                return
            cpu, memory = self.kinds[i]
            most = min(left[i], free.slots, free.cpu // max(1, cpu), free.memory // max(1, memory))
            for n in range(most, -1, -1):
                yield from from_kind(
                    i + 1, Total(free.cpu - n * cpu, free.memory - n * memory, free.slots - n), (*taken, n)
                )

        return from_kind(0, Total(*room[:3]), ())

    def _improvable(self, free: Total, left: tuple[int, ...], taken: tuple[int, ...]) -> bool:
        for j, (cpu, memory) in enumerate(self.kinds):
            if taken[j] == left[j]:
                continue
            if free.slots and cpu <= free.cpu and memory <= free.memory:
                return True
            for i, (had_cpu, had_memory) in enumerate(self.kinds):
                fits = cpu - had_cpu <= free.cpu and memory - had_memory <= free.memory
                if taken[i] and j in self.larger[i] and fits:
                    return True
        return False


def _holds(room: Room, task: Need) -> bool:
    return room.slots > 0 and task.cpu <= room.cpu and task.memory <= room.memory


def _less(room: Room, task: Need) -> Room:
    return Room(room.cpu - task.cpu, room.memory - task.memory, room.slots - 1, room.zone)


def needed(tasks: Sequence[Need]) -> Total:
    return Total(sum(task.cpu for task in tasks), sum(task.memory for task in tasks), len(tasks))


def available(rooms: Sequence[Room]) -> Total:
    return Total(sum(room.cpu for room in rooms), sum(room.memory for room in rooms), sum(room.slots for room in rooms))


# -- does ECS find it? -----------------------------------------------------------------------------------------------


def ecs_order(
    tasks: Sequence[Need], rooms: Sequence[Room], settled: Sequence[int | None] = ()
) -> tuple[int | None, ...]:
    """For each task the index of the room that ECS gives it, or None; `settled` ones stay where they are.

    A task goes to the zone with the fewest tasks of its service, one of Temporal's then to the instance with the fewest
    (placement strategies in resources/ecs_services.py), among the instances that have room. Among equals, where ECS
    says nothing, it is the first.
    """
    places: list[int | None] = [*settled, *[None] * (len(tasks) - len(settled))]
    free = list(rooms)
    zones: Counter[tuple[str, str]] = Counter()
    instances: Counter[tuple[str, int]] = Counter()

    def take(task: Need, place: int) -> None:
        free[place] = _less(free[place], task)
        zones[task.service, free[place].zone] += 1
        instances[task.service, place] += 1

    for task, place in zip(tasks, places, strict=True):
        if place is not None:
            take(task, place)
    for index, task in enumerate(tasks):
        candidates = [at for at, room in enumerate(free) if _holds(room, task)]
        if places[index] is None and candidates:
            temporal = SERVICES[task.service].temporal
            places[index] = place = min(
                candidates,
                key=lambda at: (
                    zones[task.service, free[at].zone],
                    instances[task.service, at] if temporal else 0,
                ),
            )
            take(task, place)
    return tuple(places)


# -- the check -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What the check found. `fits` and `stuck` are about any way there is, `unpacked`, `stranded` and `waiting` about
    the one that ECS takes.
    """

    tasks: tuple[Need, ...]
    fleet: Fleet
    needed: Total
    available: Total
    first: int | None  # index of the first task, in start order, that has no place
    stuck: tuple[str, ...]  # services that cannot be deployed one task at a time, even on the most instances
    unpacked: tuple[int, ...]  # tasks that ECS leaves over
    stranded: tuple[int, ...]  # those of them that the group's growth does not help
    waiting: tuple[str, ...]  # services whose deployment waits for a further instance

    @property
    def fits(self) -> bool:
        """Whether there is a way for all tasks on the instances."""
        return self.first is None

    @property
    def sound(self) -> bool:
        """Whether ECS, too, finds a place for every task, and every service can be deployed."""
        return self.fits and not self.stuck and not self.unpacked

    @property
    def missing(self) -> Total:
        """What the instances lack in all; nothing where only the pieces do not go together."""
        return Total(*(max(0, here - there) for here, there in zip(self.needed, self.available, strict=True)))

    def name(self, index: int) -> str:
        """A task as an operator counts it: "worker 2 of 2"."""
        service = self.tasks[index].service
        of = [at for at, task in enumerate(self.tasks) if task.service == service]
        return f"{service} {of.index(index) + 1} of {len(of)}"


def check(tasks: Sequence[Need], fleet: Fleet) -> Placement:
    """All of it. `tasks` are those that are to run on the fleet's rooms, in start order."""
    tasks = tuple(tasks)
    everywhere = (*fleet.rooms, *fleet.spare)
    extra = rolling(tasks)
    fits = pack(tasks, fleet.rooms) is not None
    places = ecs_order(tasks, fleet.rooms)
    unpacked = _without(places)
    return Placement(
        tasks=tasks,
        fleet=fleet,
        needed=needed(tasks),
        available=available(fleet.rooms),
        first=None if fits else _first_without(tasks, fleet.rooms),
        stuck=tuple(service for service, more in extra.items() if pack((*tasks, *more), everywhere) is None),
        unpacked=unpacked,
        stranded=_without(ecs_order(tasks, everywhere, places)) if unpacked else (),
        waiting=tuple(
            service
            for service, more in extra.items()
            if None in ecs_order((*tasks, *more), fleet.rooms, places)[len(tasks) :]
        ),
    )


def _without(places: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(index for index, place in enumerate(places) if place is None)


def _first_without(tasks: Sequence[Need], rooms: Sequence[Room]) -> int:
    """Index of the last of the fewest tasks, in start order, for which there is no way."""
    return bisect_left(range(len(tasks)), True, key=lambda index: pack(tasks[: index + 1], rooms) is None)


def smallest(tasks: Sequence[Need], fleet: Fleet, *, trunking: bool) -> int | None:
    """How many instances of the fleet's type hold the tasks in a sound way: the fewest up to MOST."""
    if fleet.kind is None:
        return None
    growth = len(fleet.spare)
    for count in range(1, MOST + 1):
        there = planned(fleet.kind, count, zones=fleet.zones, trunking=trunking, growth=growth)
        # The full check only where a cheaper look does not rule it out.
        if _may_fit(tasks, there.rooms) and None not in ecs_order(tasks, there.rooms) and check(tasks, there).sound:
            return count
    return None


# -- what the operator reads -----------------------------------------------------------------------------------------


def refusal(placement: Placement) -> TecsError | None:
    """Why the tasks cannot be started, and what would fit; None when there is a way."""
    if placement.fits and not placement.stuck:
        return None
    return TecsError(_reason(placement), _ways_out(placement))


def warnings(placement: Placement) -> tuple[str, ...]:
    """What may go wrong though there is a way."""
    fleet, found = placement.fleet, []
    if placement.fits and placement.unpacked:
        left = ", ".join(map(placement.name, placement.unpacked))
        then = (
            "and no further instance may be added for it"
            if placement.stranded
            else "and then adds an instance, which takes minutes"
        )
        found.append(f"A packing on {fleet} exists, but ECS, spreading the tasks, may leave over {left} {then}")
    if placement.fits and placement.waiting and not placement.stuck:
        services = ", ".join(placement.waiting)
        found.append(f"{fleet} have no place left for a rolling deployment of {services}: it waits for an instance")
    return tuple(found)


def _reason(placement: Placement) -> str:
    fleet, tasks = placement.fleet, placement.tasks
    if placement.first is None:
        service = placement.stuck[0]
        task = next(task for task in tasks if task.service == service)
        most = len(fleet.rooms) + len(fleet.spare)
        return (
            f"{len(tasks)} tasks leave no place for a rolling deployment of {', '.join(placement.stuck)} "
            f"({_size(task)} for one task of {service} beside all others), even when {fleet} have grown to {most}"
        )
    first = tasks[placement.first]
    name = placement.name(placement.first)
    if not any(_holds(room, first) for room in fleet.rooms):
        largest = max(fleet.rooms, default=Room(0, 0, 0))
        return (
            f"No instance of {fleet} can hold {name}, which takes {_size(first)}: "
            f"the largest has {largest.cpu:,} CPU units, {largest.memory:,} MiB and {largest.slots} ENI slots for tasks"
        )
    sums = _sums(placement)
    if any(placement.missing):
        return f"{len(tasks)} tasks do not fit on {fleet}: {sums}; the first without a place is {name}"
    return (
        f"{len(tasks)} tasks do not fit on {fleet}: the sums do ({sums}), but however they are put together, "
        f"{name} has no place ({_size(first)})"
    )


def _size(task: Need) -> str:
    return f"{task.cpu:,} CPU units, {task.memory:,} MiB"


def _sums(placement: Placement) -> str:
    fleet = placement.fleet
    parts = []
    for unit, here, there, lack in zip(
        ("CPU units", "MiB", "ENI slots"), placement.needed, placement.available, placement.missing, strict=True
    ):
        parts.append(f"{here:,} of {there:,} {unit}" + (f" ({lack:,} missing)" if lack else ""))
    if fleet.kind and not fleet.trunking and fleet.kind.trunked:
        parts[-1] += f", {fleet.kind.trunked * len(fleet.rooms):,} with trunking"
    return ", ".join(parts)


def _ways_out(placement: Placement) -> str:
    """Trunking, more instances, the largest fleet that has been run, a smaller preset: those that help."""
    tasks, fleet, kind = placement.tasks, placement.fleet, placement.fleet.kind
    ways, useless = [], ""
    if kind and kind.trunked and not fleet.trunking:
        trunked = planned(kind, len(fleet.rooms), zones=fleet.zones, trunking=True, growth=len(fleet.spare))
        if _helps(tasks, trunked):
            ways.append(
                f"{fleet} with ENI trunking ({kind.trunked} tasks on an instance; account setting awsvpcTrunking, for "
                f"instances launched afterwards)"
            )
        else:
            useless = " ENI trunking alone does not help."
    count = smallest(tasks, fleet, trunking=fleet.trunking)
    if kind and count:
        limit = f", more than the {DECLARED} that tecs.toml may declare" if count > DECLARED else ""
        ways.append(f"{count} x {kind.name} (instances.count{limit})")
    if (count is None or count > DECLARED) and _helps(tasks, LARGEST):
        ways.append(f"{LARGEST} (instances.type, instances.count)")
    tier = _largest_preset(tasks, fleet)
    if tier:
        ways.append(f"on the fleet as it is, preset {tier} (--wps {tier})")
    fit = "; ".join(ways) or f"nothing up to {MOST} instances of this type; choose a larger instances.type"
    return f"Nothing was changed. What would fit: {fit}.{useless}"


def _helps(tasks: Sequence[Need], fleet: Fleet) -> bool:
    found = check(tasks, fleet)
    return found.fits and not found.stuck


def _largest_preset(tasks: Sequence[Need], fleet: Fleet) -> int | None:
    """With the services that no preset sizes as they are."""
    for tier in sorted(PRESETS, reverse=True):
        others = [task for task in tasks if task.service not in PRESETS[tier]]
        if _helps((*needs(PRESETS[tier]), *others), fleet):
            return tier
    return None


LARGEST = planned(INSTANCE_TYPES["m8g.4xlarge"], 10)
"""The fleet of presets 200 and 400 (design.md 8.9)."""
