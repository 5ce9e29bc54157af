"""All that exists in the sandbox, and the terms in which its operations are written.

There is one world to a process, because moto keeps its backends in module variables. What moto models well stays
in moto's backends; what it doesn't is kept in state classes of our own, one instance for each region.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from moto.core.base_backend import BackendDict
from moto.core.request import Request as HttpRequest
from moto.moto_api._internal import mock_random

from temporal_ecs.sandbox.clock import Clock

S = TypeVar("S")


class Fault(Exception):  # noqa: N818  # it is AWS's answer, not an error of ours
    """What AWS answers when it refuses: its error code, its message, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class World:
    """The account, its clock, and the state classes of each region.

    `processes` makes what runs in a task's container.
    """

    def __init__(self) -> None:
        self.account = "123456789012"
        self.clock = Clock()
        self.lock = threading.RLock()
        self._states: dict[tuple[type, str], Any] = {}
        self.processes: Callable[[Any], Any] = idle

    def state(self, kind: type[S], region: str) -> S:
        """The one instance of a state class in a region, made on first use."""
        key = (kind, region)
        if key not in self._states:
            self._states[key] = kind()
        state: S = self._states[key]
        return state

    def reset(self) -> None:
        """Empty the account."""
        with self.lock:
            BackendDict.reset()
            self._states.clear()
            self.clock.clear()


def idle(_: Any) -> Any:
    """A process that does nothing until it is stopped."""
    from temporal_ecs.sandbox.aws.ecs.tasks import Idle

    return Idle()


WORLD = World()


def _new_lock() -> None:
    WORLD.lock = threading.RLock()


# A child forked from inside a hook inherits the lock taken, by a thread that doesn't exist there.
os.register_at_fork(after_in_child=_new_lock)

_RESPONSES = {
    "ec2": "moto.ec2.responses.EC2Response",
    "iam": "moto.iam.responses.IamResponse",
    "secretsmanager": "moto.secretsmanager.responses.SecretsManagerResponse",
    "logs": "moto.logs.responses.LogsResponse",
    "ssm": "moto.ssm.responses.SimpleSystemManagerResponse",
}


def response_class(service: str) -> Any:
    """moto's response class of a service that our operations build on, or None."""
    if service not in _RESPONSES:
        return None
    module, _, name = _RESPONSES[service].rpartition(".")
    return getattr(importlib.import_module(module), name)


@dataclass
class Request:
    """One AWS request, parsed and checked."""

    service: str
    operation: str
    params: dict[str, Any]
    region: str
    http: HttpRequest = field(repr=False)
    world: World = field(default=WORLD, repr=False)

    def moto(self, **changes: Any) -> Any:
        """What moto does and answers for this request, some parameters changed. Raises moto's exceptions."""
        response = response_class(self.service)()
        response.setup_class(self.http)
        response.automated_parameter_parsing = True
        response.params = {**self.params, **changes}
        method = "".join(f"_{c.lower()}" if c.isupper() else c for c in self.operation).removeprefix("_")
        answer = getattr(response, method)()
        if isinstance(answer, str):  # some of moto's JSON services write their answers themselves
            return json.loads(answer or "{}")
        return getattr(answer, "result", answer)

    def state(self, kind: type[S]) -> S:
        """Our own state of this request's region."""
        return self.world.state(kind, self.region)

    @property
    def account(self) -> str:
        """The account's number."""
        return self.world.account

    def arn(self, service: str, resource: str, region: str | None = None) -> str:
        """An ARN in this request's region and account."""
        return f"arn:aws:{service}:{self.region if region is None else region}:{self.account}:{resource}"

    def backend(self, service: str) -> Any:
        """moto's backend of a service in this request's account and region."""
        from moto.backends import get_backend

        return get_backend(service)[self.account]["aws" if service in ("iam", "sts") else self.region]

    def after(self, delay: str, action: Callable[[], None]) -> None:
        """Let AWS do something later."""
        self.world.clock.after(delay, action)


Handler = Callable[[Request], Any]
OPERATIONS: dict[tuple[str, str], Handler] = {}
"""The operations that the sandbox answers itself; everything else is moto's."""


OWN_SERVICES = {"ecs", "autoscaling", "opensearch", "servicediscovery", "dsql", "amp"}
"""Services that are ours altogether: what isn't in OPERATIONS is a gap, never moto's empty account."""


def operation(service: str, *names: str) -> Callable[[Handler], Handler]:
    """Register a handler. It answers with the output members by their AWS names, or raises Fault."""

    def register(handler: Handler) -> Handler:
        for name in names:
            OPERATIONS[service, name] = handler
        return handler

    return register


def moment() -> datetime:
    """Now, for AWS's time stamps."""
    return datetime.now(UTC)


def hex_id(length: int = 17) -> str:
    """A random id in AWS's style, from moto's generator, so that its seed covers ours."""
    return str(mock_random.get_random_hex(length))


def uuid() -> str:
    """A random UUID from moto's generator."""
    return str(mock_random.uuid4())


def tag_list(tags: dict[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """Tags as AWS's list of pairs."""
    return [{key: name, value: text} for name, text in tags.items()]


def tag_dict(pairs: Any) -> dict[str, str]:
    """Tags from AWS's list of pairs, in either spelling."""
    return {p.get("Key", p.get("key")): p.get("Value", p.get("value", "")) for p in pairs or ()}


def page(items: list[Any], params: dict[str, Any], size: str, token: str, default: int) -> tuple[list[Any], str | None]:
    """One page of a listing and the token for the next; tokens are offsets."""
    start = int(params.get(token) or 0)
    end = start + int(params.get(size) or default)
    return items[start:end], str(end) if end < len(items) else None
