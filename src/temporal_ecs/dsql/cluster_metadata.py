"""What the server remembers of itself in cluster_metadata_info: its number of history shards. Only ever read.

Deleting that row would have the server make a new one, with another cluster id and perhaps another number of shards,
and leave every workflow out of reach.
"""

from __future__ import annotations

from typing import NamedTuple

from temporal_ecs.errors import TecsError

from .database import Database

CLUSTER_NAME = "active"
"""currentClusterName in the runtime image's template; rows of other names are of remote clusters."""

ENCODING = "Proto3"
"""The servers' word in data_encoding; whatever else stands there is not guessed at."""

ROWS = """
SELECT cluster_name, data, data_encoding FROM cluster_metadata_info WHERE metadata_partition = 0 ORDER BY cluster_name
"""

# Field numbers of temporal.server.api.persistence.v1.ClusterMetadata (cluster_metadata.proto).
SHARD_COUNT, CLUSTER_ID = 2, 3


class ClusterMetadata(NamedTuple):
    """`shards` is None when the row cannot be read."""

    name: str
    shards: int | None
    id: str


def read(database: Database) -> ClusterMetadata | None:
    """Our cluster's row; None before a server has started on this database. The table must exist."""
    rows = {name: (bytes(data), encoding) for name, data, encoding in database.rows(ROWS)}
    name = CLUSTER_NAME if CLUSTER_NAME in rows or len(rows) != 1 else next(iter(rows))
    if name not in rows:
        return None
    data, encoding = rows[name]
    try:
        fields = _fields(data) if encoding == ENCODING else {}
    except (IndexError, ValueError):
        return ClusterMetadata(name, None, "")
    shards, id_ = fields.get(SHARD_COUNT), fields.get(CLUSTER_ID, b"")
    return ClusterMetadata(
        name,
        shards if isinstance(shards, int) else None,
        id_.decode(errors="replace") if isinstance(id_, bytes) else "",
    )


def refuse_other_shards(found: ClusterMetadata | None, wanted: int) -> None:
    """TecsError where tecs.toml names another number of shards than the database was started with."""
    if found is not None and found.shards is None:
        raise TecsError(
            "cluster_metadata_info has a row that tecs cannot read, so nobody knows its number of history shards",
            "Nothing was changed. Compare the row with another server's before anything is done here.",
        )
    if found is not None and found.shards != wanted:
        raise TecsError(
            f"this database was started with {found.shards} history shards, tecs.toml says {wanted}",
            f"Nothing was changed. The number is fixed for the life of the database: set temporal.history_shards = "
            f"{found.shards}, or point tecs at another cluster.",
        )


def _fields(message: bytes) -> dict[int, int | bytes]:
    """The top-level fields of a protobuf message: numbers and bytes. ValueError or IndexError when it is none."""
    fields: dict[int, int | bytes] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if shift > 63:
                raise ValueError("too long a number")
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        if not number:
            raise ValueError("field 0")
        if wire == 0:
            fields[number] = varint()
        elif wire in (1, 2, 5):
            size = varint() if wire == 2 else 8 if wire == 1 else 4
            if at + size > len(message):
                raise ValueError("cut short")
            if wire == 2:
                fields[number] = message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire}")
    return fields
