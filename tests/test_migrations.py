"""Versions of the schema from a checkout: files split, put into DSQL's dialect, or refused with every reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_ecs.dsql.catalogue import Catalogue, FoundIndex, FoundTable
from temporal_ecs.dsql.dialect import Change, UnfitError, translate
from temporal_ecs.dsql.migrations import carried, from_checkout, split
from temporal_ecs.dsql.temporal_schema import Column, Index, wanted
from temporal_ecs.errors import ConfigError

# -- splitting -----------------------------------------------------------------------------------------------

INSIDE = st.text(alphabet="a1 ,;)('\"-/*\\\n$é", max_size=8)
WORDS = st.one_of(
    st.sampled_from(["CREATE", "TABLE", "IF", "NOT", "EXISTS", "é_1", "1", "=", "(", ")", ",", "::", "-", "/", "*"]),
    INSIDE.map(lambda text: "'" + text.replace("'", "''") + "'"),
    INSIDE.map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    INSIDE.map(lambda text: '"' + text.replace('"', '""') + '"'),
    INSIDE.map(lambda text: "$$" + text.replace("$", "") + "$$"),
    INSIDE.map(lambda text: "$a_1$" + text.replace("$a", "") + "$a_1$"),
)
GAPS = st.one_of(
    st.sampled_from([" ", "\n", " \t\n  ", "\r\n"]),
    st.sampled_from(['-- it\'s; a "comment"\n', "/* it's; $$ */", "/* one /* in\n another */ */"]).flatmap(
        lambda comment: st.sampled_from([f" {comment}", f" {comment} ", f"\n{comment}\n"])
    ),
)
STATEMENTS = st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=8)


def plain(words: list[str]) -> str:
    """Words with one space between them, but none before a comma or a closing parenthesis."""
    return "".join(f" {word}" if at and word not in (",", ")") else word for at, word in enumerate(words))


@given(st.lists(STATEMENTS, max_size=5), GAPS)
def test_whatever_is_written_comes_out_as_it_was(statements: list[list[tuple[str, str]]], gap: str):
    text, expected = "", []
    for words in statements:
        text += gap
        expected.append((text.count("\n") + 1, plain([word for word, _ in words])))
        text += "".join(word + after for word, after in words) + ";"
    assert list(split(text)) == expected
    assert [sql for _, sql in split(";".join(sql for _, sql in expected))] == [sql for _, sql in expected]


def test_the_last_semicolon_may_be_missing_and_empty_statements_are_none():
    assert list(split(";; -- nothing\n ; a\n;\n\nb -- end")) == [(2, "a"), (5, "b")]
    assert list(split("")) == list(split(" \n-- x")) == []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a;\n 'b;\nc", 2, "' is never closed"),
        ('a;\n\n"b', 3, '" is never closed'),
        ("$$ a $", 1, "$$ is never closed"),
        ("\n$x$ a $y$ $$", 2, "$x$ is never closed"),
        ("a\n/* b /* c */", 2, "a comment is never closed"),
    ],
)
def test_what_never_ends_is_told_with_its_line(text: str, line: int, said: str):
    with pytest.raises(SyntaxError) as refused:
        list(split(text))
    assert (refused.value.lineno, refused.value.msg) == (line, said)


# -- the dialect ---------------------------------------------------------------------------------------------

REWRITTEN = {
    "CREATE TABLE t (a INTEGER PRIMARY KEY)": ["CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY)"],
    "create table if not exists public.t(a INTEGER)": ["CREATE TABLE IF NOT EXISTS t (a INTEGER)"],
    "CREATE TABLE t (a VARCHAR(9) DEFAULT 'temp[1] serial')": [
        "CREATE TABLE IF NOT EXISTS t (a VARCHAR(9) DEFAULT 'temp[1] serial')"
    ],
    'CREATE TABLE public."Mixed" (a INTEGER)': ['CREATE TABLE IF NOT EXISTS "Mixed" (a INTEGER)'],
    "CREATE INDEX i ON t (a)": ["CREATE INDEX ASYNC IF NOT EXISTS i ON t (a)"],
    "CREATE UNIQUE INDEX CONCURRENTLY i ON public.t USING btree (a ASC, b)": [
        "CREATE UNIQUE INDEX ASYNC IF NOT EXISTS i ON t (a, b)"
    ],
    "CREATE INDEX ASYNC IF NOT EXISTS i ON t (a) INCLUDE (b)": [
        "CREATE INDEX ASYNC IF NOT EXISTS i ON t (a) INCLUDE (b)"
    ],
    "DROP TABLE a, public.b": ["DROP TABLE IF EXISTS a", "DROP TABLE IF EXISTS b"],
    "DROP INDEX IF EXISTS i": ["DROP INDEX IF EXISTS i"],
    "INSERT INTO t VALUES (1)": ["INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING"],
    "INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING": ["INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING"],
    "INSERT INTO t VALUES ('on conflict')": ["INSERT INTO t VALUES ('on conflict') ON CONFLICT DO NOTHING"],
    "ALTER TABLE t ADD a VARCHAR(5), ADD COLUMN b DECIMAL(4, 2)": [
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS a VARCHAR(5)",
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS b DECIMAL(4, 2)",
    ],
    "ALTER TABLE t ADD COLUMN a TIMESTAMP WITH TIME ZONE NULL": [
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS a TIMESTAMP WITH TIME ZONE"
    ],
    "ALTER TABLE ONLY t DROP COLUMN a": ["ALTER TABLE t DROP COLUMN IF EXISTS a"],
    "ALTER TABLE t RENAME a TO b": ["ALTER TABLE t RENAME COLUMN a TO b"],
    "ALTER TABLE t ALTER a SET DEFAULT 'x, (y', ALTER COLUMN b DROP NOT NULL": [
        "ALTER TABLE t ALTER a SET DEFAULT 'x, (y'",
        "ALTER TABLE t ALTER COLUMN b DROP NOT NULL",
    ],
}


@pytest.mark.parametrize(("sql", "run"), REWRITTEN.items(), ids=REWRITTEN)
def test_a_statement_is_rewritten_so_that_it_may_run_twice(sql: str, run: list[str]):
    changes = translate(sql)
    assert [change.sql for change in changes] == run
    assert [again.sql for change in changes for again in translate(change.sql)] == run


REFUSED = {
    "CREATE TABLE t (a BIGSERIAL PRIMARY KEY)": "no serial types",
    "CREATE TABLE t (a INTEGER[])": "no arrays",
    "CREATE TABLE t (a INTEGER ARRAY)": "no arrays",
    "CREATE TABLE t (a INTEGER) PARTITION BY RANGE (a)": "partitions by itself",
    "CREATE TABLE t () INHERITS (u)": "partitions by itself",
    'CREATE TABLE t (a TEXT COLLATE "de")': "C collation only",
    "CREATE TEMPORARY TABLE t (a INTEGER)": "no temporary",
    "CREATE UNLOGGED TABLE t (a INTEGER)": "no temporary or unlogged",
    "CREATE TABLE t (a INTEGER, EXCLUDE (a WITH =))": "no exclusion",
    "CREATE TABLE t (a INTEGER) TABLESPACE x": "no tablespaces",
    "CREATE TABLE t AS SELECT 1": "does not know how to run this twice: CREATE TABLE t AS …",
    "CREATE INDEX i ON t USING gin (a)": "no gin indexes",
    "CREATE INDEX i ON t (a DESC)": "neither DESC",
    "CREATE INDEX i ON t (a text_pattern_ops)": "operator classes",
    "DO $$ BEGIN END $$": "no PL/pgSQL",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'": "no triggers and no PL/pgSQL",
    "CREATE TRIGGER t BEFORE INSERT ON t": "no triggers",
    "CREATE EXTENSION IF NOT EXISTS btree_gin": "no extensions",
    "CREATE TYPE t AS ENUM ('a')": "no enum",
    "TRUNCATE t": "no TRUNCATE",
    "BEGIN": "a transaction of its own",
    "COMMIT": "a transaction of its own",
    "UPDATE t SET a = 1": "does not know how to run this twice: UPDATE t SET a …",
    "DELETE FROM t": "does not know how to run this twice",
    "DROP TABLE t CASCADE": "does not know how to run this twice",
    "ALTER TABLE t ADD COLUMN a INTEGER NOT NULL": "ADD COLUMN name type only",
    "ALTER TABLE t ADD COLUMN a INTEGER DEFAULT 0": "ADD COLUMN name type only",
    "ALTER TABLE t ADD a INTEGER, ADD b INTEGER DEFAULT 0": "ADD COLUMN name type only",
    "ALTER TABLE t ALTER COLUMN a TYPE BIGINT": "cannot change a column's type",
    "ALTER TABLE t ALTER a SET DATA TYPE BIGINT": "cannot change a column's type",
    "ALTER TABLE t ALTER COLUMN a SET NOT NULL": "NOT NULL",
    "ALTER TABLE t ADD CONSTRAINT k PRIMARY KEY (a)": "use a unique index",
    "ALTER TABLE t ADD UNIQUE (a)": "use a unique index",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)": "does not know ALTER TABLE … ADD CONSTRAINT c CHECK",
    "ALTER TABLE t RENAME TO u": "does not know ALTER TABLE … RENAME TO u",
    "ALTER TABLE t DROP CONSTRAINT c": "does not know ALTER TABLE … DROP CONSTRAINT c",
}


@pytest.mark.parametrize(("sql", "reason"), REFUSED.items(), ids=REFUSED)
def test_what_dsql_does_not_take_is_refused_with_the_reason(sql: str, reason: str):
    with pytest.raises(UnfitError) as refused:
        translate(sql)
    assert reason in str(refused.value)


def has(*columns: str, index: str = "") -> Catalogue:
    """A catalogue with a table `t`."""
    found = FoundTable({name: Column(name, "INTEGER", True, None) for name in columns})
    if index:
        found.indexes[index] = FoundIndex(Index(index, "t", ("a",), False), valid=True, partial=False, oid=1)
    return Catalogue({"t": found})


@pytest.mark.parametrize(
    ("sql", "before", "after"),
    [
        ("CREATE TABLE T (a INTEGER)", Catalogue({}), has("a")),
        ('CREATE TABLE "t" (a INTEGER)', Catalogue({}), has("a")),
        ("DROP TABLE T RESTRICT", has("a"), Catalogue({})),
        ("CREATE INDEX I ON t (a)", has("a"), has("a", index="i")),
        ("DROP INDEX I", has("a", index="i"), has("a")),
        ("ALTER TABLE T ADD COLUMN B INTEGER", has("a"), has("a", "b")),
        ("ALTER TABLE T DROP COLUMN B", has("a", "b"), has("a")),
        ("ALTER TABLE T RENAME COLUMN A TO B", has("a"), has("b")),
    ],
)
def test_the_catalogue_tells_whether_a_statement_has_run(sql: str, before: Catalogue, after: Catalogue):
    [change] = translate(sql)
    assert (change.done(before), change.done(after)) == (False, True)


@pytest.mark.parametrize(
    "sql", ["INSERT INTO t VALUES (1)", "ALTER TABLE t ALTER a SET DEFAULT 0", "ALTER TABLE t ALTER a DROP NOT NULL"]
)
def test_what_the_catalogue_cannot_tell_is_run_again(sql: str):
    [change] = translate(sql)
    assert not change.done(has("a"))


# -- what tecs carries ---------------------------------------------------------------------------------------


def test_the_carried_versions_are_in_dsqls_words_already():
    first, second = carried(wanted())
    assert [first.version, second.version] == ["1.0", "1.1"]
    assert [len(first.steps), len(second.steps)] == [36 + 7, 1]
    for step in (*first.steps, *second.steps):
        assert [change.sql for change in translate(step.change.sql)] == [step.change.sql]
    assert second.steps[0].change.label == "table current_chasm_executions"


# -- checkouts -----------------------------------------------------------------------------------------------

MANIFEST = '{"CurrVersion": "%s", "MinCompatibleVersion": "1.0", "SchemaUpdateCqlFiles": ["a.sql"]}'


def checkout(folder: Path, **versions: dict[str, str]) -> Path:
    """A checkout with these files in its versions, `v1_2` for v1.2; the place of the versions."""
    home = folder / "schema/dsql/temporal/versioned"
    for name, files in versions.items():
        version = home / name.replace("_", ".")
        version.mkdir(parents=True)
        for file, text in files.items():
            (version / file).write_text(text)
    return home


def test_versions_come_in_the_order_of_their_numbers(tmp_path: Path):
    some = {f"v1_{n}": {"manifest.json": MANIFEST % f"1.{n}", "a.sql": "CREATE TABLE t (a INTEGER);"} for n in (10, 9)}
    home = checkout(tmp_path, **some)
    assert [m.version for m in from_checkout(tmp_path)] == ["1.9", "1.10"]
    assert [m.version for m in from_checkout(home)] == ["1.9", "1.10"]


def test_a_statement_knows_its_file_and_line(tmp_path: Path):
    text = "-- x\n\nCREATE TABLE t ( -- y\n a INTEGER);\nALTER TABLE t ADD b INTEGER,\n ADD c INTEGER"
    home = checkout(tmp_path, v1_2={"manifest.json": MANIFEST % "1.2", "a.sql": text})
    [migration] = from_checkout(tmp_path)
    file = home / "v1.2/a.sql"
    assert [step.where for step in migration.steps] == [f"{file}:3", f"{file}:5", f"{file}:5"]


def test_every_problem_is_told_at_once_with_file_and_line(tmp_path: Path):
    home = checkout(
        tmp_path,
        v1_0={"manifest.json": MANIFEST % "1.1"},
        v1_1={"manifest.json": MANIFEST % "1.1"},
        v1_2={
            "manifest.json": MANIFEST % "1.2",
            "a.sql": "CREATE TABLE t (a INTEGER);\nTRUNCATE t;\nDO $$\n$$;\n\nUPDATE t SET a = 1;\n'",
        },
        v1_3={"manifest.json": "{"},
        v1_4={"manifest.json": '{"CurrVersion": "1.4"}'},
        v1_5={"manifest.json": '{"CurrVersion": "1.5", "MinCompatibleVersion": "1.0"}'},
        v1_6={"manifest.json": '{"CurrVersion": "1.6", "MinCompatibleVersion": "x"}'},
        v1_7={"other.sql": ""},
        v1_8={"manifest.json": "[]"},
    )
    (home / "v1.7/manifest.json").write_bytes(b"\xff")
    with pytest.raises(ConfigError) as refused:
        from_checkout(tmp_path)
    first, *problems = refused.value.message.splitlines()
    assert first == f"{home} has 12 statements or files that tecs cannot run on DSQL:"
    assert [problem.removeprefix(f"  {home}/")[:50] for problem in problems] == [
        "v1.0/manifest.json: CurrVersion is '1.1', the folder says 1.0"[:50],
        "v1.1/a.sql: No such file or directory",
        "v1.2/a.sql:2: DSQL has no TRUNCATE",
        "v1.2/a.sql:3: DSQL has no PL/pgSQL",
        "v1.2/a.sql:6: tecs does not know how to run this t",
        "v1.2/a.sql:7: ' is never closed",
        "v1.3/manifest.json: Expecting property name enclos",
        "v1.4/manifest.json: MinCompatibleVersion is missin",
        "v1.5/manifest.json: SchemaUpdateCqlFiles is empty",
        "v1.6/manifest.json: MinCompatibleVersion is 'x', w",
        "v1.7/manifest.json: 'utf-8' codec can't decode byt",
        "v1.8/manifest.json: list indices must be integers "[:50],
    ]
    assert "Nothing was changed" in refused.value.hint


def test_a_column_is_added_dropped_or_renamed_once_in_a_version(tmp_path: Path):
    text = "ALTER TABLE t ADD b INTEGER;\nALTER TABLE t DROP a;\nALTER TABLE t RENAME b TO a;"
    home = checkout(tmp_path, v1_2={"manifest.json": MANIFEST % "1.2", "a.sql": text})
    with pytest.raises(ConfigError) as refused:
        from_checkout(tmp_path)
    lines = refused.value.message.splitlines()[1:]
    assert [line.strip() for line in lines] == [
        f"{home}/v1.2/a.sql:3: column t.{name} is added, dropped or renamed a second time: after a cut nobody could "
        "tell what has run"
        for name in ("b", "a")
    ]


def test_a_column_may_be_added_and_then_get_its_default(tmp_path: Path):
    text = "ALTER TABLE t ADD b INTEGER; ALTER TABLE t ALTER b SET DEFAULT 0; INSERT INTO t VALUES (1, 1);"
    checkout(tmp_path, v1_2={"manifest.json": MANIFEST % "1.2", "a.sql": text})
    [migration] = from_checkout(tmp_path)
    changes: list[Change] = [step.change for step in migration.steps]
    assert [change.label for change in changes] == ["column t.b", "column t.b", "rows of t"]


def test_a_version_without_files_says_so_itself(tmp_path: Path):
    told = '{"CurrVersion": "1.2", "MinCompatibleVersion": "1.0", "AllowNoCqlFiles": true}'
    checkout(tmp_path, v1_2={"manifest.json": told})
    assert [m.steps for m in from_checkout(tmp_path)] == [()]


def test_a_folder_without_versions_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="holds no versions of Temporal's DSQL schema"):
        from_checkout(tmp_path)
    with pytest.raises(ConfigError, match="holds no versions"):
        from_checkout(tmp_path / "nowhere")
