"""Auto Scaling groups of the hosts: the services' and the benchmark's, which starts from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource, in_order

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class AutoScalingGroup(Resource):
    """Its desired capacity belongs to ECS managed scaling from the moment it is made."""

    asg_name: str
    launch_template: str | Ref
    version: str | Ref
    subnets: tuple[str | Ref, ...]
    min: int
    max: int
    desired: int
    protected: bool  # new instances, from scale-in
    propagated: tuple[str, ...]  # keys of the tags that instances inherit
    health_check_grace: int = 300  # seconds; AWS's own default is none

    group = "compute"
    tagging = "autoscaling"
    absent = frozenset({"ValidationError: AutoScalingGroup name not found"})
    exists = frozenset({"AlreadyExists"})
    not_yet = frozenset(
        {
            "ValidationError: Invalid IAM Instance Profile",  # EC2 learns of a new profile up to 2 min late
            "ValidationError: instance profile",
            "ResourceInUse",
            "ScalingActivityInProgress",
            "ValidationError: is not part of Auto Scaling group",  # it left by itself since it was listed
        }
    )
    mutable = frozenset(
        {"launch_template", "version", "subnets", "min", "max", "protected", "propagated", "health_check_grace"}
    )
    initial = frozenset({"desired"})
    timeout = 900

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        rows = aws.rows(
            self,
            "autoscaling",
            "describe_auto_scaling_groups",
            "AutoScalingGroups",
            AutoScalingGroupNames=[self.asg_name],
        )
        for row in rows:
            template = row.get("LaunchTemplate", {})
            placed = row["VPCZoneIdentifier"].split(",")
            return {
                "id": self.asg_name,
                "asg_name": self.asg_name,
                "launch_template": template.get("LaunchTemplateId"),
                "version": template.get("Version"),
                "subnets": in_order(placed, self.subnets),
                "min": row["MinSize"],
                "max": row["MaxSize"],
                "desired": row["DesiredCapacity"],
                "protected": row["NewInstancesProtectedFromScaleIn"],
                "propagated": sorted(tag["Key"] for tag in row["Tags"] if tag["PropagateAtLaunch"]),
                "health_check_grace": row["HealthCheckGracePeriod"],
                "arn": row["AutoScalingGroupARN"],
                "pending": "being deleted" if row.get("Status") else "",
                "tags": {tag["Key"]: tag["Value"] for tag in row["Tags"]},
            }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.autoscaling.create_auto_scaling_group(
            DesiredCapacity=self.desired, Tags=self._tags(aws), **self._settings()
        )
        return self.asg_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        if "propagated" in changed:
            tags = [
                tag | {"ResourceId": self.asg_name, "ResourceType": "auto-scaling-group"} for tag in self._tags(aws)
            ]
            aws.autoscaling.create_or_update_tags(Tags=tags)
        if changed - {"propagated"}:
            aws.autoscaling.update_auto_scaling_group(**self._settings())

    def delete(self, aws: Aws, live: Live) -> None:
        """Protection outlives a plain delete, and a group that lives on keeps starting instances."""
        if live["pending"]:  # AWS refuses to change a group that is being deleted
            return
        aws.autoscaling.update_auto_scaling_group(
            AutoScalingGroupName=live["id"],
            MinSize=0,
            MaxSize=0,
            DesiredCapacity=0,
            NewInstancesProtectedFromScaleIn=False,
        )
        described = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[live["id"]])[
            "AutoScalingGroups"
        ]
        instances = [i for group in described for i in group["Instances"] if i["LifecycleState"] == "InService"]
        protected = [i["InstanceId"] for i in instances if i["ProtectedFromScaleIn"]]
        for start in range(0, len(protected), 50):  # the API's batch
            aws.autoscaling.set_instance_protection(
                AutoScalingGroupName=live["id"],
                InstanceIds=protected[start : start + 50],
                ProtectedFromScaleIn=False,
            )
        aws.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=live["id"], ForceDelete=True)

    def _settings(self) -> dict[str, Any]:
        return {
            "AutoScalingGroupName": self.asg_name,
            "LaunchTemplate": {"LaunchTemplateId": self.launch_template, "Version": self.version},
            "MinSize": self.min,
            "MaxSize": self.max,
            "VPCZoneIdentifier": ",".join(map(str, self.subnets)),
            "NewInstancesProtectedFromScaleIn": self.protected,
            "HealthCheckGracePeriod": self.health_check_grace,
        }

    def _tags(self, aws: Aws) -> list[dict[str, Any]]:
        return [tag | {"PropagateAtLaunch": tag["Key"] in self.propagated} for tag in aws.tag_list(self)]


def declare(config: Config) -> Iterator[Resource]:
    for title, low, high, desired, labels in (
        ("ecs", 1, config.instances.count + 2, config.instances.count, {}),
        ("benchmark", 0, config.benchmark.max_instances, 0, {"Workload": "benchmark"}),
    ):
        # ECS adds AmazonECSManaged itself, too late for the first instances.
        inherited = {"Name": f"{config.project}-{title}", "AmazonECSManaged": "true", **labels}
        yield AutoScalingGroup(
            name=f"{title}-asg",
            asg_name=f"{config.project}-{title}-asg",
            launch_template=Ref(f"{title}-launch-template"),
            version=Ref(f"{title}-launch-template", "version"),
            subnets=tuple(Ref(f"private-{index}") for index in range(config.zone_count)),
            min=low,
            max=high,
            desired=desired,
            protected=title == "ecs",
            propagated=tuple(sorted(inherited)),
            labels=inherited,
            # Hosts need their way to ECS for as long as they live: without it services stay DRAINING.
            order=(
                "private-default",
                *(f"private-{index}-routing" for index in range(config.zone_count)),
                "ecs-instances-rules",
                "ecs-instance-policy",
            ),
        )
