"""What the parts of EC2 share: filters, tags, and who stands in the way of a deletion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from temporal_ecs.sandbox.world import Fault, Request, tag_dict, tag_list

R = TypeVar("R")
Fields = dict[str, Callable[[R], Any]]


def ec2(request: Request) -> Any:
    """moto's EC2 backend in the request's region."""
    return request.backend("ec2")


def tags_of(request: Request, identifier: str) -> list[dict[str, str]]:
    """The tags of anything in EC2; moto keeps them all in one place, by id."""
    return tag_list(ec2(request).tags.get(identifier, {}))


def tag_from_specification(request: Request, identifier: str, kind: str) -> None:
    """Apply the request's TagSpecifications of one kind."""
    for specification in request.params.get("TagSpecifications", ()):
        if specification.get("ResourceType") == kind:
            ec2(request).tags[identifier].update(tag_dict(specification.get("Tags")))


def forget_tags(request: Request, identifier: str) -> None:
    """The tags go with their resource."""
    ec2(request).tags.pop(identifier, None)


def select(request: Request, rows: Iterable[R], fields: Fields[R], identify: Callable[[R], str]) -> list[R]:
    """The rows that pass the request's filters, by field and by tag. A filter AWS doesn't know is refused."""
    chosen = list(rows)
    for rule in [*request.params.get("Filters", ()), *request.params.get("Filter", ())]:
        name, values = rule["Name"], rule.get("Values", [])
        get = _getter(request, name, fields, identify)
        chosen = [row for row in chosen if _passes(get(row), values)]
    return chosen


def _getter(request: Request, name: str, fields: Fields[R], identify: Callable[[R], str]) -> Callable[[R], Any]:
    tags = ec2(request).tags
    if name.startswith("tag:"):
        return lambda row: tags.get(identify(row), {}).get(name[4:])
    if name == "tag-key":
        return lambda row: list(tags.get(identify(row), {}))
    if name in fields:
        return fields[name]
    raise Fault("InvalidParameterValue", f"The filter '{name}' is invalid")


def _passes(value: Any, patterns: list[str]) -> bool:
    texts = [] if value is None else value if isinstance(value, list) else [value]
    return any(fnmatchcase(str(text), pattern) for text in texts for pattern in patterns)


def interfaces(request: Request) -> list[Any]:
    """The network interfaces that exist; moto forgets to remove those of terminated instances."""
    return [one for one in ec2(request).enis.values() if not (one.instance and one.instance.state == "terminated")]


def dependency(kind: str, identifier: str) -> Fault:
    """The refusal to delete what something still needs."""
    return Fault("DependencyViolation", f"The {kind} '{identifier}' has dependencies and cannot be deleted.")
