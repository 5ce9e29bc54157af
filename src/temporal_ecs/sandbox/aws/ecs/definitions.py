"""Task definitions."""

from __future__ import annotations

import re
from typing import Any

from temporal_ecs.sandbox.aws.ecs.state import Tagged, ecs, missing
from temporal_ecs.sandbox.world import Fault, Request, moment, operation, page

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+|[\w+=,.@-]+")


@operation("ecs", "RegisterTaskDefinition")
def register_task_definition(request: Request) -> dict[str, Any]:
    """Always a new revision, with a number that the family never had."""
    state, params = ecs(request), dict(request.params)
    tags, family = params.pop("tags", []), params["family"]
    _check(params)
    revision = state.last_revision[family] = state.last_revision.get(family, 0) + 1
    fargate = "FARGATE" in params.get("requiresCompatibilities", ())
    data = {
        **params,
        "taskDefinitionArn": request.arn("ecs", f"task-definition/{family}:{revision}"),
        "revision": revision,
        "status": "ACTIVE",
        "containerDefinitions": [_completed(one, params.get("networkMode")) for one in params["containerDefinitions"]],
        "volumes": params.get("volumes", []),
        "placementConstraints": params.get("placementConstraints", []),
        "compatibilities": ["EC2", "FARGATE"] if fargate else ["EC2"],
        "requiresAttributes": [],
        "registeredAt": moment(),
        "registeredBy": request.arn("iam", "root", region=""),
    }
    state.families.setdefault(family, {})[revision] = Tagged(data, tags)
    return {"taskDefinition": data, "tags": tags}


@operation("ecs", "DescribeTaskDefinition")
def describe_task_definition(request: Request) -> dict[str, Any]:
    """A family alone means its latest active revision. Inactive revisions are found by number."""
    found = ecs(request).definition(request.params["taskDefinition"])
    if not found:
        raise Fault("ClientException", "Unable to describe task definition.")
    tags = found.tags if "TAGS" in request.params.get("include", ()) else []
    return {"taskDefinition": found.data, "tags": tags}


@operation("ecs", "DeregisterTaskDefinition")
def deregister_task_definition(request: Request) -> dict[str, Any]:
    """The revision becomes INACTIVE; the family keeps its numbers."""
    reference = request.params["taskDefinition"]
    if ":" not in reference.rsplit("/", 1)[-1]:
        raise Fault("ClientException", "Invalid revision number. Number: ")
    found = ecs(request).definition(reference)
    if not found:
        raise Fault("ClientException", "The specified task definition does not exist.")
    found.data |= {"status": "INACTIVE", "deregisteredAt": found.data.get("deregisteredAt") or moment()}
    return {"taskDefinition": found.data}


@operation("ecs", "DeleteTaskDefinitions")
def delete_task_definitions(request: Request) -> dict[str, Any]:
    """Only inactive ones. They stay in DELETE_IN_PROGRESS for as long as a service refers to them."""
    state = ecs(request)
    deleted, failures = [], []
    for reference in request.params["taskDefinitions"]:
        found = state.definition(reference) if ":" in reference.rsplit("/", 1)[-1] else None
        if not found:
            failures.append(missing(request, "task-definition", reference))
        elif found.data["status"] == "ACTIVE":
            reason = (
                "The specified task definition is still in ACTIVE status. Please deregister the target and try again."
            )
            failures.append({"arn": found.data["taskDefinitionArn"], "reason": reason})
        else:
            found.data |= {"status": "DELETE_IN_PROGRESS", "deleteRequestedAt": moment()}
            _forget_later(request, found)
            deleted.append(found.data)
    return {"taskDefinitions": deleted, "failures": failures}


def _forget_later(request: Request, definition: Tagged) -> None:
    state, data = ecs(request), definition.data

    def forget() -> None:
        services = [one for cluster in state.clusters.values() for one in cluster.services.values()]
        if any(s.status != "INACTIVE" and s.data["taskDefinition"] == data["taskDefinitionArn"] for s in services):
            request.world.clock.in_seconds(60, forget)
        else:
            state.families[data["family"]].pop(data["revision"], None)

    request.after("task definition delete", forget)


@operation("ecs", "ListTaskDefinitions")
def list_task_definitions(request: Request) -> dict[str, Any]:
    """By family and revision; `familyPrefix` is a whole family name in spite of its own."""
    state, params = ecs(request), request.params
    status = params.get("status", "ACTIVE")
    arns = [
        revisions[number].data["taskDefinitionArn"]
        for family, revisions in sorted(state.families.items())
        for number in sorted(revisions)
        if revisions[number].data["status"] == status and params.get("familyPrefix", family) == family
    ]
    if params.get("sort") == "DESC":
        arns.reverse()
    shown, token = page(arns, params, "maxResults", "nextToken", 100)
    return {"taskDefinitionArns": shown, "nextToken": token}


@operation("ecs", "ListTaskDefinitionFamilies")
def list_task_definition_families(request: Request) -> dict[str, Any]:
    """Families by prefix; ACTIVE ones have an active revision, INACTIVE ones have none left."""
    params, names = request.params, []
    for family, revisions in sorted(ecs(request).families.items()):
        active = any(one.data["status"] == "ACTIVE" for one in revisions.values())
        wanted = {"ACTIVE": active, "INACTIVE": not active and bool(revisions)}.get(params.get("status", "ALL"), True)
        if wanted and family.startswith(params.get("familyPrefix", "")):
            names.append(family)
    shown, token = page(names, params, "maxResults", "nextToken", 100)
    return {"families": shown, "nextToken": token}


def _check(params: dict[str, Any]) -> None:
    for role in ("taskRoleArn", "executionRoleArn"):
        if role in params and not _ROLE.fullmatch(params[role]):
            raise Fault("ClientException", "Role is not valid")
    for container in params["containerDefinitions"]:
        for port in container.get("portMappings", ()):
            if params.get("networkMode") == "awsvpc" and port.get("hostPort", port.get("containerPort")) not in (
                0, port.get("containerPort"),
            ):  # fmt: skip
                raise Fault(
                    "ClientException",
                    "When networkMode=awsvpc, the host ports and container ports in port mappings must match.",
                )
        driver = container.get("logConfiguration", {}).get("logDriver")
        if (
            driver == "awslogs"
            and "FARGATE" in params.get("requiresCompatibilities", ())
            and "executionRoleArn" not in params
        ):
            raise Fault(
                "ClientException",
                "Fargate requires task definition to have execution role ARN to support log driver awslogs.",
            )


def _completed(container: dict[str, Any], network_mode: str | None) -> dict[str, Any]:
    """A container as ECS gives it back: defaults filled in, environment in an order of its own."""
    done = {
        "cpu": 0, "essential": True, "mountPoints": [], "volumesFrom": [], "systemControls": [],
        **container,
    }  # fmt: skip
    done["environment"] = sorted(container.get("environment", []), key=lambda pair: pair.get("name", ""), reverse=True)
    done["portMappings"] = [_port(port, network_mode) for port in container.get("portMappings", [])]
    if "healthCheck" in container:
        done["healthCheck"] = {"interval": 30, "timeout": 5, "retries": 3, **container["healthCheck"]}
    return done


def _port(port: dict[str, Any], network_mode: str | None) -> dict[str, Any]:
    host = port.get("containerPort") if network_mode in ("awsvpc", "host") else 0
    return {
        "protocol": "tcp",
        "hostPort": host,
        **{k: v for k, v in port.items() if (k, v) != ("hostPort", 0)},
    }
