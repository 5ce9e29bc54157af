"""The operators' lock, and who holds it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import Cloud, FakeAws, VirtualClock, refusal
from temporal_ecs.errors import LOCKED, TecsError
from temporal_ecs.holder import Holder
from temporal_ecs.lock import OperatorLock, changing
from temporal_ecs.state import locked

PARAMETER = "/temporal-dev/tecs/lock"


class FakeSsm:
    """Parameters in memory, with the errors of the real one."""

    def __init__(self) -> None:
        self.parameters: dict[str, str] = {}
        self.calls: list[str] = []

    def put_parameter(self, *, Name: str, Value: str, Overwrite: bool, Type: str, Description: str) -> None:  # noqa: N803
        self.calls.append("put")
        assert Type == "String"
        assert "tecs" in Description
        if Name in self.parameters and not Overwrite:
            raise refusal("ParameterAlreadyExists", "The parameter already exists.")
        self.parameters[Name] = Value

    def get_parameter(self, *, Name: str) -> dict[str, Any]:  # noqa: N803
        self.calls.append("get")
        if Name not in self.parameters:
            raise refusal("ParameterNotFound")
        return {"Parameter": {"Value": self.parameters[Name]}}

    def delete_parameter(self, *, Name: str) -> None:  # noqa: N803
        self.calls.append("delete")
        if Name not in self.parameters:
            raise refusal("ParameterNotFound")
        del self.parameters[Name]


@pytest.fixture
def ssm() -> FakeSsm:
    return FakeSsm()


@pytest.fixture
def aws(ssm: FakeSsm) -> FakeAws:
    made = FakeAws(Cloud(VirtualClock()))
    made.ssm = ssm
    return made


def dead(**changes: Any) -> Holder:
    """A holder on this host whose process has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Holder.this("provision"), pid=process.pid, born="1", **changes)


def refused(aws: FakeAws, operation: str = "teardown") -> TecsError:
    before = dict(aws.ssm.parameters)
    with pytest.raises(TecsError) as caught:
        OperatorLock(aws, operation).take()
    assert caught.value.status == LOCKED == 5
    assert "Nothing was changed" in caught.value.hint
    assert "tecs state unlock" in caught.value.hint
    assert aws.ssm.parameters == before
    return caught.value


def test_a_lock_names_its_holder_and_is_gone_afterwards(aws, ssm):
    lock = OperatorLock(aws, "provision")
    assert lock.holder() is None
    lock.take()
    holder = lock.holder()
    assert holder == replace(Holder.this("provision"), since=holder.since)
    assert (holder.pid, holder.host) == (os.getpid(), socket.gethostname())
    assert str(holder).startswith(f"provision by {holder.user}@{holder.host}, process {holder.pid}, since 20")
    lock.drop()
    assert ssm.parameters == {}


def test_a_run_that_never_took_the_lock_drops_nothing(aws, ssm):
    OperatorLock(aws, "provision").take()
    OperatorLock(aws, "teardown").drop()
    assert PARAMETER in ssm.parameters


def test_dropping_twice_asks_once(aws, ssm):
    lock = OperatorLock(aws, "provision")
    lock.take()
    lock.drop()
    asked = len(ssm.calls)
    lock.drop()
    assert len(ssm.calls) == asked


def test_a_lock_given_back_at_that_very_moment_is_taken(aws, ssm, monkeypatch):
    lock = OperatorLock(aws, "provision")
    OperatorLock(aws, "teardown").take()
    get = ssm.get_parameter

    def too_late(**names: Any) -> dict[str, Any]:
        ssm.parameters.clear()
        return get(**names)

    monkeypatch.setattr(ssm, "get_parameter", too_late)
    lock.take()
    assert Holder.parse(ssm.parameters[PARAMETER]).operation == "provision"


def test_a_request_whose_first_answer_was_lost_finds_its_own_lock(aws, ssm, monkeypatch):
    put = ssm.put_parameter

    def sent_twice(**fields: Any) -> None:
        put(**fields)
        put(**fields)

    monkeypatch.setattr(ssm, "put_parameter", sent_twice)
    lock = OperatorLock(aws, "provision")
    lock.take()
    lock.drop()
    assert ssm.parameters == {}


def test_a_command_holds_the_state_file_and_takes_the_lock_when_it_changes_something(aws, ssm, tmp_path):
    state = tmp_path / "state.json"
    with changing(aws, state, "provision") as take:
        assert ssm.parameters == {}
        take()
        assert PARAMETER in ssm.parameters
        with pytest.raises(TecsError, match="is locked: provision"), locked(state, "teardown"):
            pytest.fail("two can't hold it")
    assert ssm.parameters == {}
    asked = len(ssm.calls)
    with changing(aws, state, "provision"):
        pass
    assert len(ssm.calls) == asked, "a run that changes nothing asks for no lock"


def test_both_locks_of_a_command_that_died_go_with_the_next_one(aws, ssm, tmp_path):
    state = tmp_path / "state.json"
    left = dead()
    state.with_name("state.json.lock").write_text(left.encode())
    ssm.parameters[PARAMETER] = left.encode()
    notes: list[str] = []
    with changing(aws, state, "provision", notes.append):
        pass
    assert notes == [f"took over the lock of a dead process: {left}"]
    assert ssm.parameters == {}


def test_a_lock_that_cannot_be_given_back_spoils_nothing(aws, ssm, tmp_path, monkeypatch):
    def lost(**_: Any) -> None:
        raise refusal("ExpiredTokenException", "too late")

    notes: list[str] = []
    with changing(aws, tmp_path / "state.json", "provision", notes.append) as take:
        take()
        monkeypatch.setattr(ssm, "delete_parameter", lost)
    (note,) = notes
    assert note.startswith(f"could not give back {PARAMETER}: ")
    assert "`tecs state unlock` removes it" in note


def test_the_lock_of_another_operator_survives_a_crash_of_ours(aws, ssm, tmp_path):
    state = tmp_path / "state.json"
    state.with_name("state.json.lock").write_text(dead().encode())
    ssm.parameters[PARAMETER] = replace(Holder.this("provision"), host="ops1.example").encode()
    with changing(aws, state, "provision"):
        pass
    assert PARAMETER in ssm.parameters


def test_a_living_holder_is_shown_and_refused(aws):
    OperatorLock(aws, "provision").take()
    message = refused(aws).message
    assert "another operator is changing temporal-dev: provision by " in message
    assert f"process {os.getpid()}" in message


def test_a_holder_on_another_host_is_refused_even_if_no_such_process_runs_here(aws, ssm):
    ssm.parameters[PARAMETER] = dead(host="ops1.example").encode()
    assert "@ops1.example" in refused(aws).message


def test_a_holder_that_left_no_name_is_refused(aws, ssm):
    ssm.parameters[PARAMETER] = "mine!"
    assert "unknown holder" in refused(aws).message


def test_the_lock_of_a_dead_process_on_this_host_is_taken_over_with_a_note(aws, ssm):
    left = dead()
    ssm.parameters[PARAMETER] = left.encode()
    notes: list[str] = []
    lock = OperatorLock(aws, "teardown", notes.append)
    lock.take()
    assert notes == [f"took over the lock of a dead process: {left}"]
    assert Holder.parse(ssm.parameters[PARAMETER]) == lock.holder()
    assert lock.holder().operation == "teardown"
    lock.drop()
    assert ssm.parameters == {}


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(aws, ssm):
    me = Holder.this("provision")
    assert not me.dead()
    earlier = replace(me, born=str(int(me.born) - 1))
    assert earlier.dead()
    ssm.parameters[PARAMETER] = earlier.encode()
    OperatorLock(aws, "teardown").take()


def test_where_the_system_does_not_tell_when_a_process_began_it_counts_as_alive():
    assert not replace(Holder.this("provision"), born="").dead()


def test_a_process_of_somebody_else_counts_as_alive(monkeypatch):
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert not replace(Holder.this("provision"), born="1").dead()


def test_a_lock_that_was_cleared_and_taken_by_another_is_not_dropped(aws, ssm):
    lock = OperatorLock(aws, "provision")
    lock.take()
    OperatorLock(aws, "state unlock").clear()
    other = replace(Holder.this("teardown"), host="ops1.example")
    ssm.parameters[PARAMETER] = other.encode()
    lock.drop()
    assert Holder.parse(ssm.parameters[PARAMETER]) == other


def test_a_lock_that_was_cleared_meanwhile_is_dropped_without_complaint(aws, ssm):
    lock = OperatorLock(aws, "provision")
    lock.take()
    lock.clear()
    lock.clear()
    lock.drop()
    assert ssm.parameters == {}


@pytest.mark.parametrize("call", ["put_parameter", "get_parameter", "delete_parameter"])
def test_other_refusals_pass_through(aws, ssm, monkeypatch, call):
    OperatorLock(aws, "provision").take()

    def denied(**_: Any) -> None:
        raise refusal("AccessDeniedException", "not allowed")

    monkeypatch.setattr(ssm, call, denied)
    act = {"put_parameter": "take", "get_parameter": "holder", "delete_parameter": "clear"}[call]
    with pytest.raises(Exception, match="not allowed"):
        getattr(OperatorLock(aws, "teardown"), act)()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1", '{"operation": "provision"}'])
def test_what_is_no_holder_parses_to_none(text):
    assert Holder.parse(text) is None


def test_a_holder_survives_the_way_through_text():
    me = Holder.this("state rebuild")
    assert Holder.parse(me.encode()) == me


def test_a_user_without_a_name_is_named_by_number(monkeypatch):
    from temporal_ecs import holder

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(holder.getpass, "getuser", nobody)
    holder._user.cache_clear()
    try:
        assert Holder.this("provision").user == str(os.getuid())
    finally:
        holder._user.cache_clear()


def test_where_there_is_no_proc_a_birth_is_unknown(monkeypatch):
    from temporal_ecs import holder

    def missing(self: Path, **_: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert holder._born(1) == ""
