"""Capacity providers: ECS managed scaling over the two Auto Scaling groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


TRANSITION = {
    "PROVISIONING": "being created",
    "DEPROVISIONING": "being deleted",
    "DELETE_IN_PROGRESS": "being deleted",
}


@dataclass(frozen=True, kw_only=True)
class CapacityProvider(Resource):
    provider_name: str
    asg: str | Ref  # ARN; a group has one provider for life
    target: int  # percent
    min_step: int
    max_step: int
    termination_protection: str
    scaling: str = "ENABLED"

    group = "compute"
    tagging = "ecs"
    absent = frozenset({"ClientException: does not exist"})
    exists = frozenset({"ClientException: already exists"})
    not_yet = frozenset({"UpdateInProgressException", "ResourceInUseException"})
    mutable = frozenset({"target", "min_step", "max_step", "termination_protection", "scaling"})
    timeout = 1200

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        """ECS goes on describing deleted ones as INACTIVE."""
        found = aws.answer(
            self,
            "ecs",
            "describe_capacity_providers",
            capacityProviders=[self.provider_name],
            include=["TAGS"],
        )
        for row in found["capacityProviders"]:
            if row["status"] != "INACTIVE":
                asg = row["autoScalingGroupProvider"]
                scaling = asg["managedScaling"]
                return {
                    "id": self.provider_name,
                    "provider_name": row["name"],
                    "asg": asg["autoScalingGroupArn"],
                    "scaling": scaling["status"],
                    "target": scaling["targetCapacity"],
                    "min_step": scaling["minimumScalingStepSize"],
                    "max_step": scaling["maximumScalingStepSize"],
                    "termination_protection": asg["managedTerminationProtection"],
                    "arn": row["capacityProviderArn"],
                    "pending": TRANSITION.get(row["status"], TRANSITION.get(row.get("updateStatus", ""), "")),
                    "tags": {tag["key"]: tag["value"] for tag in row.get("tags", ())},
                }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.ecs.create_capacity_provider(
            name=self.provider_name,
            autoScalingGroupProvider={"autoScalingGroupArn": self.asg, **self._scaling()},
            tags=aws.tag_list(self, "key", "value"),
        )
        return self.provider_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.ecs.update_capacity_provider(name=live["id"], autoScalingGroupProvider=self._scaling())

    def delete(self, aws: Aws, live: Live) -> None:
        """A refusal stands in the body of a successful answer."""
        row = aws.ecs.delete_capacity_provider(capacityProvider=live["id"])["capacityProvider"]
        if row.get("updateStatus") == "DELETE_FAILED":
            reason = row.get("updateStatusReason", "still in use")
            aws.refuse("DeleteCapacityProvider", {"Code": "ResourceInUseException", "Message": reason})

    def _scaling(self) -> dict[str, Any]:
        scaling = {
            "status": self.scaling,
            "targetCapacity": self.target,
            "minimumScalingStepSize": self.min_step,
            "maximumScalingStepSize": self.max_step,
        }
        return {"managedScaling": scaling, "managedTerminationProtection": self.termination_protection}


def declare(config: Config) -> Iterator[Resource]:
    for title, asg, step, protection in (
        ("ec2", "ecs-asg", 2, "ENABLED"),
        ("benchmark", "benchmark-asg", config.benchmark.max_instances, "DISABLED"),
    ):
        yield CapacityProvider(
            name=f"{title}-capacity",
            provider_name=f"{config.project}-{title}",
            asg=Ref(asg, "arn"),
            target=100,
            min_step=1,
            max_step=step,
            termination_protection=protection,
            labels={"Workload": "benchmark"} if title == "benchmark" else None,
        )
