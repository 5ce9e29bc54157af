"""A cloud in memory, things to make in it, and time that passes only while everybody waits."""

from __future__ import annotations

import concurrent.futures.thread
import heapq
import itertools
import json
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NamedTuple

from botocore.exceptions import ClientError

from temporal_ecs.aws import Aws, _Listings
from temporal_ecs.clock import Clock, Future
from temporal_ecs.engine import VISIBLE, Change, Engine
from temporal_ecs.resource import Live, Ref, Resource
from temporal_ecs.stack import Stack
from temporal_ecs.state import State
from temporal_ecs.walk import WORKERS, Event, Result

PROJECT, ACCOUNT, REGION = "temporal-dev", "123456789012", "eu-west-1"

# ---------------------------------------------------------------------------------------------------- time


ABANDONED = 5.0
"""Real seconds after which a thread that sleeps in virtual time gives up when nobody lets time pass."""


class VirtualClock(Clock):
    """Time for one driver, the thread that makes the clock and calls wait(), and the threads of its pool.

    Work takes no time. Time passes when no thread of the pool can go on without it: each sleeps here, or waits
    for one that does. It leaps to whatever is due next; those who sleep wake one after the other. So wait()
    returns only what has come to rest, and two runs of the same program see the same times.
    """

    def __init__(self, start: float = 0.0, *, workers: int = WORKERS) -> None:
        """`workers` is the size of the driver's pool: when that many threads sleep, no other future can begin."""
        self.workers = workers
        self.interrupts: list[float] = []
        """When Ctrl-C is pressed, in order; at the first wait() that reaches that time."""
        self._now = start
        self._driver, self._driven = threading.get_ident(), False
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int]] = []
        self._waking: set[tuple[float, int]] = set()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        if threading.get_ident() == self._driver:
            self.wait((), seconds)
            return
        with self._changed:
            me = (self._now + max(0.0, seconds), next(self._order))
            heapq.heappush(self._sleepers, me)
            self._changed.notify_all()
            while me in self._sleepers:
                if not self._changed.wait(ABANDONED) and not self._driven:  # else its process would never end
                    self._sleepers.remove(me)
                    heapq.heapify(self._sleepers)
                    raise RuntimeError("nobody drives this clock any more")
            self._waking.discard(me)
            self._changed.notify_all()

    def wait(self, futures: Collection[Future], timeout: float | None) -> set[Future]:
        assert threading.get_ident() == self._driver, "only the thread that made the clock drives it"
        for future in futures:
            future.add_done_callback(self._notice)
        with self._changed:
            self._driven = True
            try:
                return self._leap(futures, None if timeout is None else self._now + max(0.0, timeout))
            finally:
                self._driven = False

    def _leap(self, futures: Collection[Future], deadline: float | None) -> set[Future]:
        with self._changed:
            while True:
                self._until_at_rest(futures)
                if self.interrupts and self.interrupts[0] <= self._now:
                    del self.interrupts[0]
                    raise KeyboardInterrupt
                if done := {future for future in futures if future.done()}:
                    return done
                due = min(t for t in (deadline, *self.interrupts, *(t for t, _ in self._sleepers)) if t is not None)
                self._now = max(self._now, due)
                if self._sleepers and self._sleepers[0][0] <= self._now:
                    self._waking.add(heapq.heappop(self._sleepers))
                    self._changed.notify_all()
                elif deadline is not None and deadline <= self._now:
                    return set()

    def _notice(self, _: Future) -> None:
        with self._changed:
            self._changed.notify_all()

    def _until_at_rest(self, futures: Collection[Future]) -> None:
        """Wait, in real time, until nothing more happens at this moment of virtual time."""
        quiet = 0
        while quiet < 2:  # twice, lest one that has just been woken is taken for one that waits
            unfinished = min(self.workers, sum(not future.done() for future in futures))
            at_rest = len(self._sleepers) >= unfinished if futures else not _busy()
            if at_rest and not self._waking:
                return
            if self._changed.wait(0.02):
                quiet = 0
            else:
                quiet = quiet + 1 if futures and self._sleepers and _parked() >= unfinished else 0


def _parked() -> int:
    """How many threads of pools are in the middle of a task and wait for another thread."""
    return sum(_waits(frame) and _in_task(frame) for frame in sys._current_frames().values())


def _busy() -> bool:
    """Whether a thread of a pool that nobody waits for any more is in the middle of a task."""
    return any(_in_task(frame) and not _waits(frame) for frame in sys._current_frames().values())


def _waits(frame: FrameType) -> bool:
    return (frame.f_code.co_filename, frame.f_code.co_name) == (threading.__file__, "wait")


def _in_task(frame: FrameType | None) -> bool:
    while frame is not None:
        if (frame.f_code.co_filename, frame.f_code.co_name) == (concurrent.futures.thread.__file__, "run"):
            return True
        frame = frame.f_back
    return False


# --------------------------------------------------------------------------------------------------- the cloud


class Killed(BaseException):
    """What a process doesn't survive."""


class Call(NamedTuple):
    """One request. `name` is the resource's, or the listing's for a listing."""

    number: int
    verb: str
    name: str
    at: float


def refusal(code: str, message: str = "no", status: int = 400) -> ClientError:
    """An answer of AWS's that is an error."""
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Fake")


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something in the cloud. Times are the clock's."""

    id: str
    kind: str
    title: str
    fields: dict[str, Any]
    tags: dict[str, str]
    token: str = ""
    born: float = 0.0
    visible: float = 0.0  # from when on listings and calls know it
    settled: float = 0.0  # until when it is pending
    gone: float | None = None  # when it will have been deleted
    failed: str = ""
    shown: dict[str, Any] | None = None  # what a listing shows instead of the fields, until `since`
    since: float = 0.0
    lively: bool = False  # shows no sign of being deleted

    def pending(self, now: float) -> str:
        if self.gone is not None:
            return "" if self.lively else "being deleted"
        return "being made" if now < self.settled else ""


@dataclass
class Cloud:
    """Everything that exists, and what happens to requests.

    `before` and `after` see each request and may raise: then it fails without, or with, its effect. A request
    takes `latency`. The cloud is strict: what is used must exist and have settled, what is still used can't go.
    """

    clock: Clock
    latency: float = 0.0
    before: Callable[[Call], None] = lambda _: None
    after: Callable[[Call], None] = lambda _: None
    things: dict[str, Thing] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    _mutex: threading.RLock = field(default_factory=threading.RLock)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, verb: str, name: str, act: Callable[[], Any]) -> Any:
        with self._mutex:
            call = Call(len(self.calls) + 1, verb, name, self.clock.now())
            self.calls.append(call)
            self.before(call)
        if self.latency:
            self.clock.sleep(self.latency)
        with self._mutex:
            try:
                return act()
            finally:
                self.after(call)

    def of(self, name: str) -> list[Thing]:
        """What exists for the resource `name`, by title, oldest first."""
        with self._mutex:
            return [thing for thing in self.alive() if thing.title == name]

    def the(self, name: str) -> Thing:
        (thing,) = self.of(name)
        return thing

    def alive(self) -> list[Thing]:
        with self._mutex:
            return [t for t in self.things.values() if t.gone is None or self.clock.now() < t.gone]

    def change(self, name: str, **changes: Any) -> None:
        """Change, behind everybody's back, the one thing that there is for `name`."""
        with self._mutex:
            thing = self.the(name)
            self.things[thing.id] = replace(thing, **changes)

    def times(self, *verbs: str, name: str | None = None) -> list[float]:
        return [call.at for call in self.calls if call.verb in verbs and name in (None, call.name)]

    def count(self, *verbs: str, name: str | None = None) -> int:
        return len(self.times(*verbs, name=name))

    def names(self, *verbs: str) -> list[str]:
        return [call.name for call in self.calls if call.verb in verbs]

    def content(self) -> list[tuple[Any, ...]]:
        """What there is, without what differs from one history to the next."""
        rows = self.alive()
        title_of = {thing.id: thing.title for thing in rows}

        def named(value: Any) -> Any:
            if isinstance(value, list):
                return [named(each) for each in value]
            return title_of.get(value, value) if isinstance(value, str) else value

        return sorted(
            (t.kind, t.title, json.dumps({k: named(v) for k, v in t.fields.items()}, sort_keys=True), sorted(t.tags))
            for t in rows
        )

    # -- what requests do ----------------------------------------------------------------------------------

    def listing(self, kinds: Collection[str]) -> list[Thing]:
        now = self.clock.now()
        seen = [t for t in self.alive() if t.kind in kinds and t.visible <= now]
        return [replace(t, fields=t.shown) if t.shown and now < t.since else t for t in seen]

    def make(self, thing: Thing, *, titled: bool) -> str:
        with self._mutex:
            for other in self.alive():
                if thing.token and other.token == thing.token:
                    return other.id
                if titled and (other.kind, other.title) == (thing.kind, thing.title):
                    raise refusal("Thing.Exists", f"{thing.title} already exists")
            self._check_uses(thing.fields)
            id_ = f"{thing.kind.lower()}-{next(self._ids)}"
            self.things[id_] = replace(thing, id=id_)
            return id_

    def alter(self, id_: str, *, settles: float, lags: float, **changes: Any) -> None:
        with self._mutex:
            thing, now = self._known(id_), self.clock.now()
            self._check_uses(changes)
            late = replace(thing, shown=thing.fields, since=now + lags, settled=now + settles)
            self.things[id_] = replace(late, fields=thing.fields | changes)

    def remove(self, id_: str, *, dies: float) -> None:
        with self._mutex:
            thing = self._known(id_)
            for other in self.alive():
                if id_ in other.fields.get("uses", ()):
                    raise refusal("Thing.InUse", f"{thing.title} is used by {other.title}")
            self.things[id_] = replace(thing, gone=thing.gone or self.clock.now() + dies)
            if not dies:
                del self.things[id_]

    def tag(self, id_: str, tags: dict[str, str]) -> None:
        with self._mutex:
            thing = self._known(id_)
            self.things[id_] = replace(thing, tags=thing.tags | tags)

    def _known(self, id_: str) -> Thing:
        for thing in self.alive():
            if thing.id == id_ and thing.visible <= self.clock.now() and not (thing.lively and thing.gone):
                return thing
        raise refusal("Thing.NotFound", f"{id_} does not exist")

    def _check_uses(self, fields: dict[str, Any]) -> None:
        for used in fields.get("uses", ()):
            pending = self._known(used).pending(self.clock.now())
            assert not pending, f"{used} was used while it was {pending}"


class FakeAws(Aws):
    """The real Aws, with the cloud in place of clients."""

    def __init__(self, cloud: Cloud) -> None:
        self.project, self.region, self.environment = PROJECT, REGION, "development"
        self.account = ACCOUNT
        self.cloud, self.clock = cloud, cloud.clock
        self._listings = _Listings(cloud.clock)

    @property
    def partition(self) -> str:
        return "aws"

    def things(self, item: FakeThing) -> list[Thing]:
        """All that `item` shares a listing with, newest first."""
        kinds = {name for name, kind in Resource.kinds.items() if kind.listing == item.listing}

        def fetch() -> list[Thing]:
            return list(self.cloud.call("list", item.listing, lambda: self.cloud.listing(kinds)))

        return list(reversed(self._cached(item, "fake", "list_things", {}, fetch)))

    def tags_of(self, item: Resource, live: Live) -> dict[str, str]:
        return dict(self.cloud.call("read-tags", item.name, lambda: self.cloud._known(live["id"]).tags))

    def tag(self, item: Resource, live: Live, wanted: dict[str, str]) -> None:
        self.cloud.call("tag", item.name, lambda: self.cloud.tag(live["id"], wanted))


# --------------------------------------------------------------------------------------------------- the kinds


@dataclass(frozen=True, kw_only=True)
class FakeThing(Resource):
    """A kind found by its tags. `colour` is what create can't set; AWS has a default for `size`."""

    size: int | None = 1
    colour: str | None = None
    count: int = 0
    secret: str | None = None
    uses: tuple[str | Ref, ...] = ()

    group = "fakes"
    absent = frozenset({"Thing.NotFound"})
    not_yet = frozenset({"Thing.InUse", "Thing.Refused: not propagated"})
    mutable = frozenset({"size", "colour"})
    initial = frozenset({"count"})
    unread = frozenset({"secret"})
    unnamed = True

    titled: ClassVar[bool] = False  # its name is unique, and it is found by that
    tells_tags: ClassVar[bool] = True
    tokened: ClassVar[bool] = False
    settles: ClassVar[float] = 0.0
    dies: ClassVar[float] = 0.0
    hides: ClassVar[float] = 0.0  # seconds for which AWS doesn't show what it has just made
    lags: ClassVar[float] = 0.0  # seconds for which AWS shows what was before a change
    lively: ClassVar[bool] = False  # shows no sign of being deleted

    def find(self, aws: FakeAws, id: str | None) -> Live | None:  # noqa: A002
        for thing in aws.things(self):
            if self.is_(aws, thing, id):
                return self.live(aws, thing)
        return None

    def is_(self, aws: FakeAws, thing: Thing, id_: str | None) -> bool:
        if id_ is not None:
            return thing.id == id_
        return thing.kind == type(self).__name__ and (
            thing.title == self.name if self.titled else aws.owns(self, thing.tags)
        )

    def live(self, aws: FakeAws, thing: Thing) -> Live:
        told = {k: v for k, v in thing.fields.items() if k not in self.unread}
        live = {"id": thing.id, **told, "address": f"{thing.id}.example"}
        live |= {"pending": thing.pending(aws.clock.now()), "failed": thing.failed}
        return live | ({"tags": thing.tags} if self.tells_tags else {})

    def fields_now(self) -> dict[str, Any]:
        size = 7 if self.size is None else self.size
        return {"size": size, "count": self.count, "secret": self.secret, "uses": list(self.uses)}

    def thing(self, aws: FakeAws, token: str) -> Thing:
        now = aws.clock.now()
        return Thing(
            id="",
            kind=type(self).__name__,
            title=self.name,
            fields={"colour": "grey", **self.fields_now()},
            tags=aws.tags(self) if self.tagging else {},
            token=token if self.tokened else "",
            born=now,
            visible=now + self.hides,
            settled=now + self.settles,
            lively=self.lively,
        )

    def create(self, aws: FakeAws, token: str) -> str:
        return str(
            aws.cloud.call("create", self.name, lambda: aws.cloud.make(self.thing(aws, token), titled=self.titled))
        )

    def update(self, aws: FakeAws, live: Live, changed: set[str]) -> str | None:
        wanted = {name: getattr(self, name) for name in changed}
        timing = {"settles": self.settles, "lags": self.lags}
        aws.cloud.call("update", self.name, lambda: aws.cloud.alter(live["id"], **timing, **wanted))
        return None

    def delete(self, aws: FakeAws, live: Live) -> None:
        aws.cloud.call("delete", self.name, lambda: aws.cloud.remove(live["id"], dies=self.dies))


@dataclass(frozen=True, kw_only=True)
class FakeTitled(FakeThing):
    """A kind with a unique name."""

    exists = frozenset({"Thing.Exists"})
    unnamed = False
    titled = True


@dataclass(frozen=True, kw_only=True)
class FakeQuiet(FakeTitled):
    """A kind whose listing doesn't tell tags."""

    tells_tags = False


@dataclass(frozen=True, kw_only=True)
class FakeTokened(FakeThing):
    """A kind that takes a client token."""

    unnamed = False
    tokened = True


@dataclass(frozen=True, kw_only=True)
class FakeSlow(FakeThing):
    """A kind that takes its time."""

    settles = 100.0
    dies = 60.0
    timeout = 600
    typical = (60, 120)


@dataclass(frozen=True, kw_only=True)
class FakeBrief(FakeSlow):
    """A kind that takes a moment."""

    settles = 3.0
    dies = 2.0


@dataclass(frozen=True, kw_only=True)
class FakeShy(FakeThing):
    """A kind with neither name nor token, that AWS shows, and shows changed, some time after it was asked to."""

    hides = 4.0
    lags = 3.0
    dies = 4.0
    lively = True


@dataclass(frozen=True, kw_only=True)
class FakeUntaggable(FakeTitled):
    """A kind without tags."""

    tagging = None


@dataclass(frozen=True, kw_only=True)
class FakeEdition(FakeThing):
    """A kind whose every change makes a successor; the newest one counts, older ones stay until the end."""

    renewed = frozenset({"size"})
    mutable = frozenset({"colour"})
    unnamed = False

    def is_(self, aws: FakeAws, thing: Thing, id_: str | None) -> bool:
        return thing.kind == type(self).__name__ and aws.owns(self, thing.tags)

    def update(self, aws: FakeAws, live: Live, changed: set[str]) -> str | None:
        if "size" not in changed:
            return super().update(aws, live, changed)
        return self.create(aws, "")

    def delete(self, aws: FakeAws, live: Live) -> None:
        for thing in aws.things(self):
            if self.is_(aws, thing, None):
                aws.cloud.call("delete", self.name, lambda id_=thing.id: aws.cloud.remove(id_, dies=0.0))


@dataclass(frozen=True, kw_only=True)
class FakeStore(FakeThing):
    """A kind that holds data."""

    holds_data = "the answer"


@dataclass(frozen=True, kw_only=True)
class FakePermanent(FakeUntaggable):
    """A kind that belongs to the account."""

    permanent = True


# ---------------------------------------------------------------------------------------------------- at work


class World:
    """One project: its state file, its cloud, its clock. Every command is a new process, as it were: it reads the
    state anew. `events` are the last one's."""

    def __init__(self, folder: Path, *, workers: int = 4, latency: float = 0.0, visible: float = VISIBLE) -> None:
        self.path = folder / "state.json"
        self.workers, self.visible = workers, visible
        self.clock = VirtualClock(workers=workers)
        self.cloud = Cloud(self.clock, latency=latency)
        self.events: list[Event] = []

    def state(self) -> State:
        return State(self.path, project=PROJECT, account=ACCOUNT, region=REGION)

    def engine(self, *declared: Resource, **options: Any) -> Engine:
        self.events = []
        given = {"clock": self.clock, "workers": self.workers, "visible": self.visible, "emit": self.events.append}
        return Engine(Stack(declared), self.state(), FakeAws(self.cloud), **given | options)

    def provision(self, *declared: Resource, names: list[str] | None = None, **options: Any) -> Result:
        return self.engine(*declared, **options).provision(names)

    def plan(self, *declared: Resource, names: list[str] | None = None, **options: Any) -> dict[str, Change]:
        return {change.resource: change for change in self.engine(*declared, **options).plan(names)}

    def actions(self, *declared: Resource, **options: Any) -> dict[str, str]:
        return {name: change.action for name, change in self.plan(*declared, **options).items()}

    def teardown(
        self, *declared: Resource, names: list[str] | None = None, with_data: bool = False, **options: Any
    ) -> Result:
        return self.engine(*declared, **options).teardown(names, with_data=with_data)

    def written(self) -> dict[str, Any]:
        """The records as they are on disk now."""
        return dict(json.loads(self.path.read_text())["resources"]) if self.path.exists() else {}

    @contextmanager
    def counting(self, *verbs: str) -> Iterator[Callable[[], int]]:
        """Counts the requests made since."""
        start = len(self.cloud.calls)
        yield lambda: sum(not verbs or call.verb in verbs for call in self.cloud.calls[start:])


WRITING = ("create", "update", "delete", "tag")
