"""The AWS endpoint, with DSQL beside it: in this process for tests, or as a process of its own.

python -m temporal_ecs.sandbox.server --port 0 --ready FILE --speed 100 --lifetime 3600
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from temporal_ecs.sandbox.aws.dsql import Dsql
from temporal_ecs.sandbox.clock import DELAYS, Clock
from temporal_ecs.sandbox.dsql import Limits, StandIn
from temporal_ecs.sandbox.front import Call, Front, Hook
from temporal_ecs.sandbox.ring import Gossip, processes
from temporal_ecs.sandbox.world import WORLD, Fault, idle

__all__ = ["Call", "Fault", "Server"]


class Server:
    """AWS on a loopback port. One to a process at a time, since all that exists is kept per process.

    `speed` divides AWS's delays; infinite means none. `before` and `after` run under the global lock, just
    before and just after a request acts; a Fault raised by `before` becomes the answer. In a child that was
    forked from inside a hook, a new Server serves what the parent had. `dsql` starts, stops and is emptied with it;
    where there is one, tasks of Temporal's services are members of its ring, by `gossip`.
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
        dsql: StandIn | None = None,
        gossip: Gossip | None = None,
    ) -> None:
        self._port, self._speed, self._now = port, speed, now
        self.dsql, self.gossip = dsql, gossip or Gossip()
        self._http: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        WORLD.account = account
        os.environ["MOTO_ACCOUNT_ID"] = account
        self.front = Front(before, after)

    def start(self) -> Server:
        """Listen; returns once requests are answered."""
        WORLD.clock.speed, WORLD.clock.now = self._speed, self._now
        if self.dsql:
            self.dsql.start(wait=False)
            WORLD.processes = processes(self.gossip, self.dsql)
        self._http = make_server("127.0.0.1", self._port, self._answer, threaded=True, request_handler=_Quiet)
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
        if self.dsql:
            WORLD.processes = idle
            self.gossip.stop()
            self.dsql.stop()

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
        self.gossip.stop()
        if self.dsql:
            self.dsql.reset()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_sandbox/dsql" and self.dsql:
            return self._break_dsql(self.dsql, environ, start_response)
        return self.front(environ, start_response)

    def _break_dsql(self, dsql: StandIn, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Set faults of the stand-in to what the body says."""
        try:
            dsql.faults.set(**json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))))
        except (TypeError, ValueError) as wrong:
            start_response("400 Bad Request", [("Content-Type", "text/plain")])
            return [str(wrong).encode()]
        start_response("204 No Content", [])
        return []


def dsql_status(host: str) -> str | None:
    """The control plane's word on the cluster at a host."""
    cluster, _, domain = host.partition(".")
    with WORLD.lock:
        WORLD.clock.catch_up()
        known = WORLD.state(Dsql, domain.split(".")[-3]).clusters.get(cluster)
        return str(known.data["status"]) if known else None


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
    parser.add_argument("--region", default="eu-west-1")
    parser.add_argument("--lifetime", type=float, default=8 * 3600, help="seconds until it stops by itself")
    options = parser.parse_args()
    over, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)  # a signal just before the wait would else be seen only after it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    limits = Limits(index_seconds=DELAYS["dsql index"] / options.speed)
    dsql = StandIn(region=options.region, status=dsql_status, limits=limits)
    with Server(options.port, speed=options.speed, dsql=dsql) as server:
        if options.ready:
            facts = {
                "endpoint": server.endpoint, "pid": os.getpid(), "dsql_hostaddr": dsql.hostaddr,
                "dsql_port": dsql.port, "dsql_ca": str(dsql.ca_file),
            }  # fmt: skip
            partial = options.ready.with_suffix(".partial")
            partial.write_text(json.dumps(facts))
            partial.replace(options.ready)
        select.select([over], [], [], options.lifetime)
    with contextlib.suppress(OSError):
        if options.ready:
            options.ready.unlink()


if __name__ == "__main__":
    main()
