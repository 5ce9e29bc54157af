"""The OpenSearch domain behind Temporal's visibility: the slowest thing to make, so nothing else waits for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import ENVIRONMENT, Live, Ref, Resource, declared, in_order

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class OpenSearchDomain(Resource):
    domain_name: str
    engine: str
    instance_type: str
    instance_count: int
    volume: Mapping[str, Any]  # EBSOptions
    subnets: tuple[str | Ref, ...]
    security_groups: tuple[str | Ref, ...]
    access: Mapping[str, Any]  # resource policy
    endpoint_options: Mapping[str, Any]
    advanced_options: Mapping[str, str]
    zone_awareness: bool = False
    dedicated_masters: bool = False
    encrypted_at_rest: bool = True
    encrypted_between_nodes: bool = True

    group = "visibility"
    tagging = "opensearch"
    absent = frozenset({"ResourceNotFoundException"})
    exists = frozenset({"ResourceAlreadyExistsException"})
    # Roles and the service-linked role reach OpenSearch late; the name of a deleted domain is freed late.
    not_yet = frozenset(
        {
            "InvalidTypeException: Error setting policy",
            "ValidationException: enable a service-linked role",
            "ValidationException: Domain is still being deleted",
            "ValidationException: must be allowed to use the passed role",
            "ValidationException: has not propagated yet",
            "ValidationException: Authentication error",
            "ValidationException: must be authorised to describe",
            "ConflictException",
        }
    )
    mutable = frozenset(
        {
            "instance_type",
            "instance_count",
            "dedicated_masters",
            "volume",
            "security_groups",
            "access",
            "endpoint_options",
            "advanced_options",
        }
    )
    timeout = 5400
    typical = (900, 2700)
    holds_data = "the visibility index"
    costs = "its instances and volumes by the hour"

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        row = aws.answer(self, "opensearch", "describe_domain", DomainName=self.domain_name)["DomainStatus"]
        cluster, place = row["ClusterConfig"], row.get("VPCOptions", {})
        endpoint = row.get("Endpoints", {}).get("vpc", "")
        pending = "" if endpoint and not row["Processing"] else row.get("DomainProcessingStatus", "Creating")
        return {
            "id": row["DomainName"],
            "domain_name": row["DomainName"],
            "engine": row["EngineVersion"],
            "instance_type": cluster["InstanceType"],
            "instance_count": cluster["InstanceCount"],
            "volume": declared(row["EBSOptions"], self.volume),
            "subnets": place.get("SubnetIds", []),
            "security_groups": place.get("SecurityGroupIds", []),
            "access": self._access(json.loads(row["AccessPolicies"] or "{}")),
            "zone_awareness": cluster.get("ZoneAwarenessEnabled", False),
            "dedicated_masters": cluster.get("DedicatedMasterEnabled", False),
            "endpoint_options": declared(row["DomainEndpointOptions"], self.endpoint_options),
            "advanced_options": declared(row["AdvancedOptions"], self.advanced_options),
            "encrypted_at_rest": row["EncryptionAtRestOptions"]["Enabled"],
            "encrypted_between_nodes": row["NodeToNodeEncryptionOptions"]["Enabled"],
            "arn": row["ARN"],
            "domain_id": row["DomainId"],
            "endpoint": endpoint,
            "pending": "being deleted" if row.get("Deleted") else pending.lower(),
        }

    def _access(self, found: Any) -> Any:
        """AWS keeps no order among the principals."""
        for one, wanted in zip(found.get("Statement", ()), self.access["Statement"], strict=False):
            principals = one.get("Principal", {})
            if isinstance(principals, dict) and isinstance(principals.get("AWS"), list):
                principals["AWS"] = in_order(principals["AWS"], wanted["Principal"]["AWS"])
        return found

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.opensearch.create_domain(
            EngineVersion=self.engine,
            EncryptionAtRestOptions={"Enabled": self.encrypted_at_rest},
            NodeToNodeEncryptionOptions={"Enabled": self.encrypted_between_nodes},
            TagList=aws.tag_list(self),
            **self._settings(),
        )
        return self.domain_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:
        parts = {
            "instance_type": "ClusterConfig",
            "instance_count": "ClusterConfig",
            "dedicated_masters": "ClusterConfig",
            "volume": "EBSOptions",
            "security_groups": "VPCOptions",
            "access": "AccessPolicies",
            "endpoint_options": "DomainEndpointOptions",
            "advanced_options": "AdvancedOptions",
        }
        settings = self._settings()
        wanted = {parts[field]: settings[parts[field]] for field in sorted(changed)}
        aws.opensearch.update_domain_config(DomainName=live["id"], **wanted)

    def delete(self, aws: Aws, live: Live) -> None:
        aws.opensearch.delete_domain(DomainName=live["id"])

    def _settings(self) -> dict[str, Any]:
        return {
            "DomainName": self.domain_name,
            "ClusterConfig": {
                "InstanceType": self.instance_type,
                "InstanceCount": self.instance_count,
                "ZoneAwarenessEnabled": self.zone_awareness,
                "DedicatedMasterEnabled": self.dedicated_masters,
            },
            "EBSOptions": dict(self.volume),
            "VPCOptions": {"SubnetIds": list(self.subnets), "SecurityGroupIds": list(self.security_groups)},
            "AccessPolicies": json.dumps(self.access),
            "DomainEndpointOptions": dict(self.endpoint_options),
            "AdvancedOptions": dict(self.advanced_options),
        }


def declare(config: Config) -> Iterator[Resource]:
    domain = f"{config.project}-visibility"
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [Ref(f"{role}-role", "arn") for role in ("temporal-task", "opensearch-setup-task")]},
        "Action": "es:ESHttp*",
        "Resource": Ref(ENVIRONMENT, "arn:es", f"{{}}:domain/{domain}/*"),
    }
    settings = config.opensearch
    yield OpenSearchDomain(
        name="opensearch",
        domain_name=domain,
        engine=settings.engine,
        instance_type=settings.instance_type,
        instance_count=settings.instance_count,
        volume={
            "EBSEnabled": True,
            "VolumeType": "gp3",
            "VolumeSize": settings.volume_gib,
            "Iops": 3000,
            "Throughput": 125,
        },
        subnets=(Ref("private-0"),),
        security_groups=(Ref("opensearch-sg"),),
        access={"Version": "2012-10-17", "Statement": [statement]},
        endpoint_options={"EnforceHTTPS": True, "TLSSecurityPolicy": "Policy-Min-TLS-1-2-2019-07"},
        advanced_options={"rest.action.multi.allow_explicit_index": "true"},
        labels={"Service": "opensearch"},
        after=("opensearch-service-role",),
    )
