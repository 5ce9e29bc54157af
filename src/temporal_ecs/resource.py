"""A thing in AWS that can be found, created, updated and deleted; and references between such things."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

if TYPE_CHECKING:
    from .aws import Aws

Live = dict[str, Any]
"""What AWS has now. `id` always; every field of the resource that AWS tells; outputs for others; and

- `pending`: why it is still in transition, or ""
- `failed`: AWS's reason why it will never settle, or ""
- `tags`: its tags, where the listing tells them
- `note`: something the operator may want to know, or ""
"""

FACTS = frozenset({"pending", "failed", "tags", "note"})

ENVIRONMENT = "aws"
"""The name under which a Ref reaches facts of the AWS account itself: `account`, `partition`."""


UNDECLARED = frozenset({"name", "labels", "after", "order"})
"""Fields of a resource that say nothing of what it is."""


class Ref(NamedTuple):
    """A value that another resource will have once it exists. A Ref in a field *is* the dependency."""

    name: str
    output: str = "id"
    form: str = "{}"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What we want (the fields) and what we know about its kind in AWS (the class attributes).

    Authors of a kind never sleep, retry or catch: the engine does, by the error codes given here. An error
    is named by its code, or by "Code: words" where AWS shares a code among causes. A field that is None is
    nobody's business: it is neither sent nor compared.
    """

    name: str
    labels: Mapping[str, str] | None = None  # tags beside those that every resource carries
    after: tuple[str, ...] = ()  # needed without data, rare
    order: tuple[str, ...] = ()  # made before this and removed after it, though this would be there without them

    group: ClassVar[str] = ""
    listing: ClassVar[str] = ""  # kinds with one listing share its rows; default: the kind's own name
    tagging: ClassVar[str | None] = "ec2"  # dialect of tags.py; None: untaggable, ours if its parent is
    absent: ClassVar[frozenset[str]] = frozenset()  # errors meaning: it does not exist
    exists: ClassVar[frozenset[str]] = frozenset()  # errors of create meaning: it already exists
    not_yet: ClassVar[frozenset[str]] = frozenset()  # errors worth waiting out (propagation, still in use)
    mutable: ClassVar[frozenset[str]] = frozenset()  # fields that update() can change in place
    renewed: ClassVar[frozenset[str]] = frozenset()  # fields for whose change update() makes a successor
    initial: ClassVar[frozenset[str]] = frozenset()  # fields set at creation, owned elsewhere afterwards
    unread: ClassVar[frozenset[str]] = frozenset()  # fields that AWS never tells
    unnamed: ClassVar[bool] = False  # neither name nor client token: a second request would make a second one
    timeout: ClassVar[float] = 300  # seconds, for patience with errors and for settling
    typical: ClassVar[tuple[float, float] | None] = None  # seconds it usually takes to settle
    holds_data: ClassVar[str] = ""  # what would be lost with it; such a resource outlives a plain teardown
    costs: ClassVar[str] = ""  # what it then goes on costing, in words: prices are `tecs cost`'s
    permanent: ClassVar[bool] = False  # shared by the account or only looked up: never deleted

    kinds: ClassVar[dict[str, type[Resource]]] = {}  # every kind by name, to revive a state record

    def __init_subclass__(cls) -> None:
        cls.listing = cls.__dict__.get("listing") or cls.listing or cls.__name__
        Resource.kinds[cls.__name__] = cls

    # -- the four verbs ------------------------------------------------------------------------------------

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        """What exists now, by id where one is known, else by tag or natural key; None: nothing. Never writes."""
        raise NotImplementedError

    def create(self, aws: Aws, token: str) -> str:
        """Ask AWS to make it and return its id at once. Never waits.

        `token` is the same for every attempt at this creation, also in a later run: pass it where AWS
        takes a client token.
        """
        raise NotImplementedError

    def update(self, aws: Aws, live: Live, changed: set[str]) -> str | None:
        """Make the changed fields what they are on self; the new id where that makes a successor."""
        raise NotImplementedError

    def delete(self, aws: Aws, live: Live) -> None:
        """Ask AWS to remove it. Absence is success: the engine sees to that."""
        raise NotImplementedError

    # -- what the engine does with the fields --------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """The declared fields, by name, as plain JSON values (Refs excepted)."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name not in UNDECLARED}

    def needs(self) -> frozenset[str]:
        """Names of the resources that this one refers to or cannot be without."""
        return frozenset({ref.name for ref in _refs(self.spec()) if ref.name != ENVIRONMENT} | set(self.after))

    def follows(self) -> frozenset[str]:
        """Names of the resources that are made before this one, and removed after it."""
        return self.needs() | set(self.order)

    def resolve(self, value_of: Callable[[Ref], Any]) -> Self:
        """A copy in which every Ref is replaced by its value; KeyError from `value_of` passes through."""
        return replace(self, **{k: _resolve(v, value_of) for k, v in self.spec().items()})


def plain(value: Any) -> Any:
    """`value` as JSON has it: lists for tuples and sorted sets, dicts for mappings."""
    if isinstance(value, Ref):
        return value
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def declared(found: Any, wanted: Any) -> Any:
    """What AWS reports of what we declared; it adds defaults of its own, which are nobody's business."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return {key: declared(found.get(key), value) for key, value in wanted.items()}
    if isinstance(wanted, (list, tuple)) and isinstance(found, (list, tuple)) and len(wanted) == len(found):
        return [declared(one, other) for one, other in zip(found, wanted, strict=True)]
    return found


def in_order(found: Iterable[Any], wanted: Sequence[Any]) -> list[Any]:
    """`found` in our order, where AWS keeps none; what is not ours comes last."""
    return sorted(found, key=lambda each: wanted.index(each) if each in wanted else len(wanted))


def _refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from _refs(v)
    elif isinstance(value, list):
        for v in value:
            yield from _refs(v)


def _resolve(value: Any, value_of: Callable[[Ref], Any]) -> Any:
    if isinstance(value, Ref):
        found = value_of(value)
        return found if value.form == "{}" else value.form.format(found)
    if isinstance(value, Mapping):
        return {k: _resolve(v, value_of) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, value_of) for v in value]
    return value
