"""Temporal's schema in the database: what it is, making it, bringing it up to date, dropping it.

Every step looks first and says IF NOT EXISTS, each in a transaction of its own as DSQL wants it, and the version rows
come last: a run that is cut anywhere is continued by the next, and one that finds everything in place writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporal_ecs.errors import TecsError
from temporal_ecs.walk import Event

from . import catalogue, cluster_metadata, membership
from .catalogue import Catalogue, Difference
from .cluster_metadata import ClusterMetadata, refuse_other_shards
from .database import Cursor, Database, UnknownOutcomeError
from .indexes import await_indexes
from .migrations import Migration, Step
from .temporal_schema import (
    DB_NAME,
    PARTITION,
    TemporalSchema,
    create_index,
    create_table,
    drop_table,
    number,
    plant,
    wanted,
)

Emit = Callable[[Event], None]

VERSION = (
    "SELECT curr_version, min_compatible_version FROM schema_version WHERE version_partition = %s AND db_name = %s"
)
HISTORY = "SELECT 1 FROM schema_update_history WHERE version_partition = %s AND new_version = %s LIMIT 1"
RECORD_VERSION = (
    "INSERT INTO schema_version (version_partition, db_name, creation_time, curr_version, min_compatible_version) "
    "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (version_partition, db_name) DO UPDATE SET "
    "creation_time = excluded.creation_time, curr_version = excluded.curr_version, "
    "min_compatible_version = excluded.min_compatible_version"
)
RECORD_HISTORY = (
    "INSERT INTO schema_update_history (version_partition, year, month, update_time, description, manifest_md5, "
    "new_version, old_version) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)

SHOWN = 12
"""Differences that an error message lists."""


@dataclass(frozen=True)
class Found:
    """What a database has. `version` is "" before the schema is complete; `recorded`: its history says so too."""

    catalogue: Catalogue
    version: str
    minimum: str
    recorded: bool
    planted: frozenset[str]  # tables that have the row which they must have
    metadata: ClusterMetadata | None


@dataclass(frozen=True)
class Status:
    """How a database compares with the schema that tecs carries, and with tecs.toml."""

    version: str
    minimum: str
    wanted: str
    differences: tuple[Difference, ...]
    strangers: tuple[str, ...]
    shards: int | None
    unreadable: bool = False  # there is a row about shards that cannot be read

    @property
    def same(self) -> bool:
        return not self.differences and not self.unreadable

    @property
    def remedy(self) -> str:
        """Which command of `schema` mends it: setup, update, or "" where none does."""
        if not self.version or (self.version == self.wanted and any(d.kind == "missing" for d in self.differences)):
            return "setup"
        return "update" if number(self.version) < number(self.wanted) else ""


def look(database: Database) -> Found:
    """Read everything that decides what is to be done. Never writes."""
    found = catalogue.read(database)
    version, minimum = _version(database, found)
    recorded = bool(version) and _readable(found, "schema_update_history") and _recorded(database, version)
    planted = frozenset(name for name in wanted().seed if _readable(found, name) and _planted(database, name))
    metadata = cluster_metadata.read(database) if _readable(found, "cluster_metadata_info") else None
    return Found(found, version, minimum, recorded, planted, metadata)


def _readable(found: Catalogue, name: str) -> bool:
    """Whether the table is there, with all columns."""
    columns = {column.name for column in wanted().tables[name].columns}
    return name in found.tables and columns <= found.tables[name].columns.keys()


def _version(database: Database, found: Catalogue) -> tuple[str, str]:
    """The schema's version and the oldest that it is compatible with; "" when there is none."""
    rows = database.rows(VERSION, (PARTITION, DB_NAME)) if _readable(found, "schema_version") else []
    version, minimum = (str(value or "") for value in rows[0]) if rows else ("", "")
    try:
        number(version)
    except ValueError:
        raise TecsError(
            f"the table schema_version says {version!r}, which is no version",
            "Nothing was changed. Somebody wrote it by hand; correct that row (version_partition 0, db_name postgres).",
        ) from None
    return version, minimum


def _recorded(database: Database, version: str) -> bool:
    return bool(database.rows(HISTORY, (PARTITION, version)))


def _planted(database: Database, name: str) -> bool:
    table = wanted().tables[name]
    condition = " AND ".join(f"{column} = %s" for column in table.key)
    row = wanted().seed[name]
    sql = f"SELECT 1 FROM {name} WHERE {condition}"  # noqa: S608  our own names
    return bool(database.rows(sql, [row[column] for column in table.key]))


def status(database: Database, *, shards: int) -> Status:
    """Compare with what tecs carries; `shards` is tecs.toml's number of history shards. Never writes."""
    found, schema = look(database), wanted()
    differences = found.catalogue.differences(schema)
    if found.version != schema.version:
        differences.insert(0, Difference("schema version", found.version or "none", schema.version))
    elif not found.recorded:
        differences.append(Difference("schema_update_history", f"without version {schema.version}", "with it"))
    for name in schema.seed:
        if name in found.catalogue.tables and name not in found.planted:
            differences.append(Difference(f"row of {name}", "missing", "there", "missing"))
    stored = found.metadata.shards if found.metadata else None
    if stored is not None and stored != shards:
        differences.append(Difference("history shards", str(stored), f"{shards} (temporal.history_shards)"))
    strangers = tuple(found.catalogue.strangers(schema))
    unreadable = found.metadata is not None and stored is None
    return Status(found.version, found.minimum, schema.version, tuple(differences), strangers, stored, unreadable)


# -- setup -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Missing:
    """What a setup has to do. `statements` are names and SQL, in order; `invalid` are indexes to wait for."""

    statements: tuple[tuple[str, str], ...]
    invalid: tuple[str, ...]
    unversioned: bool

    def __bool__(self) -> bool:
        return bool(self.statements or self.invalid or self.unversioned)


def missing(database: Database, *, shards: int) -> Missing:
    """What a setup would do; false for nothing. Never writes.

    TecsError where the database has another version, another schema, data without a version, or was started with
    another number of history shards than tecs.toml's, `shards`.
    """
    found, schema = look(database), wanted()
    refuse_other_shards(found.metadata, shards)
    _refuse_setup(database, found, schema)
    invalid = [d.where.removeprefix("index ") for d in found.catalogue.differences(schema) if d.found == "not valid"]
    return Missing(tuple(_missing(found, schema)), tuple(invalid), not (found.version and found.recorded))


def setup(
    database: Database,
    *,
    shards: int,
    emit: Emit = lambda _: None,
    before_write: Callable[[], None] = lambda: None,
    poll: float = 1.0,
) -> int:
    """Bring the database to the schema that tecs carries; the number of statements that it took, 0 for none.

    Refuses like missing(), before anything is changed. `before_write` is called before the first change.
    """
    todo, schema = missing(database, shards=shards), wanted()
    if not todo:
        return 0
    before_write()
    indexes = {index.name: create_index(index) for index in schema.indexes}
    for name, sql in todo.statements:
        _make(database, name, sql, emit, later=name in indexes)
    asked = {name for name, _ in todo.statements if name in indexes}
    rebuilt = await_indexes(database, indexes, asked=asked, emit=emit, poll=poll)
    _prove(database, schema)
    if todo.unversioned:
        newest = Migration(schema.version, schema.version, "", "initial version", ())
        _record(database, newest, emit)
    return len(todo.statements) + rebuilt + 2 * todo.unversioned


def _missing(found: Found, schema: TemporalSchema) -> Iterable[tuple[str, str]]:
    """Names and statements of what is not there, in the order in which to make it."""
    for table in schema.tables.values():
        there = found.catalogue.tables.get(table.name)
        if there is None:
            yield table.name, create_table(table)
        for index in table.indexes:
            if there is None or index.name not in there.indexes:
                yield index.name, create_index(index)
        if table.name in schema.seed and table.name not in found.planted:
            yield f"{table.name} row", plant(table, schema.seed[table.name])


def _refuse_setup(database: Database, found: Found, schema: TemporalSchema) -> None:
    if found.version and found.version != schema.version:
        older = number(found.version) < number(schema.version)
        way = "Bring it up to date with `tecs schema update`." if older else _newer_than_ours(found, schema)
        raise TecsError(
            f"this database has version {found.version} of Temporal's schema, tecs sets up {schema.version}",
            f"Nothing was changed. {way}",
        )
    differing = [d for d in found.catalogue.differences(schema) if d.kind == "differs"]
    if differing:
        raise TecsError(
            f"this database has tables of Temporal's names that differ:\n{_listed(differing)}",
            "Nothing was changed. `tecs schema setup --overwrite` drops Temporal's tables with all that is in them.",
        )
    if not found.version and (full := _with_rows(database, found, schema)):
        raise TecsError(
            f"this database has data but no schema version: {', '.join(full)} {'are' if len(full) > 1 else 'is'} "
            "not empty",
            "Nothing was changed. An overwrite that was cut leaves this: `tecs schema setup --overwrite` drops the "
            "rest, with all that is in it.",
        )


def _newer_than_ours(found: Found, schema: TemporalSchema) -> str:
    if [d for d in found.catalogue.differences(schema) if d.kind != "extra"]:
        return "A newer tecs is needed for it."
    return (
        f"Its tables are those of {schema.version}: a script wrote the number. Servers accept it, but updates up to "
        f"{found.version} would be left out: set curr_version in schema_version (version_partition 0, db_name "
        f"{DB_NAME}) to {schema.version}."
    )


def _with_rows(database: Database, found: Found, schema: TemporalSchema) -> list[str]:
    """Temporal's tables that hold more than what a setup puts there."""
    ours = [n for n in schema.tables if n in found.catalogue.tables and n not in ("namespace_metadata",)]
    if not ours:
        return []
    each = " UNION ALL ".join(f"SELECT '{name}', EXISTS (SELECT 1 FROM {name})" for name in ours)  # noqa: S608
    return [name for name, full in database.rows(each) if full]


def _make(database: Database, name: str, sql: str, emit: Emit, *, later: bool = False) -> None:
    """Run one statement that may run twice. `later`: what it makes is only there when somebody has waited for it."""
    began = database.clock.now()
    emit(Event(name, "create"))
    database.make(sql)
    emit(Event(name, "wait" if later else "created", seconds=database.clock.now() - began))


def _prove(database: Database, schema: TemporalSchema) -> None:
    """TecsError unless the catalogue is what it should be: looked at, not believed."""
    left = [d for d in catalogue.read(database).differences(schema) if d.kind != "extra"]
    if left:
        raise TecsError(
            f"the schema is not as it should be:\n{_listed(left)}",
            "Somebody else changes it at the same time? Run the command again: it looks first.",
        )


# -- version rows ----------------------------------------------------------------------------------------------


def _record(database: Database, new: Migration, emit: Emit) -> None:
    """Write the version, then its history, in one transaction, as the fork's tool and server read them.

    Looks first, so that running it twice writes once; an older version becomes the new one.
    """
    began = database.clock.now()
    emit(Event("schema_version", "update"))

    def work(cursor: Cursor) -> str:
        now: datetime = _one(cursor, membership.CLOCK)[0]
        row = _one(cursor, VERSION, (PARTITION, DB_NAME))
        old = str(row[0]) if row else ""
        if number(old) > number(new.version):
            raise TecsError(f"somebody else made the schema version {old} meanwhile", "Look at `tecs schema status`.")
        if old != new.version:
            cursor.execute(RECORD_VERSION.encode(), (PARTITION, DB_NAME, now, new.version, new.minimum))
        if _one(cursor, HISTORY, (PARTITION, new.version)) is None:
            before = old if old != new.version else ""
            history = (now.year, now.month, now, new.description, new.md5, new.version, before or "0")
            cursor.execute(RECORD_HISTORY.encode(), (PARTITION, *history))
        return old

    try:
        old = database.run(work)
    except UnknownOutcomeError:  # it looks first, so that doing it again is the check
        old = database.run(work)
    emit(Event("schema_version", "updated", f"{old or 'none'} → {new.version}", database.clock.now() - began))


def _one(cursor: Cursor, sql: str, parameters: Sequence[Any] = ()) -> Any:
    return cursor.execute(sql.encode(), parameters).fetchone()


# -- update ----------------------------------------------------------------------------------------------------


def newer(database: Database, migrations: Sequence[Migration], *, shards: int) -> list[Migration]:
    """Those that are newer than the database, which an update would apply; `migrations` are oldest first. Never writes.

    TecsError where the database has no version, or not what its version says.
    """
    found = look(database)
    refuse_other_shards(found.metadata, shards)
    if not found.version:
        raise TecsError("this database has no schema version", "Nothing was changed. Run `tecs schema setup` first.")
    chosen = [m for m in migrations if number(m.version) > number(found.version)]
    if chosen:
        _refuse_broken(found, chosen)
    return chosen


def update(
    database: Database,
    migrations: Sequence[Migration],
    *,
    shards: int,
    emit: Emit = lambda _: None,
    before_write: Callable[[], None] = lambda: None,
    poll: float = 1.0,
) -> list[str]:
    """Apply what newer() tells, oldest first; which versions they were.

    A statement whose effect the catalogue shows already is not run again.
    """
    chosen = newer(database, migrations, shards=shards)
    if chosen:
        before_write()
        _complete(database, look(database), chosen, emit, poll)
    for migration in chosen:
        for step in migration.steps:
            _apply(database, step, emit)
        indexes = {step.change.index: step.change.sql for step in migration.steps if step.change.index}
        await_indexes(database, indexes, emit=emit, poll=poll)
        _record(database, migration, emit)
    return [migration.version for migration in chosen]


def _complete(database: Database, found: Found, chosen: Sequence[Migration], emit: Emit, poll: float) -> None:
    """Make the indexes that the database's own version lacks: the fork's tool does not wait for them."""
    if found.version not in {version.version for version in wanted().versions}:
        return
    schema = wanted().until(found.version)
    changing = _changing(chosen, schema)  # by a run that was cut, perhaps
    indexes = {i.name: create_index(i) for i in schema.indexes if f"index {i.name}" not in changing}
    for name, sql in _missing(found, schema):
        if name in indexes:
            _make(database, name, sql, emit, later=True)
    there = {name: sql for name, sql in indexes.items() if catalogue.read(database).index(name)}
    await_indexes(database, there, emit=emit, poll=poll)


def _refuse_broken(found: Found, chosen: Sequence[Migration]) -> None:
    """TecsError when the database has not got what its own version says; only versions that tecs carries are known.

    What `chosen` changes may have been changed already, by a run that was cut; what they bring must be right.
    """
    schema = wanted()
    known = {version.version for version in schema.versions}
    if found.version not in known:
        return
    now = schema.until(found.version)
    then = schema.until(max((m.version for m in chosen if m.version in known), key=number, default=found.version))
    differences = found.catalogue.differences(now)
    differences += [d for d in found.catalogue.differences(then) if d.kind == "differs" and d not in differences]
    changing = _changing(chosen, then)
    made = {f"index {index.name}" for index in now.indexes}  # what is missing of these, an update makes
    broken = [
        d
        for d in differences
        if d.kind != "extra" and d.where not in changing and not (d.kind == "missing" and d.where in made)
    ]
    if broken:
        raise TecsError(
            f"this database is not what its version {found.version} says:\n{_listed(broken)}",
            "Nothing was changed. Mend this first; an update on top would hide it.",
        )


def _changing(migrations: Sequence[Migration], schema: TemporalSchema) -> set[str]:
    """What changes in tables that exist, as differences name it; an index goes with its table or column."""
    changes = [step.change for migration in migrations for step in migration.steps]
    changing = {change.label for change in changes} | {f"column {move}" for change in changes for move in change.moves}
    for index in schema.indexes:
        if changing & {f"table {index.table}", *(f"column {index.table}.{column}" for column in index.columns)}:
            changing.add(f"index {index.name}")
    return changing


def _apply(database: Database, step: Step, emit: Emit) -> None:
    """Run one step unless it has run. After a lost COMMIT the catalogue is looked at again."""
    began = database.clock.now()
    for _ in range(5):
        if step.done(catalogue.read(database)):
            emit(Event(step.change.label, "same"))
            return
        emit(Event(step.change.label, "create"))
        try:
            database.execute(step.change.sql)
        except UnknownOutcomeError:
            continue
        except TecsError as error:
            raise TecsError(f"{step.where}: {error.message}", error.hint) from error
        emit(Event(step.change.label, "created", step.where, database.clock.now() - began))
        return
    raise TecsError(f"{step.where}: the connection is lost at every COMMIT", "Run the command again: it resumes.")


# -- overwrite -------------------------------------------------------------------------------------------------


def drop(
    database: Database, *, emit: Emit = lambda _: None, before_write: Callable[[], None] = lambda: None
) -> list[str]:
    """Drop Temporal's tables with all that is in them, one to a transaction; nothing else is touched. The names.

    TecsError when somebody wrote a heartbeat within the last 60 s. The version goes first: after a cut nobody takes
    what is left for a whole schema.
    """
    found, schema = catalogue.read(database), wanted()
    ours = sorted((name for name in schema.tables if name in found.tables), key=lambda name: name != "schema_version")
    if _readable(found, "cluster_membership"):
        membership.require_silence(database)
    if ours:
        before_write()
    for name in ours:
        began = database.clock.now()
        emit(Event(name, "delete"))
        database.make(drop_table(name))
        emit(Event(name, "gone", seconds=database.clock.now() - began))
    return ours


def _listed(differences: Sequence[Difference]) -> str:
    lines = [f"  {difference}" for difference in differences[:SHOWN]]
    if len(differences) > SHOWN:
        lines.append(f"  and {len(differences) - SHOWN} more; `tecs schema status` shows all")
    return "\n".join(lines)
