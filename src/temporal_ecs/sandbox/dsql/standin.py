"""The DSQL stand-in: real PostgreSQL behind a front that enforces what DSQL documents.

What it can't be is said in `temporal_ecs.sandbox.process.NOT_MODELLED`.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import MappingProxyType

from temporal_ecs.errors import TecsError
from temporal_ecs.sandbox.dsql import catalog, wire
from temporal_ecs.sandbox.dsql.certificates import Authority
from temporal_ecs.sandbox.dsql.cluster import Cluster, Limits
from temporal_ecs.sandbox.dsql.door import Door, Guest
from temporal_ecs.sandbox.dsql.faults import Connection, Faults, Log, Ran
from temporal_ecs.sandbox.dsql.postgres import Postgres
from temporal_ecs.sandbox.dsql.rules import Rules
from temporal_ecs.sandbox.dsql.session import Session
from temporal_ecs.sandbox.dsql.wire import SqlError

KEYS = MappingProxyType({"sandbox": "sandbox"})
"""The sandbox's own credentials: access key to secret."""

_HANDSHAKE = 10.0
"""Seconds that a client may take to get in."""


class StandIn:
    """DSQL on a loopback port, for all clusters of all regions: a cluster is what a client names by its host.

    A cluster's database is made, empty, when somebody first connects to it. `keys` are access keys with their
    secrets; `clock` gives seconds since 1970 and governs tokens, rates, ages and jobs; `status` is the control plane's
    word on a host (None: every host is a cluster and ACTIVE).
    """

    def __init__(
        self,
        *,
        region: str = "eu-west-1",
        keys: Mapping[str, str] = KEYS,
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
        status: Callable[[str], str | None] | None = None,
    ) -> None:
        self.region, self.clock, self.limits = region, clock, limits or Limits()
        self.connections: Log[Connection] = Log()
        self.statements: Log[Ran] = Log()
        self.faults = Faults(clock)
        self._keys, self._status = keys, status
        self._postgres = Postgres()
        self._clusters: dict[str, Cluster] = {}
        self._databases = count(1)
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._started: futures.Future[None] | None = None
        self._listener: socket.socket | None = None
        self._sockets: set[wire.Socket] = set()
        self._threads: set[threading.Thread] = set()

    def start(self, *, wait: bool = True) -> StandIn:
        """Listen; returns once connections are served, or at once, and then the first ones wait a little."""
        try:
            self._postgres.prepare()
            self._authority = Authority(self._postgres.directory)
            starter = ThreadPoolExecutor(1)
            self._started = starter.submit(self._start_postgres)
            starter.shutdown(wait=False)
            self._door = Door(
                self._authority, f"dsql.{self.region}.on.aws", keys=self._keys, cluster=self._cluster,
                status=self._status, now=self.clock, log=self.connections,
            )  # fmt: skip
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
            threading.Thread(target=self._accept, args=(self._listener,), name="dsql", daemon=True).start()
            if wait:
                self._started.result()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Cut everybody off; nothing is left of it, no process and no file."""
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        if self._started:
            futures.wait([self._started])
        self._cut_off()
        for cluster in self._clusters.values():
            cluster.close()
        self._clusters.clear()
        self._postgres.stop()

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def host(self, cluster: str) -> str:
        """The public host name of a cluster."""
        return f"{cluster}.dsql.{self.region}.on.aws"

    @property
    def hostaddr(self) -> str:
        """The address that it listens on, for libpq's `hostaddr`."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if not self._listener:
            raise RuntimeError("the stand-in isn't listening: call start() first")
        return int(self._listener.getsockname()[1])

    @property
    def ca_file(self) -> Path:
        """The certificate to trust, for libpq's `sslrootcert`."""
        return self._authority.ca_file

    def reset(self) -> None:
        """Empty clusters, no faults, nothing remembered. Cuts everybody off."""
        self._cut_off()
        with self._lock:
            for cluster in self._clusters.values():
                cluster.drop()
            if self._clusters:
                self._drop_roles()
            self._clusters.clear()
        self.faults.clear()
        self.connections.clear()
        self.statements.clear()

    def drop(self, cluster: str) -> None:
        """Forget one cluster, and cut off whoever is connected to it. Named again, it is empty."""
        with self._lock:
            if found := self._clusters.pop(cluster, None):
                found.drop()

    def _start_postgres(self) -> None:
        self._postgres.start()
        setup = self._postgres.connect("postgres", "template1")
        setup.run(catalog.ROLES)
        setup.script(catalog.SETUP)
        setup.close()

    def _cluster(self, name: str) -> Cluster:
        assert self._started
        try:
            self._started.result()
        except TecsError as failure:
            raise SqlError("57P03", f"the stand-in has no PostgreSQL: {failure}", fatal=True) from None
        with self._lock:
            if name not in self._clusters:
                database = f"dsql_{next(self._databases)}"
                self._clusters[name] = Cluster(self._postgres, name, database, self.limits, self.faults, self.clock)
            return self._clusters[name]

    def _drop_roles(self) -> None:
        maker = self._postgres.connect("postgres", "postgres")
        maker.run(*(f"DROP ROLE {name}" for [name] in maker.run(catalog.OWN_ROLES)))
        maker.close()

    def _cut_off(self) -> None:
        for sock in tuple(self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own belongs to the session's thread
        for thread in tuple(self._threads):
            thread.join(5)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), name="dsql session", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else every answer takes 40 ms
            sock.settimeout(_HANDSHAKE)
            if secured := self._door.secure(sock):
                with secured[0].sock as encrypted:
                    self._let_in(encrypted, *secured)
        except (EOFError, OSError):
            pass  # the client went away, or spoke no TLS
        finally:
            sock.close()
            self._threads.discard(threading.current_thread())

    def _let_in(self, sock: wire.Socket, stream: wire.Stream, host: str) -> None:
        self._sockets.add(sock)
        try:
            if guest := self._door.admit(stream, host):
                try:
                    sock.settimeout(None)
                    self._attend(guest)
                finally:
                    guest.cluster.left()
            elif isinstance(sock, ssl.SSLSocket):
                sock.settimeout(0)
                with contextlib.suppress(OSError):
                    sock.unwrap()  # says goodbye; doesn't wait for the answer
        finally:
            self._sockets.discard(sock)

    def _attend(self, guest: Guest) -> None:
        try:
            backend = guest.cluster.connect(guest.user, guest.settings)
        except SqlError as refused:
            guest.stream.write(refused.encoded())
            return
        number = next(self._numbers)
        rules = Rules(number, guest.cluster, backend, self.statements)  # its age counts from before the welcome
        try:
            key = struct.pack("!iI", number, secrets.randbits(32))
            welcome = wire.message(b"R", struct.pack("!i", 0)) + backend.greeting + wire.message(b"K", key)
            guest.stream.write(welcome + wire.ready(b"I"))
            Session(guest.stream, rules).serve()
        finally:
            backend.close()
