"""Refuse a wrong request before it leaves: the AWS service models, and the documented rules they lack.

botocore itself checks types, required members and minima. Enums, patterns and maxima stand in its models and
are ignored; ranges such as a health check's interval stand in no model at all. `check` applies the first kind,
`strict_rules` holds the second, `hook` applies both to every client of a session.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from temporal_ecs.strict_rules import RULES

if TYPE_CHECKING:
    from botocore.model import OperationModel, Shape


class Problem(NamedTuple):
    """One thing wrong with a request. `unknown_enum`: this botocore doesn't know the value, AWS may."""

    path: str
    text: str
    unknown_enum: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class InvalidRequest(Exception):  # noqa: N818  # the name that its readers look for
    """The request breaks AWS's rules; nothing was sent."""

    def __init__(self, service: str, operation: str, problems: list[Problem]) -> None:
        super().__init__(f"{service} {operation}: " + "; ".join(map(str, problems)))
        self.service, self.operation, self.problems = service, operation, problems


def hook(report_unknown: Callable[[str], None] | None = None) -> Callable[..., None]:
    """A handler for `session.events.register_last("before-parameter-build", …)` that raises InvalidRequest.

    Last, because botocore's own handlers still fill in idempotency tokens there. Enum values unknown to this
    botocore go to `report_unknown` and pass; without it they are problems like any other.
    """

    def refuse_wrong(params: Mapping[str, Any], model: OperationModel, **_: Any) -> None:
        service = model.service_model.service_name
        problems = examine(service, model.name, params, model.input_shape)
        if report_unknown and problems:
            for problem in problems:
                if problem.unknown_enum:
                    report_unknown(f"{service} {model.name}: {problem}")
            problems = [problem for problem in problems if not problem.unknown_enum]
        if problems:
            raise InvalidRequest(service, model.name, problems)

    return refuse_wrong


def examine(service: str, operation: str, params: Mapping[str, Any], shape: Shape | None) -> list[Problem]:
    """Everything wrong with a request: against the model, then, if its form is right, against the rules."""
    problems = check(params, shape) if shape else []
    if any(not problem.unknown_enum for problem in problems):
        return problems
    for key in ((service, operation), (service, "*")):
        for rule in RULES.get(key, ()):
            problems.extend(Problem(path, text) for path, text in rule(params))
    return problems


def check(params: Any, shape: Shape) -> list[Problem]:
    """Problems of `params` against a botocore input shape: required, enum, pattern, length and range."""
    problems: list[Problem] = []
    _walk(params, shape, "", problems)
    return problems


def _walk(value: Any, shape: Any, path: str, found: list[Problem]) -> None:
    kind, limits = shape.type_name, shape.metadata
    if kind == "structure" and isinstance(value, dict):
        if not getattr(shape, "is_document_type", False):
            _walk_members(value, shape, path, found)
    elif kind == "list" and isinstance(value, (list, tuple)):
        _bounds(len(value), limits, path, "items", found)
        member = shape.member
        for index, item in enumerate(value):
            _walk(item, member, f"{path}[{index}]", found)
    elif kind == "map" and isinstance(value, dict):
        _bounds(len(value), limits, path, "entries", found)
        for key, item in value.items():
            _walk(key, shape.key, f"{path}.{key}", found)
            _walk(item, shape.value, f"{path}.{key}", found)
    elif kind == "string" and isinstance(value, str):
        if limits:
            _text(value, limits, path, found)
    elif kind == "blob" and isinstance(value, (bytes, bytearray)):
        _bounds(len(value), limits, path, "bytes", found)
    elif kind in ("integer", "long", "float", "double") and isinstance(value, (int, float)):
        _bounds(value, limits, path, "", found)


def _walk_members(value: Mapping[str, Any], shape: Any, path: str, found: list[Problem]) -> None:
    members = shape.members
    prefix = f"{path}." if path else ""
    absent = [name for name in shape.required_members if value.get(name) is None]
    found.extend([Problem(prefix + name, "is required") for name in absent])
    for name, item in value.items():
        member = members.get(name)
        if member is None:
            found.append(Problem(prefix + name, "is no member of this request"))
        elif item is not None:
            _walk(item, member, prefix + name, found)


def _text(value: str, limits: Mapping[str, Any], path: str, found: list[Problem]) -> None:
    _bounds(len(value), limits, path, "characters", found)
    if known := limits.get("enum"):
        if value not in known:
            shown = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            found.append(Problem(path, f"{value!r} is none of {shown}", unknown_enum=True))
    elif pattern := limits.get("pattern"):
        compiled = _compile(pattern)
        if compiled and not compiled.fullmatch(value):
            found.append(Problem(path, f"{value[:80]!r} doesn't match {pattern}"))


def _bounds(size: float, limits: Mapping[str, Any], path: str, unit: str, found: list[Problem]) -> None:
    low, high = limits.get("min"), limits.get("max")
    if low is not None and size < float(low):
        found.append(Problem(path, f"{size} {unit}".rstrip() + f" is below the minimum of {low}"))
    if high is not None and size > float(high):
        found.append(Problem(path, f"{size} {unit}".rstrip() + f" is above the maximum of {high}"))


_JAVA_CLASSES = {
    "L": r"\w", "N": r"\w", "Z": r"\s", "Zs": r"\s", "M": r"\u0300-\u036f", "P": r"!-/:-@\[-`{-~",
    "S": r"$+<=>^`|~", "XDigit": "[0-9a-fA-F]", "Print": r"[\x20-\x7e]",
}  # fmt: skip


@functools.cache
def _compile(pattern: str) -> re.Pattern[str] | None:
    r"""A model's pattern in Python's dialect, or None where it can't be said.

    The models are written for Java. The rewriting only ever accepts more: \p{L} becomes \w, [\w-_] is legal
    there and a bad range here, and a class of UTF-16 surrogates means any text.
    """
    python = re.sub(r"\\p\{(\w+)\}", lambda match: _JAVA_CLASSES.get(match[1], "."), pattern)
    python = re.sub(r"(\\[wds])-(?!\])", r"\1\\-", python)
    try:
        return re.compile(python)
    except re.error:
        return None
