"""What every kind of resource promises the engine. A new file in resources/ is tested by being there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
from botocore.exceptions import ClientError

import inventory
from cloud import STACK, Project
from temporal_ecs.errors import TecsError, code
from temporal_ecs.resource import Resource, plain
from temporal_ecs.sandbox.server import Server
from temporal_ecs.stack import discover, revive
from temporal_ecs.tags import DIALECTS

pytestmark = pytest.mark.xdist_group("contract")

MODULES = list(discover())
KINDS = {
    name: kind for name, kind in sorted(Resource.kinds.items()) if kind.__module__.startswith("temporal_ecs.resources.")
}
NAMES = list(STACK)
DELETABLE = [name for name, kind in KINDS.items() if not kind.permanent]

MOST_CALLS_OF_A_PLAN = 70
MOST_CALLS_OF_A_PROVISION = 400


# -- what a kind says of itself ------------------------------------------------------------------------------


def test_no_two_kinds_have_the_same_name():
    defined = [
        value.__name__
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Resource) and value.__module__ == module.__name__
    ]
    assert sorted(defined) == list(KINDS)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_each_file_says_what_it_makes_and_declares_it(module):
    assert re.match(r"[A-Z].*\S[.]$", module.__doc__.strip().splitlines()[0]), "one whole sentence"
    assert callable(module.declare)
    assert any(type(item).__module__ == module.__name__ for item in STACK.values())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_says_of_its_fields_names_fields(kind: str):
    cls = KINDS[kind]
    own = {f.name for f in fields(cls)} - {f.name for f in fields(Resource)}
    assert cls.mutable | cls.renewed | cls.initial | cls.unread <= own
    assert not cls.mutable & cls.renewed
    assert not cls.initial & (cls.mutable | cls.renewed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_a_group_a_dialect_of_tags_and_a_sane_patience(kind: str):
    cls = KINDS[kind]
    assert re.fullmatch("[a-z]+", cls.group)
    assert cls.tagging is None or cls.tagging in DIALECTS
    assert 60 <= cls.timeout <= 2 * 3600
    if cls.typical is not None:
        low, high = cls.typical
        assert 0 < low < high <= cls.timeout


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_means_one_thing_and_is_well_written(kind: str):
    cls = KINDS[kind]
    for one, other in ((cls.absent, cls.exists), (cls.absent, cls.not_yet), (cls.exists, cls.not_yet)):
        assert not one & other
    for name in cls.absent | cls.exists | cls.not_yet:
        assert re.fullmatch(r"[A-Z][A-Za-z.]+(: \S.*\S)?", name), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_updates_or_deletes_says_so(kind: str):
    cls = KINDS[kind]
    assert bool(cls.mutable | cls.renewed) == (cls.update is not Resource.update) or cls.permanent
    assert cls.permanent or cls.delete is not Resource.delete


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_data_goes_on_costing_something_and_nothing_else_does(kind: str):
    cls = KINDS[kind]
    assert bool(cls.holds_data) == bool(cls.costs)
    assert not (cls.permanent and cls.holds_data)


# -- a provisioned world -------------------------------------------------------------------------------------


@dataclass
class World:
    project: Project
    server: Server
    first: int  # calls of the first provision
    pristine: dict[str, Any]  # the account after it

    def names(self, kind: str) -> list[str]:
        return [name for name, item in STACK.items() if type(item).__name__ == kind]


@pytest.fixture(scope="module")
def world(sandbox: Server, new_project: Callable[..., Project]) -> World:
    project = new_project()
    project.provision()
    calls = sum(sandbox.count().values())
    return World(project, sandbox, calls, inventory.read(project.endpoint))


@pytest.fixture(scope="module")
def planned(world: World) -> dict[str, Any]:
    """The plan right after the first provision."""
    return {change.resource: change for change in world.project.engine().plan()}


def test_the_first_provision_takes_few_calls(world: World):
    assert world.first <= MOST_CALLS_OF_A_PROVISION
    assert world.first == sum(world.project.aws.calls.values())


@pytest.mark.parametrize("name", NAMES)
def test_after_provision_plan_says_same(planned: dict[str, Any], name: str):
    assert (planned[name].action, planned[name].fields) == ("same", {})


def test_a_plan_takes_few_calls_and_changes_nothing(world: World):
    world.server.calls.clear()
    assert world.project.plan() == {}
    assert sum(world.server.count().values()) <= MOST_CALLS_OF_A_PLAN
    assert not world.server.count(mutating=True)


def test_a_second_provision_makes_no_mutating_call_and_leaves_the_state_file_alone(world: World):
    before = world.project.state.path.read_bytes()
    mutations = world.project.aws.mutations
    world.server.calls.clear()
    result = world.project.provision()
    assert set(result.outcomes.values()) == {"same"}
    assert not world.server.count(mutating=True)
    assert world.project.aws.mutations == mutations
    assert world.project.state.path.read_bytes() == before


Lives = dict[str, dict[str, Any]]


def sweep(project: Project, look: Callable[[str], Any]) -> Lives:
    """What `look` finds of every resource, over listings that are read once."""
    project.aws.look_afresh()
    return {name: plain(look(name)) for name in NAMES}


@pytest.fixture(scope="module")
def lives(world: World) -> Lives:
    """What find() reports of each resource by its id."""
    project = world.project
    return sweep(project, lambda name: project.item(name).find(project.aws, project.state.get(name)["id"]))


@pytest.fixture(scope="module")
def found_without_id(world: World) -> Lives:
    project = world.project
    return sweep(project, lambda name: project.item(name).find(project.aws, None))


@pytest.fixture(scope="module")
def revived(world: World) -> dict[str, Resource]:
    """Each resource as its record in the state file tells it."""
    records = json.loads(world.project.state.path.read_text())["resources"]
    return {name: revive(name, record) for name, record in records.items()}


@pytest.fixture(scope="module")
def found_by_record(world: World, revived: dict[str, Resource]) -> Lives:
    project = world.project
    return sweep(project, lambda name: revived[name].find(project.aws, project.state.get(name)["id"]))


@pytest.mark.parametrize("name", NAMES)
def test_find_reports_every_field(world: World, lives: Lives, name: str):
    item, live = world.project.item(name), lives[name]
    assert item.spec().keys() - live.keys() <= type(item).unread
    assert not type(item).unread & live.keys()
    for field in item.spec().keys() & live.keys() - type(item).initial:
        wanted = item.spec()[field]
        assert wanted is None or live[field] == wanted


@pytest.mark.parametrize("name", NAMES)
def test_what_find_reports_is_plain_json_with_an_id(lives: Lives, name: str):
    assert json.loads(json.dumps(lives[name])) == lives[name]
    assert isinstance(lives[name]["id"], str)
    assert lives[name]["id"]
    assert not lives[name].get("pending")
    assert not lives[name].get("failed")


@pytest.mark.parametrize("name", NAMES)
def test_without_an_id_the_same_thing_is_found(lives: Lives, found_without_id: Lives, name: str):
    chosen = type(STACK[name]).__name__ == "MachineImage"  # found in the hosts' template, where it may be an older one
    assert found_without_id[name] == lives[name] or (chosen and found_without_id[name]["id"] == lives[name]["id"])


@pytest.mark.parametrize("name", NAMES)
def test_a_record_tells_what_was_made(world: World, name: str):
    record, item = world.project.state.get(name), STACK[name]
    assert (record["kind"], record["status"]) == (type(item).__name__, "ready")
    assert record["needs"] == sorted(item.needs())
    assert record["spec"].keys() == item.spec().keys() - type(item).unread
    assert record.keys() == {"kind", "id", "status", "spec", "outputs", "needs", "order"}


@pytest.mark.parametrize("name", NAMES)
def test_a_record_revives_to_a_resource_that_finds_the_same(revived, found_by_record, lives, name: str):
    assert type(revived[name]) is type(STACK[name])
    same = found_by_record[name].keys() - ({"rollout"} if type(STACK[name]).unread else set())  # told by its count
    assert {key: found_by_record[name][key] for key in same} == {key: lives[name][key] for key in same}


# -- deleted behind our back ---------------------------------------------------------------------------------


def vanish(world: World, name: str) -> bool:
    """Delete a resource without telling the engine; False where AWS refuses because something stands in it."""
    project = world.project
    item, live = project.item(name), project.live(name)
    try:
        if type(item).__name__ == "TaskDefinition":  # as by hand: the services go on with the revision that they have
            project.client("ecs").deregister_task_definition(taskDefinition=live["id"])
        else:
            item.delete(project.aws, live)
    except ClientError as refusal:
        if code(refusal) not in {each.partition(":")[0] for each in item.not_yet}:
            raise
    project.aws.look_afresh()
    try:
        return item.find(project.aws, live["id"]) is None
    except ClientError as refusal:
        if code(refusal) not in {each.partition(":")[0] for each in item.absent}:
            raise
        return True


def heal(project: Project) -> None:
    """Provision; where that is blocked, go the way out that the message names, then provision."""
    for _ in range(3):
        errors = project.engine().provision().errors
        if not errors:
            return
        for error in errors.values():
            assert isinstance(error, TecsError), error
            way_out = re.search(r"`tecs teardown (\S+)`", str(error))
            assert way_out, error
            project.teardown(way_out[1])
    raise AssertionError("the ways out lead nowhere")


STOOD_IN = frozenset(
    {
        "Vpc", "Subnet", "InternetGateway", "ElasticIp", "RouteTable", "Namespace", "EcsCluster", "ClusterCapacity",
        "CapacityProvider",
    }
)  # fmt: skip
"""What AWS does not delete while the rest of the stack is there."""


@pytest.mark.parametrize("kind", DELETABLE)
def test_what_was_deleted_behind_our_back_is_planned_and_made_again(world: World, kind: str):
    project, names = world.project, world.names(kind)
    gone = {name for name in reversed(names) if vanish(world, name)}
    assert bool(gone) != (kind in STOOD_IN)
    planned = project.plan(*names)
    assert {name for name in names if name in planned and planned[name].action == "create"} == gone
    heal(project)
    assert project.plan() == {}


def test_an_account_that_was_emptied_is_filled_again(world: World):
    project = world.project
    world.server.reset()
    planned = project.plan()
    chosen = {name for name, item in STACK.items() if type(item).__name__ in ("AvailabilityZones", "MachineImage")}
    assert {name for name, change in planned.items() if change.action == "create"} == STACK.keys() - chosen
    project.provision()
    assert project.plan() == {}
    assert inventory.read(project.endpoint) == world.pristine


def test_a_teardown_with_the_data_leaves_what_is_permanent_and_nothing_else(world: World):
    world.project.teardown(with_data=True)
    left = {kind: rows for kind, rows in inventory.read(world.project.endpoint).items() if rows}
    assert left.pop("service-linked-roles").keys() == {
        "AWSServiceRoleForAmazonOpenSearchService",
        "AWSServiceRoleForECS",
    }
    assert left == {}
    assert world.project.state.names() == []


def test_a_secret_of_another_project_is_used_and_outlives_ours(world: World, new_project: Callable[..., Project]):
    project = new_project("[grafana]\ncreate_secret = false\n")
    (blocked,) = project.engine().provision(["grafana-secret"]).errors.values()
    assert "grafana/admin does not exist" in str(blocked)
    secrets = project.client("secretsmanager")
    arn = secrets.create_secret(Name="grafana/admin", SecretString="{}")["ARN"]
    project.provision("ecs-execution-policy")
    assert project.state.get("grafana-secret")["outputs"]["arn"] == arn
    project.teardown(with_data=True)
    row = secrets.describe_secret(SecretId="grafana/admin")
    assert "DeletedDate" not in row
    assert not row.get("Tags")
