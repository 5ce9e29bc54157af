"""A client's session once it is let in: reads its messages, has each statement done, and writes the answers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from temporal_ecs.sandbox.dsql import wire
from temporal_ecs.sandbox.dsql.backend import CopyIn
from temporal_ecs.sandbox.dsql.refusals import UNSUPPORTED
from temporal_ecs.sandbox.dsql.rules import FRONT, Cut, Rules, failed
from temporal_ecs.sandbox.dsql.statements import Kind, Statement, read
from temporal_ecs.sandbox.dsql.transaction import Work
from temporal_ecs.sandbox.dsql.wire import SqlError, Stream


@dataclass(frozen=True)
class Prepared:
    """A prepared statement: what it is (None: empty), and the types that its Parse gave."""

    statement: Statement | None
    types: bytes

    @property
    def ours(self) -> bool:
        """Whether PostgreSQL never sees it: the front answers it, or refuses it."""
        return bool(self.statement and (self.statement.kind in FRONT or self.statement.refusal))


@dataclass(frozen=True)
class Portal:
    """A bound statement, and what Bind says after the names."""

    prepared: Prepared
    values: bytes


class Session:
    """The protocol's side of a session. PostgreSQL gets what an Execute needs in one piece, up to a Sync of ours."""

    def __init__(self, stream: Stream, rules: Rules) -> None:
        self._stream, self._rules = stream, rules
        self._prepared: dict[str, Prepared] = {}
        self._portals: dict[str, Portal] = {}
        self._pending = b""  # for PostgreSQL, before the next Execute
        self._skipping = False  # after an error in a batch, until Sync
        self._copied = False  # COPY swallowed the batch's Sync

    def serve(self) -> None:
        """Until the client leaves, or the connection is cut."""
        batch: list[bytes] = []
        try:
            while True:
                raw = self._stream.read()
                kind = raw[:1]
                if kind == b"X":
                    return
                if kind == b"Q":
                    self._simple(raw[5:-1])
                elif kind in (b"S", b"H"):
                    self._extended(batch, synced=kind == b"S")
                    batch = []
                elif kind in (b"P", b"B", b"D", b"E", b"C"):
                    batch.append(raw)
                elif kind == b"F":
                    self._refuse(SqlError(UNSUPPORTED, "function calls are not supported"))
                    self._stream.write(wire.ready(self._rules.status))
        except Cut:
            return
        finally:
            self._rules.leave()

    def _simple(self, text: bytes) -> None:
        held = b""
        try:
            statements = read(wire.decoded(text))
            held = b"" if statements else wire.message(b"I")
            for statement in statements:
                work = Work(statement, wire.query(statement.sql), copy_in=self._copying(statement))
                outcome = self._rules.perform(work, self._stream.write, alone=len(statements) == 1)
                self._stream.write(held + _described(statement) + outcome.replies)
                held = outcome.final
            self._rules.end()
        except SqlError as error:
            self._refuse(error)
        else:
            self._stream.write(held)
        self._stream.write(wire.ready(self._rules.status))

    def _extended(self, batch: list[bytes], *, synced: bool) -> None:
        self._copied = False
        try:
            if not self._skipping:
                self._do_batch(batch, synced=synced)
                if synced and not self._copied:
                    self._rules.end()
        except SqlError as error:
            self._refuse(error)
            self._skipping = True
        self._pending = b""
        if synced and not self._copied:
            self._skipping = False
            if self._rules.status == b"I":
                self._portals.clear()
            self._stream.write(wire.ready(self._rules.status))

    def _do_batch(self, batch: list[bytes], *, synced: bool) -> None:
        executes = sum(raw[:1] == b"E" for raw in batch)
        if not synced and any(raw[:1] == b"B" for raw in batch) and self._rules.status != b"E":
            self._rules.hold()
        for raw in batch:
            if raw[:1] == b"P":
                self._parse(raw)
            elif raw[:1] == b"B":
                self._bind(raw)
            elif raw[:1] == b"E":
                self._execute(raw, alone=synced and executes == 1)
            else:
                self._describe_or_close(raw)
        self._flush()

    def _parse(self, raw: bytes) -> None:
        (name, sql), types = wire.strings(raw[5:], 2)
        statements = read(sql)
        if len(statements) > 1:
            raise SqlError("42601", "cannot insert multiple commands into a prepared statement")
        prepared = self._prepared[name] = Prepared(statements[0] if statements else None, types)
        self._pass_on(raw, wire.message(b"1"), prepared)
        if name:  # it stays when what follows is done again
            self._flush()

    def _bind(self, raw: bytes) -> None:
        (portal, name), values = wire.strings(raw[5:], 2)
        if name not in self._prepared:
            raise SqlError("26000", f'prepared statement "{name}" does not exist')
        prepared = self._prepared[name]
        self._portals[portal] = Portal(prepared, values)
        self._pass_on(raw, wire.message(b"2"), prepared)

    def _describe_or_close(self, raw: bytes) -> None:
        what, name = raw[5:6], raw[6:-1].decode()
        portal = self._portals.get(name)
        prepared = self._prepared.get(name) if what == b"S" else portal.prepared if portal else None
        if raw[:1] == b"C":
            answer = wire.message(b"3")
            if what == b"S":
                self._prepared.pop(name, None)
            else:
                self._portals.pop(name, None)
        else:
            parameters = wire.message(b"t", b"\0\0") if what == b"S" else b""
            described = _described(prepared.statement) if prepared and prepared.statement else b""
            answer = parameters + (described or wire.message(b"n"))
        self._pass_on(raw, answer, prepared)

    def _execute(self, raw: bytes, *, alone: bool) -> None:
        (name,), rest = wire.strings(raw[5:], 1)
        if name not in self._portals:
            raise SqlError("34000", f'portal "{name}" does not exist')
        portal = self._portals[name]
        statement = portal.prepared.statement
        if statement is None:
            self._flush()
            self._stream.write(wire.message(b"I"))
            return
        if portal.prepared.ours:
            self._flush()
        messages, self._pending = self._pending + raw + wire.SYNC, b""
        work = Work(statement, messages, portal.prepared.types, portal.values, self._copying(statement))
        whole = struct.unpack("!i", rest)[0] == 0
        outcome = self._rules.perform(work, self._stream.write, alone=alone and whole)
        self._stream.write(outcome.replies + outcome.final)

    def _pass_on(self, raw: bytes, answer: bytes, prepared: Prepared | None) -> None:
        """To PostgreSQL with the next Execute, or answered at once if it never sees the statement."""
        if prepared and prepared.ours:
            self._flush()
            self._stream.write(answer)
        elif self._rules.status == b"E":
            raise failed()
        else:
            self._pending += raw

    def _flush(self) -> None:
        if self._pending:
            messages, self._pending = self._pending + wire.SYNC, b""
            outcome = self._rules.prepare(messages)
            self._stream.write(outcome.replies)
            if outcome.error:
                raise outcome.error

    def _copying(self, statement: Statement) -> CopyIn | None:
        """What reads the client's data for a COPY."""
        if statement.tokens[0].word != "COPY" or statement.kind is not Kind.WRITE:
            return None

        def chunks(before: bytes) -> Iterator[bytes]:
            self._copied = True
            self._stream.write(before)
            while True:
                raw = self._stream.read()
                if raw[:1] in (b"d", b"c", b"f"):
                    yield raw
                if raw[:1] in (b"c", b"f"):
                    return

        return chunks

    def _refuse(self, error: SqlError) -> None:
        self._rules.fail()
        self._rules.cut_if_due()
        self._stream.write(error.encoded())


def _described(statement: Statement) -> bytes:
    """The RowDescription of what the front answers itself."""
    return wire.columns(["job_id"]) if statement.kind is Kind.INDEX and not statement.refusal else b""
