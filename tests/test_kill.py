"""kill -9, at random moments, of a real process; then the same command again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import inventory
from cloud import PROJECT, REGION
from console import Console
from crash import differences
from temporal_ecs.sandbox.server import Server

PROVISION = ("provision", "--yes")
DESTROY = ("teardown", "--yes", "--with-data", "--confirm", PROJECT)
KEPT_BY_AWS = frozenset({"revisions"})  # ECS never counts a family's revisions from 1 again


@pytest.mark.timeout(180)
def test_a_command_that_is_killed_again_and_again_ends_right(sandbox: Server, tmp_path: Path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sandbox.reset()
    tecs = Console(sandbox, tmp_path)
    found = {}
    for command in (PROVISION, DESTROY):
        killed = [tecs(*command, killed_at=chance.randrange(15, 120)).status for _ in range(3)]
        assert killed == [-9, -9, -9], killed
        done = tecs(*command)
        assert done.status == 0, done.err
        assert "took over the lock of a dead process" in done.err
        assert not tecs.lock_file.read_text()
        found[command] = inventory.read(sandbox.endpoint, PROJECT, REGION)
    for command in (PROVISION, DESTROY):
        assert tecs(*command).status == 0
        unbroken = inventory.read(sandbox.endpoint, PROJECT, REGION)
        assert not differences(unbroken, found[command], KEPT_BY_AWS)
    left = {kind for kind, things in unbroken.items() if things}
    assert left <= {"service-linked-roles", "revisions"}, f"left: {left}"
