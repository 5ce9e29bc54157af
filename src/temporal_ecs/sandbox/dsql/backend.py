"""A session on PostgreSQL behind the front."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from temporal_ecs.sandbox.dsql import wire
from temporal_ecs.sandbox.dsql.wire import SqlError

OWN = "tecs"
"""The name of the statements and portals that are ours; a client's are left alone, the unnamed ones too."""

Emit = Callable[[bytes], None]
CopyIn = Callable[[bytes], Iterator[bytes]]
"""Gives a client the replies up to CopyInResponse, then yields its data."""


@dataclass
class Outcome:
    """What PostgreSQL answered to one request, without ReadyForQuery. `final` ends the replies of an Execute."""

    replies: bytearray = field(default_factory=bytearray)
    final: bytes = b""
    types: bytes = b"\0\0"
    notices: list[str] = field(default_factory=list)
    error: SqlError | None = None

    @property
    def code(self) -> str:
        """The SQLSTATE of its refusal, or nothing."""
        return self.error.code if self.error else ""

    @property
    def tag(self) -> str:
        """The command tag, if it ended in one."""
        return self.final[5:-1].decode() if self.final[:1] == b"C" else ""

    @property
    def rows(self) -> list[list[str | None]]:
        """The rows among the replies, as texts."""
        return [wire.values(raw[5:]) for raw in wire.messages(bytes(self.replies)) if raw[:1] == b"D"]


class Backend:
    """One connection. Every request ends in a Sync, so nothing is left half read."""

    def __init__(self, path: Path, **parameters: str) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
            self._stream = wire.Stream(sock)
            self._stream.write(wire.startup(**parameters))
            self.greeting = b"".join(self._greeted())
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Leave. PostgreSQL rolls back what was open."""
        with contextlib.suppress(EOFError):
            self._stream.write(wire.message(b"X"))
        self._stream.sock.close()

    def request(self, messages: bytes, emit: Emit | None = None, copy_in: CopyIn | None = None) -> Outcome:
        """Send messages that end in a Sync or are a simple query, and read all that comes back.

        Rows go to `emit` as they come if there is one, and everything else with them once a row has gone.
        """
        self._stream.write(messages)
        outcome = Outcome()
        while True:
            raw = self._stream.read()
            kind = raw[:1]
            if kind == b"Z":
                return outcome
            if kind in (b"D", b"d") and emit:
                outcome.replies += raw
                if len(outcome.replies) > 65536:
                    emit(bytes(outcome.replies))
                    outcome.replies.clear()
                continue
            if kind == b"G" and copy_in:
                self._feed(outcome, raw, copy_in, extended=messages[:1] != b"Q")
                continue
            self._note(outcome, kind, raw)

    def run(self, *statements: str) -> list[list[str | None]]:
        """Do statements of ours; the rows of all. Raises what PostgreSQL refuses them with."""
        messages = b"".join(own(sql) for sql in statements)
        outcome = self.request(messages + wire.SYNC)
        if outcome.error:
            raise outcome.error
        return outcome.rows

    def script(self, sql: str) -> None:
        """Do several statements as one transaction."""
        if error := self.request(wire.query(sql)).error:
            raise error

    def _note(self, outcome: Outcome, kind: bytes, raw: bytes) -> None:
        if kind == b"E":
            outcome.error = SqlError.from_body(raw[5:])
            return
        if kind in (b"C", b"I", b"s"):
            outcome.final = raw
            return
        if kind == b"t":
            outcome.types = raw[5:]
        elif kind == b"N":
            outcome.notices.append(SqlError.from_body(raw[5:]).code)
        outcome.replies += raw

    def _feed(self, outcome: Outcome, raw: bytes, copy_in: CopyIn, *, extended: bool) -> None:
        """Pass a client's COPY data on. PostgreSQL ignored the Sync that came before it."""
        before = bytes(outcome.replies) + raw
        outcome.replies.clear()
        for chunk in copy_in(before):
            self._stream.write(chunk)
        if extended:
            self._stream.write(wire.SYNC)

    def _greeted(self) -> Iterator[bytes]:
        """What PostgreSQL says of itself on the way to ready."""
        while True:
            raw = self._stream.read()
            if raw[:1] == b"Z":
                return
            if raw[:1] == b"E":
                raise SqlError.from_body(raw[5:])
            if raw[:1] == b"S":
                yield raw


def own(sql: str, types: bytes = b"\0\0", values: bytes = wire.NO_PARAMETERS) -> bytes:
    """The messages that run a statement under our name."""
    return (
        wire.close(b"P", OWN)  # left from one that was refused
        + wire.close(b"S", OWN)
        + wire.parse(OWN, sql, types)
        + wire.bind(OWN, OWN, values)
        + wire.execute(OWN)
        + wire.close(b"P", OWN)
        + wire.close(b"S", OWN)
    )
