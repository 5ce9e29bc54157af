"""Time, so that tests and simulations can bring their own."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Collection
from typing import Any

Future = concurrent.futures.Future[Any]


class Clock:
    """The real one. All times are seconds."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, futures: Collection[Future], timeout: float | None) -> set[Future]:
        """Block until one of `futures` is done or `timeout` is over; those that are done."""
        if not futures:
            self.sleep(timeout or 0)
            return set()
        return concurrent.futures.wait(futures, timeout=timeout, return_when=concurrent.futures.FIRST_COMPLETED).done
