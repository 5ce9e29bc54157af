"""Into the private network: a shell in a container, a port of one, a service's log."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from math import floor
from typing import TYPE_CHECKING, Any, NamedTuple

from temporal_ecs.errors import TecsError, code
from temporal_ecs.services import SERVICES, Service

from . import fleet
from .fleet import DESCRIBED

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws

FORWARDED = ("ui", "grafana", "frontend")
LOGGED = (*SERVICES, "benchmark", "opensearch-setup")

PLUGIN = "session-manager-plugin"
INSTALL = (
    "macOS: brew install --cask session-manager-plugin; elsewhere: "
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)
RESPONSE = "AWS_SSM_START_SESSION_RESPONSE"
TAKES_NO_VARIABLE = (1, 2, 497, 0)
"""The last plugin that is given the session as an argument (aws-cli, customizations/sessionmanager.py)."""
LISTENS = "Waiting for connections"
"""What the plugin says once the local port is open (session-manager-plugin, portsession/)."""

GONE = frozenset({"ClusterNotFoundException", "ServiceNotFoundException", "ServiceNotActiveException"})
UNREACHED = frozenset({"TargetNotConnectedException", "TargetNotConnected"})

LATE = 10.0
"""Seconds that an event may need from its own time until CloudWatch Logs shows it."""
LONGEST = 1000
"""Characters of a filter pattern; AWS takes 1024."""


def container(name: str) -> tuple[str, str]:
    """Title (log group, stream prefix, family) and container name of a service or of a one-off task."""
    title = SERVICES[name].title if name in SERVICES else name
    return title, "adot-collector" if name == "adot" else title


def short(task: str) -> str:
    """As much of a task's id as people read; --task takes it too."""
    return task[:8]


# -- which task ----------------------------------------------------------------------------------------------


def pick_task(aws: Aws, project: str, service: Service, wanted: str = "") -> dict[str, Any]:
    """The row of a running task of the service: the one whose id begins with `wanted`, else a healthy one.

    Healthy ones come first, then those without a verdict; of equals, one that can be reached. TecsError, saying
    what is there instead, when there is none.
    """
    rows = _tasks(aws, project, service)
    ours = [row for row in rows if _id(row).startswith(wanted)]
    running = [row for row in ours if row["lastStatus"] == row["desiredStatus"] == "RUNNING"]
    if wanted and len(ours) > 1:
        raise TecsError(f"{len(ours)} tasks of {service.name} begin with {wanted}: {_shown(ours)}", "Give more of it.")
    if wanted and running:
        return running[0]
    if wanted and rows:
        found = f"task {wanted} is {ours[0]['lastStatus']}" if ours else f"{service.name} has no running task {wanted}"
        raise TecsError(f"{found}; there are: {_shown(rows)}", "Without --task a healthy one is chosen.")
    if not running:
        raise _none(aws, project, service, rows)
    fit = [row for row in running if row.get("healthStatus") != "UNHEALTHY"]
    if not fit:
        raise TecsError(
            f"every running task of {service.name} is unhealthy: {_shown(running)}", "Name one of them with --task."
        )
    return min(fit, key=lambda row: (row.get("healthStatus") != "HEALTHY", _obstacle(row, container(service.name)[1])))


def reachable(row: Mapping[str, Any], service: Service, name: str) -> dict[str, Any]:
    """The row of the container `name`, whose agent answers; TecsError that says why it can't be entered."""
    task = f"task {short(_id(row))}"
    found = next((c for c in row.get("containers", ()) if c["name"] == name), None)
    if found is None:
        names = ", ".join(sorted(c["name"] for c in row.get("containers", ())))
        raise TecsError(f"{task} has no container {name}; it has: {names}", "Choose one with --container.")
    agent = _agent(found)
    if not row.get("enableExecuteCommand"):
        raise TecsError(
            f"{task} was started without ECS Exec",
            f"`tecs plan {service.title}-service` shows whether the service has it, `tecs deploy {service.name}` "
            "starts tasks anew.",
        )
    if found.get("lastStatus") != "RUNNING":
        raise TecsError(f"container {name} of {task} is {found.get('lastStatus')}, not RUNNING", "Try again.")
    if agent.get("lastStatus") == "PENDING":
        raise TecsError(f"the exec agent of {task} is still starting", "Try again in a minute.")
    if agent.get("lastStatus") != "RUNNING" or not found.get("runtimeId"):
        state = str(agent.get("lastStatus") or "not there") + (f": {agent['reason']}" if agent.get("reason") else "")
        raise _unreached(f"the exec agent of {task} is {state}", service)
    return dict(found)


def _tasks(aws: Aws, project: str, service: Service) -> list[dict[str, Any]]:
    """The tasks of the service that are to run."""
    cluster = f"{project}-cluster"
    try:
        pages = aws.ecs.get_paginator("list_tasks").paginate(
            cluster=cluster, serviceName=f"{project}-{service.title}", desiredStatus="RUNNING"
        )
        arns = [arn for page in pages for arn in page["taskArns"]]
    except Exception as error:
        if code(error) not in GONE:
            raise
        return []
    return [
        row
        for start in range(0, len(arns), DESCRIBED)
        for row in aws.ecs.describe_tasks(cluster=cluster, tasks=arns[start : start + DESCRIBED])["tasks"]
    ]


def _none(aws: Aws, project: str, service: Service, rows: Sequence[Mapping[str, Any]]) -> TecsError:
    """Why there is no running task."""
    name = service.name
    known = fleet.services(aws, project)[name]
    if known.status == "MISSING":
        return TecsError(f"there is no service {project}-{service.title}", "Make it with `tecs provision`.")
    if not known.wanted and not rows:
        return TecsError(f"{name} has no task, and none is wanted", "Start it with `tecs scale up`.")
    counts = f"{known.wanted} wanted, {known.running} running, {known.pending} pending"
    event = f"; last event: {known.event}" if known.event else ""
    return TecsError(f"{name} has no running task ({counts}){event}", "`tecs status` shows why.")


def _id(row: Mapping[str, Any]) -> str:
    return str(row["taskArn"]).rpartition("/")[2]


def _shown(rows: Sequence[Mapping[str, Any]]) -> str:
    told = [f"{short(_id(r))} {r['lastStatus']} {r.get('healthStatus', '')}".strip() for r in rows[:10]]
    return ", ".join(told) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")


def _agent(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((a for a in row.get("managedAgents", ()) if a.get("name") == "ExecuteCommandAgent"), {})


def _obstacle(row: Mapping[str, Any], name: str) -> bool:
    agents = [_agent(c).get("lastStatus") for c in row.get("containers", ()) if c["name"] == name]
    return not row.get("enableExecuteCommand") or agents != ["RUNNING"]


def _unreached(message: str, service: Service) -> TecsError:
    return TecsError(
        message,
        f"It needs ssmmessages in the role {service.role}-role and a way out of the subnet: `tecs plan` compares both. "
        f"`tecs deploy {service.name}` starts tasks anew.",
    )


# -- sessions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """A session that AWS has opened and nobody has taken up yet. `response` holds its token: never show it."""

    response: Mapping[str, str] = field(repr=False)
    parameters: Mapping[str, Any]
    region: str
    endpoint: str
    task: str
    container: str


def open_shell(aws: Aws, project: str, service: Service, command: str, *, task: str = "", name: str = "") -> Session:
    """Have `command` run in a container of a task, by ECS Exec; TecsError when it can't be reached."""
    row, found = _chosen(aws, project, service, task, name)
    cluster = f"{project}-cluster"
    with _connecting(row, service):
        opened = aws.ecs.execute_command(
            cluster=cluster, task=row["taskArn"], container=found["name"], command=command, interactive=True
        )
    return _session(aws, row, found, opened["session"], {"Target": _target(cluster, row, found)})


def open_port(aws: Aws, project: str, service: Service, *, local: int, task: str = "") -> Session:
    """Have the service's port forwarded to `local` of this machine, through the agent of a task's container."""
    row, found = _chosen(aws, project, service, task, "")
    parameters = {
        "Target": _target(f"{project}-cluster", row, found),
        "DocumentName": "AWS-StartPortForwardingSession",
        "Parameters": {"portNumber": [str(port_of(service))], "localPortNumber": [str(local)]},
    }
    with _connecting(row, service):
        opened = aws.ssm.start_session(**parameters)
    response = {key: opened[key] for key in ("SessionId", "TokenValue", "StreamUrl")}
    return _session(aws, row, found, response, parameters)


def port_of(service: Service) -> int:
    """The port that people and clients of the service use."""
    port = service.http or service.grpc
    assert port is not None
    return port


def _chosen(aws: Aws, project: str, service: Service, task: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    row = pick_task(aws, project, service, task)
    return row, reachable(row, service, name or container(service.name)[1])


def _target(cluster: str, row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return f"ecs:{cluster}_{_id(row)}_{found['runtimeId']}"


def _session(
    aws: Aws, row: Mapping[str, Any], found: Mapping[str, Any], response: Mapping[str, str], parameters: dict[str, Any]
) -> Session:
    # The plugin resumes and ends sessions itself, always at SSM: "args[6] is endpoint for ssm service"
    # (session.go). The AWS CLI hands it that of ECS for ECS Exec, and a session cut by the network stays lost.
    endpoint = str(aws.ssm.meta.endpoint_url)
    return Session(response, parameters, aws.region, endpoint, _id(row), str(found["name"]))


@contextmanager
def _connecting(row: Mapping[str, Any], service: Service) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if code(error) not in UNREACHED:
            raise
        raise _unreached(f"the exec agent of task {short(_id(row))} has lost its connection to SSM", service) from None


# -- the plugin ----------------------------------------------------------------------------------------------


class Plugin(NamedTuple):
    """The session-manager-plugin of this machine. `private`: it takes the token where other users can't see it."""

    path: str
    version: str
    private: bool


def find_plugin() -> Plugin:
    """The plugin on PATH; TecsError with how to install it."""
    path = shutil.which(PLUGIN)
    if path is None:
        raise TecsError(f"the AWS {PLUGIN} is not installed, and sessions go through it; nothing was called", INSTALL)
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        raise TecsError(f"{path} does not run; nothing was called", f"Install it anew. {INSTALL}") from None
    # A process list shows arguments, but not another user's environment. Plugins above 1.2.497.0 take the name of
    # a variable in place of the session; `--version` tells, and the AWS CLI decides by the same comparison. What
    # tells no version is treated as old: an old plugin would take the variable's name for a broken session.
    version = done.stdout.strip()
    told = re.fullmatch(r"\d+(\.\d+){0,3}", version)
    parts = [int(part) for part in version.split(".")] if told else []
    return Plugin(path, version, tuple(parts + [0] * (4 - len(parts))) > TAKES_NO_VARIABLE)


def run(plugin: Plugin, session: Session, *, profile: str = "", heard: Callable[[str], None] | None = None) -> int:
    """Hand the terminal to the plugin until the session ends; its exit status.

    With `heard` its output goes there, line by line, in place of stdout. Keys that send signals are the session's;
    SIGTERM ends the plugin too.
    """
    response, environment = json.dumps(dict(session.response)), dict(os.environ)
    if plugin.private:
        environment[RESPONSE], response = response, RESPONSE
    words = [plugin.path, response, session.region, "StartSession", profile]
    words += [json.dumps(session.parameters), session.endpoint]
    try:
        with (
            _keys_are_the_sessions(),
            subprocess.Popen(  # noqa: S603
                words, env=environment, stdout=None if heard is None else subprocess.PIPE, text=True
            ) as child,
        ):
            try:
                for line in child.stdout or ():
                    if heard is not None:
                        heard(line.rstrip("\n"))
                status = child.wait()
            except BaseException:
                child.terminate()
                raise
    except OSError as error:
        raise TecsError(f"{plugin.path} does not start: {error.strerror}", INSTALL) from None
    return status if status >= 0 else 128 - status


@contextmanager
def _keys_are_the_sessions() -> Iterator[None]:
    """Handlers that do nothing, not SIG_IGN: that the plugin would inherit."""
    names = ("SIGINT", "SIGQUIT", "SIGTSTP")
    before = {getattr(signal, name): signal.SIG_DFL for name in names if hasattr(signal, name)}
    for number in before:
        before[number] = signal.signal(number, lambda *_: None)  # type: ignore[assignment]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_free(port: int) -> None:
    """TecsError unless something can listen on that port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise TecsError(f"this user may not listen on port {port}; nothing was called", "Choose --port.") from None
        except OSError:
            raise TecsError(
                f"local port {port} is in use, by which process can't be told from here; nothing was called",
                "Choose another with --port.",
            ) from None


# -- logs ----------------------------------------------------------------------------------------------------


class LogLine(NamedTuple):
    """One event: `at` is its own time, in seconds since 1970."""

    at: float
    task: str
    message: str
    id: str


class Log:
    """What the tasks of a service wrote, from the one whose id begins with `task`, or from all.

    `grep` is literal text. `now` tells seconds since 1970.
    """

    def __init__(
        self, aws: Aws, project: str, name: str, *, task: str = "", grep: str = "", now: Callable[[], float] = time.time
    ) -> None:
        title, container_name = container(name)
        self.group = f"/ecs/{project}/{title}"
        self.now = now
        self._aws, self._grep = aws, grep
        self._streams = f"{title}/{container_name}/{task}"

    def pages(self, since: float) -> Iterator[list[LogLine]]:
        """Events since then, oldest first within a page. TecsError when there is no such log group."""
        return (lines for lines, _ in self._look(since))

    def follow(self, since: float, *, poll: float = 2.0, note: Callable[[str], None]) -> Iterator[LogLine]:
        """Every event since then, once, for ever; `note` hears of failures that pass by themselves.

        A look begins LATE before the last one did, so that it sees what was not shown yet, and tells what was
        shown already by its id. The time is that of CloudWatch Logs: this machine's clock may be wrong.
        """
        start, troubled = since, False
        seen: dict[str, float] = {}
        while True:
            began = 0.0
            try:
                for lines, at in self._look(start):
                    began = began or at
                    for line in lines:
                        if line.id not in seen:
                            seen[line.id] = line.at
                            yield line
            except Exception as error:
                if not self._aws.transient(error):
                    raise
                if not troubled:
                    note("CloudWatch Logs does not answer; trying again, nothing will be missing")
                troubled = True
            else:
                troubled = False
                start = max(start, began - LATE)
                seen = {id_: at for id_, at in seen.items() if round(at * 1000) >= floor(start * 1000)}
            self._aws.clock.sleep(poll)

    def _look(self, since: float) -> Iterator[tuple[list[LogLine], float]]:
        """Pages, each with the time at which it was answered."""
        asked: dict[str, Any] = {
            "logGroupName": self.group,
            "logStreamNamePrefix": self._streams,
            "startTime": max(0, floor(since * 1000)),
        }
        if pattern := filter_pattern(self._grep):
            asked["filterPattern"] = pattern
        try:
            for page in self._aws.logs.get_paginator("filter_log_events").paginate(**asked):
                lines = [_line(row) for row in page["events"] if self._meant(row)]
                yield sorted(lines, key=lambda line: line.at), self._answered(page)
        except Exception as error:
            if code(error) != "ResourceNotFoundException":
                raise
            raise TecsError(f"there is no log group {self.group}", "`tecs provision logs` makes it.") from None

    def _meant(self, row: Mapping[str, Any]) -> bool:
        return str(row["logStreamName"]).startswith(self._streams) and self._grep in row["message"]

    def _answered(self, page: Mapping[str, Any]) -> float:
        """AWS's time, in whole seconds, never later than it was."""
        date = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        return parsedate_to_datetime(date).timestamp() if date else self.now()


def filter_pattern(text: str) -> str:
    """A CloudWatch Logs filter for literal text, that lets through at least what contains it; "" for no filter.

    How to write a quotation mark within a phrase is not documented. So AWS looks for the longest stretch without
    one (or a backslash, or spaces at its ends), and Log looks for the whole.
    """
    longest = max((part.strip() for part in re.split(r'["\\\r\n\t]', text)), key=len)
    return f'"{longest[:LONGEST].strip()}"' if longest else ""


def _line(row: Mapping[str, Any]) -> LogLine:
    task = str(row["logStreamName"]).rpartition("/")[2]
    return LogLine(row["timestamp"] / 1000, task, str(row["message"]).rstrip("\r\n"), str(row["eventId"]))
