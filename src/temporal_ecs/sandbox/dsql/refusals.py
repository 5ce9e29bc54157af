"""What DSQL refuses whatever the transaction: statements, clauses and types, with its SQLSTATE and message.

The texts were recorded on a cluster on 2026-09-15 and 2026-09-18. `OURS` marks refusals that are documented, but
whose wording nobody recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from temporal_ecs.sandbox.dsql.lexer import Token, commas, depths, inside, outer, position, starts

UNSUPPORTED = "0A000"


class Refusal(NamedTuple):
    """A SQLSTATE and a message."""

    code: str
    text: str


_STATEMENTS = (
    ("TRUNCATE", "unsupported statement: Truncate"),
    ("CREATE EXTENSION", "unsupported statement: CreateExtension"),
    ("CREATE DATABASE", "unsupported statement: Createdb"),
    ("CREATE TABLESPACE", "unsupported statement: CreateTableSpace"),
    ("CREATE FOREIGN TABLE", "unsupported statement: CreateForeignTable"),
    ("CREATE MATERIALIZED VIEW", "unsupported statement: CreateTableAs"),
    ("CREATE TRIGGER", "CREATE TRIGGER not supported"),
    ("CREATE CONSTRAINT TRIGGER", "CREATE TRIGGER not supported"),
    ("CREATE OR REPLACE TRIGGER", "CREATE TRIGGER not supported"),
    ("CREATE TEMP|TEMPORARY TABLE", "TEMPORARY or TEMP table not supported for CREATE TABLE"),
    ("CREATE LOCAL|GLOBAL TEMP|TEMPORARY TABLE", "TEMPORARY or TEMP table not supported for CREATE TABLE"),
    ("CREATE UNLOGGED TABLE", "UNLOGGED table not supported for CREATE TABLE"),
    ("LISTEN", "unsupported statement: Listen"),
    ("NOTIFY", "unsupported statement: Notify"),
    ("UNLISTEN", "unsupported statement: Unlisten"),
    ("ALTER SYSTEM", "unsupported statement: AlterSystem"),
    ("VACUUM", "unsupported VACUUM statement"),
    ("SAVEPOINT", "unsupported transaction statement: SAVEPOINT"),
    ("ROLLBACK TO", "unsupported transaction statement: ROLLBACK TO"),
    ("ROLLBACK WORK|TRANSACTION TO", "unsupported transaction statement: ROLLBACK TO"),
)
_OURS = (
    ("RELEASE", "unsupported transaction statement: RELEASE"),
    ("PREPARE TRANSACTION", "unsupported transaction statement: PREPARE TRANSACTION"),
    ("COMMIT|ROLLBACK PREPARED", "unsupported transaction statement: COMMIT or ROLLBACK PREPARED"),
    ("COMMIT|ROLLBACK|END|ABORT AND CHAIN", "unsupported transaction statement: AND CHAIN"),
    ("LOCK", "unsupported statement: Lock"),
    ("DO", "unsupported statement: Do"),
    ("DROP DATABASE", "unsupported statement: Dropdb"),
    ("ALTER TABLE ASYNC", "ALTER TABLE ASYNC isn't in the stand-in"),
)
_PREFIXES = tuple((tuple(words.split()), text) for words, text in _STATEMENTS + _OURS)

_SERIAL = {"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"}
_NO_COLUMNS = {
    "money", "xml", "inet", "cidr", "macaddr", "macaddr8", "point", "line", "lseg", "box", "path", "polygon", "circle",
    "tsvector", "tsquery", "pg_lsn", "int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange", "bit",
    "varbit",
}  # fmt: skip
_CANONICAL = {
    "varbit": "bit varying", "int": "integer", "int4": "integer", "int2": "smallint", "int8": "bigint",
    "bool": "boolean", "float8": "double precision", "float4": "real", "varchar": "character varying",
}  # fmt: skip


def refusal(found: Sequence[Token]) -> Refusal | None:
    """What DSQL answers to a statement that it never does, or None."""
    for words, text in _PREFIXES:
        if starts(found, *words):
            return Refusal(UNSUPPORTED, text)
    special = _BY_START.get((found[0].word, found[1].word if len(found) > 1 else "")) or _BY_START.get(
        (found[0].word, "")
    )
    return (special(found) if special else None) or _locking(found)


def _locking(found: Sequence[Token]) -> Refusal | None:
    for words in (("FOR", "SHARE"), ("FOR", "NO", "KEY", "UPDATE")):
        if position(found, *words) and not starts(found, "CREATE|ALTER|GRANT|REVOKE|COMMENT"):
            return Refusal(UNSUPPORTED, "locking clauses other than FOR UPDATE/FOR KEY SHARE are not supported")
    return None


def _setting(found: Sequence[Token]) -> Refusal | None:
    rest = found[1:]
    while rest and rest[0].word in ("SESSION", "LOCAL") and not starts(rest, "SESSION", "CHARACTERISTICS"):
        rest = rest[1:]
    if refused := _isolation(found):
        return refused
    name = rest[0].name if rest else ""
    if starts(rest, "TRANSACTION") or starts(rest, "SESSION", "CHARACTERISTICS"):
        name = "TRANSACTION"
    if name in ("TRANSACTION", "default_transaction_isolation", "transaction_isolation"):
        return Refusal(UNSUPPORTED, f'setting configuration parameter "{name}" not supported')
    return None


def _isolation(found: Sequence[Token]) -> Refusal | None:
    at = position(found, "ISOLATION", "LEVEL")
    if at is None or starts(found[at + 2 :], "REPEATABLE", "READ"):
        return None
    size = 1 if starts(found[at + 2 :], "SERIALIZABLE") else 2
    level = " ".join(token.word for token in found[at + 2 : at + 2 + size])
    return Refusal(UNSUPPORTED, f"Unsupported isolation level: {level}")


def _type(found: Sequence[Token]) -> Refusal | None:
    if position(found, "AS", "RANGE"):
        return Refusal(UNSUPPORTED, "unsupported statement: CreateRange")
    if position(found, "AS", "("):
        return Refusal(UNSUPPORTED, "unsupported statement: CompositeType")
    return Refusal(UNSUPPORTED, "CREATE TYPE not supported")


def _function(found: Sequence[Token]) -> Refusal | None:
    at = position(found, "LANGUAGE")
    language = found[at + 1].text.strip("'").lower() if at is not None and at + 1 < len(found) else "sql"
    if language == "sql":
        return None
    what = "PROCEDURE" if position(found[:4], "PROCEDURE") else "FUNCTION"
    return Refusal(UNSUPPORTED, f"CREATE {what} with language {language} not supported")


def _sequence(found: Sequence[Token]) -> Refusal | None:
    at = position(found, "AS")
    if at is not None and found[at + 1].name not in ("bigint", "int8"):
        return Refusal(UNSUPPORTED, f"datatype {_canonical(found[at + 1])} not supported, sequence must be bigint")
    return None if _cached(found) else _uncached("CREATE SEQUENCE")


def _cached(found: Sequence[Token]) -> bool:
    at = position(found, "CACHE")
    size = found[at + 1].text if at is not None and at + 1 < len(found) else ""
    return size.isdigit() and (size == "1" or int(size) >= 65536)


def _uncached(what: str) -> Refusal:
    return Refusal(
        UNSUPPORTED,
        f"{what} is not supported without an explicit cache size. "
        "please define CACHE greater than or equal to 65536 or equal to 1",
    )


def _index(found: Sequence[Token]) -> Refusal | None:
    rest = found[2 if found[1].word == "INDEX" else 3 :]
    if not starts(rest, "ASYNC"):
        return Refusal(UNSUPPORTED, "unsupported mode. please use CREATE INDEX ASYNC.")
    on = outer(rest, "ON")
    if on is None:
        return None  # PostgreSQL's syntax error says it better
    for token in rest[:on]:
        if token.text == "." or token.word == "CONCURRENTLY":
            return _syntax(token)
    opening = next((i for i in range(on, len(rest)) if rest[i].text == "("), len(rest))
    for token in rest[on:opening]:
        if token.word == "USING":
            return _syntax(token)
    for part in inside(rest, opening):
        for depth, token in [*depths(part)][1:]:
            if depth == 0 and token.kind == "word" and token.word not in ("NULLS", "FIRST", "LAST"):
                return _syntax(token)  # ASC, DESC, COLLATE, an operator class
    return None


def _syntax(token: Token) -> Refusal:
    return Refusal("42601", f'syntax error at or near "{token.text}"')


def _create_table(found: Sequence[Token]) -> Refusal | None:
    opening = next((i for i, token in enumerate(found) if token.text == "("), len(found))
    if outer(found, "AS") is not None:
        return Refusal(UNSUPPORTED, "unsupported statement: CreateTableAs")
    for word in ("INHERITS", "PARTITION"):
        if outer(found, word) is not None:
            return Refusal(UNSUPPORTED, f"{word} not supported for CREATE TABLE")
    for part in inside(found, opening):
        if not part or part[0].word in ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "LIKE"):
            continue
        if part[0].word == "EXCLUDE" or outer(part, "COLLATE"):
            return Refusal(UNSUPPORTED, f"{'EXCLUDE' if part[0].word == 'EXCLUDE' else 'COLLATE'} not supported")
        if refused := _column_type(part) or _identity(part):
            return refused
    return None


def _column_type(column: Sequence[Token]) -> Refusal | None:
    """By the type of a column definition: name, type, the rest."""
    if len(column) < 2:
        return None
    kind = column[1].name
    if kind in _SERIAL:
        return Refusal("42704", f'type "{kind}" does not exist')
    end = next((i for i, token in enumerate(column) if i > 1 and token.word in _AFTER_TYPE), len(column))
    if any(token.text == "[" or token.word == "ARRAY" for token in column[2:end]):
        return Refusal(UNSUPPORTED, f"datatype {_canonical(column[1])}[] not supported")
    if kind in _NO_COLUMNS:
        name = "bit varying" if starts(column[1:], "BIT", "VARYING") else _canonical(column[1])
        return Refusal(UNSUPPORTED, f"datatype {name} not supported")
    return None


_CONSTRAINTS = ("NOT", "NULL", "DEFAULT", "CHECK", "UNIQUE", "PRIMARY", "REFERENCES", "GENERATED", "CONSTRAINT")
_AFTER_TYPE = (*_CONSTRAINTS, "COLLATE", "STORAGE")


def _identity(column: Sequence[Token]) -> Refusal | None:
    if not position(column, "AS", "IDENTITY"):
        return None
    if column[1].name not in ("bigint", "int8"):
        name = _canonical(column[1])
        return Refusal(UNSUPPORTED, f"datatype {name} not supported, identity column type must be bigint")
    return None if _cached(column) else _uncached("identity column")


def _canonical(token: Token) -> str:
    return _CANONICAL.get(token.name, token.name)


def _alter_table(found: Sequence[Token]) -> Refusal | None:
    rest = found[2:]
    for words in (("IF", "EXISTS"), ("ONLY",)):
        if starts(rest, *words):
            rest = rest[len(words) :]
    at = outer(rest, "ADD", "ALTER", "VALIDATE", "DROP", "RENAME", "SET", "OWNER", "ATTACH", "DETACH")
    for action in commas(rest[at:]) if at is not None else ():
        if refused := _alteration(action):
            return refused
    return None


def _alteration(action: Sequence[Token]) -> Refusal | None:
    if starts(action, "VALIDATE"):
        return Refusal(UNSUPPORTED, "unsupported ALTER TABLE VALIDATE CONSTRAINT statement")
    if starts(action, "ALTER") and outer(action, "TYPE") is not None:
        return Refusal(UNSUPPORTED, "unsupported ALTER TABLE ALTER COLUMN ... SET DATA TYPE statement")
    if not starts(action, "ADD"):
        return None
    if starts(action[1:], "CONSTRAINT|PRIMARY|UNIQUE|CHECK|FOREIGN|EXCLUDE"):
        checked_later = position(action, "NOT", "VALID") and outer(action, "CHECK", "FOREIGN") is not None
        adopts = position(action, "UNIQUE", "USING", "INDEX")
        if checked_later or adopts:
            return None
        return Refusal(UNSUPPORTED, "unsupported ALTER TABLE ADD CONSTRAINT statement")
    column = action[2 if starts(action[1:], "COLUMN") else 1 :]
    if starts(column, "IF", "NOT", "EXISTS"):
        column = column[3:]
    if refused := _column_type(column):
        return refused
    if outer(column[1:], *_CONSTRAINTS) is not None:
        return Refusal(UNSUPPORTED, "ALTER TABLE ADD COLUMN with constraint not supported")
    return None


_BY_START = {
    ("SET", ""): _setting,
    ("BEGIN", ""): _isolation,
    ("START", "TRANSACTION"): _isolation,
    ("CREATE", "TYPE"): _type,
    ("CREATE", "FUNCTION"): _function,
    ("CREATE", "PROCEDURE"): _function,
    ("CREATE", "OR"): _function,
    ("CREATE", "SEQUENCE"): _sequence,
    ("CREATE", "INDEX"): _index,
    ("CREATE", "UNIQUE"): _index,
    ("CREATE", "TABLE"): _create_table,
    ("ALTER", "TABLE"): _alter_table,
}
