"""Temporal's schema for DSQL as tecs carries it: declared once, in temporal_schema.json, and put into DSQL's words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

DB_NAME = "postgres"
PARTITION = 0
"""Of the version rows; the fork's tool writes both literally, and its server reads them by these."""


class Column(NamedTuple):
    name: str
    type: str
    nullable: bool
    default: str | None


class Index(NamedTuple):
    name: str
    table: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True)
class Table:
    """A table as it is wanted; `since` is the version of the schema that brought it, "" for the version tables."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    indexes: tuple[Index, ...] = ()
    since: str = ""


class Version(NamedTuple):
    """A version of the schema. `md5` is of the manifest in the fork, which its tool writes into the history."""

    version: str
    minimum: str  # the oldest schema that a server may expect and still run on this one
    md5: str
    description: str


@dataclass(frozen=True)
class TemporalSchema:
    """All tables by name, version tables last; the versions, oldest first; rows that must exist, by table."""

    tables: Mapping[str, Table]
    versions: tuple[Version, ...]
    seed: Mapping[str, Mapping[str, int]]

    @property
    def version(self) -> str:
        """The newest."""
        return self.versions[-1].version

    @property
    def indexes(self) -> Iterator[Index]:
        return (index for table in self.tables.values() for index in table.indexes)

    @property
    def pieces(self) -> int:
        """How many things a setup from nothing makes: tables, indexes, rows that must exist, and the version."""
        return len(self.tables) + len(list(self.indexes)) + len(self.seed) + 1

    def until(self, version: str) -> TemporalSchema:
        """What `version` had of it."""
        tables = {n: t for n, t in self.tables.items() if number(t.since) <= number(version)}
        return TemporalSchema(tables, tuple(v for v in self.versions if number(v[0]) <= number(version)), self.seed)


@cache
def wanted() -> TemporalSchema:
    """The schema that this tecs carries."""
    raw = json.loads(files(__package__).joinpath("temporal_schema.json").read_text(encoding="utf-8"))
    tables = {
        name: Table(
            name,
            tuple(Column(*column) for column in row["columns"]),
            tuple(row["key"]),
            tuple(Index(i["name"], name, tuple(i["columns"]), i["unique"]) for i in row.get("indexes", ())),
            row.get("since", ""),
        )
        for name, row in (raw["tables"] | raw["versioning"]).items()
    }
    return TemporalSchema(tables, tuple(Version(**row) for row in raw["versions"]), raw["seed"])


def number(version: str) -> tuple[int, ...]:
    """A version to compare by: 1.10 is newer than 1.9, and "" older than all. ValueError for what is none."""
    return tuple(int(part) for part in version.removeprefix("v").split(".")) if version else ()


# -- statements: each may be run twice ---------------------------------------------------------------------------


def create_table(table: Table) -> str:
    lines = [_column(column) for column in table.columns]
    lines.append(f"PRIMARY KEY ({', '.join(table.key)})")
    return f"CREATE TABLE IF NOT EXISTS {table.name} (\n  " + ",\n  ".join(lines) + "\n)"


def _column(column: Column) -> str:
    default = "" if column.default is None else f" DEFAULT {column.default}"
    return f"{column.name} {column.type}{'' if column.nullable else ' NOT NULL'}{default}"


def create_index(index: Index) -> str:
    """DSQL builds indexes asynchronously only; the statement returns a job's id, not a finished index."""
    kind = "UNIQUE INDEX" if index.unique else "INDEX"
    return f"CREATE {kind} ASYNC IF NOT EXISTS {index.name} ON {index.table} ({', '.join(index.columns)})"


def drop_index(name: str) -> str:
    return f"DROP INDEX IF EXISTS {name}"


def drop_table(name: str) -> str:
    return f"DROP TABLE IF EXISTS {name}"


def plant(table: Table, row: Mapping[str, int]) -> str:
    """Insert a row that must exist, and leave one with its key alone: the server counts it on."""
    values = ", ".join(str(value) for value in row.values())
    return (
        f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({values}) "  # noqa: S608  our own names and numbers
        f"ON CONFLICT ({', '.join(table.key)}) DO NOTHING"
    )
