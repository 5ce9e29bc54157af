"""Launch templates: kept as moto's objects, with their versions right."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateVersion

from temporal_ecs.sandbox.aws.ec2.common import (
    Fields,
    ec2,
    forget_tags,
    select,
    tag_from_specification,
    tags_of,
)
from temporal_ecs.sandbox.world import Fault, Request, operation, page

_FIELDS: Fields[LaunchTemplate] = {
    "launch-template-name": lambda one: one.name,
    "create-time": lambda one: one.create_time,
}


def find(request: Request, reference: dict[str, Any]) -> LaunchTemplate:
    """A template by LaunchTemplateId or LaunchTemplateName."""
    backend = ec2(request)
    if identifier := reference.get("LaunchTemplateId"):
        if identifier not in backend.launch_templates:
            raise Fault(
                "InvalidLaunchTemplateId.NotFound",
                f"The specified launch template, with template ID {identifier}, does not exist.",
            )
        return backend.launch_templates[identifier]
    name = reference.get("LaunchTemplateName", "")
    if name not in backend.launch_template_name_to_ids:
        raise Fault(
            "InvalidLaunchTemplateName.NotFoundException",
            f"The specified launch template, with template name {name}, does not exist.",
        )
    return backend.launch_templates[backend.launch_template_name_to_ids[name]]


def version_of(template: LaunchTemplate, wanted: str) -> LaunchTemplateVersion:
    """A version by number, `$Latest` or `$Default`. Numbers stay when others are deleted."""
    number = {"$Latest": template.versions[-1].number, "$Default": template.default_version_number}.get(wanted, wanted)
    for version in template.versions:
        if str(version.number) == str(number):
            return version
    raise Fault(
        "InvalidLaunchTemplateId.VersionNotFound",
        f"Could not find the specified version {wanted} for the launch template with ID {template.id}.",
    )


@operation("ec2", "CreateLaunchTemplate")
def create_launch_template(request: Request) -> dict[str, Any]:
    """Version 1."""
    backend, params = ec2(request), request.params
    _check_data(params["LaunchTemplateData"])
    template = backend.create_launch_template(
        params["LaunchTemplateName"], params.get("VersionDescription"), dict(params["LaunchTemplateData"]), {}
    )
    tag_from_specification(request, template.id, "launch-template")
    return {"LaunchTemplate": _shown(request, template)}


@operation("ec2", "CreateLaunchTemplateVersion")
def create_launch_template_version(request: Request) -> dict[str, Any]:
    """With SourceVersion, what isn't given comes from that version."""
    template, params = find(request, request.params), request.params
    _check_data(params["LaunchTemplateData"])
    source = params.get("SourceVersion")
    data = {**(version_of(template, source).data if source else {}), **params["LaunchTemplateData"]}
    number = template.versions[-1].number + 1
    version = template.create_version(data, params.get("VersionDescription"))
    version.number = number
    return {"LaunchTemplateVersion": _shown_version(request, template, version)}


@operation("ec2", "DescribeLaunchTemplates")
def describe_launch_templates(request: Request) -> dict[str, Any]:
    """All, or those named; an unknown one is refused."""
    params = request.params
    if "LaunchTemplateIds" in params:
        rows = [find(request, {"LaunchTemplateId": one}) for one in params["LaunchTemplateIds"]]
    elif "LaunchTemplateNames" in params:
        rows = [find(request, {"LaunchTemplateName": one}) for one in params["LaunchTemplateNames"]]
    else:
        rows = list(ec2(request).launch_templates.values())
    chosen = select(request, rows, _FIELDS, lambda one: str(one.id))
    shown, token = page(chosen, params, "MaxResults", "NextToken", 200)
    return {"LaunchTemplates": [_shown(request, one) for one in shown], "NextToken": token}


@operation("ec2", "DescribeLaunchTemplateVersions")
def describe_launch_template_versions(request: Request) -> dict[str, Any]:
    """Of one template, or the `$Latest` or `$Default` of all of them."""
    params, wanted = request.params, request.params.get("Versions", [])
    if "LaunchTemplateId" in params or "LaunchTemplateName" in params:
        template = find(request, params)
        low, high = int(params.get("MinVersion", 0)), int(params.get("MaxVersion", 1 << 31))
        versions = [version_of(template, one) for one in wanted] or [
            one for one in reversed(template.versions) if low <= one.number <= high
        ]
        rows = [(template, version) for version in versions]
    elif wanted and set(wanted) <= {"$Latest", "$Default"}:
        rows = [(one, version_of(one, name)) for one in ec2(request).launch_templates.values() for name in wanted]
    else:
        raise Fault(
            "MissingParameter",
            "The request must contain LaunchTemplateId or LaunchTemplateName, or only $Latest and $Default",
        )
    shown, token = page(rows, params, "MaxResults", "NextToken", 200)
    return {
        "LaunchTemplateVersions": [_shown_version(request, *row) for row in shown],
        "NextToken": token,
    }


@operation("ec2", "ModifyLaunchTemplate")
def modify_launch_template(request: Request) -> dict[str, Any]:
    """Moves the default version."""
    template = find(request, request.params)
    wanted = request.params.get("DefaultVersion") or request.params.get("SetDefaultVersion")
    template.default_version_number = version_of(template, str(wanted)).number
    return {"LaunchTemplate": _shown(request, template)}


@operation("ec2", "DeleteLaunchTemplate")
def delete_launch_template(request: Request) -> dict[str, Any]:
    """Even while a group uses it."""
    template, backend = find(request, request.params), ec2(request)
    answer = _shown(request, template)
    backend.delete_launch_template("", template.id)
    forget_tags(request, template.id)
    return {"LaunchTemplate": answer}


@operation("ec2", "DeleteLaunchTemplateVersions")
def delete_launch_template_versions(request: Request) -> dict[str, Any]:
    """All but the default; each version is answered for by itself."""
    template = find(request, request.params)
    deleted, refused = [], []
    for number in request.params["Versions"]:
        row: dict[str, Any] = {
            "LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": int(number),
        }  # fmt: skip
        found = [one for one in template.versions if str(one.number) == str(number)]
        if not found or int(number) == template.default_version_number:
            code = "operationNotPermitted" if found else "launchTemplateVersionDoesNotExist"
            refused.append({**row, "ResponseError": {"Code": code, "Message": f"version {number}"}})
        else:
            template.versions.remove(found[0])
            deleted.append(row)
    return {
        "SuccessfullyDeletedLaunchTemplateVersions": deleted,
        "UnsuccessfullyDeletedLaunchTemplateVersions": refused,
    }


def _check_data(data: dict[str, Any]) -> None:
    from moto.ec2.utils import parse_user_data

    if data.get("UserData"):
        data["UserData"] = parse_user_data(data["UserData"])  # refuses what isn't base64


def _shown(request: Request, template: LaunchTemplate) -> dict[str, Any]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": template.create_time,
        "CreatedBy": request.arn("iam", "root", region=""),
        "DefaultVersionNumber": template.default_version_number,
        "LatestVersionNumber": template.versions[-1].number,
        "Tags": tags_of(request, template.id),
    }


def _shown_version(request: Request, template: LaunchTemplate, version: LaunchTemplateVersion) -> dict[str, Any]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": version.number,
        "VersionDescription": version.description,
        "CreateTime": version.create_time,
        "CreatedBy": request.arn("iam", "root", region=""),
        "DefaultVersion": version.number == template.default_version_number,
        "LaunchTemplateData": version.data,
    }
