"""Launch templates of the hosts: the services' and the benchmark's."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource, declared

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class LaunchTemplate(Resource):
    """Every change is a new version; the group pins the version's number, so nothing follows $Latest."""

    template_name: str
    image: str | Ref
    instance_type: str
    instance_profile: str | Ref  # ARN
    security_groups: tuple[str | Ref, ...]
    disk: Mapping[str, Any]  # of the root volume
    cluster: str | Ref  # name
    agent: Mapping[str, str]  # lines of /etc/ecs/ecs.config beside the cluster's
    metadata: Mapping[str, Any]  # options of the instance metadata service
    instance_tags: Mapping[str, str]
    public_address: bool = False
    monitoring: bool = True

    group = "compute"
    listing = "launch-templates"
    absent = frozenset({"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException"})
    exists = frozenset({"InvalidLaunchTemplateName.AlreadyExistsException"})
    renewed = frozenset(
        {
            "image",
            "instance_type",
            "instance_profile",
            "security_groups",
            "disk",
            "cluster",
            "agent",
            "metadata",
            "instance_tags",
            "public_address",
            "monitoring",
        }
    )

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        name = {"launch_template_name": self.template_name}
        row = aws.ec2_row(self, id, "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId", **name)
        if row is None:
            return None
        latest = aws.latest_template(self, row["LaunchTemplateId"])
        data = latest["LaunchTemplateData"]
        interface: dict[str, Any] = next(iter(data.get("NetworkInterfaces", ())), {})
        disk: dict[str, Any] = next(iter(data.get("BlockDeviceMappings", ())), {})
        return {
            "id": row["LaunchTemplateId"],
            "template_name": row["LaunchTemplateName"],
            "image": data.get("ImageId"),
            "instance_type": data.get("InstanceType"),
            "instance_profile": data.get("IamInstanceProfile", {}).get("Arn"),
            "security_groups": interface.get("Groups", []),
            "public_address": interface.get("AssociatePublicIpAddress"),
            "disk": declared(disk.get("Ebs", {}), self.disk),
            "metadata": declared(data.get("MetadataOptions", {}), self.metadata),
            "monitoring": data.get("Monitoring", {}).get("Enabled", False),
            "instance_tags": {t["Key"]: t["Value"] for s in data.get("TagSpecifications", ()) for t in s["Tags"]},
            "version": str(latest["VersionNumber"]),
            "tags": row["tags"],
            **_agent(base64.b64decode(data.get("UserData", "")).decode()),
        }

    def create(self, aws: Aws, token: str) -> str:
        made = aws.ec2.create_launch_template(
            LaunchTemplateName=self.template_name,
            LaunchTemplateData=self._data(),
            ClientToken=token,
            TagSpecifications=aws.tag_specifications(self, "launch-template"),
        )
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        made = aws.ec2.create_launch_template_version(LaunchTemplateId=live["id"], LaunchTemplateData=self._data())
        number = str(made["LaunchTemplateVersion"]["VersionNumber"])
        aws.ec2.modify_launch_template(LaunchTemplateId=live["id"], DefaultVersion=number)

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ec2.delete_launch_template(LaunchTemplateId=live["id"])

    def _data(self) -> dict[str, Any]:
        interface = {
            "DeviceIndex": 0,
            "AssociatePublicIpAddress": self.public_address,
            "DeleteOnTermination": True,
            "Groups": list(self.security_groups),
        }
        tags = [{"Key": k, "Value": v} for k, v in self.instance_tags.items()]
        return {
            "ImageId": self.image,
            "InstanceType": self.instance_type,
            "IamInstanceProfile": {"Arn": self.instance_profile},
            "NetworkInterfaces": [interface],
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": dict(self.disk)}],
            "Monitoring": {"Enabled": self.monitoring},
            "MetadataOptions": dict(self.metadata),
            "UserData": base64.b64encode(_script(self.cluster, self.agent).encode()).decode(),
            "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
        }


def _script(cluster: str | Ref, agent: Mapping[str, str]) -> str:
    lines = {"ECS_CLUSTER": cluster, **agent}
    return (
        "#!/bin/bash\ncat >> /etc/ecs/ecs.config <<'END'\n" + "".join(f"{k}={v}\n" for k, v in lines.items()) + "END\n"
    )


def _agent(script: str) -> dict[str, Any]:
    """Cluster and agent as _script() writes them; a script of another make is all the agent's."""
    lines = dict(line.split("=", 1) for line in script.splitlines() if line.startswith("ECS_") and "=" in line)
    cluster = lines.pop("ECS_CLUSTER", "")
    return {"cluster": cluster, "agent": lines if _script(cluster, lines) == script else script}


AGENT = {
    "ECS_ENABLE_CONTAINER_METADATA": "true",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
    "ECS_AWSVPC_BLOCK_IMDS": "true",
}
METADATA = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
"""Sessions only, one hop: no container reaches the hosts' role through the metadata address."""


def declare(config: Config) -> Iterator[Resource]:
    workload = {"ECS_INSTANCE_ATTRIBUTES": '{"workload": "benchmark"}'}
    for title, gib, agent, tags in (
        ("ecs", 50, AGENT, {}),
        ("benchmark", 30, AGENT | workload, {"Workload": "benchmark"}),
    ):
        yield LaunchTemplate(
            name=f"{title}-launch-template",
            template_name=f"{config.project}-{title}",
            image=config.instances.ami or Ref("machine-image"),
            instance_type=config.instances.type,
            instance_profile=Ref("ecs-instance-profile", "arn"),
            security_groups=(Ref("ecs-instances-sg"),),
            disk={"VolumeType": "gp3", "VolumeSize": gib, "Encrypted": True, "DeleteOnTermination": True},
            cluster=Ref("cluster"),
            agent=agent,
            metadata=METADATA,
            instance_tags={"Name": f"{config.project}-{title}", **tags},
        )
