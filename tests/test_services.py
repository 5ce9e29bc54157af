"""The table of services, and DSQL's connection budget among their tasks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_ecs.services import (
    DSQL_CONNECTION_BURST,
    DSQL_CONNECTIONS_PER_SECOND,
    SERVICES,
    TEMPORAL,
    ConnectionLimit,
    connection_limits,
    surge,
)

NAMES = [service.name for service in TEMPORAL]
COUNTS = st.fixed_dictionaries({name: st.integers(1, 50) for name in NAMES})


def most(counts: dict[str, int], limits: dict[str, ConnectionLimit], what: str) -> int:
    """What all tasks may use together while one service is being replaced: the worst case."""
    each = {name: getattr(limit, what) for name, limit in limits.items()}
    return sum(max(1, counts[name]) * each[name] for name in NAMES) + max(each.values())


@given(COUNTS)
def test_all_tasks_and_one_more_of_any_service_stay_within_the_budget_whenever_that_is_possible(counts):
    limits = connection_limits(counts)
    tasks = sum(counts.values()) + 1
    for what, budget in (("rate", DSQL_CONNECTIONS_PER_SECOND), ("burst", DSQL_CONNECTION_BURST)):
        assert all(getattr(limit, what) >= 1 for limit in limits.values())
        assert most(counts, limits, what) <= max(budget, tasks)


@given(COUNTS)
def test_who_weighs_more_never_gets_less(counts):
    limits = connection_limits(counts)
    ordered = sorted(TEMPORAL, key=lambda service: service.connections)
    for lighter, heavier in itertools.pairwise(ordered):
        assert limits[lighter.name].rate <= limits[heavier.name].rate
        assert limits[lighter.name].burst <= limits[heavier.name].burst


def test_the_default_counts_give_these_limits():
    counts = {service.name: service.count for service in TEMPORAL}
    assert connection_limits(counts) == {
        "history": ConnectionLimit(rate=13, burst=130),
        "matching": ConnectionLimit(rate=6, burst=69),
        "frontend": ConnectionLimit(rate=4, burst=43),
        "worker": ConnectionLimit(rate=2, burst=26),
    }
    assert connection_limits({}) == connection_limits(counts)


def test_a_service_at_zero_is_reckoned_with_because_it_will_start():
    assert connection_limits(dict.fromkeys(NAMES, 0)) == connection_limits(dict.fromkeys(NAMES, 1))


@pytest.mark.parametrize("count", range(1, 200))
def test_a_rolling_deployment_replaces_one_task_at_a_time(count):
    assert count * surge(count) // 100 == count + 1  # ECS rounds down


def test_a_service_at_zero_may_start_its_first_task():
    assert surge(0) == surge(1) == 200


def test_the_table_is_the_seeds():
    assert list(SERVICES) == ["history", "matching", "frontend", "worker", "ui", "grafana", "adot"]
    assert {s.name: (s.grpc, s.membership) for s in TEMPORAL} == {
        "history": (7234, 6934),
        "matching": (7235, 6935),
        "frontend": (7233, 6933),
        "worker": (7239, 6939),
    }
    assert {s.name: s.http for s in SERVICES.values() if s.http} == {"ui": 8080, "grafana": 3000}
    assert all(s.connections > 0 for s in TEMPORAL)
    assert all(name == service.name for name, service in SERVICES.items())


def test_names_and_ports_are_used_once():
    assert len({s.title for s in SERVICES.values()}) == len(SERVICES)
    ports = [port for s in TEMPORAL for port in (s.grpc, s.membership)]
    assert len(set(ports)) == len(ports)
