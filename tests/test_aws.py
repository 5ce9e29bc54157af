"""The edge to AWS: clients, listings, errors in an operator's words, the log."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError, SSOError

from cloud import KEYS, PROJECT, REGION
from temporal_ecs.aws import Aws, _Listings, explain
from temporal_ecs.clock import Clock
from temporal_ecs.errors import TecsError
from temporal_ecs.resource import Resource
from temporal_ecs.sandbox.server import Call, Fault, Server
from temporal_ecs.strict import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Looked(Resource):
    """Something to look at in these tests."""

    listing = "looked"
    absent = frozenset({"ResourceNotFoundException"})


THING = Looked(name="thing")


@pytest.fixture
def aws(sandbox: Server) -> Iterator[Aws]:
    sandbox.reset()
    yield Aws(PROJECT, REGION, endpoint=sandbox.endpoint, credentials=KEYS, loopback_only=True)
    sandbox.front.before = sandbox.front.after = None


def refused(code: str, message: str = "no", status: int = 400, operation: str = "CreateThing") -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "no AWS credentials were found"),
        (refused("ExpiredToken"), "the AWS credentials have expired"),
        (refused("RequestExpired"), "the AWS credentials have expired"),
        (refused("UnrecognizedClientException", "bad key"), "AWS does not accept the credentials: bad key"),
        (refused("AccessDeniedException", "not you"), "AWS does not allow CreateThing: not you"),
        (refused("UnauthorizedOperation", ""), "AWS does not allow CreateThing: UnauthorizedOperation"),
        (refused("LimitExceeded", "too many VPCs"), "CreateThing: too many VPCs (LimitExceeded)"),
        (EndpointConnectionError(endpoint_url="https://x"), "Could not connect"),
        (ReadTimeoutError(endpoint_url="https://x"), "AWS could not be asked"),
        (SSOError(), "the AWS sign-in is not valid"),
        (InvalidRequest("ecs", "RunTask", []), "RunTask"),
    ],
)
def test_aws_errors_are_explained(error: Exception, words: str):
    explained = explain(error)
    assert explained is not None
    assert words in explained.message


def test_what_is_not_awss_is_not_explained():
    assert explain(ValueError("x")) is None


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (refused("ThrottlingException"), True),
        (refused("RequestLimitExceeded", status=503), True),
        (refused("InternalFailure", status=500), True),
        (refused("NotImplemented", status=501), False),
        (refused("ValidationException"), False),
        (ReadTimeoutError(endpoint_url="x"), True),
        (EndpointConnectionError(endpoint_url="x"), False),
        (ValueError(), False),
    ],
)
def test_transient_is_throttling_a_servers_fault_or_a_lost_connection(aws: Aws, error: Exception, transient: bool):
    assert aws.transient(error) is transient


def test_rows_come_from_all_pages(aws: Aws):
    for number in range(7):
        aws.logs.create_log_group(logGroupName=f"/ecs/{PROJECT}/{number}")
    options = {"PaginationConfig": {"PageSize": 2}}
    assert len(aws.rows(THING, "logs", "describe_log_groups", "logGroups", **options)) == 7
    assert aws.calls["logs", "DescribeLogGroups"] == 4


def test_a_listing_is_read_once_until_it_is_forgotten(aws: Aws):
    for _ in range(3):
        aws.rows(THING, "logs", "describe_log_groups", "logGroups")
    assert aws.calls["logs", "DescribeLogGroups"] == 1
    aws.forget("looked")
    aws.rows(THING, "logs", "describe_log_groups", "logGroups")
    assert aws.calls["logs", "DescribeLogGroups"] == 2
    aws.forget("looked", before=0.0)
    aws.rows(THING, "logs", "describe_log_groups", "logGroups")
    assert aws.calls["logs", "DescribeLogGroups"] == 2


def test_many_threads_share_one_fetch_and_one_error():
    listings, fetches, gate = _Listings(Clock()), [], threading.Event()

    def fetch() -> list[int]:
        fetches.append(1)
        gate.wait(5)
        raise ValueError("no")

    errors: list[Exception] = []

    def ask() -> None:
        try:
            listings.get("looked", ("x",), fetch)
        except ValueError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(5)
    assert len(errors) == 8
    assert listings.get("looked", ("x",), lambda: [1]) == [1]  # a failure is not remembered


def test_rows_fetched_before_a_write_are_not_used_after_it():
    listings, begun, gate = _Listings(Clock()), threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        gate.wait(5)
        return "before the write"

    reader = threading.Thread(target=lambda: listings.get("looked", ("x",), slow))
    reader.start()
    begun.wait(5)
    listings.forget("looked", float("inf"))
    assert listings.get("looked", ("x",), lambda: "after the write") == "after the write"
    gate.set()
    reader.join(5)
    assert listings.get("looked", ("x",), lambda: "again") == "after the write"


def test_a_create_without_a_name_is_sent_once_and_others_are_retried(aws: Aws, sandbox: Server):
    def fail(call: Call) -> None:
        if call.operation in ("CreateVpc", "DescribeVpcs"):
            raise Fault("InternalError", "try later", 500)

    sandbox.front.before = fail
    with pytest.raises(ClientError):
        aws.once("ec2").create_vpc(CidrBlock="10.0.0.0/16")
    assert [call.operation for call in sandbox.calls] == ["CreateVpc"]
    aws.ec2.meta.events.register("before-send.ec2.DescribeVpcs", lambda **_: None)
    with pytest.raises(ClientError):
        aws.ec2.describe_vpcs()
    assert sum(call.operation == "DescribeVpcs" for call in sandbox.calls) == 5


def test_an_invalid_request_never_leaves(aws: Aws, sandbox: Server):
    with pytest.raises(InvalidRequest, match="networkMode"):
        aws.ecs.register_task_definition(family="x", networkMode="awsvpcc", containerDefinitions=[{"name": "x"}])
    assert not sandbox.calls


def test_the_sandbox_never_sends_to_another_machine():
    aws = Aws(PROJECT, REGION, endpoint="http://192.0.2.1:80", credentials=KEYS, loopback_only=True)
    with pytest.raises(TecsError, match=r"refused to send to 192\.0\.2\.1"):
        aws.ec2.describe_vpcs()
    named = Aws(PROJECT, REGION, endpoint="http://aws.example:80", credentials=KEYS, loopback_only=True)
    with pytest.raises(TecsError, match=r"refused to send to aws\.example"):
        named.ec2.describe_vpcs()


def test_the_log_has_a_line_for_each_request_also_failed_ones(sandbox: Server, tmp_path: Path):
    log = tmp_path / "calls.jsonl"
    aws = Aws(PROJECT, REGION, endpoint=sandbox.endpoint, credentials=KEYS, api_log=log)
    aws.ec2.describe_vpcs()
    with pytest.raises(ClientError):
        aws.logs.delete_log_group(logGroupName="/nowhere")
    gone = Aws(PROJECT, REGION, endpoint="http://127.0.0.1:9", credentials=KEYS, api_log=log)
    with pytest.raises(EndpointConnectionError):
        gone.once("ec2").describe_vpcs()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["operation"], line["status"], line.get("error")) for line in lines] == [
        ("DescribeVpcs", 200, None),
        ("DeleteLogGroup", 400, "ResourceNotFoundException"),
        ("DescribeVpcs", 0, "EndpointConnectionError"),
    ]


def test_facts_of_the_account(aws: Aws):
    assert aws.value("account") == "123456789012"
    assert aws.value("partition") == "aws"
    assert aws.value("arn:es") == "arn:aws:es:eu-west-1:123456789012"
    assert aws.value("registry") == "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def test_tags_of_something_gone_are_none(aws: Aws):
    @dataclass(frozen=True, kw_only=True)
    class Tagged(Looked):
        """Tagged as log groups are."""

        tagging = "logs"

    live = {"id": "x", "arn": f"arn:aws:logs:{REGION}:123456789012:log-group:/nowhere"}
    assert aws.tags_of(Tagged(name="gone"), live) == {}


def test_an_unknown_attribute_is_no_client(aws: Aws):
    with pytest.raises(AttributeError):
        _ = aws._nothing
