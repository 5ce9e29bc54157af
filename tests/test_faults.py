"""One call in ten goes wrong, in all the ways in which AWS's calls do; the commands still end right.

Each kind of fault is put where it happens: refusals are the server's, lost answers are the network's, and what was
just made is hidden in what AWS answers. Retrying is botocore's and the engine's own, without its pauses.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

import inventory
from cloud import PROJECT, REGION, STACK
from crash import differences, new_aws, run
from leap import Leap
from temporal_ecs.aws import READING, Aws
from temporal_ecs.sandbox.server import Call, Fault, Server

RATE = 0.1
YOUNG = 10.0
"""Seconds for which AWS may still not show what it has just made."""

THROTTLING = {  # service: code and status, from each service's API reference
    "ec2": ("RequestLimitExceeded", 503),
    "iam": ("Throttling", 400),
    "autoscaling": ("Throttling", 400),
    "sts": ("Throttling", 400),
    "servicediscovery": ("RequestLimitExceeded", 400),
    "resourcegroupstaggingapi": ("ThrottledException", 400),
    "amp": ("ThrottlingException", 429),
    "dsql": ("ThrottlingException", 429),
}
BROKEN = {
    "ec2": ("InternalError", 500),
    "iam": ("ServiceFailure", 500),
    "autoscaling": ("InternalFailure", 500),
    "sts": ("InternalFailure", 500),
    "ecs": ("ServerException", 500),
    "ecr": ("ServerException", 500),
    "logs": ("ServiceUnavailableException", 503),
    "secretsmanager": ("InternalServiceError", 500),
    "ssm": ("InternalServerError", 500),
    "opensearch": ("InternalException", 500),
    "amp": ("InternalServerException", 500),
    "dsql": ("InternalServerException", 500),
}

IDS = {  # how the ids of EC2 begin, and what EC2 says of one that it does not show
    "vpc": "InvalidVpcID.NotFound",
    "subnet": "InvalidSubnetID.NotFound",
    "igw": "InvalidInternetGatewayID.NotFound",
    "eipalloc": "InvalidAllocationID.NotFound",
    "nat": "NatGatewayNotFound",
    "rtb": "InvalidRouteTableID.NotFound",
    "sg": "InvalidGroup.NotFound",
    "vpce": "InvalidVpcEndpointId.NotFound",
    "lt": "InvalidLaunchTemplateId.NotFound",
}
NAMES = {  # service and parameter: what the service says of a name that it does not show
    ("iam", "RoleName"): "NoSuchEntity",
    ("iam", "InstanceProfileName"): "NoSuchEntity",
    ("logs", "logGroupName"): "ResourceNotFoundException",
    ("ecr", "repositoryName"): "RepositoryNotFoundException",
    ("opensearch", "DomainName"): "ResourceNotFoundException",
    ("ecs", "clusterName"): "ClusterNotFoundException",
    ("secretsmanager", "Name"): "ResourceNotFoundException",
}
MAKES = ("Create", "Allocate")


class Faults:
    """Lets calls go wrong, each with the given probability. `seen` counts what happened."""

    def __init__(self, seed: int, clock: Leap, rate: float = RATE) -> None:
        self.random, self.clock, self.rate = random.Random(seed), clock, rate
        self.seen: Counter[str] = Counter()
        self.made: dict[str, tuple[float, str, str]] = {}  # id or name: when, by which service, the error for it
        self.asked = threading.local()

    def strike(self, *kinds: str, share: float = 1) -> str:
        """Which of the kinds happens now: one of them, or none."""
        if self.random.random() >= self.rate * share:
            return ""
        kind = self.random.choice(kinds)
        self.seen[kind] += 1
        return kind

    # -- the server refuses, and nothing is done

    def before(self, call: Call) -> None:
        kind = self.strike("throttled", "broken", share=0.5)
        if kind:
            table = THROTTLING if kind == "throttled" else BROKEN
            code, status = table.get(call.service, ("ThrottlingException" if kind == "throttled" else "Internal", 400))
            raise Fault(code, "injected", status if kind == "throttled" else max(status, 500))

    # -- the network loses the request or the answer

    def send(self, request: Any, **_: Any) -> AWSResponse | None:
        kind = self.strike("lost request", "lost answer", "timeout", "broken answer", share=0.5)
        if not kind:
            return None
        if kind != "lost request":
            URLLib3Session().send(request)
        if kind == "broken answer":
            return AWSResponse(request.url, 503, {}, SimpleNamespace(stream=lambda: iter([b""])))
        if kind == "timeout":
            raise ReadTimeoutError(endpoint_url=request.url)
        raise ConnectionClosedError(endpoint_url=request.url)

    # -- what was just made is not shown yet

    def ask(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """Refuse a request that names, other than to filter by it, what its service has only just made."""
        service = model.service_model.service_name
        self.asked.text = repr(params)
        named = {each for key, value in params.items() if key not in ("Filters", "Filter") for each in _texts(value)}
        for each, (_, by, code) in self._young().items():
            own = model.name.startswith(MAKES) and service != "ec2"
            if by == service and each in named and not own and self.strike("not found"):
                error = {"Code": code, "Message": f"injected: {each}"}
                raise ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}, model.name)

    def answered(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model.service_name
        if model.name.startswith(MAKES):
            ids = re.findall(r"\b((\w+)-[0-9a-f]{17})\b", repr(parsed)) if service == "ec2" else []
            for each, prefix in ids:
                if prefix in IDS:
                    self.made.setdefault(each, (self.clock.now(), service, IDS[prefix]))
        elif model.name.startswith(("Describe", "List", "GetAccount")) and self._young() and self.strike("hidden"):
            for key, rows in parsed.items():
                if isinstance(rows, list):
                    young = {each for each in self._young() if each not in self.asked.text}
                    parsed[key] = [row for row in rows if not _identity(row) & young]

    def name(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """Remember what is being made under a name."""
        for (service, key), code in NAMES.items():
            if service == model.service_model.service_name and model.name.startswith(MAKES) and key in params:
                self.made.setdefault(params[key], (self.clock.now(), service, code))

    def _young(self) -> dict[str, tuple[float, str, str]]:
        return {each: made for each, made in list(self.made.items()) if self.clock.now() - made[0] < YOUNG}

    @contextmanager
    def over(self, server: Server) -> Iterator[Aws]:
        """An Aws whose calls go wrong."""
        aws = new_aws(server.endpoint, self.clock)
        events = aws._session.events
        events.register_first("before-send", self.send)
        events.register("provide-client-params", self.name)
        events.register("provide-client-params", self.ask)
        events.register("after-call", self.answered)
        server.front.before = self.before
        try:
            yield aws
        finally:
            server.front.before = None


def _texts(value: Any) -> Iterator[str]:
    """Every text in a request."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)


OWN = "NatGatewayId SubnetId RouteTableId GroupId VpcEndpointId InternetGatewayId AllocationId LaunchTemplateId VpcId"
"""The member that holds a row's own id comes first: rows also name the VPC and the subnet that they stand in."""


def _identity(row: Any) -> set[str]:
    """A row's own id and name."""
    if not isinstance(row, dict):
        return {str(row)}
    return {row[key] for key in OWN.split() if key in row and key == next(k for k in OWN.split() if k in row)} | {
        row[key] for _, key in NAMES if key in row
    }


@pytest.fixture
def account(sandbox: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Leap]:
    """Empties the account; AWS's delays are the real ones, and cost nothing."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None, time=time.time))

    def fresh() -> Leap:
        sandbox.reset()
        sandbox.front.before = None
        clock = Leap()
        sandbox.clock.speed, sandbox.clock.now = 1, clock.now
        return clock

    return fresh


@pytest.fixture(scope="module")
def clean(sandbox: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What provision and teardown make of the account when every call goes well."""
    sandbox.reset()
    clock, folder = Leap(), tmp_path_factory.mktemp("clean")
    sandbox.clock.speed, sandbox.clock.now = 1, clock.now
    found = {}
    for command in ("provision", "destroy"):
        run(command, new_aws(sandbox.endpoint, clock), clock, folder)
        found[command] = inventory.read(sandbox.endpoint, PROJECT, REGION)
    return found


class Deaf:
    """Carries out every request that changes something, and loses its first answer."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    def send(self, request: Any, event_name: str, **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        this = f"{operation} {request.url} {request.body!r}"
        if not operation.startswith(READING) and this not in self.lost:
            self.lost.add(this)
            URLLib3Session().send(request)
            raise ConnectionClosedError(endpoint_url=request.url)


@pytest.mark.parametrize("attempt", range(3))
def test_provision_and_teardown_end_right_though_one_call_in_ten_goes_wrong(attempt, sandbox, account, clean, tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    clock = account()
    faults = Faults(seed, clock)
    with faults.over(sandbox) as aws:
        result = run("provision", aws, clock, tmp_path)
    assert result.count("created") == len(STACK)
    assert not differences(clean["provision"], inventory.read(sandbox.endpoint, PROJECT, REGION))

    before = sandbox.count(mutating=True)
    with faults.over(sandbox) as aws:
        result = run("provision", aws, clock, tmp_path)
    assert set(result.outcomes.values()) == {"same"}
    assert not sandbox.count(mutating=True) - before

    with faults.over(sandbox) as aws:
        run("destroy", aws, clock, tmp_path)
    assert not differences(clean["destroy"], inventory.read(sandbox.endpoint, PROJECT, REGION))
    print(dict(faults.seen))
    assert sum(faults.seen.values()) > 40
    assert len(faults.seen) >= 6, "not enough kinds of faults"


def test_every_answer_to_a_change_may_be_lost(sandbox, account, clean, tmp_path):
    clock, deaf = account(), Deaf()
    for command in ("provision", "destroy"):
        aws = new_aws(sandbox.endpoint, clock)
        aws._session.events.register_first("before-send", deaf.send)
        run(command, aws, clock, tmp_path)
        assert not differences(clean[command], inventory.read(sandbox.endpoint, PROJECT, REGION))
    assert len(deaf.lost) > 250
