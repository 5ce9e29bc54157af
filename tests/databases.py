"""What the tests of the DSQL side share: one stand-in, a cluster of it for each test, and ways to reach it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloud import KEYS, PROJECT, REGION
from temporal_ecs.aws import Aws
from temporal_ecs.clock import Clock
from temporal_ecs.dsql import schema
from temporal_ecs.dsql.connect import Target
from temporal_ecs.dsql.database import Cursor, Database
from temporal_ecs.pace import Bucket
from temporal_ecs.sandbox.dsql import Limits, StandIn

SHARDS = 4096
POLL = 0.01

_numbers = itertools.count(1)


class Shifted:
    """The stand-in's clock: real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Leaping(Clock):
    """Our clock: sleeping takes no time, but both we and the stand-in are that much later."""

    def __init__(self, shifted: Shifted) -> None:
        self._shifted, self.slept = shifted, 0.0

    def now(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self._shifted.ahead += seconds


class Killed(BaseException):
    """What happens to a run that is killed: no `except Exception` sees it."""


class Place:
    """An empty cluster of the stand-in, and our way to it."""

    def __init__(self, standin: StandIn, clock: Shifted) -> None:
        self.standin, self.faults, self.clock = standin, standin.faults, clock
        self.host = standin.host(f"test{next(_numbers):04d}")
        self.aws = Aws(PROJECT, REGION, credentials=KEYS)
        self.said: list[str] = []
        self.tokens: list[str] = []
        self._open: list[Database] = []

    def target(self, **fields: Any) -> Target:
        usual = {"address": self.standin.hostaddr, "port": self.standin.port, "roots": str(self.standin.ca_file)}
        resource = "arn:aws:dsql:eu-west-1:123456789012:cluster/test"
        return Target(**({"host": self.host, "resource": resource} | usual | fields))

    def token(self) -> str:
        """A good one for admin."""
        self.tokens.append(self.aws.dsql_token(self.host, admin=True))
        return self.tokens[-1]

    def database(self, *, token: Callable[[], str] | None = None, **options: Any) -> Database:
        """A way in; closed at the end of the test. `options` are Database's, and Target's in `target`."""
        target = self.target(**options.pop("target", {}))
        options = {"pace": Bucket(burst=1e9, rate=1e9), "note": self.said.append} | options
        made = Database(target, token or self.token, **options)
        self._open.append(made)
        return made

    def mortal(self, **options: Any) -> Database:
        """One whose process dies as soon as its connection is lost."""
        alive = iter([self.token])

        def token() -> str:
            for make in alive:
                return make()
            raise Killed

        return self.database(token=token, **options)

    def leaping(self) -> Leaping:
        return Leaping(self.clock)

    def ready(self) -> Database:
        """A database with Temporal's schema."""
        database = self.database()
        schema.setup(database, shards=SHARDS, poll=POLL)
        return database

    def ran(self, *beginnings: str) -> list[str]:
        """Statements that the stand-in executed, or those that begin so."""
        return [s.text for s in self.standin.statements if not beginnings or s.text.lstrip().startswith(beginnings)]

    def close(self) -> None:
        self.faults.clear()
        for database in self._open:
            database.close()
        self.clock.ahead = 0.0


@pytest.fixture(scope="session")
def standin_clock() -> Shifted:
    return Shifted()


@pytest.fixture(scope="session")
def standin(standin_clock: Shifted) -> Iterator[StandIn]:
    """One to a process; an index takes 20 ms."""
    with StandIn(clock=standin_clock, limits=Limits(index_seconds=0.02)) as running:
        yield running


@pytest.fixture
def place(standin: StandIn, standin_clock: Shifted) -> Iterator[Place]:
    standin.faults.clear()
    standin.statements.clear()
    standin.connections.clear()
    made = Place(standin, standin_clock)
    yield made
    made.close()


def run(database: Database, sql: str, *parameters: Any) -> int:
    """Run one statement in a transaction; how many rows it was about."""

    def work(cursor: Cursor) -> int:
        return cursor.execute(sql.encode(), parameters or None).rowcount

    return database.run(work)
