"""Launching and terminating a group's instances."""

from __future__ import annotations

from collections import Counter
from typing import Any

from moto.ec2.models.instances import InstanceState

from temporal_ecs.sandbox.aws import iam
from temporal_ecs.sandbox.aws.autoscaling.state import Group, Scaling, find
from temporal_ecs.sandbox.aws.ec2 import templates
from temporal_ecs.sandbox.aws.ecs import instances as hosts
from temporal_ecs.sandbox.aws.ecs import scheduler
from temporal_ecs.sandbox.world import Fault, Request, moment, operation, page, tag_dict, uuid


def reconcile(request: Request, group: Group) -> None:
    """Notice what was terminated behind the group's back, then launch or terminate up to what is desired."""
    ec2 = request.backend("ec2")
    group.instances[:] = [
        one
        for one in group.instances
        if (instance := ec2.get_instance_by_id(one["InstanceId"])) and instance.state != "terminated"
    ]
    missing = group.data["DesiredCapacity"] - len(group.staying())
    for _ in range(missing):
        _launch(request, group)
    for _ in range(-missing):
        zones = Counter(one["AvailabilityZone"] for one in group.staying())
        free = [one for one in group.staying() if not one["ProtectedFromScaleIn"]]
        if not free:
            break  # protection wins over the desired capacity
        victim = max(free, key=lambda one: zones[one["AvailabilityZone"]])
        terminate(request, group, victim, "a difference between desired and actual capacity")


def terminate(request: Request, group: Group, one: dict[str, Any], why: str) -> None:
    """Terminating until the instance is gone, with its interfaces."""
    ec2, identifier = request.backend("ec2"), one["InstanceId"]
    instance = ec2.get_instance_by_id(identifier)
    one["LifecycleState"], one["ProtectedFromScaleIn"] = "Terminating", False
    instance._state = InstanceState("shutting-down", 32)
    _record(group, f"Terminating EC2 instance: {identifier}", why)

    def finish() -> None:
        instance.terminate()
        for cluster, host in hosts.leave(request, identifier):
            scheduler.lost(request, cluster, host)
        for interface in [i for i, eni in ec2.enis.items() if eni.instance is instance]:
            del ec2.enis[interface]
        group.instances[:] = [other for other in group.instances if other["InstanceId"] != identifier]

    request.after("instance terminate", finish)


def _launch(request: Request, group: Group) -> None:
    ec2, wanted = request.backend("ec2"), group.data["LaunchTemplate"]
    template = templates.find(request, wanted)
    version = templates.version_of(template, wanted["Version"])
    here = Counter(one["AvailabilityZone"] for one in group.staying())
    subnet = min((ec2.get_subnet(s) for s in group.subnets), key=lambda s: here[s.availability_zone])
    instance = _instance(request, version.data, subnet)
    ec2.tags[instance.id].update({
        **{tag["Key"]: tag["Value"] for tag in group.tags.values() if tag["PropagateAtLaunch"]},
        "aws:autoscaling:groupName": group.name,
        "aws:ec2launchtemplate:id": template.id,
        "aws:ec2launchtemplate:version": str(version.number),
    })  # fmt: skip
    one = {
        "InstanceId": instance.id,
        "InstanceType": instance.instance_type,
        "AvailabilityZone": subnet.availability_zone,
        "LifecycleState": "Pending",
        "HealthStatus": "Healthy",
        "ProtectedFromScaleIn": group.data["NewInstancesProtectedFromScaleIn"],
        "LaunchTemplate": {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Version": str(version.number),
        },
    }
    group.instances.append(one)
    _record(
        group,
        f"Launching a new EC2 instance: {instance.id}",
        "a difference between desired and actual capacity",
    )

    def arrive() -> None:
        if one["LifecycleState"] == "Pending" and instance.state == "pending":
            one["LifecycleState"] = "InService"
            instance._state = InstanceState("running", 16)
            request.after("agent registration", register)

    def register() -> None:
        cluster = hosts.register(request, instance, version.data.get("UserData"), group.data["AutoScalingGroupARN"])
        if cluster:
            scheduler.schedule(request, cluster)

    request.after("instance launch", arrive)


def _instance(request: Request, data: dict[str, Any], subnet: Any) -> Any:
    """An instance of moto's, with everything that the launch template says."""
    ec2 = request.backend("ec2")
    interface: dict[str, Any] = next(iter(data.get("NetworkInterfaces", ())), {})
    groups = interface.get("Groups") or data.get("SecurityGroupIds") or []
    tags = {
        spec["ResourceType"]: tag_dict(spec.get("Tags"))
        for spec in data.get("TagSpecifications", ())
    }  # fmt: skip
    reservation = ec2.run_instances(
        data["ImageId"],
        1,
        data.get("UserData"),
        [],
        instance_type=data["InstanceType"],
        is_instance_type_default=False,
        region_name=request.region,
        subnet_id=subnet.id,
        nics=[{
            "DeviceIndex": 0, "SubnetId": subnet.id, "Groups": groups, "DeleteOnTermination": True,
            "AssociatePublicIpAddress": bool(interface.get("AssociatePublicIpAddress")),
        }],
        monitoring_state="enabled" if data.get("Monitoring", {}).get("Enabled") else "disabled",
        metadata_options={
            "HttpTokens": "optional", "HttpEndpoint": "enabled", **data.get("MetadataOptions", {}),
        },
        block_device_mappings=data.get("BlockDeviceMappings", []),
        tags=tags,
    )  # fmt: skip
    instance = reservation.instances[0]
    instance._state = InstanceState("pending", 0)
    instance.security_groups = [ec2.get_security_group_from_id(one) for one in groups]
    if reference := data.get("IamInstanceProfile"):
        profile = iam.find_profile(request, reference)
        if profile:
            ec2.associate_iam_instance_profile(instance.id, iam_instance_profile_name=profile.name)
    return instance


@operation("autoscaling", "SetDesiredCapacity")
def set_desired_capacity(request: Request) -> dict[str, Any]:
    """Within the bounds."""
    group, wanted = find(request, request.params["AutoScalingGroupName"]), request.params["DesiredCapacity"]
    low, high = group.data["MinSize"], group.data["MaxSize"]
    if not low <= wanted <= high:
        which, bound = ("above max", high) if wanted > high else ("below min", low)
        raise Fault(
            "ValidationError",
            f"New SetDesiredCapacity value {wanted} is {which} value {bound} for the AutoScalingGroup.",
        )
    group.data["DesiredCapacity"] = wanted
    reconcile(request, group)
    return {}


@operation("autoscaling", "SetInstanceProtection")
def set_instance_protection(request: Request) -> dict[str, Any]:
    """At most fifty instances, all of the group."""
    group, params = find(request, request.params["AutoScalingGroupName"]), request.params
    mine = {one["InstanceId"]: one for one in group.staying()}
    for identifier in params["InstanceIds"]:
        if identifier not in mine:
            raise Fault(
                "ValidationError",
                f"The instance {identifier} is not part of Auto Scaling group {group.name}.",
            )
    for identifier in params["InstanceIds"]:
        mine[identifier]["ProtectedFromScaleIn"] = params["ProtectedFromScaleIn"]
    reconcile(request, group)
    return {}


@operation("autoscaling", "DescribeAutoScalingInstances")
def describe_auto_scaling_instances(request: Request) -> dict[str, Any]:
    """Of all groups."""
    wanted = request.params.get("InstanceIds")
    rows = [
        {**one, "AutoScalingGroupName": group.name}
        for group in request.state(Scaling).groups.values()
        for one in group.instances
        if not wanted or one["InstanceId"] in wanted
    ]
    for row in rows:
        row["HealthStatus"] = row["HealthStatus"].upper()
    shown, token = page(rows, request.params, "MaxRecords", "NextToken", 50)
    return {"AutoScalingInstances": shown, "NextToken": token}


@operation("autoscaling", "TerminateInstanceInAutoScalingGroup")
def terminate_instance(request: Request) -> dict[str, Any]:
    """With a new one in its place, unless the desired capacity goes down with it."""
    identifier = request.params["InstanceId"]
    for group in request.state(Scaling).groups.values():
        for one in group.staying():
            if one["InstanceId"] == identifier:
                terminate(request, group, one, "a user request")
                if request.params["ShouldDecrementDesiredCapacity"]:
                    group.data["DesiredCapacity"] -= 1
                reconcile(request, group)
                return {"Activity": group.activities[0]}
    raise Fault("ValidationError", f"Instance Id not found - No managed instance found for instance ID {identifier}")


@operation("autoscaling", "DescribeScalingActivities")
def describe_scaling_activities(request: Request) -> dict[str, Any]:
    """Newest first."""
    group = find(request, request.params["AutoScalingGroupName"])
    shown, token = page(group.activities, request.params, "MaxRecords", "NextToken", 100)
    return {"Activities": shown, "NextToken": token}


def _record(group: Group, what: str, why: str) -> None:
    group.activities.insert(0, {
        "ActivityId": uuid(), "AutoScalingGroupName": group.name, "Description": what,
        "Cause": f"At {moment():%Y-%m-%dT%H:%M:%SZ} in response to {why}.",
        "StartTime": moment(), "EndTime": moment(), "StatusCode": "Successful", "Progress": 100,
    })  # fmt: skip
