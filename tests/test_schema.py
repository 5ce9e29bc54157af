"""Temporal's schema: made, compared, brought up to date and dropped; cut everywhere, and run again."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import temporal_ecs.dsql
from databases import POLL, SHARDS, Killed, Place, run
from temporal_ecs.dsql import indexes, membership, schema
from temporal_ecs.dsql.catalogue import Difference
from temporal_ecs.dsql.connect import CONNECTIONS
from temporal_ecs.dsql.database import Cursor, Database
from temporal_ecs.dsql.migrations import Migration, carried, from_checkout
from temporal_ecs.dsql.temporal_schema import Table, create_index, create_table, drop_index, plant, wanted
from temporal_ecs.errors import ConfigError, TecsError
from temporal_ecs.pace import Bucket
from temporal_ecs.sandbox.dsql import Limits
from temporal_ecs.sandbox.dsql.postgres import Postgres
from temporal_ecs.walk import Event

WANTED = json.loads(files("temporal_ecs.dsql").joinpath("temporal_schema.json").read_text(encoding="utf-8"))
TABLES = WANTED["tables"] | WANTED["versioning"]
INDEXES = {index["name"]: (name, index) for name, table in TABLES.items() for index in table.get("indexes", ())}
ADDED = "current_chasm_executions"  # what 1.1 brought

# -- reading what is there, on our own -----------------------------------------------------------------------

COLUMNS = """
SELECT table_name, column_name, upper(data_type), CAST(character_maximum_length AS text), is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position
"""
KEYS = """
SELECT u.table_name, u.column_name
FROM information_schema.key_column_usage u JOIN information_schema.table_constraints c USING (constraint_name)
WHERE c.constraint_type = 'PRIMARY KEY' AND u.table_schema = 'public' ORDER BY u.table_name, u.ordinal_position
"""
SECONDARY = """
SELECT s.tablename, s.indexname, s.indexdef, CASE WHEN x.indisvalid THEN 'valid' ELSE 'not valid' END
FROM pg_indexes s JOIN pg_class c ON c.relname = s.indexname JOIN pg_index x ON x.indexrelid = c.oid
WHERE s.schemaname = 'public' AND NOT x.indisprimary ORDER BY s.tablename, s.indexname
"""
TYPES = {"CHARACTER VARYING": "VARCHAR", "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP"}

Rows = Callable[[str], list[Any]]


def described(rows: Rows) -> dict[str, Any]:
    """The schema as it is, in the form of temporal_schema.json, and whether its indexes are valid."""
    found: dict[str, Any] = {}
    for table, name, type_, length, nullable, default in rows(COLUMNS):
        spelt = TYPES.get(type_, type_) + (f"({length})" if length else "")
        default = default and default.removesuffix("::character varying")
        entry = found.setdefault(table, {"columns": [], "key": [], "indexes": []})
        entry["columns"].append([name, spelt, nullable == "YES", default])
    for table, column in rows(KEYS):
        found[table]["key"].append(column)
    for table, name, definition, valid in rows(SECONDARY):
        told = re.fullmatch(rf"CREATE (UNIQUE )?INDEX {name} ON public\.{table} USING \w+ \((.*)\)", definition)
        assert told
        index = {"name": name, "columns": told[2].split(", "), "unique": bool(told[1]), "valid": valid}
        found[table]["indexes"].append(index)
    return found


def complete(version: str = "1.1") -> dict[str, Any]:
    """What described() says of a schema that is as it should be."""
    return {
        name: {
            "columns": table["columns"],
            "key": table["key"],
            "indexes": [index | {"valid": "valid"} for index in table.get("indexes", ())],
        }
        for name, table in TABLES.items()
        if table.get("since", "") <= version
    }


def versions(database: Database) -> tuple[list[Any], list[Any]]:
    """The version rows, without their times."""
    return (
        database.rows("SELECT version_partition, db_name, curr_version, min_compatible_version FROM schema_version"),
        database.rows(
            "SELECT version_partition, old_version, new_version, description, manifest_md5 FROM schema_update_history "
            "WHERE year = date_part('year', update_time) AND month = date_part('month', update_time) "
            "AND abs(extract(epoch FROM update_time - now() AT TIME ZONE 'UTC')) < 600 ORDER BY new_version"
        ),
    )


FRESH = ([(0, "postgres", "1.1", "1.1")], [(0, "0", "1.1", "initial version", "")])
SEED = [(54321, 1)]


def assert_complete(database: Database) -> None:
    assert described(database.rows) == complete()
    assert versions(database) == FRESH
    assert database.rows("SELECT * FROM namespace_metadata") == SEED


def setup(database: Database, **options: Any) -> int:
    return schema.setup(database, **({"shards": SHARDS, "poll": POLL} | options))


def elsewhere(place: Place) -> Place:
    """Another cluster of the same stand-in."""
    made = Place(place.standin, place.clock)
    made._open = place._open
    return made


# -- setup ---------------------------------------------------------------------------------------------------


def test_setup_makes_what_the_declaration_says_column_by_column(place: Place):
    database = place.database()
    events: list[Event] = []
    assert setup(database, emit=events.append) == 39 + 7 + 1 + 2
    assert_complete(database)
    assert (len(WANTED["tables"]), len(INDEXES)) == (37, 7)
    assert Counter(event.phase for event in events)["created"] == 39 + 7 + 1
    assert {event.resource for event in events if event.phase == "wait"} >= INDEXES.keys()


def test_plain_postgresql_understands_the_same_by_the_same_statements():
    postgres = Postgres()
    try:
        postgres.prepare()
        postgres.start()
        backend = postgres.connect("postgres", "postgres")
        for table in wanted().tables.values():
            backend.run(create_table(table))
            for index in table.indexes:
                assert " INDEX ASYNC " in create_index(index)
                backend.run(create_index(index).replace(" ASYNC", ""))
        for name, row in wanted().seed.items():
            backend.run(plant(wanted().tables[name], row))
        assert described(backend.run) == complete()
        assert backend.run("SELECT * FROM namespace_metadata") == [["54321", "1"]]
        backend.close()
    finally:
        postgres.stop()


def test_every_statement_of_setup_is_a_transaction_of_its_own_and_the_version_comes_last(place: Place):
    setup(place.database())
    depth, writes = 0, list[list[str]]()
    for text in place.ran():
        if text == "BEGIN":
            writes.append([])
        depth += {"BEGIN": 1, "COMMIT": -1}.get(text, 0)
        assert depth in (0, 1)
        if text.startswith(("CREATE", "INSERT")):
            writes[-1].append(text)
    *made, version = writes
    assert {len(group) for group in made} == {1}
    assert [text.split()[2] for text in version] == ["schema_version", "schema_update_history"]


def test_a_second_setup_writes_nothing_and_may_be_cut_anywhere(place: Place):
    database = place.ready()
    place.standin.statements.clear()
    assert setup(database) == 0
    reads = place.ran()
    assert reads
    assert not changes(reads)
    assert not schema.missing(database, shards=SHARDS)
    deaths = cut_everywhere(place, setup_waiting)
    assert deaths == [(text, after) for text in reads for after in (False, True)]
    assert_complete(database)


def test_before_the_first_change_and_only_then_the_caller_is_asked(place: Place):
    def refuse() -> None:
        raise Killed

    database = place.database()
    for act in (setup, schema.drop):
        with pytest.raises(Killed):
            act(database, before_write=refuse)
        setup(database)
        place.standin.statements.clear()
    schema.drop(database)
    schema.drop(database, before_write=refuse)
    assert described(database.rows) == {}


# -- cut at every statement ----------------------------------------------------------------------------------

Act = Callable[..., Any]
Death = tuple[str, bool]


def setup_waiting(database: Database, **options: Any) -> int:
    """A setup that looks at its indexes each 100 s."""
    return setup(database, poll=100.0, **options)


def cut_everywhere(
    place: Place, act: Act, check: Callable[[Database], None] = lambda _: None, *, changes_only: bool = False
) -> list[Death]:
    """Run `act` in processes that die at each statement in turn, before and after it took effect; what they died at.

    Whenever a death left more done than there was, the next dies at the first statement after that which is a change,
    or, without `changes_only`, which nobody has died at; the last ends alive. `check` is asked each time.
    """
    watch = place.database(clock=place.leaping())
    deaths: list[Death] = []
    at, seen = len(reads_of(place, act)) + 1 if changes_only else 1, state(place, watch)
    while True:
        for after in (False, True):
            place.clock.ahead = 0.0
            place.standin.statements.clear()
            place.faults.cut(at, after=after)
            database = place.mortal(clock=place.leaping())
            try:
                act(database)
            except Killed:
                deaths.append((place.ran()[-1], after))
            else:
                place.faults.clear()
                return deaths
            finally:
                database.close()
        if (now := state(place, watch)) == seen:
            at += 1
            continue
        check(watch)
        died = Counter(text for text, after in deaths if after)
        reads = reads_of(place, act)
        unseen = [] if changes_only else [n for n in range(1, len(reads) + 1) if Counter(reads[:n]) - died]
        seen, at = now, min(unseen, default=len(reads) + 1)


STATE = """
SELECT a.attrelid, a.attname, a.attnotnull, a.atthasdef, x.indisvalid
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_index x ON x.indexrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0
"""


def state(place: Place, database: Database) -> Any:
    """Whatever a run may change, as far as it takes to see that something did."""
    place.clock.ahead = 0.0
    found = set(database.rows(STATE))
    filled = ("schema_version", "schema_update_history", "namespace_metadata", "notes")
    there = sorted({row[0] for row in database.rows("SELECT tablename FROM pg_tables")} & set(filled))
    return found, [database.rows(f"SELECT * FROM {name}") for name in there]


def reads_of(place: Place, act: Act) -> list[str]:
    """The statements that `act` begins with before it changes anything, or waits for something."""

    def die(waiting: Any) -> None:
        if waiting != 0:
            raise Killed

    place.standin.statements.clear()
    database = place.database(clock=place.leaping())
    database.run = database.clock.sleep = die
    with suppress(Killed):
        act(database)
    return place.ran()


def uncut(place: Place, act: Act) -> list[str]:
    """The statements of a run that nothing happens to."""
    place.clock.ahead = 0.0
    place.standin.statements.clear()
    act(place.database(clock=place.leaping()))
    place.clock.ahead = 0.0
    return place.ran()


def changes(statements: list[str]) -> list[str]:
    return [text for text in statements if not text.lstrip().startswith("SELECT")]


def assert_all_cut(whole: list[str], deaths: list[Death]) -> None:
    """Each statement of a whole run was died at as often as it is in there, before and after.

    How often a run looks whether its indexes are valid depends on the moment: those looks were died at, too.
    """
    polls = {text.strip() for text in (indexes.INVALID, indexes.JOBS)}
    for after in (False, True):
        missed = Counter(whole) - Counter(text for text, when in deaths if when is after)
        assert not {text for text in missed if text.strip() not in polls}
    assert not any(text.strip() in polls for text in whole) or any(text.strip() in polls for text, _ in deaths)


@pytest.fixture
def slow_indexes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index takes a minute on new clusters: a run looks twice, whatever this machine is at."""
    monkeypatch.setattr(place.standin, "limits", Limits(index_seconds=60.0))


def whole_or_unversioned(database: Database) -> None:
    """Never a version before everything else is there."""
    found = described(database.rows)
    if "schema_version" in found and database.rows("SELECT 1 FROM schema_version"):
        assert_complete(database)


@pytest.mark.usefixtures("slow_indexes")
def test_a_setup_that_dies_at_every_single_statement_ends_right(place: Place):
    whole = uncut(elsewhere(place), setup_waiting)
    assert len(whole) == 2 + 3 * 47 + 3 + 2 + 7
    deaths = cut_everywhere(place, setup_waiting, whole_or_unversioned)
    assert_all_cut(whole, deaths)
    assert_complete(place.database())


@pytest.mark.usefixtures("slow_indexes")
@pytest.mark.parametrize("after", [False, True])
def test_a_setup_that_died_anywhere_ends_right_the_second_time(place: Place, after: bool):
    for at in range(3 + after, 155, 31):
        cluster = elsewhere(place)
        place.faults.cut(at, after=after)
        with pytest.raises(Killed):
            setup_waiting(cluster.mortal(clock=cluster.leaping()))
        database = cluster.database(clock=cluster.leaping())
        setup_waiting(database)
        assert_complete(database)
        assert setup_waiting(database) == 0


@pytest.mark.parametrize("after", [False, True])
def test_a_version_is_written_once_when_the_answer_to_its_commit_is_lost(place: Place, after: bool):
    database = place.database()
    setup(database)
    run(database, "DELETE FROM schema_update_history")
    run(database, "DELETE FROM schema_version")
    place.faults.set(**{"lose_after_commit" if after else "lose_before_commit": 1})
    assert setup(database) == 2
    assert versions(database) == FRESH


def test_a_history_that_was_not_written_is_made_good(place: Place):
    database = place.ready()
    run(database, "DELETE FROM schema_update_history")
    assert differences(database) == {("schema_update_history", "without version 1.1", "with it", "differs")}
    assert setup(database) == 2
    assert versions(database) == FRESH


# -- faults --------------------------------------------------------------------------------------------------


def test_conflicts_limits_and_cuts_together_end_right_within_the_budget_of_connections(place: Place):
    chance = random.Random(3)

    def token() -> str:
        place.faults.cut(chance.randint(1, 12), after=chance.random() < 0.5)
        return place.token()

    place.faults.set(conflict_rate=0.2, rate_exceeded=2, too_many=2)
    pace = Bucket(CONNECTIONS.burst, CONNECTIONS.rate)
    database = place.database(token=token, clock=place.leaping(), pace=pace)
    setup(database, poll=0.1)
    place.faults.clear()
    assert_complete(database)
    moments = [connection.time for connection in place.standin.connections]
    assert len(moments) > 15
    assert min(later - earlier for earlier, later in pairwise(moments)) > 0.01, "at most 100 a second"
    assert max(sum(start <= m < start + 1 for m in moments) for start in moments) <= 7


@pytest.mark.parametrize("kind", ["conflicts", "stale", "lose_before_commit", "lose_after_commit"])
def test_setup_outlives_four_of_any_fault_in_a_row(place: Place, kind: str):
    place.faults.set(**{kind: 4})
    database = place.database(clock=place.leaping())
    setup(database)
    assert_complete(database)


# -- indexes -------------------------------------------------------------------------------------------------


def indexes_of(place: Place) -> list[str]:
    """What was done about indexes: C, D, and the name."""
    return [f"{text[0]} {name}" for text in place.ran("CREATE", "DROP") for name in INDEXES if f" {name}" in text]


def test_an_index_whose_build_failed_is_dropped_and_built_once_more(place: Place):
    place.faults.fail_jobs = 1
    database = place.database()
    assert setup(database) == 49 + 2
    assert_complete(database)
    assert indexes_of(place)[-2:] == ["D idx_namespaces_name", "C idx_namespaces_name"]
    assert len(indexes_of(place)) == 7 + 2


def test_an_index_whose_build_fails_twice_is_named_and_the_next_run_goes_on(place: Place):
    database = place.ready()
    database.make(drop_index("cm_idx_lasthb"))
    place.faults.fail_jobs = 2
    with pytest.raises(TecsError, match="could not build the index cm_idx_lasthb: internal error") as caught:
        setup(database)
    assert "DROP INDEX cm_idx_lasthb" in caught.value.hint
    assert differences(database) == {("index cm_idx_lasthb", "not valid", "valid", "missing")}
    assert setup(database) == 2
    assert_complete(database)


def test_no_version_is_written_while_an_index_is_not_valid(place: Place):
    place.faults.fail_jobs = 100
    database = place.database()
    with pytest.raises(TecsError, match="could not build the index"):
        setup(database)
    assert versions(database) == ([], [])


def test_an_index_is_waited_for_without_a_change(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(place.standin, "limits", Limits(index_seconds=300.0))
    clock, events = place.leaping(), list[Event]()
    database = place.database(clock=clock)
    setup(database, poll=10.0, emit=events.append)
    assert 290 <= clock.slept <= 320
    assert len(indexes_of(place)) == 7
    assert max(event.seconds for event in events if event.resource == "cm_idx_lasthb") >= 290
    assert_complete(database)


def test_an_index_that_takes_too_long_is_named_and_waited_for_again(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(place.standin, "limits", Limits(index_seconds=1500.0))
    database = place.database(clock=place.leaping())
    with pytest.raises(TecsError, match=r"still being built after 15 min: cm_idx_lasthb, .*idx_namespaces_name"):
        setup(database, poll=60.0)
    assert versions(database) == ([], [])
    assert setup(database, poll=60.0) == 2
    assert len(indexes_of(place)) == 7
    assert_complete(database)


def keeper(place: Place) -> Callable[[str], Any]:
    """A superuser's way to what no client may change."""
    return place.standin._clusters[place.host.partition(".")[0]]._keeper.run


def test_an_index_that_no_job_works_on_is_built_again_after_a_while(place: Place):
    place.ready()
    keeper(place)("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cm_idx_lasthb'::regclass")
    place.standin.statements.clear()
    clock = place.leaping()
    database = place.database(clock=clock)
    assert setup(database, poll=1.0) == 2
    assert indexes_of(place) == ["D cm_idx_lasthb", "C cm_idx_lasthb"]
    assert 5 <= clock.slept < 10
    assert_complete(database)


def test_without_a_list_of_jobs_an_index_is_waited_for_and_never_dropped(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(place.standin, "limits", Limits(index_seconds=30.0))
    database = place.database(clock=place.leaping())
    database.rows("SELECT 1")
    keeper(place)("DROP VIEW sys.jobs")
    setup(database, poll=1.0)
    assert len(indexes_of(place)) == 7
    assert_complete(database)


# -- refusals ------------------------------------------------------------------------------------------------


def refused(act: Callable[[], Any], place: Place, said: str) -> TecsError:
    """The refusal, after which nothing was written."""
    place.standin.statements.clear()
    with pytest.raises(TecsError, match=said) as caught:
        act()
    assert not changes(place.ran())
    return caught.value


@pytest.mark.parametrize(
    ("version", "said", "remedy"),
    [
        ("1.0", "has version 1.0 of Temporal's schema, tecs sets up 1.1", "tecs schema update"),
        ("1.10", "has version 1.10 of Temporal's schema, tecs sets up 1.1", "A newer tecs"),
        ("2", "has version 2 of", "A newer tecs"),
        ("one", "says 'one', which is no version", "by hand"),
    ],
)
def test_setup_refuses_another_version(place: Place, version: str, said: str, remedy: str):
    database = place.database()
    for name in WANTED["versioning"]:
        database.make(create_table(wanted().tables[name]))
    record(database, version)
    error = refused(lambda: setup(database), place, said)
    assert remedy in error.hint
    assert "Nothing was changed" in error.hint


def record(database: Database, version: str) -> None:
    """Version rows as the fork's own tool writes them."""

    def work(cursor: Cursor) -> None:
        cursor.execute(
            b"INSERT INTO schema_version VALUES (0, 'postgres', now() AT TIME ZONE 'UTC', %s, %s)", (version, version)
        )
        cursor.execute(
            b"INSERT INTO schema_update_history VALUES (0, CAST(date_part('year', now()) AS INTEGER), "
            b"CAST(date_part('month', now()) AS INTEGER), now() AT TIME ZONE 'UTC', 'initial version', '', %s, '0')",
            (version,),
        )

    database.run(work)


def test_setup_refuses_a_table_that_differs_and_lists_where(place: Place):
    database = place.database()
    database.make("CREATE TABLE shards (shard_id BIGINT PRIMARY KEY, range_id BIGINT, data BYTEA NOT NULL)")
    error = refused(lambda: setup(database), place, "tables of Temporal's names that differ")
    assert error.message.splitlines()[1:] == [
        "  column shards.shard_id: is BIGINT, wanted INTEGER",
        "  column shards.range_id: is nullable, wanted NOT NULL",
        "  column shards.data_encoding: is missing, wanted VARCHAR(16)",
    ]
    assert "tecs schema setup --overwrite" in error.hint


def test_a_long_list_of_differences_is_cut_short(place: Place):
    database = place.database()
    database.make("CREATE TABLE executions (a INTEGER PRIMARY KEY)")
    database.make("CREATE TABLE shards (a INTEGER PRIMARY KEY)")
    error = refused(lambda: setup(database), place, "and 7 more; `tecs schema status` shows all")
    assert len(error.message.splitlines()) == 1 + 12 + 1


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("INSERT INTO shards VALUES (1, 1, '', '')", "shards is not empty"),
        ("INSERT INTO queue_metadata VALUES (1, '', '', 1)", "queue_metadata is not empty"),
    ],
)
def test_setup_refuses_data_without_a_version(place: Place, sql: str, said: str):
    database = place.database()
    for name in ("shards", "queue_metadata"):
        database.make(create_table(wanted().tables[name]))
    run(database, sql)
    error = refused(lambda: setup(database), place, f"has data but no schema version: {said}")
    assert "--overwrite" in error.hint


def test_an_extra_column_or_table_is_left_alone_unless_the_server_cannot_write_around_it(place: Place):
    database = place.ready()
    database.make("ALTER TABLE shards ADD COLUMN note VARCHAR(9)")
    database.make("CREATE TABLE mine (a INTEGER PRIMARY KEY)")
    run(database, "INSERT INTO mine VALUES (1)")
    assert setup(database) == 0
    assert differences(database) == {("column shards.note", "VARCHAR(9)", "no such column", "extra")}
    database.make("DROP TABLE shards")
    row = create_table(wanted().tables["shards"])
    database.make(row.replace("PRIMARY KEY", "note INTEGER NOT NULL, also INTEGER NOT NULL DEFAULT 0, PRIMARY KEY"))
    refused(lambda: setup(database), place, r"column shards.note: is INTEGER NOT NULL, wanted no such column")
    assert database.rows("SELECT * FROM mine") == [(1,)]


# -- history shards ------------------------------------------------------------------------------------------


def started(database: Database, shards: int) -> tuple[Any, ...]:
    """Write what a server writes when it first starts; the row."""
    blob = b"\x0a\x06active\x10" + bytes([shards & 0x7F | 0x80, shards >> 7]) + b"\x1a\x04some"
    run(database, "INSERT INTO cluster_metadata_info VALUES (0, 'active', %s, 'Proto3', 1)", blob)
    [row] = database.rows("SELECT * FROM cluster_metadata_info")
    return row


def test_another_number_of_history_shards_is_refused_by_everything_that_changes(place: Place, tmp_path: Path):
    database = old(place)
    row = started(database, 512)
    for act in (
        lambda: setup(database),
        lambda: schema.missing(database, shards=SHARDS),
        lambda: schema.newer(database, carried(wanted()), shards=SHARDS),
        lambda: update(database),
    ):
        error = refused(act, place, "started with 512 history shards, tecs.toml says 4096")
        assert "set temporal.history_shards = 512" in error.hint
    told = schema.status(database, shards=SHARDS)
    assert told.shards == 512
    assert Difference("history shards", "512", "4096 (temporal.history_shards)") in told.differences
    assert update(database, shards=512) == ["1.1"]
    assert setup(database, shards=512) == 0
    assert schema.status(database, shards=512).same
    assert database.rows("SELECT * FROM cluster_metadata_info") == [row]


def test_nothing_ever_writes_to_cluster_metadata_info(place: Place, tmp_path: Path):
    database = old(place)
    row = started(database, SHARDS)
    place.standin.statements.clear()
    update(database)
    update(database, from_checkout(checkout(tmp_path, **NEWER)))
    schema.status(database, shards=SHARDS)
    assert database.rows("SELECT * FROM cluster_metadata_info") == [row]
    schema.drop(database)
    setup(database)
    about = [text for text in place.ran() if "cluster_metadata_info" in text and not text.startswith("SELECT")]
    assert [text.split(" (")[0] for text in about] == [
        "DROP TABLE IF EXISTS cluster_metadata_info",
        "CREATE TABLE IF NOT EXISTS cluster_metadata_info",
    ]


# -- update --------------------------------------------------------------------------------------------------


def old(place: Place) -> Database:
    """A database with version 1.0."""
    database = place.database(clock=place.leaping())
    before = wanted().until("1.0")
    assert (before.version, len(before.tables)) == ("1.0", 38)
    for table in before.tables.values():
        database.make(create_table(table))
        for index in table.indexes:
            database.make(create_index(index))
    for name, row in before.seed.items():
        database.make(plant(before.tables[name], row))
    record(database, "1.0")
    while "not valid" in str(described(database.rows)):
        database.clock.sleep(POLL)
    return database


def update(database: Database, migrations: list[Migration] | None = None, **options: Any) -> list[str]:
    options = {"shards": SHARDS, "poll": POLL} | options
    return schema.update(database, carried(wanted()) if migrations is None else migrations, **options)


MD5 = {version["version"]: (version["md5"], version["description"]) for version in WANTED["versions"]}


def updated(md5: str, description: str) -> tuple[list[Any], list[Any]]:
    """The version rows after an update from 1.0 to 1.1."""
    history = [(0, "0", "1.0", "initial version", ""), (0, "1.0", "1.1", description, md5)]
    return [(0, "postgres", "1.1", "1.0")], history


def test_an_update_from_1_0_adds_what_1_1_brought(place: Place):
    database = old(place)
    assert described(database.rows) == complete("1.0")
    assert schema.status(database, shards=SHARDS).differences[:2] == (
        Difference("schema version", "1.0", "1.1"),
        Difference(f"table {ADDED}", "missing", "there", "missing"),
    )
    place.standin.statements.clear()
    assert update(database) == ["1.1"]
    assert [text.split()[5] for text in place.ran("CREATE")] == [ADDED]
    assert described(database.rows) == complete()
    assert versions(database) == updated(*MD5["1.1"])
    assert schema.status(database, shards=SHARDS).same
    place.standin.statements.clear()
    assert update(database) == []
    assert setup(database) == 0
    assert not place.ran("BEGIN")


def test_an_update_that_dies_at_every_single_statement_ends_right(place: Place):
    old(other := elsewhere(place))
    whole = uncut(other, update)
    old(place)
    assert_all_cut(whole, cut_everywhere(place, update))
    database = place.database()
    assert described(database.rows) == complete()
    assert versions(database) == updated(*MD5["1.1"])


def test_an_update_refuses_what_is_not_as_its_version_says(place: Place):
    empty = place.database()
    refused(lambda: update(empty), place, "has no schema version")
    database = old(elsewhere(place))
    database.make("DROP TABLE queues")
    database.make(drop_index("cm_idx_lasthb"))
    error = refused(lambda: update(database), place, "is not what its version 1.0 says")
    assert "table queues: is missing" in error.message
    assert "cm_idx_lasthb" not in error.message


def test_an_update_makes_the_indexes_that_the_version_before_should_have(place: Place):
    """The fork's tool does not wait for them, so that a failed build is not noticed."""
    database = old(place)
    database.make(drop_index("cm_idx_lasthb"))
    assert update(database) == ["1.1"]
    assert described(database.rows) == complete()


def test_an_update_refuses_a_table_that_somebody_made_otherwise_by_hand(place: Place):
    database = old(place)
    made = create_table(wanted().tables[ADDED])
    database.make(made.replace("run_id UUID", "run_id BYTEA"))
    error = refused(lambda: update(database), place, f"column {ADDED}.run_id: is BYTEA, wanted UUID")
    assert "Nothing was changed" in error.hint
    database.make(f"DROP TABLE {ADDED}")
    database.make(made)
    assert update(database) == ["1.1"]


# -- a checkout's versions -----------------------------------------------------------------------------------


def manifest(version: str, *names: str) -> str:
    told = {"CurrVersion": version, "MinCompatibleVersion": "1.0", "Description": f"to {version}"}
    return json.dumps(told | {"SchemaUpdateCqlFiles": names})


def as_in_the_fork(table: Table) -> str:
    indexes = [create_index(index).replace(" IF NOT EXISTS", "") for index in table.indexes]
    return ";\n".join([create_table(table).replace(" IF NOT EXISTS", ""), *indexes]) + ";\n"


FORK = {
    "v1.0": {
        "manifest.json": manifest("1.0", "schema.sql"),
        "schema.sql": "".join(as_in_the_fork(t) for t in wanted().tables.values() if t.since == "1.0"),
    },
    "v1.1": {
        "manifest.json": manifest("1.1", "chasm.sql"),
        "chasm.sql": f"-- new; for CHASM\n{create_table(wanted().tables[ADDED])};\n",
    },
}
NEWER = FORK | {
    "v1.2": {
        "manifest.json": manifest("1.2", "a.sql", "b.sql"),
        "a.sql": """
            CREATE TABLE notes (
                id   BIGINT NOT NULL, -- a key; what else
                text VARCHAR(20) NOT NULL DEFAULT 'a , b;',
                PRIMARY KEY (id)
            );
            CREATE UNIQUE INDEX notes_by_text ON notes USING btree (text ASC, id);
            ALTER TABLE tasks ADD COLUMN pass INTEGER, ADD grade SMALLINT;
        """,
        "b.sql": """
            ALTER TABLE queue_metadata RENAME COLUMN version TO revision;
            ALTER TABLE cluster_membership DROP COLUMN rpc_address;
            DROP INDEX cm_idx_lasthb;
            DROP TABLE namespaces;
            ALTER TABLE shards ALTER COLUMN data DROP NOT NULL;
            ALTER TABLE tasks ALTER COLUMN pass SET DEFAULT 0;
            INSERT INTO notes (id) VALUES (1);
        """,
    }
}


def checkout(folder: Path, **versions: dict[str, str]) -> Path:
    """A checkout of the fork, as far as it matters."""
    for version, texts in versions.items():
        home = folder / "schema/dsql/temporal/versioned" / version
        home.mkdir(parents=True)
        for name, text in texts.items():
            (home / name).write_text(text)
    return folder


def md5(version: str) -> str:
    return hashlib.md5(NEWER[version]["manifest.json"].encode(), usedforsecurity=False).hexdigest()


def complete_1_2() -> dict[str, Any]:
    made = complete()
    key = {"key": ["id"], "indexes": [{"name": "notes_by_text", "columns": ["text", "id"], "unique": True}]}
    key["indexes"][0]["valid"] = "valid"
    columns = [["id", "BIGINT", False, None], ["text", "VARCHAR(20)", False, "'a , b;'"]]
    made["notes"] = {"columns": columns} | key
    added = [["pass", "INTEGER", True, "0"], ["grade", "SMALLINT", True, None]]
    made["tasks"]["columns"] = made["tasks"]["columns"] + added
    made["shards"]["columns"] = [[*c[:2], True, c[3]] if c[0] == "data" else c for c in made["shards"]["columns"]]
    queue = made["queue_metadata"]
    queue["columns"] = [["revision", *c[1:]] if c[0] == "version" else c for c in queue["columns"]]
    members = made["cluster_membership"]
    members["columns"] = [c for c in members["columns"] if c[0] != "rpc_address"]
    members["indexes"] = [i for i in members["indexes"] if i["name"] not in ("cm_idx_lasthb", "cm_idx_rpchost")]
    del made["namespaces"]
    return made


def test_an_update_from_a_checkout_writes_what_the_forks_tool_would(place: Place, tmp_path: Path):
    database = old(place)
    assert update(database, from_checkout(checkout(tmp_path, **FORK))) == ["1.1"]
    assert described(database.rows) == complete()
    assert versions(database) == updated(md5("v1.1"), "to 1.1")


def test_a_newer_version_from_a_checkout_is_applied_after_those_before_it(place: Place, tmp_path: Path):
    database = old(place)
    migrations = from_checkout(checkout(tmp_path, **NEWER))
    assert [m.version for m in schema.newer(database, migrations, shards=SHARDS)] == ["1.1", "1.2"]
    assert update(database, migrations) == ["1.1", "1.2"]
    assert described(database.rows) == complete_1_2()
    assert database.rows("SELECT * FROM notes") == [(1, "a , b;")]
    current, history = versions(database)
    assert current == [(0, "postgres", "1.2", "1.0")]
    assert history[1:] == [(0, "1.0", "1.1", "to 1.1", md5("v1.1")), (0, "1.1", "1.2", "to 1.2", md5("v1.2"))]
    assert update(database, migrations) == []
    assert update(database) == []
    error = refused(lambda: setup(database), place, "has version 1.2 of Temporal's schema")
    assert "A newer tecs" in error.hint


SHORT = """
    CREATE TABLE notes (id BIGINT PRIMARY KEY, text VARCHAR(20));
    CREATE UNIQUE INDEX notes_by_text ON notes (text);
    ALTER TABLE queue_metadata RENAME COLUMN version TO revision;
    ALTER TABLE cluster_membership DROP COLUMN rpc_address;
    DROP INDEX cm_idx_lasthb;
    DROP TABLE namespaces;
    INSERT INTO notes (id) VALUES (1);
"""


@pytest.mark.usefixtures("slow_indexes")
def test_an_update_from_a_checkout_that_dies_at_every_single_change_ends_right(place: Place, tmp_path: Path):
    version = {"manifest.json": manifest("1.2", "a.sql"), "a.sql": SHORT}
    migrations = from_checkout(checkout(tmp_path, **{"v1.2": version}))

    def act(database: Database, **options: Any) -> list[str]:
        return update(database, migrations, poll=100.0, **options)

    for cluster in (place, other := elsewhere(place)):
        setup_waiting(cluster.database(clock=cluster.leaping()))
    whole = changes(uncut(other, act))
    assert len(whole) == 3 * 7 + 4
    assert_all_cut(whole, cut_everywhere(place, act, changes_only=True))
    expected, cut = other.database(), place.database()
    assert described(cut.rows) == described(expected.rows)
    assert cut.rows("SELECT * FROM notes") == expected.rows("SELECT * FROM notes") == [(1, None)]
    assert versions(cut) == versions(expected)
    assert [row[1:3] for row in versions(cut)[1]] == [("0", "1.1"), ("1.1", "1.2")]


def test_what_cannot_be_built_from_a_checkout_is_named_and_no_version_written(place: Place, tmp_path: Path):
    database = place.ready()
    for shard in (1, 2):
        run(database, "INSERT INTO shards VALUES (%s, 1, '', '')", shard)
    sql = {"manifest.json": manifest("1.2", "a.sql"), "a.sql": "CREATE UNIQUE INDEX ranges ON shards (range_id);"}
    with pytest.raises(TecsError, match="could not build the index ranges: Found duplicate key"):
        update(database, from_checkout(checkout(tmp_path, **{"v1.2": sql})))
    assert versions(database) == FRESH
    run(database, "DELETE FROM shards WHERE shard_id = 2")
    assert update(database, from_checkout(tmp_path)) == ["1.2"]


def test_a_statement_that_the_database_refuses_is_told_with_its_file_and_line(place: Place, tmp_path: Path):
    database = place.ready()
    sql = {"manifest.json": manifest("1.2", "a.sql"), "a.sql": "\nALTER TABLE nothing ADD COLUMN a INTEGER;"}
    with pytest.raises(TecsError, match=r'v1\.2/a\.sql:2: DSQL refuses: relation "nothing" does not exist'):
        update(database, from_checkout(checkout(tmp_path, **{"v1.2": sql})))
    assert versions(database) == FRESH


def test_a_broken_checkout_is_refused_with_all_its_problems_before_anybody_is_asked(tmp_path: Path):
    broken = {
        "v1.2": {"manifest.json": manifest("1.2", "a.sql", "b.sql"), "a.sql": "TRUNCATE a;\n\nDO $$ x; $$;"},
        "v1.3": {"manifest.json": "{"},
    }
    with pytest.raises(ConfigError) as caught:
        from_checkout(checkout(tmp_path, **FORK | broken))
    home = tmp_path / "schema/dsql/temporal/versioned"
    assert [line.strip().split(": ")[0] for line in caught.value.message.splitlines()[1:]] == [
        f"{home}/v1.2/a.sql:1", f"{home}/v1.2/a.sql:3", f"{home}/v1.2/b.sql", f"{home}/v1.3/manifest.json",
    ]  # fmt: skip


# -- status --------------------------------------------------------------------------------------------------


def differences(database: Database) -> set[tuple[str, ...]]:
    return {tuple(difference) for difference in schema.status(database, shards=SHARDS).differences}


def test_status_lists_each_kind_of_difference(place: Place):
    database = place.ready()
    assert schema.status(database, shards=SHARDS).same
    started(database, 512)
    otherwise = {
        "shards": ("range_id BIGINT", "range_id INTEGER"),
        "executions": ("DEFAULT 0", "DEFAULT 7"),
        "current_executions": (" DEFAULT ''", ""),
        "queue": ("message_payload BYTEA NOT NULL", "message_payload BYTEA"),
        "tasks": ("PRIMARY KEY (range_hash, task_queue_id, task_id)", "PRIMARY KEY (task_id, range_hash)"),
        "history_tree": ("PRIMARY KEY", "note INTEGER, PRIMARY KEY"),
        "queue_messages": ("message_payload BYTEA NOT NULL,", ""),
    }
    for name, (now, then) in otherwise.items():
        sql = create_table(wanted().tables[name])
        assert now in sql
        database.make(f"DROP TABLE {name}")
        database.make(sql.replace(now, then))
    for name in ("queues", "buffered_events"):
        database.make(f"DROP TABLE {name}")
    for name in ("cm_idx_lasthb", "cm_idx_rolehost", "cm_idx_rpchost", "idx_namespaces_name"):
        database.make(drop_index(name))
    place.faults.fail_jobs = 1
    database.make("CREATE INDEX ASYNC cm_idx_lasthb ON cluster_membership (last_heartbeat)")
    while database.rows("SELECT 1 FROM sys.jobs WHERE status = 'submitted'"):
        database.clock.sleep(POLL)
    database.make("CREATE INDEX ASYNC cm_idx_rolehost ON cluster_membership (host_id, role)")
    database.make("CREATE UNIQUE INDEX ASYNC cm_idx_rpchost ON cluster_membership (rpc_address, role)")
    database.make("CREATE UNIQUE INDEX ASYNC idx_namespaces_name ON namespaces (name) WHERE is_global")
    database.make("CREATE INDEX ASYNC mine ON cluster_membership (rpc_port)")
    database.make("CREATE TABLE foreigner (a INTEGER PRIMARY KEY)")
    run(database, "DELETE FROM namespace_metadata")
    run(database, "UPDATE schema_version SET curr_version = '1.2'")
    while database.rows("SELECT 1 FROM sys.jobs WHERE status = 'submitted'"):
        database.clock.sleep(POLL)
    place.standin.statements.clear()
    told = schema.status(database, shards=SHARDS)
    assert not place.ran("BEGIN", "CREATE", "INSERT", "UPDATE", "DELETE", "DROP", "ALTER")
    assert not told.same
    assert (told.version, told.wanted, told.shards, told.strangers) == ("1.2", "1.1", 512, ("foreigner",))
    assert told.differences[0] == Difference("schema version", "1.2", "1.1")
    gone = [("table queues", "missing", "there", "missing"), ("table buffered_events", "missing", "there", "missing")]
    assert {tuple(d) for d in told.differences[1:]} == {
        *gone,
        ("index idx_buffered_events_id", "missing", "there", "missing"),
        ("column shards.range_id", "INTEGER", "BIGINT", "differs"),
        ("column executions.db_record_version", "default 7", "default 0", "differs"),
        ("column current_executions.data_encoding", "default none", "default ''", "differs"),
        ("column queue.message_payload", "nullable", "NOT NULL", "differs"),
        ("primary key of tasks", "(task_id, range_hash)", "(range_hash, task_queue_id, task_id)", "differs"),
        ("column history_tree.note", "INTEGER", "no such column", "extra"),
        ("column queue_messages.message_payload", "missing", "BYTEA", "differs"),
        ("index cm_idx_lasthb", "not valid", "valid", "missing"),
        (
            "index cm_idx_rolehost",
            "on cluster_membership (host_id, role)",
            "on cluster_membership (role, host_id)",
            "differs",
        ),
        (
            "index cm_idx_rpchost",
            "unique on cluster_membership (rpc_address, role)",
            "on cluster_membership (rpc_address, role)",
            "differs",
        ),
        (
            "index idx_namespaces_name",
            "unique on namespaces (name) for some rows only",
            "unique on namespaces (name)",
            "differs",
        ),
        ("index mine", "on cluster_membership (rpc_port)", "no such index", "extra"),
        ("row of namespace_metadata", "missing", "there", "missing"),
        ("history shards", "512", "4096 (temporal.history_shards)", "differs"),
    }


def test_status_of_an_empty_database_says_that_all_is_missing(place: Place):
    told = schema.status(place.database(), shards=SHARDS)
    assert (told.version, told.shards, told.strangers) == ("", None, ())
    assert told.differences[0] == Difference("schema version", "none", "1.1")
    assert Counter(d.kind for d in told.differences[1:]) == {"missing": 39 + 7}


def test_extra_columns_are_always_listed_in_the_same_order(place: Place):
    database = place.ready()
    names = [f"note_{chr(ord('a') + n)}" for n in (4, 1, 3, 0, 2, 5)]
    for name in names:
        database.make(f"ALTER TABLE shards ADD COLUMN {name} INTEGER")
    told = schema.status(database, shards=SHARDS).differences
    assert [d.where for d in told] == [f"column shards.{name}" for name in sorted(names)]


# -- overwrite -----------------------------------------------------------------------------------------------


def test_drop_takes_temporals_tables_one_by_one_the_version_first_and_no_other(place: Place):
    database = place.ready()
    database.make("CREATE TABLE mine (a INTEGER PRIMARY KEY)")
    run(database, "INSERT INTO mine VALUES (7)")
    place.standin.statements.clear()
    gone = schema.drop(database)
    assert set(gone) == TABLES.keys()
    writes = place.ran("BEGIN", "DROP", "COMMIT")
    assert writes == [s for name in gone for s in ("BEGIN", f"DROP TABLE IF EXISTS {name}", "COMMIT")]
    assert gone[0] == "schema_version"
    assert described(database.rows).keys() == {"mine"}
    assert database.rows("SELECT * FROM mine") == [(7,)]
    assert schema.drop(database) == []
    assert setup(database) == 49
    database.make("DROP TABLE mine")
    assert_complete(database)


@pytest.mark.parametrize("seconds", [-5, 0, 55])
def test_drop_is_refused_within_a_minute_of_a_heartbeat(place: Place, seconds: int):
    database = place.ready()
    heartbeat(database, 3600)
    heartbeat(database, seconds)
    error = refused(lambda: schema.drop(database), place, "somebody wrote a heartbeat .* s ago")
    assert "Nothing was changed" in error.hint
    assert_complete(database)


def test_drop_goes_ahead_a_minute_after_the_last_heartbeat(place: Place):
    database = place.ready()
    heartbeat(database, 61)
    assert len(schema.drop(database)) == 39


def heartbeat(database: Database, ago: int) -> None:
    run(
        database,
        "INSERT INTO cluster_membership VALUES (0, gen_random_uuid(), '10.0.0.1', 7233, 1, NULL, "
        "now() AT TIME ZONE 'UTC' - CAST(%s AS INTERVAL), NULL)",
        f"{ago} seconds",
    )


def test_a_drop_that_dies_at_every_single_statement_ends_right(place: Place):
    other = elsewhere(place)
    for cluster in (place, other):
        some(cluster)
    whole = uncut(other, schema.drop)
    assert len(changes(whole)) == 3 * 7
    assert_all_cut(whole, cut_everywhere(place, schema.drop, never_versioned))
    assert described(place.database().rows).keys() == {"mine"}


def some(place: Place) -> None:
    """Some of Temporal's tables, and one that is none."""
    database = place.database()
    for name in (
        "namespaces",
        "shards",
        "cluster_membership",
        "cluster_metadata_info",
        "queues",
        *WANTED["versioning"],
    ):
        database.make(create_table(wanted().tables[name]))
    database.make("CREATE TABLE mine (a INTEGER PRIMARY KEY)")
    record(database, "1.1")
    heartbeat(database, 3600)


def never_versioned(database: Database) -> None:
    assert not schema.look(database).version


def test_what_a_drop_that_was_cut_left_is_no_schema_and_setup_says_so(place: Place):
    place.ready()
    place.faults.cut(12)
    with pytest.raises(Killed):
        schema.drop(place.mortal())
    database = place.database()
    refused(lambda: setup(database), place, "has data but no schema version: schema_update_history is not empty")
    schema.drop(database)
    assert setup(database) == 49
    assert_complete(database)


# -- the linter ----------------------------------------------------------------------------------------------

LINTER = Path(sys.executable).parent / "dsql-lint"


def lint(statements: list[str]) -> list[str]:
    """What AWS's linter has against statements."""
    text = "\n".join(f"{sql.strip()};" for sql in statements)
    found = subprocess.run([LINTER, "--format", "json", "-"], input=text, capture_output=True, text=True, check=False)
    [told] = json.loads(found.stdout)["files"]
    assert not told["error"]
    return [f"{d['rule']}: {d['statement_preview']}" for d in told["diagnostics"]]


def owned() -> list[str]:
    """Every statement that stands in the package, and those that are made from the declaration."""
    stand: dict[str, str] = {}
    for module in pkgutil.iter_modules(temporal_ecs.dsql.__path__, "temporal_ecs.dsql."):
        for name, value in vars(import_module(module.name)).items():
            if isinstance(value, str) and re.match(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s", value):
                stand[f"{module.name}.{name}"] = value.format(rows="(%s)")
    assert len(set(stand.values())) >= 13
    tables = wanted().tables
    made = [sql for t in tables.values() for sql in (create_table(t), *map(create_index, t.indexes))]
    made += [plant(tables[name], row) for name, row in wanted().seed.items()]
    made += [f"DROP TABLE IF EXISTS {name}" for name in tables] + [drop_index(name) for name in INDEXES]
    return [re.sub("%s", "$1", sql) for sql in dict.fromkeys([*stand.values(), *made])]


def test_awss_linter_accepts_every_statement_that_tecs_owns():
    assert lint(owned()) == []


def test_awss_linter_accepts_everything_that_reaches_the_database(place: Place, tmp_path: Path):
    database = old(place)
    place.standin.statements.clear()
    place.faults.fail_jobs = 1
    update(database, from_checkout(checkout(tmp_path, **NEWER)))
    schema.status(database, shards=SHARDS)
    schema.drop(database)
    setup(database)
    heartbeat(database, 7200)
    ring = membership.read(database)
    assert len(membership.delete(database, ring.members, margin=membership.MARGIN)) == 1
    ran = dict.fromkeys(place.ran())
    assert len(ran) > 110
    assert lint([text for text in ran if text not in ("BEGIN", "COMMIT")]) == []


def test_the_linter_would_say_something():
    assert len(lint(["CREATE TABLE a (b SERIAL PRIMARY KEY)", "CREATE INDEX c ON a (b)"])) == 2
