"""The table of services, and DSQL's connection budget among their tasks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_ecs.services import (
    DSQL_CONNECTION_BURST,
    DSQL_CONNECTIONS,
    DSQL_CONNECTIONS_PER_SECOND,
    PRESETS,
    SERVICES,
    TEMPORAL,
    ConnectionLimit,
    connection_limits,
    connections_used,
    headroom,
    surge,
)

NAMES = [service.name for service in TEMPORAL]
COUNTS = st.fixed_dictionaries({name: st.integers(1, 50) for name in NAMES})


SIZES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([256, 512, 1024, 2048, 4096]))


@given(COUNTS, SIZES)
def test_all_tasks_and_one_more_of_any_service_stay_within_the_budget_whenever_that_is_possible(counts, sizes):
    limits = connection_limits(counts, sizes)
    assert all(limit.rate >= 1 and limit.burst >= 1 and limit.pool >= 1 for limit in limits.values())
    tasks = sum(counts.values())
    for surging in NAMES:
        running = counts | {surging: counts[surging] + 1}
        rate, burst, pool = (
            sum(running[name] * getattr(limits[name], what) for name in NAMES) for what in ("rate", "burst", "pool")
        )
        assert rate <= max(DSQL_CONNECTIONS_PER_SECOND, tasks + 1)
        assert burst <= max(DSQL_CONNECTION_BURST, tasks + 1)
        assert pool <= DSQL_CONNECTIONS
        used = connections_used(counts, limits)
        assert all(here <= most for here, most in zip((rate, burst, pool), used, strict=True))


@pytest.mark.parametrize("wps", PRESETS)
def test_every_preset_stays_within_the_budget_while_any_service_is_deployed(wps):
    counts = {name: size.count for name, size in PRESETS[wps].items()}
    limits = connection_limits(counts, {name: size.cpu for name, size in PRESETS[wps].items()})
    used = connections_used(counts, limits)
    assert used.rate <= DSQL_CONNECTIONS_PER_SECOND
    assert used.burst <= DSQL_CONNECTION_BURST
    assert used.open <= DSQL_CONNECTIONS


def test_a_larger_task_gets_more_and_the_others_less():
    usual = connection_limits({})
    larger = connection_limits({}, {"history": 4096})
    assert larger["history"].rate > usual["history"].rate
    assert larger["matching"].rate < usual["matching"].rate


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
    assert headroom(count) == 1


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


def test_the_presets_are_the_seeds():
    counts = {wps: tuple(preset[name].count for name in NAMES) for wps, preset in PRESETS.items()}
    assert {wps: row for wps, row in counts.items() if wps <= 150} == {
        25: (2, 2, 1, 1),
        50: (3, 2, 2, 2),
        75: (4, 3, 2, 2),
        100: (5, 4, 3, 2),
        150: (6, 5, 3, 3),
    }
    assert list(PRESETS) == sorted(PRESETS)


def test_names_and_ports_are_used_once():
    assert len({s.title for s in SERVICES.values()}) == len(SERVICES)
    ports = [port for s in TEMPORAL for port in (s.grpc, s.membership)]
    assert len(set(ports)) == len(ports)
