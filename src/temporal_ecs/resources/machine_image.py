"""The ECS-optimised machine image of the hosts, chosen once and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

NEWEST = "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id"


@dataclass(frozen=True, kw_only=True)
class MachineImage(Resource):
    """A choice, not a thing: its id is the image's. AWS publishes a new one every few weeks; following it by
    itself would give every run a change, so a newer one is only noted."""

    group = "compute"
    listing = "launch-templates"
    tagging = None
    permanent = True

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        """The image chosen before; with the state lost, the one that our hosts start from."""
        image = id or self._of_our_template(aws)
        if image is None:
            return None
        newest = aws.answer(self, "ssm", "get_parameter", Name=NEWEST)["Parameter"]["Value"]
        newer = f"newer image {newest}: set instances.ami in tecs.toml to take it" if newest != image else ""
        return {"id": image, "note": newer}

    def _of_our_template(self, aws: Aws) -> str | None:
        filters = [{"Name": "tag:tecs:project", "Values": [aws.project]}]
        for row in aws.rows(self, "ec2", "describe_launch_templates", "LaunchTemplates", Filters=filters):
            latest = aws.latest_template(self, row["LaunchTemplateId"])
            return str(latest["LaunchTemplateData"]["ImageId"])
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        return str(aws.ssm.get_parameter(Name=NEWEST)["Parameter"]["Value"])


def declare(config: Config) -> Iterator[Resource]:
    if not config.instances.ami:
        yield MachineImage(name="machine-image")
