"""Asynchronous jobs: an index that was asked for is there at once, invalid, and becomes valid some time later.

Nothing runs in the background: what has fallen due is done before the next statement of any session.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from temporal_ecs.sandbox.dsql.backend import Backend
from temporal_ecs.sandbox.dsql.catalog import DUPLICATES
from temporal_ecs.sandbox.dsql.faults import Faults
from temporal_ecs.sandbox.dsql.wire import SqlError


def new_id() -> str:
    """A job id as DSQL makes them: a UUID in base 32."""
    return base64.b32encode(uuid.uuid4().bytes).decode().rstrip("=").lower()


def moment(now: float) -> str:
    """A time as SQL takes it."""
    return datetime.fromtimestamp(now, UTC).isoformat()


class Jobs:
    """The jobs of one cluster. `keeper` is a superuser's session on its database; the caller holds the arbiter."""

    def __init__(self, keeper: Backend, now: Callable[[], float], seconds: float, faults: Faults) -> None:
        self._keeper, self._now, self._seconds, self._faults = keeper, now, seconds, faults
        self._due: dict[str, float] = {}

    def committed(self, job: str) -> None:
        """A job's statement was committed: its work begins."""
        self._due[job] = self._now() + self._seconds

    @property
    def overdue(self) -> bool:
        """Whether there is something to catch up with."""
        return any(due <= self._now() for due in self._due.values())

    def catch_up(self) -> None:
        """Do what has fallen due."""
        for job in [job for job, due in self._due.items() if due <= self._now()]:
            status, details = self._build(job)
            self._keeper.run(
                f"UPDATE standin.jobs SET status = '{status}', details = {_literal(details)},"
                f" object_name = CASE WHEN '{status}' = 'failed' THEN object_name END,"
                f" update_time = '{moment(self._now())}' WHERE job_id = '{job}'"
            )
            del self._due[job]

    def pending(self, job: str) -> bool:
        """Whether a job is still at work."""
        return job in self._due

    def _build(self, job: str) -> tuple[str, str]:
        index, table, exists, unique, relation = self._keeper.run(
            "SELECT object_id, table_name, to_regclass(table_name) IS NOT NULL, coalesce(indisunique, false), indrelid"
            f" FROM standin.jobs LEFT JOIN pg_index ON indexrelid = object_id WHERE job_id = '{job}'"
        )[0]
        if exists == "f":
            return "completed", f'relation "{table}" does not exist'
        if relation is None:
            return "failed", "the index was dropped"
        if self._faults.take("fail_jobs"):
            return "failed", "internal error"
        if unique == "t":
            [[duplicates]] = self._keeper.run(DUPLICATES.format(index=index))
            if self._keeper.run(str(duplicates)):
                return "failed", "Found duplicate key while validating index for UCVs"
        self._keeper.run(f"UPDATE pg_index SET indisvalid = true WHERE indexrelid = {index}")
        return "completed", ""


def check_id(text: str) -> None:
    """Raise DSQL's refusal unless this is a job id."""
    try:
        known = len(base64.b32decode(text.upper() + "=" * (-len(text) % 8))) == 16
    except ValueError:
        known = False
    if not known:
        raise SqlError("22P02", "Unable to convert text to UUID")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'" if text else "NULL"
