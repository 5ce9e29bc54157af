"""Figures, measured side by side where they are ratios: `make bench`.

Terraform's figures come from the same stack on the same emulator: 550 calls for the first apply, 256 calls and 6.2
to 6.9 s for a plan that never becomes a no-op. It is not installed here.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import simulation
from databases import SHARDS, Place, Shifted, run
from temporal_ecs.dsql import membership, schema
from temporal_ecs.sandbox.dsql import Limits, StandIn

ROOT = Path(__file__).parent.parent
TECS = str(Path(sys.executable).with_name("tecs"))
TERRAFORM_PLAN = (6.2, 6.9)
ROUNDS = 11


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TECS_"))}


def timed(command: list[str], folder: Path | None = None) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment())
    return time.perf_counter() - start


def side_by_side(mine: list[str], other: list[str]) -> tuple[float, float, float]:
    """Medians of both, and of the ratio pair by pair; the first pair warms up."""
    pairs = [(timed(mine), timed(other)) for _ in range(ROUNDS + 1)][1:]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def awscli() -> str:
    """The AWS CLI in a virtual environment of its own."""
    folder = ROOT / ".bench" / "awscli"
    tool = folder / "bin" / "aws"
    if not tool.exists():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "awscli"]
        subprocess.run(pip, check=True)
    return str(tool)


@contextmanager
def sandbox(folder: Path) -> Iterator[None]:
    timed([TECS, "sandbox", "start", "--speed", "1000000", "--hours", "0.5"], folder)
    try:
        yield
    finally:
        timed([TECS, "sandbox", "stop"], folder)


def calls(folder: Path, *words: str) -> tuple[int, float]:
    """AWS calls and seconds of one command."""
    log = folder / "calls.jsonl"
    log.unlink(missing_ok=True)
    took = timed([TECS, "--sandbox", "--api-log", str(log), *words], folder)
    return len(log.read_text(encoding="utf-8").splitlines()), took


MEMBERS = 10_000
INSERT = """
INSERT INTO cluster_membership
SELECT 0, CAST(lpad(CAST(n AS TEXT), 32, '0') AS UUID), '10.0.10.5', 6934, 2, now(), now(), now() + INTERVAL '48 hours'
FROM generate_series(CAST(%s AS INT), CAST(%s AS INT)) AS n
"""


def database() -> None:
    """How long the schema takes from nothing, and reading many rows of the ring beside psycopg alone."""
    with StandIn(limits=Limits(index_seconds=0.02)) as standin:
        place = Place(standin, Shifted())
        made = place.database()
        start = time.perf_counter()
        statements = schema.setup(made, shards=SHARDS, poll=0.01)
        print(f"schema setup: {statements} statements in {time.perf_counter() - start:.2f} s on the stand-in")
        for first in range(0, MEMBERS, 2500):
            run(made, INSERT, first + 1, first + 2500)

        def seconds(read: Callable[[], object]) -> float:
            start = time.perf_counter()
            read()
            return time.perf_counter() - start

        pairs = [
            (seconds(lambda: membership.read(made)), seconds(lambda: made.rows("SELECT * FROM cluster_membership")))
            for _ in range(ROUNDS)
        ]
        mine, ratio = statistics.median(a for a, _ in pairs), statistics.median(a / b for a, b in pairs)
        print(f"{MEMBERS} membership rows read in {mine:.2f} s, {ratio:.1f} times as long as one plain SELECT")
        place.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, figure in zip(("provision", "teardown"), simulation.run(folder), strict=True):
            print(f"simulated {what}: {figure.makespan:.0f} s, critical path {figure.critical_path:.0f} s, "
                  f"ratio {figure.ratio:.3f} (at most 1.05)")  # fmt: skip
        with sandbox(folder):
            first, took = calls(folder, "provision", "--yes")
            print(f"first provision: {first} AWS calls in {took:.1f} s (at most 400 calls; Terraform 550)")
            plans = [calls(folder, "plan", "--check") for _ in range(5)]
            median = statistics.median(took for _, took in plans)
            low, high = TERRAFORM_PLAN
            print(f"no-op plan: {plans[0][0]} AWS calls (at most 70; Terraform 256), whole process {median:.2f} s, "
                  f"1/{low / median:.1f} to 1/{high / median:.1f} of Terraform's (aim 1/5)")  # fmt: skip
            again, took = calls(folder, "provision", "--yes")
            print(f"second provision: {again} AWS calls in {took:.2f} s")
    database()
    mine, other, ratio = side_by_side([TECS, "--help"], [awscli(), "--version"])
    print(f"tecs --help {mine * 1000:.0f} ms, aws --version {other * 1000:.0f} ms: ratio {ratio:.2f} (at most 0.33)")


if __name__ == "__main__":
    main()
