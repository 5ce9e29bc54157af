"""How a client gets in: TLS with a server name, a startup message, a token as the password."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from temporal_ecs.sandbox.dsql import tokens, wire
from temporal_ecs.sandbox.dsql.certificates import HOST, Authority
from temporal_ecs.sandbox.dsql.cluster import Cluster
from temporal_ecs.sandbox.dsql.faults import Connection, Log
from temporal_ecs.sandbox.dsql.wire import SqlError, Stream

CONNECTABLE = ("ACTIVE", "IDLE", "UPDATING")

_WITHOUT_EFFECT = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "amzn-cluster-id")


class Guest(NamedTuple):
    """A client that was let in: to which cluster, as whom, and with what settings for its session."""

    stream: Stream
    cluster: Cluster
    user: str
    settings: dict[str, str]


class Door:
    """Lets clients in. `status` is the control plane: the status of the cluster at a host, None if there is none."""

    def __init__(
        self,
        authority: Authority,
        domain: str,
        *,
        keys: Mapping[str, str],
        cluster: Callable[[str], Cluster],
        status: Callable[[str], str | None] | None,
        now: Callable[[], float],
        log: Log[Connection],
    ) -> None:
        self._authority, self._keys, self._now, self._log = authority, keys, now, log
        self._cluster, self._status = cluster, status
        self._context = authority.context(domain)
        self._context.sni_callback = self._named
        self._names: dict[int, str] = {}  # by file descriptor, while the handshake lasts

    def admit(self, stream: Stream, host: str) -> Guest | None:
        """Have a client say who it is and prove it; None if it was refused, or wanted no session."""
        size, version = struct.unpack("!ii", stream.exactly(8))
        if version == wire.CANCEL:  # DSQL takes it and cancels nothing
            return None
        if not 8 <= size <= 10_000 or version >> 16 != 3:
            raise EOFError("no startup message")
        if version != wire.VERSION_3:
            stream.write(wire.NO_NEWER_VERSION)
        parts = stream.exactly(size - 8).decode(errors="replace").split("\0")
        given = {name: value for name, value in zip(parts[::2], parts[1::2], strict=False) if name}
        token = ""
        try:
            cluster = self._find(host)
            cluster.admit()
            try:
                token = _password(stream)
                self._check(token, cluster, host, given)
            except BaseException:
                cluster.left()
                raise
        except SqlError as refused:
            self._remember(host, given, token, refused.fields["M"])
            stream.write(refused.encoded())
            return None
        except EOFError:
            self._remember(host, given, token, "no password")
            raise
        self._remember(host, given, token, "ok")
        return Guest(stream, cluster, given["user"], _settings(given))

    def _remember(self, host: str, given: dict[str, str], token: str, result: str) -> None:
        application = given.get("application_name", "")
        cluster, user = host.partition(".")[0], given.get("user", "")
        self._log.note(Connection(self._now(), cluster, user, tokens.action_of(token), result, application))

    def secure(self, raw: socket.socket) -> tuple[Stream, str] | None:
        """TLS by either way of asking for it, and the server name asked for; a client that doesn't is told and left."""
        first = raw.recv(1, socket.MSG_PEEK)
        direct = first == b"\x16"
        if first and not direct:
            plain = Stream(raw)
            code = wire.GSS
            while code == wire.GSS:
                code = struct.unpack("!ii", plain.exactly(8))[1]
                if code in (wire.TLS, wire.GSS):
                    plain.write(b"S" if code == wire.TLS else b"N")
            if code == wire.CANCEL:
                return None
            if code != wire.TLS or plain.waiting:
                plain.write(SqlError("08006", "unable to accept connection, ssl is required", fatal=True).encoded())
                return None
        sock = self._context.wrap_socket(raw, server_side=True)
        name = self._names.pop(sock.fileno(), "")
        if direct and sock.selected_alpn_protocol() != "postgresql":
            sock.close()
            return None
        return Stream(sock), name

    def _named(self, sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        """The client names the server in its first message: answer with that name's certificate."""
        known = HOST.match(name or "")
        if known and name and isinstance(sock, ssl.SSLSocket):
            self._names[sock.fileno()] = name
            sock.context = self._authority.context(known[2])
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name and not known else None

    def _find(self, host: str) -> Cluster:
        if not host:
            raise SqlError("08006", "unable to accept connection, sni was not received", fatal=True)
        status = self._status(host) if self._status else "ACTIVE"
        if status == "INACTIVE":
            raise SqlError("08006", "unable to accept connection, waking up cluster, please retry later", fatal=True)
        if status not in CONNECTABLE:
            raise tokens.denied("There is no cluster at this host that takes connections.")
        return self._cluster(host.partition(".")[0])

    def _check(self, token: str, cluster: Cluster, host: str, given: dict[str, str]) -> None:
        if cluster.faults.take("access_denied"):
            raise tokens.denied("")
        user, region = given.get("user", ""), host.split(".")[-3]
        tokens.check(token, host=host, region=region, user=user, keys=self._keys, now=self._now())
        if not cluster.maps(user):
            raise tokens.denied("")
        database = given.get("database", user)
        if database != "postgres":
            raise SqlError("3D000", f'database "{database}" does not exist', fatal=True)


def _password(stream: Stream) -> str:
    """Ask for it in clear text, which TLS hides."""
    stream.write(wire.message(b"R", struct.pack("!i", 3)))
    reply = stream.read()
    if reply[:1] != b"p":
        raise EOFError("no password")
    return reply[5:-1].decode(errors="replace")


def _settings(given: dict[str, str]) -> dict[str, str]:
    """What PostgreSQL hears of the startup message."""
    settings = {
        name: value for name, value in given.items()
        if name not in ("user", "database", "replication", "options", *_WITHOUT_EFFECT)
    }  # fmt: skip
    options = given.get("options", "").replace("-c ", "-c").split()
    kept = [
        option for option in options if not option.removeprefix("-c").removeprefix("--").startswith(_WITHOUT_EFFECT)
    ]
    return settings | {"options": " ".join(kept)}
