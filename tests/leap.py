"""A clock that doesn't wait: time stands still while anything runs, and leaps when all that is left is waiting."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Collection

from temporal_ecs.clock import Clock, Future


class Leap(Clock):
    """Give it to the engine, to Aws and, as `now`, to the sandbox's server: an hour of AWS's time costs nothing."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._mutex = threading.Lock()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._mutex:
            self._now += seconds

    def wait(self, futures: Collection[Future], timeout: float | None) -> set[Future]:
        if not futures:
            self.sleep(timeout or 0)
            return set()
        return concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED).done
