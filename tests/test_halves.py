"""What a run leaves half done, case by case: the cuts that the crash matrix found to hurt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

from cloud import ACCOUNT, PROJECT, REGION, STACK, client
from crash import new_aws
from leap import Leap
from temporal_ecs.engine import Engine, Result
from temporal_ecs.sandbox.server import Call, Fault, Server
from temporal_ecs.state import State


class Runs:
    """Runs on one account and state file, each with an Aws of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.path, self.clock = server, folder / "state.json", Leap()
        server.reset()
        server.clock.speed, server.clock.now = 1, self.clock.now

    def engine(self, aws: Any = None) -> Engine:
        state = State(self.path, project=PROJECT, account=ACCOUNT, region=REGION)
        return Engine(STACK, state, aws or new_aws(self.server.endpoint, self.clock), clock=self.clock)

    def provision(self, *names: str) -> Result:
        return self.engine().provision(names)

    def teardown(self, *names: str) -> Result:
        return self.engine().teardown(names or None, with_data=True)

    def status(self, name: str) -> str:
        return str(self.engine().state.get(name).get("status", ""))

    def cut_before(self, operation: str) -> None:
        """From now on this operation is refused, which ends a run there."""

        def before(call: Call) -> None:
            if call.operation == operation:
                raise Fault("AccessDeniedException", "injected", 403)

        self.server.front.before = before

    def mend(self) -> None:
        self.server.front.before = None


@pytest.fixture
def runs(sandbox: Server, tmp_path: Path) -> Iterator[Runs]:
    made = Runs(sandbox, tmp_path)
    yield made
    made.mend()


def revisions(server: Server) -> list[str]:
    ecs = client(server.endpoint, "ecs")
    return [arn for s in ("ACTIVE", "INACTIVE") for arn in ecs.list_task_definitions(status=s)["taskDefinitionArns"]]


def test_a_task_definition_that_was_only_deregistered_is_deleted_by_the_next_teardown(runs):
    assert runs.provision("grafana-task").ok
    runs.cut_before("DeleteTaskDefinitions")
    assert not runs.teardown("grafana-task").ok
    assert runs.status("grafana-task") == "deleting"
    runs.mend()
    assert len(revisions(runs.server)) == 1
    assert runs.teardown("grafana-task").ok
    assert not revisions(runs.server)
    assert not runs.status("grafana-task")


def test_a_namespace_that_is_still_being_made_is_waited_for_and_removed(runs):
    runs.cut_before("GetOperation")
    assert not runs.provision("namespace").ok
    assert runs.status("namespace") == "creating"
    runs.mend()
    assert runs.teardown("namespace").ok
    assert not client(runs.server.endpoint, "servicediscovery").list_namespaces()["Namespaces"]
    runs.clock.sleep(3600)
    assert not client(runs.server.endpoint, "servicediscovery").list_namespaces()["Namespaces"], "it was made later"


def test_a_namespace_whose_removal_goes_on_is_not_taken_for_one_that_stays(runs):
    assert runs.provision("namespace").ok
    first = runs.engine().state.get("namespace")["id"]
    state = runs.engine().state
    state.put("namespace", state.get("namespace") | {"status": "deleting"})
    client(runs.server.endpoint, "servicediscovery").delete_namespace(Id=first)  # it is shown until that is done
    assert runs.provision("namespace").outcomes["namespace"] == "created"
    assert runs.engine().state.get("namespace")["id"] != first


def test_what_was_made_after_a_long_refusal_is_recognised_though_the_answer_was_lost(runs):
    aws = new_aws(runs.server.endpoint, runs.clock)
    refusals = 40

    def before(call: Call) -> None:
        nonlocal refusals
        if call.operation == "CreateLogGroup" and refusals > 0:
            refusals -= 1
            raise Fault("OperationAbortedException", "A conflicting operation is currently in progress.")

    def deaf(request: Any, **_: Any) -> None:
        nonlocal refusals
        if refusals == 0:
            refusals = -1
            URLLib3Session().send(request)
            raise ConnectionClosedError(endpoint_url=request.url)

    runs.server.front.before = before
    aws._session.events.register_first("before-send.cloudwatch-logs.CreateLogGroup", deaf)
    result = runs.engine(aws).provision(["adot-logs"])
    assert result.outcomes == {"adot-logs": "created"}
    assert refusals == -1
    assert result.seconds > 30


def test_standalone_tasks_are_stopped_before_the_cluster_goes(runs: Runs):
    runs.provision("cluster-capacity", "benchmark-task", "benchmark-sg", "private-0", "benchmark-asg")
    ecs, state = client(runs.server.endpoint, "ecs"), runs.engine().state
    network = {"subnets": [state.get("private-0")["id"]], "securityGroups": [state.get("benchmark-sg")["id"]]}
    made = ecs.run_task(
        cluster=f"{PROJECT}-cluster", taskDefinition=state.get("benchmark-task")["id"], launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
    )  # fmt: skip
    assert made["tasks"][0]["lastStatus"] == "PROVISIONING"
    result = runs.teardown()
    assert result.ok, result.errors
    assert not ecs.list_clusters()["clusterArns"]


def test_another_tools_revision_in_our_family_is_neither_taken_for_ours_nor_removed(runs: Runs):
    runs.provision("temporal-ui-task")
    ecs, family = client(runs.server.endpoint, "ecs"), f"{PROJECT}-temporal-ui"
    foreign = ecs.register_task_definition(
        family=family, containerDefinitions=[{"name": "a", "image": "a", "memory": 64}]
    )["taskDefinition"]["taskDefinitionArn"]
    assert set(runs.provision("temporal-ui-task").outcomes.values()) == {"same"}
    result = runs.teardown()
    assert result.ok, result.errors
    assert ecs.list_task_definitions(familyPrefix=family)["taskDefinitionArns"] == [foreign]
