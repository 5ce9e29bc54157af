"""What `tecs output` can tell of a recorded stack."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import ACCOUNT, PROJECT, REGION
from temporal_ecs import config
from temporal_ecs.outputs import outputs
from temporal_ecs.services import SERVICES
from temporal_ecs.stack import load
from temporal_ecs.state import State

CONFIG = config.load(None)
NAMES = list(load(CONFIG))
TOLD = {
    *("arn", "uri", "cidr", "address", "endpoint", "domain_id"),
    *("namespace_name", "remote_write", "query", "family", "service_name"),
}


def record(name: str, **changes: Any) -> dict[str, Any]:
    told = {key: f"{name}.{key}" for key in TOLD}
    return {"kind": "Vpc", "id": f"{name}-1", "status": "ready", "spec": {}, "outputs": told, "needs": []} | changes


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.json", project=PROJECT, account=ACCOUNT, region=REGION)


@pytest.fixture
def whole(state: State) -> State:
    """A state in which everything is ready."""
    for name in NAMES:
        state.put(name, record(name))
    return state


def test_of_a_whole_stack_every_output_is_known(whole):
    assert [name for name, value in outputs(CONFIG, whole).items() if value in (None, "", [])] == []


def test_without_a_stack_only_the_settings_are_known(state):
    known = {name: value for name, value in outputs(CONFIG, state).items() if value is not None}
    assert known == {
        "account": ACCOUNT,
        "region": REGION,
        "project": PROJECT,
        "private_subnet_cidrs": ["10.0.0.0/20", "10.0.16.0/20"],
        "opensearch_visibility_index": "temporal_visibility_v1_dev",
    }


@given(st.data())
@settings(max_examples=20)
def test_of_any_part_of_a_stack_the_same_names_are_told_and_no_half_values(data):
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder) / "state.json", project=PROJECT, account=ACCOUNT, region=REGION)
        nothing = outputs(CONFIG, state)
        for name in data.draw(st.sets(st.sampled_from(NAMES), max_size=20)):
            state.put(name, record(name))
        told = outputs(CONFIG, state)
        assert told.keys() == nothing.keys()
        assert "None" not in str([value for value in told.values() if value is not None])


def test_what_is_not_ready_is_not_told(whole):
    for status in ("creating", "deleting"):
        whole.put("vpc", record("vpc", status=status))
        assert outputs(CONFIG, whole)["vpc_id"] is None


def test_a_list_is_told_whole_or_not_at_all(whole):
    assert outputs(CONFIG, whole)["private_subnet_ids"] == ["private-0-1", "private-1-1"]
    whole.drop("private-1")
    assert outputs(CONFIG, whole)["private_subnet_ids"] is None


def test_an_existing_database_is_told_as_it_was_configured(whole, tmp_path):
    arn, endpoint = f"arn:aws:dsql:{REGION}:{ACCOUNT}:cluster/abc", f"abc.dsql.{REGION}.on.aws"
    file = tmp_path / "tecs.toml"
    file.write_text(f'[dsql]\narn = "{arn}"\nendpoint = "{endpoint}"\n')
    told = outputs(config.load(file), whole)
    assert (told["dsql_cluster_arn"], told["dsql_endpoint"]) == (arn, endpoint)


def test_every_command_is_one_that_a_shell_understands(whole):
    commands = {name: value for name, value in outputs(CONFIG, whole).items() if name.endswith("_command")}
    assert len(commands) == len(SERVICES) + 2 + 3, "into every service, to two pages, two tasks and what one said"
    for name, command in commands.items():
        assert subprocess.run(["bash", "-n", "-c", command], capture_output=True).stderr == b"", name
        assert f"--region {REGION}" in command
        assert shlex.split(command)
        assert "None" not in command


def test_commands_name_the_right_container_and_port(whole):
    told = outputs(CONFIG, whole)
    assert "--container adot-collector " in told["adot_ecs_exec_command"]
    assert "--container temporal-history " in told["temporal_history_ecs_exec_command"]
    assert "'portNumber=8080,localPortNumber=8080'" in told["temporal_ui_port_forward_command"]
    assert "'portNumber=3000,localPortNumber=3000'" in told["grafana_port_forward_command"]
    assert "subnets=[private-0-1,private-1-1],securityGroups=[benchmark-sg-1]" in told["benchmark_run_command"]
    assert "--launch-type FARGATE" in told["opensearch_setup_command"]
