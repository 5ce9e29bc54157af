"""Provisioning takes little more than AWS's own delays make unavoidable."""

from __future__ import annotations

from pathlib import Path

import simulation


def test_the_makespan_is_within_five_percent_of_the_critical_path(tmp_path: Path):
    provision, teardown = simulation.run(tmp_path)
    assert provision.critical_path >= 1200  # the domain's 20 minutes
    assert teardown.critical_path >= 900
    assert provision.ratio <= 1.05
    assert teardown.ratio <= 1.05
