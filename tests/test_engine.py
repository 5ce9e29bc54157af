"""The engine: order, decisions, patience, memory. Only time and the cloud are fakes."""

from __future__ import annotations

import itertools
import math
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from fakes import (
    REGION,
    WRITING,
    Call,
    FakeAws,
    FakeBrief,
    FakeEdition,
    FakePermanent,
    FakeQuiet,
    FakeShy,
    FakeSlow,
    FakeStore,
    FakeThing,
    FakeTitled,
    FakeTokened,
    FakeUntaggable,
    Killed,
    Thing,
    VirtualClock,
    World,
    refusal,
)
from temporal_ecs.aws import _Listings
from temporal_ecs.engine import PASSES, VISIBLE
from temporal_ecs.errors import LOCKED, TecsError
from temporal_ecs.resource import Ref
from temporal_ecs.walk import closure


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


MEMORY = Path("/dev/shm")


@contextmanager
def worlds(**options: Any) -> Iterator[Callable[[], World]]:
    """Makes any number of worlds, for tests with many runs: in memory where that can be, and without long waits."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        numbers = iter(range(1_000_000))

        def another() -> World:
            path = Path(folder) / str(next(numbers))
            path.mkdir()
            return World(path, visible=6.0, **options)

        yield another


Plan = list[tuple[int, set[int]]]
"""For each resource which kind it is, and which of the earlier ones it uses."""

KINDS: tuple[type[FakeThing], ...] = (FakeThing, FakeTitled, FakeTokened, FakeBrief, FakeQuiet, FakeEdition, FakeShy)


@st.composite
def plans(draw: st.DrawFn, max_size: int = 8) -> Plan:
    size = draw(st.integers(1, max_size))
    return [
        (draw(st.integers(0, len(KINDS) - 1)), draw(st.sets(st.integers(0, max(0, i - 1)), max_size=min(i, 3))))
        for i in range(size)
    ]


def declared(plan: Plan) -> list[FakeThing]:
    return [
        KINDS[kind](name=f"n{i}", uses=tuple(Ref(f"n{j}") for j in sorted(uses)), colour="red" if i % 2 else None)
        for i, (kind, uses) in enumerate(plan)
    ]


def chain(*kinds: type[FakeThing], **fields: Any) -> list[FakeThing]:
    """a, b, c …, each using the one before."""
    names = "abcdefgh"
    return [kind(name=names[i], uses=(Ref(names[i - 1]),) if i else (), **fields) for i, kind in enumerate(kinds)]


# ----------------------------------------------------------------------------------------------- order


@given(plans(12))
def test_each_resource_is_created_once_after_all_that_it_needs(plan):
    with worlds() as another:
        world, stack = another(), declared(plan)
        result = world.provision(*stack)
        assert result.ok, result.errors
        made = world.cloud.names("create")
        assert sorted(made) == sorted(item.name for item in stack)
        assert all(made.index(need) < made.index(item.name) for item in stack for need in item.needs())
        assert set(result.outcomes.values()) == {"created"}
        assert {r["status"] for r in world.written().values()} == {"ready"}


@given(plans(12))
def test_a_second_provision_changes_nothing_and_plan_says_same(plan):
    with worlds() as another:
        world, stack = another(), declared(plan)
        world.provision(*stack)
        before = world.path.read_bytes()
        with world.counting(*WRITING) as writes:
            assert set(world.provision(*stack).outcomes.values()) == {"same"}
            assert set(world.actions(*stack).values()) == {"same"}
        assert writes() == 0
        assert world.path.read_bytes() == before


@given(plans(12))
def test_teardown_goes_the_other_way_and_leaves_nothing(plan):
    with worlds() as another:
        world, stack = another(), declared(plan)
        world.provision(*stack)
        result = world.teardown(*stack)
        assert result.ok, result.errors
        assert set(result.outcomes.values()) == {"gone"}
        gone = [event.resource for event in world.events if event.phase == "gone"]
        assert all(gone.index(need) > gone.index(item.name) for item in stack for need in item.needs())
        assert world.cloud.alive() == []
        assert world.written() == {}


@given(plans(12), st.data())
def test_a_failure_skips_exactly_its_dependants(plan, data):
    broken = data.draw(st.sets(st.sampled_from([f"n{i}" for i in range(len(plan))])))
    with worlds() as another:
        world, stack = another(), declared(plan)
        needs = {item.name: item.needs() for item in stack}

        def fault(call: Call) -> None:
            if call.verb == "create" and call.name in broken:
                raise refusal("Thing.Broken", f"{call.name} is broken")

        world.cloud.before = fault
        result = world.provision(*stack)
        skipped = {n for n in needs if (closure([n], needs.__getitem__) - {n}) & broken}
        assert {n for n, outcome in result.outcomes.items() if outcome == "skipped"} == skipped
        assert result.errors.keys() == broken - skipped
        assert {n for n, outcome in result.outcomes.items() if outcome == "created"} == needs.keys() - broken - skipped
        assert all(f"{name} is broken" in str(error) for name, error in result.errors.items())

        world.cloud.before = lambda _: None  # mended
        assert world.provision(*stack).ok
        assert len(world.cloud.content()) == len(stack)


def test_a_skipped_resource_says_what_it_waits_for(world):
    def fault(call: Call) -> None:
        if (call.verb, call.name) == ("create", "a"):
            raise refusal("AccessDenied")

    world.cloud.before = fault
    result = world.provision(*chain(FakeThing, FakeThing, FakeThing))
    assert result.outcomes == {"a": "failed", "b": "skipped", "c": "skipped"}
    assert [(e.resource, e.detail) for e in world.events if e.phase == "skipped"] == [
        ("b", "waits for a"),
        ("c", "waits for b"),
    ]
    assert not result.ok


def test_order_without_data_is_kept_too(world):
    first, second = FakeSlow(name="first"), FakeThing(name="second", after=("first",))
    assert world.provision(second, first).ok
    assert world.cloud.times("create", name="second") >= [100]
    assert world.written()["second"]["needs"] == ["first"]
    world.teardown(second, first)
    assert world.cloud.names("delete") == ["second", "first"]


def test_only_the_named_resources_and_what_they_need_are_made(world):
    stack = [*chain(FakeThing, FakeThing, FakeThing), FakeThing(name="other")]
    assert world.provision(*stack, names=["b"]).outcomes == {"a": "created", "b": "created"}
    assert world.plan(*stack, names=["c"]).keys() == {"a", "b", "c"}


def test_only_the_named_resources_and_what_uses_them_are_removed(world):
    stack = [*chain(FakeThing, FakeThing, FakeThing), FakeThing(name="other")]
    world.provision(*stack)
    assert world.teardown(*stack, names=["b"]).outcomes == {"b": "gone", "c": "gone"}
    assert sorted(world.written()) == ["a", "other"]


def test_what_takes_longest_goes_first(world):
    world = World(world.path.parent, workers=1)
    world.provision(FakeThing(name="quick"), FakeSlow(name="slow"), FakeThing(name="also-quick"))
    assert world.cloud.names("create")[0] == "slow"


def test_the_longest_chain_and_all_durations_are_told(tmp_path):
    world = World(tmp_path, latency=0.1)
    stack = [FakeSlow(name="a"), FakeSlow(name="b", uses=(Ref("a"),)), FakeThing(name="c", uses=(Ref("b"),))]
    result = world.provision(*stack, FakeThing(name="aside"))
    assert result.longest == ["a", "b", "c"]
    assert result.seconds == pytest.approx(200, abs=10)
    assert result.took["b"] == pytest.approx(100, abs=4)
    assert result.finished["c"] == result.seconds
    assert result.count("created") == 4


# ---------------------------------------------------------------------------------------------- waiting


def test_a_hundred_waiting_resources_need_but_two_threads(tmp_path):
    world = World(tmp_path, workers=2)
    result = world.provision(*(FakeSlow(name=f"n{i}") for i in range(100)))
    assert result.ok
    assert result.seconds <= 104


def test_looks_in_the_same_tick_share_one_listing(world):
    world.provision(*(FakeSlow(name=f"n{i}") for i in range(50)))
    looks = world.cloud.times("list")
    later = [at for at in looks if at > 0]
    assert len(later) == len(set(later)), "one listing for each moment"
    assert len(looks) < 150, "50 looks at the start, 50 after creation at the worst, then one a tick"


@pytest.mark.parametrize("poll", [0.2, 1.0, 0.3])
@pytest.mark.parametrize("start", [0.0, 0.55, 1234567.891])
@pytest.mark.parametrize("takes", [0.1, 0.7, 1.5, 20.0, 33.4, 99.3, 1000.0, 3599.0])
def test_what_has_settled_is_seen_at_most_three_percent_or_one_tick_late(tmp_path, poll, start, takes):
    class FakePatient(FakeThing):
        settles = takes
        timeout = 4000

    world = World(tmp_path)
    world.clock._now = start
    result = world.provision(FakePatient(name="a"), poll=poll)
    assert result.ok
    assert takes <= result.seconds <= takes + max(poll, 0.03 * takes) + 1e-6
    assert world.cloud.count("list") <= 8 + (2 + math.log(max(1.0, takes * 0.03 / poll))) / 0.03, "ever fewer looks"


def test_polling_keeps_its_rhythm_when_looks_take_time(tmp_path):
    world = World(tmp_path, latency=0.05)
    world.provision(FakeSlow(name="a"))
    looks = [at for at in world.cloud.times("list") if 2 < at < 30]
    assert [b - a for a, b in itertools.pairwise(looks)] == pytest.approx([1.0] * (len(looks) - 1))


def test_waiting_says_for_what_how_long_and_what_is_usual(world):
    world.provision(FakeSlow(name="a"))
    waits = [event for event in world.events if event.phase == "wait"]
    assert {(event.resource, event.detail, event.typical) for event in waits} == {("a", "being made", (60, 120))}
    assert [event.seconds for event in waits] == sorted(event.seconds for event in waits)
    assert waits[-1].seconds > 90


def test_what_does_not_settle_in_time_says_so_and_can_be_waited_for_again(world):
    class FakeTardy(FakeThing):
        settles = 500.0
        timeout = 200

    result = world.provision(FakeTardy(name="a"))
    (error,) = result.errors.values()
    assert "a: not settled after 20" in str(error)
    assert "(being made)" in str(error)
    assert "again" in error.hint
    assert world.written()["a"] | {"outputs": 0, "spec": 0} == {
        "kind": "FakeTardy",
        "id": world.cloud.the("a").id,
        "status": "creating",
        "needs": [],
        "order": [],
        "outputs": 0,
        "spec": 0,
        "token": world.written()["a"]["token"],
    }
    assert not world.provision(FakeTardy(name="a")).ok
    assert world.provision(FakeTardy(name="a")).ok
    assert world.cloud.count("create") == 1


def test_what_failed_stops_at_once_with_the_reason_of_aws(world):
    class FakeDoomed(FakeSlow):
        def thing(self, aws, token):
            return replace(super().thing(aws, token), failed="no addresses left")

    stack = [FakeDoomed(name="a"), FakeThing(name="b", uses=(Ref("a"),))]
    result = world.provision(*stack)
    assert "AWS gave up: no addresses left" in str(result.errors["a"])
    assert result.outcomes["b"] == "skipped"
    assert result.seconds < 2
    change = world.plan(*stack)["a"]
    assert change.action == "blocked"
    assert "no addresses left" in change.reason
    assert "tecs teardown a" in change.reason
    assert "no addresses left" in str(world.provision(*stack).errors["a"])
    assert world.cloud.count("create") == 1


def test_what_failed_can_be_torn_down(world):
    class FakeFailing(FakeSlow):
        settles = 0.0

        def thing(self, aws, token):
            return replace(super().thing(aws, token), failed="no addresses left")

    world.provision(FakeFailing(name="a"))
    result = world.teardown(FakeFailing(name="a"))
    assert result.outcomes == {"a": "gone"}
    assert world.cloud.alive() == []


def test_a_deletion_that_fails_stops_at_once_with_the_reason_of_aws(world):
    world.provision(FakeSlow(name="a"))

    def fail(call: Call) -> None:
        if call.verb == "list" and world.cloud.the("a").gone is not None:
            world.cloud.change("a", failed="it has a snapshot")

    world.cloud.before = fail
    result = world.teardown(FakeSlow(name="a"))
    assert "AWS gave up: it has a snapshot" in str(result.errors["a"])
    assert result.seconds < 5
    assert world.written()["a"]["status"] == "deleting"


def test_what_is_being_deleted_is_waited_for_and_then_made_anew(world):
    world.provision(FakeSlow(name="a"))
    old = world.cloud.the("a").id
    world.cloud.change("a", gone=world.clock.now() + 30)
    assert world.plan(FakeSlow(name="a"))["a"].action == "pending"
    start = world.clock.now()
    result = world.provision(FakeSlow(name="a"))
    assert result.outcomes == {"a": "created"}
    assert world.cloud.the("a").id != old
    assert world.cloud.times("create")[-1] - start >= 30


def test_what_was_left_pending_is_waited_for_before_it_is_changed(world):
    world.provision(FakeSlow(name="a"))
    world.cloud.change("a", settled=world.clock.now() + 50)
    start = world.clock.now()
    result = world.provision(FakeSlow(name="a", size=2))
    assert result.outcomes == {"a": "updated"}
    assert world.cloud.times("update")[0] - start >= 50


# -------------------------------------------------------------------------------------------- decisions


def test_what_create_cannot_set_is_set_by_an_update(world):
    result = world.provision(FakeThing(name="a", colour="red"))
    assert result.outcomes == {"a": "created"}
    assert world.cloud.names("create", "update") == ["a", "a"]
    assert world.cloud.the("a").fields["colour"] == "red"


def test_a_change_behind_our_back_is_shown_and_put_back(world):
    world.provision(FakeThing(name="a"))
    world.cloud.change("a", fields={"size": 9, "uses": []})
    assert world.plan(FakeThing(name="a"))["a"].fields == {"size": (9, 1)}
    assert world.provision(FakeThing(name="a")).outcomes == {"a": "updated"}
    assert world.cloud.the("a").fields["size"] == 1
    assert world.provision(FakeThing(name="a")).outcomes == {"a": "same"}


def test_lost_and_changed_tags_are_put_back_and_foreign_ones_left_alone(world):
    world.provision(FakeThing(name="a"))
    tags = world.cloud.the("a").tags
    spoilt = {k: v for k, v in tags.items() if k != "Name"} | {"Environment": "production", "CostCentre": "7"}
    world.cloud.change("a", tags=spoilt)
    assert world.plan(FakeThing(name="a"))["a"].fields == {
        "tags": (
            {"Name": None, "Environment": "production"},
            {"Name": tags["Name"], "Environment": tags["Environment"]},
        )
    }
    world.provision(FakeThing(name="a"))
    assert world.cloud.the("a").tags == tags | {"CostCentre": "7"}
    assert world.cloud.count("update") == 0


def test_a_resource_behind_whose_updates_aws_does_nothing_is_given_up(world):
    class FakeStubborn(FakeThing):
        def update(self, aws, live, changed):
            aws.cloud.call("update", self.name, lambda: None)

    result = world.provision(FakeStubborn(name="a", colour="red"))
    error = result.errors["a"]
    assert isinstance(error, TecsError)
    assert "a: AWS accepted every change but still reports another colour" in str(error)
    assert world.cloud.count("create", "update") == PASSES


def test_what_cannot_change_in_place_is_blocked_and_both_ways_out_are_told(world):
    class FakeStone(FakeThing):
        mutable = frozenset({"colour"})

    world.provision(FakeStone(name="a"))
    change = world.plan(FakeStone(name="a", size=2))["a"]
    assert (change.action, change.fields) == ("blocked", {"size": (1, 2)})
    assert "size is 1, wanted 2" in change.reason
    assert "put the old value back" in change.reason
    assert "tecs teardown a" in change.reason
    with world.counting(*WRITING) as writes:
        result = world.provision(FakeStone(name="a", size=2, colour="red"))
    assert "a is blocked" in str(result.errors["a"])
    assert writes() == 0


def test_a_change_that_makes_a_successor_gives_users_its_id(world):
    def stack(size: int) -> list[FakeThing]:
        return [FakeEdition(name="a", size=size), FakeReader(name="b", reads=Ref("a"))]

    @dataclass(frozen=True, kw_only=True)
    class FakeReader(FakeThing):
        reads: str | Ref | None = None
        mutable = FakeThing.mutable | {"reads"}

        def fields_now(self):
            return super().fields_now() | {"reads": self.reads}

    world.provision(*stack(1))
    old = world.written()["a"]["id"]
    plan = world.plan(*stack(2))
    assert (plan["a"].action, plan["a"].fields) == ("replace", {"size": (1, 2)})
    assert (plan["b"].action, plan["b"].note) == ("same", "looked at again after a")
    result = world.provision(*stack(2))
    assert result.outcomes == {"a": "replaced", "b": "updated"}
    new = world.written()["a"]["id"]
    assert new != old
    assert world.cloud.the("b").fields["reads"] == new
    assert {old, new} == {thing.id for thing in world.cloud.of("a")}
    assert set(world.actions(*stack(2)).values()) == {"same"}


@dataclass(frozen=True, kw_only=True)
class FakeAtPath(FakeThing):
    """A kind that is found at its path, whatever its id."""

    path: str = ""
    mutable = frozenset({"colour"})

    def fields_now(self):
        return super().fields_now() | {"path": self.path}

    def is_(self, aws, thing, id_):
        return thing.fields.get("path") == self.path


def test_a_thing_declared_under_another_name_is_blocked_and_not_made_beside_the_old_one(world):
    world.provision(FakeAtPath(name="a", path="/old"))
    change = world.plan(FakeAtPath(name="a", path="/new"))["a"]
    assert (change.action, change.fields) == ("blocked", {"path": ("/old", "/new")})
    assert not world.provision(FakeAtPath(name="a", path="/new")).ok
    assert world.cloud.count("create") == 1


def test_what_is_owned_elsewhere_or_unset_never_counts_as_drift(world):
    world.provision(FakeThing(name="a", size=None, count=3))
    assert world.cloud.the("a").fields["size"] == 7, "AWS's default"
    world.cloud.change("a", fields=world.cloud.the("a").fields | {"count": 50})
    assert world.actions(FakeThing(name="a", size=None, count=4)) == {"a": "same"}


def test_what_aws_never_tells_is_neither_compared_nor_stored(world):
    world.provision(FakeThing(name="a", secret="hunter2"))
    assert world.cloud.the("a").fields["secret"] == "hunter2"
    assert world.actions(FakeThing(name="a", secret="changed")) == {"a": "same"}
    world.provision(FakeThing(name="a", secret="changed"))
    files = b"".join(path.read_bytes() for path in world.path.parent.iterdir())
    assert b"hunter2" not in files
    assert b"changed" not in files
    assert "secret" not in world.written()["a"]["spec"]


def test_references_take_their_values_from_what_was_made(world):
    @dataclass(frozen=True, kw_only=True)
    class FakeDialler(FakeThing):
        url: str | Ref = ""

        def fields_now(self):
            return super().fields_now() | {"url": self.url}

    world.provision(FakeThing(name="a"), FakeDialler(name="b", url=Ref("a", "address", "https://{}:7233")))
    assert world.cloud.the("b").fields["url"] == f"https://{world.cloud.the('a').id}.example:7233"


def test_a_reference_to_an_output_that_does_not_exist_names_those_that_do(world):
    result = world.provision(FakeThing(name="a"), FakeThing(name="b", uses=(Ref("a", "adress"),)))
    error = result.errors["b"]
    assert "a has no output 'adress'" in str(error)
    assert "address" in error.hint
    assert "pending" not in error.hint


OWNER = Ref("aws", "account")


def test_facts_of_the_account_are_no_dependency(world):
    @dataclass(frozen=True, kw_only=True)
    class FakeNamed(FakeThing):
        owner: str | Ref = OWNER

        def fields_now(self):
            return super().fields_now() | {"owner": self.owner}

    assert world.provision(FakeNamed(name="a")).ok
    assert world.cloud.the("a").fields["owner"] == "123456789012"
    assert world.written()["a"]["needs"] == []


# ------------------------------------------------------------------------------------------- whose it is


def foreign(world: World, kind: type[FakeThing], name: str = "a", **tags: str) -> None:
    world.cloud.make(
        Thing(id="", kind=kind.__name__, title=name, fields={"size": 1, "uses": []}, tags=tags), titled=True
    )


@pytest.mark.parametrize("kind", [FakeTitled, FakeQuiet])
def test_a_foreign_thing_of_the_same_name_is_blocked(world, kind):
    foreign(world, kind, **{"tecs:project": "other", "tecs:name": "a", "tecs:region": REGION})
    change = world.plan(kind(name="a"))["a"]
    assert change.action == "blocked"
    assert "exists and is not ours" in change.reason
    assert "tecs provision --adopt a" in change.reason
    with world.counting(*WRITING) as writes:
        result = world.provision(kind(name="a"), FakeThing(name="b", uses=(Ref("a"),)))
    assert result.outcomes == {"a": "failed", "b": "skipped"}
    assert writes() == 0
    assert world.written() == {}


@pytest.mark.parametrize("kind", [FakeTitled, FakeQuiet])
def test_adoption_tags_a_foreign_thing_and_makes_it_as_declared(world, kind):
    foreign(world, kind, owner="somebody")
    assert world.actions(kind(name="a", size=2), adopt=["a"]) == {"a": "adopt"}
    result = world.provision(kind(name="a", size=2), adopt=["a"])
    assert result.outcomes == {"a": "adopted"}
    thing = world.cloud.the("a")
    assert thing.fields["size"] == 2
    assert thing.tags["tecs:name"] == "a"
    assert thing.tags["owner"] == "somebody"
    assert world.cloud.count("create") == 0
    assert world.actions(kind(name="a", size=2)) == {"a": "same"}
    assert world.teardown(kind(name="a")).outcomes == {"a": "gone"}


def test_adoption_of_what_does_not_exist_creates_it(world):
    assert world.provision(FakeTitled(name="a"), adopt=["a"]).outcomes == {"a": "created"}


def test_an_untaggable_thing_is_ours_if_its_parent_is(world):
    world.provision(FakeThing(name="parent"))
    foreign(world, FakeUntaggable, "child")
    stack = [FakeThing(name="parent"), FakeUntaggable(name="child", after=("parent",))]
    assert world.provision(*stack).outcomes["child"] == "same"
    assert world.teardown(*stack).outcomes["child"] == "gone"


@pytest.mark.parametrize("kind", [FakeThing, FakeQuiet])
def test_teardown_leaves_what_lost_our_tags(world, kind):
    world.provision(kind(name="a"))
    world.cloud.change("a", tags={"owner": "somebody"})
    result = world.teardown(kind(name="a"))
    assert result.outcomes == {"a": "failed"}
    assert world.cloud.count("delete") == 0
    assert world.written()["a"]["id"]  # not forgotten either
    assert "carries no tags of ours any more" in str(result.errors["a"])


def test_what_belongs_to_the_account_is_never_deleted(world):
    world.provision(FakePermanent(name="a"))
    assert world.teardown(FakePermanent(name="a"), with_data=True).outcomes == {"a": "kept"}
    assert world.cloud.of("a")
    assert world.written() == {}


def test_what_holds_data_stays_with_all_that_it_stands_in(world):
    stack = [
        FakeThing(name="network"),
        FakeThing(name="subnet", uses=(Ref("network"),)),
        FakeStore(name="store", uses=(Ref("subnet"),)),
        FakeThing(name="client", uses=(Ref("store"), Ref("network"))),
        FakeThing(name="aside", uses=(Ref("network"),)),
    ]
    world.provision(*stack)
    result = world.teardown(*stack)
    assert result.outcomes == {"client": "gone", "aside": "gone"}
    assert sorted(world.written()) == ["network", "store", "subnet"]
    assert world.teardown(*stack).outcomes == {}
    assert world.teardown(*stack, names=["network"]).outcomes == {}
    assert world.teardown(*stack, with_data=True).ok
    assert world.cloud.alive() == []


def test_what_is_no_longer_declared_shows_in_plan_and_is_torn_down_from_its_record(world):
    a, b = chain(FakeThing, FakeThing)
    world.provision(a, b)
    changes = world.engine(a).plan()
    assert [(change.resource, change.action) for change in changes] == [("a", "same"), ("b", "delete")]
    assert world.provision(a).outcomes == {"a": "same"}, "provision never deletes"
    assert len(world.cloud.alive()) == 2
    assert world.engine(a).plan(["a"]) == changes[:1], "a plan of some names is about those"
    assert world.teardown(a, names=["b"]).outcomes == {"b": "gone"}
    assert world.actions(a) == {"a": "same"}


# ------------------------------------------------------------------------------------------------ plan


def test_plan_writes_nothing_anywhere(world):
    stack = chain(FakeThing, FakeThing, FakeThing, colour="red")
    world.provision(*stack[:2])
    world.cloud.change("a", fields={"size": 9, "colour": "blue", "uses": []})
    before, exists = world.path.read_bytes(), sorted(world.path.parent.iterdir())
    things = dict(world.cloud.things)
    assert world.actions(*stack) == {"a": "update", "b": "same", "c": "create"}
    assert (world.path.read_bytes(), sorted(world.path.parent.iterdir())) == (before, exists)
    assert world.cloud.things == things


def test_plan_of_nothing_yet_is_to_create_everything_and_makes_no_file(world):
    stack = chain(FakeThing, FakeTitled, FakeSlow)
    assert [change.resource for change in world.engine(*reversed(stack)).plan()] == ["a", "b", "c"]
    assert set(world.actions(*stack).values()) == {"create"}
    assert not world.path.exists()
    assert world.cloud.count(*WRITING) == 0


@given(plans(12))
def test_plan_without_a_state_finds_everything_the_same(plan):
    with worlds() as another:
        world, stack = another(), declared(plan)
        world.provision(*stack)
        world.path.unlink()
        assert set(world.actions(*stack).values()) == {"same"}
        assert not world.path.exists()


def test_plan_tells_which_users_of_a_vanished_thing_are_looked_at_again(world):
    stack = [FakeThing(name="a"), FakeThing(name="b", after=("a",)), FakeReader2(name="c", reads=Ref("a", "address"))]
    world.provision(*stack)
    with world.cloud._mutex:
        del world.cloud.things[world.cloud.the("a").id]
    plan = world.plan(*stack)
    assert plan["a"].action == "create"
    assert (plan["b"].action, plan["b"].note) == ("same", "looked at again after a")
    assert (plan["c"].action, plan["c"].note) == ("same", "looked at again after a")
    result = world.provision(*stack)
    assert result.outcomes == {"a": "created", "b": "same", "c": "updated"}


@dataclass(frozen=True, kw_only=True)
class FakeReader2(FakeThing):
    """Reads an output of another without being bound to it in the cloud."""

    reads: str | Ref | None = None

    mutable = FakeThing.mutable | {"reads"}

    def fields_now(self):
        return super().fields_now() | {"reads": self.reads}


def test_plan_raises_what_reading_met(world):
    def fault(call: Call) -> None:
        raise refusal("AccessDenied", "no reading")

    world.cloud.before = fault
    with pytest.raises(Exception, match="no reading"):
        world.plan(FakeThing(name="a"))


def test_plan_shows_what_aws_has_to_note(world):
    class FakeNoted(FakeThing):
        def live(self, aws, thing):
            return super().live(aws, thing) | {"note": "a newer one exists"}

    world.provision(FakeNoted(name="a"))
    assert world.plan(FakeNoted(name="a"))["a"].note == "a newer one exists"
    assert "note" not in world.written()["a"]["outputs"]


# ---------------------------------------------------------------------------------- the operators' lock


def test_before_change_runs_once_however_much_changes(world):
    runs = []
    stack = [FakeThing(name=f"n{i}", colour="red") for i in range(20)]
    world.provision(*stack, before_change=lambda: runs.append(world.cloud.count(*WRITING)))
    assert runs == [0], "once, and before the first change"
    runs.clear()
    world.teardown(*stack, before_change=lambda: runs.append(world.cloud.count("delete")))
    assert runs == [0]


def test_before_change_does_not_run_when_nothing_changes(world):
    runs = []
    stack = chain(FakeThing, FakeSlow, FakeEdition)
    world.provision(*stack)
    world.cloud.change("b", settled=world.clock.now() + 10)
    for options in ({}, {"names": ["a"]}):
        world.provision(*stack, before_change=lambda: runs.append(1), **options)
    world.plan(*stack, before_change=lambda: runs.append(1))
    world.path.unlink()
    world.engine(*stack, before_change=lambda: runs.append(1)).rebuild()
    world.teardown(before_change=lambda: runs.append(1), names=[])
    assert runs == []


def test_what_another_made_before_the_lock_was_ours_is_not_made_again(world):
    stack = chain(FakeThing, FakeThing)
    result = world.provision(*stack, before_change=lambda: make_at_once(world, "a"))
    assert result.ok
    assert world.cloud.names("create") == ["b"]


def make_at_once(world: World, name: str) -> None:
    """Another operator makes it."""
    item, aws = FakeThing(name=name), FakeAws(world.cloud)
    world.cloud.make(item.thing(aws, ""), titled=False)


def test_while_somebody_else_changes_nothing_is_changed_and_he_is_asked_for_once(world):
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise TecsError("another operator is changing it", status=LOCKED)

    with pytest.raises(TecsError, match="another operator is changing it") as refused:
        world.provision(*(FakeThing(name=f"n{i}") for i in range(10)), before_change=refuse)
    assert refused.value.status == LOCKED
    assert world.cloud.count(*WRITING) == 0
    assert asked == [1]
    assert world.written() == {}


# ------------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("kind", KINDS)
def test_intent_is_on_disk_before_the_call_and_the_id_before_the_wait(world, kind):
    seen: dict[str, Any] = {}

    def look(call: Call) -> None:
        seen.setdefault(f"{call.verb} {world.cloud.count('create')}", world.written().get("a"))

    world.cloud.before = look
    world.provision(kind(name="a", size=3))
    assert seen["list 0"] is None
    intent = seen["create 1"]
    assert (intent["status"], intent["id"], intent["spec"]["size"]) == ("creating", None, 3)
    assert len(intent["token"]) == 36
    assert seen["list 1"] | {"spec": 0} == intent | {"id": world.cloud.the("a").id, "spec": 0}
    record = world.written()["a"]
    assert record["status"] == "ready"
    assert "token" not in record
    assert record["outputs"]["address"] == f"{record['id']}.example"


def test_removal_is_on_disk_before_the_call(world):
    world.provision(FakeSlow(name="a"))
    seen = []
    world.cloud.before = lambda call: seen.append((call.verb, world.written()["a"]["status"]))
    world.teardown(FakeSlow(name="a"))
    assert ("delete", "deleting") in seen
    assert ("delete", "ready") not in seen
    assert world.written() == {}


def tokens(world: World) -> list[str]:
    return [thing.token for thing in world.cloud.things.values()]


def test_a_creation_taken_up_again_uses_the_same_token_and_a_new_one_another(world):
    seen = []

    def kill(call: Call) -> None:
        if call.verb == "create":
            seen.append(world.written()["a"]["token"])
            if len(seen) < 3:
                raise Killed

    world.cloud.before = kill
    for _ in range(2):
        with pytest.raises(Killed):
            world.provision(FakeTokened(name="a"))
    assert world.provision(FakeTokened(name="a")).ok
    assert len(set(seen)) == 1
    world.teardown(FakeTokened(name="a"))
    assert world.provision(FakeTokened(name="a")).ok
    assert len(set(seen)) == 2


def test_a_made_thing_that_vanished_before_it_settled_gets_a_new_token(world):
    class FakeSlowTokened(FakeTokened):
        settles = 100.0

    world.clock.interrupts = [50.0]
    assert world.provision(FakeSlowTokened(name="a")).interrupted
    first = world.written()["a"]["token"]
    world.cloud.things.clear()  # deleted by hand
    assert world.provision(FakeSlowTokened(name="a")).ok
    assert tokens(world) != [first], "AWS would answer with the one that was deleted"


def test_a_recorded_thing_that_vanished_is_made_anew(world):
    stack = chain(FakeThing, FakeThing)
    world.provision(*stack)
    old = world.written()["b"]["id"]
    del world.cloud.things[old]
    assert world.actions(*stack) == {"a": "same", "b": "create"}
    assert world.provision(*stack).outcomes == {"a": "same", "b": "created"}
    assert world.written()["b"]["id"] != old


def test_a_recorded_thing_is_looked_for_again_before_it_is_made_anew(world):
    world.provision(FakeThing(name="a"))
    world.cloud.change("a", visible=world.clock.now() + 0.5)
    result = world.provision(FakeThing(name="a"))
    assert result.outcomes == {"a": "same"}
    assert world.cloud.count("create") == 1


def test_what_was_made_a_moment_ago_may_stay_hidden_for_long(world):
    class FakeHidden(FakeThing):
        hides = VISIBLE - 5

    def kill(call: Call) -> None:
        if call.verb == "list" and world.cloud.count("create"):
            raise Killed

    world.cloud.before = kill
    with pytest.raises(Killed):
        world.provision(FakeHidden(name="a"))
    world.cloud.before = lambda _: None
    assert world.provision(FakeHidden(name="a")).ok
    assert len(world.cloud.alive()) == 1


def test_a_change_that_aws_shows_late_is_made_once(world):
    world.provision(FakeShy(name="a"))
    assert world.provision(FakeShy(name="a", size=2, colour="red")).outcomes == {"a": "updated"}
    assert world.cloud.count("update") == 1
    assert world.cloud.the("a").fields["size"] == 2


def test_what_a_cut_removal_still_takes_away_is_not_taken_for_ready(world):
    world.provision(FakeShy(name="a"))
    old = world.cloud.the("a").id
    assert killed_at(world, 2, with_effect=True, act=lambda: world.teardown(FakeShy(name="a")))
    assert world.written()["a"]["status"] == "deleting"
    assert world.provision(FakeShy(name="a")).outcomes == {"a": "created"}
    assert [thing.id for thing in world.cloud.alive()] != [old]
    assert world.cloud.the("a").gone is None


def test_a_cut_removal_that_never_began_leaves_the_thing_as_it_was(world):
    world.provision(FakeShy(name="a"))
    assert killed_at(world, 2, with_effect=False, act=lambda: world.teardown(FakeShy(name="a")))
    assert world.written()["a"]["status"] == "deleting"
    assert world.provision(FakeShy(name="a")).outcomes == {"a": "same"}
    assert world.written()["a"]["status"] == "ready"


@given(plans(12))
def test_a_lost_state_file_is_found_again_and_nothing_is_made(plan):
    with worlds() as another:
        world, stack = another(), declared(plan)
        world.provision(*stack)
        records = world.written()
        world.path.unlink()
        with world.counting(*WRITING) as writes:
            result = world.provision(*stack)
        assert set(result.outcomes.values()) == {"same"}
        assert writes() == 0
        assert world.written() == records


@given(plans(12))
def test_rebuild_gives_the_same_records(plan):
    with worlds() as another:
        world, stack = another(), declared(plan)
        world.provision(*stack)
        records = world.written()
        world.path.unlink()
        with world.counting(*WRITING) as writes:
            result = world.engine(*stack).rebuild()
        assert set(result.outcomes.values()) == {"found"}
        assert writes() == 0
        assert world.written() == records


def test_rebuild_forgets_what_is_not_there_or_not_ours(world):
    stack = [*chain(FakeThing, FakeThing), FakeTitled(name="foreign"), FakeThing(name="never")]
    world.provision(*stack[:2])
    del world.cloud.things[world.written()["b"]["id"]]
    foreign(world, FakeTitled, "foreign")
    result = world.engine(*stack).rebuild()
    assert result.outcomes == {"a": "found", "b": "absent", "foreign": "absent", "never": "absent"}
    assert sorted(world.written()) == ["a"]


def test_rebuild_keeps_what_is_no_longer_declared(world):
    a, b = chain(FakeThing, FakeThing)
    world.provision(a, b)
    world.engine(a).rebuild()
    assert sorted(world.written()) == ["a", "b"]


# --------------------------------------------------------------------------------------------- patience


def times_out(_: object = None) -> ReadTimeoutError:
    return ReadTimeoutError(endpoint_url="https://example")


def failing(world: World, verb: str, errors: list[BaseException], *, with_effect: bool = False) -> None:
    """The next requests of that verb fail with these errors, one after the other."""

    def fault(call: Call) -> None:
        if call.verb == verb and errors:
            raise errors.pop(0)

    if with_effect:
        world.cloud.after = fault
    else:
        world.cloud.before = fault


@pytest.mark.parametrize("error", [refusal("ThrottlingException"), refusal("InternalFailure", status=500), times_out()])
@pytest.mark.parametrize("verb", ["list", "create", "update", "delete"])
def test_what_is_nobodys_fault_is_tried_again(world, verb, error):
    stack = [FakeThing(name="a", colour="red")]
    if verb == "delete":
        world.provision(*stack)
    failing(world, verb, [error] * 3)
    result = world.teardown(*stack) if verb == "delete" else world.provision(*stack)
    assert result.ok, result.errors
    assert world.cloud.count(verb) >= 4
    assert len(world.cloud.alive()) == (verb != "delete")


@pytest.mark.parametrize("kind", [FakeThing, FakeTitled, FakeTokened, FakeSlow])
@pytest.mark.parametrize("error", [refusal("InternalFailure", status=503), times_out()])
def test_a_creation_whose_answer_was_lost_is_looked_for_before_another(world, kind, error):
    failing(world, "create", [error], with_effect=True)
    result = world.provision(kind(name="a"))
    assert result.outcomes["a"] in ("created", "same")
    assert world.cloud.count("create") == 1
    assert len(world.cloud.alive()) == 1


def test_throttled_creations_are_tried_until_the_timeout_and_then_the_cause_is_told(world):
    class FakeHurried(FakeTitled):
        timeout = 60

    failing(world, "create", [refusal("RequestLimitExceeded", "slow down")] * 10)
    assert world.provision(FakeHurried(name="a")).ok
    failing(world, "create", [refusal("RequestLimitExceeded", "slow down")] * 1000)
    result = world.provision(FakeHurried(name="b"))
    assert "slow down" in str(result.errors["b"])
    assert "bug" not in str(result.errors["b"])
    assert 60 <= result.seconds <= 70


@pytest.mark.parametrize(
    "error", [refusal("Thing.Refused", "bad colour"), EndpointConnectionError(endpoint_url="x"), ValueError("a bug")]
)
def test_what_waiting_cannot_mend_stops_at_once(world, error):
    failing(world, "create", [error])
    result = world.provision(FakeThing(name="a"))
    assert result.errors == {"a": error}
    assert result.seconds == 0


def test_a_code_shared_among_causes_is_told_by_its_words(world):
    failing(world, "create", [refusal("Thing.Refused", "The role has Not Propagated yet")] * 5)
    assert world.provision(FakeThing(name="a")).ok
    assert world.cloud.count("create") == 6


def test_a_parent_that_is_not_visible_yet_is_waited_for(world):
    class FakeHidden(FakeThing):
        absent = frozenset({"Thing.NotFound"})

        def find(self, aws, id):  # noqa: A002
            live = super().find(aws, id)
            return live or (self.live(aws, aws.cloud.the(self.name)) if aws.cloud.of(self.name) else None)

        def thing(self, aws, token):
            return replace(super().thing(aws, token), visible=aws.clock.now() + 20)

    class FakeOther(FakeThing):
        absent = frozenset({"Other.NotFound"})

    for child in (FakeThing, FakeOther):  # whether or not its own absence has the same name as its parent's
        stack = [FakeHidden(name=f"p-{child.__name__}"), child(name=child.__name__, uses=(Ref(f"p-{child.__name__}"),))]
        start = world.clock.now()
        result = world.provision(*stack)
        assert result.ok, result.errors
        assert 20 <= world.clock.now() - start <= 22


def test_patience_ends_with_the_reason(world):
    class FakeHurriedToo(FakeThing):
        timeout = 60

    failing(world, "update", [refusal("Thing.InUse", "a client holds it")] * 1000)
    result = world.provision(FakeHurriedToo(name="a", colour="red"))
    assert "a: AWS still refuses after 6" in str(result.errors["a"])
    assert "a client holds it" in str(result.errors["a"])
    assert "again" in result.errors["a"].hint


def test_removal_waits_until_nothing_uses_the_thing_any_more(world):
    world.provision(FakeThing(name="a"))
    (used,) = world.cloud.of("a")
    world.cloud.make(
        Thing(id="", kind="Eni", title="x", fields={"uses": [used.id]}, tags={}, gone=world.clock.now() + 45),
        titled=False,
    )
    start = world.clock.now()
    assert world.teardown(FakeThing(name="a")).ok
    assert 45 <= world.clock.now() - start <= 47


def test_what_vanished_before_its_removal_counts_as_gone(world):
    world.provision(FakeThing(name="a"), FakeThing(name="b"))
    del world.cloud.things[world.cloud.the("a").id]
    failing(world, "delete", [refusal("Thing.NotFound")])

    def vanish(call: Call) -> None:
        if (call.verb, call.name) == ("delete", "b"):
            world.cloud.things.clear()

    world.cloud.before = vanish
    assert world.teardown(FakeThing(name="a"), FakeThing(name="b")).outcomes == {"a": "gone", "b": "gone"}
    assert world.cloud.names("delete") == ["b"]


def test_a_change_that_was_made_already_is_looked_at_again(world):
    world.provision(FakeTitled(name="a"))
    failing(world, "update", [refusal("Thing.Exists", "it has that colour")], with_effect=True)
    assert world.provision(FakeTitled(name="a", colour="red")).outcomes == {"a": "updated"}
    assert world.cloud.count("update") == 1


def test_a_removal_done_by_halves_is_asked_for_again(world):
    class FakeTwofold(FakeThing):
        def delete(self, aws, live):
            if aws.cloud.count("delete"):
                super().delete(aws, live)
            else:
                aws.cloud.call("delete", self.name, lambda: None)

    world.provision(FakeTwofold(name="a"))
    assert world.teardown(FakeTwofold(name="a")).outcomes == {"a": "gone"}
    assert world.cloud.count("delete") == 2
    assert world.cloud.alive() == []


def test_a_removal_that_takes_too_long_says_so_and_goes_on_with_the_next_run(world):
    class FakeReluctant(FakeThing):
        dies = 100.0
        timeout = 40

    world.provision(FakeReluctant(name="a"))
    result = world.teardown(FakeReluctant(name="a"))
    assert "a: still there after 4" in str(result.errors["a"])
    assert "(being deleted)" in str(result.errors["a"])
    assert "again" in result.errors["a"].hint
    assert world.written()["a"]["status"] == "deleting"
    world.teardown(FakeReluctant(name="a"))
    assert world.teardown(FakeReluctant(name="a")).outcomes == {"a": "gone"}


def test_a_half_made_thing_that_aws_hides_is_found_and_removed(world):
    def kill(call: Call) -> None:
        if call.verb == "list" and world.cloud.count("create"):
            raise Killed

    for recorded in (True, False):
        world.cloud.before = kill
        with pytest.raises(Killed):
            world.provision(FakeShy(name="a"))
        if not recorded:  # killed a moment earlier
            state = world.state()
            state.put("a", state.get("a") | {"id": None})
        world.cloud.before = lambda _: None
        assert world.teardown(FakeShy(name="a")).outcomes == {"a": "gone"}
        assert world.cloud.alive() == []
        world.cloud.calls.clear()


def test_what_vanishes_while_it_is_changed_is_made_anew(world):
    world.provision(FakeThing(name="a"))

    def vanish(call: Call) -> None:
        if call.verb == "update":
            world.cloud.things.clear()

    world.cloud.before = vanish
    start = world.clock.now()
    assert world.provision(FakeThing(name="a", size=2)).ok
    assert world.cloud.the("a").fields["size"] == 2
    assert world.clock.now() - start < 5


def test_what_somebody_made_in_the_meantime_is_looked_at_again(world):
    def race(call: Call) -> None:
        if call.verb == "create":
            foreign(world, FakeTitled, "a", **{"tecs:project": "temporal-dev", "tecs:name": "a", "tecs:region": REGION})
            world.cloud.before = lambda _: None

    world.cloud.before = race
    result = world.provision(FakeTitled(name="a"))
    assert result.ok, result.errors
    assert len(world.cloud.of("a")) == 1


def test_a_name_that_is_taken_but_shows_nowhere_is_told_as_what_it_is(world):
    failing(world, "create", [refusal("Thing.Exists", "the name is taken")] * 1000)
    result = world.provision(FakeTitled(name="a"))
    assert "the name is taken" in str(result.errors["a"])
    assert "accepted every change" not in str(result.errors["a"])
    assert VISIBLE <= result.seconds <= 1.1 * VISIBLE + 1


def test_reading_tags_is_tried_again_too(world):
    world.provision(FakeQuiet(name="a"))
    world.path.unlink()
    failing(world, "read-tags", [refusal("ThrottlingException")] * 3)
    assert world.provision(FakeQuiet(name="a")).outcomes == {"a": "same"}


# ------------------------------------------------------------------------------------------ interruption


def test_an_interrupt_starts_nothing_new_and_records_what_runs(tmp_path):
    world = World(tmp_path, workers=2, latency=10)
    stack = [FakeThing(name=f"n{i}") for i in range(6)]
    world.clock.interrupts = [25.0]  # listing until 10, once more with the lock until 20, two creations until 30
    result = world.provision(*stack)
    assert result.interrupted
    assert not result.ok
    assert world.cloud.count("create") == 2
    assert world.clock.now() <= 40, "each of the two ended with a look"
    made = {thing.title: thing.id for thing in world.cloud.alive()}
    assert {name: record["id"] for name, record in world.written().items()} == made
    assert sorted(result.outcomes.values()) == ["created"] * 2 + ["interrupted"] * 4
    assert [event.phase for event in world.events].count("interrupted") == 1

    result = world.provision(*stack)
    assert result.ok
    assert len(world.cloud.alive()) == 6
    assert world.cloud.count("create") == 6


def test_an_interrupt_does_not_wait_for_those_who_wait(world):
    world.clock.interrupts = [30.0]
    stack = chain(FakeSlow, FakeThing)
    result = world.provision(*stack)
    assert (result.interrupted, result.seconds) == (True, 30.0)
    assert result.outcomes == {"a": "interrupted", "b": "interrupted"}
    assert world.provision(*stack).ok
    assert world.cloud.count("create") == 2


def test_a_second_interrupt_passes_through(tmp_path):
    world = World(tmp_path, workers=2, latency=10)
    world.clock.interrupts = [25.0, 26.0]
    engine = world.engine(*(FakeThing(name=f"n{i}") for i in range(6)))
    with pytest.raises(KeyboardInterrupt):
        engine.provision()
    assert world.clock.now() == 26
    world.clock.sleep(30)  # the two that ran come to their end, as they do when a process ends
    wait_for(lambda: [record["status"] for record in world.written().values()] == ["ready", "ready"])
    assert world.provision(*engine.stack.values()).errors == {}
    assert world.cloud.count("create") == 6


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never came to that")


def test_an_interrupted_plan_gives_no_half_answer(tmp_path):
    world = World(tmp_path, latency=10)
    world.clock.interrupts = [5.0]
    with pytest.raises(KeyboardInterrupt):
        world.plan(FakeThing(name="a"))


def test_an_interrupted_teardown_continues(tmp_path):
    world = World(tmp_path)
    stack = chain(FakeSlow, FakeSlow, FakeSlow)
    world.provision(*stack)
    world.clock.interrupts = [world.clock.now() + 90]
    assert world.teardown(*stack).interrupted
    assert sorted(world.written()) == ["a", "b"]
    assert world.teardown(*stack).ok
    assert world.cloud.alive() == []


# --------------------------------------------------------------------------------------------- crashes


def killed_at(world: World, number: int, *, with_effect: bool, act: Callable[[], Any]) -> bool:
    """Whether the process dies at that request from now on. What it does afterwards has no effect."""
    first, dead, left = len(world.cloud.calls), [], []

    def strike(call: Call) -> None:
        if dead:
            raise Killed
        if call.number - first == number:
            dead.append(call)
            left.append(world.path.read_bytes() if world.path.exists() else b"")
            raise Killed

    def after(call: Call) -> None:
        if with_effect:
            strike(call)

    def before(call: Call) -> None:
        if dead or not with_effect:
            strike(call)

    world.cloud.before, world.cloud.after = before, after
    try:
        act()
    except Killed:
        pass
    finally:
        world.cloud.before = world.cloud.after = lambda _: None
    if left and left[0]:
        world.path.write_bytes(left[0])
    elif left:
        world.path.unlink(missing_ok=True)
    return bool(dead)


SMALL = [
    FakeTitled(name="a"),
    FakeThing(name="b", uses=(Ref("a"),), colour="red"),
    FakeTokened(name="c", uses=(Ref("a"),)),
    FakeBrief(name="d", uses=(Ref("b"), Ref("c")), colour="red"),
    FakeEdition(name="e", size=1),
    FakeQuiet(name="f", uses=(Ref("e"),), size=2),
    FakeShy(name="g", uses=(Ref("a"),), colour="red"),
]


def requests_of(world: World, act: Callable[[], Any]) -> int:
    with world.counting() as requests:
        act()
    return requests()


@pytest.mark.parametrize("with_effect", [False, True], ids=["before", "after"])
def test_killed_at_any_request_the_next_provision_ends_in_the_same_stack(with_effect):
    with worlds(workers=1) as another:
        reference = another()
        requests = requests_of(reference, lambda: reference.provision(*SMALL))
        assert requests > 20
        for at in range(1, requests + 1):
            world = another()
            assert killed_at(world, at, with_effect=with_effect, act=lambda: world.provision(*SMALL))  # noqa: B023
            result = world.provision(*SMALL)
            assert result.ok, (at, result.errors)
            assert world.cloud.content() == reference.cloud.content()
            assert world.written().keys() == reference.written().keys()
            assert {record["status"] for record in world.written().values()} == {"ready"}
            assert set(world.actions(*SMALL).values()) == {"same"}


@pytest.mark.parametrize("with_effect", [False, True], ids=["before", "after"])
def test_killed_at_any_request_the_next_teardown_leaves_nothing(with_effect):
    with worlds(workers=1) as another:
        reference = another()
        reference.provision(*SMALL)
        requests = requests_of(reference, lambda: reference.teardown(*SMALL))
        assert requests > 10
        for at in range(1, requests + 1):
            world = another()
            world.provision(*SMALL)
            assert killed_at(world, at, with_effect=with_effect, act=lambda: world.teardown(*SMALL))  # noqa: B023
            result = world.teardown(*SMALL)
            assert result.ok, (at, result.errors)
            assert world.cloud.alive() == []
            assert world.written() == {}


@given(plans(6), st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=4), st.integers(1, 3))
def test_killed_again_and_again_the_stack_comes_out_the_same(plan, deaths, workers):
    with worlds(workers=workers) as another:
        reference, stack = another(), declared(plan)
        assert reference.provision(*stack).ok
        world = another()
        for at, with_effect in deaths:
            killed_at(world, at, with_effect=with_effect, act=lambda: world.provision(*stack))
        result = world.provision(*stack)
        assert result.ok, result.errors
        assert world.cloud.content() == reference.cloud.content()
        for at, with_effect in deaths:
            killed_at(world, at, with_effect=with_effect, act=lambda: world.teardown(*stack))
        assert world.teardown(*stack).ok
        assert world.cloud.alive() == []


@given(plans(6), st.integers(1, 30), st.booleans())
def test_killed_and_robbed_of_its_state_it_still_makes_nothing_twice(plan, at, with_effect):
    with worlds(workers=1) as another:
        reference, stack = another(), declared(plan)
        reference.provision(*stack)
        world = another()
        killed_at(world, at, with_effect=with_effect, act=lambda: world.provision(*stack))
        world.path.unlink(missing_ok=True)
        world.clock.sleep(VISIBLE)  # what is hidden and recorded nowhere can't be known
        assert world.provision(*stack).ok
        assert world.cloud.content() == reference.cloud.content()


@given(plans(6), st.integers(1, 30), st.booleans())
def test_a_half_made_stack_can_be_torn_down(plan, at, with_effect):
    with worlds(workers=1) as another:
        world, stack = another(), declared(plan)
        killed_at(world, at, with_effect=with_effect, act=lambda: world.provision(*stack))
        result = world.teardown(*stack)
        assert result.ok, result.errors
        assert world.cloud.alive() == []
        assert world.written() == {}


# ------------------------------------------------------------------------------------------ the listings


def test_one_listing_serves_many_threads_until_it_is_forgotten():
    clock = VirtualClock()
    listings, fetched = _Listings(clock), []
    entered, go_on = threading.Event(), threading.Event()

    def fetch() -> int:
        entered.set()
        go_on.wait(10)
        fetched.append(1)
        return len(fetched)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(listings.get, "things", ("all",), fetch) for _ in range(8)]
        entered.wait(10)
        go_on.set()
        assert [answer.result(10) for answer in answers] == [1] * 8
    assert listings.get("things", ("others",), fetch) == 2
    listings.forget("elsewhere", float("inf"))
    assert listings.get("things", ("all",), fetch) == 1
    listings.forget("things", clock.now())  # read at this moment: as fresh as can be
    assert listings.get("things", ("all",), fetch) == 1
    listings.forget("things", clock.now() + 1)
    assert listings.get("things", ("all",), fetch) == 3


def test_a_listing_that_failed_is_read_again_by_the_next():
    listings = _Listings(VirtualClock())

    def fail() -> int:
        raise refusal("ThrottlingException")

    with pytest.raises(Exception, match="Throttling"):
        listings.get("things", (), fail)
    assert listings.get("things", (), lambda: 5) == 5


def test_a_listing_forgotten_while_it_is_read_serves_nobody_who_comes_later():
    listings = _Listings(VirtualClock())

    def fetch() -> str:
        listings.forget("things", float("inf"))  # something was written meanwhile
        return "old"

    assert listings.get("things", (), fetch) == "old"
    assert listings.get("things", (), lambda: "new") == "new"
