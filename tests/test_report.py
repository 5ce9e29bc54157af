"""What people read while something runs, and after it."""

from __future__ import annotations

import io
import json
import re
import time

import pytest
from rich.console import Console

from temporal_ecs import report
from temporal_ecs.engine import Change
from temporal_ecs.report import Plain, Rich, Talk, band, duration
from temporal_ecs.walk import Event, Result

STORY = [
    Event("vpc", "create"),
    Event("vpc", "wait", "", 0.2),
    Event("vpc", "created", "", 1.4),
    Event("opensearch", "create"),
    Event("opensearch", "wait", "creating", 65, (900, 2700)),
    Event("nat", "create"),
    Event("logs", "same"),
    Event("grafana-logs", "failed", "grafana-logs is blocked: it exists and is not ours"),
    Event("grafana-task", "skipped", "waits for grafana-logs"),
]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (9.94, "9.9s"), (45, "45s"), (59.6, "1m00s"), (185, "3m05s"), (3725, "1h02m")]
)
def test_durations_are_short(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("typical", "text"),
    [
        (None, ""),
        ((5, 60), "typically 5 to 60 s"),
        ((30, 120), "typically up to 2 min"),
        ((900, 2700), "typically 15 to 45 min"),
    ],
)
def test_bands_are_said_as_people_say_them(typical: tuple[float, float] | None, text: str):
    assert band(typical) == text


def test_without_a_terminal_each_end_is_a_line():
    out = io.StringIO()
    with Plain(118, out) as hear:
        for event in STORY:
            hear(event)
        hear(Event("", "interrupted"))
    assert re.sub(r"^\d\d:\d\d:\d\d ", "", out.getvalue(), flags=re.MULTILINE) == (
        "[1/118] vpc created (1.4s)\n"
        "[3/118] grafana-logs failed: grafana-logs is blocked: it exists and is not ours\n"
        "[4/118] grafana-task skipped: waits for grafana-logs\n"
        "interrupted: the running calls are being finished and recorded; once more to stop at once\n"
    )


def test_without_a_terminal_a_long_wait_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "HEARTBEAT", 0.0)
    out = io.StringIO()
    with Plain(118, out) as hear:
        for event in STORY[:6]:
            hear(event)
        deadline = time.monotonic() + 10
        while "still at" not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert re.search(r"\[1/118\] still at opensearch 1m0\ds \(typically 15 to 45 min\), nat \d", out.getvalue())


def test_on_a_terminal_what_runs_is_a_table_with_elapsed_and_typical_time():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    with Rich(118, console) as hear:
        for event in STORY:
            hear(event)
        console.print(hear._render())
        hear(Event("", "interrupted"))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", out.getvalue())
    assert "✓ vpc created  1.4s" in text
    assert "✗ grafana-logs failed  grafana-logs is blocked: it exists and is not ours" in text
    assert "· grafana-task skipped  waits for grafana-logs" in text
    assert "4 of 118" in text
    assert re.search(r"opensearch +creating +1m05s +typically 15 to 45 min", text)
    assert "Interrupted" in text


def test_a_long_table_is_cut_with_a_count():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    hear = Rich(118, console)
    for number in range(20):
        hear(Event(f"thing-{number}", "create"))
    console.print(hear._render())
    assert "and 8 more" in console.file.getvalue()


def test_a_plan_shows_makings_by_group_and_changes_by_field(capsys: pytest.CaptureFixture[str]):
    changes = [
        Change("vpc", "create"),
        Change("nat", "create"),
        Change("cluster", "update", {"insights": ("disabled", "enabled")}, note="looked at again after vpc"),
        Change("history-task", "replace", {"cpu": (1024, 2048)}),
        Change("role", "blocked", {"x": (1, 2)}, "exists and is not ours"),
        Change("domain", "pending", reason="modifying"),
        Change("ui-logs", "adopt", reason="x exists and is not ours"),
        Change("grafana-logs", "same"),
        Change("old-logs", "delete"),
    ]
    report.show_plan(Talk("plain"), changes, {"network": ["vpc", "nat"], "logs": ["grafana-logs"]})
    assert capsys.readouterr().out == (
        "+ network: create vpc, nat\n"
        "~ cluster: update\n"
        '    insights: "disabled" -> "enabled"\n'
        "± history-task: replace\n"
        "    cpu: 1024 -> 2048\n"
        "! role: blocked: exists and is not ours\n"
        "… domain: pending: modifying\n"
        "± ui-logs: adopt: x exists and is not ours\n"
        "- old-logs: delete: no longer declared; remove it with `tecs teardown old-logs`\n"
        "  note: cluster: looked at again after vpc\n"
        "9 resources: 2 to create, 1 to update, 1 to replace, 1 blocked, 1 in transition, 1 to adopt, "
        "1 no longer declared, 1 as declared.\n"
    )
    assert report.plan_data(changes)["changed"]
    assert not report.plan_data(changes[7:8])["changed"]


def test_long_values_are_cut_in_a_plan(capsys: pytest.CaptureFixture[str]):
    report.show_plan(Talk("plain"), [Change("x", "update", {"body": ("a" * 300, "b")})], {})
    line = capsys.readouterr().out.splitlines()[1]
    assert len(line) < 130
    assert "..." in line


def test_a_result_says_causes_counts_and_the_longest_path(capsys: pytest.CaptureFixture[str]):
    result = Result(
        outcomes={"vpc": "created", "nat": "created", "x": "failed", "y": "skipped", "z": "same"},
        errors={"x": ValueError("boom")},
        took={"vpc": 1.0, "nat": 90.0, "z": 0.01},
        longest=["z", "vpc", "nat"],
        seconds=91,
    )
    report.show_result(Talk("plain"), result, {"x": ("boom", "Do this."), "w": ("w is wrong", "")})
    assert capsys.readouterr().err == (
        "✗ x: boom\n"
        "  Do this.\n"
        "✗ w is wrong\n"
        "2 created, 1 unchanged, 1 failed, 1 skipped in 1m31s\n"
        "longest path: nat 1m30s\n"
    )
    data = report.result_data(result, {"x": ("boom", "Do this.")})
    assert json.loads(json.dumps(data))["errors"]["x"] == {"message": "boom", "hint": "Do this."}
    assert data["ok"] is False


def test_colour_is_for_terminals_and_no_color_is_honoured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    Talk("rich").say("hello", "red")
    assert capsys.readouterr().err == "hello\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for no_color, colours in (("", True), ("1", False)):
        terminal = Terminal()
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setattr("sys.stderr", terminal)
        Talk("auto").say("hello", "red")
        assert ("\x1b[31m" in terminal.getvalue()) is colours
