"""Launch templates of the hosts: the services' and the benchmark's."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource, plain

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
    volume_gib: int
    cluster: str | Ref  # name
    agent: Mapping[str, str]  # lines of /etc/ecs/ecs.config beside the cluster's
    instance_tags: Mapping[str, str]

    group = "cluster"
    listing = "launch-templates"
    absent = frozenset({"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException"})
    exists = frozenset({"InvalidLaunchTemplateName.AlreadyExistsException"})
    renewed = frozenset(
        {
            "image",
            "instance_type",
            "instance_profile",
            "security_groups",
            "volume_gib",
            "cluster",
            "agent",
            "instance_tags",
        }
    )

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.ec2_row(self, id, "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId")
        if row is None:
            return None
        latest = aws.latest_template(self, row["LaunchTemplateId"])
        data = latest["LaunchTemplateData"]
        wanted = self._data()
        live: Live = {
            "id": row["LaunchTemplateId"],
            "template_name": row["LaunchTemplateName"],
            "image": data.get("ImageId"),
            "instance_type": data.get("InstanceType"),
            "instance_profile": data.get("IamInstanceProfile", {}).get("Arn"),
            "instance_tags": {t["Key"]: t["Value"] for s in data.get("TagSpecifications", ()) for t in s["Tags"]},
            "version": str(latest["VersionNumber"]),
            "tags": row["tags"],
        }
        # What is a list or a text in AWS is compared as such, and reported under the field that makes it.
        for field, part in (
            ("security_groups", "NetworkInterfaces"),
            ("volume_gib", "BlockDeviceMappings"),
            ("cluster", "UserData"),
            ("agent", "MetadataOptions"),
        ):
            same = _within(wanted[part], data.get(part))
            live[field] = plain(getattr(self, field)) if same else plain(data.get(part))
        return live

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
        agent = {"ECS_CLUSTER": self.cluster, **self.agent}
        script = "#!/bin/bash\ncat >> /etc/ecs/ecs.config <<'END'\n" + "".join(f"{k}={v}\n" for k, v in agent.items())
        disk = {
            "VolumeType": "gp3",
            "VolumeSize": self.volume_gib,
            "Encrypted": True,
            "DeleteOnTermination": True,
        }
        interface = {
            "DeviceIndex": 0,
            "AssociatePublicIpAddress": False,
            "DeleteOnTermination": True,
            "Groups": list(self.security_groups),
        }
        tags = [{"Key": k, "Value": v} for k, v in self.instance_tags.items()]
        return {
            "ImageId": self.image,
            "InstanceType": self.instance_type,
            "IamInstanceProfile": {"Arn": self.instance_profile},
            "NetworkInterfaces": [interface],
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": disk}],
            "Monitoring": {"Enabled": True},
            # Sessions only, one hop: no container reaches the hosts' role through the metadata address.
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "UserData": base64.b64encode(f"{script}END\n".encode()).decode(),
            "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
        }


def _within(wanted: Any, found: Any) -> bool:
    """Whether `found` says all that `wanted` says; AWS adds defaults of its own."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_within(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(_within(one, other) for one, other in zip(wanted, found, strict=True))
        )
    return bool(wanted == found)


AGENT = {
    "ECS_ENABLE_CONTAINER_METADATA": "true",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
    "ECS_AWSVPC_BLOCK_IMDS": "true",
}


def declare(config: Config) -> Iterator[Resource]:
    for title, groups, volume, agent, tags in (
        ("ecs", ("ecs-instances",), 50, AGENT, {}),
        (
            "benchmark",
            ("ecs-instances", "benchmark"),
            30,
            AGENT | {"ECS_INSTANCE_ATTRIBUTES": '{"workload": "benchmark"}'},
            {"Workload": "benchmark"},
        ),
    ):
        yield LaunchTemplate(
            name=f"{title}-launch-template",
            template_name=f"{config.project}-{title}",
            image=config.instances.ami or Ref("machine-image"),
            instance_type=config.instances.type,
            instance_profile=Ref("ecs-instance-profile", "arn"),
            security_groups=tuple(Ref(f"{group}-sg") for group in groups),
            volume_gib=volume,
            cluster=Ref("cluster"),
            agent=agent,
            instance_tags={"Name": f"{config.project}-{title}", **tags},
        )
