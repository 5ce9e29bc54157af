"""Indexes that DSQL builds on its own time: waited for, and built again where a build failed.

The proof is pg_index.indisvalid. A job's status is none: recordings of a real cluster show INDEX_BUILD as completed
with the details "relation … does not exist". A failed build leaves an index that stays invalid until it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from temporal_ecs.errors import TecsError
from temporal_ecs.walk import Event

from .database import Database, RefusedError
from .temporal_schema import drop_index

INVALID = """
SELECT i.relname, i.oid, x.indrelid
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
WHERE n.nspname = 'public' AND NOT x.indisvalid
"""
JOBS = """
SELECT object_id, object_name, status, details FROM sys.jobs WHERE job_type = 'INDEX_BUILD' ORDER BY start_time
"""

BUILD_SECONDS = 900.0
"""How long a build may take before we stop waiting. On an empty table it takes seconds; DSQL goes on without us."""

GRACE_SECONDS = 5.0
"""How long an index may be invalid without a job that works on it: the catalogue follows the job."""


class _Job(NamedTuple):
    object_id: int
    object_name: str
    status: str
    details: str


def await_indexes(
    database: Database,
    indexes: Mapping[str, str],
    *,
    asked: Collection[str] = (),
    emit: Callable[[Event], None] = lambda _: None,
    poll: float = 1.0,
) -> int:
    """Return once all of `indexes`, names with the statements that make them, are valid; the number of statements
    that rebuilding took.

    An index whose build failed is dropped and built anew, once. `asked` are those that were asked for a moment ago;
    `poll` is in seconds.
    """
    clock = database.clock
    began, written = clock.now(), 0
    idle: dict[str, float] = {}
    rebuilt: set[str] = set()
    open_ = set(asked)
    while True:
        invalid = {row[0]: row[1:] for row in database.rows(INVALID) if row[0] in indexes}
        for name in sorted(open_ - invalid.keys()):
            emit(Event(name, "created", seconds=clock.now() - began))
        open_ = set(invalid)
        if not invalid:
            return written
        jobs = _jobs(database)
        for name, (oid, table) in invalid.items():
            emit(Event(name, "wait", "being built", clock.now() - began))
            mine = [job for job in jobs or () if _about(job, name, oid, table)]
            failed = any(job.object_id == oid and job.status == "failed" for job in mine)
            if jobs is None or any(job.status in ("submitted", "processing") for job in mine):
                idle.pop(name, None)
            elif failed or clock.now() - idle.setdefault(name, clock.now()) >= GRACE_SECONDS:
                written += _rebuild(database, name, indexes[name], mine, again=name in rebuilt)
                rebuilt.add(name)
                idle.pop(name, None)
        if clock.now() - began > BUILD_SECONDS:
            raise TecsError(
                f"still being built after {BUILD_SECONDS / 60:.0f} min: {', '.join(sorted(invalid))}",
                "DSQL goes on building. Run the command again: it goes on waiting.",
            )
        clock.sleep(poll)


def _rebuild(database: Database, name: str, create: str, jobs: list[_Job], *, again: bool) -> int:
    details = next((job.details for job in reversed(jobs) if job.details), "no reason given")
    if again:
        raise TecsError(
            f"DSQL could not build the index {name}: {details}",
            f"Remove the cause, drop the index (DROP INDEX {name}) and run the command again.",
        )
    database.make(drop_index(name))
    database.make(create)
    return 2


def _jobs(database: Database) -> list[_Job] | None:
    """The builds that DSQL remembers; None where there is no such view to ask."""
    try:
        rows = database.rows(JOBS)
    except RefusedError as error:
        if error.sqlstate in ("42P01", "3F000", "42501"):
            return None
        raise
    return [
        _Job(int(id_ or 0), str(name or ""), str(status), str(details or "")) for id_, name, status, details in rows
    ]


def _about(job: _Job, name: str, oid: int, table: int) -> bool:
    return job.object_id in (oid, table) or job.object_name.rpartition(".")[2] == name
