"""What a state file may have suffered: torn, lost, locked by the dead, or another account's."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from cloud import PROJECT, REGION, client
from console import Console
from temporal_ecs.holder import Holder
from temporal_ecs.sandbox.server import Server

LOCK = f"/{PROJECT}/tecs/lock"


@pytest.fixture(scope="module")
def tecs(sandbox: Server, tmp_path_factory: pytest.TempPathFactory) -> Console:
    """An operator whose stack is whole."""
    sandbox.reset()
    console = Console(sandbox, tmp_path_factory.mktemp("operator"))
    assert console("provision", "--yes").status == 0
    return console


@pytest.fixture
def changes(tecs: Console):
    """Calls that changed something since the test began."""
    before = tecs.server.count(mutating=True)
    return lambda: dict(tecs.server.count(mutating=True) - before)


@pytest.fixture(autouse=True)
def _restored(tecs: Console):
    """Each test finds the state file whole."""
    whole = tecs.state_file.read_bytes()
    yield
    tecs.state_file.write_bytes(whole)


@pytest.mark.parametrize("keep", [0, 1, 0.5, 0.999], ids=["empty", "one byte", "half", "all but the end"])
def test_a_torn_state_file_is_refused_with_the_way_out(tecs, changes, keep):
    text = tecs.state_file.read_text()
    tecs.state_file.write_text(text[: keep if isinstance(keep, int) else int(keep * len(text))])
    for command in (("provision", "--yes"), ("teardown", "--yes"), ("plan",)):
        done = tecs(*command)
        assert done.status == 1
        assert f"{tecs.state_file.name} is damaged" in done.err
        assert "Nothing was changed." in done.err
        assert "tecs state rebuild" in done.err
        assert "Traceback" not in done.err
    assert not changes()


def test_a_torn_state_file_is_rebuilt_as_it_was_and_kept_beside(tecs, changes):
    text, resources = tecs.state_file.read_text(), tecs.resources()
    torn = text[: len(text) // 2]
    tecs.state_file.write_text(torn)
    done = tecs("state", "rebuild", "--yes")
    assert done.status == 0, done.err
    assert tecs.resources() == resources
    assert tecs.state_file.with_name(tecs.state_file.name + ".damaged").read_text() == torn
    assert tecs("plan", "--check").status == 0
    assert not changes()


@pytest.mark.parametrize("command", [("provision", "--yes"), ("state", "rebuild", "--yes")], ids=" ".join)
def test_a_lost_state_folder_is_found_again_without_making_anything(tecs, changes, command):
    resources = tecs.resources()
    shutil.rmtree(tecs.state_file.parent)
    done = tecs(*command)
    assert done.status == 0, done.err
    assert tecs.resources() == resources
    assert not changes()


def dead(operation: str = "provision") -> Holder:
    """A holder on this host whose process has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return replace(Holder.this(operation), pid=process.pid)


def hold(tecs: Console, holder: Holder) -> None:
    ssm = client(tecs.server.endpoint, "ssm")
    ssm.put_parameter(Name=LOCK, Value=holder.encode(), Type="String", Overwrite=True)


def held(tecs: Console) -> bool:
    return bool(client(tecs.server.endpoint, "ssm").get_parameters(Names=[LOCK])["Parameters"])


def test_locks_of_a_dead_process_go_even_if_there_is_nothing_to_do(tecs):
    left = dead()
    tecs.lock_file.write_text(left.encode())
    hold(tecs, left)
    done = tecs("provision", "--yes")
    assert done.status == 0
    assert f"took over the lock of a dead process: {left}" in done.err
    assert not held(tecs)
    assert not tecs.lock_file.read_text()


def test_a_dead_process_elsewhere_in_this_host_holds_nobody_up(tecs):
    left = dead("teardown")
    hold(tecs, left)
    done = tecs("teardown", "adot-service", "--yes")
    assert done.status == 0, done.err
    assert f"took over the lock of a dead process: {left}" in done.err
    assert not held(tecs)
    assert tecs("provision", "--yes").status == 0


@pytest.mark.parametrize(
    "holder", [Holder.this("scale"), replace(Holder.this("scale"), host="another")], ids=["living", "remote"]
)
def test_a_lock_that_may_be_in_use_is_shown_and_respected(tecs, holder):
    hold(tecs, holder)
    before = tecs.server.count(mutating=True)
    done = tecs("teardown", "adot-service", "--yes")
    assert done.status == 5
    assert str(holder) in done.err
    assert held(tecs)
    changed = tecs.server.count(mutating=True) - before
    assert set(changed) == {("ssm", "PutParameter")}, "the attempt to take it"
    client(tecs.server.endpoint, "ssm").delete_parameter(Name=LOCK)


@pytest.mark.parametrize(
    ("key", "value"), [("account", "999999999999"), ("region", "eu-central-1"), ("project", "another")]
)
def test_a_state_of_something_else_is_refused_before_anything_is_read(tecs, key, value):
    data = json.loads(tecs.state_file.read_text())
    tecs.state_file.write_text(json.dumps(data | {key: value}))
    for command in (("plan",), ("provision", "--yes"), ("teardown", "--yes")):
        before = tecs.server.count()
        done = tecs(*command)
        assert done.status == 1
        assert f"is for {key} {value}, not {data[key]}" in done.err
        assert "Nothing was changed." in done.err
        assert set(tecs.server.count() - before) <= {("sts", "GetCallerIdentity")}


def test_the_state_of_one_region_does_not_serve_another(tecs):
    before = tecs.server.count()
    done = tecs("--region", "eu-central-1", "--state", str(tecs.state_file), "provision", "--yes")
    assert done.status == 1
    assert f"is for region {REGION}, not eu-central-1" in done.err
    assert set(tecs.server.count() - before) <= {("sts", "GetCallerIdentity")}
