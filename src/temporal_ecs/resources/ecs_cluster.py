"""The ECS cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

TRANSITION = {"PROVISIONING": "being created", "DEPROVISIONING": "being deleted"}


@dataclass(frozen=True, kw_only=True)
class EcsCluster(Resource):
    cluster_name: str
    insights: str
    exec_log_group: str | Ref
    namespace: str | Ref  # ARN
    exec_logging: str = "OVERRIDE"

    group = "compute"
    listing = "ecs-cluster"
    tagging = "ecs"
    absent = frozenset({"ClusterNotFoundException"})
    not_yet = frozenset(
        {
            "InvalidParameterException: service linked role",  # IAM has not told ECS yet
            "ClientException: service linked role",
            "NamespaceNotFoundException",  # Cloud Map has not told ECS yet
            "InvalidParameterException: container instance",  # it left by itself between listing and striking off
            "UpdateInProgressException",
            "ClusterContainsServicesException",
            "ClusterContainsTasksException",
            "ClusterContainsContainerInstancesException",
            "ClusterContainsCapacityProviderException",
        }
    )
    mutable = frozenset({"insights", "exec_log_group", "namespace", "exec_logging"})
    timeout = 900

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        row = aws.cluster(self, self.cluster_name)
        if row is None:
            return None
        session: dict[str, Any] = row.get("configuration", {}).get("executeCommandConfiguration", {})
        return {
            "id": row["clusterName"],
            "cluster_name": row["clusterName"],
            "insights": next((s["value"] for s in row.get("settings", ()) if s["name"] == "containerInsights"), ""),
            "exec_logging": session.get("logging", ""),
            "exec_log_group": session.get("logConfiguration", {}).get("cloudWatchLogGroupName", ""),
            "namespace": row.get("serviceConnectDefaults", {}).get("namespace", ""),
            "arn": row["clusterArn"],
            "pending": TRANSITION.get(row["status"], ""),
            "failed": "ECS reports FAILED" if row["status"] == "FAILED" else "",
            "tags": {tag["key"]: tag["value"] for tag in row.get("tags", ())},
        }

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        tags = aws.tag_list(self, "key", "value")
        aws.ecs.create_cluster(clusterName=self.cluster_name, tags=tags, **self._settings())
        return self.cluster_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.ecs.update_cluster(cluster=live["id"], **self._settings())

    def delete(self, aws: Aws, live: Live) -> None:
        """Instances that were terminated go on counting as registered: they are struck off."""
        for page in aws.ecs.get_paginator("list_container_instances").paginate(cluster=live["id"]):
            for arn in page["containerInstanceArns"]:
                aws.ecs.deregister_container_instance(cluster=live["id"], containerInstance=arn, force=True)
        aws.ecs.delete_cluster(cluster=live["id"])

    def _settings(self) -> dict[str, Any]:
        logs = {"cloudWatchLogGroupName": self.exec_log_group, "cloudWatchEncryptionEnabled": False}
        return {
            "settings": [{"name": "containerInsights", "value": self.insights}],
            "configuration": {"executeCommandConfiguration": {"logging": self.exec_logging, "logConfiguration": logs}},
            "serviceConnectDefaults": {"namespace": self.namespace},
        }


def declare(config: Config) -> Iterator[Resource]:
    yield EcsCluster(
        name="cluster",
        cluster_name=f"{config.project}-cluster",
        insights="enabled",
        exec_log_group=Ref("ecs-exec-logs"),
        namespace=Ref("namespace", "arn"),
        after=("ecs-service-role",),
        order=("container-insights-logs",),
    )
