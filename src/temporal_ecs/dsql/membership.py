"""Temporal's ring in the database: the rows of cluster_membership, a verdict on each, and the safe delete.

Every process upserts its row each 10 to 15 s; a starting one takes as seeds only rows younger than 20 s; a row
expires after 48 h, and nothing removes it when its process stops (temporal, common/membership/ringpop/monitor.go). A
stale row is therefore inert, and deleting one is hygiene; deleting a live one can leave a starting node alone in a
ring of its own. So rows go by their age on the database's clock, and only as they were seen.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from temporal_ecs.errors import ConfigError, TecsError
from temporal_ecs.ops.tasks import RingTask

from .database import ATTEMPTS, Cursor, Database, UnknownOutcomeError

FRESH = 20.0
"""Seconds: a starting node takes younger rows for live ones."""

MARGIN = 300.0
LEAST_MARGIN = 60.0
SILENCE = 60.0
"""Seconds on the database's clock: the default age of a stale row, the least that may be asked for, and how long
nobody may have written before a ring counts as stopped."""

BATCH = 500
"""Rows of one transaction; DSQL takes 3,000."""

PAGE = 10_000

ROLES = {1: "frontend", 2: "history", 3: "matching", 4: "worker", 5: "internal-frontend"}

Network = ipaddress.IPv4Network

CLOCK = "SELECT now() AT TIME ZONE 'UTC'"
MEMBERS = """
SELECT now() AT TIME ZONE 'UTC', host_id, rpc_address, rpc_port, role, session_start, last_heartbeat, record_expiry
FROM cluster_membership
WHERE membership_partition = 0 AND host_id > %s
ORDER BY host_id
LIMIT %s
"""
NEWEST = "SELECT now() AT TIME ZONE 'UTC', max(last_heartbeat) FROM cluster_membership WHERE membership_partition = 0"

# The heartbeat that was seen, and its age on the database's clock, are conditions of every row.
DELETE = """
DELETE FROM cluster_membership AS m
USING (VALUES {rows}) AS seen (host_id, last_heartbeat)
WHERE m.membership_partition = 0 AND m.host_id = seen.host_id
  AND m.last_heartbeat IS NOT DISTINCT FROM seen.last_heartbeat
  AND COALESCE(m.last_heartbeat < (now() AT TIME ZONE 'UTC') - CAST(%s AS INTERVAL), TRUE)
RETURNING m.host_id
"""
LEFT = "SELECT host_id FROM cluster_membership WHERE membership_partition = 0 AND host_id IN ({rows})"


@dataclass(frozen=True, slots=True)
class Member:
    """A row. Times are UTC, written by the host's clock; `age` is the heartbeat's on the database's clock, in seconds,
    None for a row without one."""

    host_id: UUID
    address: str
    port: int
    role: int
    session_start: datetime | None
    last_heartbeat: datetime | None
    record_expiry: datetime | None
    age: float | None
    expired: bool

    @property
    def service(self) -> str:
        return ROLES.get(self.role, f"role {self.role}")


@dataclass(frozen=True)
class Ring:
    """All rows as they were read. `skew` is how far this machine's clock is ahead of the database's, in seconds."""

    members: tuple[Member, ...]
    skew: float

    @property
    def silence(self) -> float | None:
        """Seconds since anybody's heartbeat; None when there is none."""
        return min((m.age for m in self.members if m.age is not None), default=None)

    def older_than(self, margin: float) -> list[Member]:
        return [member for member in self.members if member.age is not None and member.age >= margin]


class Judged(NamedTuple):
    """A row with its verdict: live, silent, stale, expired, foreign, loopback or duplicate."""

    member: Member
    verdict: str
    remark: str


def read(database: Database, *, wall: Callable[[], float] = time.time) -> Ring:
    """All rows, in pages by key. `wall` is this machine's clock, in seconds since the epoch."""
    database.rows(CLOCK)  # connects: waking a cluster up may take a minute, which is no skew
    before = wall()
    now: datetime = database.rows(CLOCK)[0][0]
    skew = (before + wall()) / 2 - now.replace(tzinfo=UTC).timestamp()
    members: list[Member] = []
    last = UUID(int=0)
    while True:
        page = database.rows(MEMBERS, (last, PAGE))
        members += (_member(*row) for row in page)
        if len(page) < PAGE:
            return Ring(tuple(members), skew)
        last = members[-1].host_id


def silence(database: Database) -> float | None:
    """Seconds since anybody's heartbeat, on the database's clock; None when there is none."""
    now, newest = database.rows(NEWEST)[0]
    return None if newest is None else float((now - newest).total_seconds())


def require_silence(database: Database) -> None:
    """TecsError when anybody wrote a heartbeat within the last 60 s."""
    quiet = silence(database)
    if quiet is not None and quiet < -FRESH:
        raise TecsError(
            f"a heartbeat lies {-quiet:.0f} s in the future: the clock of the host that wrote it is ahead",
            "Nothing was changed. `tecs membership` shows which; set its clock, or wait until the time has come.",
        )
    if quiet is not None and quiet < SILENCE:
        raise TecsError(
            f"somebody wrote a heartbeat {max(0.0, quiet):.0f} s ago, so a Temporal server still runs on this database",
            f"Nothing was changed. Stop it, wait {SILENCE:.0f} s and try again; `tecs membership` shows who it is.",
        )


def _member(
    now: datetime,
    host_id: UUID,
    address: str,
    port: int,
    role: int,
    session_start: datetime | None,
    last_heartbeat: datetime | None,
    record_expiry: datetime | None,
) -> Member:
    age = None if last_heartbeat is None else (now - last_heartbeat).total_seconds()
    expired = record_expiry is not None and record_expiry < now
    return Member(host_id, address, port, role, session_start, last_heartbeat, record_expiry, age, expired)


# -- verdicts --------------------------------------------------------------------------------------------------


def judge(
    ring: Ring, networks: Sequence[Network], tasks: Iterable[RingTask] | None, *, margin: float = MARGIN
) -> list[Judged]:
    """A verdict on every row. `networks` are our private subnets; `tasks` None when there is no cluster to ask."""
    owners = None if tasks is None else {task.address: task for task in tasks if task.address}
    newest: dict[tuple[str, int], Member] = {}
    for member in ring.members:
        known = newest.get((member.address, member.port))
        if known is None or _younger(member, known):
            newest[member.address, member.port] = member
    return [_judged(m, newest[m.address, m.port], networks, owners, margin) for m in ring.members]


def without_row(ring: Ring, tasks: Iterable[RingTask]) -> list[RingTask]:
    """Running tasks that have no fresh row of their own role."""
    fresh = {(m.address, m.service) for m in ring.members if m.age is not None and m.age < FRESH}
    return [task for task in tasks if task.status == "RUNNING" and (task.address, task.service) not in fresh]


def _judged(
    member: Member,
    newest: Member,
    networks: Sequence[Network],
    owners: dict[str, RingTask] | None,
    margin: float,
) -> Judged:
    if place := _outside(member.address, networks):
        return Judged(member, *place)
    owner = owners.get(member.address) if owners is not None else None
    if member.expired:
        return Judged(member, "expired", "")
    if member.age is None or member.age >= margin:
        return Judged(member, "stale", "no heartbeat: only --all removes it" if member.age is None else "")
    if owner is not None and owner.service != member.service:
        return Judged(member, "foreign", f"the address is {owner.service}'s task {owner.id}")
    if newest is not member:
        return Judged(member, "duplicate", f"host {newest.host_id} has this address and port too, and is younger")
    missing = "no running task has this address" if owners is not None and owner is None else ""
    if member.age < -FRESH:
        missing = f"its heartbeat lies {-member.age:.0f} s in the future: that host's clock is ahead"
    return Judged(member, "live" if member.age < FRESH else "silent", missing)


def _outside(address: str, networks: Sequence[Network]) -> tuple[str, str] | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        loop = address == "localhost"
        return ("loopback", "") if loop else ("foreign", "not an IP address")
    if parsed.is_loopback or parsed.is_unspecified:
        return "loopback", ""
    return None if any(parsed in network for network in networks) else ("foreign", "outside the private subnets")


def _younger(one: Member, other: Member) -> bool:
    return (one.age is not None and (other.age is None or one.age < other.age)) or (
        one.age == other.age and one.host_id > other.host_id
    )


def counts(judged: Iterable[Judged]) -> dict[tuple[str, str], int]:
    """Rows by service and verdict."""
    return dict(sorted(Counter((row.member.service, row.verdict) for row in judged).items()))


# -- cleaning --------------------------------------------------------------------------------------------------


def check_margin(margin: float) -> None:
    if margin < LEAST_MARGIN:
        raise ConfigError(
            f"--older-than {margin:.0f}s is too short: rows younger than {LEAST_MARGIN:.0f} s may belong to live hosts",
            "Nothing was changed. A host writes every 10 to 15 s; the default of 5 min leaves room for pauses.",
        )


def check_clocks(ring: Ring, margin: float) -> None:
    """TecsError when this machine's clock and the database's are so far apart that ages mean nothing."""
    if abs(ring.skew) > margin / 2:
        way = "ahead of" if ring.skew > 0 else "behind"
        raise TecsError(
            f"this machine's clock is {abs(ring.skew):.0f} s {way} the database's, more than half of {margin:.0f} s",
            "Nothing was changed. The hosts' clocks, which wrote the heartbeats, may be off too: set the clocks first.",
        )


def delete(
    database: Database,
    members: Sequence[Member],
    *,
    margin: float,
    deleted: Callable[[list[Member]], None] = lambda _: None,
) -> list[Member]:
    """Delete those of `members` that have not changed since they were read, and whose heartbeat is older than `margin`
    seconds by the database's clock. Those that are gone, by transaction to `deleted` and all as the answer.

    Running it again is harmless: who wrote a heartbeat meanwhile stays.
    """
    check_margin(margin)
    gone: list[Member] = []

    def went(rows: list[Member]) -> None:
        gone.extend(rows)
        deleted(rows)

    for start in range(0, len(members), BATCH):
        left = list(members[start : start + BATCH])
        for _ in range(ATTEMPTS):
            try:
                went(_delete(database, left, margin))
                break
            except UnknownOutcomeError:
                # Every row that is gone was deleted, by us or by a server's own pruning; the rest is tried again.
                there = _there(database, left)
                went([member for member in left if member.host_id not in there])
                left = [member for member in left if member.host_id in there]
            if not left:
                break
        else:
            raise TecsError("the connection to DSQL is lost at every COMMIT", "Run the command again: it resumes.")
    return gone


def _delete(database: Database, batch: Sequence[Member], margin: float) -> list[Member]:
    """In one transaction; those that went."""

    def work(cursor: Cursor) -> set[UUID]:
        # The first row says the types of all: a quarter of the text.
        rows = ", ".join(["(CAST(%s AS UUID), CAST(%s AS TIMESTAMP))", *["(%s, %s)"] * (len(batch) - 1)])
        seen = [value for member in batch for value in (member.host_id, member.last_heartbeat)]
        cursor.execute(DELETE.format(rows=rows).encode(), [*seen, f"{margin} seconds"])
        return {row[0] for row in cursor.fetchall()}

    ids = database.run(work)
    return [member for member in batch if member.host_id in ids]


def _there(database: Database, batch: Sequence[Member]) -> set[UUID]:
    sql = LEFT.format(rows=", ".join(["%s"] * len(batch)))
    return {row[0] for row in database.rows(sql, [member.host_id for member in batch])}
