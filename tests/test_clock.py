"""The real clock, and the virtual one that stands in for it."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from fakes import VirtualClock
from temporal_ecs.aws import _Listings
from temporal_ecs.clock import Clock


@pytest.mark.parametrize("clock", [Clock(), VirtualClock()], ids=["real", "virtual"])
def test_waiting_ends_with_what_is_done_or_with_the_time(clock):
    done: Future[None] = Future()
    done.set_result(None)
    start = clock.now()
    assert clock.wait([done], None) == {done}
    assert clock.wait([done], 60) == {done}
    assert clock.wait([], 0) == set()
    assert clock.now() - start < 5
    start = clock.now()
    assert clock.wait([], 0.05) == set()
    clock.sleep(0.05)
    assert 0.1 <= clock.now() - start + 1e-6 < 5


def test_the_real_clock_waits_for_the_first_and_no_longer():
    clock, never = Clock(), Future()
    with ThreadPoolExecutor(1) as pool:
        soon = pool.submit(time.sleep, 0.01)
        assert clock.wait([never, soon], 60) == {soon}
        assert clock.wait([never], 0.01) == set()


def test_virtual_time_passes_only_while_every_thread_waits():
    clock = VirtualClock(workers=2)
    seen = []

    def work(name: str, naps: list[float]) -> None:
        for nap in naps:
            clock.sleep(nap)
            seen.append((name, clock.now()))

    with ThreadPoolExecutor(2) as pool:
        futures = {pool.submit(work, "a", [3, 3]), pool.submit(work, "b", [2, 2]), pool.submit(work, "c", [10])}
        assert clock.wait(futures, 1) == set()
        assert clock.now() == 1
        while futures:
            futures -= clock.wait(futures, None)
    assert seen == [("b", 2), ("a", 3), ("b", 4), ("a", 6), ("c", 14)]


def test_virtual_time_passes_while_threads_wait_for_one_that_sleeps():
    clock = VirtualClock(workers=3)
    listings = _Listings(clock)

    def fetch() -> float:
        clock.sleep(7)
        return clock.now()

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(listings.get, "things", (), fetch) for _ in range(3)]
        assert clock.wait(futures, None) == set(futures)
    assert [future.result() for future in futures] == [7, 7, 7]


def test_virtual_time_is_interrupted_when_it_gets_there():
    clock = VirtualClock()
    clock.interrupts = [5.0]
    assert clock.wait([], 4) == set()
    with pytest.raises(KeyboardInterrupt):
        clock.wait([], 10)
    assert clock.now() == 5
    assert clock.wait([], 10) == set()
    assert clock.now() == 15


def test_a_thread_that_sleeps_while_nobody_lets_time_pass_gives_up(monkeypatch):
    monkeypatch.setattr("fakes.ABANDONED", 0.01)
    clock = VirtualClock()
    with ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(clock.sleep, 1).exception(10), RuntimeError)
