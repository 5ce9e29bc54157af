"""What the tests of the stack share: the sandbox, plain boto3 clients, and one project in it."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config as ClientConfig

from temporal_ecs import config
from temporal_ecs.aws import Aws
from temporal_ecs.engine import Change, Engine, Event, Result
from temporal_ecs.resource import Resource
from temporal_ecs.sandbox.server import Server
from temporal_ecs.stack import Stack, load
from temporal_ecs.state import State

PROJECT, REGION, ACCOUNT = "temporal-dev", "eu-west-1", "123456789012"
KEYS = {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}

STACK = load(config.load(None))
"""The stack of a configuration without a single setting."""

KINDS = sorted({type(item).__name__ for item in STACK.values()})
POLL = 0.01


@functools.cache
def client(endpoint: str, service: str, region: str = REGION) -> Any:
    """A boto3 client that knows nothing of tecs and never tries twice."""
    settings = ClientConfig(retries={"total_max_attempts": 1, "mode": "standard"}, inject_host_prefix=False)
    return _session().client(service, region_name=region, endpoint_url=endpoint, config=settings)


@functools.cache
def _session() -> boto3.Session:
    return boto3.Session(**KEYS)


class Project:
    """One project: its settings, its state file, its AWS, and an engine for each command.

    `settings` is the text of a tecs.toml. `events` keeps what the engines reported.
    """

    def __init__(self, endpoint: str, folder: Path, settings: str = "") -> None:
        self.endpoint, self.folder = endpoint, folder
        file = folder / "tecs.toml"
        file.write_text(settings)
        self.config = config.load(file)
        self.stack = load(self.config)
        self.api_log = folder / "api.jsonl"
        self.aws = Aws(
            self.config.project,
            self.config.region,
            endpoint=endpoint,
            credentials=KEYS,
            loopback_only=True,
            api_log=self.api_log,
        )
        self.events: list[Event] = []
        self.open_state()

    def open_state(self) -> None:
        """Read the state file, as the next run of tecs would."""
        path = self.folder / "state.json"
        self.state = State(path, project=self.config.project, account=ACCOUNT, region=self.config.region)

    def engine(self, stack: Stack | None = None, **options: Any) -> Engine:
        return Engine(stack or self.stack, self.state, self.aws, emit=self.events.append, poll=POLL, **options)

    def client(self, service: str) -> Any:
        return client(self.endpoint, service, self.config.region)

    def plan(self, *names: str, stack: Stack | None = None) -> dict[str, Change]:
        """What would change, by name; nothing that stays the same."""
        changes = self.engine(stack).plan(names or None)
        return {change.resource: change for change in changes if change.action != "same"}

    def provision(self, *names: str, stack: Stack | None = None, adopt: Iterable[str] = ()) -> Result:
        """Provision; an error of any resource is raised."""
        return _succeeded(self.engine(stack, adopt=tuple(adopt)).provision(names or None))

    def teardown(self, *names: str, with_data: bool = False) -> Result:
        return _succeeded(self.engine().teardown(names or None, with_data=with_data))

    def declaring(self, name: str, **fields: Any) -> Stack:
        """The stack with some fields of one resource declared otherwise."""
        other = replace(self.stack[name], **fields)
        return Stack(other if item.name == name else item for item in self.stack.values())

    def item(self, name: str) -> Resource:
        """The resource with the values that its references have now."""

        def value(ref: Any) -> Any:
            if ref.name == "aws":
                return self.aws.value(ref.output)
            record = self.state.get(ref.name)
            return record["id"] if ref.output == "id" else (record["outputs"] | record["spec"])[ref.output]

        return self.stack[name].resolve(value)

    def live(self, name: str) -> dict[str, Any]:
        """What find() says of a recorded resource, read afresh."""
        self.aws.look_afresh()
        found = self.item(name).find(self.aws, self.state.get(name)["id"])
        assert found is not None
        return found


def _succeeded(result: Result) -> Result:
    for error in result.errors.values():
        raise error
    assert result.ok
    return result


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    with Server(speed=math.inf) as server:
        yield server


@pytest.fixture(scope="module")
def sandbox(_server: Server) -> Iterator[Server]:
    """An empty account in which nothing takes time, one to a process: what exists is kept per process."""
    clear(_server)
    yield _server
    clear(_server)


def clear(server: Server) -> None:
    """Empty the account, and forget hooks and clocks that another module set."""
    server.reset()
    server.front.before = server.front.after = None
    server.clock.speed, server.clock.now = math.inf, time.monotonic


@pytest.fixture(scope="module")
def new_project(sandbox: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Makes a project without a state file: new_project(settings="")."""
    return lambda settings="": Project(sandbox.endpoint, tmp_path_factory.mktemp("project"), settings)


@pytest.fixture(scope="module")
def provisioned(new_project: Callable[..., Project]) -> Project:
    """The whole stack as it is by default, provisioned once for the module."""
    project = new_project()
    project.provision()
    return project
