"""Units of work on Aurora DSQL: one transaction each, repeated where nothing can have happened, never else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from temporal_ecs.clock import Clock
from temporal_ecs.errors import TecsError
from temporal_ecs.pace import Bucket

from .connect import CONNECTIONS, STATEMENT_SECONDS, Note, Session, Target, connect, without_token

T = TypeVar("T")
Row = tuple[Any, ...]
Cursor = psycopg.Cursor[Row]
Work = Callable[[Cursor], T]

SESSION_SECONDS = 50 * 60.0
"""A session is replaced after so long; DSQL ends it after 60 minutes ("Cluster quotas and database limits")."""

ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds; with the attempts above AWS's advice for conflicts (awslabs/mcp, DSQL skill, "OCC retry patterns")."""


class RefusedError(TecsError):
    """DSQL refused a statement; `sqlstate` says how."""

    def __init__(self, message: str, hint: str, sqlstate: str) -> None:
        super().__init__(message, hint)
        self.sqlstate = sqlstate


class UnknownOutcomeError(TecsError):
    """The connection was lost at COMMIT: the work may have been done, or not. Look before doing it again."""


class _AgainError(TecsError):
    """Certainly nothing was committed, and the next attempt may well succeed."""


class Database:
    """One DSQL cluster. Connects when first asked, and anew when the connection is lost or old.

    For one thread. `token` makes a password for each connection; `note` is told what is waited for.
    """

    def __init__(
        self,
        target: Target,
        token: Callable[[], str],
        *,
        clock: Clock | None = None,
        pace: Bucket = CONNECTIONS,
        note: Note = lambda _: None,
        deadline: float = STATEMENT_SECONDS,
    ) -> None:
        self.target, self.clock, self.note = target, clock or Clock(), note
        self._token, self._pace, self._deadline = token, pace, deadline
        self._session: Session | None = None
        self._opened = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def run(self, work: Work[T]) -> T:
        """What `work` returns, done in one transaction.

        `work` runs again, in a new transaction, after a conflict (SQLSTATE 40001) and after a connection that was
        lost before COMMIT; so its only effects are its statements. UnknownOutcomeError when the connection is lost
        at COMMIT; RefusedError for everything else that DSQL says no to.
        """
        return self._patiently(lambda session: _transaction(session, work))

    def execute(self, sql: str) -> Row | None:
        """Run one statement in a transaction of its own; its first row, where it returns rows."""

        def work(cursor: Cursor) -> Row | None:
            cursor.execute(sql.encode())
            return cursor.fetchone() if cursor.description else None

        return self.run(work)

    def make(self, sql: str) -> Row | None:
        """execute() for a statement that changes nothing when run twice: after a lost COMMIT it is run again."""
        for _ in range(ATTEMPTS - 1):
            with suppress(UnknownOutcomeError):
                return self.execute(sql)
        return self.execute(sql)

    def rows(self, sql: str, parameters: Sequence[Any] | None = None) -> list[Row]:
        """What one reading statement returns."""

        def read(session: Session) -> list[Row]:
            try:
                return session.execute(sql.encode(), parameters).fetchall()
            except psycopg.Error as error:
                raise _judged(error, session, committing=False) from error

        return self._patiently(read)

    def _patiently(self, act: Callable[[Session], T]) -> T:
        attempts = Retrying(
            retry=retry_if_exception_type(_AgainError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
            sleep=self.clock.sleep,
            reraise=True,
        )
        return attempts(lambda: act(self._current()))

    def _current(self) -> Session:
        """The session, opened anew where it is lost or old."""
        session = self._session
        if session is not None and (session.closed or self.clock.now() - self._opened > SESSION_SECONDS):
            self.close()
            session = None
        if session is None:
            session = connect(self.target, self._token, clock=self.clock, pace=self._pace, note=self.note)
            session.deadline = self._deadline
            self._session, self._opened = session, self.clock.now()
        return session


def _transaction(session: Session, work: Work[T]) -> T:
    """`work` between BEGIN and COMMIT. psycopg's own block is not used: nested it makes savepoints, which DSQL
    refuses, and it does not tell whether an error came from COMMIT."""
    committing = False
    try:
        with session.cursor() as cursor:
            cursor.execute("BEGIN")
            result = work(cursor)
            committing = True
            cursor.execute("COMMIT")
            if cursor.statusmessage != "COMMIT":  # PostgreSQL answers ROLLBACK after an error that `work` kept quiet
                raise TecsError("DSQL rolled the transaction back", "Nothing was committed. This is a bug in tecs.")
            return result
    except psycopg.Error as error:
        raise _judged(error, session, committing=committing) from error
    finally:
        if not session.closed and session.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                session.execute("ROLLBACK")


def _judged(error: psycopg.Error, session: Session, *, committing: bool) -> TecsError:
    """What an error of the database means for the unit of work."""
    state = error.sqlstate or ""
    said = without_token(error.diag.message_primary or " ".join(str(error).split()))
    if state == "40001":
        return _AgainError(
            f"DSQL reports the same conflict {ATTEMPTS} times: {said}",
            "Something else changes the same rows or the schema. Run the command again.",
        )
    lost = session.closed or state.startswith(("08", "57P")) or (state == "XX000" and "unavailable" in said)
    if not lost:
        return RefusedError(f"DSQL refuses: {said} (SQLSTATE {state or 'none'})", _remedy(state), state)
    session.close()
    if committing:
        return UnknownOutcomeError(
            "the connection was lost at COMMIT: what was to be done may have been done, or not",
            "Run the command again: it looks first, and does what is missing.",
        )
    if session.overdue:
        return TecsError(
            f"DSQL did not answer within {session.deadline:.0f} s; the connection was closed, nothing was committed",
            "Run the command again.",
        )
    return _AgainError(f"the connection to DSQL is lost again and again: {said}", "Run the command again: it resumes.")


def _remedy(state: str) -> str:
    return {
        "42501": "This user lacks the privilege; tecs connects as admin unless --user says otherwise.",
        "53300": "The cluster has no connection left: see who holds them with `tecs status`.",
        "53400": "The cluster's 100 new connections a second are used up: run the command again.",
        "42P01": "`tecs schema status` compares the schema with what it should be.",
        "54000": "A limit of DSQL was crossed; nothing was committed.",
    }.get(state, "Nothing of this step was committed. Run the command again: it looks first.")
