"""IAM: service-linked roles, AWS's managed policies, and the one listing that shows roles whole."""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from urllib.parse import quote

from temporal_ecs.sandbox.world import Fault, Request, operation, page

_LINKED_ROLES = {  # the IAM user guide, services that support service-linked roles
    "ecs.amazonaws.com": "AWSServiceRoleForECS",
    "opensearchservice.amazonaws.com": "AWSServiceRoleForAmazonOpenSearchService",
    "es.amazonaws.com": "AWSServiceRoleForAmazonElasticsearchService",
    "autoscaling.amazonaws.com": "AWSServiceRoleForAutoScaling",
    "ecs.application-autoscaling.amazonaws.com": "AWSServiceRoleForApplicationAutoScaling_ECSService",
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
}


class Fresh:
    """Instance profiles that IAM knows and EC2 doesn't yet."""

    def __init__(self) -> None:
        self.profiles: set[str] = set()


def linked_role(request: Request, service: str) -> Any:
    """A service's linked role, or None."""
    roles = request.backend("iam").roles.values()
    return next((role for role in roles if role.name == _LINKED_ROLES[service]), None)


def ensure_service_linked_role(request: Request, service: str) -> Any:
    """Make a service's linked role if there is none."""
    return linked_role(request, service) or _make_linked_role(request, service, "")


@operation("iam", "CreateServiceLinkedRole")
def create_service_linked_role(request: Request) -> dict[str, Any]:
    """One to a service. A second one is refused as InvalidInput, not as EntityAlreadyExists."""
    service = request.params["AWSServiceName"]
    if service not in _LINKED_ROLES:
        raise Fault("InvalidInput", f"Service-linked roles aren't known for {service}")
    if linked_role(request, service):
        raise Fault(
            "InvalidInput",
            f"Service role name {_LINKED_ROLES[service]} has been taken in this account, "
            "please try a different suffix.",
        )
    return {"Role": _make_linked_role(request, service, request.params.get("Description", ""))}


def _make_linked_role(request: Request, service: str, description: str) -> Any:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"},
        ],
    }
    return request.backend("iam").create_role(
        _LINKED_ROLES[service],
        json.dumps(trust),
        f"/aws-service-role/{service}/",
        permissions_boundary=None,
        description=description,
        tags=[],
        max_session_duration="3600",
        linked_service=service,
    )


@operation("iam", "DeleteRole")
def delete_role(request: Request) -> Any:
    """A linked role is deleted by DeleteServiceLinkedRole only."""
    if request.params["RoleName"] in _LINKED_ROLES.values():
        raise Fault("UnmodifiableEntity", "Cannot perform the operation on the protected role")
    return request.moto()


@operation("iam", "CreateRole", "UpdateAssumeRolePolicy")
def create_role(request: Request) -> Any:
    """The service principals of a trust policy must look like ones."""
    document = request.params.get("AssumeRolePolicyDocument") or request.params.get("PolicyDocument", "{}")
    statements = json.loads(document).get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        if not principal:
            raise Fault("MalformedPolicyDocument", "Missing required field Principal")
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        for service in [services] if isinstance(services, str) else services:
            if not re.fullmatch(r"[a-z0-9.-]+\.amazonaws\.com", service):
                raise Fault("MalformedPolicyDocument", f'Invalid principal in policy: "SERVICE":"{service}"')
    return request.moto()


@functools.cache
def _aws_policies() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    policies: dict[str, Any] = json.loads(aws_managed_policies_data)
    return policies


@operation("iam", "AttachRolePolicy", "GetPolicy", "GetPolicyVersion")
def attach_role_policy(request: Request) -> Any:
    """AWS's policies exist from the moment one is asked for: making all 1,500 costs a second and 40 MB."""
    from moto.iam.models import AWSManagedPolicy

    arn, known = request.params["PolicyArn"], request.backend("iam").managed_policies
    name = arn.rsplit("/", 1)[-1]
    if arn.startswith("arn:aws:iam::aws:policy/") and arn not in known and name in _aws_policies():
        policy = AWSManagedPolicy.from_data(name, request.account, request.region, _aws_policies()[name])
        known[policy.arn] = policy
    return request.moto()


@operation("iam", "CreateInstanceProfile")
def create_instance_profile(request: Request) -> Any:
    """EC2 and Auto Scaling refuse a profile for some seconds after it was made."""
    answer, name = request.moto(), request.params["InstanceProfileName"]
    fresh = request.world.state(Fresh, "global")
    fresh.profiles.add(name)
    request.after("instance profile", lambda: fresh.profiles.discard(name))
    return answer


@operation("iam", "RemoveRoleFromInstanceProfile")
def remove_role_from_instance_profile(request: Request) -> Any:
    """A role that is not in it (any more) is refused; moto crashes."""
    profile, role = request.params["InstanceProfileName"], request.params["RoleName"]
    known = request.backend("iam").get_instance_profile(profile)
    if role not in [each.name for each in known.roles]:
        raise Fault("NoSuchEntity", f"The role with name {role} cannot be found.", 404)
    return request.moto()


def find_profile(request: Request, reference: dict[str, str]) -> Any:
    """The instance profile that a launch template names, if EC2 knows it by now."""
    fresh = request.world.state(Fresh, "global").profiles
    for profile in request.backend("iam").instance_profiles.values():
        if reference in ({"Name": profile.name}, {"Arn": profile.arn}) and profile.name not in fresh:
            return profile
    return None


@operation("iam", "GetAccountAuthorizationDetails")
def get_account_authorization_details(request: Request) -> dict[str, Any]:
    """Roles with their trust, inline and attached policies, tags and profiles. Nothing else is modelled."""
    params, backend = request.params, request.backend("iam")
    if params.get("Filter") != ["Role"]:
        raise Fault("NotImplemented", "not in the sandbox: anything but Filter=Role", 501)
    roles, marker = page(list(backend.roles.values()), params, "MaxItems", "Marker", 100)
    return {
        "UserDetailList": [],
        "GroupDetailList": [],
        "RoleDetailList": [_detail(role) for role in roles],
        "Policies": [],
        "IsTruncated": marker is not None,
        "Marker": marker,
    }


def _detail(role: Any) -> dict[str, Any]:
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn,
        "CreateDate": role.create_date,
        "AssumeRolePolicyDocument": quote(role.assume_role_policy_document),
        "InstanceProfileList": [
            {
                "Path": profile.path,
                "InstanceProfileName": profile.name,
                "InstanceProfileId": profile.id,
                "Arn": profile.arn,
                "CreateDate": profile.create_date,
                "Roles": [],
            }
            for profile in role.instance_profile_list
        ],
        "RolePolicyList": [
            {"PolicyName": name, "PolicyDocument": quote(document)} for name, document in role.policies.items()
        ],
        "AttachedManagedPolicies": role.attached_managed_policies,
        "Tags": role.tags,
    }
