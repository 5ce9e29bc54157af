"""The token buckets that keep us below AWS's throttling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import VirtualClock
from temporal_ecs.pace import Bucket, Pace


@given(
    st.integers(1, 30),
    st.floats(0.5, 50),
    st.lists(st.floats(0, 10) | st.just(0.0), min_size=1, max_size=80),
)
def test_no_span_of_time_sees_more_calls_than_its_burst_and_rate(burst, rate, pauses):
    bucket, now, sent = Bucket(burst, rate), 0.0, []
    for pause in pauses:
        now += pause
        sent.append(now + bucket.reserve(now))
    assert sent == sorted(sent), "in order"
    for i, first in enumerate(sent):
        for j in range(i, len(sent)):
            assert j - i + 1 <= burst + rate * (sent[j] - first) + 1e-6


@given(st.integers(1, 20), st.floats(0.5, 50), st.integers(1, 60))
def test_calls_at_once_go_at_once_up_to_the_burst_then_at_the_rate(burst, rate, calls):
    bucket = Bucket(burst, rate)
    delays = [bucket.reserve(5.0) for _ in range(calls)]
    assert delays == pytest.approx([max(0.0, (i + 1 - burst) / rate) for i in range(calls)])


def test_a_bucket_fills_up_to_its_burst_and_no_further():
    bucket = Bucket(3, 1)
    assert [bucket.reserve(0) for _ in range(3)] == [0, 0, 0]
    assert [bucket.reserve(2) for _ in range(3)] == [0, 0, 1]
    assert [bucket.reserve(1000) for _ in range(4)] == [0, 0, 0, 1]


def test_threads_wait_their_turn():
    clock = VirtualClock(workers=8)
    pace, sent = Pace(clock), []

    def call() -> None:
        pace.wait("ecs", "CreateService")
        sent.append(clock.now())

    with ThreadPoolExecutor(8) as pool:
        futures = {pool.submit(call) for _ in range(60)}
        while futures:
            futures -= clock.wait(futures, None)
    assert sent[:50] == [0] * 50
    assert sent[50:] == pytest.approx([0.2 * (i + 1) for i in range(10)])


def test_operations_of_one_bucket_share_it_and_others_have_their_own():
    clock = VirtualClock()
    pace = Pace(clock)
    for operation in ("CreateCluster", "DeleteCluster") * 10:
        pace.wait("ecs", operation)
    assert clock.now() == 0
    pace.wait("ecs", "UpdateCluster")
    assert clock.now() == 1
    pace.wait("ecs", "DescribeClusters")
    assert clock.now() == 1


def test_what_has_no_bucket_never_waits():
    clock = VirtualClock()
    pace = Pace(clock)
    for _ in range(500):
        pace.wait("ec2", "DescribeVpcs")
        pace.wait("sts", "CreateCluster")
    assert clock.now() == 0
