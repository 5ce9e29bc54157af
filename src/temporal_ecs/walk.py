"""The walk over a graph of names: a ready queue, a pool for the steps, a heap of those who wait."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any, NamedTuple, TypeVar

from .clock import Clock

T = TypeVar("T")
Steps = Generator[float, None, T]
"""What happens to one name: it yields the seconds that it wants to wait, and returns how it ended."""

WORKERS = 16


class Event(NamedTuple):
    """Something an observer may want to show. `phase` is a step (create, update, replace, adopt, delete, wait)
    or an outcome (see Result)."""

    resource: str
    phase: str
    detail: str = ""
    seconds: float = 0.0
    typical: tuple[float, float] | None = None


@dataclass
class Result:
    """How a walk ended.

    Outcomes: same, created, updated, replaced, adopted, found · gone, kept · failed, skipped, interrupted.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)  # seconds from the start
    took: dict[str, float] = field(default_factory=dict)
    longest: list[str] = field(default_factory=list)  # the chain of resources that determined the duration
    seconds: float = 0.0
    stop: KeyboardInterrupt | None = None  # what interrupted it

    @property
    def interrupted(self) -> bool:
        return self.stop is not None

    @property
    def ok(self) -> bool:
        return not self.errors and not self.interrupted

    def count(self, *outcomes: str) -> int:
        return sum(outcome in outcomes for outcome in self.outcomes.values())


class Walk:
    """One run of `act` over every name of `graph`, each once what it waits for is done.

    A failure skips those who wait for it, nothing else. Who waits holds no thread.
    """

    def __init__(
        self,
        graph: Mapping[str, Collection[str]],
        act: Callable[[str], Steps[str]],
        *,
        emit: Callable[[Event], None],
        clock: Clock,
        tick: float,
        workers: int = WORKERS,
        expected: Callable[[str], float] = lambda _: 1.0,
        fatal: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        """`tick` is the grid, in seconds, on which waits end; `expected` seconds decide who goes first. An error
        that is `fatal` ends the walk at once and is raised."""
        self.fatal = fatal
        self.refusal: Exception | None = None
        self.graph, self.act, self.emit, self.clock, self.tick = graph, act, emit, clock, tick
        self.result = Result()
        self.order = TopologicalSorter(graph)
        self.urgency = _urgency(graph, expected)
        self.waiting: list[tuple[float, int, str, Steps[str]]] = []
        self.running: dict[Future[Any], tuple[str, Steps[str]]] = {}
        self.began: dict[str, float] = {}
        self.tiebreak = itertools.count()
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="tecs")
        self.start = self.clock.now()

    def run(self) -> None:
        self.order.prepare()
        try:
            while self.order.is_active() and self.refusal is None:
                self._begin()
                self._resume()
                self._collect(self.running)
            if self.refusal is not None:
                self._let_finish()
                raise self.refusal
        except KeyboardInterrupt as stop:
            self._stop(stop)
        finally:
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.result.seconds = self.clock.now() - self.start
            self.result.longest = self._longest()

    def _begin(self) -> None:
        """Start what has become ready; skip what waits for a failure."""
        while ready := self.order.get_ready():
            for name in sorted(ready, key=lambda n: -self.urgency[n]):
                bad = [n for n in sorted(self.graph[name]) if self.result.outcomes.get(n) in ("failed", "skipped")]
                if bad:
                    self._end(name, "skipped", f"waits for {', '.join(bad)}")
                else:
                    self.began[name] = self.clock.now()
                    self._submit(name, self.act(name))

    def _resume(self) -> None:
        while self.waiting and self.waiting[0][0] <= self.clock.now():
            _, _, name, steps = heapq.heappop(self.waiting)
            self._submit(name, steps)

    def _submit(self, name: str, steps: Steps[str]) -> None:
        self.running[self.pool.submit(_step, steps)] = (name, steps)

    def _collect(self, running: Mapping[Future[Any], Any], *, go_on: bool = True) -> None:
        """Wait until something happens, then record it."""
        until = self.waiting[0][0] - self.clock.now() if self.waiting and go_on else None
        if not running and until is None:
            return
        done = self.clock.wait(list(running), None if until is None else max(0.0, until))
        for future in [f for f in running if f in done]:
            name, steps = self.running.pop(future)
            error = future.exception()
            if isinstance(error, Exception):
                if self.fatal(error):
                    self.refusal = error
                else:
                    self.result.errors[name] = error
                    self._end(name, "failed", str(error))
            elif error is not None:
                raise error
            else:
                wait, outcome = future.result()
                if outcome is not None:
                    self._end(name, outcome)
                else:  # wake on a common tick, so that looks at one listing share it
                    due = on_grid(self.clock.now() + max(wait, self.tick), self.tick)
                    heapq.heappush(self.waiting, (due, next(self.tiebreak), name, steps))

    def _end(self, name: str, outcome: str, detail: str = "") -> None:
        now = self.clock.now()
        took = now - self.began.get(name, now)
        self.result.outcomes[name] = outcome
        self.result.took[name], self.result.finished[name] = took, now - self.start
        self.emit(Event(name, outcome, detail, took))
        self.order.done(name)

    def _stop(self, stop: KeyboardInterrupt) -> None:
        """Start nothing new; let the running calls finish and be recorded. A second signal passes through."""
        self.result.stop = stop
        self.emit(Event("", "interrupted", str(stop)))
        self._let_finish()
        for name in self.graph:
            self.result.outcomes.setdefault(name, "interrupted")

    def _let_finish(self) -> None:
        for future in [f for f in self.running if f.cancel()]:  # those that no thread has begun yet
            del self.running[future]
        while self.running:
            self._collect(self.running, go_on=False)

    def _longest(self) -> list[str]:
        """From the last one to finish back along whichever predecessor finished last."""
        finished, path = self.result.finished, []
        name = max(finished, key=lambda n: finished[n], default=None)
        while name is not None:
            path.append(name)
            name = max((n for n in self.graph[name] if n in finished), key=lambda n: finished[n], default=None)
        return path[::-1]


def _step(steps: Steps[str]) -> tuple[float, str | None]:
    """Run up to the next wait: (seconds, None), or (0, outcome) at the end."""
    try:
        return next(steps), None
    except StopIteration as end:
        return 0.0, end.value


def on_grid(moment: float, tick: float) -> float:
    """The last tick that is not after `moment`; a tick that floating point puts just after it counts too."""
    return math.floor(moment / tick + 1e-6) * tick


def _urgency(graph: Mapping[str, Collection[str]], expected: Callable[[str], float]) -> dict[str, float]:
    """Seconds that are expected to follow from the start of each name on: the longest go first."""
    order = list(TopologicalSorter(graph).static_order())
    after = dict.fromkeys(order, 0.0)
    total: dict[str, float] = {}
    for name in reversed(order):
        total[name] = after[name] + expected(name)
        for need in graph[name]:
            after[need] = max(after[need], total[name])
    return total


def closure(names: Iterable[str], neighbours: Callable[[str], Iterable[str]]) -> set[str]:
    """`names` and everything reachable from them."""
    seen: set[str] = set()
    todo = list(names)
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            todo.extend(neighbours(name))
    return seen
