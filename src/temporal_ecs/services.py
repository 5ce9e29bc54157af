"""The table of Temporal services: ports, sizes, roles, order. Everything per service loops over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

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
        Service(name="adot", title="adot", cpu=256, memory=512, count=1, role="adot-task"),
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

DSQL_CONNECTIONS_PER_SECOND = 100
DSQL_CONNECTION_BURST = 1000
"""Per cluster: Aurora DSQL user guide, "Cluster quotas and database limits"."""


@dataclass(frozen=True)
class ConnectionLimit:
    """What one task of a service may use of DSQL's connection budget."""

    rate: int  # new connections per second
    burst: int  # new connections at once


def surge(count: int) -> int:
    """The deployment's maximumPercent that replaces `count` tasks one at a time.

    ECS rounds the resulting number of tasks down, so the percentage is rounded up.
    """
    return 100 + ceil(100 / max(1, count))


def connection_limits(counts: Mapping[str, int]) -> dict[str, ConnectionLimit]:
    """Divide DSQL's connection budget among the tasks of the Temporal services.

    The sum over all tasks, with one more task of any one service (a rolling deployment replaces one at a
    time), stays within the cluster's rate and burst. A service at 0 is reckoned as one task: it will start.
    """
    tasks = {service: max(1, counts.get(service.name, service.count)) for service in TEMPORAL}
    weight = sum(service.connections * n for service, n in tasks.items()) + max(
        service.connections for service in TEMPORAL
    )

    def share(service: Service, budget: int) -> int:
        return max(1, service.connections * budget // weight)

    return {
        service.name: ConnectionLimit(
            rate=share(service, DSQL_CONNECTIONS_PER_SECOND), burst=share(service, DSQL_CONNECTION_BURST)
        )
        for service in TEMPORAL
    }
