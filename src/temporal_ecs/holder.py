"""Who holds a lock: written into the lock file and into the lock parameter in AWS."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock. `born` tells a process from a later one with the same id."""

    operation: str
    user: str
    host: str
    pid: int
    born: str
    since: str  # UTC
    machine: str = ""  # tells hosts of one name apart, and containers that don't see each other's processes

    @classmethod
    def this(cls, operation: str) -> Holder:
        return cls(
            operation=operation,
            user=_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
            born=_born(os.getpid()),
            since=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            machine=_machine(),
        )

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """What encode() wrote, or None for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def encode(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def dead(self) -> bool:
        """Whether it certainly runs no more: it ran on this host and is gone."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return bool(self.born) and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"{self.operation} by {self.user}@{self.host}, process {self.pid}, since {self.since} UTC"


@cache
def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


@cache
def _machine() -> str:
    """The machine's id and the namespace of its process ids; as much as the system tells."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text(encoding="utf-8").strip())
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/self/ns/pid").readlink().name)
    return " ".join(parts)


def _born(pid: int) -> str:
    """Start time of a process in clock ticks since boot; "" where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
