"""Which capacity providers the cluster uses, and which one services get by default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class ClusterCapacity(Resource):
    """AWS replaces the whole list with every call, asynchronously."""

    cluster: str | Ref
    providers: tuple[str | Ref, ...]
    strategy: tuple[dict[str, Any], ...]

    group = "compute"
    listing = "ecs-cluster"
    tagging = None
    absent = frozenset({"ClusterNotFoundException"})
    not_yet = frozenset({"UpdateInProgressException", "ResourceInUseException", "ClientException: was not ACTIVE"})
    mutable = frozenset({"providers", "strategy"})
    timeout = 600
    typical = (5, 60)

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        row = aws.cluster(self, str(self.cluster))
        if row is None or not (row.get("capacityProviders") or row.get("defaultCapacityProviderStrategy")):
            return None
        attached = set(row["capacityProviders"])
        return {
            "id": row["clusterName"],
            "cluster": row["clusterName"],
            "providers": [p for p in self.providers if p in attached] + sorted(attached - set(self.providers)),
            "strategy": row["defaultCapacityProviderStrategy"],
            "pending": "being attached" if row.get("attachmentsStatus") == "UPDATE_IN_PROGRESS" else "",
            "failed": "attaching failed" if row.get("attachmentsStatus") == "UPDATE_FAILED" else "",
        }

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        self._put(aws, list(self.providers), list(self.strategy))
        return str(self.cluster)

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        self._put(aws, list(self.providers), list(self.strategy))

    def delete(self, aws: Aws, live: Live) -> None:  # noqa: ARG002
        """Standalone tasks hold the providers, and would hold the cluster: they are stopped."""
        pages = aws.ecs.get_paginator("list_tasks").paginate(cluster=self.cluster)
        for page in pages:
            for arn in page["taskArns"]:
                aws.ecs.stop_task(cluster=self.cluster, task=arn, reason="tecs teardown")
        self._put(aws, [], [])

    def _put(self, aws: Aws, providers: list[Any], strategy: list[Any]) -> None:
        aws.ecs.put_cluster_capacity_providers(
            cluster=self.cluster, capacityProviders=providers, defaultCapacityProviderStrategy=strategy
        )


def declare(config: Config) -> Iterator[Resource]:  # noqa: ARG001
    ec2, benchmark = Ref("ec2-capacity"), Ref("benchmark-capacity")
    yield ClusterCapacity(
        name="cluster-capacity",
        cluster=Ref("cluster"),
        providers=(ec2, benchmark),
        strategy=({"capacityProvider": ec2, "weight": 100, "base": 1},),
    )
