"""Statements in the place of one that met a row newer than its snapshot.

DSQL answers such a statement from the snapshot and refuses the commit. PostgreSQL refuses the statement; what the
answer would have been is asked for here with a statement that changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from temporal_ecs.sandbox.dsql import wire
from temporal_ecs.sandbox.dsql.backend import Outcome
from temporal_ecs.sandbox.dsql.lexer import Token, outer, position, starts
from temporal_ecs.sandbox.dsql.statements import Kind, Statement


@dataclass(frozen=True)
class Substitute:
    """A statement with the same parameters, and the command whose answer it gives; none: its own rows."""

    sql: str
    command: str = ""

    def answer(self, refused: Outcome, result: Outcome) -> Outcome:
        """The answer to the client: what came before the refusal, then what the substitute found."""
        before = b"".join(raw for raw in wire.messages(bytes(refused.replies)) if raw[:1] != b"D")
        if self.command:
            return Outcome(bytearray(before), wire.complete(f"{self.command} {result.rows[0][0]}"))
        rows = b"".join(raw for raw in wire.messages(bytes(result.replies)) if raw[:1] == b"D")
        return Outcome(bytearray(before + rows), result.final)


def unconflicted(statement: Statement) -> Substitute | None:
    """What shows the answer from the snapshot; None if there is no simple statement for it."""
    found, sql = statement.tokens, statement.sql
    if statement.kind is Kind.LOCK:
        return Substitute(_without_locks(sql, found))
    if outer(found, "RETURNING") is not None:
        return None
    first = found[0].word
    if first == "DELETE" and outer(found, "USING") is None:
        return Substitute(f"SELECT count(*) {sql[found[1].start :]}", "DELETE")
    if first == "UPDATE" and outer(found, "FROM") is None:
        target, where = outer(found, "SET"), outer(found, "WHERE")
        condition = sql[found[where].start :] if where is not None else ""
        table = sql[found[1].start : found[target or 0].start]
        return Substitute(f"SELECT count(*) FROM {table} {condition}", "UPDATE")
    if first == "INSERT" and (rows := _rows(found)):
        return Substitute(f"SELECT {rows}", "INSERT 0")
    return None


def unless_duplicate(statement: Statement) -> str | None:
    """An INSERT that is refused with 40001 if the row in its way isn't in the snapshot, and does nothing if it is."""
    found, sql = statement.tokens, statement.sql
    if found[0].word != "INSERT" or _conflict_clause(found) is not None:
        return None
    returning = outer(found, "RETURNING")
    end = found[returning].start if returning is not None else len(sql)
    return f"{sql[:end]} ON CONFLICT DO NOTHING {sql[end:]}"


def _conflict_clause(found: Sequence[Token]) -> int | None:
    return position(found, "ON", "CONFLICT")


def _rows(found: Sequence[Token]) -> int:
    """How many rows a list of VALUES has."""
    start = outer(found, "VALUES")
    if start is None:
        return 0
    rest = found[start + 1 : _conflict_clause(found)]
    depth = rows = 0
    for token in rest:
        rows += depth == 0 and token.text == "("
        depth += {"(": 1, ")": -1}.get(token.text, 0)
    return rows


def _without_locks(sql: str, found: Sequence[Token]) -> str:
    """A SELECT without its locking clauses."""
    at = next(i for i in range(len(found)) if starts(found[i:], "FOR", "UPDATE") or starts(found[i:], "FOR", "KEY"))
    end = at + (2 if found[at + 1].word == "UPDATE" else 3)
    if starts(found[end:], "OF"):
        end += 2
        while starts(found[end:], ",") or starts(found[end:], "."):
            end += 2
    if starts(found[end:], "NOWAIT"):
        end += 1
    elif starts(found[end:], "SKIP", "LOCKED"):
        end += 2
    rest = sql[found[end].start :] if end < len(found) else ""
    return f"{sql[: found[at].start]} {rest}"
