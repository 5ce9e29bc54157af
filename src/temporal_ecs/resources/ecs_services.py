"""The seven ECS services. Made at a desired count of 0; counts belong to `scale`, revisions to `deploy`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource, declared, in_order
from temporal_ecs.services import METRICS, SERVICES, TEMPORAL, Service, surge

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

ONE_AT_A_TIME = "one task at a time"


@dataclass(frozen=True, kw_only=True)
class EcsService(Resource):
    """`count` is what `scale up` starts; it only decides how much a deployment may exceed it."""

    cluster: str | Ref
    service_name: str
    task_definition: str | Ref
    capacity: tuple[dict[str, Any], ...]
    placement: tuple[dict[str, str], ...]
    subnets: tuple[str | Ref, ...]
    security_groups: tuple[str | Ref, ...]
    service_connect: Mapping[str, Any] | None
    count: int
    public_addresses: bool = False
    rollout: str = ONE_AT_A_TIME
    execute_command: bool = True
    zone_rebalancing: str = "DISABLED"  # AWS's default moves History tasks, and with them shards, unasked
    desired: int = 0

    group = "services"
    tagging = "ecs"
    absent = frozenset({"ServiceNotFoundException", "ServiceNotActiveException", "ClusterNotFoundException"})
    exists = frozenset({"InvalidParameterException: not idempotent"})
    not_yet = frozenset(
        {
            "NamespaceNotFoundException",  # Cloud Map has not told ECS yet
            "InvalidParameterException: still Draining",
            "InvalidParameterException: capacity provider",  # attached to the cluster a moment ago
            "InvalidParameterException: deployments are active",
            "InvalidParameterException: Unable to assume",
            "ClientException: service linked role",
        }
    )
    mutable = frozenset(
        {
            "task_definition",
            "capacity",
            "placement",
            "subnets",
            "security_groups",
            "public_addresses",
            "service_connect",
            "rollout",
            "execute_command",
            "zone_rebalancing",
        }
    )
    initial = frozenset({"desired"})
    unread = frozenset({"count"})
    timeout = 900

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        names = [f"{aws.project}-{service.title}" for service in SERVICES.values()]
        found = aws.answer(self, "ecs", "describe_services", cluster=self.cluster, services=names, include=["TAGS"])
        for row in found["services"]:
            if row["serviceName"] == self.service_name and row["status"] != "INACTIVE":
                return self._live(row)
        return None

    def _live(self, row: dict[str, Any]) -> Live:
        network = row["networkConfiguration"]["awsvpcConfiguration"]
        placement = [
            {"type": each["type"], "field": each.get("field", "")} for each in row.get("placementStrategy", ())
        ]
        same_placement = [_folded(each) for each in placement] == [_folded(each) for each in self.placement]
        revision, running = row["taskDefinition"], row["desiredCount"] > 0 or row["runningCount"] > 0
        behind = running and revision != self.task_definition
        live: Live = {
            "id": row["serviceArn"],
            "arn": row["serviceArn"],
            "cluster": row["clusterArn"].rpartition("/")[2],
            "service_name": row["serviceName"],
            "task_definition": self.task_definition if behind else revision,
            "capacity": row.get("capacityProviderStrategy", []),
            "placement": list(self.placement) if same_placement else placement,
            "subnets": in_order(network["subnets"], self.subnets),
            "security_groups": in_order(network.get("securityGroups", []), self.security_groups),
            "public_addresses": network.get("assignPublicIp", "DISABLED") == "ENABLED",
            "rollout": self._rollout(row),
            "execute_command": row.get("enableExecuteCommand", False),
            "zone_rebalancing": row.get("availabilityZoneRebalancing", "DISABLED"),
            "desired": row["desiredCount"],
            "pending": "draining" if row["status"] == "DRAINING" else "",
            "tags": {tag["key"]: tag["value"] for tag in row.get("tags", ())},
        }
        if behind:
            live["note"] = f"runs {revision.rpartition('/')[2]}; `tecs deploy` brings the newest"
        primary: dict[str, Any] = next((d for d in row.get("deployments", ()) if d["status"] == "PRIMARY"), {})
        live["service_connect"] = declared(primary.get("serviceConnectConfiguration", {}), self.service_connect or {})
        return live

    def _rollout(self, row: dict[str, Any]) -> str:
        percents = row["deploymentConfiguration"]
        low, high = percents["minimumHealthyPercent"], percents["maximumPercent"]
        fitting = {surge(row["desiredCount"] or self.count or 0)}
        return ONE_AT_A_TIME if low == 100 and high in fitting else f"{low} to {high} %"

    def create(self, aws: Aws, token: str) -> str:
        made = aws.ecs.create_service(
            cluster=self.cluster,
            serviceName=self.service_name,
            desiredCount=self.desired,
            schedulingStrategy="REPLICA",
            clientToken=token,
            tags=aws.tag_list(self, "key", "value"),
            **self._settings(self.count),
        )
        return str(made["service"]["serviceArn"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:
        parts = {
            "task_definition": "taskDefinition",
            "capacity": "capacityProviderStrategy",
            "placement": "placementStrategy",
            "subnets": "networkConfiguration",
            "security_groups": "networkConfiguration",
            "public_addresses": "networkConfiguration",
            "service_connect": "serviceConnectConfiguration",
            "rollout": "deploymentConfiguration",
            "execute_command": "enableExecuteCommand",
            "zone_rebalancing": "availabilityZoneRebalancing",
        }
        settings = self._settings(live["desired"] or self.count)
        wanted = {parts[field]: settings[parts[field]] for field in sorted(changed)}
        if "capacity" in changed:  # ECS refuses another strategy without a new deployment
            wanted["forceNewDeployment"] = True
        aws.ecs.update_service(cluster=self.cluster, service=self.service_name, **wanted)

    def delete(self, aws: Aws, live: Live) -> None:
        if not live.get("pending"):
            aws.ecs.delete_service(cluster=self.cluster, service=self.service_name, force=True)

    def _settings(self, count: int) -> dict[str, Any]:
        vpc = {
            "subnets": list(self.subnets),
            "securityGroups": list(self.security_groups),
            "assignPublicIp": "ENABLED" if self.public_addresses else "DISABLED",
        }
        settings: dict[str, Any] = {
            "taskDefinition": self.task_definition,
            "capacityProviderStrategy": list(self.capacity),
            "placementStrategy": list(self.placement),
            "networkConfiguration": {"awsvpcConfiguration": vpc},
            "deploymentConfiguration": {"minimumHealthyPercent": 100, "maximumPercent": surge(count)},
            "enableExecuteCommand": self.execute_command,
            "availabilityZoneRebalancing": self.zone_rebalancing,
        }
        if self.service_connect is not None:
            settings["serviceConnectConfiguration"] = self.service_connect
        return settings


def _folded(strategy: Mapping[str, str]) -> tuple[str, str]:
    return strategy["type"].lower(), strategy["field"].lower()  # ECS gives fields back in another case


def _endpoint(port_name: str, name: str, port: int, *, grpc: bool) -> dict[str, Any]:
    """An endpoint under its own name. A gRPC one is balanced by call; its 15 s cap on calls, which would cut
    Temporal's long polls of a minute, is taken off."""
    cap = {"timeout": {"perRequestTimeoutSeconds": 0}} if grpc else {}
    alias = {"port": port, "dnsName": name}
    return {"portName": port_name, "discoveryName": name, "clientAliases": [alias], **cap}


def _service_connect(service: Service) -> dict[str, Any] | None:
    """Temporal's services publish, UI and collector only consume, Grafana talks to AWS alone."""
    if service.name == "grafana":
        return None
    endpoints = []
    if service.temporal and service.grpc and service.name != "worker":  # nobody calls the worker
        endpoints.append(_endpoint("grpc", service.title, service.grpc, grpc=True))
    if service.temporal:
        endpoints.append(_endpoint("metrics", f"{service.title}-metrics", METRICS, grpc=False))
    published = {"services": endpoints} if endpoints else {}
    return {"enabled": True, "namespace": Ref("namespace", "arn"), **published}


ZONES = {"type": "spread", "field": "attribute:ecs.availability-zone"}
INSTANCES = {"type": "spread", "field": "instanceId"}


ENDPOINTS = ("ecr-api", "ecr-dkr", "logs", "ssm", "ssmmessages", "secretsmanager", "aps-workspaces", "s3")


def _order(service: Service) -> tuple[str, ...]:
    """What a service's tasks use until they have ended: rights, rules, ways out. And publishers come first: tasks
    resolve only endpoints that exist when their deployment is made."""
    publishers: tuple[str, ...] = ("frontend",) if service.temporal else tuple(each.name for each in TEMPORAL)
    if service.name in ("frontend", "grafana"):
        publishers = ()
    rules = (f"{service.title}-rules", "opensearch-rules") if service.temporal else (f"{service.title}-rules",)
    policies = (f"{service.role}-policy", "ecs-execution-policy")
    return (
        *(f"{SERVICES[name].title}-service" for name in publishers),
        *rules,
        *policies,
        *(f"{name}-endpoint" for name in ENDPOINTS),
        "vpc-endpoints-rules",
    )


def declare(config: Config) -> Iterator[Resource]:
    for service in SERVICES.values():
        yield EcsService(
            name=f"{service.title}-service",
            cluster=Ref("cluster"),
            service_name=f"{config.project}-{service.title}",
            task_definition=Ref(f"{service.title}-task"),
            capacity=({"capacityProvider": Ref("ec2-capacity"), "weight": 100, "base": 1},),
            placement=(ZONES, INSTANCES) if service.temporal else (ZONES,),
            subnets=tuple(Ref(f"private-{index}") for index in range(config.zone_count)),
            security_groups=(Ref(f"{service.title}-sg"),),
            service_connect=_service_connect(service),
            count=config.services[service.name].count,
            labels={"Service": "adot-collector" if service.name == "adot" else service.name},
            after=("cluster-capacity",),
            order=_order(service),
        )
