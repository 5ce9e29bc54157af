"""Whether tasks can be placed on instances, and what is said where they cannot."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_ecs.config import Config
from temporal_ecs.errors import TecsError
from temporal_ecs.ops import placement
from temporal_ecs.ops.placement import (
    INSTANCE_TYPES,
    LARGEST,
    Fleet,
    InstanceType,
    Need,
    Room,
    check,
    ecs_order,
    needs,
    observed,
    pack,
    planned,
    preset_for,
    refusal,
    reserve,
    rolling,
    smallest,
    warnings,
)
from temporal_ecs.services import PRESETS, SERVICES, Size

M7G, M8G = INSTANCE_TYPES["m7g.xlarge"], INSTANCE_TYPES["m8g.xlarge"]
DEFAULT = planned(M7G, Config().instances.count)
SMALL = Size(1, 256, 512)


def preset(wps):
    return needs({**Config().services, **PRESETS[wps]})


def counts(history, matching, frontend, worker, *, observers=1):
    """Tasks of 256 CPU units and 512 MiB: only network interfaces are scarce."""
    names = dict(zip(SERVICES, (history, matching, frontend, worker, *[observers] * 3), strict=True))
    return needs({name: Size(count, 256, 512) for name, count in names.items()})


# Label, tasks, fleet, and what a refusal says; nothing where they fit.
CASES = [
    ("default counts on the default fleet", needs(Config().services), DEFAULT, ()),
    ("preset 25", preset(25), DEFAULT, ()),
    ("preset 50", preset(50), DEFAULT, ()),
    ("preset 75", preset(75), DEFAULT, ()),
    ("preset 100: the ninth task of 4 GiB", preset(100), DEFAULT,
     ("17 tasks do not fit", "17 of 18 ENI slots", "worker 2 of 2 has no place", "4,096 MiB", "7 x m7g.xlarge",
      "--wps 75", "trunking alone does not help")),
    ("preset 100 on one more instance", preset(100), planned(M7G, 7), ()),
    ("preset 150: CPU, memory and ENIs", preset(150), DEFAULT,
     ("29,440 of 24,576 CPU units (4,864 missing)", "116,224 of 90,930 MiB (25,294 missing)",
      "20 of 18 ENI slots (2 missing), 120 with trunking", "11 x m7g.xlarge", "--wps 75")),
    ("preset 150 with trunking", preset(150), planned(M7G, 6, trunking=True),
     ("(25,294 missing)", "20 of 120 ENI slots")),
    ("preset 200 on its fleet", preset(200), LARGEST, ()),
    ("preset 400 on its fleet", preset(400), LARGEST, ()),
    ("preset 200 on the default fleet", preset(200), DEFAULT,
     ("78,080 missing", "history 7 of 16", "27 x m7g.xlarge", "more than the 20", "10 x m8g.4xlarge")),
    ("many small tasks: ENIs alone", counts(8, 6, 4, 4), DEFAULT,
     ("25 of 18 ENI slots (7 missing)", "worker 1 of 4", "6 x m7g.xlarge with ENI trunking (20 tasks",
      "9 x m7g.xlarge")),
    ("many small tasks with trunking", counts(8, 6, 4, 4), planned(M7G, 6, trunking=True), ()),
    ("12 tasks in 12 slots that may grow", counts(3, 2, 2, 2), planned(M8G, 4), ()),
    ("12 tasks in 12 slots that may not", counts(3, 2, 2, 2), planned(M8G, 4, growth=0),
     ("no place for a rolling deployment of history, matching, frontend, worker, ui, grafana, adot",
      "with ENI trunking", "5 x m8g.xlarge")),
    ("8, 4 and 4 GiB on one xlarge", (Need("history", 1, 8192), *[Need("worker", 1, 4096)] * 2), planned(M7G, 1),
     ("3 tasks do not fit on 1 x m7g.xlarge", "worker 2 of 2")),
    ("8 and 4 GiB on one xlarge", (Need("history", 1, 8192), Need("worker", 1, 4096)), planned(M7G, 1), ()),
    ("a task larger than an instance", preset(75), planned(INSTANCE_TYPES["c7g.large"], 20),
     ("No instance of 20 x c7g.large can hold history 1 of 4", "8,192 MiB", "10 x m8g.4xlarge")),
    ("no instance", preset(25), planned(M7G, 0), ("0 x m7g.xlarge", "history 1 of 2")),
    ("no task", (), DEFAULT, ()),
]  # fmt: skip


@pytest.mark.parametrize(("tasks", "fleet", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_table(tasks, fleet, said):
    found = check(tasks, fleet)
    error = refusal(found)
    if not said:
        assert error is None
        assert found.fits
        assert not any(found.missing)
        return
    assert isinstance(error, TecsError)
    assert [words for words in said if words not in f"{error.message} {error.hint}"] == []


@pytest.mark.parametrize("wps", [25, 50, 75])
def test_the_default_fleet_gives_the_small_presets_room_to_be_deployed_without_growing(wps):
    found = check(preset(wps), DEFAULT)
    assert found.sound
    assert found.waiting == ()
    assert warnings(found) == ()


def test_a_full_fleet_warns_that_every_rolling_deployment_waits():
    found = check(counts(3, 2, 2, 2), planned(M8G, 4))
    assert found.waiting == tuple(SERVICES)
    assert found.stuck == ()
    (warning,) = warnings(found)
    assert warning == (
        "4 x m8g.xlarge have no place left for a rolling deployment of history, matching, frontend, worker, ui, "
        "grafana, adot: it waits for an instance"
    )


# Two history tasks could share one instance and leave the other to the worker; ECS spreads them, half an instance each.
SPREAD = (*[Need("history", 1, 4000)] * 2, Need("worker", 1, 8000))
HALVES = (Room(8, 8000, 3, "a"), Room(8, 8000, 3, "b"))


def test_what_ecs_leaves_over_though_it_could_be_packed_is_a_warning_not_a_refusal():
    found = check(SPREAD, Fleet(rooms=HALVES, spare=(Room(8, 8000, 3, "a"), Room(8, 8000, 3, "b"))))
    assert pack(SPREAD, HALVES) is not None
    assert (found.fits, found.unpacked, found.stranded, found.sound) == (True, (2,), (), False)
    assert refusal(found) is None
    assert "may leave over worker 1 of 1 and then adds an instance" in warnings(found)[0]


def test_a_fleet_that_may_not_grow_strands_what_ecs_leaves_over():
    rooms = (*HALVES, Room(8, 4000, 1, "a"))
    found = check(SPREAD, Fleet(rooms=rooms))
    assert found.unpacked == found.stranded == (2,)
    assert "no further instance" in warnings(found)[0]


def test_ecs_spreads_over_zones_then_instances():
    rooms = [M7G.room(zone=zone) for zone in "aab"]
    history = [Need("history", 100, 100)] * 4
    assert ecs_order(history, rooms) == (0, 2, 1, 2)
    assert ecs_order([Need("ui", 100, 100)] * 4, rooms) == (0, 2, 0, 2)
    assert ecs_order(history, rooms, [1, 1]) == (1, 1, 2, 2)


def instance(*, cpu=4096, memory=15700, running=0, trunk=False, left=None):
    def amounts(cpu, memory):
        return [
            {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": memory},
            {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
        ]

    attributes = [{"name": "ecs.availability-zone", "value": "eu-west-1a"}, {"name": "ecs.capability.ecr-auth"}]
    return {
        "registeredResources": amounts(cpu, memory),
        "remainingResources": amounts(*(left or (cpu, memory))),
        "runningTasksCount": running,
        "pendingTasksCount": 0,
        "attributes": [*attributes, *([{"name": "ecs.awsvpc-trunk-id", "value": "eni-1"}] if trunk else [])],
    }


def test_what_instances_registered_wins_over_the_estimate():
    assert observed(instance(), M7G) == Room(4096, 15700, 3, "eu-west-1a")
    assert observed(instance(trunk=True), M7G).slots == 20
    task = Need("worker", 1, 15500)
    assert refusal(check([task], planned(M7G, 1))) is not None
    real = observed(instance(), M7G)
    assert refusal(check([task], Fleet(rooms=(real,), spare=(real,)))) is None
    assert refusal(check([task], planned(replace(M7G, registered=15700), 1))) is None


def test_what_remains_takes_tasks_to_be_added():
    rooms = tuple(
        observed(instance(running=running, left=left), M7G, remaining=True)
        for running, left in ((2, (1024, 3400)), (3, (3000, 15000)), (1, (2048, 7500)))
    )
    assert [room.slots for room in rooms] == [1, 0, 2]
    fleet = Fleet(rooms=rooms, spare=(M7G.room(),), kind=M7G)
    assert refusal(check([Need("worker", 1024, 4096)], fleet)) is None
    error = refusal(check([Need("worker", 1024, 4096)] * 2, fleet))
    assert error is not None
    assert "2 tasks do not fit on 3 x m7g.xlarge" in error.message
    assert "worker 2 of 2" in error.message


def test_a_type_that_the_table_lacks_is_given_as_ecs_and_ec2_tell_it():
    strange = InstanceType(name="t4g.xlarge", cpu=4096, memory=16384, enis=4)
    assert strange.room(trunking=True).slots == 3
    unknown = check(counts(3, 2, 2, 2), Fleet(rooms=(M7G.room(),) * 3))
    error = refusal(unknown)
    assert error is not None
    assert "12 tasks do not fit on 3 instances" in error.message
    assert "12 of 9 ENI slots (3 missing);" in error.message


def test_the_table_of_types():
    assert (M7G.cpu, M7G.memory, M7G.slots(trunking=False), M7G.slots(trunking=True)) == (4096, 16384, 3, 20)
    assert [INSTANCE_TYPES[f"r7g.{size}"].slots(trunking=False) for size in ("medium", "large", "16xlarge")] == [
        1,
        2,
        14,
    ]
    assert INSTANCE_TYPES["c7g.2xlarge"].memory == 16384
    assert INSTANCE_TYPES["r7g.medium"].memory == 8192
    assert len(INSTANCE_TYPES) == 40
    assert reserve(8192) > 8192 - 7985  # AWS's example, m4.large
    assert all(kind.memory > kind.room().memory > 0.87 * kind.memory for kind in INSTANCE_TYPES.values())
    assert {room.zone for room in DEFAULT.rooms} == {"0", "1"}


def test_the_size_of_a_task_is_all_that_it_takes():
    tasks = needs({"ui": SMALL, "history": Size(2, 2048, 8192), "worker": Size(0, 1, 1)})
    assert tasks == (Need("history", 2048, 8192), Need("history", 2048, 8192), Need("ui", 256, 512))
    assert rolling(tasks) == {"history": tasks[:1], "ui": tasks[2:]}


def test_a_recommended_fleet_is_the_smallest_sound_one():
    for wps in (75, 100, 150):
        count = smallest(preset(wps), DEFAULT, trunking=False)
        assert count is not None
        assert check(preset(wps), planned(M7G, count)).sound
        assert not check(preset(wps), planned(M7G, count - 1)).sound
    assert smallest([Need("history", 1, 16384)], DEFAULT, trunking=False) is None
    assert smallest((), Fleet(rooms=()), trunking=False) is None


@pytest.mark.parametrize(("wps", "tier"), [(1, 25), (25, 25), (26, 50), (99, 100), (101, 150), (151, 200), (400, 400)])
def test_a_rate_between_tiers_takes_the_next(wps, tier):
    assert preset_for(wps) == tier


@pytest.mark.parametrize(
    ("wps", "said"), [(401, "11 x m8g.4xlarge"), (1000, "25 x m8g.4xlarge"), (0, "no rate"), (-5, "no rate")]
)
def test_a_rate_beyond_the_tiers_is_refused(wps, said):
    with pytest.raises(TecsError) as caught:
        preset_for(wps)
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_44_tasks_on_12_instances_take_no_time_even_where_greedy_fails():
    sizes = [(1024, 5003), (990, 3701), (1501, 7013), (700, 2503), (256, 1201), (512, 3307)]  # they leave no air
    tasks = [Need("worker", *sizes[index % 6]) for index in range(44)]
    room = Room(sum(task.cpu for task in tasks) // 12 + 20, sum(task.memory for task in tasks) // 12 + 60, 4)
    times = []
    for _ in range(3):
        start = time.process_time()
        assert pack(tasks, [room] * 12) is None
        times.append(time.process_time() - start)
    assert min(times) < 0.2  # a quarter of that where nothing else runs


TASKS = st.lists(
    st.builds(
        Need,
        st.sampled_from(["history", "matching", "worker", "ui"]),
        st.sampled_from([1, 2, 3, 4]),
        st.sampled_from([1, 2, 4, 5]),
    ),
    max_size=9,
)
ROOMS = st.lists(
    st.builds(Room, st.integers(0, 8), st.integers(0, 9), st.integers(0, 4), st.sampled_from("ab")), max_size=4
)


def within(tasks, rooms, places):
    for at, room in enumerate(rooms):
        here = [task for task, place in zip(tasks, places, strict=True) if place == at]
        assert sum(task.cpu for task in here) <= room.cpu
        assert sum(task.memory for task in here) <= room.memory
        assert len(here) <= room.slots


@given(TASKS, ROOMS)
def test_what_is_said_to_fit_fits(tasks, rooms):
    places = pack(tasks, rooms)
    if places is not None:
        within(tasks, rooms, places)
    simulated = ecs_order(tasks, rooms)
    within(tasks, rooms, simulated)
    if None not in simulated:
        assert places is not None


@given(TASKS.filter(lambda tasks: len(tasks) <= 6), ROOMS.filter(lambda rooms: len(rooms) <= 3))
def test_what_is_said_not_to_fit_does_not_in_any_way(tasks, rooms):
    def fits(places):
        try:
            within(tasks, rooms, places)
        except AssertionError:
            return False
        return True

    any_way = any(fits(places) for places in itertools.product(range(len(rooms)), repeat=len(tasks)))
    assert (pack(tasks, rooms) is not None) == any_way


@given(TASKS, ROOMS, st.data())
def test_the_search_alone_finds_what_greedy_finds(tasks, rooms, data):
    if pack(tasks, rooms) is not None and tasks:
        places = placement._Search(tasks, rooms).run()
        assert places is not None
        within(tasks, rooms, places)


@given(TASKS, ROOMS, st.data())
def test_less_to_place_or_more_room_never_fits_worse(tasks, rooms, data):
    if pack(tasks, rooms) is None:
        return
    if tasks:
        gone = data.draw(st.integers(0, len(tasks) - 1))
        assert pack(tasks[:gone] + tasks[gone + 1 :], rooms) is not None
    at = data.draw(st.integers(0, len(rooms)))
    more = Room(*data.draw(st.tuples(st.integers(0, 8), st.integers(0, 9), st.integers(0, 4))))
    assert pack(tasks, [*rooms[:at], more, *rooms[at:]]) is not None


@given(TASKS, ROOMS)
def test_the_check_is_the_same_each_time_and_names_the_first_without_a_place(tasks, rooms):
    tasks = sorted(tasks, key=lambda task: list(SERVICES).index(task.service))
    found = check(tasks, Fleet(rooms=tuple(rooms)))
    assert found == check(tasks, Fleet(rooms=tuple(rooms)))
    if found.first is not None:
        assert pack(tasks[: found.first], rooms) is not None
        assert pack(tasks[: found.first + 1], rooms) is None
    assert (refusal(found) is None) == (found.fits and not found.stuck)
