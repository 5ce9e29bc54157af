"""tecs against an emulator that is not its own: a plain moto server, reached by its endpoint alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import Project

GROUPS = ("network", "logs", "secrets")


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """A moto server in a process of its own, as anybody would start it."""
    log = tmp_path / "moto.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        while not (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            assert server.poll() is None, log.read_text()
        yield found[1]
    finally:
        server.terminate()
        server.wait(10)


def test_network_logs_and_secrets_provision_and_reach_a_no_op(endpoint: str, tmp_path: Path):
    project = Project(endpoint, tmp_path)
    names = [name for group in GROUPS for name in project.stack.groups()[group]]
    made = project.provision(*names)
    assert made.count("created") >= len(names)
    before = project.aws.mutations
    assert project.plan(*names) == {}
    assert set(project.provision(*names).outcomes.values()) == {"same"}
    assert project.aws.mutations == before
    assert set(project.teardown(with_data=True).outcomes.values()) <= {"gone", "kept"}
    assert project.state.names() == []
