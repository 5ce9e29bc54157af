"""Faults on demand, and what the stand-in remembers of what it did."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

Entry = TypeVar("Entry")

_REMEMBERED = 100_000


class Connection(NamedTuple):
    """One attempt to connect. `result` is `ok` or the message of the refusal."""

    time: float
    cluster: str
    user: str
    action: str
    result: str
    application: str


class Ran(NamedTuple):
    """One statement that a client had executed, without its parameters."""

    time: float
    session: int
    text: str


class Log(list[Entry]):
    """Entries in order; the oldest are forgotten, because a sandbox may run for hours."""

    def note(self, entry: Entry) -> None:
        """Add one."""
        self.append(entry)
        if len(self) > 2 * _REMEMBERED:
            del self[:-_REMEMBERED]


class Faults:
    """What goes wrong, and how often. Numbers count down as the faults happen; all of them are 0 when nothing does.

    Every attribute may be set while the stand-in runs.
    """

    COUNTS = (
        "conflicts", "stale", "lose_before_commit", "lose_after_commit", "too_many", "rate_exceeded", "access_denied",
        "fail_jobs",
    )  # fmt: skip

    def __init__(self, now: Callable[[], float], seed: int = 0) -> None:
        self._now = now
        self._seed = seed
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """No faults."""
        self.conflicts = 0  # OC000 at so many of the next commits that wrote
        self.conflict_rate = 0.0  # the part of commits that wrote to be refused with OC000
        self.stale = 0  # OC001 at so many of the next statements
        self.lose_before_commit = 0  # the connection ends, nothing was committed
        self.lose_after_commit = 0  # the connection ends, all was committed
        self.too_many = 0  # connections to refuse: 53300
        self.rate_exceeded = 0  # connections to refuse: 53400
        self.access_denied = 0  # connections to refuse: 08006
        self.fail_jobs = 0  # asynchronous jobs that fail
        self.latency = 0.0  # seconds before each statement
        self._waking_until = 0.0
        self._cut: tuple[int, bool] | None = None
        self._random = random.Random(self._seed)

    def set(self, **wanted: float) -> None:
        """Several attributes by name, and `waking`, in seconds. Raises ValueError for a name that is none."""
        known = {*self.COUNTS, "conflict_rate", "latency", "waking"}
        if unknown := sorted(set(wanted) - known):
            raise ValueError(f"no fault of DSQL: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        for name, value in wanted.items():
            if name == "waking":
                self.wake(value)
            else:
                setattr(self, name, int(value) if name in self.COUNTS else float(value))

    def wake(self, seconds: float) -> None:
        """The cluster was INACTIVE and is waking up for so long."""
        self._waking_until = self._now() + seconds

    def cut(self, statement: int, *, after: bool = False) -> None:
        """End the connection at the n-th statement from now, counted from 1: before or after it is executed."""
        with self._lock:
            self._cut = (statement, after)

    @property
    def waking(self) -> bool:
        """Whether it is still waking up."""
        return self._now() < self._waking_until

    def take(self, name: str) -> bool:
        """Whether this fault happens now; one fewer is left."""
        with self._lock:
            left: int = getattr(self, name)
            if left:
                setattr(self, name, left - 1)
            return left > 0

    def conflict(self) -> bool:
        """Whether this commit is to be refused."""
        if self.take("conflicts"):
            return True
        with self._lock:
            return self.conflict_rate > 0 and self._random.random() < self.conflict_rate

    def statement(self) -> str:
        """Count a statement: where its connection is to be cut, `before` or `after`, or nothing."""
        with self._lock:
            if self._cut is None:
                return ""
            left, after = self._cut
            self._cut = (left - 1, after) if left > 1 else None
            return "" if left > 1 else "after" if after else "before"
