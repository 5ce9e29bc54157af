"""Shells, forwarded ports and logs: what is called, what the plugin is given, and what an operator reads."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.validate import validate_parameters
from hypothesis import given
from hypothesis import strategies as st

from cloud import ACCOUNT, PROJECT, REGION, client
from temporal_ecs.aws import Aws
from temporal_ecs.clock import Clock
from temporal_ecs.errors import TecsError
from temporal_ecs.ops.access import (
    LATE,
    LISTENS,
    RESPONSE,
    Log,
    Plugin,
    Session,
    container,
    filter_pattern,
    find_plugin,
    run,
)
from temporal_ecs.sandbox.server import Server
from temporal_ecs.services import SERVICES
from test_cli import Operator, Ran, tecs

__all__ = ["tecs"]

TOKEN = "AAEAAS3cretTokenValue"
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{PROJECT}-cluster"
ONE, TWO, THREE = ("1f" * 16, "2e" * 16, "3d" * 16)
NEW, OLD = "1.2.707.0", "1.2.497.0"
GROUP = f"/ecs/{PROJECT}/temporal-history"


# -- ECS and SSM, answering in the documented shapes -----------------------------------------------------------


def row(task: str = ONE, service: str = "history", **changes: Any) -> dict[str, Any]:
    """A task as DescribeTasks shows it; `agent` and `box` change its container."""
    title, name = container(service)
    agent = {"name": "ExecuteCommandAgent", "lastStatus": "RUNNING", **changes.pop("agent", {})}
    box = {"name": name, "lastStatus": "RUNNING", "runtimeId": f"{task}-0042", "managedAgents": [agent]}
    other = {"name": "ecs-service-connect-abc", "lastStatus": "RUNNING", "runtimeId": f"{task}-0043"}
    return {
        "taskArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{PROJECT}-cluster/{task}",
        "clusterArn": CLUSTER,
        "group": f"service:{PROJECT}-{title}",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "healthStatus": "HEALTHY",
        "enableExecuteCommand": True,
        "startedAt": 1_764_000_000,
        "containers": [other, {**box, **changes.pop("box", {})}],
        **changes,
    }


class Stub:
    """Answers ECS and SSM before anything is sent; every answer is checked against the service's model."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.service: dict[str, Any] | None = {}
        self.refuse: dict[str, str] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def asked(self, operation: str) -> dict[str, Any]:
        return next(params for name, params in self.calls if name == operation)

    def __call__(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        _, service, operation = event_name.split(".")
        if service not in ("ecs", "ssm"):
            return None
        params = json.loads(request.body)
        self.calls.append((operation, params))
        if operation in self.refuse:
            body: dict[str, Any] = {"__type": self.refuse[operation], "message": "refused"}
            return self._answer(request, 400, body)
        body = getattr(self, operation)(params)
        model = client("http://127.0.0.1:1", service).meta.service_model.operation_model(operation)
        validate_parameters(body, model.output_shape)
        return self._answer(request, 200, body)

    def _answer(self, request: Any, status: int, body: dict[str, Any]) -> AWSResponse:
        answer = AWSResponse(request.url, status, {"content-type": "application/x-amz-json-1.1"}, None)
        answer._content = json.dumps(body).encode()
        return answer

    def ListTasks(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        title = params["serviceName"]
        return {"taskArns": [r["taskArn"] for r in self.rows if r["group"] == f"service:{title}"]}

    def DescribeTasks(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"tasks": [r for r in self.rows if r["taskArn"] in params["tasks"]], "failures": []}

    def DescribeServices(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        counts = {"desiredCount": 0, "runningCount": 0, "pendingCount": 0, "status": "ACTIVE"}
        known = (
            [] if self.service is None else [{"serviceName": n, **counts, **self.service} for n in params["services"]]
        )
        return {"services": known, "failures": []}

    def ExecuteCommand(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        session = {"sessionId": "ecs-execute-command-1", "streamUrl": "wss://ssmmessages/x", "tokenValue": TOKEN}
        return {
            "clusterArn": CLUSTER,
            "taskArn": params["task"],
            "containerName": params["container"],
            "interactive": True,
            "session": session,
        }

    def StartSession(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"SessionId": "operator-1", "StreamUrl": "wss://ssmmessages/y", "TokenValue": TOKEN}


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub, make = Stub(), Aws.__init__

    def init(self: Aws, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        self._session.events.register_first("before-send", stub)

    monkeypatch.setattr(Aws, "__init__", init)
    return stub


# -- a plugin ------------------------------------------------------------------------------------------------

SCRIPT = """#!/bin/sh
if [ "$1" = --version ]; then echo "$FAKE_VERSION"; exit 0; fi
printf '%s\\n' "$@" > "$FAKE_NOTES/arguments"
printf '%s' "$AWS_SSM_START_SESSION_RESPONSE" > "$FAKE_NOTES/variable"
echo "Starting session with SessionId: x"
eval "$FAKE_ACT"
exit "$FAKE_STATUS"
"""


class FakePlugin:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._set = folder, monkeypatch.setenv
        self.path = folder / "session-manager-plugin"
        self.path.write_text(SCRIPT)
        self.path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        monkeypatch.setenv("FAKE_NOTES", str(folder))
        self.behave()

    def behave(self, *, version: str = NEW, status: int = 0, act: str = ":") -> None:
        for name, value in (("VERSION", version), ("STATUS", str(status)), ("ACT", act)):
            self._set(f"FAKE_{name}", value)

    @property
    def started(self) -> bool:
        return (self.folder / "arguments").exists()

    @property
    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().split("\n")[:-1]

    @property
    def variable(self) -> str:
        return (self.folder / "variable").read_text()


@pytest.fixture
def plugin(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakePlugin:
    return FakePlugin(tmp_path_factory.mktemp("bin"), monkeypatch)


def test_a_shell_is_opened_and_the_plugin_is_given_it_as_by_the_aws_cli(tecs: Operator, ecs: Stub, plugin: FakePlugin):
    ecs.rows = [row()]
    plugin.behave(status=7)
    ran = tecs("exec", "history")
    assert ran.status == 7
    assert ran.err == "history: task 1f1f1f1f, container temporal-history\n"
    assert ecs.asked("ExecuteCommand") == {
        "cluster": f"{PROJECT}-cluster",
        "task": ecs.rows[0]["taskArn"],
        "container": "temporal-history",
        "command": "/bin/sh",
        "interactive": True,
    }
    response, region, operation, profile, parameters, endpoint = plugin.arguments
    assert (response, region, operation, profile) == (RESPONSE, REGION, "StartSession", "")
    assert json.loads(parameters) == {"Target": f"ecs:{PROJECT}-cluster_{ONE}_{ONE}-0042"}
    assert endpoint == tecs.server.endpoint
    assert json.loads(plugin.variable) == {
        "sessionId": "ecs-execute-command-1",
        "streamUrl": "wss://ssmmessages/x",
        "tokenValue": TOKEN,
    }
    assert RESPONSE not in os.environ


@pytest.mark.parametrize("version", [OLD, "1.2.30", "what?", ""])
def test_an_old_plugin_gets_the_session_as_an_argument_and_the_operator_is_told(
    version: str, tecs: Operator, ecs: Stub, plugin: FakePlugin
):
    ecs.rows = [row()]
    plugin.behave(version=version)
    ran = tecs("exec", "history")
    assert ran.status == 0
    assert json.loads(plugin.arguments[0])["tokenValue"] == TOKEN
    assert plugin.variable == ""
    assert "too old to hide it" in ran.err


@pytest.mark.parametrize(("version", "private"), [(OLD, False), ("1.2.497.1", True), ("1.2.500", True), ("2", True)])
def test_the_version_decides_whether_the_plugin_takes_a_variable(version: str, private: bool, plugin: FakePlugin):
    plugin.behave(version=version)
    assert find_plugin() == Plugin(str(plugin.path), version, private)


@pytest.mark.parametrize("version", [NEW, OLD])
def test_the_token_is_in_no_message_and_no_log(
    version: str, tecs: Operator, ecs: Stub, plugin: FakePlugin, tmp_path: Path
):
    ecs.rows = [row(), row(TWO, "ui")]
    plugin.behave(version=version, act=f'echo "{LISTENS}..."')
    shell = tecs("exec", "history", "--api-log", "calls", "--debug")
    port = tecs("forward", "ui", "--port", str(free_port()), "--api-log", "calls", "--debug", "-o", "json")
    log = (tmp_path / "calls").read_text()
    assert "ExecuteCommand" in log
    assert "StartSession" in log
    for text in (*shell[1:], *port[1:], log):
        assert TOKEN not in text
    assert TOKEN not in repr(Session({"tokenValue": TOKEN}, {}, REGION, "", ONE, "x"))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["history", "ls -la | wc"], "ls -la | wc"),
        (["history", "ls", "-la", "/a b"], "ls -la '/a b'"),
        (["history", "--task", "1f", "sh", "-c", "echo $HOME"], "sh -c 'echo $HOME'"),
        (["--task", "1f", "history", "--", "--task", "-o"], "--task -o"),
        (["history", "top", "--task", "9"], "top --task 9"),
        (["-o", "plain", "history", "--task=1f"], "/bin/sh"),
    ],
)
def test_what_follows_the_service_is_the_command(
    words: list[str], command: str, tecs: Operator, ecs: Stub, plugin: FakePlugin
):
    ecs.rows = [row()]
    assert tecs("exec", *words).status == 0
    assert ecs.asked("ExecuteCommand")["command"] == command


def test_ctrl_c_belongs_to_the_session(tecs: Operator, ecs: Stub, plugin: FakePlugin):
    ecs.rows = [row()]
    before = signal.getsignal(signal.SIGINT)
    plugin.behave(status=3, act="kill -INT $PPID; kill -INT $PPID")
    assert tecs("exec", "history").status == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_session_ends_when_tecs_is_terminated(plugin: FakePlugin):
    plugin.behave(act="echo $$ ; exec sleep 60")
    pids: list[str] = []

    def heard(line: str) -> None:
        if line.isdigit():
            pids.append(line)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(find_plugin(), Session({}, {}, REGION, "", ONE, "x"), heard=heard)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids[0]), 0)


def test_a_plugin_killed_by_a_signal_gives_the_shells_status(plugin: FakePlugin):
    plugin.behave(act="kill -KILL $$")
    assert run(find_plugin(), Session({}, {}, REGION, "", ONE, "x")) == 137


def test_without_the_plugin_nothing_is_called_and_the_way_to_install_it_is_told(
    tecs: Operator, ecs: Stub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "/nowhere")
    for words in (("exec", "history"), ("forward", "ui")):
        ran = tecs(*words)
        assert ran.status == 1
        assert "session-manager-plugin is not installed" in ran.err
        assert "brew install --cask session-manager-plugin" in ran.err
    assert not ecs.calls


def test_a_plugin_that_does_not_run_is_told(tecs: Operator, plugin: FakePlugin):
    plugin.path.write_bytes(b"\x7fELF nonsense")
    assert "does not run" in tecs("exec", "history").err


# -- which task ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([row(ONE, healthStatus="UNKNOWN"), row(TWO)], TWO),
        ([row(ONE, healthStatus="UNHEALTHY"), row(TWO, healthStatus="UNKNOWN")], TWO),
        ([row(ONE, desiredStatus="STOPPED"), row(TWO, healthStatus="UNKNOWN")], TWO),
        ([row(ONE, lastStatus="DEACTIVATING"), row(TWO)], TWO),
        ([row(ONE, agent={"lastStatus": "STOPPED"}), row(TWO)], TWO),
        ([row(ONE, enableExecuteCommand=False), row(TWO), row(THREE)], TWO),
        ([row(ONE, "matching"), row(TWO)], TWO),
    ],
)
def test_a_healthy_task_is_chosen(
    rows: list[dict[str, Any]], chosen: str, tecs: Operator, ecs: Stub, plugin: FakePlugin
):
    ecs.rows = rows
    assert tecs("exec", "history").status == 0
    assert ecs.asked("ExecuteCommand")["task"].endswith(chosen)


@pytest.mark.parametrize("given_as", [TWO, TWO[:6], f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{PROJECT}-cluster/{TWO}"])
def test_a_task_is_named_by_id_beginning_or_arn(given_as: str, tecs: Operator, ecs: Stub, plugin: FakePlugin):
    ecs.rows = [row(ONE), row(TWO, healthStatus="UNHEALTHY")]
    assert tecs("exec", "history", "--task", given_as).status == 0
    assert ecs.asked("ExecuteCommand")["task"].endswith(TWO)


@pytest.mark.parametrize(
    ("rows", "options", "message", "hint"),
    [
        ([row()], ["--task", "9"], "history has no running task 9; there are: 1f1f1f1f RUNNING HEALTHY", "chosen"),
        ([row(), row(ONE[:-1] + "0")], ["--task", "1f"], "2 tasks of history begin with 1f", "Give more"),
        ([row(lastStatus="PENDING")], ["--task", "1f"], "task 1f is PENDING", "Without --task"),
        ([row(healthStatus="UNHEALTHY")], [], "every running task of history is unhealthy: 1f1f1f1f", "--task"),
        ([row(enableExecuteCommand=False)], [], "task 1f1f1f1f was started without ECS Exec", "tecs deploy history"),
        ([row(agent={"lastStatus": "PENDING"})], [], "the exec agent of task 1f1f1f1f is still starting", "a minute"),
        (
            [row(agent={"lastStatus": "STOPPED", "reason": "no route to ssmmessages"})],
            [],
            "is STOPPED: no route to ssmmessages",
            "temporal-task-role",
        ),
        ([row(box={"managedAgents": []})], [], "the exec agent of task 1f1f1f1f is not there", "ssmmessages"),
        ([row(box={"lastStatus": "STOPPED"})], [], "container temporal-history of task 1f1f1f1f is STOPPED", "again"),
        ([row()], ["--container", "x"], "has no container x; it has: ecs-service-connect-abc, temporal-history", "--c"),
    ],
)
def test_why_a_task_cant_be_entered_is_told(
    rows: list[dict[str, Any]],
    options: list[str],
    message: str,
    hint: str,
    tecs: Operator,
    ecs: Stub,
    plugin: FakePlugin,
):
    ecs.rows = rows
    ran = tecs("exec", "history", *options)
    assert ran.status == 1
    assert message in ran.err.splitlines()[0]
    assert hint in ran.err.splitlines()[1]
    assert not plugin.started


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ({}, "history has no task, and none is wanted\n  Start it with `tecs scale up`."),
        (None, "there is no service temporal-dev-temporal-history\n  Make it with `tecs provision`."),
        (
            {
                "desiredCount": 4,
                "pendingCount": 1,
                "events": [{"createdAt": 1_800_000_000, "message": "no instance has enough memory"}],
            },
            "history has no running task (4 wanted, 0 running, 1 pending); last event: no instance has enough memory",
        ),
    ],
)
def test_a_service_without_tasks_says_why(
    service: dict[str, Any] | None, message: str, tecs: Operator, ecs: Stub, plugin: FakePlugin
):
    ecs.service = service
    if service is None:
        ecs.refuse = {"ListTasks": "ServiceNotFoundException"}
    assert message in tecs("exec", "history").err


def test_a_lost_agent_is_told_in_words(tecs: Operator, ecs: Stub, plugin: FakePlugin):
    ecs.rows = [row(), row(TWO, "ui")]
    ecs.refuse = {"ExecuteCommand": "TargetNotConnectedException", "StartSession": "TargetNotConnected"}
    assert "the exec agent of task 1f1f1f1f has lost its connection to SSM" in tecs("exec", "history").err
    assert "task 2e2e2e2e has lost its connection" in tecs("forward", "ui", "--port", str(free_port())).err


def test_a_wrong_service_or_task_is_wrong_usage(tecs: Operator, ecs: Stub, plugin: FakePlugin):
    assert tecs("exec", "hist").status == 2
    assert tecs("forward", "history").status == 2
    assert "is no task id" in tecs("exec", "history", "--task", "a b").err
    assert not ecs.calls


# -- ports ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("service", "remote", "address"),
    [("ui", 8080, "http://localhost:{}"), ("grafana", 3000, "http://localhost:{}"), ("frontend", 7233, "localhost:{}")],
)
def test_a_port_is_forwarded_and_its_address_printed(
    service: str, remote: int, address: str, tecs: Operator, ecs: Stub, plugin: FakePlugin
):
    ecs.rows = [row(service=service)]
    plugin.behave(act=f'echo "Port opened for sessionId x."; echo "{LISTENS}..."')
    port = free_port()
    ran = tecs("forward", service, "--port", str(port))
    assert (ran.status, ran.out) == (0, address.format(port) + "\n")
    assert "Ctrl-C ends it" in ran.err
    wanted = {
        "Target": f"ecs:{PROJECT}-cluster_{ONE}_{ONE}-0042",
        "DocumentName": "AWS-StartPortForwardingSession",
        "Parameters": {"portNumber": [str(remote)], "localPortNumber": [str(port)]},
    }
    assert ecs.asked("StartSession") == wanted
    assert json.loads(plugin.arguments[4]) == wanted
    assert json.loads(plugin.variable) == {
        "SessionId": "operator-1",
        "TokenValue": TOKEN,
        "StreamUrl": "wss://ssmmessages/y",
    }


def test_an_address_is_not_printed_when_nothing_listens(tecs: Operator, ecs: Stub, plugin: FakePlugin):
    ecs.rows = [row(service="ui")]
    plugin.behave(status=1, act='echo "Cannot perform start session"')
    ran = tecs("forward", "ui", "--port", str(free_port()))
    assert (ran.status, ran.out) == (1, "")
    assert "Cannot perform start session" in ran.err


def test_json_of_forward_is_one_document(tecs: Operator, ecs: Stub, plugin: FakePlugin):
    ecs.rows = [row(service="ui")]
    plugin.behave(act=f'echo "{LISTENS}..."')
    port = free_port()
    shown = json.loads(tecs("forward", "ui", "--port", str(port), "-o", "json").out)
    assert shown == {"service": "ui", "address": f"http://localhost:{port}", "task": ONE}


def test_a_taken_port_is_refused_before_anything_is_called(tecs: Operator, ecs: Stub, plugin: FakePlugin):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ran = tecs("forward", "ui", "--port", str(port))
    assert ran.status == 1
    assert f"local port {port} is in use" in ran.err
    assert "--port" in ran.err
    assert not ecs.calls


# -- logs, as the sandbox keeps them ---------------------------------------------------------------------------


def write(server: Server, task: str, *lines: tuple[float, str], service: str = "history") -> None:
    """Have a task log lines: seconds ago, text."""
    logs, (title, name) = client(server.endpoint, "logs"), container(service)
    group, stream = f"/ecs/{PROJECT}/{title}", f"{title}/{name}/{task}"
    for make, names in ((logs.create_log_group, [group]), (logs.create_log_stream, [group, stream])):
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            make(**dict(zip(("logGroupName", "logStreamName"), names, strict=False)))
    events = [{"timestamp": int((time.time() - ago) * 1000), "message": text} for ago, text in sorted(lines)[::-1]]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def told(ran: Ran) -> list[str]:
    """Task and message of every line."""
    assert ran.status == 0
    return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", "", line) for line in ran.out.splitlines()]


def test_logs_of_all_tasks_are_shown_in_order(tecs: Operator):
    write(tecs.server, ONE, (30, "a"), (10, "c\n"), (4000, "long ago"))
    write(tecs.server, TWO, (20, "b"))
    assert told(tecs("logs", "history")) == ["1f1f1f1f  a", "2e2e2e2e  b", "1f1f1f1f  c"]
    assert told(tecs("logs", "history", "--since", "25s")) == ["2e2e2e2e  b", "1f1f1f1f  c"]
    assert told(tecs("logs", "history", "--since", "2h"))[0] == "1f1f1f1f  long ago"
    assert told(tecs("logs", "history", "--task", TWO[:4])) == ["2e2e2e2e  b"]
    empty = tecs("logs", "history", "--since", "1s")
    assert (empty.status, empty.out) == (0, "")
    assert f"nothing in {GROUP} since" in empty.err


def test_the_collector_has_a_container_name_of_its_own(tecs: Operator):
    write(tecs.server, ONE, (3, "scraping"), service="adot")
    assert told(tecs("logs", "adot")) == ["1f1f1f1f  scraping"]
    write(tecs.server, TWO, (3, "index is set up"), service="opensearch-setup")
    assert told(tecs("logs", "opensearch-setup")) == ["2e2e2e2e  index is set up"]


TEXTS = [
    'failed: {"error":"shard lost"}',
    "failed: error shard lost",
    "C:\\temp 100%",
    "a ?b -c [d] {e}",
    "%E.ror%",
    '""',
]


@pytest.mark.parametrize("text", [*TEXTS, '{"error":', '"', "\\", "?b -c", "[d]", " ", "ERROR"])
def test_grep_is_literal(text: str, tecs: Operator):
    write(tecs.server, ONE, *((20 - i, line) for i, line in enumerate(TEXTS)))
    assert told(tecs("logs", "history", "--grep", text)) == [f"1f1f1f1f  {line}" for line in TEXTS if text in line]


@given(st.text(), st.text(), st.text())
def test_what_aws_filters_for_is_one_phrase_that_the_text_contains(before: str, text: str, after: str):
    pattern = filter_pattern(text)
    assert len(pattern) <= 1024
    if pattern:
        assert re.fullmatch(r'"[^"\\]+"', pattern)
        assert pattern[1:-1] in before + text + after
    else:
        assert not re.sub(r'["\\\s]', "", text)


def test_json_of_logs_is_one_document(tecs: Operator):
    write(tecs.server, ONE, (2, "a"), (1, "b"))
    shown = json.loads(tecs("logs", "history", "-o", "json").out)
    assert shown["log_group"] == GROUP
    assert [(e["task"], e["message"]) for e in shown["events"]] == [(ONE, "a"), (ONE, "b")]


def test_a_missing_log_group_is_told(tecs: Operator):
    ran = tecs("logs", "matching")
    assert ran.status == 1
    assert "there is no log group /ecs/temporal-dev/temporal-matching\n  `tecs provision logs`" in ran.err


def started(*words: str) -> subprocess.Popen[str]:
    """tecs in a process of its own, with the commands of this file."""
    code = "from temporal_ecs import cli\ncli.main()"
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_follow_shows_what_comes_until_it_is_ended(number: int, status: int, tecs: Operator):
    write(tecs.server, ONE, (5, "before"))
    with started("logs", "history", "-f", "-o", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["message"] == "before"
        write(tecs.server, TWO, (0, "after"))
        after = json.loads(process.stdout.readline())
        assert (after["task"], after["message"]) == (TWO, "after")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "", "")


# -- following, against a log that is late, out of order and repeats itself -------------------------------------


class Ticking(Clock):
    def __init__(self) -> None:
        self.at = 1_764_000_000.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


SPAN = 60.0


class LateLogs:
    """FilterLogEvents: an event is found some time after its own; pages are small, may be empty and may repeat."""

    def __init__(self, clock: Ticking, events: list[tuple[float, float]], draw: Callable[[int], int]) -> None:
        self.clock, self.draw = clock, draw
        self.quiet = clock.at + SPAN + LATE  # by then all is visible, and nothing fails any more
        self.events = [
            (
                clock.at + delay,
                {
                    "eventId": str(number),
                    "timestamp": int((clock.at + at) * 1000),
                    "message": f"m{number}",
                    "logStreamName": f"temporal-history/temporal-history/{ONE}",
                },
            )
            for number, (at, delay) in enumerate((at, at + late) for at, late in events)
        ]

    logs = property(lambda self: self)

    def get_paginator(self, _: str) -> LateLogs:
        return self

    def transient(self, error: BaseException) -> bool:
        return isinstance(error, ReadTimeoutError)

    def paginate(self, startTime: int, **_: Any) -> Iterator[dict[str, Any]]:  # noqa: N803
        position, last = (0, ""), False
        while not last:
            if self.clock.at < self.quiet and self.draw(9) == 0:
                raise ReadTimeoutError(endpoint_url="x")
            shown = sorted(
                (e["timestamp"], e["eventId"], n)
                for n, (visible, e) in enumerate(self.events)
                if visible <= self.clock.at and e["timestamp"] >= startTime
            )
            rest = [entry for entry in shown if entry[:2] > position]
            size = self.draw(3)
            page, last = rest[:size], size >= len(rest)
            position = page[-1][:2] if page else position
            rows = [self.events[n][1] for *_, n in page]
            rows += rows[: self.draw(1)]
            date = formatdate(self.clock.at, usegmt=True)
            yield {"events": rows, "ResponseMetadata": {"HTTPHeaders": {"date": date}}}
            self.clock.at += self.draw(4) * 2


def followed(cloud: Any, poll: float, skew: float = 0) -> list[str]:
    """Ids of the events in the order told, until two looks after all of them could be seen."""
    clock, heard, looks = cloud.clock, [], 0
    log = Log(cloud, PROJECT, "history", now=lambda: clock.at + skew)

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += clock.at > cloud.quiet
        if looks > 2:
            raise KeyboardInterrupt
        clock.at += seconds

    clock.sleep = sleep
    with contextlib.suppress(KeyboardInterrupt):
        for line in log.follow(clock.at, poll=poll, note=lambda _: None):
            heard.append(line.id)
    return heard


@given(
    st.lists(st.tuples(st.floats(0, SPAN), st.floats(0, LATE - 0.01)), max_size=25),
    st.randoms(use_true_random=False),
    st.floats(0.25, 20),
    st.floats(-300, 300),
)
def test_follow_tells_every_event_exactly_once(events, random, poll, skew):
    heard = followed(LateLogs(Ticking(), events, lambda most: random.randint(0, most)), poll, skew)
    assert sorted(heard, key=int) == [str(number) for number in range(len(events))]


def test_what_appears_behind_the_page_that_is_being_read_is_not_lost():
    slow = {9: 1, 3: 1, 1: 0, 4: 4}  # pages of one event, 8 s each, no failure, no repetition
    assert followed(LateLogs(Ticking(), [(0, 9.9), (1, 0), (1.5, 0)], slow.__getitem__), 0.25) == ["1", "2", "0"]


def test_follow_does_not_hide_a_refusal():
    class Refusing(LateLogs):
        def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
            raise TecsError("no")

    aws: Any = Refusing(Ticking(), [], lambda most: 1)
    with pytest.raises(TecsError):
        next(Log(aws, PROJECT, "history").follow(0, note=print))


def test_every_service_is_known_to_all_three():
    for name in SERVICES:
        title, box = container(name)
        assert title == SERVICES[name].title
        assert box
