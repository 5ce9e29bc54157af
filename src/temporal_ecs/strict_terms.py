"""The terms in which `strict_rules` is written.

A rule takes a request's parameters and yields what is wrong with them as (path, text). Rules run only on requests
whose form the service model has approved, so that types can be relied on.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Params = Mapping[str, Any]
Wrong = tuple[str, str]
Rule = Callable[[Params], Iterable[Wrong]]


@functools.cache
def _steps(path: str) -> list[tuple[str, bool]]:
    return [(step.removesuffix("[]"), step.endswith("[]")) for step in path.split(".")]


def each(params: Params, path: str) -> list[tuple[str, Any]]:
    """The values at a path such as `containerDefinitions[].name`, each with where it stands; absent ones not."""
    found: list[tuple[str, Any]] = [("", params)]
    for name, many in _steps(path):
        deeper: list[tuple[str, Any]] = []
        for at, value in found:
            item = value.get(name) if isinstance(value, dict) else None
            if item is None:
                continue
            here = f"{at}.{name}" if at else name
            if many:
                deeper.extend([(f"{here}[{index}]", element) for index, element in enumerate(item)])
            else:
                deeper.append((here, item))
        found = deeper
    return found


def must(path: str, holds: Callable[[Any], bool], text: str) -> Rule:
    """Each value at the path fulfils a condition."""
    return lambda params: [(at, f"{text}, not {value!r:.60}") for at, value in each(params, path) if not holds(value)]


def within(path: str, low: float, high: float) -> Rule:
    """A number between two bounds, both allowed."""
    return must(path, lambda value: low <= value <= high, f"must be from {low} to {high}")


def one_of(path: str, allowed: Iterable[Any]) -> Rule:
    """A value from a documented list."""
    values = list(allowed)
    return must(path, lambda value: value in values, f"must be one of {', '.join(map(str, values))}")


def matches(path: str, pattern: str, text: str) -> Rule:
    """A text that the pattern matches whole; `text` says the rule in words."""
    whole = re.compile(pattern)
    return must(path, lambda value: bool(whole.fullmatch(value)), text)


def at_most(path: str, count: int, unit: str) -> Rule:
    """A text or list that isn't too long."""
    return must(path, lambda value: len(value) <= count, f"must have at most {count} {unit}")


def unique(path: str, what: str) -> Rule:
    """Values that don't repeat within one request."""

    def rule(params: Params) -> Iterator[Wrong]:
        seen: set[Any] = set()
        for at, value in each(params, path):
            if value in seen:
                yield at, f"{what} must be unique, {value!r} stands there twice"
            seen.add(value)

    return rule


def refers(path: str, target: str, what: str) -> Rule:
    """Each value at the path names one of those at the other path."""

    def rule(params: Params) -> Iterator[Wrong]:
        known = {value for _, value in each(params, target)}
        return ((at, f"there is no {what} {value!r}") for at, value in each(params, path) if value not in known)

    return rule


def not_both(first: str, second: str) -> Rule:
    """Two members that exclude each other."""
    return lambda params: [(second, f"can't be given with {first}")] if params.get(first) and params.get(second) else []


def policy(path: str, limit: int = 0) -> Rule:
    """A JSON policy with statements; `limit` counts characters without white space, as IAM does."""

    def rule(params: Params) -> Iterator[Wrong]:
        for at, value in each(params, path):
            try:
                document = json.loads(value)
            except ValueError as error:
                yield at, f"isn't JSON: {error}"
                continue
            if not isinstance(document, dict) or not document.get("Statement"):
                yield at, "is a policy without a Statement"
            if limit and len(re.sub(r"\s", "", value)) > limit:
                yield at, f"exceeds the quota of {limit} characters"

    return rule
