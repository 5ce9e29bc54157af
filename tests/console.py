"""tecs as an operator runs it: a process of its own, against the sandbox of this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cloud import KEYS, PROJECT, REGION
from temporal_ecs.sandbox.server import Call, Server

SPEED = 2000.0
"""AWS's twenty minutes for a domain pass in less than a second."""


class Done(NamedTuple):
    """How a command ended; -9 when it was killed."""

    status: int
    out: str
    err: str


class Console:
    """One folder with its state file, and commands in it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        server.clock.speed = SPEED
        settings = {"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        keys = {name.upper(): value for name, value in KEYS.items()}
        self.environment = {**os.environ, **settings, **keys}

    @property
    def state_file(self) -> Path:
        return self.folder / ".tecs" / f"{PROJECT}.{REGION}.state.json"

    @property
    def lock_file(self) -> Path:
        return self.state_file.with_name(self.state_file.name + ".lock")

    def resources(self) -> dict[str, Any]:
        return dict(json.loads(self.state_file.read_text(encoding="utf-8"))["resources"])

    def __call__(self, *arguments: str, killed_at: int = 0) -> Done:
        """Run a command; with `killed_at`, to that call at most: then it is killed while its calls are on their way."""
        tecs = str(Path(sys.executable).with_name("tecs"))
        process = subprocess.Popen(
            [tecs, "-o", "plain", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with self._killing(process, killed_at):
            out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    @contextmanager
    def _killing(self, process: subprocess.Popen[str], number: int) -> Iterator[None]:
        left = number
        mutex = threading.Lock()

        def before(_: Call) -> None:
            nonlocal left
            with mutex:
                left -= 1
                if left == 0:
                    os.kill(process.pid, signal.SIGKILL)

        self.server.front.before = before if number else None
        try:
            yield
        finally:
            self.server.front.before = None
