"""Amazon Managed Service for Prometheus: workspaces, told apart by id; aliases repeat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from temporal_ecs.sandbox.world import Fault, Request, moment, operation, page, uuid


@dataclass
class Workspace:
    """A workspace and the token that made it."""

    data: dict[str, Any]
    token: str
    tags: dict[str, str] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """As AWS shows it."""
        return {**self.data, "tags": self.tags}


class Amp:
    """AMP in one region."""

    def __init__(self) -> None:
        self.workspaces: dict[str, Workspace] = {}


@operation("amp", "CreateWorkspace")
def create_workspace(request: Request) -> dict[str, Any]:
    """CREATING, then ACTIVE. A known client token gives back what it made."""
    workspaces, params = request.state(Amp).workspaces, request.params
    for other in workspaces.values():
        if other.token == params["clientToken"]:
            return other.shown()
    identifier = f"ws-{uuid()}"
    data: dict[str, Any] = {
        "workspaceId": identifier,
        "arn": request.arn("aps", f"workspace/{identifier}"),
        "status": {"statusCode": "CREATING"},
        "prometheusEndpoint": f"https://aps-workspaces.{request.region}.amazonaws.com/workspaces/{identifier}/",
        "createdAt": moment(),
        **{name: params[name] for name in ("alias", "kmsKeyArn") if name in params},
    }
    workspace = workspaces[identifier] = Workspace(data, params["clientToken"], dict(params.get("tags", {})))

    def settle() -> None:
        if workspace.data["status"]["statusCode"] == "CREATING":
            workspace.data["status"] = {"statusCode": "ACTIVE"}

    request.after("amp create", settle)
    return workspace.shown()


@operation("amp", "DescribeWorkspace")
def describe_workspace(request: Request) -> dict[str, Any]:
    """One workspace."""
    return {"workspace": _existing(request).shown()}


@operation("amp", "ListWorkspaces")
def list_workspaces(request: Request) -> dict[str, Any]:
    """By the beginning of the alias."""
    prefix = request.params.get("alias", "")
    rows = [
        {name: value for name, value in one.shown().items() if name != "prometheusEndpoint"}
        for one in request.state(Amp).workspaces.values()
        if one.data.get("alias", "").startswith(prefix)
    ]
    shown, token = page(rows, request.params, "maxResults", "nextToken", 100)
    return {"workspaces": shown, "nextToken": token}


@operation("amp", "UpdateWorkspaceAlias")
def update_workspace_alias(request: Request) -> dict[str, Any]:
    """Without an alias the old one goes."""
    workspace = _existing(request)
    workspace.data["alias"] = request.params.get("alias", "")
    return {}


@operation("amp", "DeleteWorkspace")
def delete_workspace(request: Request) -> dict[str, Any]:
    """DELETING, then gone."""
    workspace, workspaces = _existing(request), request.state(Amp).workspaces
    if workspace.data["status"]["statusCode"] != "ACTIVE":
        raise Fault("ConflictException", "The workspace is not ACTIVE.", 409)
    workspace.data["status"] = {"statusCode": "DELETING"}

    def forget() -> None:
        workspaces.pop(workspace.data["workspaceId"], None)

    request.after("amp delete", forget)
    return {}


@operation("amp", "DescribeWorkspaceConfiguration", "UpdateWorkspaceConfiguration")
def workspace_configuration(request: Request) -> dict[str, Any]:
    """How long samples are kept, and limits."""
    workspace = _existing(request)
    if request.operation == "UpdateWorkspaceConfiguration":
        changes = {k: v for k, v in request.params.items() if k not in ("workspaceId", "clientToken")}
        workspace.configuration |= changes
        return {"status": {"statusCode": "UPDATING"}}
    status = {"statusCode": "ACTIVE"}
    defaults = {"retentionPeriodInDays": 150, "limitsPerLabelSet": []}
    return {"workspaceConfiguration": {"status": status, **defaults, **workspace.configuration}}


@operation("amp", "TagResource", "UntagResource", "ListTagsForResource")
def tags(request: Request) -> dict[str, Any]:
    """By ARN."""
    arn = request.params["resourceArn"]
    for workspace in request.state(Amp).workspaces.values():
        if workspace.data["arn"] == arn:
            break
    else:
        raise Fault("ResourceNotFoundException", f"Resource not found: {arn}", 404)
    workspace.tags |= request.params.get("tags", {})
    for key in request.params.get("tagKeys", ()):
        workspace.tags.pop(key, None)
    return {"tags": workspace.tags} if request.operation == "ListTagsForResource" else {}


def _existing(request: Request) -> Workspace:
    identifier = request.params["workspaceId"]
    if found := request.state(Amp).workspaces.get(identifier):
        return found
    raise Fault("ResourceNotFoundException", f"Workspace not found: {identifier}", 404)
