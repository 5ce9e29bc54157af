"""The number of history shards that the database was started with: read, compared, and never written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from databases import Place, run
from temporal_ecs.dsql import cluster_metadata, membership
from temporal_ecs.dsql.cluster_metadata import ClusterMetadata, read, refuse_other_shards
from temporal_ecs.dsql.database import Database
from temporal_ecs.dsql.temporal_schema import create_table, wanted
from temporal_ecs.errors import TecsError
from test_cli import Operator, tecs

__all__ = ["tecs"]

ID = "4a7f0b0e-5d0c-4f6e-9f54-3f0b7a1d2c11"


def varint(value: int) -> bytes:
    head, tail = value & 0x7F, value >> 7
    return bytes([head | 0x80]) + varint(tail) if tail else bytes([head])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def blob(shards: int = 4096) -> bytes:
    """ClusterMetadata as a server writes it, field by field."""
    search_attributes = text(1, b"postgres") + text(2, text(1, text(1, b"CustomKeywordField") + number(2, 2)))
    return b"".join(
        [
            text(1, b"active"),  # cluster_name
            number(2, shards),  # history_shard_count
            text(3, ID.encode()),  # cluster_id
            text(4, text(1, text(1, b"1.29.0") + text(2, text(1, b"\x08\x80\x01")))),  # version_info: fields 1, 2 again
            text(5, search_attributes),  # index_search_attributes
            text(6, b"127.0.0.1:7233"),  # cluster_address
            number(7, 10),  # failover_version_increment
            number(8, 1),  # initial_failover_version
            number(9, 1),  # is_global_namespace_enabled
            number(10, 1),  # is_connection_enabled
            text(12, text(1, b"region") + text(2, b"eu-west-1")),  # tags
        ]
    )


def tables(place: Place) -> Database:
    database = place.database()
    for name in ("cluster_metadata_info", "cluster_membership"):
        database.make(create_table(wanted().tables[name]))
    return database


def plant(database: Database, data: bytes, *, name: str = "active", encoding: str = "Proto3", partition: int = 0):
    run(database, "INSERT INTO cluster_metadata_info VALUES (%s, %s, %s, %s, 1)", partition, name, data, encoding)


# -- reading ---------------------------------------------------------------------------------------------------


def test_the_row_that_a_server_writes_is_read(place: Place):
    database = tables(place)
    plant(database, blob())
    assert read(database) == ClusterMetadata("active", 4096, ID)


def test_before_the_first_start_of_a_server_there_is_nothing(place: Place):
    database = tables(place)
    assert read(database) is None
    plant(database, blob(), partition=1)
    assert read(database) is None


def test_our_own_row_counts_not_those_of_remote_clusters(place: Place):
    database = tables(place)
    plant(database, blob(16), name="a-remote")
    assert read(database) == ClusterMetadata("a-remote", 16, ID)  # the only one there is: its name was changed
    plant(database, blob(32), name="z-remote")
    assert read(database) is None
    plant(database, blob(512))
    assert read(database) == ClusterMetadata("active", 512, ID)


@pytest.mark.parametrize("encoding", ["Json", "Unspecified", "", "Proto4"])
def test_another_encoding_is_not_guessed_at(place: Place, encoding: str):
    database = tables(place)
    plant(database, blob(), encoding=encoding)
    assert read(database) == ClusterMetadata("active", None, "")


MALFORMED = {
    "json": json.dumps({"historyShardCount": 4096}).encode(),
    "only a tag": b"\x10",
    "a number without an end": number(2, 4096) + b"\x38\x80",
    "a number of eleven bytes": number(2, 4096) + b"\x38" + b"\x80" * 10 + b"\x01",
    "a text that is cut": text(3, b"id")[:-1],
    "a length beyond the end": number(2, 4096) + b"\x1a\xff\xff\xff\xff\x0f",
    "eight bytes that are cut": number(2, 4096) + b"\x39" + bytes(7),
    "four bytes that are cut": number(2, 4096) + b"\x3d" + bytes(3),
    "a group": number(2, 4096) + b"\x3b\x3c",
    "field 0": number(2, 4096) + b"\x00\x01",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_bytes_that_are_no_message_are_no_number(place: Place, data: bytes):
    database = tables(place)
    plant(database, data)
    assert read(database) == ClusterMetadata("active", None, "")


ODD = {
    "empty": (b"", None, ""),
    "no shards": (text(1, b"active") + text(3, b"id"), None, "id"),
    "shards as a text": (text(2, b"\x10\x20") + text(3, b"id"), None, "id"),
    "an id that is a number": (number(2, 8) + number(3, 5), 8, ""),
    "an id that is no text": (number(2, 8) + text(3, b"\xff"), 8, "\N{REPLACEMENT CHARACTER}"),
    "fields that are not known": (b"\x79" + bytes(8) + b"\x7d" + bytes(4) + number(2, 8) + number(5000, 1), 8, ""),
    "the last one counts": (number(2, 8) + number(2, 16), 16, ""),
}


@pytest.mark.parametrize(("data", "shards", "id_"), ODD.values(), ids=ODD)
def test_only_the_fields_that_are_known_are_taken(place: Place, data: bytes, shards: int | None, id_: str):
    database = tables(place)
    plant(database, data)
    assert read(database) == ClusterMetadata("active", shards, id_)


@given(st.binary(max_size=60))
def test_no_bytes_at_all_break_the_reading(data: bytes):
    try:
        fields = cluster_metadata._fields(data)
    except (IndexError, ValueError):
        return
    assert all(field > 0 for field in fields)


@given(st.integers(1, 2**31 - 1), st.integers(0, 200))
def test_a_message_that_is_cut_gives_the_whole_number_or_none(shards: int, end: int):
    try:
        found = cluster_metadata._fields(blob(shards)[:end]).get(cluster_metadata.SHARD_COUNT)
    except (IndexError, ValueError):
        return
    assert found in (None, shards)


# -- comparing -------------------------------------------------------------------------------------------------


def test_another_number_of_shards_is_refused(place: Place):
    database = tables(place)
    plant(database, blob(512))
    found = read(database)
    refuse_other_shards(found, 512)
    with pytest.raises(TecsError, match=r"started with 512 history shards, tecs\.toml says 4096") as refused:
        refuse_other_shards(found, 4096)
    assert refused.value.hint.startswith("Nothing was changed.")
    assert "set temporal.history_shards = 512" in refused.value.hint


def test_a_database_that_no_server_has_started_on_is_not_refused():
    refuse_other_shards(None, 4096)


def test_a_row_that_cannot_be_read_is_refused():
    with pytest.raises(TecsError, match="a row that tecs cannot read"):
        refuse_other_shards(ClusterMetadata("active", None, ""), 4096)


# -- never written ---------------------------------------------------------------------------------------------


def writes(place: Place, name: str) -> list[str]:
    """Statements that name this table and do more than read it."""
    return [sql for sql in place.ran() if name in sql and not sql.lstrip().startswith("SELECT")]


def test_nothing_about_the_ring_writes_to_it(place: Place):
    database = tables(place)
    plant(database, blob())
    run(
        database,
        "INSERT INTO cluster_membership "
        "VALUES (0, gen_random_uuid(), '10.0.10.5', 6934, 2, NULL, TIMESTAMP '2026-01-01')",
    )
    before = database.rows("SELECT * FROM cluster_metadata_info")
    place.standin.statements.clear()
    membership.require_silence(database)
    ring = membership.read(database)
    assert read(database) == ClusterMetadata("active", 4096, ID)
    place.faults.lose_after_commit = 1
    assert len(membership.delete(database, ring.members, margin=membership.MARGIN)) == 1
    assert not writes(place, "cluster_metadata_info")
    assert writes(place, "cluster_membership")
    assert database.rows("SELECT * FROM cluster_metadata_info") == before


def test_no_command_about_the_ring_writes_to_it(tecs: Operator, place: Place):
    database = tables(place)
    plant(database, blob())
    run(
        database,
        "INSERT INTO cluster_membership SELECT 0, gen_random_uuid(), '10.0.10.5', 6934, 2, NULL, "
        "(now() AT TIME ZONE 'UTC') - CAST(age AS INTERVAL) FROM (VALUES ('1 hour'), ('90 seconds')) AS ages (age)",
    )
    before = database.rows("SELECT * FROM cluster_metadata_info")
    arn = f"arn:aws:dsql:eu-west-1:123456789012:cluster/{place.host.partition('.')[0]}"
    Path("tecs.toml").write_text(f'[dsql]\nendpoint = "{place.host}"\narn = "{arn}"\n')
    address = {"HOSTADDR": place.standin.hostaddr, "PORT": str(place.standin.port), "CA": str(place.standin.ca_file)}
    for variable, value in address.items():
        tecs.monkeypatch.setenv(f"TECS_DSQL_{variable}", value)
    assert tecs("provision", "cluster", "--yes").status == 0
    place.standin.statements.clear()
    for words in (("membership",), ("clean-membership", "-y"), ("clean-membership", "--all", "-y")):
        ran = tecs(*words)
        assert ran.status == 0, ran.err
    assert database.rows("SELECT count(*) FROM cluster_membership") == [(0,)]
    assert any("cluster_metadata_info" in sql for sql in place.ran())
    assert not writes(place, "cluster_metadata_info")
    assert database.rows("SELECT * FROM cluster_metadata_info") == before
