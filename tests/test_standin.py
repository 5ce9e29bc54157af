"""The DSQL stand-in by itself: who gets in, what breaks on demand, how jobs and conflicts go, and that it leaves."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from dsql_client import Client
from temporal_ecs.errors import TecsError
from temporal_ecs.sandbox import process
from temporal_ecs.sandbox.dsql import Limits, StandIn
from temporal_ecs.sandbox.dsql.certificates import Authority
from temporal_ecs.sandbox.dsql.cluster import Bucket
from temporal_ecs.sandbox.dsql.lexer import statements as split

KEYS = {"sandbox": "sandbox", "ASIATEMPORARY": "temporary"}
Connection = psycopg.Connection[Any]


class Time:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Place:
    """The stand-in, emptied, and connections that end with the test."""

    def __init__(self, standin: StandIn, clock: Time) -> None:
        self.standin, self.clock, self.faults = standin, clock, standin.faults
        self.client = Client.of(standin)
        self.client.life = 604800
        self._open: list[Connection] = []

    def connect(self, **options: Any) -> Connection:
        self._open.append(self.client.connect(**options))
        return self._open[-1]

    def table(self, *values: str) -> Connection:
        """A connection, and a table t(id, v) with rows from 1 on."""
        connection = self.connect()
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        for number, value in enumerate(values, 1):
            connection.execute("INSERT INTO t VALUES (%s, %s)", (number, value))
        return connection

    def refused(self, **options: Any) -> str:
        """The text with which a connection is refused."""
        with pytest.raises(psycopg.OperationalError) as caught:
            self.client.connect(**options)
        return str(caught.value)

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self.clock.ahead = 0.0


@pytest.fixture(scope="module")
def clock() -> Time:
    return Time()


@pytest.fixture(scope="module")
def standin(clock: Time) -> Iterator[StandIn]:
    with StandIn(keys=KEYS, clock=clock, limits=Limits(index_seconds=60)) as running:
        yield running


@pytest.fixture
def place(standin: StandIn, clock: Time) -> Iterator[Place]:
    standin.reset()
    made = Place(standin, clock)
    yield made
    made.close()


@contextmanager
def refuses(sqlstate: str, text: str = "") -> Iterator[None]:
    with pytest.raises(psycopg.Error) as caught:
        yield
    assert caught.value.sqlstate == sqlstate, caught.value
    assert text in str(caught.value)


def one(connection: Connection, sql: str, *parameters: Any) -> Any:
    """The first value of the first row."""
    row = connection.execute(sql, parameters or None).fetchone()
    return row[0] if row else None


# ----------------------------------------------------------------------------------------- who gets in


def signed(host: str, *, action: str = "DbConnectAdmin", region: str = "eu-west-1", service: str = "dsql",
           key: str = "sandbox", secret: str = "sandbox", expires: int = 900) -> str:  # fmt: skip
    """A token by botocore's own signer, with anything wrong that is asked for."""
    request = AWSRequest("GET", f"https://{host}/?Action={action}")
    SigV4QueryAuth(Credentials(key, secret), service, region, expires=expires).add_auth(request)
    return str(request.url).removeprefix("https://")


def test_a_good_token_lets_admin_in(place: Place):
    connection = place.connect(application_name="who")
    assert one(connection, "SELECT current_user") == "admin"
    entry = place.standin.connections[-1]
    assert entry[1:] == ("a" * 26, "admin", "DbConnectAdmin", "ok", "who")
    assert place.connect(token=signed(place.client.host)).info.transaction_status == 0


BAD_TOKENS: dict[str, tuple[Callable[[str], str], str]] = {
    "wrong action": (lambda host: signed(host, action="DbConnect"), "Wrong user to action mapping"),
    "no action": (lambda host: signed(host, action=""), "Wrong user to action mapping"),
    "wrong host": (lambda host: signed(f"x{host}"), "The token is for"),
    "wrong region": (lambda host: signed(host, region="us-east-1"), "should be scoped to"),
    "wrong service": (lambda host: signed(host, service="rds"), "should be scoped to"),
    "unknown key": (lambda host: signed(host, key="AKIA"), "security token included in the request is invalid"),
    "wrong secret": (lambda host: signed(host, secret="x"), "does not match the signature"),
    "changed": (lambda host: signed(host).replace("Expires=900", "Expires=901"), "does not match the signature"),
    "too long a life": (lambda host: signed(host, expires=604801), "X-Amz-Expires"),
    "no token": (lambda host: "secret", "lacks"),
    "empty": (lambda host: " ", "lacks"),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_bad_token_is_refused_with_the_reason_as_a_hint(place: Place, name: str):
    make, hint = BAD_TOKENS[name]
    text = place.refused(token=make(place.client.host))
    assert "unable to accept connection, access denied" in text
    assert hint in text.partition("HINT:")[2]
    assert place.standin.connections[-1].result == "unable to accept connection, access denied"


def test_a_token_expires_and_isnt_good_before_its_time(place: Place):
    token = place.client.token(expires=60)
    place.clock.ahead = 59
    place.connect(token=token)
    place.clock.ahead = 62
    assert "Signature expired: " in place.refused(token=token)
    place.clock.ahead = -3600
    assert "Signature not yet current: " in place.refused(token=token)
    week = place.client.token(expires=604800)
    place.clock.ahead = 604700
    place.connect(token=week)


def test_a_session_token_is_signed_with_the_rest(place: Place):
    client = Client.of(place.standin, key="ASIATEMPORARY", secret="temporary")
    client.session_token = "FwoG+/=token"
    client.connect().close()
    token = client.token()
    assert "access denied" in place.refused(token=token.replace("FwoG", "other"))


def test_a_role_needs_a_mapping_and_the_other_action(place: Place):
    admin = place.connect()
    admin.execute("CREATE ROLE worker WITH LOGIN")
    assert "access denied" in place.refused(user="worker")
    admin.execute("AWS IAM GRANT worker TO 'arn:aws:iam::123456789012:role/worker'")
    assert admin.execute("SELECT arn, pg_role_name FROM sys.iam_pg_role_mappings").fetchall() == [
        ("arn:aws:iam::123456789012:role/worker", "worker")
    ]
    with closing(place.client.connect(user="worker")) as worker:
        assert one(worker, "SELECT current_user") == "worker"
        with refuses("42501", "permission denied"):
            worker.execute("CREATE TABLE public.x (id int)")
    assert "Wrong user to action" in place.refused(user="worker", token=place.client.token())
    admin.execute("AWS IAM REVOKE worker FROM 'arn:aws:iam::123456789012:role/worker'")
    assert "access denied" in place.refused(user="worker")


def test_there_is_one_database(place: Place):
    assert 'database "other" does not exist' in place.refused(dbname="other")


def test_a_password_is_asked_for_only_behind_tls(place: Place):
    assert "ssl is required" in place.refused(sslmode="disable")
    assert "sni was not received" in place.refused(sslsni=0)
    assert "unrecognized name" in place.refused(host="db.example.com", sslmode="require")
    assert len(place.standin.connections) == 1


def test_both_ways_of_asking_for_tls(place: Place):
    for negotiation in ("postgres", "direct"):
        connection = place.connect(sslnegotiation=negotiation)
        assert connection.pgconn.ssl_in_use
        assert one(connection, "SELECT 1") == 1


def test_the_certificate_is_for_the_name_and_by_our_authority(place: Place, tmp_path: Path):
    other = Authority(tmp_path).ca_file
    assert "certificate verify failed" in place.refused(sslrootcert=str(other))
    private = f"{'a' * 26}.dsql-abcd.eu-west-1.on.aws"
    Client(private, place.client.address, "sandbox", "sandbox").connect().close()
    far = Client(f"{'a' * 26}.dsql.us-west-2.on.aws", place.client.address, "sandbox", "sandbox")
    far.connect(token=signed(far.host, region="us-west-2")).close()


def test_clusters_share_nothing(place: Place):
    place.table("a")
    with closing(Client.of(place.standin, "b" * 26).connect()) as other, refuses("42P01"):
        other.execute("SELECT * FROM t")
    place.standin.drop("a" * 26)
    with refuses("42P01"):
        place.connect().execute("SELECT * FROM t")


def test_the_control_plane_says_what_can_be_connected_to():
    status = {"active": "ACTIVE", "idle": "IDLE", "inactive": "INACTIVE", "creating": "CREATING"}
    with StandIn(status=lambda host: status.get(host.partition(".")[0])) as standin:
        for name in ("active", "idle"):
            Client.of(standin, name).connect().close()
        answers = {}
        for name in ("inactive", "creating", "nowhere"):
            with pytest.raises(psycopg.OperationalError) as caught:
                Client.of(standin, name).connect()
            answers[name] = str(caught.value)
        assert "waking up cluster, please retry later" in answers["inactive"]
        assert "access denied" in answers["creating"]
        assert "access denied" in answers["nowhere"]


# ----------------------------------------------------------------------------------------- limits


def test_the_limits_are_those_of_dsql():
    assert Limits() == Limits(100, 1000, 10_000, 3600, 300, 3000, 10 * 2**20, 1.0)


def test_a_burst_of_connections_then_so_many_a_second():
    now = 1000.0
    bucket = Bucket(100, 1000, lambda: now)
    assert [bucket.take() for _ in range(1001)] == [True] * 1000 + [False]
    now += 0.5
    assert sum(bucket.take() for _ in range(100)) == 50
    now += 3600
    assert sum(bucket.take() for _ in range(2000)) == 1000


def test_more_connections_than_the_limits_are_refused(clock: Time):
    clock.ahead = 0.0
    limits = Limits(connection_burst=5, connections_per_second=0.001, open_connections=3)
    with StandIn(clock=clock, limits=limits) as standin:
        client = Client.of(standin)
        client.life = 604800
        held = [client.connect() for _ in range(3)]
        with pytest.raises(psycopg.OperationalError, match="Unable to accept connection, too many open connections"):
            client.connect()
        held.pop().close()
        held.append(client.connect())
        with pytest.raises(psycopg.OperationalError, match="Unable to accept connection, rate exceeded"):
            client.connect()
        clock.ahead = 3600
        held.pop().close()
        held.append(client.connect())
        for connection in held:
            connection.close()
    clock.ahead = 0.0


def test_a_session_ends_after_an_hour_but_not_within_a_transaction(place: Place):
    connection, busy = place.table("a"), place.connect()
    place.clock.ahead = 3500
    busy.execute("BEGIN")
    place.clock.ahead = 3700
    assert one(busy, "SELECT count(*) FROM t") == 1
    busy.execute("COMMIT")
    for ended in (connection, busy):
        with pytest.raises(psycopg.OperationalError):
            ended.execute("SELECT 1")


def test_a_transaction_ends_after_five_minutes(place: Place):
    connection = place.table("a")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM t")
    place.clock.ahead = 301
    with refuses("54000", "transaction age limit of 300s exceeded"):
        connection.execute("COMMIT")
    with refuses("25P02"):
        connection.execute("SELECT 1")
    connection.execute("ROLLBACK")
    assert one(connection, "SELECT count(*) FROM t") == 1


def test_a_message_above_ten_mebibytes_ends_the_connection(place: Place):
    connection = place.table()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("INSERT INTO t VALUES (1, %s)", ("x" * (10 * 2**20 + 1),))
    assert one(place.connect(), "SELECT count(*) FROM t") == 0


# ----------------------------------------------------------------------------------------- faults


def test_conflicts_on_demand_leave_no_trace_and_no_transaction(place: Place):
    connection = place.table()
    place.faults.conflicts = 3
    for _ in range(2):
        with refuses("40001", "(OC000)"):
            connection.execute("INSERT INTO t VALUES (1, 'a')")
    with refuses("40001", "(OC000)"), connection.transaction():
        connection.execute("INSERT INTO t VALUES (1, 'a')")
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert one(connection, "SELECT count(*) FROM t") == 0
    with connection.transaction():
        connection.execute("SELECT * FROM t")  # what wrote nothing can't conflict
    connection.execute("INSERT INTO t VALUES (1, 'a')")
    assert one(connection, "SELECT count(*) FROM t") == 1


def test_conflicts_at_a_rate(place: Place):
    connection = place.table()
    place.faults.conflict_rate = 0.3
    refusals = 0
    for number in range(200):
        try:
            connection.execute("INSERT INTO t VALUES (%s, 'a')", (number,))
        except psycopg.errors.SerializationFailure:
            refusals += 1
    assert 30 < refusals < 90
    assert one(connection, "SELECT count(*) FROM t") == 200 - refusals


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_the_connection_is_lost_on_either_side_of_a_commit(place: Place, explicit: bool, after: bool):
    connection = place.table()
    setattr(place.faults, "lose_after_commit" if after else "lose_before_commit", 1)

    def insert() -> None:
        with connection.transaction() if explicit else nullcontext():
            connection.execute("INSERT INTO t VALUES (1, 'a')")

    with pytest.raises(psycopg.OperationalError) as caught:
        insert()
    assert caught.value.sqlstate is None
    assert connection.closed
    assert one(place.connect(), "SELECT count(*) FROM t") == int(after)


STEPS = ("BEGIN", "INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (2, 'b')", "COMMIT", "DELETE FROM t")


@pytest.mark.parametrize("after", [True, False])
def test_a_cut_at_every_statement_in_turn(place: Place, after: bool):
    rows = []
    for cut in range(1, len(STEPS) + 1):
        connection = place.table() if cut == 1 else place.connect()
        connection.execute("DELETE FROM t")
        place.faults.cut(cut, after=after)
        for step in STEPS[: cut - 1]:
            connection.execute(step)
        with pytest.raises(psycopg.OperationalError):
            connection.execute(STEPS[cut - 1])
        rows.append(one(place.connect(), "SELECT count(*) FROM t"))
    assert rows == ([0, 0, 0, 2, 0] if after else [0, 0, 0, 0, 2])


def test_a_statement_that_is_refused_counts_for_a_cut_too(place: Place):
    connection = place.table()
    place.faults.cut(1, after=True)
    with pytest.raises(psycopg.OperationalError) as caught:
        connection.execute("TRUNCATE t")
    assert caught.value.sqlstate is None


def test_connections_are_refused_on_demand(place: Place):
    place.faults.set(too_many=1, rate_exceeded=1, access_denied=1)
    texts = [place.refused() for _ in range(3)]
    assert "rate exceeded" in texts[0]
    assert "too many open connections" in texts[1]
    assert "access denied" in texts[2]
    assert "HINT" not in texts[2]
    place.connect()
    place.faults.wake(30)
    assert "unable to accept connection, waking up cluster, please retry later" in place.refused()
    place.clock.ahead = 31
    place.connect()


def test_latency_and_stale_catalogs_on_demand(place: Place):
    connection = place.table()
    place.faults.latency = 0.1
    started = time.monotonic()
    connection.execute("SELECT 1")
    assert time.monotonic() - started >= 0.1
    place.faults.latency = 0.0
    place.faults.stale = 1
    with refuses("40001", "schema has been updated by another transaction, please retry: (OC001)"):
        connection.execute("SELECT * FROM t")
    connection.execute("SELECT * FROM t")


def test_a_fault_that_isnt_one_is_named(place: Place):
    with pytest.raises(ValueError, match="no fault of DSQL: latncy; known: access_denied"):
        place.faults.set(latncy=1)


def test_statements_are_remembered_without_their_parameters(place: Place):
    connection = place.table()
    place.standin.statements.clear()
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (%s, %s)", (1, "secret"))
    assert [ran.text for ran in place.standin.statements] == ["BEGIN", "INSERT INTO t VALUES ($1, $2)", "COMMIT"]


# ----------------------------------------------------------------------------------------- jobs

VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass"
JOB = "SELECT status, details, object_name FROM sys.jobs WHERE job_id = %s"


def test_an_index_is_valid_once_its_time_has_come(place: Place):
    connection = place.table("a", "b")
    job = one(connection, "CREATE UNIQUE INDEX ASYNC i ON t (v)")
    assert len(job) == 26
    assert connection.execute(JOB, (job,)).fetchone() == ("submitted", None, "public.i")
    assert one(connection, VALID) is False
    with refuses("42P10"):
        connection.execute("INSERT INTO t VALUES (3, 'a') ON CONFLICT (v) DO NOTHING")
    place.clock.ahead = 59
    assert one(connection, VALID) is False
    place.clock.ahead = 61
    assert one(connection, VALID) is True
    assert connection.execute(JOB, (job,)).fetchone()[:2] == ("completed", None)
    connection.execute("INSERT INTO t VALUES (3, 'a') ON CONFLICT (v) DO NOTHING")
    with refuses("23505"):
        connection.execute("INSERT INTO t VALUES (3, 'a')")


@pytest.mark.parametrize(
    ("index", "valid"),
    [
        ("(v)", False), ("(v, id)", True), ("(v) WHERE id < 3", False), ("(v) WHERE id <> 2", True), ("(n)", True),
        ("(n) NULLS NOT DISTINCT", False), ("((lower(v) || id))", True), ("((lower(w)))", False),
        ("(w) INCLUDE (id)", True),
    ],
)  # fmt: skip
def test_a_unique_index_on_duplicates_stays_invalid(place: Place, index: str, valid: bool):
    connection = place.connect()
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text, w text, n int)")
    connection.execute("INSERT INTO t VALUES (1, 'a', 'A', NULL), (2, 'a', 'a', NULL)")
    job = one(connection, f"CREATE UNIQUE INDEX ASYNC i ON t {index}")
    place.clock.ahead = 61
    status, details, _ = connection.execute(JOB, (job,)).fetchone()
    assert (one(connection, VALID), status) == (valid, "completed" if valid else "failed")
    assert bool(details) is not valid
    connection.execute("DROP INDEX i")


def test_what_becomes_of_a_job_whose_object_is_gone(place: Place):
    connection = place.table("a")
    job = one(connection, "CREATE INDEX ASYNC i ON t (v)")
    connection.execute("DROP INDEX i")
    place.clock.ahead = 61
    assert connection.execute(JOB, (job,)).fetchone()[0] == "failed"
    job = one(connection, "CREATE INDEX ASYNC i ON t (v)")
    connection.execute("DROP TABLE t")
    place.clock.ahead = 122
    assert connection.execute(JOB, (job,)).fetchone()[:2] == ("completed", 'relation "public.t" does not exist')


def test_a_job_can_be_made_to_fail(place: Place):
    connection = place.table("a")
    place.faults.fail_jobs = 1
    job = one(connection, "CREATE INDEX ASYNC i ON t (v)")
    place.clock.ahead = 61
    assert connection.execute(JOB, (job,)).fetchone()[0] == "failed"
    assert one(connection, VALID) is False


def test_waiting_for_a_job(place: Place):
    connection = place.table("a")
    job = one(connection, "CREATE INDEX ASYNC i ON t (v)")
    other = place.connect()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.execute, "CALL sys.wait_for_job(%s)", (job,))
        time.sleep(0.1)
        assert not waiting.done()
        place.clock.ahead = 61
        waiting.result(10)
    assert one(connection, VALID) is True


def test_an_index_is_part_of_its_transaction(place: Place):
    connection = place.table("a")
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE INDEX ASYNC i ON t (v)")
    assert one(connection, "SELECT count(*) FROM sys.jobs") == 0
    assert one(connection, "SELECT to_regclass('i')") is None
    connection.execute("CREATE INDEX ASYNC IF NOT EXISTS i ON public.t (v)")
    assert connection.execute("CREATE INDEX ASYNC IF NOT EXISTS i ON t (v)").fetchall() == []
    assert one(connection, "SELECT count(*) FROM sys.jobs") == 1
    with refuses("42P07"):
        connection.execute("CREATE INDEX ASYNC i ON t (v)")


# ----------------------------------------------------------------------------------------- conflicts


def test_own_writes_are_seen_while_both_write(place: Place):
    first, second = place.table("a"), place.connect()
    for connection, value in ((first, "x"), (second, "y")):
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET v = %s WHERE id = 1", (value,))
    assert (one(first, "SELECT v FROM t"), one(second, "SELECT v FROM t")) == ("x", "y")
    second.execute("COMMIT")
    assert one(first, "SELECT v FROM t") in ("a", "x")
    with refuses("40001", "(OC000)"):
        first.execute("COMMIT")
    assert one(first, "SELECT v FROM t") == "y"


def test_a_conflict_that_never_came_to_be(place: Place):
    first, second = place.table("a"), place.connect()
    first.execute("BEGIN")
    first.execute("UPDATE t SET v = 'x'")
    second.execute("BEGIN")
    second.execute("UPDATE t SET v = 'y'")
    second.execute("ROLLBACK")
    first.execute("UPDATE t SET v = v || 'z'")
    first.execute("COMMIT")
    assert one(second, "SELECT v FROM t") == "xz"


def test_an_autocommit_writer_beats_an_open_transaction(place: Place):
    first, second = place.table("a"), place.connect()
    first.execute("BEGIN")
    assert first.execute("DELETE FROM t WHERE id = 1 AND v = 'a'").rowcount == 1
    assert second.execute("UPDATE t SET v = 'b'").rowcount == 1
    with refuses("40001", "(OC000)"):
        first.execute("COMMIT")
    assert one(second, "SELECT v FROM t") == "b"


def test_schema_changes_wait_for_nobody(place: Place):
    first, second = place.table("a"), place.connect()
    first.execute("BEGIN")
    first.execute("SELECT * FROM t")
    second.execute("DROP TABLE t")
    with refuses("40001", "(OC001)"):
        first.execute("SELECT * FROM t")
    first.execute("ROLLBACK")
    second.execute("BEGIN")
    second.execute("CREATE TABLE u (id int)")
    first.execute("CREATE TABLE u (id int)")
    with refuses("40001", "(OC001)"):
        second.execute("COMMIT")
    assert one(first, "SELECT count(*) FROM u") == 0


def test_a_reader_waits_for_no_schema_change(place: Place):
    first, second = place.table("a"), place.connect()
    second.execute("BEGIN")
    second.execute("ALTER TABLE t ADD COLUMN w text")
    assert first.execute("SELECT * FROM t").fetchall() == [(1, "a")]
    with first.transaction():
        assert first.execute("SELECT * FROM t WHERE id = %s", (1,), prepare=True).fetchall() == [(1, "a")]
    second.execute("COMMIT")
    with pytest.raises(psycopg.errors.SerializationFailure):
        first.execute("SELECT * FROM t")
    assert first.execute("SELECT * FROM t").fetchall() == [(1, "a", None)]


@pytest.mark.parametrize(
    "clause", ["FOR UPDATE", "FOR UPDATE OF t NOWAIT", "FOR KEY SHARE OF t SKIP LOCKED", "FOR UPDATE LIMIT 1"]
)
def test_a_locking_read_answers_from_its_snapshot(place: Place, clause: str):
    first, second = place.table("a"), place.connect()
    first.execute("BEGIN")
    first.execute("SELECT 1")
    second.execute("DELETE FROM t")
    assert first.execute(f"SELECT v FROM t WHERE id = 1 {clause}").fetchall() == [("a",)]
    with refuses("40001", "(OC000)"):
        first.execute("COMMIT")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET v = 'x' RETURNING id", "DELETE FROM t USING t AS u WHERE t.id = u.id",
        "WITH x AS (UPDATE t SET v = 'x' RETURNING id) SELECT * FROM x",
    ],
)  # fmt: skip
def test_what_has_no_simple_substitute_conflicts_at_once(place: Place, sql: str):
    first, second = place.table("a"), place.connect()
    first.execute("BEGIN")
    first.execute("SELECT 1")
    second.execute("UPDATE t SET v = 'b'")
    with refuses("40001", "(OC000)"):
        first.execute(sql)
    with refuses("25P02"):
        first.execute("SELECT 1")


def test_a_lost_read_modify_write_answers_from_its_snapshot(place: Place):
    first, second = place.table("a", "b"), place.connect()
    first.execute("BEGIN")
    assert one(first, "SELECT count(*) FROM t") == 2
    second.execute("UPDATE t SET v = 'changed'")
    second.execute("INSERT INTO t VALUES (3, 'c')")
    assert first.execute("UPDATE t SET v = %s WHERE v = %s", ("x", "b")).rowcount == 1
    assert first.execute("UPDATE t SET v = 'x'").rowcount == 2
    assert first.execute("DELETE FROM t AS old WHERE old.id IN (1, 2, 3)").rowcount == 2
    assert first.execute("SELECT v FROM t WHERE id = %s FOR UPDATE", (1,)).fetchall() == [("a",)]
    assert first.execute("INSERT INTO t VALUES (3, 'd')").rowcount == 1
    with refuses("40001", "(OC000)"):
        first.execute("COMMIT")
    assert second.execute("SELECT v FROM t ORDER BY id").fetchall() == [("changed",), ("changed",), ("c",)]


def test_a_duplicate_that_can_be_seen_is_one(place: Place):
    first, second = place.table("a"), place.connect()
    first.execute("BEGIN")
    first.execute("SELECT 1")
    second.execute("INSERT INTO t VALUES (2, 'b')")
    with refuses("23505"):
        first.execute("INSERT INTO t VALUES (1, 'x')")


def test_disjoint_and_referencing_writers(place: Place):
    first, second = place.table("a", "b"), place.connect()
    first.execute("CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES t (id))")
    with pytest.raises(psycopg.errors.SerializationFailure):
        second.execute("SELECT 1")
    first.execute("BEGIN")
    first.execute("DELETE FROM t WHERE id = 1")
    second.execute("BEGIN")
    second.execute("INSERT INTO child VALUES (1, 1)")
    first.execute("COMMIT")
    with refuses("40001", "(OC000)"):
        second.execute("COMMIT")
    first.execute("BEGIN")
    first.execute("UPDATE t SET v = 'x' WHERE id = 2")
    second.execute("BEGIN")
    second.execute("INSERT INTO child VALUES (2, 2)")
    first.execute("COMMIT")
    second.execute("COMMIT")


class Model:
    """Snapshot isolation with the first committer winning, in a few lines: what the stand-in has to agree with."""

    def __init__(self) -> None:
        self.rows = {1: "a", 2: "b"}
        self.changed: dict[int, int] = {}
        self.commits = 0


class ModelTransaction:
    """One transaction of the model, with its snapshot.

    A row that others made and removed again since then isn't noticed: PostgreSQL has nothing left to notice it by.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.since = model, model.commits
        self.base, self.seen = dict(model.rows), dict(model.rows)
        self.written: set[int] = set()
        self.locked: set[int] = set()

    @property
    def lost(self) -> bool:
        return any(
            self.model.changed.get(key, 0) > self.since and (key in self.base or key in self.model.rows)
            for key in self.written | self.locked
        )

    def write(self, key: int, value: str | None) -> None:
        self.written.add(key)
        if value is None:
            self.seen.pop(key, None)
        else:
            self.seen[key] = value

    def commit(self) -> bool:
        if self.lost:
            return False
        self.model.commits += 1
        for key in self.written:
            self.model.changed[key] = self.model.commits
            self.model.rows.pop(key, None)
            if key in self.seen:
                self.model.rows[key] = self.seen[key]
        return True


def step(chance: random.Random, connection: Connection, ours: ModelTransaction) -> None:
    """One random statement on both sides."""
    key, value = chance.randint(1, 4), chance.choice("wxyz")
    lost = ours.lost  # from here on, its own writes may not be seen
    kind = chance.choice(("read", "update", "update", "insert", "insert", "delete", "lock"))
    if kind == "read":
        rows = connection.execute("SELECT id, v FROM t ORDER BY id").fetchall()
        assert lost or rows == sorted(ours.seen.items())
    elif kind == "lock":
        rows = connection.execute(f"SELECT v FROM t WHERE id = {key} FOR UPDATE").fetchall()
        assert lost or rows == [(ours.seen[key],) for key in {key} & set(ours.seen)]
        ours.locked |= {key} & set(ours.seen)
    elif kind == "insert":
        if key in ours.seen:
            return
        connection.execute(f"INSERT INTO t VALUES ({key}, '{value}')")
        ours.write(key, value)
    elif key in ours.seen or not lost:
        sql = f"UPDATE t SET v = '{value}'" if kind == "update" else "DELETE FROM t"
        count = connection.execute(f"{sql} WHERE id = {key}").rowcount
        if not lost:
            assert count == int(key in ours.seen)
        if key in ours.seen:
            ours.write(key, value if kind == "update" else None)


@pytest.mark.parametrize("seed", range(12))
def test_random_histories_agree_with_snapshot_isolation(place: Place, seed: int):
    chance = random.Random(seed)
    connections = [place.table("a", "b"), place.connect(), place.connect()]
    model = Model()
    conflicts = 0
    for _ in range(12):
        open_: dict[int, ModelTransaction] = {}
        for _ in range(25):
            who = chance.randrange(3)
            if who not in open_:
                connections[who].execute("BEGIN")
                assert one(connections[who], "SELECT count(*) FROM t") == len(model.rows)
                open_[who] = ModelTransaction(model)
            elif chance.random() < 0.7:
                try:
                    step(chance, connections[who], open_[who])
                except psycopg.errors.SerializationFailure:
                    assert open_.pop(who).lost
                    connections[who].execute("ROLLBACK")
                    conflicts += 1
            else:
                conflicts += not finish(connections[who], open_.pop(who))
        for who, ours in open_.items():
            conflicts += not finish(connections[who], ours)
        assert connections[0].execute("SELECT id, v FROM t ORDER BY id").fetchall() == sorted(model.rows.items())
    assert conflicts > 2


def finish(connection: Connection, ours: ModelTransaction) -> bool:
    """Commit on both sides; whether it was done."""
    done = ours.commit()
    if done:
        connection.execute("COMMIT")
    else:
        with refuses("40001", "(OC000)"):
            connection.execute("COMMIT")
    return done


def test_counting_up_by_many_at_once_loses_nothing(place: Place):
    place.table("0")

    def count() -> int:
        done = 0
        with closing(place.client.connect()) as connection:
            while done < 10:
                try:
                    with connection.transaction():
                        value = int(one(connection, "SELECT v FROM t WHERE id = 1"))
                        connection.execute("UPDATE t SET v = %s WHERE id = 1", (str(value + 1),))
                    done += 1
                except psycopg.errors.SerializationFailure:
                    time.sleep(random.random() / 200)
        return done

    with ThreadPoolExecutor(6) as pool:
        total = sum(future.result() for future in [pool.submit(count) for _ in range(6)])
    assert one(place.connect(), "SELECT v FROM t WHERE id = 1") == str(total) == "60"


# ----------------------------------------------------------------------------------------- the protocol


def test_big_results_arrive_whole(place: Place):
    connection = place.connect()
    rows = connection.execute("SELECT n, repeat('x', 100) FROM generate_series(1, 50000) AS n").fetchall()
    assert len(rows) == 50000
    assert rows[-1] == (50000, "x" * 100)


def test_prepared_statements_pipelines_and_binary_results(place: Place):
    connection = place.table()
    for number in range(3):
        connection.execute("INSERT INTO t VALUES (%s, 'a')", (number,), prepare=True)
    with connection.cursor(binary=True) as cursor:
        assert cursor.execute("SELECT id, %b::bytea FROM t ORDER BY id", (b"\1" * 16,)).fetchone()[0] == 0
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT count(*) + %s FROM t", (number,)) for number in range(5)]
        assert cursors[2].fetchone() == (5,)  # asks with Flush, in the middle
        connection.execute("INSERT INTO t VALUES (10, 'p')")
        pipeline.sync()
        assert cursors[4].fetchone() == (7,)
    with refuses("42601"), connection.pipeline():
        connection.execute("INSERT INTO t VALUES (11, 'q')")
        connection.execute("SELEC 1")
    assert one(connection, "SELECT max(id) FROM t") == 10
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, 'm')", [(number,) for number in range(20, 25)])
    assert one(connection, "SELECT count(*) FROM t") == 9


def answered(pgconn: psycopg.pq.PGconn) -> psycopg.pq.PGresult:
    """The result of what was sent. libpq's blocking calls would keep Python, and so the stand-in, from running."""
    results = []
    while pgconn.flush():
        select.select([], [pgconn.socket], [], 10)
    while True:
        while pgconn.is_busy():
            assert select.select([pgconn.socket], [], [], 10)[0], "no answer"
            pgconn.consume_input()
        if (result := pgconn.get_result()) is None:
            return results[-1]
        results.append(result)


def test_statements_prepared_described_and_closed_by_name(place: Place):
    pgconn = place.table("a").pgconn

    def ask(send: str, *arguments: Any) -> psycopg.pq.PGresult:
        getattr(pgconn, f"send_{send}")(*arguments)
        return answered(pgconn)

    def state(result: psycopg.pq.PGresult) -> bytes | None:
        return result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)

    assert ask("prepare", b"index", b"CREATE INDEX ASYNC i ON t (v)").status == psycopg.pq.ExecStatus.COMMAND_OK
    described = ask("describe_prepared", b"index")
    assert (described.nfields, described.fname(0), described.nparams) == (1, b"job_id", 0)
    ask("prepare", b"read", b"SELECT v FROM t WHERE id = $1")
    assert ask("describe_prepared", b"read").nparams == 1
    assert ask("query_prepared", b"read", [b"1"]).get_value(0, 0) == b"a"
    ask("query", b"BEGIN")
    ask("query", b"TRUNCATE t")
    assert state(ask("query_prepared", b"read", [b"1"])) == b"25P02"
    ask("query", b"ROLLBACK")
    made = ask("query_prepared", b"index", [])
    assert (made.fname(0), made.ntuples, made.command_status) == (b"job_id", 1, b"CREATE INDEX")
    ask("close_prepared", b"index")
    ask("close_prepared", b"read")
    for name in (b"index", b"read"):
        assert state(ask("query_prepared", name, [])) == b"26000"


def test_rules_hold_for_the_extended_protocol_too(place: Place):
    connection = place.table()
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO t VALUES (%s, 'a')", (1,))
        with refuses("0A000", "ddl and dml"):
            connection.execute("CREATE INDEX ASYNC i ON t (v)", prepare=True)
        with refuses("25P02"):
            connection.execute("SELECT %s", (1,))
    with refuses("0A000", "Truncate"):
        connection.execute("TRUNCATE t", prepare=True)
    with refuses("54000"):
        connection.execute("INSERT INTO t SELECT n, 'x' FROM generate_series(1, %s) AS n", (3001,))
    assert one(connection, "SELECT count(*) FROM t") == 0
    with connection.pipeline(), refuses("0A000", "multiple ddl"):
        connection.execute("CREATE TABLE a (id int)")
        connection.execute("CREATE TABLE b (id int)").fetchone()
    assert one(connection, "SELECT to_regclass('a')") is None


def test_server_side_cursors_survive_a_conflict(place: Place):
    first, second = place.table("a", "b", "c"), place.connect()
    with first.transaction(), first.cursor("reader") as cursor:
        cursor.execute("SELECT id FROM t ORDER BY id")
        assert cursor.fetchone() == (1,)
        second.execute("DELETE FROM t WHERE id = 3")
        second.execute("ALTER TABLE t ADD COLUMN w text")
        place.faults.stale = 0
        with pytest.raises(psycopg.errors.SerializationFailure):  # the schema has changed
            cursor.fetchone()


def test_copy_both_ways(place: Place):
    connection, other = place.table(), place.connect()
    other.execute("BEGIN")
    other.execute("INSERT INTO t VALUES (1, 'other')")
    with connection.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(1, 101):
                copy.write_row((number, f"v{number}"))
        assert cursor.rowcount == 100
        with cursor.copy("COPY (SELECT * FROM t WHERE id < %s ORDER BY id) TO STDOUT", (3,)) as copy:
            assert list(copy.rows()) == [("1", "v1"), ("2", "v2")]
        with refuses("54000"), cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(101, 3102):
                copy.write_row((number, "x"))
    assert one(connection, "SELECT count(*) FROM t") == 100
    with refuses("40001"):
        other.execute("COMMIT")


def test_cancelling_and_deadlines_of_the_server_do_nothing(place: Place):
    connection = place.connect()
    connection.execute("SET statement_timeout = '10ms'")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(connection.execute, "SELECT pg_sleep(0.3), 7")
        time.sleep(0.05)
        connection.cancel_safe(timeout=5)
        assert running.result(10).fetchone()[1] == 7


def test_odd_queries(place: Place):
    connection = place.connect()
    assert connection.execute("").statusmessage in (None, "")
    assert connection.execute(" ; -- nothing\n ;").statusmessage in (None, "")
    with refuses("42601"):
        connection.execute("SELECT %s; SELECT 2", (1,))
    with refuses("42601"):
        connection.execute("SELECT 'open")
    connection.execute("COMMIT")
    cursor = connection.execute("BEGIN; SELECT 1; COMMIT; SELECT 2")
    assert [cursor.statusmessage for _ in iter(cursor.nextset, None)] == ["SELECT 1", "COMMIT", "SELECT 1"]
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_statements_are_told_apart_as_postgresql_does():
    text = """SELECT ';' AS "a;""b", $x$ ; $$ ; $x$, E'\\';' /* ; /* ; */ ; */ -- ;
    ; ; SELECT $1;"""
    assert [sql for sql, _ in split(text)] == [text[: text.index("$x$, E")] + "$x$, E'\\';'", "SELECT $1"]


def test_many_at_once(place: Place):
    place.table()
    barrier = threading.Barrier(40)

    def work(number: int) -> int:
        barrier.wait(60)
        with closing(place.client.connect(connect_timeout=60)) as connection:
            connection.execute("INSERT INTO t VALUES (%s, 'a')", (number,))
            return int(one(connection, "SELECT 1"))

    with ThreadPoolExecutor(40) as pool:
        assert sum(pool.map(work, range(40))) == 40
    assert one(place.connect(), "SELECT count(*) FROM t") == 40


# ----------------------------------------------------------------------------------------- coming and going


def test_emptying_leaves_nothing(place: Place):
    connection = place.table("a")
    connection.execute("CREATE ROLE leftover")
    place.faults.conflicts = 5
    place.standin.reset()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    fresh = place.connect()
    assert one(fresh, "SELECT to_regclass('t')") is None
    assert one(fresh, "SELECT count(*) FROM pg_roles WHERE rolname = 'leftover'") == 0
    assert (place.faults.conflicts, len(place.standin.connections)) == (0, 1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_leaves_no_process_and_no_file():
    with StandIn() as standin:
        connection = Client.of(standin).connect()
        connection.execute("SELECT 1")
        port, directory = standin.port, standin.ca_file.parent
        server = int((directory / "data" / "postmaster.pid").read_text().split()[0])
        assert alive(server)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    assert not alive(server)
    assert not directory.exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=port, connect_timeout=5)
    with pytest.raises(RuntimeError, match="call start"):
        _ = standin.port


def test_it_leaves_nothing_when_its_process_is_killed():
    code = (
        "import sys, time\nfrom temporal_ecs.sandbox.dsql import StandIn\n"
        "standin = StandIn().start()\nprint(standin.ca_file.parent, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        directory = Path(child.stdout.readline().strip())
        server = int((directory / "data" / "postmaster.pid").read_text().split()[0])
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while (directory.exists() or alive(server)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()
    assert not alive(server)


def test_the_sandbox_brings_it_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sandbox = process.start(tmp_path, speed=10_000, lifetime=120, region="us-west-2")
    try:
        assert process.find(tmp_path) == sandbox
        for name, value in process.environment(sandbox).items():
            monkeypatch.setenv(name, value)
        control = boto3.client("dsql")
        endpoint = control.create_cluster(deletionProtectionEnabled=False)["endpoint"]
        client = Client(endpoint, {"dbname": "postgres"}, "sandbox", "sandbox")
        while control.get_cluster(identifier=endpoint.partition(".")[0])["status"] != "ACTIVE":
            time.sleep(0.02)
        with closing(client.connect()) as connection:
            connection.execute("CREATE TABLE t (id int)")
            process.break_dsql(sandbox, conflicts=1, latency=0.001)
            with refuses("40001"):
                connection.execute("INSERT INTO t VALUES (1)")
            connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(TecsError, match="no fault of DSQL: nonsense"):
            process.break_dsql(sandbox, nonsense=1)
        nowhere = Client(f"{'z' * 26}.dsql.us-west-2.on.aws", {}, "sandbox", "sandbox")
        with pytest.raises(psycopg.OperationalError, match="access denied"):
            nowhere.connect()
    finally:
        process.stop(tmp_path)
    assert not Path(sandbox.dsql_ca).exists()
    assert datetime.fromisoformat(sandbox.started) <= datetime.now(UTC)
