"""The way into DSQL: tokens, TLS, refusals in words, units of work, and the budget of connections."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud import KEYS, PROJECT, REGION
from databases import Place, run
from temporal_ecs.aws import Aws, dsql_region
from temporal_ecs.dsql.connect import CONNECTIONS, Session, connect
from temporal_ecs.dsql.database import Database, RefusedError, UnknownOutcomeError
from temporal_ecs.dsql.refusals import UnreachableError
from temporal_ecs.errors import TecsError
from temporal_ecs.pace import Bucket
from temporal_ecs.services import (
    DSQL_CONNECTION_BURST,
    DSQL_CONNECTIONS,
    DSQL_CONNECTIONS_PER_SECOND,
    PRESETS,
    TEMPORAL,
    connection_limits,
    connections_used,
    headroom,
    surge,
)


def table(place: Place) -> Database:
    database = place.database()
    database.make("CREATE TABLE t (a INTEGER PRIMARY KEY)")
    return database


# -- tokens and TLS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("admin", "action"), [(True, "DbConnectAdmin"), (False, "DbConnect")])
def test_a_token_is_a_presigned_request_for_the_endpoints_own_region(admin: bool, action: str):
    aws = Aws(PROJECT, REGION, credentials=KEYS)
    token = urlsplit(f"https://{aws.dsql_token('abc.dsql.us-east-2.on.aws', admin=admin)}")
    query = {name: values[0] for name, values in parse_qs(token.query).items()}
    assert token.netloc == "abc.dsql.us-east-2.on.aws"
    assert query["Action"] == action
    assert query["X-Amz-Expires"] == "900"
    assert query["X-Amz-Credential"].endswith("/us-east-2/dsql/aws4_request")
    assert not aws.calls


def test_the_region_of_an_endpoint_is_in_its_name():
    assert dsql_region("abc.dsql.eu-west-1.on.aws") == "eu-west-1"
    assert dsql_region("abc.dsql-fnh4.us-east-1.on.aws") == "us-east-1"
    assert dsql_region("database.example") == ""


def test_every_connection_has_its_own_token_and_speaks_verified_tls_in_utc(place: Place):
    first, second = place.database(), place.database()
    for database in (first, second, first):
        assert database.rows("SHOW timezone") == [("UTC",)]
    assert len(place.tokens) == 2
    assert [(c.action, c.result) for c in place.standin.connections] == [("DbConnectAdmin", "ok")] * 2


def test_another_user_than_admin_signs_the_plain_action(place: Place):
    admin = place.database()
    admin.execute("CREATE ROLE reader WITH LOGIN")

    def token() -> str:
        return place.aws.dsql_token(place.host, admin=False)

    database = place.database(target={"user": "reader"}, token=token)
    with pytest.raises(UnreachableError) as refused:  # no role of IAM is mapped to it yet
        database.rows("SELECT 1")
    assert "Allow dsql:DbConnect on arn:aws:dsql:eu-west-1:123456789012:cluster/test" in refused.value.hint
    admin.execute("AWS IAM GRANT reader TO 'arn:aws:iam::123456789012:role/reader'")
    assert database.rows("SELECT session_user") == [("reader",)]
    assert place.standin.connections[-1].action == "DbConnect"


def test_variables_for_other_databases_lead_nowhere_else(place: Place, monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "PGHOSTADDR": "127.0.0.9", "PGPORT": "9", "PGSSLMODE": "disable", "PGTZ": "Asia/Tokyo", "PGDATABASE": "other",
        "PGOPTIONS": "-c nonsense=1", "PGSSLROOTCERT": "/nowhere", "PGUSER": "other", "PGCHANNELBINDING": "require",
        "PGSSLCERT": "/nowhere", "PGTARGETSESSIONATTRS": "standby", "PGCLIENTENCODING": "LATIN1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert place.database().rows("SHOW timezone") == [("UTC",)]


# -- refusals: one message with the remedy -------------------------------------------------------------------


def other_keys(place: Place, **keys: str) -> Callable[[], str]:
    aws = Aws(PROJECT, REGION, credentials={"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"} | keys)
    return lambda: aws.dsql_token(place.host, admin=True)


@contextmanager
def speaking(answer: bytes) -> Iterator[int]:
    """Something that is no database; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


REFUSALS = {
    "wrong action": (
        {"token": lambda p: lambda: p.aws.dsql_token(p.host, admin=False)},
        "mapping", "does not let 'admin' in with a token for dsql:DbConnectAdmin", "Only the user admin goes with",
    ),
    "a token for another host": (
        {"token": lambda p: lambda: p.aws.dsql_token(p.standin.host("other"), admin=True)},
        "keys", "does not accept these AWS keys", "the endpoint is this very cluster's",
    ),
    "a token for another region": (
        {"token": lambda p: lambda: p.aws.dsql_token(p.host.replace("eu-west-1", "us-east-1"), admin=True)},
        "keys", "Credential should be scoped to", "Check the profile or the keys",
    ),
    "a wrong secret": (
        {"token": lambda p: other_keys(p, aws_secret_access_key="wrong")},
        "keys", "signature we calculated does not match", "Check the profile or the keys",
    ),
    "an unknown key": (
        {"token": lambda p: other_keys(p, aws_access_key_id="AKIAUNKNOWN")},
        "keys", "security token included in the request is invalid", "Check the profile or the keys",
    ),
    "a clock that is behind": (
        {"ahead": 20 * 60}, "expired", "this machine's clock is 20 min behind AWS's", "Set the clock",
    ),
    "a clock that is ahead": (
        {"ahead": -20 * 60}, "early", "clock is ahead of AWS's", "Set the clock",
    ),
    "roots that do not know it": (
        {"target": {"roots": ""}}, "trust", "is not signed by a root that tecs trusts", "No token was sent",
    ),
    "no roots": (
        {"target": {"roots": "/nowhere.pem"}}, "no roots", "the trusted roots cannot be read", "TECS_DSQL_CA",
    ),
    "no such host": (
        {"target": {"host": "abc.invalid", "address": ""}}, "no such host", "there is no host abc.invalid", "DNS",
    ),
    "nobody there": (
        {"target": {"port": 9}}, "silent", "does not answer on port 9", "Open TCP 5432",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("how", "kind", "said", "remedy"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_connection_is_explained_in_one_message(place: Place, how: dict, kind: str, said: str, remedy: str):
    place.clock.ahead = how.get("ahead", 0.0)
    token = how["token"](place) if "token" in how else place.token
    with pytest.raises(UnreachableError) as refused:
        place.database(token=token, target=how.get("target", {}), clock=place.leaping()).rows("SELECT 1")
    assert refused.value.kind == kind
    assert said in refused.value.message
    assert remedy in refused.value.hint
    assert "\n" not in refused.value.message
    assert "X-Amz" not in refused.value.message + refused.value.hint
    tries = sum(c.result != "no password" for c in place.standin.connections)
    assert tries <= (2 if kind == "expired" else 1)


def test_a_certificate_for_another_name_is_refused_before_a_token_is_sent(place: Place):
    target = {"host": "db.example", "roots": str(place.standin.ca_file)}
    with pytest.raises(UnreachableError) as refused:
        place.database(target=target).rows("SELECT 1")
    assert refused.value.kind in ("name", "cut", "unknown", "trust")
    assert not any(c.action for c in place.standin.connections)


@pytest.mark.parametrize(
    ("answer", "said"), [(b"N", "breaks every connection off"), (b"HTTP/1.1 400 Bad\r\n\r\n", "does not speak TLS")]
)
def test_what_speaks_no_tls_gets_no_token(place: Place, answer: bytes, said: str):
    with speaking(answer) as port, pytest.raises(UnreachableError) as refused:
        place.database(target={"port": port}, clock=place.leaping()).rows("SELECT 1")
    assert said in refused.value.message
    assert "TECS_DSQL_PORT" in refused.value.hint


def test_a_denial_names_the_action_and_the_cluster_to_allow(place: Place):
    place.faults.access_denied = 5
    with pytest.raises(UnreachableError) as refused:
        place.database().rows("SELECT 1")
    assert refused.value.kind == "denied"
    assert "Allow dsql:DbConnectAdmin on arn:aws:dsql:eu-west-1:123456789012:cluster/test" in refused.value.hint
    assert place.faults.access_denied == 4, "a denial is not tried again"


def test_an_expired_token_is_replaced_once(place: Place):
    place.clock.ahead = 1200.0
    old = place.token()
    place.clock.ahead = 0.0
    expired = old.replace("X-Amz-Expires=900", "X-Amz-Expires=1")
    place.clock.ahead = 5.0
    tokens = iter([expired, place.token()])
    with pytest.raises(UnreachableError):  # a forged lifetime is a wrong signature, not an expired one
        place.database(token=lambda: expired).rows("SELECT 1")
    sign = place.aws.dsql.generate_db_connect_admin_auth_token
    tokens = iter([sign(place.host, REGION, 1), place.token()])
    assert place.database(token=lambda: next(tokens)).rows("SELECT 1") == [(1,)]
    assert next(tokens, None) is None


def test_a_waking_cluster_is_waited_for_and_that_is_shown(place: Place):
    place.faults.wake(30)
    clock = place.leaping()
    assert place.database(clock=clock).rows("SELECT 1") == [(1,)]
    assert clock.slept < 60
    assert place.said == ["the cluster was asleep and wakes up: trying again for up to 180 s"]


def test_a_cluster_that_never_wakes_up_is_given_up(place: Place):
    place.faults.wake(100_000)
    clock = place.leaping()
    with pytest.raises(UnreachableError, match="has not woken up within 180 s"):
        place.database(clock=clock).rows("SELECT 1")
    assert 180 <= clock.slept < 200


@pytest.mark.parametrize(
    ("fault", "said"),
    [("too_many", "has no connection left; a cluster takes 10,000"), ("rate_exceeded", "takes no new connection")],
)
def test_limits_are_backed_off_from_and_then_named(place: Place, fault: str, said: str):
    setattr(place.faults, fault, 3)
    clock = place.leaping()
    assert place.database(clock=clock).rows("SELECT 1") == [(1,)]
    assert clock.slept >= 0.75
    assert len(place.said) == 1
    setattr(place.faults, fault, 10_000)
    with pytest.raises(UnreachableError, match=said):
        place.database(clock=clock).rows("SELECT 1")
    assert len(place.standin.connections) < 100


def test_tecs_opens_at_most_five_connections_a_second(place: Place):
    assert (CONNECTIONS.burst, CONNECTIONS.rate) == (1, 5)
    clock, pace = place.leaping(), Bucket(1, 5)
    for _ in range(11):
        connect(place.target(), place.token, clock=clock, pace=pace).close()
    assert clock.slept >= 1.5
    moments = [c.time for c in place.standin.connections]
    assert len(moments) == 11
    assert moments[-1] - moments[0] >= 1.8


# -- no token anywhere ---------------------------------------------------------------------------------------


def test_no_token_is_in_any_output_log_error_traceback_or_process_list(
    place: Place, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("psycopg").setLevel(logging.DEBUG)
    tokens: list[str] = []

    def remembered(make: Callable[[], str]) -> Callable[[], str]:
        def token() -> str:
            tokens.append(make())
            return tokens[-1]

        return token

    seen: list[str] = []
    for name, (how, *_) in REFUSALS.items():
        place.clock.ahead = how.get("ahead", 0.0)
        token = remembered(how["token"](place) if "token" in how else place.token)
        database = place.database(token=token, target=how.get("target", {}), clock=place.leaping())
        try:
            database.rows("SELECT 1")
        except TecsError as error:
            seen += everything_about(error)
        else:
            pytest.fail(f"{name} was let in")
    place.clock.ahead = 0.0
    database = place.database(token=remembered(place.token))
    for sql in ("SELECT nonsense", "TRUNCATE t"):
        with pytest.raises(RefusedError) as refused:
            database.execute(sql)
        seen += everything_about(refused.value)
    place.faults.lose_after_commit = 1
    with pytest.raises(UnknownOutcomeError) as lost:
        run(database, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
    seen += everything_about(lost.value)
    assert database.rows("SELECT 1") == [(1,)]
    seen += [repr(database), repr(vars(database)), *(str(record.__dict__) for record in caplog.records)]
    seen += [Path(f"/proc/{os.getpid()}/{kind}").read_text(errors="replace") for kind in ("cmdline", "environ")]
    seen += [*place.said, *capfd.readouterr()]
    assert len(tokens) >= len(REFUSALS)
    for token in tokens:
        signature = token.rpartition("X-Amz-Signature=")[2]
        assert len(signature) == 64
        assert not [text for text in seen if token in text or signature in text]


def everything_about(error: BaseException) -> list[str]:
    """Its texts, and its traceback with all local variables but this file's, and all that led to it."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    chain: list[traceback.TracebackException | None] = [shown]
    for each in chain:
        if each is not None:
            each.stack[:] = [frame for frame in each.stack if frame.filename != __file__]
            chain += [each.__cause__, each.__context__]
    return [str(error), repr(error), repr(error.args), repr(vars(error)), *shown.format()]


# -- units of work -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["conflicts", "stale"])
def test_conflicts_are_tried_again_five_times_at_most(place: Place, kind: str):
    database = table(place)
    clock = place.leaping()
    database.clock = clock
    setattr(place.faults, kind, 4)
    assert run(database, "INSERT INTO t VALUES (1)") == 1
    setattr(place.faults, kind, 5)
    with pytest.raises(TecsError, match="the same conflict 5 times"):
        run(database, "INSERT INTO t VALUES (2)")
    assert getattr(place.faults, kind) == 0
    assert clock.slept < 10
    assert database.rows("SELECT a FROM t") == [(1,)]


@pytest.mark.parametrize("statement", [1, 2])
def test_work_is_done_again_when_the_connection_is_lost_before_commit(place: Place, statement: int):
    database = table(place)
    place.faults.cut(statement, after=True)
    assert run(database, "INSERT INTO t VALUES (1)") == 1
    assert database.rows("SELECT count(*) FROM t") == [(1,)]
    assert len(place.tokens) == 2


@pytest.mark.parametrize(("fault", "rows"), [("lose_before_commit", 0), ("lose_after_commit", 1)])
def test_work_is_never_done_again_when_the_connection_is_lost_at_commit(place: Place, fault: str, rows: int):
    database = table(place)
    setattr(place.faults, fault, 1)
    times = itertools.count()

    with pytest.raises(UnknownOutcomeError, match="may have been done, or not"):
        database.run(lambda cursor: (next(times), cursor.execute(b"INSERT INTO t VALUES (1)")))
    assert next(times) == 1
    assert database.rows("SELECT count(*) FROM t") == [(rows,)]


def test_what_may_run_twice_is_run_again_after_a_lost_commit(place: Place):
    database = place.database()
    place.faults.lose_after_commit = 1
    database.make("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY)")
    assert database.rows("SELECT count(*) FROM t") == [(0,)]


def test_a_statement_without_an_answer_ends_on_our_side(place: Place):
    database = table(place)
    impatient = place.database(deadline=0.3)
    impatient.rows("SELECT 1")
    place.faults.latency = 3.0
    began = time.monotonic()
    with pytest.raises(TecsError, match="did not answer within 0 s; the connection was closed"):
        run(impatient, "INSERT INTO t VALUES (1)")
    assert time.monotonic() - began < place.faults.latency  # before the server is done
    place.faults.latency = 0.0
    assert database.rows("SELECT count(*) FROM t") == [(0,)]


def test_an_interrupt_ends_a_statement_at_once(place: Place):
    database = table(place)
    place.faults.latency = 5.0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            database.rows("SELECT 1")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < place.faults.latency  # before the server is done
    place.faults.latency = 0.0
    assert database.rows("SELECT 1") == [(1,)]


def test_a_unit_of_work_that_fails_leaves_nothing_behind(place: Place):
    database = table(place)

    def work(cursor) -> None:
        cursor.execute(b"INSERT INTO t VALUES (1)")
        cursor.execute(b"INSERT INTO t VALUES (1)")

    with pytest.raises(RefusedError) as refused:
        database.run(work)
    assert refused.value.sqlstate == "23505"
    assert database.rows("SELECT count(*) FROM t") == [(0,)]
    assert run(database, "INSERT INTO t VALUES (1)") == 1


def test_an_error_that_the_work_keeps_quiet_is_no_success(place: Place):
    database = table(place)

    def work(cursor) -> None:
        cursor.execute(b"INSERT INTO t VALUES (1)")
        try:
            cursor.execute(b"SELECT nonsense")
        except Exception:  # noqa: BLE001
            return

    with pytest.raises(TecsError, match="rolled the transaction back"):
        database.run(work)
    assert database.rows("SELECT count(*) FROM t") == [(0,)]


def test_a_unit_of_work_is_one_transaction_without_savepoints(place: Place):
    database = table(place)
    place.standin.statements.clear()
    run(database, "INSERT INTO t VALUES (1)")
    assert place.ran() == ["BEGIN", "INSERT INTO t VALUES (1)", "COMMIT"]


def test_an_old_session_is_replaced_before_dsql_ends_it(place: Place):
    clock = place.leaping()
    database = place.database(clock=clock)
    database.rows("SELECT 1")
    clock.slept += 51 * 60
    database.rows("SELECT 1")
    assert len(place.tokens) == 2


def test_a_session_that_dsql_ended_is_replaced_unseen(place: Place):
    database = place.database()
    database.rows("SELECT 1")
    place.faults.cut(1)
    assert database.rows("SELECT 1") == [(1,)]
    assert len(place.tokens) == 2


def test_nothing_but_a_session_or_a_text_comes_back_from_an_attempt(place: Place):
    opened = Session.open(place.target(), "wrong")
    assert isinstance(opened, str)
    assert "access denied" in opened


# -- the budget of connections among the services ------------------------------------------------------------

NAMES = [service.name for service in TEMPORAL]
BUDGET = (DSQL_CONNECTIONS_PER_SECOND, DSQL_CONNECTION_BURST, DSQL_CONNECTIONS)


def within(counts: dict[str, int], sizes: dict[str, int] | None = None) -> None:
    limits = connection_limits(counts, sizes)
    tasks = {name: max(1, counts[name]) for name in NAMES}
    for deployed in NAMES:  # that service's own maximumPercent: ECS rounds down
        running = tasks | {deployed: tasks[deployed] * surge(counts[deployed]) // 100}
        for field, most in zip(("rate", "burst", "pool"), BUDGET, strict=True):
            assert sum(n * getattr(limits[name], field) for name, n in running.items()) <= most
    assert all(used <= most for used, most in zip(connections_used(counts, limits), BUDGET, strict=True))


@pytest.mark.parametrize("wps", PRESETS)
def test_every_preset_stays_within_dsqls_limits_while_any_service_is_deployed(wps: int):
    preset = PRESETS[wps]
    counts = {name: size.count for name, size in preset.items()}
    within(counts, {name: size.cpu for name, size in preset.items()})
    within(counts)
    assert all(limit.pool == 20 for limit in connection_limits(counts).values())


@given(
    st.fixed_dictionaries({name: st.integers(0, 22) for name in NAMES}),
    st.fixed_dictionaries({name: st.sampled_from([256, 512, 1024, 2048, 4096]) for name in NAMES}),
)
def test_any_counts_and_sizes_stay_within_dsqls_limits(counts: dict[str, int], sizes: dict[str, int]):
    within(counts, sizes)


def test_a_pool_shrinks_only_where_the_sum_forbids_it():
    many = dict.fromkeys(NAMES, 199)
    assert {limit.pool for limit in connection_limits(many).values()} == {10_000 // (4 * 199 + 1)}


def test_a_larger_task_gets_more_of_the_budget():
    counts = dict.fromkeys(NAMES, 2)
    usual = connection_limits(counts)
    larger = connection_limits(counts, {"matching": 4096})
    assert larger["matching"].rate > usual["matching"].rate
    assert larger["history"].rate < usual["history"].rate


def test_a_deployment_of_one_task_more_is_two_more_from_200_tasks_on():
    assert [headroom(n) for n in (0, 1, 2, 7, 150, 199, 200)] == [1, 1, 1, 1, 1, 1, 2]


def test_the_presets_are_those_of_the_two_scale_scripts():
    assert list(PRESETS) == [25, 50, 75, 100, 150, 200, 400]
    assert [sum(size.count for size in preset.values()) for preset in PRESETS.values()] == [6, 9, 11, 14, 17, 44, 44]
    assert [sum(s.count * s.cpu for s in p.values()) / 1024 for p in PRESETS.values()] == [4, 7, 15, 19, 28, 99.5, 99.5]
    assert [sum(s.count * s.memory for s in p.values()) / 1024 for p in PRESETS.values()] == [
        16, 28, 60, 76, 112, 199, 199,
    ]  # fmt: skip
