"""The table of truth holds: on the stand-in, and on a real cluster if TECS_TEST_DSQL_ENDPOINT names one.

The real cluster is reached with the credentials of botocore's own chain. What is in its schema `public` under the names
of the table is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest
from dsql_client import Client, real_endpoint
from dsql_truth import CLEANUP, SETUP, TRUTHS, Truth

from temporal_ecs.sandbox.dsql import Limits, StandIn

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
