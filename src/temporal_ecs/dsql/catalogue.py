"""What a database has, from its catalogue, and where that differs from what is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .database import Database
from .temporal_schema import Column, Index, Table, TemporalSchema

COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
       a.attnum
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE n.nspname = 'public' AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""

# The key columns come first in indkey; DSQL's primary keys include every other column after them. Read as text,
# since functions over arrays are none that DSQL documents.
INDEXES = """
SELECT t.relname, i.relname, x.indisprimary, x.indisunique, x.indisvalid, x.indpred IS NOT NULL, x.indnkeyatts,
       CAST(x.indkey AS TEXT), i.oid
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = 'public' AND t.relkind = 'r'
ORDER BY t.relname, i.relname
"""

SHORT = {"timestamp without time zone": "TIMESTAMP", "timestamp with time zone": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class FoundIndex:
    """An index that exists; not `valid` while it is being built, and after that failed."""

    index: Index
    valid: bool
    partial: bool
    oid: int


@dataclass
class FoundTable:
    columns: dict[str, Column] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    indexes: dict[str, FoundIndex] = field(default_factory=dict)


Kind = Literal["missing", "differs", "extra"]


class Difference(NamedTuple):
    """`where` names a table, a column or an index. What is `missing` can be made; what `differs` cannot be mended
    without touching data; what is `extra` is in nobody's way."""

    where: str
    found: str
    wanted: str
    kind: Kind = "differs"

    def __str__(self) -> str:
        return f"{self.where}: is {self.found}, wanted {self.wanted}"


@dataclass(frozen=True)
class Catalogue:
    """The tables of the schema `public`, by name."""

    tables: Mapping[str, FoundTable]

    def index(self, name: str) -> FoundIndex | None:
        return next((t.indexes[name] for t in self.tables.values() if name in t.indexes), None)

    def differences(self, wanted: TemporalSchema) -> list[Difference]:
        """Where this differs from `wanted`; tables that nobody asked for are not mentioned."""
        return [d for table in wanted.tables.values() for d in _differences(table, self.tables.get(table.name))]

    def strangers(self, wanted: TemporalSchema) -> list[str]:
        """Tables that are not Temporal's."""
        return sorted(self.tables.keys() - wanted.tables.keys())


def read(database: Database) -> Catalogue:
    """The catalogue as it is now, by two queries."""
    tables: dict[str, FoundTable] = {}
    numbered: dict[tuple[str, int], str] = {}
    for table, name, type_, nullable, default, position in database.rows(COLUMNS):
        tables.setdefault(table, FoundTable()).columns[name] = Column(name, _type(type_), nullable, _default(default))
        numbered[table, position] = name
    for table, name, primary, unique, valid, partial, keys, positions, oid in database.rows(INDEXES):
        if table not in tables:  # made between the two queries
            continue
        columns = tuple(numbered.get((table, int(p)), "(an expression)") for p in positions.split()[:keys])
        if primary:
            tables[table].key = columns
        else:
            tables[table].indexes[name] = FoundIndex(Index(name, table, columns, unique), valid, partial, oid)
    return Catalogue(tables)


def _type(formatted: str) -> str:
    """A type as temporal_schema.json spells it."""
    return SHORT.get(formatted, re.sub(r"^character varying", "varchar", formatted).upper())


def _default(expression: str | None) -> str | None:
    """A default without the cast that PostgreSQL adds to literals."""
    return None if expression is None else re.sub(r"^('[^']*'|\(?-?\d+\)?)::[a-z ]+(\(\d+\))?$", r"\1", expression)


def _differences(wanted: Table, found: FoundTable | None) -> Iterator[Difference]:
    name = wanted.name
    if found is None:
        yield Difference(f"table {name}", "missing", "there", "missing")
        yield from (Difference(f"index {i.name}", "missing", "there", "missing") for i in wanted.indexes)
        return
    for column in wanted.columns:
        yield from _of_column(name, column, found.columns.get(column.name))
    for extra in sorted(found.columns.keys() - {column.name for column in wanted.columns}):
        yield _of_extra(name, found.columns[extra])
    if found.key != wanted.key:
        yield Difference(f"primary key of {name}", _list(found.key), _list(wanted.key))
    for index in wanted.indexes:
        yield from _of_index(index, found.indexes.get(index.name))
    for extra in sorted(found.indexes.keys() - {index.name for index in wanted.indexes}):
        yield Difference(
            f"index {extra}", f"on {name} {_list(found.indexes[extra].index.columns)}", "no such index", "extra"
        )


def _of_column(table: str, wanted: Column, found: Column | None) -> Iterator[Difference]:
    where = f"column {table}.{wanted.name}"
    if found is None:
        yield Difference(where, "missing", wanted.type)
        return
    if found.type != wanted.type:
        yield Difference(where, found.type, wanted.type)
    if found.nullable != wanted.nullable:
        yield Difference(where, _nullable(found), _nullable(wanted))
    if found.default != wanted.default:
        yield Difference(where, f"default {found.default or 'none'}", f"default {wanted.default or 'none'}")


def _of_extra(table: str, found: Column) -> Difference:
    """A column that nobody asked for: in the way when a row cannot be written without it."""
    required = not found.nullable and found.default is None
    told = f"{found.type} NOT NULL" if required else found.type
    return Difference(f"column {table}.{found.name}", told, "no such column", "differs" if required else "extra")


def _of_index(wanted: Index, found: FoundIndex | None) -> Iterator[Difference]:
    where = f"index {wanted.name}"
    if found is None:
        yield Difference(where, "missing", "there", "missing")
    elif found.index != wanted or found.partial:
        part = " for some rows only" if found.partial else ""
        yield Difference(where, _described(found.index) + part, _described(wanted))
    elif not found.valid:
        yield Difference(where, "not valid", "valid", "missing")


def _nullable(column: Column) -> str:
    return "nullable" if column.nullable else "NOT NULL"


def _described(index: Index) -> str:
    return f"{'unique ' if index.unique else ''}on {index.table} {_list(index.columns)}"


def _list(columns: tuple[str, ...]) -> str:
    return f"({', '.join(columns)})" if columns else "none"
