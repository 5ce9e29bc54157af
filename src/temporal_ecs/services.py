"""The table of Temporal services: ports, sizes, roles, order. Everything per service loops over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

FRONTEND_GRPC = 7233
METRICS = 9090
"""Port on which every Temporal process and the benchmark serve Prometheus metrics (runtime image's template)."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One ECS service of the stack.

    `cpu` is in CPU units (1024 = one vCPU), `memory` in MiB, `count` in tasks; all three are defaults
    that tecs.toml overrides. `connections` weighs a task's share of DSQL's connection rate.
    """

    name: str  # what an operator types, and the table in tecs.toml
    title: str  # what AWS shows: task family and service after "{project}-", container, log stream prefix
    cpu: int
    memory: int
    count: int
    role: str
    grpc: int | None = None
    membership: int | None = None  # ringpop port; ringpop dials task addresses, not Service Connect
    http: int | None = None
    connections: int = 0
    checked: bool = True  # whether its container has a health check

    @property
    def temporal(self) -> bool:
        """Whether its tasks are members of Temporal's ring."""
        return self.membership is not None


SERVICES: Mapping[str, Service] = {
    service.name: service
    for service in (  # in the order in which they are started
        Service(
            name="history",
            title="temporal-history",
            cpu=2048,
            memory=8192,
            count=4,
            role="temporal-task",
            grpc=7234,
            membership=6934,
            connections=15,
        ),
        Service(
            name="matching",
            title="temporal-matching",
            cpu=1024,
            memory=4096,
            count=3,
            role="temporal-task",
            grpc=7235,
            membership=6935,
            connections=8,
        ),
        Service(
            name="frontend",
            title="temporal-frontend",
            cpu=1024,
            memory=4096,
            count=2,
            role="temporal-task",
            grpc=FRONTEND_GRPC,
            membership=6933,
            connections=5,
        ),
        Service(
            name="worker",
            title="temporal-worker",
            cpu=1024,
            memory=4096,
            count=2,
            role="temporal-task",
            grpc=7239,
            membership=6939,
            connections=3,
        ),
        Service(name="ui", title="temporal-ui", cpu=256, memory=512, count=1, role="temporal-ui-task", http=8080),
        Service(name="grafana", title="grafana", cpu=256, memory=512, count=1, role="grafana-task", http=3000),
        Service(name="adot", title="adot", cpu=256, memory=512, count=1, role="adot-task", checked=False),
    )
}

TEMPORAL: tuple[Service, ...] = tuple(service for service in SERVICES.values() if service.temporal)

IMAGE_REPOSITORIES = (
    "temporal-dsql",
    "temporal-dsql-admin-tools",
    "temporal-dsql-runtime",
    "temporal-grafana",
    "temporal-benchmark",
)
"""ECR repositories of the images that tecs builds."""


@dataclass(frozen=True)
class Size:
    """How a service is sized: tasks, CPU units and MiB of one task."""

    count: int
    cpu: int
    memory: int


def _preset(history: Size, matching: Size, frontend: Size, worker: Size) -> Mapping[str, Size]:
    return {"history": history, "matching": matching, "frontend": frontend, "worker": worker}


PRESETS: Mapping[int, Mapping[str, Size]] = {
    25: _preset(Size(2, 1024, 4096), Size(2, 512, 2048), Size(1, 512, 2048), Size(1, 512, 2048)),
    50: _preset(Size(3, 1024, 4096), Size(2, 1024, 4096), Size(2, 512, 2048), Size(2, 512, 2048)),
    75: _preset(Size(4, 2048, 8192), Size(3, 1024, 4096), Size(2, 1024, 4096), Size(2, 1024, 4096)),
    100: _preset(Size(5, 2048, 8192), Size(4, 1024, 4096), Size(3, 1024, 4096), Size(2, 1024, 4096)),
    150: _preset(Size(6, 2048, 8192), Size(5, 2048, 8192), Size(3, 1024, 4096), Size(3, 1024, 4096)),
    200: _preset(Size(16, 4096, 8192), Size(16, 1024, 2048), Size(9, 2048, 4096), Size(3, 512, 1024)),
    400: _preset(Size(16, 4096, 8192), Size(16, 1024, 2048), Size(9, 2048, 4096), Size(3, 512, 1024)),
}
"""Sizes by workflows per second: 25 to 150 are the table of the seed's scale script, 200 and 400 that of the later one
(10 m8g.4xlarge; both have the same figures)."""

DSQL_CONNECTIONS_PER_SECOND = 100
DSQL_CONNECTION_BURST = 1000
DSQL_CONNECTIONS = 10_000
"""Per cluster: Aurora DSQL user guide, "Cluster quotas and database limits"."""

POOL = 20
"""Connections that a task keeps open; as many idle as open, so that the pool does not churn."""


@dataclass(frozen=True)
class ConnectionLimit:
    """What one task of a service may use of DSQL's connection budget."""

    rate: int  # new connections per second
    burst: int  # new connections at once
    pool: int = POOL  # open connections


class Use(NamedTuple):
    """What all tasks together may use of DSQL's connection budget."""

    rate: int
    burst: int
    open: int


def surge(count: int) -> int:
    """The deployment's maximumPercent that replaces `count` tasks one at a time.

    ECS rounds the resulting number of tasks down, so the percentage is rounded up.
    """
    return 100 + ceil(100 / max(1, count))


def headroom(count: int) -> int:
    """Tasks that a rolling deployment of `count` may run beside them: one, but two of 200."""
    return max(1, count) * surge(count) // 100 - max(1, count)


def connection_limits(counts: Mapping[str, int], sizes: Mapping[str, int] | None = None) -> dict[str, ConnectionLimit]:
    """Divide DSQL's connection budget among the tasks of the Temporal services.

    The sum over all tasks, while any one service also runs its headroom of a rolling deployment, stays within the
    cluster's rate, burst and open connections, as far as there are not more tasks than connections a second: every
    task has at least one. A service at 0 is reckoned as one task: it will start. `sizes` are CPU units of a task; one
    that is larger than its service's default weighs more in proportion.
    """
    tasks = _tasks(counts)
    weights = {
        service.name: service.connections * (sizes or {}).get(service.name, service.cpu) / service.cpu
        for service in TEMPORAL
    }
    rates = _shares(DSQL_CONNECTIONS_PER_SECOND, tasks, weights)
    bursts = _shares(DSQL_CONNECTION_BURST, tasks, weights)
    pool = min(POOL, DSQL_CONNECTIONS // (sum(tasks.values()) + max(map(headroom, tasks.values()))))
    return {name: ConnectionLimit(rates[name], bursts[name], pool) for name in tasks}


def connections_used(counts: Mapping[str, int], limits: Mapping[str, ConnectionLimit]) -> Use:
    """The most that all tasks together may use, while that service is deployed that makes it most."""
    tasks = _tasks(counts)

    def most(each: Callable[[ConnectionLimit], int]) -> int:
        extra = max(headroom(n) * each(limits[name]) for name, n in tasks.items())
        return sum(n * each(limits[name]) for name, n in tasks.items()) + extra

    return Use(most(lambda limit: limit.rate), most(lambda limit: limit.burst), most(lambda limit: limit.pool))


def _tasks(counts: Mapping[str, int]) -> dict[str, int]:
    return {service.name: max(1, counts.get(service.name, service.count)) for service in TEMPORAL}


def _shares(budget: int, tasks: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """What one task of each service gets of `budget`, by weight, at least 1; who needs that minimum takes it from the
    others."""
    least: set[str] = set()
    while True:
        free = [name for name in tasks if name not in least]
        left = budget - sum(tasks[name] for name in least)
        # Whoever surges most costs most: the heaviest of the free, or the headroom of those at the minimum.
        weight = sum(weights[name] * tasks[name] for name in free) + max(
            (weights[name] * headroom(tasks[name]) for name in free), default=0.0
        )
        extra = max((headroom(tasks[name]) for name in least), default=0)
        shares = {name: int(weights[name] * (left - extra) / weight) if weight else 1 for name in free}
        short = {name for name, share in shares.items() if share < 1}
        if not short:
            return {name: shares.get(name, 1) for name in tasks}
        least |= short
