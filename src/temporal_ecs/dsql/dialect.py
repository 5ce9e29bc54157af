"""Statements of a schema in DSQL's dialect: rewritten so that they may run twice, or refused with the reason.

DSQL's dialect grows. The refusals are those of September 2026: Aurora DSQL user guide, "Supported SQL", "ALTER TABLE",
"Asynchronous indexes"; and recordings of a real cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .catalogue import Catalogue


class UnfitError(Exception):
    """DSQL does not take the statement, or tecs could not run it twice."""


@dataclass(frozen=True)
class Change:
    """A statement and, where the catalogue can tell, whether it has run.

    `label` names what it is about as catalogue.Difference does. `index` is one that it builds; `moves` are columns,
    table.column, that it adds, drops or renames.
    """

    sql: str
    label: str
    done: Callable[[Catalogue], bool] = lambda _: False
    index: str = ""
    moves: tuple[str, ...] = ()


WORD = r'(?:"\w+"|\w+)'
NAME = rf"(?:public\.)?({WORD})"
STRING = r"'(?:[^']|'')*'"
FORBIDDEN = (  # in any statement, with strings blanked
    (r"\b(big|small)?serial\d?\b", "DSQL has no serial types; use BIGINT and make the ids in the server"),
    (r"\w\s*\[\s*\d*\s*\]|\bARRAY\b", "DSQL stores no arrays"),
    (r"\b(PARTITION\s+(BY|OF)|INHERITS)\b", "DSQL partitions by itself"),
    (r"\bCOLLATE\b", "DSQL has the C collation only"),
    (r"\b(UNLOGGED|TEMP|TEMPORARY)\b", "DSQL has no temporary or unlogged tables"),
    (r"\bEXCLUDE\b", "DSQL has no exclusion constraints"),
    (r"\bTABLESPACE\b", "DSQL has no tablespaces"),
)
KINDS = (  # the first word or words of what cannot be run at all
    (r"DO\b", "DSQL has no PL/pgSQL"),
    (r"CREATE (OR REPLACE )?(FUNCTION|PROCEDURE|TRIGGER)\b", "DSQL has no triggers and no PL/pgSQL"),
    (r"CREATE EXTENSION\b", "DSQL has no extensions"),
    (r"CREATE TYPE\b", "DSQL has no enum, range or composite types"),
    (r"TRUNCATE\b", "DSQL has no TRUNCATE"),
    (r"(BEGIN|COMMIT|ROLLBACK|START|SAVEPOINT)\b", "tecs runs every statement in a transaction of its own"),
)


def translate(sql: str) -> list[Change]:
    """What to run for one statement, without comments and its final semicolon; UnfitError where nothing will do."""
    masked = re.sub(STRING, "''", sql)
    for pattern, reason in KINDS:
        if re.match(pattern, masked, re.IGNORECASE):
            raise UnfitError(reason)
    for pattern, reason in FORBIDDEN:
        if re.search(pattern, masked, re.IGNORECASE):
            raise UnfitError(reason)
    for pattern, rewrite in FORMS:
        if found := re.match(pattern, sql, re.IGNORECASE | re.DOTALL):
            return rewrite(found)
    raise UnfitError(f"tecs does not know how to run this twice: {' '.join(sql.split()[:4])} …")


def _bare(written: str) -> str:
    """A name as the catalogue has it."""
    return written.strip('"') if written.startswith('"') else written.lower()


def _create_table(found: re.Match[str]) -> list[Change]:
    name = _bare(found[1])
    sql = f"CREATE TABLE IF NOT EXISTS {found[1]} {found[2].strip()}"
    return [Change(sql, f"table {name}", lambda c: name in c.tables)]


def _create_index(found: re.Match[str]) -> list[Change]:
    unique, written, table, method, columns, rest = found.groups()
    name = _bare(written)
    if method and method.lower() != "btree":
        raise UnfitError(f"DSQL has no {method} indexes")
    columns = re.sub(r"\s+ASC\b", "", columns, flags=re.IGNORECASE)
    if re.search(r"\bDESC\b|\w+_ops\b", columns, re.IGNORECASE):
        raise UnfitError("DSQL's indexes have neither DESC nor operator classes")
    kind = "UNIQUE INDEX" if unique else "INDEX"
    sql = f"CREATE {kind} ASYNC IF NOT EXISTS {written} ON {table} ({columns.strip()}){rest.rstrip()}"
    return [Change(sql, f"index {name}", lambda c: c.index(name) is not None, name)]


def _drop_table(found: re.Match[str]) -> list[Change]:
    def change(written: str) -> Change:
        name = _bare(written)
        return Change(f"DROP TABLE IF EXISTS {written}", f"table {name}", lambda c: name not in c.tables)

    return [change(name) for name in _names(found[1])]


def _drop_index(found: re.Match[str]) -> list[Change]:
    def change(written: str) -> Change:
        name = _bare(written)
        return Change(f"DROP INDEX IF EXISTS {written}", f"index {name}", lambda c: c.index(name) is None)

    return [change(name) for name in _names(found[1])]


def _insert(found: re.Match[str]) -> list[Change]:
    sql = found[0]
    if not re.search(r"\bON CONFLICT\b", re.sub(STRING, "", sql), re.IGNORECASE):
        sql += " ON CONFLICT DO NOTHING"
    return [Change(sql, f"rows of {_bare(found[1])}")]


def _alter_table(found: re.Match[str]) -> list[Change]:
    return [_action(found[1], action) for action in _top_level(found[2])]


def _action(table: str, action: str) -> Change:
    for pattern, make in ACTIONS:
        if found := re.fullmatch(pattern, action.strip(), re.IGNORECASE | re.DOTALL):
            return make(table, found)
    for pattern, reason in UNKNOWN_ACTIONS:
        if re.match(pattern, action.strip(), re.IGNORECASE):
            raise UnfitError(reason)
    raise UnfitError(f"tecs does not know ALTER TABLE … {' '.join(action.split()[:4])}")


def _add_column(table: str, found: re.Match[str]) -> Change:
    written, type_ = found.groups()
    return _move(table, f"ADD COLUMN IF NOT EXISTS {written} {type_}", there=written)


def _drop_column(table: str, found: re.Match[str]) -> Change:
    return _move(table, f"DROP COLUMN IF EXISTS {found[1]}", gone=found[1])


def _rename_column(table: str, found: re.Match[str]) -> Change:
    old, new = found.groups()
    return _move(table, f"RENAME COLUMN {old} TO {new}", there=new, gone=old)


def _move(written: str, action: str, *, there: str = "", gone: str = "") -> Change:
    """A change after which a table has the column `there` and has not got `gone`."""
    table, new, old = _bare(written), _bare(there), _bare(gone)

    def done(catalogue: Catalogue) -> bool:
        columns = catalogue.tables[table].columns if table in catalogue.tables else {}
        return (not new or new in columns) and old not in columns

    moves = tuple(f"{table}.{column}" for column in (old, new) if column)
    return Change(f"ALTER TABLE {written} {action}", f"column {moves[-1]}", done, moves=moves)


def _set_column(table: str, found: re.Match[str]) -> Change:
    return Change(f"ALTER TABLE {table} {found[0]}", f"column {_bare(table)}.{_bare(found[1])}")


def _names(listed: str) -> list[str]:
    return re.findall(NAME, listed)


def _top_level(actions: str) -> list[str]:
    """Actions of an ALTER TABLE, parted at the commas that stand in no parentheses or strings."""
    parts, depth, quoted = [""], 0, False
    for char in actions:
        quoted ^= char == "'"
        depth += 0 if quoted else (char == "(") - (char == ")")
        if char == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += char
    return parts


TYPE = r"((?:double precision|character varying|timestamp with(?:out)? time zone|\w+)(?:\s*\([\d\s,]+\))?)"

LIST = rf"(?:public\.)?{WORD}(?:, ?(?:public\.)?{WORD})*"
INDEX = (
    r"CREATE (UNIQUE )?INDEX (?:CONCURRENTLY )?(?:ASYNC )?(?:IF NOT EXISTS )?(" + WORD + rf") ON {NAME}\s*"
    r"(?:USING (\w+)\s*)?\(([^()]*(?:\([^()]*\)[^()]*)*)\)(.*)$"
)

FORMS: tuple[tuple[str, Callable[[re.Match[str]], list[Change]]], ...] = (
    (rf"CREATE TABLE (?:IF NOT EXISTS )?{NAME}\s*(\(.*\))$", _create_table),
    (INDEX, _create_index),
    (rf"DROP TABLE (?:IF EXISTS )?({LIST})(?: RESTRICT)?$", _drop_table),
    (rf"DROP INDEX (?:CONCURRENTLY )?(?:IF EXISTS )?({LIST})(?: RESTRICT)?$", _drop_index),
    (rf"INSERT INTO {NAME}\b.*$", _insert),
    (rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME} (.*)$", _alter_table),
)
ACTIONS: tuple[tuple[str, Callable[[str, re.Match[str]], Change]], ...] = (
    (rf"ADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!CONSTRAINT\b)({WORD}) {TYPE}(?: NULL)?", _add_column),
    (rf"DROP (?:COLUMN )?(?:IF EXISTS )?(?!CONSTRAINT\b)({WORD})(?: RESTRICT)?", _drop_column),
    (rf"RENAME (?:COLUMN )?(?!TO\b|CONSTRAINT\b)({WORD}) TO ({WORD})", _rename_column),
    (rf"ALTER (?:COLUMN )?({WORD}) (?:SET DEFAULT .+|DROP DEFAULT|DROP NOT NULL)", _set_column),
)
UNKNOWN_ACTIONS = (
    (
        r"ADD (COLUMN )?(?!CONSTRAINT\b|PRIMARY\b|UNIQUE\b|CHECK\b|FOREIGN\b)\w+",
        "DSQL adds columns by ADD COLUMN name type only, without a constraint or default",
    ),
    (r"ALTER (COLUMN )?\w+ (SET DATA )?TYPE\b", "DSQL cannot change a column's type"),
    (r"ALTER (COLUMN )?\w+ SET NOT NULL\b", "DSQL cannot make an existing column NOT NULL"),
    (r"ADD (CONSTRAINT \w+ )?(PRIMARY KEY|UNIQUE)\b", "DSQL adds no keys to an existing table; use a unique index"),
)
