"""What an operator types and reads about the database: schema, ring rows, what is refused and why."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from cloud import KEYS
from databases import Place, run
from test_cli import Operator, Ran, tecs

__all__ = ["tecs"]

WHERE = "account 123456789012, region eu-west-1, project temporal-dev"


@pytest.fixture
def sql(tecs: Operator, place: Place) -> Callable[..., Ran]:
    """tecs with a tecs.toml that names an empty cluster of the stand-in."""
    arn = f"arn:aws:dsql:eu-west-1:123456789012:cluster/{place.host.partition('.')[0]}"
    Path("tecs.toml").write_text(f'[dsql]\nendpoint = "{place.host}"\narn = "{arn}"\n')
    address = {"HOSTADDR": place.standin.hostaddr, "PORT": str(place.standin.port), "CA": str(place.standin.ca_file)}
    for name, value in address.items():
        tecs.monkeypatch.setenv(f"TECS_DSQL_{name}", value)
    return tecs


def member(place: Place, age: float, *, port: int = 6934, role: int = 2, address: str = "10.0.10.5") -> UUID:
    """Write a row as a Temporal server does, its last heartbeat `age` seconds ago."""
    database, host = place.database(), UUID(int=len(place.tokens) << 64 | port)
    run(
        database,
        "INSERT INTO cluster_membership VALUES (0, %s, %s, %s, %s, now() AT TIME ZONE 'UTC', "
        "(now() AT TIME ZONE 'UTC') - CAST(%s AS INTERVAL), (now() AT TIME ZONE 'UTC') + INTERVAL '48 hours')",
        host, address, port, role, f"{age} seconds",
    )  # fmt: skip
    return host


def writes(place: Place) -> list[str]:
    return place.ran("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP")


# -- schema ----------------------------------------------------------------------------------------------------


def test_setup_makes_the_schema_and_says_each_thing_once(sql: Operator, place: Place):
    before = sql("schema", "status")
    assert before.status == 1
    assert before.out.startswith(f"{place.host}: version none, tecs carries 1.1\n")
    assert "next: tecs schema setup" in before.err
    done = sql("schema", "setup", "--yes")
    assert done.status == 0, done.err
    assert done.err.startswith(f"{WHERE}, database {place.host}\n")
    assert re.fullmatch(r"the schema is at 1\.1, 49 statements in [\d.]+s\n", done.out)
    counted = [(int(n), int(of)) for n, of in re.findall(r"\[(\d+)/(\d+)\]", done.err)]
    assert counted == [(n, 48) for n in range(1, 49)]
    assert "next: tecs schema status" in done.err
    assert sql("schema", "status") == Ran(
        0,
        f"{place.host}: version 1.1, tecs carries 1.1\nevery table, column, key and index is as wanted\n"
        "history shards: not set before the first start of a server\n",
        "",
    )


def test_a_second_setup_and_an_update_write_nothing(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    place.standin.statements.clear()
    changes = sql.changes
    assert sql("schema", "setup").out == "nothing to do: the schema is at 1.1\n"
    assert sql("schema", "update").out == "nothing to do: no newer version is known\n"
    assert not writes(place)
    assert sql.changes == changes  # no lock either


def test_status_names_what_differs(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    for statement in (
        "ALTER TABLE shards DROP COLUMN data_encoding",
        "DROP INDEX cm_idx_lasthb",
        "CREATE TABLE mine (id INT PRIMARY KEY)",
    ):
        place.database().execute(statement)
    shown = sql("schema", "status")
    assert shown.status == 1
    assert re.search(r"^column shards\.data_encoding +missing +VARCHAR\(16\)$", shown.out, re.MULTILINE)
    assert re.search(r"^index cm_idx_lasthb +missing +there$", shown.out, re.MULTILINE)
    assert "not Temporal's, left alone: mine" in shown.out
    told = json.loads(sql("-o", "json", "schema", "status").out)
    assert {d["where"] for d in told["differences"]} == {"column shards.data_encoding", "index cm_idx_lasthb"}
    assert (told["same"], told["version"], told["other_tables"]) == (False, "1.1", ["mine"])
    assert "next: tecs schema setup" in shown.err
    refused = sql("schema", "setup", "-y")
    assert refused.status == 1
    assert "column shards.data_encoding: is missing, wanted VARCHAR(16)" in refused.err
    assert "Nothing was changed. `tecs schema setup --overwrite`" in refused.err


def test_setup_on_another_version_points_to_update(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    run(place.database(), "UPDATE schema_version SET curr_version = '1.0'")
    run(place.database(), "DELETE FROM schema_update_history")
    place.database().execute("DROP TABLE current_chasm_executions")
    refused = sql("schema", "setup", "-y")
    assert (refused.status, refused.out) == (1, "")
    assert "this database has version 1.0 of Temporal's schema, tecs sets up 1.1" in refused.err
    assert "Bring it up to date with `tecs schema update`." in refused.err
    updated = sql("schema", "update", "-y")
    assert "to apply: 1.1, 1 statements" in updated.err
    assert updated.out.startswith("the schema is at 1.1, 1 statements")
    assert sql("schema", "status").status == 0


def test_overwrite_wants_the_projects_name_and_nobody_alive(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    host = member(place, age=12)
    place.standin.statements.clear()
    for words, status, said in (
        (("--yes",), 2, "this needs the project's name and there is no terminal"),
        (("--confirm", "other"), 2, "'other' is not the project's name"),
        (("--confirm", "temporal-dev"), 1, "a Temporal server still runs on this database"),
    ):
        refused = sql("schema", "setup", "--overwrite", *words)
        assert refused.status == status
        assert said in refused.err
        assert not writes(place)
    run(place.database(), "DELETE FROM cluster_membership WHERE host_id = %s", host)
    done = sql("schema", "setup", "--overwrite", "--confirm", "temporal-dev")
    assert done.status == 0, done.err
    assert "[87/87] schema_version updated" in done.err
    assert sql("schema", "status").status == 0


def test_an_overwrite_that_takes_its_time_keeps_its_own_lock(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    place.faults.latency = 0.03  # some hundred statements: more than the second that locks tell apart
    done = sql("schema", "setup", "--overwrite", "--confirm", "temporal-dev")
    place.faults.latency = 0.0
    assert done.status == 0, done.err
    assert sql("schema", "status").status == 0


def test_a_lost_state_file_is_no_proof_that_nothing_runs(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    ecs = sql.aws("ecs")
    ecs.create_cluster(clusterName="temporal-dev-cluster")
    ecs.register_task_definition(family="any", containerDefinitions=[{"name": "a", "image": "a", "memory": 64}])
    name = "temporal-dev-temporal-history"
    ecs.create_service(cluster="temporal-dev-cluster", serviceName=name, taskDefinition="any", desiredCount=2)
    refused = sql("schema", "setup", "--overwrite", "--confirm", "temporal-dev")
    assert refused.status == 1
    assert "Temporal is not stopped: history: 0 running, 2 pending, 2 wanted" in refused.err
    assert not place.ran("DROP")


def test_ecs_proves_nothing_about_another_projects_database(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    sql("provision", "cluster", "-y")
    member(place, age=4000)
    host = place.standin.host("another")
    Path("tecs.toml").write_text("")
    for words in (("clean-membership", "--all", "-y"), ("schema", "setup", "--overwrite", "--confirm", "temporal-dev")):
        refused = sql(*words, "--endpoint", host)
        assert refused.status == 2
        assert f"{host} is not this project's database" in refused.err
    assert not place.ran("DROP", "DELETE")


def test_a_number_that_a_script_wrote_is_told_from_a_newer_schema(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    run(place.database(), "UPDATE schema_version SET curr_version = '1.12'")
    refused = sql("schema", "setup", "-y")
    assert "Its tables are those of 1.1: a script wrote the number" in refused.err
    shown = sql("schema", "status")
    assert shown.status == 1
    assert "next:" not in shown.err


def test_a_row_about_shards_that_nobody_can_read_stops_everything(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    run(place.database(), "INSERT INTO cluster_metadata_info VALUES (0, 'active', %s, 'Proto3', 1)", b"\xff")
    assert sql("schema", "setup", "-y").status == 1
    shown = sql("schema", "status")
    assert shown.status == 1
    assert "history shards: cannot be read" in shown.out


def test_many_rows_are_shown_and_cleaned_soon(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    run(
        place.database(),
        "INSERT INTO cluster_membership SELECT 0, CAST(lpad(CAST(n AS TEXT), 32, '0') AS UUID), '10.0.10.5', 6934, 2, "
        "now(), now() - INTERVAL '1 hour', now() + INTERVAL '47 hours' FROM generate_series(1, 2900) AS n",
    )
    done = sql("clean-membership", "-y")
    assert "deleted 2900 rows" in done.out
    assert "and 2850 more" in done.out


def test_another_number_of_history_shards_is_refused(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    blob = b"\x0a\x06active\x10\x80\x04"  # cluster_name, history_shard_count = 512
    run(
        place.database(),
        "INSERT INTO cluster_metadata_info VALUES (0, 'active', %s, 'Proto3', 1)",
        blob,
    )
    for words in (("schema", "setup", "-y"), ("schema", "update", "-y"), ("membership",), ("clean-membership", "-y")):
        refused = sql(*words)
        assert refused.status == 1, words
        assert "512" in refused.err, words
        assert "4096" in refused.err, words
    assert "history shards: 512" in sql("schema", "status").out


def test_schema_dir_is_looked_at_whole_before_anything_runs(sql: Operator, place: Place, tmp_path: Path):
    sql("schema", "setup", "-y")
    home = tmp_path / "temporal" / "schema" / "dsql" / "temporal" / "versioned" / "v1.2"
    home.mkdir(parents=True)
    manifest = {"CurrVersion": "1.2", "MinCompatibleVersion": "1.0", "SchemaUpdateCqlFiles": ["more.sql"]}
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "more.sql").write_text("CREATE TABLE more (id BIGSERIAL);\n\nTRUNCATE shards;\n")
    refused = sql("schema", "update", "--schema-dir", str(tmp_path / "temporal"), "-y")
    assert refused.status == 2
    assert "more.sql:1: DSQL has no serial types" in refused.err
    assert "more.sql:3: DSQL has no TRUNCATE" in refused.err
    (home / "more.sql").write_text("CREATE TABLE IF NOT EXISTS more (id BIGINT PRIMARY KEY);\n")
    done = sql("schema", "update", "--schema-dir", str(tmp_path / "temporal"), "-y")
    assert done.out.startswith("the schema is at 1.2, 1 statements"), done.err
    assert "nothing to do" in sql("schema", "update", "--schema-dir", str(tmp_path / "temporal"), "-y").out


def test_json_is_one_document(sql: Operator, place: Place):
    for words in (
        ("schema", "setup", "-y"), ("schema", "setup"), ("schema", "update"), ("schema", "status"), ("membership",),
        ("clean-membership", "-y"),
    ):  # fmt: skip
        assert isinstance(json.loads(sql("-o", "json", *words).out), dict), words


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_setup_is_continued_by_the_next(sql: Operator, place: Place, number: int, status: int):
    command = [str(Path(sys.executable).with_name("tecs")), "-o", "plain", "schema", "setup", "-y"]
    place.faults.latency = 0.05
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while len(place.ran("CREATE TABLE")) < 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (status, "")
    assert err.splitlines()[-1] == "Interrupted. What was done is kept; run the command again to continue."
    place.faults.latency = 0
    assert 5 <= len(place.ran("CREATE TABLE")) < 39
    assert sql("schema", "setup", "-y").status == 0
    assert sql("schema", "status").status == 0


# -- the ring --------------------------------------------------------------------------------------------------


def test_the_rings_rows_have_a_verdict_each(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    member(place, age=5)
    member(place, age=70, port=6935, role=3)
    stale = member(place, age=4000, port=6933, role=1)
    member(place, age=3, port=6939, role=4, address="127.0.0.1")
    member(place, age=3, port=7000, role=4, address="192.168.1.1")
    shown = sql("membership")
    assert shown.status == 0
    assert shown.out.startswith(
        "frontend: 1 stale; history: 1 live; matching: 1 silent; worker: 1 foreign; worker: 1 loopback\n"
    )
    assert re.search(rf"^frontend +10\.0\.10\.5:6933 +1h06m +stale +{stale}$", shown.out, re.MULTILINE)
    assert "outside the private subnets" in shown.out


def test_clean_membership_deletes_what_is_stale_and_keeps_it_in_a_file(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    live, stale = member(place, age=5), member(place, age=1000)
    refused = sql("clean-membership")
    assert refused.status == 2
    assert "there is no terminal" in refused.err
    done = sql("clean-membership", "--yes")
    assert done.status == 0, done.err
    file = re.search(r"deleted 1 rows in [\d.]+s; they are in (\S+)$", done.out, re.MULTILINE)
    assert file, done.out
    kept = json.loads(Path(file[1]).read_text())
    assert (kept["finished"], [row["host_id"] for row in kept["rows"]]) == (True, [str(stale)])
    assert Path(file[1]).stat().st_mode & 0o777 == 0o600
    assert [row[0] for row in place.database().rows("SELECT host_id FROM cluster_membership")] == [live]
    assert "nothing to delete: none of 1 rows is older than 300 s" in sql("clean-membership", "-y").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--older-than", "59s"], "--older-than 59s is too short"),
        (["--older-than", "soon"], "'soon' is no duration; write 90s, 5m, 2h or 1d"),
        (["--older-than", "5m", "--all"], "--all and --older-than exclude each other"),
        (["--endpoint", "not a host"], "'not a host'"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_asked(sql: Operator, place: Place, words: list[str], said: str):
    ran = sql("clean-membership", *words, "-y")
    assert ran.status == 2
    assert said in ran.err
    assert not place.standin.connections


def test_all_needs_proof_from_ecs_and_silence(sql: Operator, place: Place):
    sql("schema", "setup", "-y")
    member(place, age=90)
    unproven = sql("clean-membership", "--all", "-y")
    assert unproven.status == 1
    assert "no ECS cluster is recorded here" in unproven.err
    assert sql("provision", "cluster", "-y").status == 0
    young = member(place, age=30, port=6935)
    loud = sql("clean-membership", "--all", "-y")
    assert loud.status == 1
    assert "somebody wrote a heartbeat" in loud.err
    run(place.database(), "DELETE FROM cluster_membership WHERE host_id = %s", young)
    done = sql("clean-membership", "--all", "-y")
    assert done.status == 0, done.err
    assert "deleted 1 rows" in done.out
    assert sql("membership").out.startswith("the ring has no rows\n")


# -- what stands in the way ------------------------------------------------------------------------------------


def test_no_cluster_at_all_says_where_one_comes_from(tecs: Operator):
    assert tecs("schema", "status") == Ran(
        1,
        "",
        "Error: no DSQL cluster is known here\n"
        "  Make one with `tecs provision dsql`, set [dsql] in tecs.toml, or name one with --endpoint.\n",
    )


def test_a_database_without_schema_says_so(sql: Operator, place: Place):
    for words in (("membership",), ("clean-membership", "-y")):
        ran = sql(*words)
        assert ran.status == 1
        assert "Traceback" not in ran.err
        assert "tecs schema" in ran.err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TECS_DSQL_HOSTADDR", "localhost", "TECS_DSQL_HOSTADDR must be an IP address, got 'localhost'"),
        ("TECS_DSQL_PORT", "70000", "TECS_DSQL_PORT must be a port, 1 to 65535, got '70000'"),
    ],
)
def test_a_wrong_way_to_the_database_is_wrong_usage(sql: Operator, place: Place, name: str, value: str, said: str):
    sql.monkeypatch.setenv(name, value)
    ran = sql("schema", "status")
    assert ran.status == 2
    assert said in ran.err
    assert not place.standin.connections


def test_keys_that_dsql_does_not_take_are_explained_without_a_token(sql: Operator, place: Place):
    sql.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    ran = sql("schema", "status")
    assert ran.status == 1
    assert "DSQL does not accept these AWS keys for" in ran.err
    assert "X-Amz-Signature" not in ran.err
    assert KEYS["aws_secret_access_key"] not in ran.err


def test_a_second_operator_is_refused_before_the_database_changes(sql: Operator, place: Place):
    sql.aws("ssm").put_parameter(Name="/temporal-dev/tecs/lock", Value="somebody", Type="String")
    ran = sql("schema", "setup", "-y")
    assert ran.status == 5
    assert not writes(place)
