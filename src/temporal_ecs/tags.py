"""Tags in the dialects of AWS's services: one table, one row for each way to read and write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .aws import Aws
    from .resource import Live

Tags = dict[str, str]


def upper(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Key and Value, as most services want tags."""
    return [{"Key": k, "Value": v} for k, v in tags.items()]


def lower(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """key and value, as ECS wants tags."""
    return [{"key": k, "value": v} for k, v in tags.items()]


def parse(rows: Iterable[Mapping[str, Any]] | Mapping[str, str] | None) -> Tags:
    """Tags as a dict, from whichever shape a service answers in."""
    if isinstance(rows, Mapping):
        return dict(rows)
    return {row.get("Key", row.get("key", "")): row.get("Value", row.get("value", "")) for row in rows or ()}


class Dialect(NamedTuple):
    read: Callable[[Aws, Live], Any]
    write: Callable[[Aws, Live, Tags], Any]


DIALECTS: Mapping[str, Dialect] = {
    "ec2": Dialect(
        lambda aws, live: aws.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [live["id"]]}])["Tags"],
        lambda aws, live, tags: aws.ec2.create_tags(Resources=live.get("tagged", [live["id"]]), Tags=upper(tags)),
    ),
    "iam-role": Dialect(
        lambda aws, live: aws.iam.list_role_tags(RoleName=live["id"])["Tags"],
        lambda aws, live, tags: aws.iam.tag_role(RoleName=live["id"], Tags=upper(tags)),
    ),
    "iam-profile": Dialect(
        lambda aws, live: aws.iam.list_instance_profile_tags(InstanceProfileName=live["id"])["Tags"],
        lambda aws, live, tags: aws.iam.tag_instance_profile(InstanceProfileName=live["id"], Tags=upper(tags)),
    ),
    "logs": Dialect(
        lambda aws, live: aws.logs.list_tags_for_resource(resourceArn=live["arn"])["tags"],
        lambda aws, live, tags: aws.logs.tag_resource(resourceArn=live["arn"], tags=tags),
    ),
    "ecs": Dialect(
        lambda aws, live: aws.ecs.list_tags_for_resource(resourceArn=live["arn"])["tags"],
        lambda aws, live, tags: aws.ecs.tag_resource(resourceArn=live["arn"], tags=lower(tags)),
    ),
    "autoscaling": Dialect(
        lambda aws, live: aws.autoscaling.describe_tags(
            Filters=[{"Name": "auto-scaling-group", "Values": [live["id"]]}]
        )["Tags"],
        lambda aws, live, tags: aws.autoscaling.create_or_update_tags(
            Tags=[
                row | {"ResourceId": live["id"], "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
                for row in upper(tags)
            ]
        ),
    ),
    "opensearch": Dialect(
        lambda aws, live: aws.opensearch.list_tags(ARN=live["arn"])["TagList"],
        lambda aws, live, tags: aws.opensearch.add_tags(ARN=live["arn"], TagList=upper(tags)),
    ),
    "amp": Dialect(
        lambda aws, live: aws.amp.list_tags_for_resource(resourceArn=live["arn"])["tags"],
        lambda aws, live, tags: aws.amp.tag_resource(resourceArn=live["arn"], tags=tags),
    ),
    "ssm": Dialect(
        lambda aws, live: aws.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=live["id"])["TagList"],
        lambda aws, live, tags: aws.ssm.add_tags_to_resource(
            ResourceType="Parameter", ResourceId=live["id"], Tags=upper(tags)
        ),
    ),
    "secretsmanager": Dialect(
        lambda aws, live: aws.secretsmanager.describe_secret(SecretId=live["id"]).get("Tags"),
        lambda aws, live, tags: aws.secretsmanager.tag_resource(SecretId=live["id"], Tags=upper(tags)),
    ),
    "ecr": Dialect(
        lambda aws, live: aws.ecr.list_tags_for_resource(resourceArn=live["arn"])["tags"],
        lambda aws, live, tags: aws.ecr.tag_resource(resourceArn=live["arn"], tags=upper(tags)),
    ),
    "dsql": Dialect(
        lambda aws, live: aws.dsql.list_tags_for_resource(resourceArn=live["arn"])["tags"],
        lambda aws, live, tags: aws.dsql.tag_resource(resourceArn=live["arn"], tags=tags),
    ),
    "servicediscovery": Dialect(
        lambda aws, live: aws.servicediscovery.list_tags_for_resource(ResourceARN=live["arn"])["Tags"],
        lambda aws, live, tags: aws.servicediscovery.tag_resource(ResourceARN=live["arn"], Tags=upper(tags)),
    ),
}
