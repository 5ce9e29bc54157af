"""Events and answers to something people read: rich on a terminal, plain lines elsewhere, JSON on request."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, Protocol

from .engine import Change
from .services import (
    DSQL_CONNECTION_BURST,
    DSQL_CONNECTIONS,
    DSQL_CONNECTIONS_PER_SECOND,
    connection_limits,
    connections_used,
)
from .walk import Event, Result

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "replace": ("±", "yellow"),
    "adopt": ("±", "cyan"),
    "pending": ("…", "cyan"),
    "blocked": ("!", "red"),
    "delete": ("-", "red"),
}
DOING = {
    "create": "creating",
    "update": "changing",
    "replace": "replacing",
    "adopt": "adopting",
    "delete": "deleting",
}
DONE = frozenset({"created", "updated", "replaced", "adopted", "gone", "kept", "failed", "skipped"})
QUIET = frozenset({"same", "found", "absent", "create", "update", "replace", "adopt", "delete", "wait", "interrupted"})
HEARTBEAT = 10.0
"""Seconds between the signs of life of a run without a terminal."""


def duration(seconds: float) -> str:
    """1.2s, 45s, 3m05s, 1h02m."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def band(typical: tuple[float, float] | None) -> str:
    """How long something usually takes."""
    if typical is None:
        return ""
    low, high = typical
    if high < 90:
        return f"typically {low:.0f} to {high:.0f} s"
    return f"typically {low / 60:.0f} to {high / 60:.0f} min" if low >= 60 else f"typically up to {high / 60:.0f} min"


class _Doing:
    """What is under way, from the events."""

    def __init__(self, total: int) -> None:
        self.total, self.ended = total, 0
        self.since: dict[str, float] = {}
        self.detail: dict[str, str] = {}
        self.typical: dict[str, tuple[float, float] | None] = {}
        self.phase: dict[str, str] = {}
        self.mutex = threading.Lock()

    def hear(self, event: Event) -> None:
        with self.mutex:
            name = event.resource
            if event.phase in DONE or event.phase in ("same", "found", "absent"):
                self.ended += 1
                for known in (self.since, self.detail, self.typical, self.phase):
                    known.pop(name, None)
            elif event.phase == "wait":
                self.detail[name] = event.detail or "waiting for AWS"
                self.typical[name] = event.typical
                begun = time.monotonic() - event.seconds
                self.since[name] = min(begun, self.since.get(name, begun))
            elif event.phase in DOING:
                self.phase[name] = DOING[event.phase]
                self.since.setdefault(name, time.monotonic())

    def rows(self) -> list[tuple[str, str, float, str]]:
        """name, what, seconds, remark: the longest first."""
        with self.mutex:
            now = time.monotonic()
            return sorted(
                (
                    (n, self.detail.get(n) or self.phase.get(n, ""), now - since, band(self.typical.get(n)))
                    for n, since in self.since.items()
                ),
                key=lambda row: -row[2],
            )


class Reporter(Protocol):
    """Hears events, from any thread."""

    def __call__(self, event: Event) -> None: ...


class Plain:
    """A line for each thing that ended, and a sign of life while something takes long."""

    def __init__(self, total: int, out: IO[str]) -> None:
        self._doing, self._out = _Doing(total), out
        self._spoke = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __call__(self, event: Event) -> None:
        self._doing.hear(event)
        if event.phase not in QUIET:
            counted = f"[{self._doing.ended}/{self._doing.total}]" if self._doing.total else ""
            took = f" ({duration(event.seconds)})" if event.seconds >= 1 else ""
            detail = f": {event.detail}" if event.detail else ""
            self._say(f"{counted} {event.resource} {event.phase}{took}{detail}".strip())
        elif event.phase == "interrupted":
            self._say("interrupted: the running calls are being finished and recorded; once more to stop at once")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(time.strftime("%H:%M:%S"), text, file=self._out, flush=True)

    def _beat(self) -> None:
        while not self._stop.wait(1):
            if time.monotonic() - self._spoke >= HEARTBEAT:
                rows = self._doing.rows()
                shown = ", ".join(
                    f"{name} {duration(seconds)}" + (f" ({remark})" if (remark := typical or what) else "")
                    for name, what, seconds, typical in rows[:4]
                )
                more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
                if shown:
                    self._say(f"[{self._doing.ended}/{self._doing.total}] still at {shown}{more}")

    def __enter__(self) -> Plain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()


class Rich:
    """Lines for what ended, above a live table of what is being made or waited for."""

    ROWS = 12

    def __init__(self, total: int, console: Console) -> None:
        from rich.live import Live

        self._doing, self._console = _Doing(total), console
        self._begun = time.monotonic()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __call__(self, event: Event) -> None:
        from rich.text import Text

        self._doing.hear(event)
        if event.phase in QUIET and event.phase != "interrupted":
            return
        if event.phase == "interrupted":
            self._console.print(
                Text(
                    "Interrupted: finishing and recording the running calls; once more to stop at once.",
                    "yellow",
                )
            )
            return
        bad = event.phase == "failed"
        style = "red" if bad else "dim" if event.phase in ("skipped", "kept") else "green"
        sign = {"failed": "✗", "skipped": "·", "kept": "·"}.get(event.phase, "✓")
        line = Text.assemble((f"{sign} ", style), (event.resource, "bold" if bad else ""), " ", (event.phase, style))
        if event.seconds >= 1:
            line.append(f"  {duration(event.seconds)}", "dim")
        if event.detail:
            line.append(f"  {event.detail}", "red" if bad else "dim")
        self._console.print(line)

    def _render(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = self._doing.rows()
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(1, self._doing.total), completed=self._doing.ended, width=30),
            Text(f"{self._doing.ended} of {self._doing.total}"),
            Text(duration(time.monotonic() - self._begun), "dim"),
        )
        table = Table.grid(padding=(0, 2))
        for name, what, seconds, remark in rows[: self.ROWS]:
            table.add_row(Text(f"  {name}", "cyan"), Text(what[:70]), Text(duration(seconds)), Text(remark, "dim"))
        if len(rows) > self.ROWS:
            table.add_row(Text(f"  and {len(rows) - self.ROWS} more", "dim"))
        whole = Table.grid()
        whole.add_row(head)
        whole.add_row(table)
        return whole

    def __enter__(self) -> Rich:
        self._live.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self._live.__exit__(*args)


class Talk:
    """What commands say. Data goes to stdout, everything else to stderr."""

    def __init__(self, output: str = "auto") -> None:
        """`output` is auto, rich, plain or json; auto is rich on a terminal and plain elsewhere."""
        self.json = output == "json"
        self.rich = output == "rich" or (output == "auto" and sys.stderr.isatty())

    def data(self, value: Any) -> None:
        """The one JSON document of this command."""
        print(json.dumps(value, indent=2, sort_keys=True, default=str))

    def say(self, text: str = "", style: str = "") -> None:
        """A line of talk, coloured where colour shows."""
        self._print(text, style, sys.stderr)

    def show(self, text: str = "", style: str = "") -> None:
        """A line of the answer itself."""
        self._print(text, style, sys.stdout)

    def _print(self, text: str, style: str, stream: IO[str]) -> None:
        if style and self.rich and stream.isatty():
            from rich.text import Text

            self._console(stream).print(Text(text, style), soft_wrap=True)
        else:
            print(text, file=stream, flush=True)

    def _console(self, stream: IO[str]) -> Console:
        from rich.console import Console

        return Console(file=stream, highlight=False, force_terminal=True if stream.isatty() else None)

    def table(self, rows: Iterable[tuple[Any, ...]], head: tuple[str, ...] = ()) -> None:
        """Columns as wide as they need to be; the same with and without a terminal."""
        lines = [tuple(map(str, row)) for row in ([head] if head else [])] + [tuple(map(str, row)) for row in rows]
        widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))] if lines else []
        for number, row in enumerate(lines):
            text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.show(text, "bold" if head and number == 0 else "")

    @contextmanager
    def progress(self, total: int) -> Iterator[Reporter]:
        """A reporter for one walk over `total` resources."""
        reporter: Plain | Rich = (
            Rich(total, self._console(sys.stderr)) if self.rich and not self.json else Plain(total, sys.stderr)
        )
        with reporter:
            yield reporter


# -- plans ---------------------------------------------------------------------------------------------------


def show_plan(
    talk: Talk,
    changes: list[Change],
    groups: Mapping[str, Iterable[str]],
    say: Callable[[str, str], None] | None = None,
) -> None:
    """What would be made, by group; everything else that would change, by field; notes; the count.

    It is the answer to `plan`; before a question it is talk, and goes where `say` says it.
    """
    show = say or talk.show
    new = {change.resource for change in changes if change.action == "create"}
    for group, names in groups.items():
        if made := [name for name in names if name in new]:
            show(f"+ {group}: create {', '.join(made)}", SIGNS["create"][1])
    for change in changes:
        if change.action in ("same", "create"):
            continue
        sign, style = SIGNS[change.action]
        reason = change.reason
        if change.action == "delete":
            reason = f"no longer declared; remove it with `tecs teardown {change.resource}`"
        show(f"{sign} {change.resource}: {change.action}" + (f": {reason}" if reason else ""), style)
        if change.action != "blocked":
            for name, (old, new_value) in sorted(change.fields.items()):
                show(f"    {name}: {_short(old)} -> {_short(new_value)}", "")
    for change in changes:
        if change.note:
            show(f"  note: {change.resource}: {change.note}", "dim")
    show(summary(changes), "")


def show_doomed(
    talk: Talk, doomed: Iterable[str], groups: Mapping[str, Iterable[str]], stays: Mapping[str, str]
) -> None:
    """What a teardown removes, by group, and what stays, with the reason."""
    gone = set(doomed)
    for group, names in groups.items():
        if going := [name for name in names if name in gone]:
            talk.say(f"- {group}: {', '.join(going)}", SIGNS["delete"][1])
    for name, why in stays.items():
        talk.say(f"· {name} stays: {why}", "dim")
    talk.say(f"{len(gone)} resources to remove, {len(stays)} stay")


def summary(changes: list[Change]) -> str:
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.action] = counts.get(change.action, 0) + 1
    same = counts.pop("same", 0)
    if not counts:
        return f"Nothing to do: all {same} resources are as declared."
    names = {"pending": "in transition", "blocked": "blocked", "delete": "no longer declared"}
    parts = [f"{n} {names.get(action, f'to {action}')}" for action, n in counts.items()]
    return f"{len(changes)} resources: {', '.join(parts)}, {same} as declared."


def plan_data(changes: list[Change]) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "changes": [
            {
                "resource": c.resource,
                "action": c.action,
                "fields": {k: {"is": old, "wanted": new} for k, (old, new) in c.fields.items()},
                "reason": c.reason,
                "note": c.note,
            }
            for c in changes
        ],
        "changed": any(c.action != "same" for c in changes),
    }


def connections_data(counts: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, Any]:
    """DSQL's connection budget, divided among the services, as JSON."""
    limits = connection_limits(counts, sizes)
    return {
        "services": {name: asdict(limit) | {"tasks": counts.get(name, 0)} for name, limit in limits.items()},
        "most": connections_used(counts, limits)._asdict(),
    }


def connections_line(counts: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    """DSQL's connection budget in one line: new connections a second, at once, and open."""
    limits = connection_limits(counts, sizes)
    used = connections_used(counts, limits)
    shares = ", ".join(f"{name} {counts.get(name, 0)} x {limit.rate}/s" for name, limit in limits.items())
    most = (
        f"{used.rate} of {DSQL_CONNECTIONS_PER_SECOND}/s, {used.burst:,} of {DSQL_CONNECTION_BURST:,} at once, "
        f"{used.open:,} of {DSQL_CONNECTIONS:,} open"
    )
    over = used.rate > DSQL_CONNECTIONS_PER_SECOND
    return f"DSQL connections: {shares}; while one is deployed {most}" + (": too many tasks for one cluster" * over)


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= 100 else text[:97] + "..."


# -- results -------------------------------------------------------------------------------------------------


def show_result(talk: Talk, result: Result, explained: Mapping[str, tuple[str, str]]) -> None:
    """What changed, how long it took and the longest path; the causes of failures, not their echoes."""
    for name, (message, hint) in explained.items():
        talk.say(f"✗ {name}: {message}" if not message.startswith(name) else f"✗ {message}", "red")
        if hint:
            talk.say(f"  {hint}")
    order = ("created", "updated", "replaced", "adopted", "gone", "kept", "same", "found")
    words = {"same": "unchanged", "gone": "removed"}
    parts = [f"{result.count(o)} {words.get(o, o)}" for o in order if result.count(o)]
    parts += [f"{result.count(o)} {o}" for o in ("failed", "skipped", "interrupted") if result.count(o)]
    talk.say(f"{', '.join(parts) or 'nothing to do'} in {duration(result.seconds)}", "" if result.ok else "yellow")
    slow = [name for name in result.longest if result.took.get(name, 0) >= 0.05 * max(result.seconds, 1)]
    if slow:
        path = " → ".join(f"{name} {duration(result.took[name])}" for name in slow)
        talk.say(f"longest path: {path}", "dim")


def result_data(result: Result, explained: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """A result as JSON."""
    return {
        "ok": result.ok,
        "seconds": round(result.seconds, 3),
        "outcomes": result.outcomes,
        "errors": {name: {"message": message, "hint": hint} for name, (message, hint) in explained.items()},
        "longest": [{"resource": n, "seconds": round(result.took.get(n, 0), 3)} for n in result.longest],
    }
