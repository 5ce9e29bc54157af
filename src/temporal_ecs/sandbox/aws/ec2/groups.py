"""Security groups; their rules are in `rules`."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.aws.ec2.common import ec2, forget_tags, interfaces, tags_of
from temporal_ecs.sandbox.aws.ec2.rules import permissions
from temporal_ecs.sandbox.world import Fault, Request, operation, page


@operation("ec2", "CreateSecurityGroup")
def create_security_group(request: Request) -> dict[str, Any]:
    """The tags are in the answer. A name is unique in its VPC."""
    backend, params = ec2(request), request.params
    if vpc := params.get("VpcId"):
        backend.get_vpc(vpc)
        if any(group.name == params["GroupName"] for group in backend.groups[vpc].values()):
            raise Fault(
                "InvalidGroup.Duplicate",
                f"The security group '{params['GroupName']}' already exists for VPC '{vpc}'",
            )
    answer: dict[str, Any] = request.moto()
    return {**answer, "Tags": tags_of(request, answer["GroupId"])}


@operation("ec2", "DescribeSecurityGroups")
def describe_security_groups(request: Request) -> dict[str, Any]:
    """With the rules as permissions."""
    groups = request.moto()["SecurityGroups"]
    shown, token = page(groups, request.params, "MaxResults", "NextToken", 1000)
    rows = [
        {
            "GroupId": group.id,
            "GroupName": group.name,
            "Description": group.description,
            "VpcId": group.vpc_id,
            "OwnerId": request.account,
            "SecurityGroupArn": request.arn("ec2", f"security-group/{group.id}"),
            "Tags": tags_of(request, group.id),
            "IpPermissions": permissions(request, group.ingress_rules),
            "IpPermissionsEgress": permissions(request, group.egress_rules),
        }
        for group in shown
    ]
    return {"SecurityGroups": rows, "NextToken": token}


@operation("ec2", "DeleteSecurityGroup")
def delete_security_group(request: Request) -> dict[str, Any]:
    """Refused while an interface, an endpoint or a rule of another group names it."""
    backend, identifier = ec2(request), request.params["GroupId"]
    group = backend.get_security_group_from_id(identifier)
    if group is None:
        raise Fault("InvalidGroup.NotFound", f"The security group '{identifier}' does not exist")
    if group.is_default:
        raise Fault(
            "CannotDelete",
            f'the specified group: "{identifier}" name: "default" cannot be deleted by a user',
        )
    others = [one for vpc in backend.groups.values() for one in vpc.values() if one.id != identifier]
    named = any(
        rule.source_group.get("GroupId") == identifier
        for other in others
        for rule in [*other.ingress_rules, *other.egress_rules]
    )
    used = any(identifier in [one.id for one in i.group_set] for i in interfaces(request))
    if named or used:
        raise Fault("DependencyViolation", f"resource {identifier} has a dependent object")
    backend.delete_security_group(group_id=identifier)
    for rule in [*group.ingress_rules, *group.egress_rules]:
        forget_tags(request, rule.id)
    forget_tags(request, identifier)
    return {"Return": True, "GroupId": identifier}
