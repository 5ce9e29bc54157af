"""The table of truth holds: on the stand-in, and on a real cluster if TECS_TEST_DSQL_ENDPOINT names one.

The real cluster is reached with the credentials of botocore's own chain. What is in its schema `public` under the names
of the table is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dsql_client import Client, real_endpoint
from dsql_truth import CLEANUP, CLOSED, SETUP, TRUTHS, Closed, Truth
from temporal_ecs.sandbox.dsql import Limits, StandIn
from temporal_ecs.sandbox.dsql.certificates import Authority

Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def fresh() -> Iterator[Callable[[], Client]]:
    """A client of a cluster that has nothing of the table in it."""
    if host := real_endpoint():
        real = Client(host)

        def cleaned() -> Client:
            with closing(real.connect()) as connection:
                for statement in CLEANUP:
                    again(connection, statement)
            return real

        yield cleaned
        cleaned()
        return
    with StandIn(limits=Limits(index_seconds=0.1)) as standin:

        def emptied() -> Client:
            standin.reset()
            return Client.of(standin)

        yield emptied


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_the_table_of_truth(fresh: Callable[[], Client], truth: Truth):
    client = fresh()
    with closing(client.connect()) as connection:
        for statement in SETUP:
            again(connection, statement)
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(closing(client.connect())) for name in ("1", "2")}
        last = ""
        for statement in truth.statements[:-1]:
            result = outcome(sessions, statement.format(last) if "{}" in statement else statement)
            assert not isinstance(result, psycopg.Error) or statement.startswith("?> "), (statement, result)
            if not isinstance(result, psycopg.Error):
                last = result[1][0] if result[1] else ""
        statement = truth.statements[-1]
        result = outcome(sessions, statement.format(last) if "{}" in statement else statement)
    if isinstance(result, psycopg.Error):
        assert result.sqlstate == truth.sqlstate, result
        assert truth.marker in str(result)
    else:
        assert truth.sqlstate is None, result
        assert truth.marker in f"{result[0]} {' '.join(map(str, result[1] or ()))}"


def wrong(client: Client, how: str, folder: Path) -> dict[str, Any]:
    """What to connect with, to be refused."""
    if how == "expired":
        token = client.token(expires=1)
        time.sleep(2)
        return {"token": token}
    if how == "other authority":
        return {"sslrootcert": str(Authority(folder).ca_file)}
    return {
        "wrong action": {"token": client.token(admin=False)},
        "other role": {"user": "truth_nobody"},
        "other host": {"token": client.token(host=f"x{client.host}")},
        "other region": {"token": client.token(region="ap-south-1")},
        "wrong secret": {"token": client.token()[:-1] + "!"},
        "no token": {"token": "secret"},
        "no server name": {"sslsni": 0},
        "no tls": {"sslmode": "disable"},
    }[how]


@pytest.mark.parametrize("closed", CLOSED, ids=lambda closed: closed.how)
def test_closed_doors(fresh: Callable[[], Client], closed: Closed, tmp_path: Path):
    client = fresh()
    with pytest.raises(psycopg.OperationalError) as caught:
        client.connect(**wrong(client, closed.how, tmp_path))
    assert closed.marker in str(caught.value)


def outcome(sessions: dict[str, psycopg.Connection], statement: str) -> tuple[str, Row | None] | psycopg.Error:
    """The command tag and the first row of a statement, or its refusal."""
    session = sessions["2" if statement.startswith("2> ") else "1"]
    for prefix in ("2> ", "?> "):
        statement = statement.removeprefix(prefix)
    try:
        cursor = session.execute(statement)
    except psycopg.Error as refusal:
        return refusal
    return str(cursor.statusmessage), cursor.fetchone() if cursor.description else None


def again(connection: psycopg.Connection, statement: str) -> None:
    """Do a statement, in spite of the DDL of others."""
    for _ in range(10):
        try:
            connection.execute(statement)
        except psycopg.errors.SerializationFailure:
            continue
        return
    raise AssertionError(f"always refused: {statement}")
