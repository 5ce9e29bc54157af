"""The state file: whole at any moment, bound to one project, and never written by two."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import ACCOUNT, PROJECT, REGION, Killed
from temporal_ecs.errors import LOCKED, TecsError
from temporal_ecs.state import FORMAT, State, locked, set_aside


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".tecs" / "state.json"


def opened(path: Path, **bound: Any) -> State:
    return State(path, **{"project": PROJECT, "account": ACCOUNT, "region": REGION} | bound)


def record(id_: str = "x-1", *needs: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "Vpc",
        "id": id_,
        "status": "ready",
        "spec": {},
        "outputs": {},
        "needs": list(needs),
    } | more


def refused(path: Path, **bound: Any) -> TecsError:
    before = path.read_bytes()
    with pytest.raises(TecsError) as caught:
        opened(path, **bound)
    assert path.read_bytes() == before
    return caught.value


# ------------------------------------------------------------------------------------------------ content


def test_what_was_put_is_there_for_the_next_process(path):
    state = opened(path)
    state.put("vpc", record("vpc-1"))
    state.put("subnet", record("subnet-1", "vpc"))
    state.put("gone", record("x"))
    state.drop("gone")
    state.drop("never there")
    again = opened(path)
    assert again.names() == ["subnet", "vpc"]
    assert again.get("vpc") == record("vpc-1")
    assert again.get("gone") == {}
    assert "vpc" in again
    assert "gone" not in again
    assert (again.users("vpc"), again.needs("subnet")) == ({"subnet"}, {"vpc"})
    assert (again.users("subnet"), again.needs("vpc"), again.needs("gone")) == (set(), set(), set())


def test_a_need_that_is_no_longer_recorded_is_no_need(path):
    state = opened(path)
    state.put("subnet", record("subnet-1", "vpc"))
    assert state.needs("subnet") == set()
    assert state.users("vpc") == {"subnet"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.text(min_size=1), st.none() | st.dictionaries(st.text(), JSON, max_size=3)), max_size=8))
def test_the_file_is_plain_sorted_json_whatever_is_in_it(changes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"
        state, expected = opened(path), {}
        for name, spec in changes:
            if spec is None:
                state.drop(name)
                expected.pop(name, None)
            else:
                state.put(name, record(spec=spec))
                expected[name] = record(spec=spec)
        if not path.exists():
            assert expected == {}
            return
        text = path.read_text()
        data = json.loads(text)
        assert text == json.dumps(data, indent=2, sort_keys=True) + "\n"
        assert data["resources"] == expected
        assert (data["project"], data["account"], data["region"]) == (PROJECT, ACCOUNT, REGION)
        assert {name: opened(path).get(name) for name in expected} == expected


def test_only_the_owner_may_read_it(path):
    state = opened(path)
    old = os.umask(0)
    try:
        state.put("a", record("1"))
        state.put("a", record("2"))
    finally:
        os.umask(old)
    for file in (path, state.backup):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_version_before_is_kept_beside(path):
    state = opened(path)
    state.put("a", record("1"))
    assert not state.backup.exists()
    before = path.read_bytes()
    state.put("a", record("2"))
    assert state.backup.read_bytes() == before
    state.drop("a")
    assert json.loads(state.backup.read_text())["resources"]["a"]["id"] == "2"
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.json", "state.json.backup"]


def test_where_a_file_cannot_have_two_names_the_version_before_is_copied(path, monkeypatch):
    def unsupported(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", unsupported)
    state = opened(path)
    state.put("a", record("1"))
    before = path.read_bytes()
    state.put("a", record("2"))
    assert state.backup.read_bytes() == before
    assert stat.S_IMODE(state.backup.stat().st_mode) == 0o600


def test_reading_and_repeating_write_nothing(path):
    state = opened(path)
    state.drop("a")
    assert not path.parent.exists()
    state.put("a", record())
    seen = path.stat()
    state.put("a", record())
    state.drop("b")
    opened(path).put("a", record())
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (seen.st_ino, seen.st_mtime_ns)


def test_tokens_last_until_the_next_write_and_never_come_again(path):
    state = opened(path)
    seen = set()
    for number in range(20):
        token = state.token("a")
        assert len(token) == 36
        assert token == state.token("a")
        assert token != state.token("b")
        assert token not in seen
        seen.add(token)
        state.put("a", record(str(number)))
    state.drop("a")
    assert opened(path).token("a") not in seen
    path.unlink()
    assert opened(path).token("a") not in seen


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"account": "999999999999"}, "is for account 123456789012, not 999999999999"),
        ({"region": "us-east-1"}, "is for region eu-west-1, not us-east-1"),
        ({"project": "other"}, "is for project temporal-dev, not other"),
    ],
)
def test_a_file_of_something_else_is_refused(path, bound, words):
    opened(path).put("a", record())
    error = refused(path, **bound)
    assert words in error.message
    assert str(path) in error.message
    assert error.hint == "Nothing was changed. Check --project, --region, --state and your AWS credentials."


def test_a_file_of_another_format_is_not_called_damaged(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"format": FORMAT + 1, "records": []}))
    error = refused(path)
    assert f"format {FORMAT + 1}" in error.message
    assert "damaged" not in error.message
    assert "another version of tecs" in error.hint
    assert "Nothing was changed" in error.hint
    assert set_aside(path) is None, "a newer tecs can read it"


WHOLE = {
    "format": FORMAT,
    "project": PROJECT,
    "account": ACCOUNT,
    "region": REGION,
    "serial": 1,
    "lineage": "0" * 32,
    "resources": {"a": record()},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00",
        json.dumps(WHOLE)[:-20],
        json.dumps({k: v for k, v in WHOLE.items() if k != "resources"}),
        json.dumps({k: v for k, v in WHOLE.items() if k != "serial"}),
        json.dumps(WHOLE | {"resources": None}),
        json.dumps(WHOLE | {"resources": []}),
        json.dumps(WHOLE | {"resources": {"a": None}}),
        json.dumps(WHOLE | {"resources": {"a": {"kind": "Vpc", "id": "x"}}}),
        json.dumps(WHOLE | {"serial": "1"}),
        json.dumps(WHOLE | {"lineage": "mine"}),
        json.dumps({k: v for k, v in WHOLE.items() if k != "format"}),
    ],
)
def test_a_damaged_file_is_refused_and_can_be_set_aside(path, text):
    path.parent.mkdir()
    path.write_text(text)
    error = refused(path)
    assert f"the state file {path} is damaged" in error.message
    assert "Nothing was changed" in error.hint
    assert "tecs state rebuild" in error.hint
    assert "state.json.backup" in error.hint
    damaged = set_aside(path)
    assert damaged is not None
    assert damaged.read_text() == text
    assert opened(path).names() == []


def test_a_file_that_is_no_text_is_damaged_too(path):
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00")
    assert "is damaged" in refused(path).message
    assert set_aside(path) == path.with_name("state.json.damaged")


def test_a_whole_file_is_never_set_aside(path):
    assert set_aside(path) is None, "there is none"
    opened(path).put("a", record())
    assert set_aside(path) is None
    assert path.exists()


def test_a_place_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "state.json"
    with pytest.raises(TecsError, match="cannot read the state file") as caught:
        opened(path)
    assert "Nothing was changed" in caught.value.hint
    with (
        pytest.raises(TecsError, match=f"cannot write the state file {path}: ") as caught,
        locked(path, "provision"),
    ):
        pytest.fail("it can't be held there")
    assert "--state" in caught.value.hint
    assert caught.value.status == 1


def test_a_folder_that_cannot_be_written_is_found_out_before_anything_is_changed(path, monkeypatch):
    path.parent.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(TecsError, match=f"cannot write the state file {path}: Permission denied"), locked(path, "x"):
        pytest.fail("nothing would be recorded")


def test_a_full_disk_is_told_and_what_it_held_up_is_written_with_the_next_change(path, monkeypatch):
    state = opened(path)
    state.put("a", record())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TecsError, match=r"cannot write the state file .*: No space left on device"):
            state.put("b", record())
    assert path.read_bytes() == before
    state.put("c", record())
    assert opened(path).names() == ["a", "b", "c"]


def test_what_another_command_wrote_meanwhile_is_never_overwritten(path):
    opened(path).put("a", record())
    slow = opened(path)  # an operator thinks about the question whether to go on
    opened(path).put("b", record())
    with pytest.raises(TecsError) as caught:
        slow.put("c", record())
    assert "was changed by another command" in caught.value.message
    assert "again" in caught.value.hint
    assert opened(path).names() == ["a", "b"]


def test_a_file_that_appeared_since_is_not_overwritten_and_one_that_vanished_is_written_whole(path):
    slow = opened(path)
    opened(path).put("a", record())
    with pytest.raises(TecsError, match="was changed by another command"):
        slow.put("b", record())
    state = opened(path)
    path.unlink()
    state.put("b", record())
    assert opened(path).names() == ["a", "b"]


# --------------------------------------------------------------------------------------------------- crashes


@contextmanager
def dying(call: int, *, with_effect: bool) -> Iterator[list[str]]:
    """The process dies at that call of the operating system, before or after its effect."""
    seen: list[str] = []
    patch = pytest.MonkeyPatch()

    def deadly(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def act(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            if len(seen) == call and not with_effect:
                raise Killed
            try:
                return real(*args, **kwargs)
            finally:
                if len(seen) == call:
                    raise Killed

        return act

    for name in ("open", "fsync", "link", "unlink", "replace"):
        patch.setattr(os, name, deadly(name))
    try:
        yield seen
    except Killed:
        pass
    finally:
        patch.undo()


@pytest.mark.parametrize("with_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(1, 7))
def test_killed_at_any_call_of_the_system_the_file_is_the_old_or_the_new_one(path, call, with_effect):
    state = opened(path)
    state.put("a", record("first"))
    state.put("a", record("old"))
    with dying(call, with_effect=with_effect) as seen:
        state.put("a", record("new"))
    assert len(seen) == call, "the write took as many calls"
    left = opened(path).get("a")["id"]
    assert left == ("new" if (call, with_effect) == (6, True) else "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = opened(path)
    again.put("a", record("newest"))
    assert opened(path).get("a")["id"] == "newest"
    assert json.loads(again.backup.read_text())["resources"]["a"]["id"] == left
    again.put("a", record("the newest of all"))
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.json", "state.json.backup"]


# ---------------------------------------------------------------------------------------------------- threads


def test_many_threads_may_use_it_at_once(path):
    state = opened(path)
    stop = threading.Event()

    def read() -> int:
        reads = 0
        while not stop.is_set():
            assert state.users("base") >= state.needs("base")
            assert all(state.get(name) or True for name in state.names())
            reads += 1
        return reads

    def write(thread: int) -> None:
        for number in range(25):
            state.put(f"{thread}-{number}", record(str(number), "base"))
            if number % 3 == 0:
                state.drop(f"{thread}-{number}")

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(write, thread) for thread in range(8)]:
            writer.result(60)
        stop.set()
        assert all(reader.result(10) > 0 for reader in readers)
    expected = sorted(f"{t}-{n}" for t in range(8) for n in range(25) if n % 3)
    assert state.names() == expected
    assert opened(path).names() == expected
    assert json.loads(path.read_text())["serial"] == 8 * (25 + 9), "one for each change"


# ----------------------------------------------------------------------------------------------------- the lock

HOLD = """
import sys
from pathlib import Path
from temporal_ecs.state import locked
with locked(Path(sys.argv[1]), "provision"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_it(path):
    with another_process(path) as process:
        with (
            pytest.raises(TecsError) as caught,
            locked(path, "teardown"),
        ):
            pytest.fail("two can't hold it")
        assert caught.value.status == LOCKED == 5
        assert f"{path} is locked: provision by " in caught.value.message
        assert f"process {process.pid}, since " in caught.value.message
        assert "Nothing was changed" in caught.value.hint
    with locked(path, "teardown") as left_behind:
        assert left_behind is None, "it was given back"


def test_the_lock_of_a_process_that_died_is_taken_over_with_a_note(path):
    with another_process(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    with locked(path, "teardown") as left_behind:
        assert left_behind is not None
        assert left_behind.operation == "provision"
        assert left_behind.pid == process.pid
        assert left_behind.dead()
    with locked(path, "teardown") as left_behind:
        assert left_behind is None


def test_a_lock_is_given_back_when_the_command_fails(path):
    with pytest.raises(ValueError, match="failed"), locked(path, "provision"):
        raise ValueError("failed")
    with locked(path, "provision") as left_behind:
        assert left_behind is None


def test_a_lock_file_that_makes_no_sense_holds_nobody_up(path):
    path.parent.mkdir()
    path.with_name("state.json.lock").write_text("what?")
    with locked(path, "provision") as left_behind:
        assert left_behind is None
        with (
            pytest.raises(TecsError, match="is locked: provision by"),
            locked(path, "teardown"),
        ):
            pytest.fail("two can't hold it")
