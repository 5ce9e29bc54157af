"""What a statement is, as far as DSQL's rules tell statements apart, and how PostgreSQL is to be asked for it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from temporal_ecs.sandbox.dsql import lexer, refusals
from temporal_ecs.sandbox.dsql.lexer import Token, outer, position, starts
from temporal_ecs.sandbox.dsql.refusals import Refusal


class Kind(Enum):
    """What a statement does to a transaction."""

    READ = "read"
    LOCK = "lock"  # SELECT FOR UPDATE or FOR KEY SHARE
    WRITE = "write"
    DDL = "ddl"
    INDEX = "index"  # CREATE INDEX ASYNC
    MAPPING = "mapping"  # AWS IAM GRANT and REVOKE
    WAIT = "wait"  # CALL sys.wait_for_job
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SETTING = "setting"
    IGNORED = "ignored"  # accepted, without effect
    OTHER = "other"

    @property
    def changes_schema(self) -> bool:
        """Whether it counts as DDL."""
        return self in (Kind.DDL, Kind.INDEX, Kind.MAPPING)

    @property
    def writes(self) -> bool:
        """Whether it takes locks that another transaction may wait for."""
        return self in (Kind.WRITE, Kind.LOCK, Kind.OTHER) or self.changes_schema

    @property
    def repeats(self) -> bool:
        """Whether a transaction that gave way has to do it again."""
        return self.writes or self is Kind.SETTING

    @property
    def controls(self) -> bool:
        """Whether it only begins or ends a transaction."""
        return self in (Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK)


@dataclass(frozen=True)
class Statement:
    """One statement. `text` is the client's, `sql` is what PostgreSQL gets."""

    text: str
    sql: str
    kind: Kind
    tokens: tuple[Token, ...] = ()
    refusal: Refusal | None = None

    @property
    def tag(self) -> str:
        """The command tag where the front answers itself."""
        first = self.tokens[0].word
        return {"START": "START TRANSACTION", "END": "COMMIT", "ABORT": "ROLLBACK"}.get(first, first)


def read(sql: str) -> tuple[Statement, ...]:
    """The statements of a text, each told apart and judged by the rules that need no context."""
    return _remembered(sql) if len(sql) < _LONG else _remembered.__wrapped__(sql)


_LONG = 20_000


@functools.lru_cache(maxsize=2048)
def _remembered(sql: str) -> tuple[Statement, ...]:
    return tuple(_statement(text, found) for text, found in lexer.statements(sql))


_DML = ("INSERT", "UPDATE", "DELETE", "MERGE")
_FIRST = {
    "SELECT": Kind.READ, "WITH": Kind.READ, "TABLE": Kind.READ, "VALUES": Kind.READ, "SHOW": Kind.READ,
    "EXPLAIN": Kind.READ, "(": Kind.READ, "FETCH": Kind.OTHER, "BEGIN": Kind.BEGIN, "START": Kind.BEGIN,
    "COMMIT": Kind.COMMIT, "END": Kind.COMMIT, "ROLLBACK": Kind.ROLLBACK, "ABORT": Kind.ROLLBACK,
    "SET": Kind.SETTING, "RESET": Kind.SETTING, "DISCARD": Kind.SETTING, "DEALLOCATE": Kind.READ,
    "PREPARE": Kind.READ, "CREATE": Kind.DDL, "ALTER": Kind.DDL, "DROP": Kind.DDL, "GRANT": Kind.DDL,
    "REVOKE": Kind.DDL, "COMMENT": Kind.DDL, **dict.fromkeys(_DML, Kind.WRITE),
}  # fmt: skip
_WITHOUT_EFFECT = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
"""Settings that DSQL accepts and doesn't act on. The stand-in's own locks depend on the second."""


def _statement(text: str, found: list[Token]) -> Statement:
    kind, sql = _kind(found), text
    refusal = refusals.refusal(found)
    if kind is Kind.INDEX and not refusal:
        sql = _without(text, [found[1], found[3]] if found[1].word == "UNIQUE" else [found[2]])
    return Statement(text, sql, kind, tuple(found), refusal)


def _kind(found: Sequence[Token]) -> Kind:
    first = found[0].word
    kind = _FIRST.get(first, Kind.OTHER)
    if kind is Kind.READ and first != "SHOW":
        words = {token.word for token in found}
        if words.intersection(_DML) and (first in ("WITH", "EXPLAIN")) and _modifies(found):
            return Kind.WRITE
        if "FOR" in words and (position(found, "FOR", "UPDATE") or position(found, "FOR", "KEY", "SHARE")):
            return Kind.LOCK
    if kind is Kind.DDL and starts(found, "CREATE", "INDEX|UNIQUE"):
        return Kind.INDEX
    if kind is Kind.SETTING and _named_setting(found) in _WITHOUT_EFFECT:
        return Kind.IGNORED
    if starts(found, "AWS", "IAM", "GRANT|REVOKE"):
        return Kind.MAPPING
    if starts(found, "CALL", "SYS", ".", "WAIT_FOR_JOB"):
        return Kind.WAIT
    if first == "COPY":
        return Kind.WRITE if outer(found, "FROM") else Kind.READ
    return kind


def _modifies(found: Sequence[Token]) -> bool:
    """Whether a WITH or an EXPLAIN ANALYZE changes rows; FOR UPDATE doesn't."""
    return any(
        token.word in _DML and (at == 0 or found[at - 1].word not in ("FOR", "KEY")) for at, token in enumerate(found)
    )


def _named_setting(found: Sequence[Token]) -> str:
    for token in found[1:3]:
        if token.word not in ("SESSION", "LOCAL"):
            return token.name
    return ""


def _without(text: str, dropped: Sequence[Token]) -> str:
    """The text with some tokens made blank, so that positions in errors stay right."""
    for token in dropped:
        text = text[: token.start] + " " * (token.end - token.start) + text[token.end :]
    return text


def is_unique(statement: Statement) -> bool:
    """Whether an index statement makes a unique one."""
    return statement.tokens[1].word == "UNIQUE"


def indexed_table(statement: Statement) -> str:
    """The table that an index statement names, as it is written there."""
    at = outer(statement.tokens, "ON")
    assert at is not None
    rest = statement.tokens[at + 1 :]
    if rest[0].word == "ONLY":
        rest = rest[1:]
    end = next((i for i, token in enumerate(rest) if token.text == "(" or token.word == "USING"), len(rest))
    return "".join(token.text for token in rest[:end])
