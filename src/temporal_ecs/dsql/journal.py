"""What a clean-up deleted, in a file: written before the first row goes, and again at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any
from uuid import UUID

from temporal_ecs.errors import TecsError

from .membership import Member


class Journal:
    """The rows that are to go and, by `deleted`, those that went. A run that is killed leaves `finished` false."""

    def __init__(self, folder: Path, project: str, endpoint: str, members: Collection[Member], margin: float) -> None:
        """Write the file; TecsError when that cannot be done."""
        name = f"{project}.membership-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{os.getpid()}"
        paths = (folder / f"{name}{suffix}.json" for suffix in chain([""], (f".{n}" for n in count(2))))
        self.path = next(path for path in paths if not path.exists())
        self._head = {"project": project, "endpoint": endpoint, "older_than_seconds": margin}
        self._members = members
        self._gone: set[UUID] = set()
        self._write(finished=False)

    def deleted(self, members: Iterable[Member]) -> None:
        self._gone.update(member.host_id for member in members)

    def close(self, *, finished: bool) -> None:
        self._write(finished=finished)

    def _write(self, *, finished: bool) -> None:
        rows = [_row(member) | {"deleted": member.host_id in self._gone} for member in self._members]
        text = json.dumps({**self._head, "finished": finished, "rows": rows}, indent=1)
        fresh = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
                out.write(text + "\n")
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(self.path)
        except OSError as error:
            raise TecsError(
                f"cannot write {self.path}: {error.strerror}", "Make its folder writable and run the command again."
            ) from None


def _row(member: Member) -> dict[str, Any]:
    """All columns of the row, so that it could be put back."""

    def moment(value: datetime | None) -> str | None:
        return None if value is None else value.isoformat()

    return {
        "membership_partition": 0,
        "host_id": str(member.host_id),
        "rpc_address": member.address,
        "rpc_port": member.port,
        "role": member.role,
        "session_start": moment(member.session_start),
        "last_heartbeat": moment(member.last_heartbeat),
        "record_expiry": moment(member.record_expiry),
    }
