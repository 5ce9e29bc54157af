"""PostgreSQL's wire protocol, version 3: messages, and the few that the stand-in writes itself.

A message is a kind of one byte, a length, and a body. What goes by unread is passed on as the bytes it came in.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Iterator

LARGEST = 10 * 2**20
"""Bytes of one message; DSQL closes the connection on more."""

VERSION_3 = 196608
CANCEL, TLS, GSS = 80877102, 80877103, 80877104
"""Codes in the place of the version: cancel a query, negotiate TLS, negotiate GSSAPI."""

Socket = socket.socket | ssl.SSLSocket


class SqlError(Exception):
    """A refusal, by the letters of the protocol's fields: C for the SQLSTATE, M message, D detail, H hint."""

    def __init__(self, code: str, message: str, *, hint: str = "", detail: str = "", fatal: bool = False) -> None:
        severity = "FATAL" if fatal else "ERROR"
        self.fields = {"S": severity, "V": severity, "C": code, "M": message}
        if detail:
            self.fields["D"] = detail
        if hint:
            self.fields["H"] = hint
        super().__init__(code, message)

    @classmethod
    def from_body(cls, body: bytes) -> SqlError:
        """What PostgreSQL refused with."""
        parts = (part.decode() for part in body.split(b"\0") if part)
        fields = {part[0]: part[1:] for part in parts}
        error = cls(fields.get("C", "XX000"), fields.get("M", ""))
        error.fields = fields
        return error

    @property
    def code(self) -> str:
        """The SQLSTATE."""
        return self.fields["C"]

    def encoded(self) -> bytes:
        """As an ErrorResponse."""
        return message(b"E", b"".join(f"{key}{value}".encode() + b"\0" for key, value in self.fields.items()) + b"\0")


class Stream:
    """Messages over a socket, buffered on the way in. Raises EOFError when the other side is gone."""

    def __init__(self, sock: Socket) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self._at = 0

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._buffer) - self._at < size:
            self._fill(size)
        data = bytes(self._buffer[self._at : self._at + size])
        self._at += size
        return data

    def read(self) -> bytes:
        """The next message, whole."""
        while len(self._buffer) - self._at < 5:
            self._fill(5)
        size = int.from_bytes(self._buffer[self._at + 1 : self._at + 5], "big") + 1
        if size > LARGEST:
            raise EOFError("a message above the largest size")
        return self.exactly(size)

    @property
    def waiting(self) -> bool:
        """Whether more has been read than was asked for."""
        return len(self._buffer) > self._at

    def write(self, data: bytes | bytearray) -> None:
        """Send at once."""
        try:
            self.sock.sendall(data)
        except OSError as lost:
            raise EOFError(str(lost)) from lost

    def _fill(self, size: int) -> None:
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        try:
            chunk = self.sock.recv(max(65536, min(size, 2**20)))
        except OSError as lost:
            raise EOFError(str(lost)) from lost
        if not chunk:
            raise EOFError("closed by the other side")
        self._buffer += chunk


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A whole message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def messages(data: bytes) -> Iterator[bytes]:
    """The messages that stand one after the other in `data`."""
    at = 0
    while at < len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        yield data[at:end]
        at = end


def text(value: str) -> bytes:
    """A string as the protocol writes it."""
    return value.encode() + b"\0"


def strings(body: bytes, count: int) -> tuple[list[str], bytes]:
    """That many strings from the start of a body, and the rest."""
    parts = body.split(b"\0", count)
    return [decoded(part) for part in parts[:count]], parts[count]


def decoded(value: bytes) -> str:
    """A client's text; DSQL knows UTF-8 only."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise SqlError("22021", 'invalid byte sequence for encoding "UTF8"') from None


def startup(**parameters: str) -> bytes:
    """The first message of a client."""
    body = b"".join(text(name) + text(value) for name, value in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, VERSION_3) + body


def query(sql: str) -> bytes:
    """A simple query."""
    return message(b"Q", text(sql))


def parse(name: str, sql: str, types: bytes = b"\0\0") -> bytes:
    """Prepare a statement; `types` are the count and the OIDs of the parameters."""
    return message(b"P", text(name) + text(sql) + types)


NO_PARAMETERS = b"\0" * 6
"""The rest of a Bind without parameters: no formats, no values, all results as text."""


def bind(portal: str, statement: str, values: bytes = NO_PARAMETERS) -> bytes:
    """Bind a statement; `values` is all that follows the names."""
    return message(b"B", text(portal) + text(statement) + values)


def describe(what: bytes, name: str) -> bytes:
    """Ask for the description of a statement (S) or a portal (P)."""
    return message(b"D", what + text(name))


def execute(portal: str, rows: int = 0) -> bytes:
    """Run a portal; 0 rows means all."""
    return message(b"E", text(portal) + struct.pack("!i", rows))


def close(what: bytes, name: str) -> bytes:
    """Forget a statement (S) or a portal (P)."""
    return message(b"C", what + text(name))


SYNC = message(b"S")

NO_NEWER_VERSION = message(b"v", b"\0" * 8)
"""NegotiateProtocolVersion: 3.0 is the newest, and no protocol option is refused."""


def ready(status: bytes) -> bytes:
    """ReadyForQuery: I idle, T in a transaction, E in a failed one."""
    return message(b"Z", status)


def complete(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", text(tag))


def columns(names: Iterable[str]) -> bytes:
    """RowDescription of text columns."""
    described = [text(name) + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0) for name in names]
    return message(b"T", struct.pack("!h", len(described)) + b"".join(described))


def row(values: Iterable[str]) -> bytes:
    """DataRow of texts."""
    encoded = [value.encode() for value in values]
    body = b"".join(struct.pack("!i", len(value)) + value for value in encoded)
    return message(b"D", struct.pack("!h", len(encoded)) + body)


def values(body: bytes) -> list[str | None]:
    """The texts of a DataRow."""
    found: list[str | None] = []
    at = 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        size = struct.unpack_from("!i", body, at)[0]
        at += 4
        found.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    return found
