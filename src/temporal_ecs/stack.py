"""The declared graph: every resource of resources/, and who needs whom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from .config import Config
from .errors import ConfigError, TecsError
from .resource import UNDECLARED, Resource
from .state import Record


class Stack(Mapping[str, Resource]):
    """Resources by name, in an order in which each comes after what it needs."""

    def __init__(self, declared: Iterable[Resource]) -> None:
        """Check names and cycles; TecsError on a duplicate, an unknown name or a cycle."""
        by_name: dict[str, Resource] = {}
        for item in declared:
            if item.name in by_name:
                raise TecsError(f"{item.name!r} is declared twice", "This is a bug in tecs.")
            by_name[item.name] = item
        for item in by_name.values():
            for need in sorted(item.follows() - by_name.keys()):
                raise TecsError(f"{item.name} needs {need!r}, which nothing declares{near(need, by_name)}")
        try:
            order = TopologicalSorter({n: sorted(r.follows()) for n, r in by_name.items()}).static_order()
            self._resources = {name: by_name[name] for name in order}
        except CycleError as error:
            raise TecsError("dependency cycle: " + " -> ".join(error.args[1])) from None
        self._needs = {name: item.follows() for name, item in self._resources.items()}

    def __getitem__(self, name: str) -> Resource:
        return self._resources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)

    def needs(self, name: str) -> frozenset[str]:
        """What is made before `name`: all that it needs, and what its order asks for."""
        return self._needs[name]

    def groups(self) -> dict[str, list[str]]:
        """Names of the resources by group, in order."""
        groups: dict[str, list[str]] = {}
        for name, item in self.items():
            groups.setdefault(item.group, []).append(name)
        return groups


def expand(words: Collection[str], groups: Mapping[str, Collection[str]], names: Collection[str]) -> list[str]:
    """Resource names for words that are names or groups; ConfigError with a suggestion for any other word."""
    chosen: list[str] = []
    for word in words:
        if word in names:
            chosen.append(word)
        elif word in groups:
            chosen += groups[word]
        else:
            raise ConfigError(
                f"unknown resource or group {word!r}{near(word, [*names, *groups])}",
                f"Nothing was changed. Groups: {', '.join(sorted(groups))}.",
            )
    return list(dict.fromkeys(chosen))


def revive(name: str, record: Record) -> Resource:
    """The resource that a state record describes, whether or not it is still declared."""
    kind = Resource.kinds.get(record["kind"])
    if kind is None:
        raise TecsError(
            f"{name} is a {record['kind']}, which this tecs does not know",
            f"Use the tecs that made it, or delete it by hand and run `tecs state forget {name}`.",
        )
    known = {f.name for f in fields(kind)} - UNDECLARED
    try:
        spec: dict[str, Any] = {k: v for k, v in record["spec"].items() if k in known}
        unread: dict[str, Any] = dict.fromkeys(kind.unread)
        return kind(name=name, **(unread | spec))
    except TypeError:  # a field without default that the tecs which wrote the record did not know
        raise TecsError(
            f"the record of {name} was written by another version of tecs",
            "Run `tecs state rebuild`: it reads the state back from AWS. Nothing was changed.",
        ) from None


def load(config: Config) -> Stack:
    """The stack that `config` describes. Asks nothing of AWS."""
    return Stack(item for module in discover() for item in module.declare(config))


def discover() -> Iterator[ModuleType]:
    """The modules of resources/; one without declare() fails here, loudly."""
    from . import resources

    for info in iter_modules(resources.__path__, resources.__name__ + "."):
        yield import_module(info.name)


def near(word: str, known: Collection[str]) -> str:
    """ ", did you mean …?" for a word that is close to a known one."""
    near = get_close_matches(word, known, 1)
    return f", did you mean {near[0]!r}?" if near else ""
