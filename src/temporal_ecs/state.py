"""The JSON state file: an index of what tecs made. AWS is the truth; the index can be rebuilt from it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import LOCKED, TecsError
from .holder import Holder

FORMAT = 1

PARTS = frozenset({"kind", "id", "status", "spec", "outputs", "needs"})

Record = dict[str, Any]
"""kind, id, status (creating, ready, deleting), spec, outputs, needs, order; and the client token while creating."""


class State:
    """Records by resource name, bound to one project, account and region.

    Every change is on disk before the call returns: written whole to a temporary file, synced, renamed; the
    file before it is kept beside as `.backup`. Methods may be called from any thread.
    """

    def __init__(self, path: Path, *, project: str, account: str, region: str) -> None:
        """Read `path`, or start empty. TecsError when it is unreadable or belongs to something else."""
        self.path = path
        self._mutex = threading.Lock()
        self._bound = {"format": FORMAT, "project": project, "account": account, "region": region}
        self.account = account
        self._serial = 0
        self._lineage = uuid.uuid4().hex
        self._preset: int | None = None
        self._records: dict[str, Record] = {}
        self._encoded: dict[str, str] = {}
        self._seen: tuple[int, ...] | None = None  # which file it was that we read or wrote last
        self._read()

    def _read(self) -> None:
        try:
            with self.path.open(encoding="utf-8") as file:
                self._seen = _identity(os.fstat(file.fileno()))
                data = _parse(file.read())
        except FileNotFoundError:
            return
        except OSError as error:
            raise TecsError(
                f"cannot read the state file {self.path}: {error.strerror}", "Nothing was changed."
            ) from None
        except ValueError:
            raise TecsError(
                f"the state file {self.path} is damaged",
                f"Nothing was changed. `tecs state rebuild` reads it back from AWS; the previous one is {self.backup}.",
            ) from None
        for key, wanted in self._bound.items():
            if data[key] != wanted:
                way_out = "Check --project, --region, --state and your AWS credentials."
                if key == "format":
                    way_out = "It was written by another version of tecs: use that one."
                raise TecsError(
                    f"{self.path} is for {key} {data[key]}, not {wanted}", f"Nothing was changed. {way_out}"
                )
        self._records, self._serial, self._lineage = data["resources"], data["serial"], data["lineage"]
        self._preset = data.get("preset")

    @property
    def backup(self) -> Path:
        return self.path.with_name(self.path.name + ".backup")

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def names(self) -> list[str]:
        return sorted(self._copy())

    def get(self, name: str) -> Record:
        """The record of `name`, empty when there is none."""
        return self._records.get(name, {})

    def users(self, name: str) -> frozenset[str]:
        """Names of the recorded resources that need `name`."""
        return frozenset(n for n, record in self._copy().items() if name in record["needs"])

    def followers(self, name: str) -> frozenset[str]:
        """Names of the recorded resources that are to be removed before `name`: those that need it, and those that
        only work while it is there."""
        rows = self._copy().items()
        return frozenset(n for n, record in rows if name in record["needs"] or name in record.get("order", ()))

    def needs(self, name: str) -> frozenset[str]:
        """Names of the recorded resources that `name` needs."""
        return frozenset(n for n in self.get(name).get("needs", ()) if n in self._records)

    def _copy(self) -> dict[str, Record]:
        with self._mutex:  # other threads go on writing
            return dict(self._records)

    def put(self, name: str, record: Record) -> None:
        """Make `record` what is known of `name`. The same record again writes nothing."""
        with self._mutex:
            if self._records.get(name) != record:
                self._records[name] = record
                self._encoded.pop(name, None)
                self._save()

    def drop(self, name: str) -> None:
        with self._mutex:
            if self._records.pop(name, None) is not None:
                self._encoded.pop(name, None)
                self._save()

    @property
    def preset(self) -> int | None:
        """The preset, in workflows per second, by which `scale up` sized the tasks; None: by tecs.toml."""
        return self._preset

    @preset.setter
    def preset(self, wps: int | None) -> None:
        with self._mutex:
            if self._preset != wps:
                self._preset = wps
                self._save()

    def token(self, name: str) -> str:
        """A client token for the next creation of `name`: 36 characters, another after every write of this file."""
        return str(uuid.uuid5(uuid.UUID(self._lineage), f"{name}:{self._serial}"))

    def _save(self) -> None:
        self._serial += 1
        for name in self._records:
            if name not in self._encoded:  # encode what changed, not the whole: there are hundreds of writes
                self._encoded[name] = json.dumps(self._records[name], indent=2, sort_keys=True).replace("\n", "\n    ")
        head = {**self._bound, "lineage": self._lineage, "serial": self._serial}
        if self._preset is not None:
            head["preset"] = self._preset
        lines = [f'  "{key}": {json.dumps(value)}' for key, value in head.items()]
        rows = ",\n".join(f"    {json.dumps(name)}: {self._encoded[name]}" for name in sorted(self._records))
        lines.append('  "resources": {' + (f"\n{rows}\n  " if rows else "") + "}")
        text = "{\n" + ",\n".join(sorted(lines)) + "\n}\n"
        self._write(text)

    def _write(self, text: str) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
                written = _identity(os.fstat(out.fileno()))
            with contextlib.suppress(FileNotFoundError):
                if _identity(self.path.stat()) != self._seen:
                    raise TecsError(
                        f"{self.path} was changed by another command since this one read it",
                        "What that one wrote was kept. Run this command again.",
                    )
                previous = self.path.with_name(self.path.name + ".previous")
                previous.unlink(missing_ok=True)
                try:
                    os.link(self.path, previous)
                except PermissionError:  # some file systems have no links
                    shutil.copy2(self.path, previous)
                previous.replace(self.backup)
            fresh.replace(self.path)
            self._seen = written
        except OSError as error:
            raise unwritable(self.path, error) from None


def _identity(found: os.stat_result) -> tuple[int, ...]:
    """Tells one version of a file from every other: each is a new file, renamed into place."""
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _parse(text: str) -> dict[str, Any]:
    """A state file's content; ValueError when it is damaged. One of another format is not looked into."""
    data = json.loads(text)
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise ValueError("no state file")  # noqa: TRY004
    if data["format"] == FORMAT:
        shape = {"project": str, "account": str, "region": str, "serial": int, "lineage": str, "resources": dict}
        if any(not isinstance(data.get(key), type_) for key, type_ in shape.items()):
            raise ValueError("a part is missing")
        uuid.UUID(data["lineage"])
        if any(not isinstance(record, dict) or not record.keys() >= PARTS for record in data["resources"].values()):
            raise ValueError("a record is not whole")
    return data


def preset_of(path: Path) -> int | None:
    """The preset that the state file at `path` records, if there is one that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("preset")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, int) else None


def set_aside(path: Path) -> Path | None:
    """Move a damaged state file out of the way and keep it; its new path, or None when it is whole or not there."""
    try:
        _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        damaged = path.with_name(f"{path.name}.damaged")
        path.replace(damaged)
        return damaged
    return None


def unwritable(path: Path, error: OSError) -> TecsError:
    return TecsError(
        f"cannot write the state file {path}: {error.strerror}",
        "Make its folder writable, or choose another with --state.",
    )


@contextlib.contextmanager
def locked(path: Path, operation: str) -> Iterator[Holder | None]:
    """Hold the state file at `path` for one mutating command.

    Yields the holder of a lock that a process left behind when it died, if there was one. TecsError with
    status LOCKED when a living process holds it; the operating system frees the lock of a dead one.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = lock_path.open("a+", encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = Holder.parse(handle.read())
            raise TecsError(
                f"{path} is locked: {holder or 'by another process'}",
                "Nothing was changed. Wait until it has finished.",
                status=LOCKED,
            ) from None
        handle.seek(0)
        left_behind = Holder.parse(handle.read())
        handle.truncate(0)
        handle.write(Holder.this(operation).encode())
        handle.flush()
        try:
            if not os.access(path.parent, os.W_OK):
                raise unwritable(path, PermissionError(13, "Permission denied"))
            yield left_behind
        finally:
            handle.truncate(0)
