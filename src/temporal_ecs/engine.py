"""plan, provision, teardown: the only code that decides, retries, waits and records.

The verbs of a resource are plain calls; what happens to one resource is a generator that yields the seconds
that it wants to wait. So a waiting resource holds no thread, and waiting reads as straight-line code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .clock import Clock
from .errors import TecsError, code
from .resource import ENVIRONMENT, FACTS, Live, Ref, Resource, plain
from .stack import Stack, revive
from .state import Record, State
from .walk import WORKERS, Event, Result, Steps, Walk, closure, on_grid

if TYPE_CHECKING:
    from .aws import Aws

T = TypeVar("T")

PASSES = 5
"""How often one resource is changed before find() and update() are said to disagree."""

VISIBLE = 30.0
"""Seconds for which a thing that AWS has just made may stay invisible (EC2 read-after-write)."""


class Change(NamedTuple):
    """What would be done to one resource.

    `action` is create, update, replace, same, pending, blocked, adopt or delete (no longer declared).
    """

    resource: str
    action: str
    fields: dict[str, tuple[Any, Any]] = {}  # noqa: RUF012  name -> (what is, what is wanted); never changed
    reason: str = ""
    note: str = ""
    ours: bool = True


class Engine:
    """Works on one stack, state and account. `emit` may be called from any thread."""

    def __init__(
        self,
        stack: Stack,
        state: State,
        aws: Aws,
        *,
        emit: Callable[[Event], None] = lambda _: None,
        clock: Clock | None = None,
        poll: float = 1.0,
        workers: int = WORKERS,
        visible: float = VISIBLE,
        adopt: Collection[str] = (),
        before_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`poll` is the shortest pause between two looks, `visible` how long AWS may hide what it has just made
        or changed, both seconds; `before_change` runs once before the first change."""
        self.stack, self.state, self.aws = stack, state, aws
        self.emit, self.clock, self.poll, self.workers = emit, clock or Clock(), poll, workers
        self.adopt, self.visible = frozenset(adopt), visible
        self._live: dict[str, Live] = {}
        self._before_change, self._mutex, self._changing = before_change, threading.Lock(), False
        self._refused: Exception | None = None

    # -- the commands --------------------------------------------------------------------------------------

    def plan(self, names: Iterable[str] | None = None) -> list[Change]:
        """What provision would do, in order. Reads only. Raises the first error that reading met."""
        changes: dict[str, Change] = {}

        def preview(name: str) -> Steps[str]:
            decision = yield from self._decide(name)
            changes[name] = decision.change
            return decision.change.action

        wanted = closure(names or self.stack, self.stack.needs)
        result = self._walk({n: self.stack.needs(n) for n in wanted}, preview)
        if result.stop is not None:
            raise result.stop
        for error in result.errors.values():
            raise error
        ordered = [self._follow(changes[n], changes) for n in self.stack if n in changes]
        if names is None:
            ordered += [Change(n, "delete") for n in self.state.names() if n not in self.stack]
        return ordered

    def provision(self, names: Iterable[str] | None = None) -> Result:
        """Create or fix `names` (default: everything) and what they need."""
        wanted = closure(names or self.stack, self.stack.needs)
        return self._walk({n: self.stack.needs(n) for n in wanted}, self._provision)

    def teardown(self, names: Iterable[str] | None = None, *, with_data: bool = False) -> Result:
        """Remove what the state records of `names` (default: everything) and what uses it.

        What holds data stays, with everything that it stands in, unless `with_data`.
        """
        doomed = self.doomed(names, with_data=with_data)
        return self._walk({n: self.state.followers(n) & doomed for n in doomed}, self._teardown)

    def doomed(self, names: Iterable[str] | None = None, *, with_data: bool = False) -> set[str]:
        """The names that teardown would remove."""
        chosen = self.state.names() if names is None else [n for n in names if n in self.state]
        doomed = closure(chosen, self.state.users)
        return doomed if with_data else doomed - self.kept()

    def kept(self) -> set[str]:
        """What a plain teardown leaves: resources that hold data, and what they stand in."""
        holding = (n for n in self.state.names() if revive(n, self.state.get(n)).holds_data)
        return closure(holding, self.state.needs)

    def rebuild(self) -> Result:
        """Read the state back from AWS by tags and names; nothing is created or changed."""

        def find(name: str) -> Steps[str]:
            decision = yield from self._decide(name)
            if decision.item is None or decision.live is None or not decision.change.ours:
                self.state.drop(name)
                self._live.pop(name, None)
                return "absent"
            self._remember(name, decision.item, decision.live)
            return "found"

        return self._walk({n: self.stack.needs(n) for n in self.stack}, find)

    # -- one resource --------------------------------------------------------------------------------------

    def _decide(self, name: str) -> Steps[_Decision]:
        try:
            item = self.stack[name].resolve(self._value)
        except KeyError:  # something it needs does not exist yet, so neither does it
            return _Decision(Change(name, "create"))
        record = self.state.get(name)
        # An id recorded for another kind proves nothing: a secret that was looked up may now be to be made.
        known: str | None = record.get("id") if record.get("kind") == type(item).__name__ else None
        live = yield from self._look(item, known) if known else _nothing()
        if live is None and known and _declared_otherwise(item, made := revive(name, record)):
            live = yield from self._look(made, known)  # under the name that it was made with
        if live is None:  # by tag or name: it may have been made by a run that lost its memory
            known = None
            live = yield from self._look(item, None)
        if live is None:
            self._live.pop(name, None)
            return _Decision(Change(name, "create"), item)
        if not known and not (yield from self._ours(item, live)):
            reason = f"{live['id']} exists and is not ours"
            action = "adopt" if name in self.adopt else "blocked"
            way_out = f"; take it over with `tecs provision --adopt {name}`, or rename one of the two"
            change = Change(name, action, reason=reason + way_out * (action == "blocked"), ours=False)
            return _Decision(change, item, live)
        self._live[name] = live
        return _Decision(self._compare(item, live), item, live)

    def _compare(self, item: Resource, live: Live) -> Change:
        note = live.get("note", "")
        if live.get("failed"):
            reason = f"AWS gave up: {live['failed']}; remove it with `tecs teardown {item.name}` and provision again"
            return Change(item.name, "blocked", reason=reason, note=note)
        if live.get("pending"):
            return Change(item.name, "pending", reason=live["pending"], note=note)
        fields = {
            key: (live[key], wanted)
            for key, wanted in item.spec().items()
            if wanted is not None and key in live and key not in item.initial and live[key] != wanted
        }
        if item.tagging and "tags" in live:
            tags = {k: v for k, v in self.aws.tags(item).items() if live["tags"].get(k) != v}
            if tags:
                fields["tags"] = ({k: live["tags"].get(k) for k in tags}, tags)
        fixed = fields.keys() - item.mutable - item.renewed - {"tags"}
        if fixed:
            what = "; ".join(f"{k} is {fields[k][0]!r}, wanted {fields[k][1]!r}" for k in sorted(fixed))
            reason = f"cannot change in place: {what}; put the old value back, or `tecs teardown {item.name}` first"
            return Change(item.name, "blocked", fields, reason, note)
        if not fields:
            return Change(item.name, "same", note=note)
        return Change(item.name, "replace" if fields.keys() & item.renewed else "update", fields, note=note)

    def _follow(self, change: Change, changes: Mapping[str, Change]) -> Change:
        """A note on what can only be decided once something it needs has been made anew."""
        anew = [n for n in sorted(self.stack.needs(change.resource)) if changes[n].action in ("create", "replace")]
        if anew and change.action in ("same", "update"):
            return change._replace(note=change.note or f"looked at again after {', '.join(anew)}")
        return change

    def _provision(self, name: str) -> Steps[str]:
        outcome, passes, start = "same", 0, self.clock.now()
        while passes < PASSES:
            held = self._changing
            change, item, live = yield from self._decide(name)
            dying = live is not None and self.state.get(name).get("status") == "deleting"
            if item and dying and self.clock.now() - start < self.visible:  # a cut teardown: AWS may be at it still
                self.emit(Event(name, "wait", "its removal was begun: looking whether it goes on"))
                yield self.poll
                self._refresh(item)
                continue
            if change.action == "same":
                assert item is not None
                assert live is not None
                self._remember(name, item, live)
                return outcome
            if change.action == "blocked":
                raise TecsError(f"{name} is blocked: {change.reason}")
            assert item is not None, f"{name} was started before what it needs"
            if change.action == "pending":
                assert live is not None
                outcome = "updated" if outcome == "same" else outcome
                yield from self._until(item, live["id"], lambda seen: seen is None or not seen.get("pending"))
                continue
            if not held:  # decided before the operators' lock was ours: somebody may have changed things since
                self._about_to_change()
                continue
            passes += 1
            if change.action == "create":
                outcome = "created" if (yield from self._create(item)) else outcome
            else:
                assert live is not None
                self.emit(Event(name, change.action, ", ".join(sorted(change.fields))))
                yield from self._update(item, live, change)
                done = {"update": "updated", "replace": "replaced", "adopt": "adopted"}[change.action]
                outcome = done if outcome == "same" else outcome
        raise TecsError(
            f"{name}: AWS accepted every change but still reports another {', '.join(change.fields) or 'state'}",
            "Run the command again. If it stays so, this is a bug in tecs; what AWS said is in --api-log.",
        )

    def _create(self, item: Resource) -> Steps[bool]:
        """Ask for `item` and wait until it has settled; False when it turns out to be there already."""
        record = self.state.get(item.name)
        creating = record.get("status") == "creating"
        begun = creating and not record.get("id") and record.get("token")
        if record.get("id"):
            shown = yield from self._shows_up(item, record["id"], self.visible if creating else self.poll)
        else:
            shown = bool(begun and item.unnamed) and (yield from self._shows_up(item, None, self.visible))
        if shown:
            return False
        self.emit(Event(item.name, "create"))
        token = record["token"] if begun else self.state.token(item.name)
        self.state.put(item.name, self._record(item, status="creating") | {"token": token})
        made = yield from self._ask_for(item, token)
        if made is not None:
            self.state.put(item.name, self._record(item, status="creating", id_=made) | {"token": token})
            yield from self._until(item, made, lambda seen: seen is not None and not seen.get("pending"))
        return True

    def _ask_for(self, item: Resource, token: str) -> Steps[str | None]:
        """The id of what AWS made; None when its answer left that open and a look shows something."""
        start, met, made = self.clock.now(), None, None  # `met`: when AWS said first that it is there already
        while made is None:
            try:
                with self._writing(item):
                    made = yield from self._patiently(item, lambda: item.create(self.aws, token), creating=True)
            except Exception as error:
                taken = _named(error, item.exists)
                if not taken and not self.aws.transient(error):
                    raise
                met = self.clock.now() if taken and met is None else met
                waited = self.clock.now() - (start if met is None else met)
                if waited > (min(self.visible, item.timeout) if taken else item.timeout):
                    raise TecsError(
                        f"{item.name}: AWS neither makes nor shows it after {waited:.0f} s: {error}",
                        "Run the command again to go on trying.",
                    ) from error
                self.emit(Event(item.name, "wait", f"looking again: {error}", waited))
                if (yield from self._shows_up(item, None, self.visible if item.unnamed else self._pause(waited))):
                    break
        return made

    def _shows_up(self, item: Resource, id_: str | None, patience: float) -> Steps[bool]:
        """Whether it can be seen within `patience` seconds, or at one look: AWS may hide what it has just made."""
        start = self.clock.now()
        while True:
            yield self.poll
            self._refresh(item)
            if (yield from self._look(item, id_)) is not None:
                return True
            if self.clock.now() - start >= patience:
                return False

    def _update(self, item: Resource, live: Live, change: Change) -> Steps[None]:
        """Make what differs as it is wanted, and wait until it has settled; or has vanished meanwhile."""
        id_: str = live["id"]
        if change.action == "adopt":
            self.state.put(item.name, self._record(item, status="creating", id_=id_))
        tags = self.aws.tags(item) if change.action == "adopt" else change.fields.get("tags", ({}, {}))[1]
        fields = set(change.fields) - {"tags"}
        successor = None
        try:
            with self._writing(item):
                if tags:
                    yield from self._patiently(item, lambda: self.aws.tag(item, live, tags))
                if fields:
                    successor = yield from self._patiently(item, lambda: item.update(self.aws, live, fields))
        except Exception as error:
            if not _named(error, item.exists):
                raise
            yield self.poll  # it was done already, and AWS showed what was before: look again
            return
        if successor:
            id_ = successor
            self.state.put(item.name, self.state.get(item.name) | {"id": id_})
        yield from self._until(item, id_, lambda seen: not seen.get("pending") if seen else not successor)
        yield from self._takes_effect(item, id_, set(change.fields))

    def _takes_effect(self, item: Resource, id_: str, fields: set[str]) -> Steps[None]:
        """Give AWS time to show what was changed; it may go on showing what was before."""
        start = self.clock.now()
        while live := (yield from self._look(item, id_)):
            waited = self.clock.now() - start
            if not fields & self._compare(item, live).fields.keys() or waited >= self.visible:
                return
            yield self._pause(waited)
            self._refresh(item)

    def _teardown(self, name: str) -> Steps[str]:
        record = self.state.get(name)
        item = revive(name, record)
        if item.permanent:
            self.state.drop(name)
            return "kept"
        live = yield from self._look(item, record.get("id"))
        made = live is None and record["status"] == "creating"  # by a run that was cut; AWS may hide it still
        if made and (yield from self._shows_up(item, record.get("id"), self.visible)):
            live = yield from self._look(item, record.get("id"))
        if live is not None and not (yield from self._ours(item, live)):
            raise TecsError(
                f"{name}: {live['id']} carries no tags of ours any more; it was left alone",
                f"If it isn't yours, `tecs state forget {name}`. If it is, `tecs provision {name}` and adopt it.",
            )
        if live is None and record["status"] == "deleting":  # half deleted, perhaps, and hidden by AWS: ask again
            live = self._recorded(name)
        if live:
            self._about_to_change()
            self.emit(Event(name, "delete", live["id"]))
            self.state.put(name, record | {"id": live["id"], "status": "deleting"})
            yield from self._remove(item, live)
        self.state.drop(name)
        return "gone"

    def _remove(self, item: Resource, live: Live) -> Steps[None]:
        """Ask AWS to remove it, again where that was done by halves, until it is gone."""
        start, id_, failed = self.clock.now(), live["id"], live.get("failed", "")
        seen: Live | None = live
        while seen is not None:
            if seen is live or not seen.get("pending"):
                with self._writing(item):
                    yield from self._patiently(item, partial(item.delete, self.aws, seen))
                if (yield from self._look(item, id_)) is None:
                    return
            waited = self.clock.now() - start
            if waited > item.timeout:
                raise TecsError(
                    f"{item.name}: still there after {waited:.0f} s ({seen.get('pending') or id_})",
                    "Run the command again to go on removing it.",
                )
            self.emit(Event(item.name, "wait", str(seen.get("pending") or "being removed"), waited, item.typical))
            yield self._pause(waited)
            self._refresh(item)
            seen = yield from self._look(item, id_)
            if seen and seen.get("failed", "") not in ("", failed):
                raise TecsError(f"{item.name}: AWS gave up: {seen['failed']}", "Mend the cause, then run it again.")

    # -- memory --------------------------------------------------------------------------------------------

    def _value(self, ref: Ref) -> Any:
        """What a Ref stands for; KeyError while its maker does not exist.

        In a plan what is recorded stands for a maker that has vanished: so it shows which of its users are
        still there.
        """
        if ref.name == ENVIRONMENT:
            return self.aws.value(ref.output)
        live = self._live.get(ref.name)
        if live is None:
            return self._recorded(ref.name)[ref.output]
        if ref.output not in live:
            known = ", ".join(sorted(live.keys() - FACTS))
            raise TecsError(f"{ref.name} has no output {ref.output!r}", f"It has {known}. This is a bug in tecs.")
        return live[ref.output]

    def _recorded(self, name: str) -> Live:
        record = self.state.get(name)
        facts = {"id": record.get("id"), "pending": "", "failed": ""}
        return {**record["spec"], **record["outputs"], **facts} if record.get("id") else {}

    def _remember(self, name: str, item: Resource, live: Live) -> None:
        self._live[name] = live
        outputs = {k: v for k, v in live.items() if k not in FACTS and k not in item.spec() and k != "id"}
        status = "creating" if live.get("pending") or live.get("failed") else "ready"
        self.state.put(name, self._record(item, status=status, id_=live["id"]) | {"outputs": outputs})

    def _record(self, item: Resource, *, status: str, id_: str | None = None) -> Record:
        spec = {k: v for k, v in item.spec().items() if k not in item.unread}
        declared = self.stack[item.name]
        return {
            "kind": type(item).__name__,
            "id": id_,
            "status": status,
            "spec": spec,
            "outputs": {},
            "needs": sorted(declared.needs()),
            "order": sorted(declared.order),
        }

    def _ours(self, item: Resource, live: Live) -> Steps[bool]:
        if item.tagging is None or item.permanent:
            return True
        tags = live.get("tags")
        if tags is None:
            tags = yield from self._patiently(item, lambda: self.aws.tags_of(item, live), not_yet=frozenset())
        return self.aws.owns(item, tags or {})

    def _about_to_change(self) -> None:
        with self._mutex:  # the first one in takes the lock, the others wait for it and share its refusal
            if self._refused is not None:
                raise self._refused
            if not self._changing:
                try:
                    self._before_change()
                except Exception as error:
                    self._refused = error
                    raise
                self.aws.look_afresh()
                self._changing = True

    @contextmanager
    def _writing(self, item: Resource) -> Iterator[None]:
        """Whatever comes of a call that writes: what was read before it counts no more."""
        try:
            yield
        finally:
            self.aws.forget(item.listing)

    # -- patience ------------------------------------------------------------------------------------------

    def _look(self, item: Resource, id_: str | None) -> Steps[Live | None]:
        live = yield from self._patiently(item, lambda: item.find(self.aws, id_), not_yet=frozenset())
        return None if live is None else plain(live)

    def _patiently(
        self,
        item: Resource,
        call: Callable[[], T],
        *,
        not_yet: frozenset[str] | None = None,
        creating: bool = False,
    ) -> Steps[T | None]:
        """The call's answer; None when AWS says that the thing is absent.

        Waits out the errors that the kind names, that a parent just made is not visible yet, and what is
        nobody's fault (throttling, 5xx, lost connections). When `creating`, absence can only be a parent's, and
        a call whose fate is open is not sent again.
        """
        if not_yet is None:
            not_yet = item.not_yet | self._parents_absent(item)
        start = self.clock.now()
        while True:
            try:
                return call()
            except Exception as error:
                if not creating and _named(error, item.absent):
                    return None
                if not (_named(error, not_yet) or (not creating and self.aws.transient(error))):
                    raise
                waited = self.clock.now() - start
                if waited > item.timeout:
                    raise TecsError(
                        f"{item.name}: AWS still refuses after {waited:.0f} s: {error}",
                        "Run the command again to go on waiting.",
                    ) from error
                self.emit(Event(item.name, "wait", str(error), waited))
            yield self._pause(waited)

    def _parents_absent(self, item: Resource) -> frozenset[str]:
        if item.name not in self.stack:
            return frozenset()
        return frozenset().union(*(self.stack[need].absent for need in self.stack.needs(item.name)))

    def _until(self, item: Resource, id_: str, enough: Callable[[Live | None], bool]) -> Steps[None]:
        """Look until it is `enough`. A failure ends it."""
        start = self.clock.now()
        while not enough(seen := (yield from self._look(item, id_))):
            if seen and seen.get("failed"):
                raise TecsError(
                    f"{item.name}: AWS gave up: {seen['failed']}",
                    f"Mend the cause, run `tecs teardown {item.name}`, then this command again.",
                )
            waited = self.clock.now() - start
            if waited > item.timeout:
                raise TecsError(
                    f"{item.name}: not settled after {waited:.0f} s ({(seen or {}).get('pending') or 'not visible'})",
                    "AWS goes on by itself. Run the command again to go on waiting.",
                )
            detail = str((seen or {}).get("pending") or "")
            self.emit(Event(item.name, "wait", detail, waited, item.typical))
            yield self._pause(waited)
            self._refresh(item)

    def _pause(self, waited: float) -> float:
        return max(self.poll, 0.03 * waited)  # at most 3 % late, and ever fewer calls

    def _refresh(self, item: Resource) -> None:
        """Have the listing read again, unless another look in the same tick has done so already."""
        self.aws.forget(item.listing, before=on_grid(self.clock.now(), self.poll))

    # -- the walk ------------------------------------------------------------------------------------------

    def _walk(self, graph: Mapping[str, Collection[str]], act: Callable[[str], Steps[str]]) -> Result:
        """Run `act` on every name once what it waits for is done. Failures skip dependants, nothing else."""
        self.aws.look_afresh()
        walk = Walk(
            graph,
            act,
            emit=self.emit,
            clock=self.clock,
            tick=self.poll,
            workers=self.workers,
            expected=self._expected,
            fatal=lambda error: error is self._refused,
        )
        walk.run()
        return walk.result

    def _expected(self, name: str) -> float:
        kind = self.stack.get(name) or Resource.kinds.get(self.state.get(name).get("kind", ""))
        return kind.typical[1] if kind and kind.typical else 1.0


class _Decision(NamedTuple):
    change: Change
    item: Resource | None = None
    live: Live | None = None


def _nothing() -> Steps[None]:
    return None
    yield  # a generator that never waits


def _declared_otherwise(item: Resource, made: Resource) -> bool:
    """Whether `item` differs from what was made in something that cannot change in place, such as its name."""
    fixed = item.spec().keys() - item.mutable - item.renewed - item.initial - item.unread
    return any(made.spec().get(key) != item.spec()[key] for key in fixed)


def _named(error: BaseException, names: Collection[str]) -> bool:
    """Whether `error` is one of `names`, which are codes or "Code: words in the message"."""
    this = code(error)
    if not this:
        return False
    return any(
        this == name.partition(": ")[0] and name.partition(": ")[2].lower() in str(error).lower() for name in names
    )
