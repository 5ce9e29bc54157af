"""Scaling on a cluster that lives: hosts, tasks, and members that write their rows and join each other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud import PROJECT, client
from databases import Place
from temporal_ecs.ops import fleet
from temporal_ecs.ops.scale import Scaler, steps
from temporal_ecs.sandbox.ring import Gossip, Times, processes
from temporal_ecs.sandbox.server import Server
from temporal_ecs.sandbox.world import WORLD, idle
from test_cli import Operator, tecs

__all__ = ["tecs"]

CLUSTER = f"{PROJECT}-cluster"
QUICK = Times(heartbeat=(0.3, 0.5), fresh=1.0, pause=0.3)
COUNTS = {"history": 4, "matching": 3, "frontend": 2, "worker": 2, "ui": 1, "grafana": 1, "adot": 1}


class Cluster:
    """The default stack in the sandbox, with a ring, and an operator before it."""

    def __init__(self, tecs: Operator, place: Place, gossip: Gossip) -> None:
        self.tecs, self.place, self.gossip = tecs, place, gossip
        self.ecs: Any = client(tecs.server.endpoint, "ecs")

    def services(self) -> dict[str, dict[str, Any]]:
        names = [f"{PROJECT}-{title}" for title in fleet.GROUPS]
        rows = self.ecs.describe_services(cluster=CLUSTER, services=names)["services"]
        return {fleet.GROUPS[row["serviceName"].removeprefix(f"{PROJECT}-")]: row for row in rows}

    def running(self) -> dict[str, int]:
        return {name: row["runningCount"] for name, row in self.services().items()}

    def tasks(self, service: str) -> list[dict[str, Any]]:
        name = next(title for title, known in fleet.GROUPS.items() if known == service)
        arns = self.ecs.list_tasks(cluster=CLUSTER, serviceName=f"{PROJECT}-{name}")["taskArns"]
        return self.ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []

    def until(self, done: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "it never came to that"
            time.sleep(0.05)


@pytest.fixture
def cluster(tecs: Operator, place: Place, sandbox: Server) -> Iterator[Cluster]:
    arn = f"arn:aws:dsql:eu-west-1:123456789012:cluster/{place.host.partition('.')[0]}"
    Path("tecs.toml").write_text(
        f'[dsql]\nendpoint = "{place.host}"\narn = "{arn}"\n'
        '[images]\ntemporal = "temporalio/server:1.29.0"\ngrafana = "grafana/grafana:11.0.0"\n'
    )
    address = {"HOSTADDR": place.standin.hostaddr, "PORT": str(place.standin.port), "CA": str(place.standin.ca_file)}
    for name, value in address.items():
        tecs.monkeypatch.setenv(f"TECS_DSQL_{name}", value)
    gossip = Gossip(QUICK)
    WORLD.processes = processes(gossip, place.standin)
    made = Cluster(tecs, place, gossip)
    assert tecs("provision", "-y").status == 0
    made.until(lambda: len(made.ecs.list_container_instances(cluster=CLUSTER)["containerInstanceArns"]) == 6)
    yield made
    WORLD.processes = idle
    gossip.stop()


@pytest.fixture
def ready(cluster: Cluster) -> Cluster:
    assert cluster.tecs("schema", "setup", "-y").status == 0
    return cluster


def started(server: Server) -> list[str]:
    """Services in the order in which they were scaled."""
    calls = [c for c in server.calls if c.operation == "UpdateService"]
    return [fleet.GROUPS[c.params["service"].removeprefix(f"{PROJECT}-")] for c in calls]


def test_up_starts_all_in_order_and_the_ring_is_whole(ready: Cluster):
    up = ready.tecs("scale", "up", "-y")
    assert up.status == 0, up.err
    assert started(ready.tecs.server) == list(COUNTS)
    assert ready.running() == COUNTS
    assert [len(ring) for ring in ready.gossip.rings()] == [11]
    shown = json.loads(ready.tecs("membership", "-o", "json").out)
    assert {row["verdict"] for row in shown["members"]} == {"live"}
    assert shown["tasks_without_row"] == []
    assert ready.tecs("plan", "--check").status == 0
    assert "clean-membership --all" not in up.err
    refused = ready.tecs("clean-membership", "--all", "-y")
    assert refused.status == 1
    assert "Temporal is not stopped: history: 4 running" in refused.err

    changes = ready.tecs.changes
    again = ready.tecs("scale", "up", "-y")
    assert again.status == 0, again.err
    assert ", ".join(f"{name} same" for name in COUNTS) in again.out
    assert ready.tecs.changes == changes + 2  # the lock, taken and dropped

    down = ready.tecs("scale", "down", "-y")
    assert down.status == 0, down.err
    assert started(ready.tecs.server)[len(COUNTS) :] == list(reversed(COUNTS))
    assert set(ready.running().values()) == {0}


def test_a_preset_sizes_the_tasks_without_going_through_zero(ready: Cluster):
    assert ready.tecs("scale", "up", "-y", "history=2", "matching=2").status == 0
    before = {task["taskArn"] for task in ready.tasks("history")}
    up = ready.tecs("scale", "up", "--wps", "40", "-y")
    assert up.status == 0, up.err
    assert "preset 50" in up.err
    tasks = ready.tasks("history")
    assert (len(tasks), {t["cpu"] for t in tasks}, {t["memory"] for t in tasks}) == (3, {"1024"}, {"4096"})
    assert not before & {task["taskArn"] for task in tasks}
    assert ready.tecs("plan", "--check").status == 0, "the preset is remembered"
    assert "history 3 x" in ready.tecs("plan").out
    assert ready.tecs("scale", "up", "-y").status == 0
    assert {t["cpu"] for t in ready.tasks("history")} == {"2048"}
    assert ready.tecs("plan", "--check").status == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--wps", "150"], 1, "Nothing was changed"),
        (["--wps", "401"], 2, "There is no preset for 401 workflows per second"),
        (["--wps", "50", "history=2"], 2, "--wps and SERVICE=N exclude each other"),
        (["histroy=2"], 2, "unknown service 'histroy', did you mean 'history'?"),
        (["history=many"], 2, "'history=many' is not like history=4"),
        (["--instances", "12"], 1, "--instances 12: the group takes 1 to 8"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(ready: Cluster, words: list[str], status: int, said: str):
    ran = ready.tecs("scale", "up", *words, "-y")
    assert ran.status == status
    assert said in ran.err
    assert not started(ready.tecs.server)


def test_without_schema_or_image_nothing_starts(cluster: Cluster):
    refused = cluster.tecs("scale", "up", "-y")
    assert refused.status == 1
    assert "the database has no schema" in refused.err
    text = Path("tecs.toml").read_text()
    Path("tecs.toml").write_text(text.partition("[images]")[0])
    definition = cluster.ecs.describe_task_definition(taskDefinition=f"{PROJECT}-temporal-history")["taskDefinition"]
    container = {**definition["containerDefinitions"][0]}
    container["image"] = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/temporal-dsql-runtime:unpublished"
    keep = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn", "taskRoleArn")
    cluster.ecs.register_task_definition(**{name: definition[name] for name in keep}, containerDefinitions=[container])
    refused = cluster.tecs("scale", "up", "-y")
    assert refused.status == 1
    assert "no image was published for history" in refused.err
    assert not started(cluster.tecs.server)


def test_a_crash_is_told_with_its_last_lines_long_before_the_deadline(ready: Cluster):
    ready.place.database().execute("DROP TABLE cluster_membership")
    scaler = Scaler(project_aws(ready), PROJECT, fresh=set, poll=0.5, deadline=60)
    with pytest.raises(Exception, match="history: its tasks end again and again with exit code 1") as failed:
        scaler.take(steps({"history": 1}, up=True))
    assert "unable to initialize persistence" in str(failed.value)


def test_an_image_that_cannot_be_pulled_is_told(ready: Cluster):
    name = f"{PROJECT}-temporal-ui"
    definition = ready.ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]
    container = {**definition["containerDefinitions"][0]}
    container["image"] = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/temporal-dsql:nowhere"
    keep = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn", "taskRoleArn")
    made = ready.ecs.register_task_definition(**{n: definition[n] for n in keep}, containerDefinitions=[container])
    todo = steps({"ui": 1}, {"ui": made["taskDefinition"]["taskDefinitionArn"]}, up=True)
    with pytest.raises(Exception, match="CannotPullContainerError") as failed:
        Scaler(project_aws(ready), PROJECT, fresh=None, poll=0.5, deadline=60).take(todo)
    assert "Check that the image exists" in failed.value.hint


def project_aws(cluster: Cluster) -> Any:
    from cloud import KEYS, REGION
    from temporal_ecs.aws import Aws

    return Aws(PROJECT, REGION, endpoint=cluster.tecs.server.endpoint, credentials=KEYS)


# -- the cluster itself ----------------------------------------------------------------------------------------


def test_a_crash_loop_keeps_itself_going_and_a_full_stop_ends_it(ready: Cluster):
    assert ready.tecs("scale", "up", "-y", *(f"{n}={c}" for n, c in list(COUNTS.items())[:4])).status == 0
    ready.gossip.crash()
    end = time.monotonic() + 6
    while time.monotonic() < end:
        ready.services()
        time.sleep(0.1)
        assert not ready.gossip.rings()
    failed = sum(d["failedTasks"] for row in ready.services().values() for d in row["deployments"])
    assert failed > 11
    assert ready.tecs("scale", "down", "-y").status == 0
    time.sleep(QUICK.fresh)
    assert ready.tecs("scale", "up", "-y").status == 0
    assert [len(ring) for ring in ready.gossip.rings()] == [11]


def test_a_draining_host_is_emptied_and_a_terminated_one_replaced(ready: Cluster):
    assert ready.tecs("scale", "up", "-y").status == 0
    host = ready.tasks("history")[0]["containerInstanceArn"]
    ready.ecs.update_container_instances_state(cluster=CLUSTER, containerInstances=[host], status="DRAINING")

    def emptied() -> bool:
        (row,) = ready.ecs.describe_container_instances(cluster=CLUSTER, containerInstances=[host])[
            "containerInstances"
        ]
        return row["runningTasksCount"] + row["pendingTasksCount"] == 0

    ready.until(emptied)
    ready.until(lambda: ready.running() == COUNTS)
    (row,) = ready.ecs.describe_container_instances(cluster=CLUSTER, containerInstances=[host])["containerInstances"]
    client(ready.tecs.server.endpoint, "autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=row["ec2InstanceId"], ShouldDecrementDesiredCapacity=False
    )
    ready.until(lambda: host not in ready.ecs.list_container_instances(cluster=CLUSTER)["containerInstanceArns"])
    ready.until(lambda: len(ready.ecs.list_container_instances(cluster=CLUSTER)["containerInstanceArns"]) >= 6)
    assert ready.running() == COUNTS


def test_tasks_without_a_place_bring_hosts_up_to_the_groups_bounds(ready: Cluster):
    service = f"{PROJECT}-temporal-history"
    ready.ecs.update_service(cluster=CLUSTER, service=service, desiredCount=14)  # 6 hosts hold 6 of 8 GiB
    ready.until(lambda: len(ready.ecs.list_container_instances(cluster=CLUSTER)["containerInstanceArns"]) == 8)
    ready.until(lambda: ready.running()["history"] == 8)
    row = ready.services()["history"]
    assert row["pendingCount"] == 6
    assert "was unable to place a task because no container instance met all of its requirements" in str(row["events"])


def test_a_new_revision_rolls_one_task_at_a_time(ready: Cluster):
    assert ready.tecs("scale", "up", "-y", "history=3").status == 0
    most = 0
    ready.ecs.update_service(cluster=CLUSTER, service=f"{PROJECT}-temporal-history", forceNewDeployment=True)

    def rolled() -> bool:
        nonlocal most
        row = ready.services()["history"]
        most = max(most, sum(d["runningCount"] + d["pendingCount"] for d in row["deployments"]))
        return len(row["deployments"]) == 1 and row["deployments"][0]["rolloutState"] == "COMPLETED"

    ready.until(rolled)
    assert most <= 4
    assert len(ready.tasks("history")) == 3
