"""DSQL's rules for what a session may do, in the order in which DSQL asks them."""

from __future__ import annotations

import re
import struct
import time

from temporal_ecs.sandbox.dsql import wire
from temporal_ecs.sandbox.dsql.backend import Backend, Emit, Outcome, own
from temporal_ecs.sandbox.dsql.cluster import Cluster
from temporal_ecs.sandbox.dsql.faults import Log, Ran
from temporal_ecs.sandbox.dsql.jobs import check_id, moment, new_id
from temporal_ecs.sandbox.dsql.refusals import UNSUPPORTED
from temporal_ecs.sandbox.dsql.statements import Kind, Statement, indexed_table, is_unique
from temporal_ecs.sandbox.dsql.transaction import Transaction, Work, conflict, stale
from temporal_ecs.sandbox.dsql.wire import SqlError


class Cut(Exception):  # noqa: N818  # the end of the connection, not an error of ours
    """The connection ends here, without a word."""


_COUNTED = re.compile(r"^(?:INSERT 0|UPDATE|DELETE|MERGE|COPY) (\d+)$")
FRONT = (Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.IGNORED, Kind.INDEX, Kind.MAPPING)
"""What the front answers itself: PostgreSQL doesn't know it, or is asked in another way."""

_PREPARATION = Statement("", "", Kind.READ)


class Rules:
    """What stands between a statement and PostgreSQL. Knows nothing of the protocols that statements come by."""

    def __init__(self, number: int, cluster: Cluster, backend: Backend, ran: Log[Ran]) -> None:
        self._number, self._cluster, self._backend, self._ran = number, cluster, backend, ran
        self._began = cluster.now()
        self._catalog = cluster.catalog
        self._jobs: list[str] = []
        self._cut_after = False
        self.transaction: Transaction | None = None

    @property
    def status(self) -> bytes:
        """The transaction's state as ReadyForQuery gives it."""
        if not self.transaction or not self.transaction.explicit:
            return b"I"
        return b"E" if self.transaction.failed else b"T"

    def perform(self, work: Work, emit: Emit, *, alone: bool) -> Outcome:
        """Do one statement. `alone`: nothing else comes before the implicit commit. Raises its refusal, or Cut."""
        statement = work.statement
        self._meet(statement)
        if statement.kind is Kind.WAIT:
            self._wait(work)
        if statement.kind in FRONT:
            outcome = self._answer(work)
        elif alone and not self.transaction and not statement.kind.writes:
            outcome = self._cluster.arbiter.read(self._backend, work, emit)
        else:
            outcome = self._do(work, emit)
        if outcome.error:
            raise outcome.error
        if statement.kind.controls or self.status != b"I":
            self.cut_if_due()
        return outcome

    def end(self) -> None:
        """The end of an implicit transaction: commit it, if one is open."""
        if self.transaction and not self.transaction.explicit:
            self._commit()
        self.cut_if_due()

    def fail(self) -> None:
        """A statement was refused: an explicit transaction is failed, an implicit one is over."""
        self._jobs.clear()
        if self.transaction:
            self.transaction.fail()
        if self.transaction and not self.transaction.explicit:
            self.transaction = None

    def prepare(self, messages: bytes) -> Outcome:
        """Let PostgreSQL parse, bind or describe, without executing anything."""
        if self.transaction and self.transaction.failed:
            raise failed()
        work = Work(_PREPARATION, messages)
        if self.transaction:
            return self.transaction.do(work)
        return self._cluster.arbiter.read(self._backend, work, None)

    def hold(self) -> None:
        """Keep what is bound until a later Sync."""
        self._within(_PREPARATION)

    def leave(self) -> None:
        """The client is gone."""
        if self.transaction:
            self.transaction.rollback()

    def _meet(self, statement: Statement) -> None:
        """Count the statement, and refuse it if a rule or a fault wants that."""
        faults, now = self._cluster.faults, self._cluster.now()
        self._ran.note(Ran(now, self._number, statement.text))
        cut = faults.statement()
        if faults.latency:
            time.sleep(faults.latency)
        limits, transaction = self._cluster.limits, self.transaction
        if cut == "before" or (not transaction and now - self._began > limits.session_seconds):
            raise Cut
        self._cut_after = bool(cut)
        if transaction and transaction.failed and statement.kind not in (Kind.COMMIT, Kind.ROLLBACK):
            raise failed()
        if transaction and statement.kind is not Kind.ROLLBACK and now - transaction.began > limits.transaction_seconds:
            raise SqlError("54000", f"transaction age limit of {limits.transaction_seconds:g}s exceeded")
        if statement.refusal:
            raise SqlError(*statement.refusal)
        if not statement.kind.controls and statement.kind is not Kind.SETTING:
            self._cluster.catch_up()
            if faults.take("stale") or self._is_stale():
                raise stale()

    def _is_stale(self) -> bool:
        """Whether another session's DDL was committed since this one last looked; it looks now."""
        seen, self._catalog = self._catalog, self._cluster.catalog
        return seen != self._catalog

    def _do(self, work: Work, emit: Emit) -> Outcome:
        statement = work.statement
        transaction = self._within(statement)
        outcome = transaction.do(work, None if statement.kind.writes else emit)
        if statement.kind.writes and (found := _COUNTED.match(outcome.tag)):
            transaction.rows += int(found[1])
            transaction.size += len(statement.text) + len(work.values)
        if transaction.rows > self._cluster.limits.rows:
            raise SqlError("54000", "transaction row limit exceeded")
        return outcome

    def _within(self, statement: Statement) -> Transaction:
        """The transaction for a statement, opened if need be; refuses what may not be in one together."""
        transaction = self.transaction
        if not transaction:
            now = self._cluster.now()
            transaction = Transaction(self._backend, self._cluster.arbiter, explicit=False, now=now)
            self.transaction = transaction
        if statement.kind.changes_schema:
            if transaction.dml:
                raise SqlError(UNSUPPORTED, "ddl and dml are not supported in the same transaction")
            if transaction.ddl:
                raise SqlError(UNSUPPORTED, "multiple ddl statements not supported in a transaction")
            transaction.ddl += 1
        elif statement.kind is Kind.WRITE:
            if transaction.ddl:
                raise SqlError(UNSUPPORTED, "ddl and dml are not supported in the same transaction")
            transaction.dml += 1
        return transaction

    def _answer(self, work: Work) -> Outcome:
        statement = work.statement
        if statement.kind is Kind.INDEX:
            return self._index(work)
        if statement.kind is Kind.MAPPING:
            return self._map(work)
        tag = statement.tag
        if statement.kind is Kind.BEGIN:
            self._begin(statement)
        elif self.transaction and statement.kind in (Kind.COMMIT, Kind.ROLLBACK):
            if self.transaction.failed:
                tag = "ROLLBACK"
            elif statement.kind is Kind.COMMIT:
                self._commit()
            else:
                self._jobs.clear()
                self.transaction.rollback()
            self.transaction = None
        return Outcome(final=wire.complete(tag))

    def _begin(self, statement: Statement) -> None:
        if self.transaction:
            self.transaction.explicit = True
            return
        now = self._cluster.now()
        self.transaction = Transaction(
            self._backend, self._cluster.arbiter, explicit=True, now=now, begin=statement.sql
        )

    def _commit(self) -> None:
        """Commit the open transaction, or raise what refuses it; it is over either way."""
        transaction, faults = self.transaction, self._cluster.faults
        assert transaction
        self.transaction = None
        jobs, self._jobs = self._jobs, []
        if transaction.wrote:
            refused: Exception | None = None
            if faults.take("lose_before_commit"):
                refused = Cut()
            elif faults.conflict():
                refused = conflict()
            elif self._is_stale():
                refused = stale()
            elif transaction.size > self._cluster.limits.size:
                size = f"{transaction.size} bytes"
                refused = SqlError("54000", "transaction size limit 10mb exceeded", detail=f"Current size is {size}.")
            if refused:
                transaction.rollback()
                raise refused
        with self._cluster.arbiter.mutex:
            transaction.commit()
            if transaction.ddl:
                self._catalog = self._cluster.schema_changed()
            for job in jobs:
                self._cluster.jobs.committed(job)
        if transaction.wrote and faults.take("lose_after_commit"):
            raise Cut

    def _index(self, work: Work) -> Outcome:
        """Make the index, not unique yet and not valid, and the job that will see to both."""
        transaction = self._within(work.statement)
        made = transaction.do(_own_work(work.statement))
        if made.error or "42P07" in made.notices:
            return Outcome(final=made.final, error=made.error)
        job = new_id()
        table = indexed_table(work.statement).replace("'", "''")
        unique = str(is_unique(work.statement)).lower()
        submit = f"SELECT standin.submit('{job}', '{table}', {unique}, '{moment(self._cluster.now())}')"
        submitted = transaction.do(_own_work(Statement(submit, submit, Kind.OTHER)))
        self._jobs.append(job)
        return Outcome(bytearray(wire.row([job])), made.final, error=submitted.error)

    def _map(self, work: Work) -> Outcome:
        """AWS IAM GRANT role TO 'arn', and REVOKE role FROM."""
        found = work.statement.tokens
        if len(found) != 6:
            raise SqlError("42601", "syntax error at end of input")
        role, arn = found[3].name.replace("'", "''"), found[5].text
        sql = f"SELECT standin.iam({str(found[2].word == 'GRANT').lower()}, '{role}', {arn})"
        done = self._within(work.statement).do(_own_work(Statement(sql, sql, Kind.MAPPING)))
        return Outcome(final=wire.complete(found[2].word), error=done.error)

    def _wait(self, work: Work) -> None:
        """CALL sys.wait_for_job: block until the job is over, at most as long as a transaction may last."""
        job = _job_argument(work)
        check_id(job)
        until = time.monotonic() + self._cluster.limits.transaction_seconds
        while self._cluster.jobs.pending(job) and time.monotonic() < until:
            time.sleep(0.005)
            self._cluster.catch_up()

    def cut_if_due(self) -> None:
        """End the connection if the statement that was just done is the one to do it after."""
        if self._cut_after:
            raise Cut


def failed() -> SqlError:
    """The answer to everything in a failed transaction."""
    return SqlError("25P02", "current transaction is aborted, commands ignored until end of transaction block")


def _own_work(statement: Statement) -> Work:
    return Work(statement, own(statement.sql) + wire.SYNC)


def _job_argument(work: Work) -> str:
    """The one argument of the CALL: a literal or a parameter."""
    found = work.statement.tokens[5:-1]
    if len(found) > 1 and found[0].text == "(":
        raise SqlError(UNSUPPORTED, "cannot use subquery in CALL argument")
    if found and found[0].kind == "parameter":
        formats = struct.unpack_from("!h", work.values)[0]
        size = struct.unpack_from("!i", work.values, 4 + 2 * formats)[0]
        return work.values[8 + 2 * formats : 8 + 2 * formats + max(size, 0)].decode()
    return found[0].text.strip("'") if found else ""
