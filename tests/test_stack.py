"""The declared graph: names, cycles, order, groups; and records that become resources again."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud import STACK, Project
from fakes import FakeThing, FakeTitled, World
from temporal_ecs import config, resources
from temporal_ecs.errors import USAGE, ConfigError, TecsError
from temporal_ecs.resource import ENVIRONMENT, Ref, Resource, plain
from temporal_ecs.services import SERVICES
from temporal_ecs.stack import Stack, discover, expand, load, revive


def test_the_order_puts_each_after_what_it_needs_whatever_order_it_was_declared_in():
    stack = Stack(
        [
            FakeThing(name="c", after=("b",)),
            FakeThing(name="b", uses=(Ref("a"),)),
            FakeThing(name="a"),
        ]
    )
    assert list(stack) == ["a", "b", "c"]
    assert len(stack) == 3
    assert stack["b"].name == "b"
    assert (stack.needs("a"), stack.needs("b"), stack.needs("c")) == (set(), {"a"}, {"b"})


def test_a_name_declared_twice_is_refused():
    with pytest.raises(TecsError, match="'a' is declared twice"):
        Stack([FakeThing(name="a"), FakeTitled(name="a")])


def test_a_need_that_nothing_declares_is_refused_with_a_suggestion():
    with pytest.raises(TecsError, match=r"^subnet needs 'vcp', which nothing declares, did you mean 'vpc'\?$"):
        Stack([FakeThing(name="vpc"), FakeThing(name="subnet", uses=(Ref("vcp"),))])
    with pytest.raises(TecsError, match=r"^subnet needs 'zzz', which nothing declares$"):
        Stack([FakeThing(name="vpc"), FakeThing(name="subnet", after=("zzz",))])


def test_a_cycle_is_refused_and_shown():
    with pytest.raises(TecsError, match="dependency cycle: ") as caught:
        Stack(
            [
                FakeThing(name="a", uses=(Ref("c"),)),
                FakeThing(name="b", uses=(Ref("a"),)),
                FakeThing(name="c", after=("b",)),
            ]
        )
    first, *rest = caught.value.message.removeprefix("dependency cycle: ").split(" -> ")
    assert rest[-1] == first
    assert set(rest) == {"a", "b", "c"}


@given(st.lists(st.sets(st.integers(0, 9), max_size=3), min_size=10, max_size=10))
def test_any_graph_without_a_cycle_is_ordered(edges):
    items = [FakeThing(name=f"n{i}", uses=tuple(Ref(f"n{j}") for j in uses if j < i)) for i, uses in enumerate(edges)]
    order = list(Stack(reversed(items)))
    assert sorted(order) == sorted(item.name for item in items)
    assert all(order.index(need) < order.index(item.name) for item in items for need in item.needs())


# ------------------------------------------------------------------------------------------------ references


@dataclass(frozen=True, kw_only=True)
class FakeNested(FakeThing):
    deep: object = None


def test_references_are_found_at_any_depth():
    deep = {"a": [Ref("one"), {"b": (Ref("two", "arn"), 5)}], "c": "three"}
    assert FakeNested(name="x", deep=deep, after=("four",)).needs() == {"one", "two", "four"}


def test_facts_of_the_account_are_no_need():
    assert FakeNested(name="x", deep=[Ref(ENVIRONMENT, "account")]).needs() == set()


def test_references_are_replaced_by_values_at_any_depth():
    deep = {"a": [Ref("one"), {"b": (Ref("two", "arn", "{}/*"), 5)}], "c": None}
    item = FakeNested(name="x", deep=deep, labels={"k": "v"}, after=("four",))
    resolved = item.resolve(lambda ref: f"{ref.name}.{ref.output}")
    assert resolved.deep == {"a": ["one.id", {"b": ["two.arn/*", 5]}], "c": None}
    assert (resolved.name, resolved.labels, resolved.after) == ("x", {"k": "v"}, ("four",))
    assert item.deep is deep, "the declaration stays as it was"


def test_a_value_that_is_not_text_keeps_its_type():
    assert FakeNested(name="x", deep=Ref("one", "port")).resolve(lambda _: 7233).deep == 7233
    assert FakeNested(name="x", deep=Ref("one", "port", ":{}")).resolve(lambda _: 7233).deep == ":7233"


def test_what_is_not_known_yet_passes_through_as_a_key_error():
    with pytest.raises(KeyError):
        FakeNested(name="x", deep=Ref("one")).resolve({}.__getitem__)


def test_a_spec_is_plain_json():
    item = FakeNested(name="x", deep={"set": {"b", "a"}, "tuple": (1, (2,)), "none": None}, labels={"k": "v"})
    assert item.spec()["deep"] == {"set": ["a", "b"], "tuple": [1, [2]], "none": None}
    assert not item.spec().keys() & {"name", "labels", "after"}
    assert plain(Ref("a")) == Ref("a")


def test_a_resource_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        FakeThing(name="a").size = 2


# ---------------------------------------------------------------------------------------------- names, groups


def test_words_are_names_or_groups_and_each_name_comes_once():
    groups = {"network": ["vpc", "subnet"], "iam": ["role"]}
    names = ["vpc", "subnet", "role"]
    assert expand([], groups, names) == []
    assert expand(["network"], groups, names) == ["vpc", "subnet"]
    assert expand(["subnet", "iam", "network"], groups, names) == ["subnet", "role", "vpc"]


def test_an_unknown_word_is_wrong_usage_and_comes_with_a_suggestion():
    groups = {"network": ["vpc"], "iam": ["role"]}
    with pytest.raises(ConfigError, match=r"unknown resource or group 'netwrok', did you mean 'network'\?") as caught:
        expand(["netwrok"], groups, ["vpc", "role"])
    assert caught.value.status == USAGE
    assert caught.value.hint == "Nothing was changed. Groups: iam, network."


def test_groups_list_their_members_in_order():
    @dataclass(frozen=True, kw_only=True)
    class FakeGrouped(FakeThing):
        group = "others"

    stack = Stack([FakeThing(name="b", uses=(Ref("a"),)), FakeThing(name="a"), FakeGrouped(name="c")])
    assert stack.groups() == {"fakes": ["a", "b"], "others": ["c"]}


# ---------------------------------------------------------------------------------------------------- records


def test_a_record_becomes_the_resource_that_it_was(tmp_path):
    world = World(tmp_path)
    world.provision(FakeThing(name="a", size=3), FakeTitled(name="b", uses=(Ref("a"),), secret="x"))
    a, b = (revive(name, world.written()[name]) for name in "ab")
    assert a == FakeThing(name="a", size=3, uses=[])
    assert b == FakeTitled(name="b", uses=[world.written()["a"]["id"]], secret=None)


def test_a_record_of_an_older_tecs_lacks_what_is_new_and_may_have_more():
    item = revive("a", {"kind": "FakeThing", "spec": {"size": 3, "forgotten": 1}})
    assert item == FakeThing(name="a", size=3)


def test_a_record_without_what_this_tecs_must_know_leads_to_a_rebuild():
    @dataclass(frozen=True, kw_only=True)
    class FakeStrict(FakeThing):
        must: int

    with pytest.raises(TecsError, match="was written by another version of tecs") as caught:
        revive("a", {"kind": "FakeStrict", "spec": {"size": 3}})
    assert "tecs state rebuild" in caught.value.hint


def test_a_kind_that_inherits_from_another_is_known_too():
    @dataclass(frozen=True, kw_only=True)
    class FakeGrandchild(FakeTitled):
        extra: int = 0

    assert type(revive("a", {"kind": "FakeGrandchild", "spec": {"extra": 1}})) is FakeGrandchild


def test_a_record_of_an_unknown_kind_says_what_to_do():
    with pytest.raises(TecsError, match="a is a FakeFuture, which this tecs does not know") as caught:
        revive("a", {"kind": "FakeFuture", "spec": {}})
    assert "tecs state forget a" in caught.value.hint


# ---------------------------------------------------------------------------------------------------- discovery

NEW_KIND = """
from dataclasses import dataclass
from temporal_ecs.resource import Ref, Resource

@dataclass(frozen=True, kw_only=True)
class FakeTopic(Resource):
    vpc: str | Ref
    group = "fakes"

def declare(config):
    yield FakeTopic(name="topic", vpc=Ref("vpc"))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files count among the resources."""
    monkeypatch.setattr(resources, "__path__", [*resources.__path__, str(tmp_path)])
    before = dict(sys.modules), dict(Resource.kinds)
    yield tmp_path
    for name in sys.modules.keys() - before[0].keys():
        del sys.modules[name]
    for kind in Resource.kinds.keys() - before[1].keys():
        del Resource.kinds[kind]


def test_one_new_file_is_enough(folder):
    (folder / "topics_of_a_test.py").write_text(NEW_KIND)
    stack = load(config.load(None))
    assert stack.needs("topic") == {"vpc"}
    assert "topic" in stack.groups()["fakes"]
    assert list(stack).index("topic") > list(stack).index("vpc")


def test_a_file_without_a_declaration_fails_loudly(folder):
    (folder / "empty_file_of_a_test.py").write_text("")
    with pytest.raises(AttributeError, match="declare"):
        load(config.load(None))


def test_every_file_is_found_and_declares_something():
    modules = {module.__name__.rpartition(".")[2] for module in discover()}
    files = {file.stem for file in Path(resources.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == files


def test_the_stack_does_not_depend_on_anything_but_the_settings():
    first, second = load(config.load(None)), load(config.load(None))
    assert dict(first) == dict(second)
    assert list(first) == list(second)


def test_what_tasks_and_hosts_use_is_removed_after_them(provisioned: Project):
    """Without its way to ECS a host cannot say that its tasks have ended, and services stay DRAINING."""
    state, order = provisioned.state, {}
    for name in STACK:
        later, todo = set(), [name]
        while todo:
            for follower in state.followers(todo.pop()):
                if follower not in later:
                    later.add(follower)
                    todo.append(follower)
        order[name] = later
    services = {f"{service.title}-service" for service in SERVICES.values()}
    hosts = {"ecs-asg", "benchmark-asg"}
    for name in ("nat", "private-default", "private-0-routing", "ecs-instances-rules", "ecs-instance-policy"):
        assert hosts | services <= order[name], name
    for name in ("ecs-execution-policy", "ssmmessages-endpoint", "s3-endpoint", "vpc-endpoints-rules"):
        assert services <= order[name], name
    for service in SERVICES.values():
        assert f"{service.title}-service" in order[f"{service.title}-rules"] & order[f"{service.role}-policy"]


def test_an_order_removes_nobody(provisioned: Project):
    engine = provisioned.engine()
    assert engine.doomed(["temporal-frontend-service"], with_data=True) == {"temporal-frontend-service"}
    assert engine.doomed(["container-insights-logs"], with_data=True) == {"container-insights-logs"}
    assert engine.doomed(["ssm-endpoint"], with_data=True) == {"ssm-endpoint"}
