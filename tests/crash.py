"""The crash matrix: a run is cut before and after each of its AWS calls, and the next run must mend it.

    python -m tests.crash --all
    python -m tests.crash --sample 40 --seed 7
    python -m tests.crash --phase provision --point 123:after

One process holds the sandbox and runs a command against it, with all its threads. At the n-th call the sandbox, in
the middle of its work, forks: the child *is* the account at that moment. It takes a copy of the state folder as a
killed process would have left it, runs the command again from the start, with everything of its own (server, session,
state, engine), and compares the account with what a run that was never cut makes of it. The parent goes on.

Where a call may be cut:

- before: the request never arrived
- after: it was carried out, and its answer was lost
- flight: as after, and whatever else was on its way at that moment was carried out as well

To a call that only reads, after is the same moment as before: `--all` cuts there once.

AWS's delays are those of the real AWS, on a clock that leaps over the waiting. Results go to `.crash/`, in a file for
each version of the sources: what has passed is not run again.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import gc
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # where pytest has it, too

from botocore.config import Config as ClientConfig  # noqa: E402
from botocore.loaders import JSONFileLoader, Loader  # noqa: E402
from moto.core.routing import get_service_router  # noqa: E402

import inventory  # noqa: E402
from cloud import ACCOUNT, KEYS, PROJECT, REGION, STACK  # noqa: E402
from leap import Leap  # noqa: E402
from temporal_ecs.aws import READING, Aws  # noqa: E402
from temporal_ecs.engine import Engine, Result  # noqa: E402
from temporal_ecs.holder import Holder  # noqa: E402
from temporal_ecs.lock import changing  # noqa: E402
from temporal_ecs.sandbox.front import Call, Front  # noqa: E402
from temporal_ecs.sandbox.server import Server  # noqa: E402
from temporal_ecs.state import State  # noqa: E402

SERVICES = """
    amp autoscaling dsql ec2 ecr ecs iam logs opensearch resourcegroupstaggingapi secretsmanager servicediscovery
    ssm sts
"""
SIDES = ("before", "after", "flight")
POLL = 60.0
"""Seconds between two looks: the time leaps, so this only decides how many calls a long wait is made of."""

STUCK = 120
"""Real seconds after which a child says where it hangs, and ends."""

COMMANDS: dict[str, Callable[[Engine], Result]] = {
    "provision": lambda engine: engine.provision(),
    "teardown": lambda engine: engine.teardown(),
    "destroy": lambda engine: engine.teardown(with_data=True),
}


class Phase(NamedTuple):
    """What is cut, what is run next, and at how many of the calls in `--all`. What removes is cut on a whole stack."""

    cut: str
    then: str
    step: int = 1
    ignored: frozenset[str] = frozenset()  # kinds, or members of a kind, that rightly differ from the run without a cut


MACHINES = ("instances", "interfaces", "auto-scaling-groups.DesiredCapacity", "clusters.container_instances")
PHASES = {
    "provision": Phase("provision", "provision"),
    "teardown": Phase("teardown", "teardown"),
    "destroy": Phase("destroy", "destroy"),
    # Service-linked roles belong to the account and stay, if they were there.
    "abandoned": Phase("provision", "destroy", 4, frozenset({"service-linked-roles"})),
    # ECS never counts a family's revisions from 1 again, and how many instances there are is managed scaling's.
    "revived": Phase("destroy", "provision", 4, frozenset({"revisions", *MACHINES})),
}


class Point(NamedTuple):
    """Where a run is cut: at its n-th call."""

    number: int
    side: str

    def __str__(self) -> str:
        return f"{self.number}:{self.side}"

    @classmethod
    def parse(cls, text: str) -> Point:
        number, _, side = text.partition(":")
        if not number.isdigit() or side not in SIDES:
            raise argparse.ArgumentTypeError(f"{text!r} is not like 123:after (or :{', :'.join(SIDES)})")
        return cls(int(number), side)


# -- one command, as tecs runs it ------------------------------------------------------------------------------


def run(command: str, aws: Aws, clock: Leap, folder: Path) -> Result:
    """Run a command to its end, under both locks; its first error is raised."""
    path = folder / "state.json"
    with changing(aws, path, command) as take:
        state = State(path, project=PROJECT, account=aws.account, region=REGION)
        result = COMMANDS[command](Engine(STACK, state, aws, clock=clock, poll=POLL, before_change=take))
    for error in result.errors.values():
        raise error
    assert result.ok
    return result


def new_aws(endpoint: str, clock: Leap) -> Aws:
    aws = Aws(PROJECT, REGION, endpoint=endpoint, credentials=KEYS, loopback_only=True, clock=clock)
    # An answer may wait behind a queue of children; a client that lost patience would send its request again.
    aws._config = aws._config.merge(ClientConfig(read_timeout=3600))
    return aws


class Account:
    """The sandbox of this process: one that a fork takes along."""

    def __init__(self, clock: Leap) -> None:
        self.clock = clock
        self.server = Server(speed=1, account=ACCOUNT, now=clock.now)

    def start(self, app: Any = None) -> Account:
        if app is not None:
            self.server.front = app
        self.server.start()
        return self

    def run(self, command: str, folder: Path) -> Result:
        return run(command, new_aws(self.server.endpoint, self.clock), self.clock, folder)

    def inventory(self) -> dict[str, Any]:
        return inventory.read(self.server.endpoint, PROJECT, REGION)


# -- the gate: requests go in one at a time, and can be cut -----------------------------------------------------


class Gate:
    """Stands before the sandbox's front door. Knows which requests have come but not been carried out."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.waiting: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    @property
    def calls(self) -> list[Call]:
        return self.front.calls

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        ticket = id(environ)
        self.waiting[ticket] = environ
        with self._lock:  # also keeps other threads out of the sandbox's code while it forks
            del self.waiting[ticket]
            return self.front(environ, start_response)

    def mutation_waits(self) -> bool:
        """Whether what is waiting would change anything."""
        return any(not _reads(environ) for environ in list(self.waiting.values()))

    def carry_out(self) -> None:
        """Do what was waiting, in a child, without an answer to anybody."""
        for environ in list(self.waiting.values()):
            self.front(environ, lambda *_: None)


def _reads(environ: dict[str, Any]) -> bool:
    """Whether a request only looks, by the name of its operation or, where it has none, by its method."""
    stream = environ["wsgi.input"]
    asked = re.search(rb"(?:^|&)Action=(\w+)", stream.getvalue())
    name = asked[1].decode() if asked else environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    return name.startswith(READING) if name else environ["REQUEST_METHOD"] == "GET"


# -- the parent ------------------------------------------------------------------------------------------------


@dataclass
class Matrix:
    """Runs one phase and lets a child go at each chosen point."""

    account: Account
    folder: Path
    results: Path
    jobs: int
    clean: dict[str, Any]
    wanted: Callable[[str, Point, Call], bool]
    phase: str = ""
    active: bool = False
    number: int = 0  # of the call that is being cut
    children: dict[int, tuple[str, Point, str, Path]] = field(default_factory=dict)
    done: list[dict[str, Any]] = field(default_factory=list)
    peak: int = 0  # KiB, of the largest child

    def run(self, phase: str) -> int:
        """Cut one command everywhere; how many calls it made."""
        self.account.server.reset()
        state = self.folder / phase
        if PHASES[phase].cut != "provision":
            self.account.run("provision", state)
        self.phase, self.number, self.active = phase, 0, True
        with held_by_the_dead():
            self.account.run(PHASES[phase].cut, state)
        self.active = False
        while self.children:
            self._reap()
        shutil.rmtree(state)
        return self.number

    def hook(self, side: str) -> Callable[[Call], None]:
        return lambda call: self._at(call, side)

    def _at(self, call: Call, side: str) -> None:
        if not self.active:
            return
        if side == "before":
            self.number += 1
        self._cut(call, side)
        if side == "after" and call.mutating and self.account.server.front.mutation_waits():  # type: ignore[attr-defined]
            self._cut(call, "flight")

    def _cut(self, call: Call, side: str) -> None:
        point = Point(self.number, side)
        if not self.wanted(self.phase, point, call):
            return
        while len(self.children) >= self.jobs:
            self._reap()
        left = Path(tempfile.mkdtemp(prefix=f"{self.phase}-{point.number}-{side}-", dir=self.folder))
        copy_as_it_is(self.folder / self.phase, left)
        pid = os.fork()
        if pid == 0:
            self._child(point, f"{call.service}.{call.operation}", left)
        self.children[pid] = (self.phase, point, f"{call.service}.{call.operation}", left)

    def _child(self, point: Point, called: str, folder: Path) -> None:
        """All that happens in a child; never returns."""
        faulthandler.dump_traceback_later(STUCK, exit=True)
        gc.disable()  # it ends soon, and collecting takes a quarter of its time
        self.active = False
        _renew_locks()
        Holder.this = _LIVING  # type: ignore[method-assign]
        began = time.monotonic()
        why = ""
        try:
            if point.side == "flight":
                self.account.server.front.carry_out()  # type: ignore[attr-defined]
            why = self._mended(folder)
        except BaseException:  # noqa: BLE001  # whatever it is, it is the result
            why = traceback.format_exc()
        self._write(point, called, why, time.monotonic() - began)
        os._exit(0 if not why else 1)

    def _mended(self, folder: Path) -> str:
        """Run the command again, to its end; what is wrong afterwards, or ""."""
        _, then, _, ignored = PHASES[self.phase]
        account = Account(Leap(self.account.clock.now())).start()
        account.run(then, folder)
        changed = account.server.count(mutating=True)
        if wrong := differences(self.clean[then], account.inventory(), ignored):
            return f"{wrong}\nwhat the second run changed: {dict(changed)}"
        if changed := _nothing_left_to_do(account, then, folder):
            return f"a third run would still change something: {changed}"
        return ""

    def _reap(self) -> None:
        pid, status, usage = os.wait4(-1, 0)
        if pid not in self.children:
            return
        phase, point, called, folder = self.children.pop(pid)
        self.peak = max(self.peak, usage.ru_maxrss)
        if os.waitstatus_to_exitcode(status) not in (0, 1):
            why = f"the child ended with {os.waitstatus_to_exitcode(status)}"
            self._write(point, called, why, 0.0)
        elif not os.waitstatus_to_exitcode(status):
            shutil.rmtree(folder, ignore_errors=True)
        self.done.append({"phase": phase, "point": str(point), "ok": status == 0})

    def _write(self, point: Point, called: str, why: str, seconds: float) -> None:
        row = {
            "phase": self.phase,
            "point": str(point),
            "call": called,
            "ok": not why,
            "why": why,
            "seconds": round(seconds, 2),
        }
        append(self.results, row)


def _nothing_left_to_do(account: Account, command: str, folder: Path) -> dict[Any, int]:
    before = account.server.count(mutating=True)
    account.run(command, folder)
    return dict(account.server.count(mutating=True) - before)


def _renew_locks() -> None:
    """Python 3.11's cached properties share a lock that a thread of the parent may hold."""
    for each in _CACHED_PROPERTIES:
        each.lock = threading.RLock()  # type: ignore[attr-defined]


_CACHED_PROPERTIES: list[functools.cached_property[Any]] = []
_LIVING = Holder.this


@contextmanager
def held_by_the_dead() -> Iterator[None]:
    """Have the locks say that they are held by a process that is no more, as they would after a kill."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    Holder.this = staticmethod(lambda operation: replace(_LIVING(operation), pid=dead.pid, born="0"))  # type: ignore
    try:
        yield
    finally:
        Holder.this = _LIVING  # type: ignore[method-assign]


def copy_as_it_is(source: Path, target: Path) -> None:
    """What a killed process leaves in its folder, half-written files and locks too."""
    if not source.exists():
        return
    for path in source.iterdir():
        try:
            (target / path.name).write_bytes(path.read_bytes())
        except FileNotFoundError:  # renamed this very moment, which is as good a moment as any
            continue


def differences(wanted: dict[str, Any], found: dict[str, Any], ignored: frozenset[str] = frozenset()) -> str:
    """How two inventories differ, thing by thing; "" when they are the same."""
    lines = []
    for kind in sorted((wanted.keys() | found.keys()) - ignored):
        a, b = _without(wanted, kind, ignored), _without(found, kind, ignored)
        for name in sorted(a.keys() | b.keys()):
            if name not in b:
                lines.append(f"{kind} {name}: missing")
            elif name not in a:
                lines.append(f"{kind} {name}: too many: {json.dumps(b[name])[:300]}")
            elif a[name] != b[name]:
                lines.append(f"{kind} {name}: {_first_difference(b[name], a[name])}")
    return "\n".join(lines)


def _without(found: dict[str, Any], kind: str, ignored: frozenset[str]) -> dict[str, Any]:
    members = {each.partition(".")[2] for each in ignored if each.startswith(f"{kind}.")}
    things: dict[str, Any] = found.get(kind, {})
    if not members:
        return things
    return {name: {k: v for k, v in thing.items() if k not in members} for name, thing in things.items()}


def _first_difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                return f"{key}: {_first_difference(found.get(key), wanted.get(key))}"
    return f"{json.dumps(found)[:300]}, wanted {json.dumps(wanted)[:300]}"


def clean_run(folder: Path) -> dict[str, Any]:
    """What each command makes of the account when nothing cuts it, and how many calls it takes; in a process of
    its own, so that this one keeps an empty account."""
    out = folder / "clean.json"
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            out.write_text(json.dumps(_clean_run(folder / "clean")))
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the run without a cut failed: see above")
    return dict(json.loads(out.read_text()))


def _clean_run(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"calls": {}}
    for commands in (("provision", "teardown"), ("provision", "destroy")):
        shutil.rmtree(folder, ignore_errors=True)
        account = Account(Leap()).start()
        account.server.reset()
        for command in commands:
            began = len(account.server.calls)
            account.run(command, folder)
            found["calls"][command] = len(account.server.calls) - began
            again = account.inventory()
            assert found.setdefault(command, again) == again, differences(found[command], again)
        account.server.stop()
    left = {kind for kind, things in found["destroy"].items() if things} - {"service-linked-roles"}
    assert not left, f"a teardown that was never cut leaves {left}"
    return found


# -- results ---------------------------------------------------------------------------------------------------


def append(path: Path, row: dict[str, Any]) -> None:
    """One line in one write, so that processes may share the file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, (json.dumps(row) + "\n").encode())
    os.close(handle)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The last word on each point."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list({(row["phase"], row["point"]): row for row in rows}.values())


def version() -> str:
    """A name for the sources as they are now."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests" / f"{name}.py" for name in _HARNESS)]):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


_HARNESS = ("crash", "inventory", "leap", "cloud")


# -- the command line ------------------------------------------------------------------------------------------


def choose(calls: dict[str, int], count: int, seed: int, phases: list[str]) -> set[tuple[str, Point]]:
    """`count` different points. The last few calls are left out: a run may take a few less than another."""
    every = [
        (phase, Point(number, side))
        for phase in phases
        for number in range(1, int(calls[PHASES[phase].cut] * 0.97))
        for side in ("before", "after")
    ]
    return set(random.Random(seed).sample(every, min(count, len(every))))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true", help="every point that has not passed yet")
    what.add_argument("--sample", type=int, metavar="N", help="N points by chance")
    what.add_argument("--point", type=Point.parse, action="append", metavar="N:SIDE", help="just this one")
    parser.add_argument("--seed", type=int, default=None, help="of --sample; the default is another one each time")
    parser.add_argument("--phase", choices=PHASES, action="append", help="default: each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="children at a time")
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("AWS_", "TECS_"))]:
        del os.environ[name]
    phases = options.phase or list(PHASES)
    memory = Path("/dev/shm")  # where the disk would be waited for at each of a state's several hundred writes
    folder = Path(tempfile.mkdtemp(prefix="tecs-crash-", dir=memory if memory.is_dir() else None))
    try:
        return _run(options, phases, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(options: argparse.Namespace, phases: list[str], folder: Path) -> int:
    began = time.monotonic()
    _share_service_models()
    clean = clean_run(folder)
    results = ROOT / ".crash" / f"{version()}.jsonl"
    results.parent.mkdir(exist_ok=True)
    passed = {(row["phase"], row["point"]) for row in read_results(results) if row["ok"]}
    if options.all:
        print(f"calls of a clean run: {clean['calls']}; {len(passed)} points passed before", flush=True)
        chosen = None
    elif options.sample:
        seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
        print(f"seed {seed}: repeat with --sample {options.sample} --seed {seed}", flush=True)
        chosen, passed = choose(clean["calls"], options.sample, seed, phases), set()
    else:
        chosen, passed = {(phase, point) for phase in phases for point in options.point}, set()

    def wanted(phase: str, point: Point, call: Call) -> bool:
        if chosen is not None:
            return (phase, point) in chosen
        due = point.number % PHASES[phase].step == 0 and (point.side == "before" or call.mutating)
        return due and (phase, str(point)) not in passed

    account = Account(Leap())
    matrix = Matrix(account, folder, results, options.jobs, clean, wanted)
    account.server.front.before, account.server.front.after = matrix.hook("before"), matrix.hook("after")
    account.start(Gate(account.server.front))
    gc.collect()
    _CACHED_PROPERTIES.extend(each for each in gc.get_objects() if isinstance(each, functools.cached_property))
    gc.freeze()
    for phase in phases:
        if chosen is None or any(p == phase for p, _ in chosen):
            start, before = time.monotonic(), len(matrix.done)
            calls = matrix.run(phase)
            print(
                f"{phase}: {calls} calls, {len(matrix.done) - before} points in {time.monotonic() - start:.0f} s",
                flush=True,
            )
    return _summary(matrix, results, time.monotonic() - began)


def _summary(matrix: Matrix, results: Path, seconds: float) -> int:
    ran = {(row["phase"], row["point"]) for row in matrix.done}
    failed = [row for row in read_results(results) if not row["ok"] and (row["phase"], row["point"]) in ran]
    for row in failed:
        short = "\n".join(row["why"].strip().splitlines()[-6:])
        print(f"\nFAILED {row['phase']} {row['point']} ({row['call']}): {short[-1500:]}")
        print(f"  again: python -m tests.crash --phase {row['phase']} --point {row['point']}")
    if failed:
        print(f"\nall that is known of them: {results}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{len(ran)} points, {len(failed)} failed, {seconds:.0f} s, "
        f"{own // 1024} MiB here, at most {matrix.peak // 1024} MiB in a child",
        flush=True,
    )
    return 1 if failed or not ran else 0


def _share_service_models() -> None:
    """Read botocore's and moto's service models once, and let every child inherit them: half a second for each."""
    read = JSONFileLoader.load_file
    shared = functools.cache(lambda path: read(JSONFileLoader(), path))
    JSONFileLoader.load_file = lambda _, path: shared(path)  # type: ignore[method-assign]
    listed = functools.cache(Loader().list_available_services)
    Loader.list_available_services = lambda _, type_name: listed(type_name)  # type: ignore[method-assign]
    aws = new_aws("http://127.0.0.1:1", Leap())
    for service in SERVICES.split():
        getattr(aws, service)
        get_service_router(service)


if __name__ == "__main__":
    sys.exit(main())
