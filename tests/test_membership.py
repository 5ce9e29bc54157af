"""Temporal's ring in the database: what is read, the verdicts, and that a clean-up takes stale rows and no other."""

from __future__ import annotations

import ipaddress
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from botocore.stub import Stubber
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud import ACCOUNT, PROJECT, REGION, Project, client
from databases import Killed, Place, run
from temporal_ecs.dsql import membership
from temporal_ecs.dsql.database import Cursor, Database, RefusedError, Work
from temporal_ecs.dsql.journal import Journal
from temporal_ecs.dsql.membership import (
    LEAST_MARGIN,
    MARGIN,
    SILENCE,
    Member,
    Ring,
    check_clocks,
    check_margin,
    counts,
    delete,
    judge,
    read,
    require_silence,
    silence,
    without_row,
)
from temporal_ecs.dsql.temporal_schema import create_table, wanted
from temporal_ecs.errors import ConfigError, TecsError
from temporal_ecs.ops.tasks import RingTask, require_stopped, ring_tasks
from temporal_ecs.pace import Bucket
from temporal_ecs.services import SERVICES, TEMPORAL

NOW = datetime.fromisoformat("2026-09-18T12:00:00")

UPSERT = """
INSERT INTO cluster_membership
VALUES (%s, %s, '10.0.10.5', 6934, 2, now() AT TIME ZONE 'UTC',
        (now() AT TIME ZONE 'UTC') - CAST(%s AS INTERVAL), (now() AT TIME ZONE 'UTC') + INTERVAL '48 hours')
ON CONFLICT (membership_partition, host_id)
DO UPDATE SET last_heartbeat = excluded.last_heartbeat, record_expiry = excluded.record_expiry
"""

# Behind the front, where no fault reaches: what was really deleted, by which transaction, and how old it was then.
WATCH = """
CREATE EXTENSION plpgsql;
CREATE SCHEMA watch;
CREATE TABLE watch.gone (host_id uuid, last_heartbeat timestamp, age float8, transaction text);
CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO watch.gone VALUES (
    OLD.host_id, OLD.last_heartbeat,
    extract(epoch FROM (clock_timestamp() AT TIME ZONE 'UTC') - OLD.last_heartbeat), pg_current_xact_id()::text);
  RETURN NULL;
END $$;
CREATE TRIGGER watched AFTER DELETE ON cluster_membership FOR EACH ROW EXECUTE FUNCTION watch.note();
"""
MANY = """
INSERT INTO cluster_membership
SELECT 0, gen_random_uuid(), '10.0.10.5', 6934, 2, NULL, (now() AT TIME ZONE 'UTC') - INTERVAL '1 day', NULL
FROM generate_series(1, 50000)
"""


def host(number: int) -> UUID:
    return UUID(int=number)


class Meddled(Database):
    """A way in; in each transaction something else happens after BEGIN, and again before COMMIT."""

    meddle: Callable[[], None]

    def run(self, work: Work[Any]) -> Any:
        def meddled(cursor: Cursor) -> Any:
            self.meddle()
            result = work(cursor)
            self.meddle()
            return result

        return super().run(meddled)


class Table:
    """cluster_membership alone, written as servers do; `watch` is PostgreSQL itself, without the front."""

    def __init__(self, place: Place) -> None:
        self.place, self.database = place, place.database(clock=place.leaping())
        self.database.make(create_table(wanted().tables["cluster_membership"]))
        name = place.host.partition(".")[0]
        self.watch = place.standin._postgres.connect("postgres", place.standin._clusters[name]._database)
        self.watch.script(WATCH)

    def beat(self, number: int, age: float | None = 0.0, *, partition: int = 0) -> None:
        """A heartbeat of a host whose clock is `age` seconds behind; None for none."""
        run(self.database, UPSERT, partition, host(number), None if age is None else f"{age} seconds")

    def fill(self, ages: Sequence[float | None]) -> None:
        """Only these rows, of hosts 1 to n, and nothing deleted yet."""
        self.watch.run("TRUNCATE cluster_membership, watch.gone")
        for number, age in enumerate(ages, 1):
            self.beat(number, age)

    def meddled(self, meddle: Callable[[], None]) -> Meddled:
        target, pace = self.place.target(), Bucket(burst=1e9, rate=1e9)
        made = Meddled(target, self.place.token, clock=self.place.leaping(), pace=pace)
        made.meddle = meddle
        return made

    def hosts(self) -> list[int]:
        rows = self.database.rows("SELECT host_id FROM cluster_membership ORDER BY host_id")
        return [row[0].int for row in rows]

    def gone(self) -> list[tuple[int, datetime | None, float | None]]:
        """Rows that were deleted: host, heartbeat and its age at that moment."""
        return [
            (UUID(id_).int, beat and datetime.fromisoformat(beat), None if age is None else float(age))
            for id_, beat, age in self.watch.run("SELECT host_id, last_heartbeat, age FROM watch.gone ORDER BY 1")
        ]

    def gone_hosts(self) -> list[int]:
        return [row[0] for row in self.gone()]

    def sizes(self) -> list[int]:
        """Rows of each transaction that deleted some."""
        return [int(n or 0) for [n] in self.watch.run("SELECT count(*) FROM watch.gone GROUP BY transaction")]


@pytest.fixture
def table(place: Place) -> Iterator[Table]:
    made = Table(place)
    yield made
    made.watch.close()


# -- reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (2, 1), (3, 2), (8, 3)])
def test_all_rows_are_read_in_pages_by_key(table: Table, monkeypatch: pytest.MonkeyPatch, rows: int, pages: int):
    monkeypatch.setattr(membership, "PAGE", 3)
    numbers = [n << 100 for n in range(1, rows + 1)]
    for number in random.Random(rows).sample(numbers, rows):
        table.beat(number, 7.0)
    table.beat(5, partition=1)
    table.place.standin.statements.clear()
    assert [member.host_id.int for member in read(table.database).members] == numbers
    assert sum("LIMIT" in text for text in table.place.ran()) == pages


def test_a_row_is_read_as_it_was_written(table: Table):
    run(
        table.database,
        "INSERT INTO cluster_membership VALUES "
        "(0, %s, '10.0.11.9', 6933, 1, %s, %s, %s), (0, %s, 'x', 1, 9, %s, %s, %s)",
        host(1), NOW, NOW, NOW, host(2), None, None, None,
    )  # fmt: skip
    ring = read(table.database)
    first, second = ring.members
    assert (first.address, first.port, first.role, first.service) == ("10.0.11.9", 6933, 1, "frontend")
    assert (first.session_start, first.last_heartbeat, first.record_expiry) == (NOW, NOW, NOW)
    age = (datetime.now(UTC).replace(tzinfo=None) - NOW).total_seconds()
    assert first.age == pytest.approx(age, abs=60)
    assert first.expired == (age > 0)
    assert second == Member(host(2), "x", 1, 9, None, None, None, None, expired=False)
    assert second.service == "role 9"
    assert ring.silence == first.age


@pytest.mark.parametrize("ahead", [0.0, 1000.0, -1000.0])
def test_the_skew_is_that_of_this_machines_clock(table: Table, ahead: float):
    ring = read(table.database, wall=lambda: time.time() + ahead)
    assert ring.skew == pytest.approx(ahead, abs=60)


def test_the_skew_does_not_hold_the_time_that_connecting_takes(table: Table):
    database = table.place.database()
    connections = len(table.place.tokens)
    seen = []

    def wall() -> float:
        seen.append(len(table.place.tokens) - connections)
        return time.time()

    read(database, wall=wall)
    assert seen == [1, 1]


# -- verdicts --------------------------------------------------------------------------------------------------

SUBNETS = [ipaddress.IPv4Network("10.0.10.0/24"), ipaddress.IPv4Network("10.0.11.0/24")]
HISTORY = RingTask("history", "task-h", "10.0.10.5", "RUNNING")
FRONTEND = RingTask("frontend", "task-f", "10.0.11.7", "RUNNING")
TASKS = [HISTORY, FRONTEND]


def member(number: int = 1, age: float | None = 5.0, **fields: Any) -> Member:
    """A history host at its task's address, whose heartbeat is `age` seconds old."""
    beat = None if age is None else NOW - timedelta(seconds=age)
    usual = {"address": "10.0.10.5", "port": 6934, "role": 2, "expired": False, "record_expiry": None}
    return Member(host(number), session_start=NOW, last_heartbeat=beat, age=age, **(usual | fields))


VERDICTS = {
    "just now": (member(age=0), "live", ""),
    "by a clock that is ahead": (
        member(age=-30),
        "live",
        "its heartbeat lies 30 s in the future: that host's clock is ahead",
    ),
    "almost 20 s": (member(age=19.9), "live", ""),
    "20 s": (member(age=20), "silent", ""),
    "almost the margin": (member(age=299.9), "silent", ""),
    "the margin": (member(age=300), "stale", ""),
    "never": (member(age=None), "stale", "no heartbeat: only --all removes it"),
    "after 48 h": (member(age=172_801, expired=True), "expired", ""),
    "fresh, yet expired": (member(age=1, expired=True), "expired", ""),
    "another network": (member(address="192.168.1.1"), "foreign", "outside the private subnets"),
    "next to the subnets": (member(address="10.0.12.0"), "foreign", "outside the private subnets"),
    "old, in another network": (member(age=4000, address="192.168.1.1"), "foreign", "outside the private subnets"),
    "IPv6": (member(address="fd00::1"), "foreign", "outside the private subnets"),
    "a name": (member(address="history.internal"), "foreign", "not an IP address"),
    "another service's task": (member(address="10.0.11.7"), "foreign", "the address is frontend's task task-f"),
    "old, at another service's task": (member(age=4000, address="10.0.11.7"), "stale", ""),
    "loopback": (member(address="127.0.0.1"), "loopback", ""),
    "old loopback": (member(age=4000, address="127.3.2.1"), "loopback", ""),
    "IPv6 loopback": (member(address="::1"), "loopback", ""),
    "localhost": (member(address="localhost"), "loopback", ""),
    "every address": (member(address="0.0.0.0"), "loopback", ""),
    "no task": (member(address="10.0.10.6"), "live", "no running task has this address"),
    "silent without a task": (member(age=30, address="10.0.10.6"), "silent", "no running task has this address"),
    "stale without a task": (member(age=4000, address="10.0.10.6"), "stale", ""),
}  # fmt: skip


@pytest.mark.parametrize(("row", "verdict", "remark"), VERDICTS.values(), ids=VERDICTS)
def test_a_row_has_one_verdict(row: Member, verdict: str, remark: str):
    assert judge(Ring((row,), 0.0), SUBNETS, TASKS) == [(row, verdict, remark)]


def test_without_a_cluster_to_ask_no_task_is_missed():
    rows = (member(1, address="10.0.10.6"), member(2, address="10.0.11.7"))
    assert [j[1:] for j in judge(Ring(rows, 0.0), SUBNETS, None)] == [("live", ""), ("live", "")]


def test_the_margin_says_what_is_stale():
    row = member(age=100)
    verdicts = [judge(Ring((row,), 0.0), SUBNETS, TASKS, margin=m)[0].verdict for m in (60, 100, 101)]
    assert verdicts == ["stale", "stale", "silent"]


@pytest.mark.parametrize(
    ("rows", "verdicts"),
    [
        ([member(1, 15), member(2, 3)], ["duplicate", "live"]),
        ([member(1, 3), member(2, 30), member(3, 12)], ["live", "duplicate", "duplicate"]),
        ([member(1, 3), member(2, 3)], ["duplicate", "live"]),
        ([member(1, 3), member(2, 4000), member(3, None)], ["live", "stale", "stale"]),
        ([member(1, None), member(2, 4000)], ["stale", "stale"]),
        ([member(1, 3), member(2, 5, port=6935)], ["live", "live"]),
        ([member(1, 3), member(2, 5, address="127.0.0.1")], ["live", "loopback"]),
    ],
)
def test_of_rows_with_one_address_and_port_the_youngest_counts(rows: list[Member], verdicts: list[str]):
    judged = judge(Ring(tuple(rows), 0.0), SUBNETS, TASKS)
    assert [j.verdict for j in judged] == verdicts
    youngest = rows[verdicts.index("live")].host_id if "live" in verdicts else None
    assert all(str(youngest) in j.remark for j in judged if j.verdict == "duplicate")


def test_a_task_without_a_fresh_row_of_its_own_role_is_told():
    tasks = [
        HISTORY,
        FRONTEND,
        RingTask("matching", "silent", "10.0.10.8", "RUNNING"),
        RingTask("worker", "starting", "", "PROVISIONING"),
    ]
    rows = (member(1), member(2, address="10.0.11.7"), member(3, 25, address="10.0.10.8", role=3))
    assert [t.id for t in without_row(Ring(rows, 0.0), tasks)] == ["task-f", "silent"]
    assert without_row(Ring((), 0.0), []) == []


def test_rows_are_counted_by_service_and_verdict():
    rows = (member(1), member(2, port=1), member(3, 4000), member(4, role=3, address="127.0.0.1"))
    judged = judge(Ring(rows, 0.0), SUBNETS, TASKS)
    expected = {("history", "live"): 2, ("history", "stale"): 1, ("matching", "loopback"): 1}
    assert counts(judged) == expected
    assert list(counts(judged)) == sorted(expected)


def test_rows_from_the_database_are_judged_by_its_clock(table: Table):
    table.fill([1, 100, 4000, None])
    run(table.database, "UPDATE cluster_membership SET rpc_port = 6000 + CAST(last_heartbeat IS NULL AS INTEGER)")
    run(
        table.database,
        "INSERT INTO cluster_membership VALUES (0, %s, '10.0.10.5', 1, 2, NULL, (now() AT TIME ZONE 'UTC') - "
        "INTERVAL '50 hours', (now() AT TIME ZONE 'UTC') - INTERVAL '2 hours')",
        host(5),
    )
    judged = judge(read(table.database, wall=lambda: time.time() + 9999), SUBNETS, TASKS)
    assert [j.verdict for j in judged] == ["live", "duplicate", "stale", "stale", "expired"]


# -- margins ---------------------------------------------------------------------------------------------------


def test_the_usual_margin_is_five_minutes_and_the_least_is_one():
    assert (MARGIN, LEAST_MARGIN, SILENCE) == (300, 60, 60)
    check_margin(60)
    with pytest.raises(ConfigError, match="--older-than 59s is too short"):
        check_margin(59.4)


def test_a_short_margin_is_refused_before_any_statement(table: Table):
    table.fill([4000])
    members = read(table.database).members
    table.place.standin.statements.clear()
    for margin in (59.9, 0, -300):
        with pytest.raises(ConfigError, match="too short"):
            delete(table.database, members, margin=margin)
    assert not table.place.ran()


@pytest.mark.parametrize(
    ("skew", "way"), [(151, "151 s ahead of the database's"), (-151, "151 s behind the database's")]
)
def test_a_clock_that_is_off_by_more_than_half_the_margin_is_refused(skew: float, way: str):
    with pytest.raises(TecsError, match=way):
        check_clocks(Ring((), skew), 300)
    check_clocks(Ring((), skew), 310)
    check_clocks(Ring((), skew / 151 * 149), 300)


@pytest.mark.parametrize("ahead", [40.0, -40.0])
def test_the_clocks_are_compared_as_they_are(table: Table, ahead: float):
    ring = read(table.database, wall=lambda: time.time() + ahead)
    check_clocks(ring, 300)
    with pytest.raises(TecsError, match="more than half of 60 s"):
        check_clocks(ring, 60)


# -- silence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "quiet"),
    [([], True), ([None], True), ([4000, 61], True), ([4000, None, 45], False), ([0], False), ([-3000], False)],
)
def test_a_ring_is_silent_when_nobody_wrote_for_a_minute(table: Table, ages: list[float | None], quiet: bool):
    table.fill(ages)
    table.beat(99, 0, partition=1)
    least = min((age for age in ages if age is not None), default=None)
    assert silence(table.database) == (None if least is None else pytest.approx(least, abs=14))
    if quiet:
        return require_silence(table.database)
    with pytest.raises(TecsError, match=r"wrote a heartbeat \d+ s ago|lies \d+ s in the future") as refused:
        require_silence(table.database)
    assert refused.value.hint.startswith("Nothing was changed.")
    return None


def test_every_row_goes_only_from_a_silent_ring(table: Table):
    table.fill([None, 61, 100, 4000, 200_000])
    ring = read(table.database)
    require_silence(table.database)
    table.beat(4)
    with pytest.raises(TecsError, match="a Temporal server still runs"):
        require_silence(table.database)
    assert len(delete(table.database, ring.members, margin=SILENCE)) == 4
    assert table.hosts() == [4]


# -- deleting --------------------------------------------------------------------------------------------------


AGES = st.none() | st.sampled_from([0.0, 30.0, 61.0, 290.0, 310.0, 4000.0, 200_000.0]) | st.integers(0, 400).map(float)
BEATS = st.lists(st.tuples(st.integers(1, 10), st.sampled_from([0.0, 0.0, 40.0, 4000.0])), min_size=1, max_size=3)
FAULTS = ("conflicts", "lose_before_commit", "lose_after_commit")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ages=st.lists(AGES, min_size=1, max_size=8),
    beats=st.dictionaries(st.integers(0, 8), BEATS, max_size=4),
    faults=st.fixed_dictionaries({name: st.integers(0, 2) for name in FAULTS}),
    margin=st.sampled_from([60.0, 300.0]),
    everything=st.booleans(),
)
def test_no_row_goes_whose_heartbeat_is_younger_than_the_margin(
    table: Table,
    ages: list[float | None],
    beats: dict[int, list[tuple[int, float]]],
    faults: dict[str, int],
    margin: float,
    everything: bool,
):
    """Heartbeats come between reading and deleting and in the middle of a transaction, some by clocks that are behind;
    commits are refused, and connections end before and after them."""
    table.place.faults.clear()
    table.place.clock.ahead = 0.0
    table.fill(ages)
    moments = itertools.count()
    fresh: set[int] = set()

    def meddle() -> None:
        now = beats.get(next(moments), [])
        left = {name: getattr(table.place.faults, name) for name in FAULTS}
        table.place.faults.set(**dict.fromkeys(FAULTS, 0))
        for number, behind in now:
            table.beat(number, behind)
            (fresh.add if behind < margin - 15 else fresh.discard)(number)
        table.place.faults.set(**left)

    with table.meddled(meddle) as database:
        ring = read(database)
        told: list[Member] = []
        table.place.faults.set(**faults)
        meddle()
        doomed = ring.members if everything else ring.older_than(margin)
        try:
            gone = delete(database, doomed, margin=margin, deleted=told.extend)
        except TecsError:  # more faults than it takes
            gone = None
        table.place.faults.clear()

        deleted = table.gone()
        assert all(age > margin if age is not None else everything for _, _, age in deleted)
        assert {row[:2] for row in deleted} <= {(m.host_id.int, m.last_heartbeat) for m in doomed}
        assert fresh <= set(table.hosts())
        assert sorted(m.host_id.int for m in told) == [row[0] for row in deleted]
        assert gone is None or gone == told

        beats.clear()
        again = read(database)
        old = again.older_than(margin)
        assert delete(database, old, margin=margin) == old
        assert table.hosts() == [m.host_id.int for m in again.members if m not in old]


def test_a_row_goes_only_as_it_was_seen(table: Table):
    table.fill([4000, 4000, 4000, None, None])
    seen = read(table.database).members
    table.beat(1)
    table.beat(2, 3000)  # a host whose clock is behind is alive too
    run(table.database, "DELETE FROM cluster_membership WHERE host_id = %s", host(3))
    table.beat(4)
    assert [m.host_id.int for m in delete(table.database, seen, margin=300)] == [5]
    assert table.hosts() == [1, 2, 4]


def test_rows_of_other_partitions_stay(table: Table):
    table.beat(1, 4000)
    table.beat(1, 4000, partition=1)
    run(table.database, "UPDATE cluster_membership SET last_heartbeat = TIMESTAMP '2026-01-01'")
    assert len(delete(table.database, read(table.database).members, margin=300)) == 1
    assert table.hosts() == [1]


def test_nothing_to_delete_takes_no_statement(table: Table):
    table.place.standin.statements.clear()
    assert delete(table.database, [], margin=300) == []
    assert not table.place.ran()


def test_a_heartbeat_that_is_as_old_as_the_margin_when_it_is_read_may_go(table: Table):
    table.fill([299, 301])
    ring = read(table.database)
    assert [m.host_id.int for m in ring.older_than(300)] == [2]
    assert [m.host_id.int for m in ring.older_than(60)] == [1, 2]


@pytest.mark.parametrize("fault", ["lose_before_commit", "conflicts"])
def test_a_cluster_that_takes_no_commit_is_given_up(table: Table, fault: str):
    table.fill([4000, 4000])
    doomed = read(table.database).members
    setattr(table.place.faults, fault, 10_000)
    with pytest.raises(TecsError):
        delete(table.database, doomed, margin=300)
    assert 10_000 - getattr(table.place.faults, fault) <= 5
    table.place.faults.clear()
    assert table.hosts() == [1, 2]


def test_what_is_known_to_be_gone_is_told_though_the_rest_fails(table: Table):
    table.fill([4000, 4000])
    moments = itertools.count(1)

    def meddle() -> None:
        if next(moments) == 3:  # one went, one stayed, and nobody heard the answer
            table.place.faults.conflicts = 5

    with table.meddled(meddle) as database:
        doomed = read(database).members
        table.beat(2)
        told: list[Member] = []
        table.place.faults.lose_after_commit = 1
        with pytest.raises(TecsError, match="same conflict"):
            delete(database, doomed, margin=300, deleted=told.extend)
    assert [m.host_id.int for m in told] == table.gone_hosts() == [1]


def test_fifty_thousand_rows_go_in_transactions_of_five_hundred(table: Table, tmp_path: Path):
    table.watch.run(MANY)
    table.beat(1)
    with pytest.raises(RefusedError) as refused:
        run(table.database, "DELETE FROM cluster_membership")
    assert refused.value.sqlstate == "54000"
    ring = read(table.database)
    assert len(ring.members) == 50_001
    doomed = ring.older_than(MARGIN)
    journal = Journal(tmp_path, PROJECT, table.place.host, doomed, MARGIN)
    assert delete(table.database, doomed, margin=MARGIN, deleted=journal.deleted) == doomed
    journal.close(finished=True)
    assert table.sizes() == [500] * 100
    assert table.hosts() == [1]
    rows = json.loads(journal.path.read_text())["rows"]
    assert [row["host_id"] for row in rows if row["deleted"]] == [str(m.host_id) for m in doomed]


# -- cut anywhere, and run again -------------------------------------------------------------------------------


def clean(database: Database, folder: Path) -> None:
    """As `tecs clean-membership` does it; one that is killed closes nothing."""
    doomed = read(database).older_than(MARGIN)
    journal = Journal(folder, PROJECT, "endpoint", doomed, MARGIN)
    delete(database, doomed, margin=MARGIN, deleted=journal.deleted)
    journal.close(finished=True)


def journals(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.iterdir())]


def listed(files: Sequence[dict[str, Any]], *, deleted: bool = False) -> list[int]:
    rows = [row for file in files for row in file["rows"] if row["deleted"] or not deleted]
    return sorted({UUID(row["host_id"]).int for row in rows})


MIXED = [4000.0, 5.0, 301.0, 200_000.0, 30.0, 4000.0, 4000.0, None, 4000.0]
OLD, YOUNG = [1, 3, 4, 6, 7, 9], [2, 5, 8]


@pytest.fixture
def statements(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many a whole run takes, in transactions of two rows."""
    monkeypatch.setattr(membership, "BATCH", 2)
    table.fill(MIXED)
    database = table.place.database()
    table.place.standin.statements.clear()
    clean(database, tmp_path / "whole")
    number = len(table.place.ran())
    assert number >= 2 + 3 * 3
    return number


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_was_killed_anywhere_is_completed_by_the_next(
    table: Table, statements: int, tmp_path: Path, after: bool
):
    sizes = set()
    for number in range(1, statements + 1):
        folder = tmp_path / str(number)
        table.fill(MIXED)
        table.place.faults.cut(number, after=after)
        killed = False
        try:
            clean(table.place.mortal(), folder)
        except Killed:
            killed = True
        table.place.faults.clear()
        half = table.gone_hosts()
        sizes.add(len(half))
        first = journals(folder) if folder.exists() else []
        assert all(file["finished"] is not killed for file in first)
        assert set(half) <= set(listed(first))
        table.beat(3)  # in the meantime it came back, if it was still there
        clean(table.database, folder)
        assert table.gone_hosts() == [n for n in OLD if n != 3 or 3 in half]
        assert table.hosts() == sorted([*YOUNG, 3])
        files = journals(folder)
        assert len(files) == len(first) + 1
        assert set(table.gone_hosts()) <= set(listed(files)) <= set(OLD)
        second = [file for file in files if file not in first]
        assert second[0]["finished"] is True
        assert listed(second) == listed(second, deleted=True) == [n for n in table.gone_hosts() if n not in half]
    assert sizes == ({0, 2, 4, 6} if after else {0, 2, 4})


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_whose_connection_is_lost_anywhere_goes_on(table: Table, statements: int, tmp_path: Path, after: bool):
    for number in range(1, statements + 1):
        folder = tmp_path / str(number)
        table.fill(MIXED)
        database = table.place.database(clock=table.place.leaping())
        table.place.faults.cut(number, after=after)
        clean(database, folder)
        database.close()
        assert table.hosts() == YOUNG
        [file] = journals(folder)
        assert file["finished"] is True
        assert table.gone_hosts() == listed([file]) == listed([file], deleted=True) == OLD


# -- the file about it -----------------------------------------------------------------------------------------


def test_the_file_has_all_columns_of_every_row_before_the_first_one_goes(table: Table, tmp_path: Path):
    table.fill([4000, None])
    members = read(table.database).members
    journal = Journal(tmp_path / "new", PROJECT, "endpoint", members, 300)
    assert journal.path.stat().st_mode & 0o7777 == 0o600
    [told] = journals(tmp_path / "new")
    rows = told.pop("rows")
    assert told == {"project": PROJECT, "endpoint": "endpoint", "older_than_seconds": 300, "finished": False}
    columns = [column.name for column in wanted().tables["cluster_membership"].columns]
    assert [list(row) for row in rows] == [[*columns, "deleted"]] * 2
    assert not any(row["deleted"] for row in rows)
    table.watch.run("TRUNCATE cluster_membership")
    for row in rows:
        run(
            table.database,
            f"INSERT INTO cluster_membership VALUES ({', '.join(['%s'] * 8)})",
            *[row[c] for c in columns],
        )
    assert [(m.host_id, m.last_heartbeat, m.record_expiry) for m in read(table.database).members] == [
        (m.host_id, m.last_heartbeat, m.record_expiry) for m in members
    ]


def test_the_file_says_which_rows_went_when_it_did_not_finish(tmp_path: Path):
    members = [member(n) for n in (1, 2, 3)]
    journal = Journal(tmp_path, PROJECT, "endpoint", members, 300)
    journal.deleted(members[:1])
    journal.deleted([])
    journal.deleted(members[2:])
    journal.close(finished=False)
    [told] = journals(tmp_path)
    assert told["finished"] is False
    assert listed([told], deleted=True) == [1, 3]
    assert listed([told]) == [1, 2, 3]
    assert journal.path.stat().st_mode & 0o7777 == 0o600


def test_two_runs_within_a_second_keep_a_file_each(tmp_path: Path):
    made = [Journal(tmp_path, PROJECT, "endpoint", [member(n)], 300) for n in (1, 2, 3)]
    for journal in made:
        journal.close(finished=True)
    assert listed(journals(tmp_path)) == [1, 2, 3]
    assert len({journal.path for journal in made}) == len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_said_before_anything_goes(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TecsError, match=r"cannot write .*/file/temporal-dev\.membership-") as refused:
        Journal(tmp_path / "file", PROJECT, "endpoint", [member()], 300)
    assert "Make its folder writable" in refused.value.hint


# -- the tasks -------------------------------------------------------------------------------------------------

CLUSTER = f"{PROJECT}-cluster"
ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"


class Ecs:
    """ECS's own client, with answers that are checked against the API's model; no request goes anywhere."""

    def __init__(self) -> None:
        made = client("http://127.0.0.1:9", "ecs", REGION)
        self.aws: Any = SimpleNamespace(ecs=made)
        self.stub = Stubber(made)

    def services(self, **running: int) -> None:
        names = {f"{PROJECT}-{service.title}": name for name, service in SERVICES.items()}
        shown = [
            {"serviceName": full, "status": "ACTIVE", "desiredCount": 0, "pendingCount": 0,
             "runningCount": running.get(name, 0)}
            for full, name in names.items()
        ]  # fmt: skip
        asked = {"cluster": CLUSTER, "services": list(names)}
        self.stub.add_response("describe_services", {"services": shown}, asked)

    def tasks(self, tasks: Sequence[dict[str, Any]], missing: Sequence[str] = ()) -> None:
        """Listed a hundred to a page; `missing` ended before they were described."""
        arns = [*missing, *(task["taskArn"] for task in tasks)]
        pages = [arns[at : at + 100] for at in range(0, len(arns), 100)]
        for number, page in enumerate(pages):
            asked = {"cluster": CLUSTER, "desiredStatus": "RUNNING"} | ({"nextToken": str(number)} if number else {})
            more = {"nextToken": str(number + 1)} if page is not pages[-1] else {}
            self.stub.add_response("list_tasks", {"taskArns": page} | more, asked)
        for page in pages:
            shown = [task for task in tasks if task["taskArn"] in page]
            failures = [{"arn": arn, "reason": "MISSING"} for arn in page if arn in missing]
            answer = {"tasks": shown, "failures": failures}
            self.stub.add_response("describe_tasks", answer, {"cluster": CLUSTER, "tasks": page})


@pytest.fixture
def ecs() -> Iterator[Ecs]:
    made = Ecs()
    with made.stub:
        yield made
        made.stub.assert_no_pending_responses()


def task(number: int, service: str = "history", status: str = "RUNNING", **fields: Any) -> dict[str, Any]:
    details = [
        {"name": "subnetId", "value": "subnet-1"},
        {"name": "privateIPv4Address", "value": f"10.0.10.{number}"},
    ]
    usual = {
        "taskArn": f"{ARN}:task/{CLUSTER}/{number:032x}",
        "group": f"service:{PROJECT}-{SERVICES[service].title}",
        "lastStatus": status,
        "attachments": [{"type": "ElasticNetworkInterface", "status": "ATTACHED", "details": details}],
    }
    return usual | fields


def test_the_rings_tasks_are_those_of_temporals_services(ecs: Ecs):
    ecs.services(history=1, frontend=1, ui=1)
    provisioning = {"attachments": [{"type": "ElasticNetworkInterface", "status": "PRECREATED", "details": []}]}
    by_container = {"attachments": [], "containers": [{"networkInterfaces": [{"privateIpv4Address": "10.0.11.4"}]}]}
    ecs.tasks(
        [
            task(1),
            task(2, "frontend", "PENDING"),
            task(3, "ui"),
            task(4, "matching", **by_container),
            task(5, "worker", "PROVISIONING", **provisioning),
            task(6, group="family:temporal-dev-temporal-history"),
            task(7, group=f"service:other-{SERVICES['history'].title}"),
        ],
        missing=[f"{ARN}:task/{CLUSTER}/ended"],
    )
    assert ring_tasks(ecs.aws, PROJECT) == [
        RingTask("history", f"{1:032x}", "10.0.10.1", "RUNNING"),
        RingTask("frontend", f"{2:032x}", "10.0.10.2", "PENDING"),
        RingTask("matching", f"{4:032x}", "10.0.11.4", "RUNNING"),
        RingTask("worker", f"{5:032x}", "", "PROVISIONING"),
    ]


def test_a_task_without_a_group_is_nobodys(ecs: Ecs):
    ecs.services(history=1)
    alone = task(1)
    del alone["group"]
    ecs.tasks([alone])
    assert ring_tasks(ecs.aws, PROJECT) == []


def test_more_tasks_than_one_call_describes_are_asked_for_by_the_hundred(ecs: Ecs):
    ecs.services(history=250)
    ecs.tasks([task(number) for number in range(250)])
    assert len(ring_tasks(ecs.aws, PROJECT)) == 250


def test_without_a_running_temporal_service_no_task_is_asked_for(ecs: Ecs):
    ecs.services(ui=1, grafana=1)
    assert ring_tasks(ecs.aws, PROJECT) == []


@pytest.mark.parametrize("service", [service.name for service in TEMPORAL])
def test_one_running_task_of_any_temporal_service_is_one_too_many(ecs: Ecs, service: str):
    ecs.services(**{service: 1})
    with pytest.raises(TecsError, match=f"Temporal is not stopped: {service}: 1 running, 0 pending, 0 wanted"):
        require_stopped(ecs.aws, PROJECT)


def test_running_consoles_are_no_members(ecs: Ecs):
    ecs.services(ui=1, grafana=2, adot=1)
    require_stopped(ecs.aws, PROJECT)


@pytest.fixture(scope="module")
def stack(new_project: Callable[..., Project]) -> Project:
    """The cluster and all services, wanted 0 times; nothing of what they stand on."""
    made = new_project()
    api = made.client("ecs")
    api.create_cluster(clusterName=CLUSTER)
    api.register_task_definition(family="any", containerDefinitions=[{"name": "a", "image": "a", "memory": 64}])
    for service in SERVICES.values():
        name = f"{PROJECT}-{service.title}"
        api.create_service(cluster=CLUSTER, serviceName=name, taskDefinition="any", desiredCount=0)
    return made


def test_a_stack_is_stopped_when_no_temporal_service_is_to_run(stack: Project):
    require_stopped(stack.aws, PROJECT)
    stack.client("ecs").update_service(cluster=CLUSTER, service=f"{PROJECT}-temporal-ui", desiredCount=1)
    require_stopped(stack.aws, PROJECT)
    stack.client("ecs").update_service(cluster=CLUSTER, service=f"{PROJECT}-temporal-matching", desiredCount=2)
    with pytest.raises(TecsError) as busy:
        require_stopped(stack.aws, PROJECT)
    assert busy.value.message == "Temporal is not stopped: matching: 0 running, 2 pending, 2 wanted"
    assert busy.value.hint.startswith("Nothing was changed. Stop it with `tecs scale down`")
    assert ring_tasks(stack.aws, PROJECT) == []


def test_where_the_cluster_is_gone_nothing_runs(stack: Project):
    require_stopped(stack.aws, "other")
    assert ring_tasks(stack.aws, "other") == []
