"""The availability zones of the private subnets, chosen once and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.errors import TecsError
from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class AvailabilityZones(Resource):
    """A choice, not a thing: its id is the zones' names. Declared where tecs.toml names no zones."""

    count: int

    group = "network"
    listing = "subnets"
    tagging = None
    permanent = True

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        """The zones chosen before; with the state lost, those that our subnets stand in."""
        if id is None:
            filters = [{"Name": "tag:tecs:project", "Values": [aws.project]}]
            rows = aws.rows(self, "ec2", "describe_subnets", "Subnets", Filters=filters)
            placed = {
                tag["Value"]: row["AvailabilityZone"]
                for row in rows
                for tag in row["Tags"]
                if tag["Key"] == "tecs:name"
            }
            names = [placed.get(f"private-{index}", "") for index in range(self.count)]
        else:
            names = id.split(",")
        if not all(names) or len(names) != self.count:
            return None
        return {"id": ",".join(names), "count": len(names)} | {f"zone-{i}": name for i, name in enumerate(names)}

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        filters = [
            {"Name": "state", "Values": ["available"]},
            {"Name": "zone-type", "Values": ["availability-zone"]},
        ]
        rows = aws.ec2.describe_availability_zones(Filters=filters)["AvailabilityZones"]
        names = sorted(row["ZoneName"] for row in rows)[: self.count]
        if len(names) < self.count:
            raise TecsError(
                f"region {aws.region} offers {len(names)} available zones, {self.count} are needed",
                "Name them in tecs.toml under network.availability_zones, or choose another region.",
            )
        return ",".join(names)


def declare(config: Config) -> Iterator[Resource]:
    if not config.network.availability_zones:
        yield AvailabilityZones(name="zones", count=config.zone_count)
