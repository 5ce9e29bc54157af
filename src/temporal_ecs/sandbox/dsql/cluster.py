"""One DSQL cluster: a database of its own, its limits, its jobs, and what its sessions share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from temporal_ecs.sandbox.dsql.backend import Backend
from temporal_ecs.sandbox.dsql.faults import Faults
from temporal_ecs.sandbox.dsql.jobs import Jobs
from temporal_ecs.sandbox.dsql.postgres import Postgres
from temporal_ecs.sandbox.dsql.transaction import Arbiter
from temporal_ecs.sandbox.dsql.wire import SqlError


@dataclass(frozen=True)
class Limits:
    """DSQL's limits, all seconds on the stand-in's clock; and how long an asynchronous index takes."""

    connections_per_second: float = 100
    connection_burst: float = 1000
    open_connections: int = 10_000
    session_seconds: float = 3600
    transaction_seconds: float = 300
    rows: int = 3000
    size: int = 10 * 2**20
    index_seconds: float = 1.0


class Bucket:
    """`burst` at once, then `rate` a second; what isn't there is refused."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float]) -> None:
        self._rate, self._burst, self._now = rate, burst, now
        self._left, self._at = burst, now()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there was one."""
        with self._lock:
            now = self._now()
            self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class Cluster:
    """A cluster that somebody has connected to. Its database is made from the template at that moment."""

    def __init__(
        self, postgres: Postgres, name: str, database: str, limits: Limits, faults: Faults, now: Callable[[], float]
    ) -> None:
        self._postgres, self.name, self._database = postgres, name, database
        self.limits, self.faults, self.now = limits, faults, now
        self.arbiter = Arbiter()
        self.catalog = 0
        self._bucket = Bucket(limits.connections_per_second, limits.connection_burst, now)
        self._open = 0
        self._lock = threading.Lock()
        maker = postgres.connect("postgres", "postgres")
        maker.run(f'CREATE DATABASE "{database}" OWNER admin')
        maker.close()
        self._keeper = postgres.connect("postgres", database)
        self.jobs = Jobs(self._keeper, now, limits.index_seconds, faults)

    def admit(self) -> None:
        """Count a new connection, or raise the limit that is in its way."""
        if self.faults.waking:
            raise SqlError("08006", "unable to accept connection, waking up cluster, please retry later", fatal=True)
        if self.faults.take("rate_exceeded") or not self._bucket.take():
            raise SqlError("53400", "Unable to accept connection, rate exceeded.", fatal=True)
        with self._lock:
            if self.faults.take("too_many") or self._open >= self.limits.open_connections:
                raise SqlError("53300", "Unable to accept connection, too many open connections.", fatal=True)
            self._open += 1

    def left(self) -> None:
        """A connection that was admitted is gone."""
        with self._lock:
            self._open -= 1

    def maps(self, user: str) -> bool:
        """Whether a database role may be used: admin, or one that AWS IAM GRANT gave to somebody."""
        if user == "admin":
            return True
        quoted = user.replace("'", "''")
        with self.arbiter.mutex:
            return bool(self._keeper.run(f"SELECT 1 FROM standin.mappings WHERE pg_role_name = '{quoted}'"))

    def connect(self, user: str, parameters: dict[str, str]) -> Backend:
        """A session on its database."""
        return self._postgres.connect(user, self._database, **parameters)

    def schema_changed(self) -> int:
        """DDL was committed: every older session's catalog is stale. The new version."""
        with self.arbiter.mutex:
            self.catalog += 1
            return self.catalog

    def catch_up(self) -> None:
        """Let asynchronous jobs do what has fallen due; what is locked right now waits for the next time."""
        if self.jobs.overdue:
            with self.arbiter.mutex, contextlib.suppress(SqlError):
                self.jobs.catch_up()

    def close(self) -> None:
        """Let go of its database."""
        self._keeper.close()

    def drop(self) -> None:
        """Forget it and its database; whoever is connected is thrown out."""
        self.close()
        maker = self._postgres.connect("postgres", "postgres")
        maker.run(f'DROP DATABASE "{self._database}" WITH (FORCE)')
        maker.close()
