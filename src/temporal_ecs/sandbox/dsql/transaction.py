"""Optimistic transactions on PostgreSQL, which is pessimistic.

In DSQL nobody waits: two transactions change a row, and the second to commit is refused. In PostgreSQL the second to
*change* the row waits. So a transaction here gives way when another needs what it has locked: it is rolled back to
its begin, keeping its snapshot, and done again from its journal before its next statement or its commit. Whoever
commits first holds all it changed at that moment; the other finds, when it is done again, that a row of its snapshot
has changed since. That is PostgreSQL's own verdict (40001), told at COMMIT as DSQL tells it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass

from temporal_ecs.sandbox.dsql import substitutes, wire
from temporal_ecs.sandbox.dsql.backend import OWN, Backend, CopyIn, Emit, Outcome, own
from temporal_ecs.sandbox.dsql.statements import Statement
from temporal_ecs.sandbox.dsql.wire import SqlError

_LOCKED = ("55P03", "40P01")
"""Somebody holds it: lock_timeout, and a deadlock between statements that both wait."""

_PATIENCE = 20.0
"""Seconds to wait for a lock that nobody can be asked to give up: one of a statement that is still running."""


@dataclass(frozen=True)
class Work:
    """A statement as it goes to PostgreSQL: `messages` end in a Sync; `values` is what Bind says after the names."""

    statement: Statement
    messages: bytes
    types: bytes = b"\0\0"
    values: bytes = wire.NO_PARAMETERS
    copy_in: CopyIn | None = None

    def again(self, sql: str = "", types: bytes = b"") -> bytes:
        """The same once more, or another statement with the same parameters, under our own name."""
        return own(sql or self.statement.sql, types or self.types, self.values) + wire.SYNC


class Arbiter:
    """Lets one transaction of a cluster write or commit at a time, and knows those that could give way."""

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        self.commits = 0
        self._open: set[Transaction] = set()

    def opened(self, transaction: Transaction) -> None:
        """It holds locks from now on."""
        with self.mutex:
            self._open.add(transaction)

    def closed(self, transaction: Transaction) -> None:
        """It is over."""
        with self.mutex:
            self._open.discard(transaction)

    def others_give_way(self, to: Transaction | None) -> None:
        """Free all locks of all other transactions."""
        for other in self._open:
            if other is not to:
                other.give_way()

    def read(self, backend: Backend, work: Work, emit: Emit | None) -> Outcome:
        """Do a statement that needs no transaction of its own, once nothing is in its way."""
        outcome = backend.request(work.messages, emit, work.copy_in)
        deadline = time.monotonic() + _PATIENCE
        while outcome.code in _LOCKED and time.monotonic() < deadline:
            with self.mutex:
                self.others_give_way(None)
                outcome = backend.request(work.messages, emit, work.copy_in)
        return outcome


class Transaction:
    """One transaction of a client on its session's backend. `explicit` if the client began it."""

    def __init__(self, backend: Backend, arbiter: Arbiter, *, explicit: bool, now: float, begin: str = "BEGIN") -> None:
        self._backend, self._arbiter = backend, arbiter
        self.explicit, self.began = explicit, now
        self.ddl = self.dml = self.rows = self.size = 0
        self.failed = False
        self._over = False
        self._lock = threading.Lock()
        self._journal: list[Work] = []
        self._parked = False
        self._lost: SqlError | None = None
        self._commits = arbiter.commits
        backend.run(begin, "SAVEPOINT origin")
        arbiter.opened(self)

    @property
    def wrote(self) -> bool:
        """Whether its commit changes anything."""
        return bool(self.ddl or self.dml)

    def do(self, work: Work, emit: Emit | None = None) -> Outcome:
        """Do a statement. Never waits for another client's transaction."""
        if not work.statement.kind.writes:
            with self._lock:
                outcome = None if self._parked else self._backend.request(work.messages, emit, work.copy_in)
                if outcome and not outcome.error and work.statement.kind.repeats:
                    self._journal.append(work)
            if outcome and outcome.code not in _LOCKED:
                return outcome
        with self._arbiter.mutex, self._lock:
            if self._parked or not work.statement.kind.writes:
                self._restore()
            outcome = self._contend(work)
            if outcome.error and self._lost:  # perhaps only because what it did before isn't there any more
                outcome.error = self._lost
            return outcome

    def give_way(self) -> None:
        """Free all locks; the arbiter's mutex is held. Waits for the statement that is running, if one is."""
        with self._lock, contextlib.suppress(EOFError):  # a session that is gone holds nothing
            if not self._parked and not self._over:
                self._backend.run("ROLLBACK TO origin")
                self._parked = True

    def commit(self) -> None:
        """Commit, or raise the conflict. It is over either way."""
        with self._arbiter.mutex, self._lock:
            self._arbiter.closed(self)
            self._over = True
            if self._parked:
                self._restore()
            if self._lost:
                self._backend.run("ROLLBACK")
                raise self._lost
            self._arbiter.commits += 1
            try:
                self._backend.run("COMMIT")
            except SqlError as refused:
                raise (conflict() if refused.code == "40001" else refused) from None

    def rollback(self) -> None:
        """End it without a trace, if it isn't over yet."""
        with self._lock:
            if not self._over:
                self._over = True
                self._backend.run("ROLLBACK")
        self._arbiter.closed(self)

    def fail(self) -> None:
        """Roll back, and let the client find out: it is failed until the client ends it."""
        self.failed = True
        self.rollback()

    def _contend(self, work: Work) -> Outcome:
        """Do it with every lock that it takes; both locks are held."""
        if work.copy_in:  # its data comes only once
            self._arbiter.others_give_way(self)
        outcome = self._backend.request(work.messages, None, work.copy_in)
        deadline = time.monotonic() + _PATIENCE
        while outcome.code in _LOCKED and not work.copy_in and time.monotonic() < deadline:
            self._arbiter.others_give_way(self)
            self._restore()
            outcome = self._backend.request(work.messages, None, work.copy_in)
        if outcome.code == "40001" or (outcome.code == "23505" and self._unseen(work)):
            return self._lose(work, outcome)
        if not outcome.error and work.statement.kind.repeats:
            self._journal.append(work)
        return outcome

    def _restore(self) -> None:
        """Do the journal again from the begin; if that can't be, the transaction is lost."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._backend.run("ROLLBACK TO origin")
            self._parked = False
            refused = next((code for work in self._journal if (code := self._redo(work))), "")
            if not refused:
                return
            if refused in _LOCKED and time.monotonic() < deadline:
                self._arbiter.others_give_way(self)
                continue
            self._lost = stale() if self.ddl else conflict()
            self._journal.clear()

    def _redo(self, work: Work) -> str:
        """The SQLSTATE of what stands against doing it again, or nothing."""
        return "40001" if work.copy_in else self._backend.request(work.again()).code

    def _unseen(self, work: Work) -> bool:
        """Whether a duplicate key is one that this transaction's snapshot doesn't show."""
        probe = substitutes.unless_duplicate(work.statement)
        if not self.explicit or self._arbiter.commits == self._commits or not probe:
            return False
        self._restore()
        return self._backend.request(work.again(probe)).code == "40001"

    def _lose(self, work: Work, outcome: Outcome) -> Outcome:
        """The row has changed since the snapshot: answer as if it hadn't, and remember for the commit."""
        self._lost = conflict()
        self._restore()
        substitute = substitutes.unconflicted(work.statement) if self.explicit else None
        if not substitute:
            return Outcome(error=conflict())
        result = self._backend.request(work.again(substitute.sql, self._types(work)))
        return result if result.error else substitute.answer(outcome, result)

    def _types(self, work: Work) -> bytes:
        """The types of its parameters, also those that the client left open."""
        parsed = wire.close(b"S", OWN) + wire.parse(OWN, work.statement.sql, work.types)
        return self._backend.request(parsed + wire.describe(b"S", OWN) + wire.SYNC).types


def conflict() -> SqlError:
    """Another transaction changed a row that this one changed."""
    return SqlError("40001", "change conflicts with another transaction (OC000)")


def stale() -> SqlError:
    """Another session's DDL was committed."""
    return SqlError("40001", "schema has been updated by another transaction, please retry: (OC001)")
