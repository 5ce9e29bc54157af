"""What a teardown leaves: on purpose, with the reason; and by mistake, found by tag and by listing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .engine import Engine
from .resource import Resource
from .stack import Stack, revive
from .state import State
from .walk import closure

if TYPE_CHECKING:
    from .aws import Aws


def staying(state: State, chosen: Iterable[str] | None = None) -> dict[str, str]:
    """Why each resource stays that a plain teardown of `chosen` would otherwise remove."""
    asked = closure(state.names() if chosen is None else chosen, state.users)
    reasons: dict[str, str] = {}
    holding = {name: revive(name, state.get(name)) for name in state.names()}
    for name, item in holding.items():
        if item.holds_data and name in asked:
            reasons[name] = f"holds {item.holds_data}; goes on costing {item.costs}"
    for name in [name for name, item in holding.items() if item.holds_data]:
        for need in sorted(closure([name], state.needs) - {name}):
            if need in asked:
                reasons.setdefault(need, f"{name} stands in it")
    return reasons


def groups_of(stack: Stack, state: State) -> dict[str, list[str]]:
    """Names by group, declared and recorded ones."""
    groups = stack.groups()
    for name in state.names():
        kind = Resource.kinds.get(state.get(name)["kind"])
        if kind is not None and name not in groups.setdefault(kind.group, []):
            groups[kind.group].append(name)
    return groups


def left_behind(stack: Stack, state: State, aws: Aws, removed: Collection[str]) -> list[str]:
    """What is still there of this project beyond what the state records, once `removed` has gone.

    By listing: every declared resource is looked for by its tags or name. By tag: AWS's index of tags, which
    lags behind, so what it shows counts only where no listing could tell that it is gone.
    """
    findings = {
        change.resource: f"{change.resource} ({change.action})"
        for change in Engine(stack, state, aws).plan()
        if change.action not in ("create", "delete")
        and change.ours
        and change.resource not in state
        and not stack[change.resource].permanent
    }
    for arn, tags in aws.tagged():
        name = tags.get("tecs:name", "")
        if name not in state and name not in stack and name not in removed:
            findings[arn] = f"{name or 'unnamed'}: {arn}"
    return sorted(findings.values())
