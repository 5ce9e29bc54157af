"""Account settings and tags."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.aws.ecs.state import ecs
from temporal_ecs.sandbox.world import Request, operation, tag_dict, tag_list

_DEFAULTS = {  # PutAccountSettingDefault
    "serviceLongArnFormat": "enabled", "taskLongArnFormat": "enabled", "containerInstanceLongArnFormat": "enabled",
    "awsvpcTrunking": "disabled", "containerInsights": "disabled", "fargateFIPSMode": "disabled",
    "tagResourceAuthorization": "on", "fargateTaskRetirementWaitPeriod": "7", "guardDutyActivate": "off",
}  # fmt: skip


@operation("ecs", "ListAccountSettings")
def list_account_settings(request: Request) -> dict[str, Any]:
    """Those that were put, or with `effectiveSettings` all of them."""
    params, put = request.params, ecs(request).settings
    shown = {**_DEFAULTS, **put} if params.get("effectiveSettings") else put
    return {
        "settings": [
            _setting(request, name, value)
            for name, value in shown.items()
            if params.get("name", name) == name and params.get("value", value) == value
        ]
    }


@operation("ecs", "PutAccountSetting", "PutAccountSettingDefault")
def put_account_setting(request: Request) -> dict[str, Any]:
    """The sandbox has one principal, so that both mean the same."""
    name, value = request.params["name"], request.params["value"]
    ecs(request).settings[name] = value
    return {"setting": _setting(request, name, value)}


@operation("ecs", "DeleteAccountSetting")
def delete_account_setting(request: Request) -> dict[str, Any]:
    """Back to the default."""
    name = request.params["name"]
    ecs(request).settings.pop(name, None)
    return {"setting": _setting(request, name, _DEFAULTS.get(name, ""))}


def _setting(request: Request, name: str, value: str) -> dict[str, str]:
    return {
        "name": name,
        "value": value,
        "principalArn": request.arn("iam", "root", region=""),
        "type": "aws_managed" if name == "guardDutyActivate" else "user",
    }


@operation("ecs", "TagResource")
def tag_resource(request: Request) -> dict[str, Any]:
    """Adds and overwrites."""
    thing = ecs(request).tagged(request.params["resourceArn"])
    tags = tag_dict(thing.tags) | tag_dict(request.params["tags"])
    thing.tags = tag_list(tags, "key", "value")
    return {}


@operation("ecs", "UntagResource")
def untag_resource(request: Request) -> dict[str, Any]:
    """Takes tags away by key."""
    thing = ecs(request).tagged(request.params["resourceArn"])
    thing.tags = [tag for tag in thing.tags if tag["key"] not in request.params["tagKeys"]]
    return {}


@operation("ecs", "ListTagsForResource")
def list_tags_for_resource(request: Request) -> dict[str, Any]:
    """The tags of anything taggable."""
    return {"tags": ecs(request).tagged(request.params["resourceArn"]).tags}
