"""The crash matrix at points taken by chance, others in each run. The whole of it: `make crash`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(175)
def test_a_run_that_is_cut_at_any_call_is_mended_by_the_next_one():
    command = [sys.executable, "-m", "tests.crash", "--sample", "44"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    ran, failed = map(int, re.findall(r"(\d+) points, (\d+) failed", done.stdout)[-1])
    assert failed == 0
    assert ran >= 40
