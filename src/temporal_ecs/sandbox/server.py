"""The AWS endpoint: in this process for tests, or as a process of its own.

python -m temporal_ecs.sandbox.server --port 0 --ready FILE --speed 100 --lifetime 3600
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from temporal_ecs.sandbox.clock import Clock
from temporal_ecs.sandbox.front import Call, Front, Hook
from temporal_ecs.sandbox.world import WORLD, Fault

__all__ = ["Call", "Fault", "Server"]


class Server:
    """AWS on a loopback port. One to a process at a time, since all that exists is kept per process.

    `speed` divides AWS's delays; infinite means none. `before` and `after` run under the global lock, just
    before and just after a request acts; a Fault raised by `before` becomes the answer. In a child that was
    forked from inside a hook, a new Server serves what the parent had.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        speed: float = 100,
        account: str = "123456789012",
        before: Hook | None = None,
        after: Hook | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port, self._speed, self._now = port, speed, now
        self._http: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        WORLD.account = account
        os.environ["MOTO_ACCOUNT_ID"] = account
        self.front = Front(before, after)

    def start(self) -> Server:
        """Listen; returns once requests are answered."""
        WORLD.clock.speed, WORLD.clock.now = self._speed, self._now
        self._http = make_server("127.0.0.1", self._port, self.front, threaded=True, request_handler=_Quiet)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening. What exists stays until `reset`."""
        if self._http and self._thread:
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()
            self._http = self._thread = None

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The URL for AWS_ENDPOINT_URL."""
        if not self._http:
            raise RuntimeError("the sandbox isn't listening: call start() first")
        return f"http://127.0.0.1:{self._http.port}"

    @property
    def clock(self) -> Clock:
        """The clock that AWS's delays run by."""
        return WORLD.clock

    @property
    def calls(self) -> list[Call]:
        """Every request since the start or the last `reset`, in order."""
        return self.front.calls

    def count(self, *, mutating: bool | None = None) -> Counter[tuple[str, str]]:
        """How often each (service, operation) was called; all, the mutating or the reading ones."""
        wanted = (call for call in self.calls if mutating is None or call.mutating is mutating)
        return Counter((call.service, call.operation) for call in wanted)

    def reset(self) -> None:
        """Empty the account and forget the calls."""
        with WORLD.lock:
            WORLD.reset()
            self.calls.clear()


class _Quiet(WSGIRequestHandler):  # type: ignore[misc]  # werkzeug is not followed
    """Keeps connections alive and prints nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits for the client's delayed acknowledgement

    def log_request(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until told to stop, or until the lifetime is over."""
    parser = argparse.ArgumentParser(prog="python -m temporal_ecs.sandbox.server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready", type=Path, help="written with the endpoint once it answers")
    parser.add_argument("--speed", type=float, default=100)
    parser.add_argument("--lifetime", type=float, default=8 * 3600, help="seconds until it stops by itself")
    options = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with Server(options.port, speed=options.speed) as server:
        if options.ready:
            partial = options.ready.with_suffix(".partial")
            partial.write_text(json.dumps({"endpoint": server.endpoint, "pid": os.getpid()}))
            partial.replace(options.ready)
        over.wait(options.lifetime)
    with contextlib.suppress(OSError):
        if options.ready:
            options.ready.unlink()


if __name__ == "__main__":
    main()
