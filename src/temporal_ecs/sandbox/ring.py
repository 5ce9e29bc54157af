"""Temporal servers as their database and their peers see them: rows, joining, heartbeats, crashes.

A member does what temporal's ringpop monitor does (common/membership/ringpop/monitor.go): it checks the schema's
version, prunes expired rows, writes its own row before it reads its peers', takes as seeds only rows younger than 20 s,
tries five times, forms a ring of its own when it sees nobody else, exits when it cannot join, and leaves its row
behind. Its times are real, whatever the speed of the sandbox's clock.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from temporal_ecs.sandbox.aws.ecs.tasks import Idle, Process, Task
from temporal_ecs.sandbox.dsql import StandIn
from temporal_ecs.sandbox.dsql.standin import KEYS
from temporal_ecs.sandbox.dsql.tokens import presigned

ROLES = {"frontend": 1, "history": 2, "matching": 3, "worker": 4}
PORTS = {"frontend": 6933, "history": 6934, "matching": 6935, "worker": 6939}
SCHEMA = "1.1"
EXPIRY = timedelta(hours=48)

VERSION = "SELECT curr_version FROM schema_version WHERE version_partition = 0 AND db_name = 'postgres'"
PRUNE = "DELETE FROM cluster_membership WHERE membership_partition = 0 AND record_expiry < %s"
UPSERT = """
INSERT INTO cluster_membership (membership_partition, host_id, rpc_address, rpc_port, role, session_start,
                                last_heartbeat, record_expiry)
VALUES (0, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (membership_partition, host_id) DO UPDATE
SET last_heartbeat = excluded.last_heartbeat, record_expiry = excluded.record_expiry
"""
SEEDS = """
SELECT rpc_address, rpc_port FROM cluster_membership
WHERE membership_partition = 0 AND last_heartbeat > %s AND record_expiry > %s
"""
METADATA = """
INSERT INTO cluster_metadata_info (metadata_partition, cluster_name, data, data_encoding, version)
VALUES (0, 'active', %s, 'Proto3', 1) ON CONFLICT (metadata_partition, cluster_name) DO NOTHING
"""


@dataclass(frozen=True)
class Times:
    """Seconds, as in Temporal; tests take shorter ones."""

    heartbeat: tuple[float, float] = (10.0, 15.0)
    fresh: float = 20.0
    pause: float = 10.0  # between attempts to join
    attempts: int = 5


class Gossip:
    """Which members listen, and the rings that they have formed. `sick`: nobody can join anybody (see `Member`)."""

    def __init__(self, times: Times | None = None, now: Callable[[], float] = time.time) -> None:
        self.times, self.now = times or Times(), now
        self.lock = threading.Lock()
        self.sick = False
        self.stuck: set[str] = set()  # services whose new members never become healthy
        self._started: set[Member] = set()
        self._emptied = 0.0  # when the last one left
        self._members: dict[str, Member] = {}
        self._ring: dict[str, int] = {}
        self._rings = 0

    def started(self, member: Member) -> None:
        """It runs, and will listen before long. The first after a full stop finds no row that is still fresh."""
        with self.lock:
            if not self._started and self.now() - self._emptied > self.times.fresh:
                self.sick = False
            self._started.add(member)

    def listen(self, member: Member) -> None:
        """It can be dialled from now on."""
        with self.lock:
            self._members[member.address] = member

    def leave(self, member: Member) -> None:
        """It is gone."""
        with self.lock:
            if member in self._started:
                self._started.discard(member)
                self._emptied = self.now()
            if self._members.get(member.address) is member:
                del self._members[member.address]
                self._ring.pop(member.address, None)

    def join(self, member: Member, seeds: set[str]) -> bool:
        """Whether it has joined one of the seeds, or, seeing none, formed a ring alone. Rings that meet are one."""
        with self.lock:
            if not seeds:
                self.sick = False
                self._rings += 1
                self._ring[member.address] = self._rings
                return True
            met = {self._ring[seed] for seed in seeds if seed in self._ring}
            bare = [seed for seed in seeds if seed in self._members and seed not in self._ring]
            if self.sick or not (met or bare):
                return False
            if not met:
                self._rings += 1
                met = {self._rings}
            ring = min(met)
            for address, other in list(self._ring.items()):
                if other in met:
                    self._ring[address] = ring
            for address in (member.address, *bare):
                self._ring[address] = ring
            return True

    def split(self) -> None:
        """Part every ring in two that no longer know of each other."""
        with self.lock:
            self._rings += 1
            for number, address in enumerate(sorted(self._ring)):
                if number % 2:
                    self._ring[address] = self._rings

    def crash(self) -> None:
        """Kill every member, and let nobody join for as long as the table shows anybody else."""
        with self.lock:
            self.sick = True
            members = list(self._members.values())
        for member in members:
            member.kill()

    def stop(self) -> None:
        """Stop every member, wait for it, and forget what went wrong."""
        with self.lock:
            members, self.sick, self.stuck = list(self._started), False, set()
        for member in members:
            member.stop()
        for member in members:
            member.join()

    def rings(self) -> list[set[Member]]:
        """The rings, the largest first."""
        with self.lock:
            found: dict[int, set[Member]] = {}
            for address, ring in self._ring.items():
                if address in self._members:
                    found.setdefault(ring, set()).add(self._members[address])
        return sorted(found.values(), key=len, reverse=True)


class Member:
    """One server process in its container, with a thread of its own."""

    def __init__(self, gossip: Gossip, standin: StandIn, service: str, ip: str, variables: Mapping[str, str]) -> None:
        self.gossip, self.service = gossip, service
        self.address = f"{ip}:{PORTS[service]}"
        self.exit_code: int | None = None
        self.healthy = False
        self.lines: list[str] = []
        self._standin, self._ip, self._variables = standin, ip, variables
        self._id, self._killed = uuid4(), threading.Event()
        self._started = self._at()
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = threading.Thread(target=self._run, name=f"{service} {ip}", daemon=True)

    def start(self) -> None:
        self.gossip.started(self)
        self._thread.start()

    def join(self) -> None:
        """Wait until its thread has ended, if it has one and it is not this one."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(10)

    def stop(self) -> None:
        """SIGTERM: it leaves the ring; nobody deletes its row."""
        self._killed.set()

    def kill(self) -> None:
        """It crashes."""
        self._end(2, "panic: ringpop: no peers")

    def _run(self) -> None:
        try:
            self._check_schema()
            self._ask(PRUNE, self._at())
            self._ask(METADATA, self._metadata())
            self._beat()
            self.gossip.listen(self)
            if self._joined():
                self.healthy = self.service not in self.gossip.stuck
                self._say("info", "Started service")
                self._live()
        except psycopg.Error as error:
            self._end(1, f"unable to initialize persistence: {' '.join(str(error).split())[:200]}")
        except _FatalError as fatal:
            self._end(1, str(fatal))
        finally:
            self.gossip.leave(self)
            if self._connection:
                self._connection.close()

    def _live(self) -> None:
        """Write heartbeats until the end; one that fails is logged, and the next comes on a new connection."""
        while not self._killed.wait(random.uniform(*self.gossip.times.heartbeat)):
            try:
                self._beat()
            except psycopg.Error as error:
                self._say("error", f"membership upsert failed: {' '.join(str(error).split())[:200]}")
        self._end(0, "Received interrupt signal, stopping the server.")

    def _ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connected()
        cursor = self._connection.execute(sql.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def _connected(self) -> psycopg.Connection[Any]:
        host = self._variables["TEMPORAL_SQL_HOST"]
        region = host.split(".")[-3]
        last: psycopg.Error | None = None
        for _ in range(3):
            token = presigned(host, region=region, user="admin", keys=KEYS, now=self._standin.clock())
            try:
                return psycopg.connect(
                    host=host, hostaddr=self._standin.hostaddr, port=self._standin.port, user="admin", password=token,
                    dbname="postgres", sslmode="verify-full", sslrootcert=str(self._standin.ca_file), autocommit=True,
                    connect_timeout=10, application_name=f"temporal-{self.service}", prepare_threshold=None,
                )  # fmt: skip
            except psycopg.OperationalError as error:
                last = psycopg.OperationalError(str(error).replace(token, "(token)"))
                if self._killed.wait(min(1.0, self.gossip.times.pause)):
                    break
        assert last is not None
        raise last

    def _check_schema(self) -> None:
        try:
            rows = self._ask(VERSION)
        except psycopg.errors.UndefinedTable:
            rows = []
        found = rows[0][0] if rows else "none"
        if not rows or tuple(map(int, found.split("."))) < tuple(map(int, SCHEMA.split("."))):
            raise _FatalError(
                f"sql schema version compatibility check failed: version mismatch, expected {SCHEMA}, is {found}"
            )

    def _metadata(self) -> bytes:
        """ClusterMetadata with the name (1), the number of history shards (2) and the cluster's id (3)."""
        shards, id_ = int(self._variables.get("TEMPORAL_HISTORY_SHARDS", "4")), str(uuid4()).encode()
        return b"\x0a\x06active\x10" + _varint(shards) + b"\x1a" + _varint(len(id_)) + id_

    def _joined(self) -> bool:
        times = self.gossip.times
        for attempt in range(1, times.attempts + 1):
            since = self._at() - timedelta(seconds=times.fresh)
            seeds = {f"{ip}:{port}" for ip, port in self._ask(SEEDS, since, self._at())} - {self.address}
            self._say("info", f"bootstrap hosts fetched: {len(seeds) + 1}")
            if self.gossip.join(self, seeds):
                return True
            self._say("warn", f"unable to bootstrap ringpop. retrying, attempt {attempt}")
            if self._killed.wait(times.pause):
                return False
            self._beat()
        raise _FatalError("exhausted all retries: join duration exceeded, no peers could be reached")

    def _beat(self) -> None:
        now = self._at()
        role = ROLES[self.service]
        self._ask(UPSERT, self._id, self._ip, PORTS[self.service], role, self._started, now, now + EXPIRY)

    def _at(self) -> datetime:
        return datetime.fromtimestamp(self.gossip.now(), UTC).replace(tzinfo=None)

    def _say(self, level: str, text: str) -> None:
        self.lines.append(f'{{"level":"{level}","service":"{self.service}","msg":"{text}"}}')

    def _end(self, code: int, why: str) -> None:
        if self.exit_code is None:
            self._say("info" if code == 0 else "fatal", why)
            self.healthy, self.exit_code = False, code
        self._killed.set()
        self.gossip.leave(self)


class _FatalError(Exception):
    """The server gives up."""


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def processes(gossip: Gossip, standin: StandIn) -> Callable[[Task], Process]:
    """Makes what runs in a task's container: a member for the four services of Temporal, else something that waits."""

    def make(task: Task) -> Process:
        container = task.definition["containerDefinitions"][0]
        variables = {pair["name"]: pair["value"] for pair in container.get("environment", ())}
        service = variables.get("SERVICES", "")
        if service not in ROLES or "TEMPORAL_SQL_HOST" not in variables:
            return Idle()
        return Member(gossip, standin, service, task.address, variables)

    return make


def age(standin: StandIn, host: str, rows: int, hours: float = 1.0) -> None:
    """Write rows as members that died some hours ago left them."""
    token = presigned(host, region=host.split(".")[-3], user="admin", keys=KEYS, now=standin.clock())
    then = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=hours)
    with psycopg.connect(
        host=host, hostaddr=standin.hostaddr, port=standin.port, user="admin", password=token, dbname="postgres",
        sslmode="verify-full", sslrootcert=str(standin.ca_file), autocommit=True, prepare_threshold=None,
    ) as connection, suppress(psycopg.errors.UniqueViolation):  # fmt: skip
        for number in range(rows):
            service = list(ROLES)[number % len(ROLES)]
            ip = f"10.0.{10 + number % 2}.{number % 250 + 1}"
            values = (uuid4(), ip, PORTS[service], ROLES[service], then, then, then + EXPIRY)
            connection.execute(UPSERT, values)
