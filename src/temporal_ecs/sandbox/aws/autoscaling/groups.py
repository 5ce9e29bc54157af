"""Creating, changing, showing and deleting groups."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.aws import iam
from temporal_ecs.sandbox.aws.autoscaling import capacity
from temporal_ecs.sandbox.aws.autoscaling.state import Group, Scaling, find
from temporal_ecs.sandbox.aws.ec2 import templates
from temporal_ecs.sandbox.world import Fault, Request, moment, operation, page, uuid

_DEFAULTS: dict[str, Any] = {  # CreateAutoScalingGroup: what unset members mean, and how they are shown
    "DefaultCooldown": 300, "HealthCheckType": "EC2", "HealthCheckGracePeriod": 0, "LoadBalancerNames": [],
    "TargetGroupARNs": [], "TerminationPolicies": ["Default"], "NewInstancesProtectedFromScaleIn": False,
    "TrafficSources": [], "SuspendedProcesses": [], "EnabledMetrics": [], "DeletionProtection": "none",
    "AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "balanced-best-effort"},
    "CapacityReservationSpecification": {"CapacityReservationPreference": "default"},
}  # fmt: skip


@operation("autoscaling", "CreateAutoScalingGroup")
def create_auto_scaling_group(request: Request) -> dict[str, Any]:
    """Names are unique. What the launch template names must be there, or the group is refused."""
    groups, params = request.state(Scaling).groups, dict(request.params)
    name = params["AutoScalingGroupName"]
    if name in groups:
        raise Fault(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
        )
    tags = params.pop("Tags", [])
    role = request.arn("iam", "role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling", region="")
    group = Group({
        **_DEFAULTS, "ServiceLinkedRoleARN": role, "DesiredCapacity": params["MinSize"], **params,
        "AutoScalingGroupARN": request.arn(
            "autoscaling", f"autoScalingGroup:{uuid()}:autoScalingGroupName/{name}"
        ),
        "CreatedTime": moment(),
    })  # fmt: skip
    _check(request, group, params)
    groups[name] = group
    _tag(group, tags)
    capacity.reconcile(request, group)
    return {}


@operation("autoscaling", "UpdateAutoScalingGroup")
def update_auto_scaling_group(request: Request) -> dict[str, Any]:
    """Changes what is given; the desired capacity follows the new bounds."""
    group, params = find(request, request.params["AutoScalingGroupName"]), dict(request.params)
    low, high = params.get("MinSize", group.data["MinSize"]), params.get("MaxSize", group.data["MaxSize"])
    if "DesiredCapacity" in params and not low <= params["DesiredCapacity"] <= high:
        raise Fault(
            "ValidationError",
            f"Desired capacity:{params['DesiredCapacity']} must be between the specified min size:{low} "
            f"and max size:{high}",
        )
    if low > high:
        raise Fault("ValidationError", f"Max bound, {high}, must be greater than or equal to min bound, {low}")
    changed = Group({**group.data, **params}, group.instances)
    _check(request, changed, params)
    group.data.update(changed.data)
    group.data["DesiredCapacity"] = min(max(group.data["DesiredCapacity"], low), high)
    capacity.reconcile(request, group)
    return {}


@operation("autoscaling", "DescribeAutoScalingGroups")
def describe_auto_scaling_groups(request: Request) -> dict[str, Any]:
    """By name, and by tag."""
    groups, params = request.state(Scaling).groups, request.params
    names = params.get("AutoScalingGroupNames")
    rows = [group for name, group in groups.items() if not names or name in names]
    for rule in params.get("Filters", ()):
        rows = [group for group in rows if _passes(group, rule)]
    for group in rows:
        capacity.reconcile(request, group)
    shown, token = page(rows, params, "MaxRecords", "NextToken", 50)
    return {"AutoScalingGroups": [_shown(group) for group in shown], "NextToken": token}


@operation("autoscaling", "DeleteAutoScalingGroup")
def delete_auto_scaling_group(request: Request) -> dict[str, Any]:
    """Refused while it has instances, unless forced; then it goes with the last of them."""
    groups, group = request.state(Scaling).groups, find(request, request.params["AutoScalingGroupName"])
    if not request.params.get("ForceDelete"):
        if group.staying():
            raise Fault(
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance "
                "request(s) still in the group.",
            )
        if group.instances:
            raise Fault(
                "ScalingActivityInProgress",
                "You cannot delete an AutoScalingGroup while there are scaling activities in progress for that group.",
            )
    group.data |= {"Status": "Delete in progress", "MinSize": 0, "DesiredCapacity": 0}
    for one in group.staying():
        capacity.terminate(request, group, one, "the group is being deleted")

    def forget() -> None:
        groups.pop(group.name, None)

    if group.instances:
        request.after("instance terminate", forget)
    else:
        forget()
    return {}


@operation("autoscaling", "CreateOrUpdateTags")
def create_or_update_tags(request: Request) -> dict[str, Any]:
    """Of groups."""
    for tag in request.params["Tags"]:
        _tag(find(request, tag["ResourceId"]), [tag])
    return {}


@operation("autoscaling", "DeleteTags")
def delete_tags(request: Request) -> dict[str, Any]:
    """By key."""
    for tag in request.params["Tags"]:
        find(request, tag["ResourceId"]).tags.pop(tag["Key"], None)
    return {}


@operation("autoscaling", "DescribeTags")
def describe_tags(request: Request) -> dict[str, Any]:
    """Of every group; filtered by group, key and value."""
    rows = [tag for group in request.state(Scaling).groups.values() for tag in group.tags.values()]
    members = {"auto-scaling-group": "ResourceId", "key": "Key", "value": "Value"}
    for rule in request.params.get("Filters", ()):
        if rule["Name"] in members:
            rows = [tag for tag in rows if tag[members[rule["Name"]]] in rule["Values"]]
    shown, token = page(rows, request.params, "MaxRecords", "NextToken", 50)
    return {"Tags": shown, "NextToken": token}


def _tag(group: Group, tags: list[dict[str, Any]]) -> None:
    for tag in tags:
        group.tags[tag["Key"]] = {
            "ResourceId": group.name,
            "ResourceType": "auto-scaling-group",
            "Key": tag["Key"],
            "Value": tag.get("Value", ""),
            "PropagateAtLaunch": bool(tag.get("PropagateAtLaunch")),
        }


def _passes(group: Group, rule: dict[str, Any]) -> bool:
    name, values = rule["Name"], rule.get("Values", [])
    if name.startswith("tag:"):
        tag = group.tags.get(name[4:])
        return tag is not None and tag["Value"] in values
    if name == "tag-key":
        return any(key in values for key in group.tags)
    raise Fault("ValidationError", f"Filter type {name} is not correct.")


def _shown(group: Group) -> dict[str, Any]:
    return {**group.data, "Instances": group.instances, "Tags": list(group.tags.values())}


def _check(request: Request, group: Group, given: dict[str, Any]) -> None:
    """Complete what the group names, and refuse what isn't there."""
    if "VPCZoneIdentifier" in given:
        every = {s.id: s for zone in request.backend("ec2").subnets.values() for s in zone.values()}
        for subnet in group.subnets:
            if subnet not in every:
                raise Fault("ValidationError", f"The subnet ID '{subnet}' does not exist")
        zones = sorted({every[subnet].availability_zone for subnet in group.subnets})
        group.data["AvailabilityZones"] = zones
    if "LaunchTemplate" in given:
        group.data["LaunchTemplate"] = _template(request, given["LaunchTemplate"])


def _template(request: Request, wanted: dict[str, str]) -> dict[str, str]:
    try:
        template = templates.find(request, wanted)
        version = wanted.get("Version", "$Default")
        data = templates.version_of(template, version).data
    except Fault as fault:
        message = f"You must use a valid fully-formed launch template. {fault.message}"
        raise Fault("ValidationError", message) from None
    profile = data.get("IamInstanceProfile")
    if profile and not iam.find_profile(request, profile):
        member, value = next(iter(profile.items()))
        raise Fault(
            "ValidationError",
            f"You must use a valid fully-formed launch template. Value ({value}) for parameter "
            f"iamInstanceProfile.{member.lower()} is invalid. Invalid IAM Instance Profile {member.lower()}",
        )
    return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": version}
