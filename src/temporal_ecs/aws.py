"""AWS as the rest of tecs sees it: clients, listings that are shared, our tags, and the log of calls."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConnectionError,  # noqa: A004  botocore's, which is no OSError
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from . import strict
from .clock import Clock
from .errors import TecsError, code
from .pace import Pace
from .tags import DIALECTS, Tags, parse

if TYPE_CHECKING:
    from .resource import Live, Resource

# Told to log everything, botocore writes down signatures and session tokens; a presigned DSQL token is made of both.
logging.getLogger("botocore.auth").setLevel(logging.INFO)

READING = ("Describe", "Get", "List", "BatchGet", "Filter", "Simulate", "Lookup", "Search", "Query")
"""How the names of operations begin that change nothing."""

THROTTLED = frozenset(
    [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "SlowDown",
    ]
)
UNREADABLE = (ResponseParserError, IncompleteReadError)
"""Answers that broke off, or that something on the way to AWS gave in its place."""

EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
REJECTED = frozenset(
    [
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "AuthFailure",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "NotSignedUp",
        "OptInRequired",
    ]
)
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException"})


class Aws:
    """One account and region, for one project.

    Clients are attributes: `aws.ec2`, `aws.ecs`. Making a client is not thread-safe and is done under a lock;
    using one is.
    """

    _answered = False  # whether AWS has ever answered

    def __init__(
        self,
        project: str,
        region: str,
        *,
        environment: str = "development",
        profile: str | None = None,
        endpoint: str | None = None,
        credentials: Mapping[str, str] | None = None,
        loopback_only: bool = False,
        api_log: Path | None = None,
        clock: Clock | None = None,
        unknown_enum: Callable[[str], None] | None = None,
    ) -> None:
        """`endpoint` and `credentials` (boto3's argument names) win over the environment's. With
        `loopback_only` any other address is refused before sending. `unknown_enum` is told of a value that
        this botocore does not know; without it such a value is an error."""
        self.project, self.region, self.environment = project, region, environment
        self.clock = clock or Clock()
        self._endpoint, self._pace = endpoint, Pace(self.clock)
        try:
            keys: dict[str, Any] = dict(credentials or {})
            self._session = boto3.Session(region_name=region, profile_name=profile, **keys)
        except (ProfileNotFound, ConfigNotFound) as error:
            raise TecsError(str(error), "Choose a profile of your AWS configuration with --profile.") from None
        # Set explicitly: botocore's default mode and number of attempts changed between 1.43 and 1.44.
        self._config = ClientConfig(
            retries={"mode": "standard", "total_max_attempts": 5},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            inject_host_prefix=endpoint is None,
        )
        self._clients: dict[tuple[str, bool], Any] = {}
        self._mutex = threading.Lock()
        self._listings = _Listings(self.clock)
        self.calls: Counter[tuple[str, str]] = Counter()
        events = self._session.events
        events.register_last("before-parameter-build", strict.hook(unknown_enum), unique_id="tecs-strict")
        events.register("before-call", self._before_call, unique_id="tecs-pace")
        events.register("after-call", self._after_call, unique_id="tecs-answered")
        if loopback_only:
            events.register_first("before-send", _refuse_remote, unique_id="tecs-loopback")
        if api_log is not None:
            log = _CallLog(api_log)
            events.register("before-call", log.before, unique_id="tecs-log-before")
            events.register("after-call", log.after, unique_id="tecs-log-after")
            events.register("after-call-error", log.failed, unique_id="tecs-log-error")

    # -- clients -------------------------------------------------------------------------------------------

    def __getattr__(self, service: str) -> Any:
        if service.startswith("_"):
            raise AttributeError(service)
        return self._client(service, retried=True)

    def once(self, service: str) -> Any:
        """A client that sends each request at most once.

        For creating what has neither a name nor a client token: a request that is sent again after a lost
        answer would make a second one. The engine looks by tag before it asks again.
        """
        return self._client(service, retried=False)

    def _client(self, service: str, *, retried: bool) -> Any:
        with self._mutex:
            if (service, retried) not in self._clients:
                config = self._config
                if not retried:
                    config = config.merge(ClientConfig(retries={"mode": "standard", "total_max_attempts": 1}))
                make: Any = self._session.client  # typed by service name, which is only known here
                self._clients[service, retried] = make(service, config=config, endpoint_url=self._endpoint)
            return self._clients[service, retried]

    @cached_property
    def account(self) -> str:
        return str(self.sts.get_caller_identity()["Account"])

    @property
    def partition(self) -> str:
        return str(self._session.get_partition_for_region(self.region))

    def value(self, output: str) -> str:
        """A fact of the account: account, partition, registry (ECR's host), or arn:SERVICE, how ARNs begin."""
        if output.startswith("arn:"):
            return f"arn:{self.partition}:{output.removeprefix('arn:')}:{self.region}:{self.account}"
        if output == "registry":
            suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
            return f"{self.account}.dkr.ecr.{self.region}.{suffix}"
        return {"account": self.account, "partition": self.partition}[output]

    def dsql_token(self, host: str, *, admin: bool) -> str:
        """A password for one connection to the DSQL cluster at `host`, good for 15 minutes.

        Signed here, without a call to DSQL; finding the credentials may need one. Botocore's signing is not
        thread-safe before it has them, so one thread signs at a time. It is a secret: never keep it.
        """
        client = self.dsql
        sign = client.generate_db_connect_admin_auth_token if admin else client.generate_db_connect_auth_token
        with self._mutex:
            return str(sign(host, dsql_region(host) or self.region))

    # -- listings ------------------------------------------------------------------------------------------

    def rows(self, item: Resource, service: str, operation: str, key: str, **params: Any) -> list[Any]:
        """All rows of a listing, read once and shared until something of that kind is written.

        Rows are shared: never change them.
        """

        def fetch() -> list[Any]:
            client = getattr(self, service)
            if client.can_paginate(operation):
                pages = client.get_paginator(operation).paginate(**params)
                return [row for page in pages for row in page.get(key, ())]
            return list(getattr(client, operation)(**params).get(key, ()))

        return list(self._cached(item, service, operation, params, fetch))

    def answer(self, item: Resource, service: str, operation: str, **params: Any) -> dict[str, Any]:
        """The answer of one call, shared like rows()."""

        def fetch() -> dict[str, Any]:
            return dict(getattr(getattr(self, service), operation)(**params))

        return dict(self._cached(item, service, operation, params, fetch))

    def _cached(
        self,
        item: Resource,
        service: str,
        operation: str,
        params: Mapping[str, Any],
        fetch: Callable[[], Any],
    ) -> Any:
        key = (service, operation, json.dumps(params, sort_keys=True))
        return self._listings.get(item.listing, key, fetch)

    def forget(self, listing: str, *, before: float = float("inf")) -> None:
        """Have the rows of `listing` read again, if they were read before that moment of the clock."""
        self._listings.forget(listing, before)

    def look_afresh(self) -> None:
        """Forget every listing: a new command wants to see what is there now."""
        self._listings = _Listings(self.clock)

    def ec2_row(
        self, item: Resource, id_: str | None, operation: str, key: str, id_key: str, **natural: Any
    ) -> dict[str, Any] | None:
        """The row of an EC2 listing that is `item`: by id where it is known, else by our tags; `tags` added.

        The shared listing is of what carries our tags; a thing that lost them is asked for by its id. `natural`
        are filters of a natural key: what has it stands in the way of ours, whatever its tags.
        EC2 keeps showing some dead things for an hour: those are left out, and the dying come last.
        """
        filters = "Filter" if operation == "describe_nat_gateways" else "Filters"
        ours = [{"Name": "tag:tecs:project", "Values": [self.project]}]
        by_tag, by_id = {filters: ours}, {f"{id_key}s": [id_]}
        for wanted in (by_tag, by_id) if id_ else (by_tag,):
            rows = [
                {**row, "tags": parse(row.get("Tags"))}
                for row in self.rows(item, "ec2", operation, key, **wanted)
                if str(row.get("State")).lower() != "deleted"
            ]
            for row in sorted(rows, key=lambda row: str(row.get("State")).lower() in ("deleting", "failed")):
                if row[id_key] == id_ if id_ else self.owns(item, row["tags"]):
                    return row
        if natural and not id_:
            named = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in natural.items()]
            for row in self.rows(item, "ec2", operation, key, Filters=named):
                return {**row, "tags": parse(row.get("Tags"))}
        return None

    def roles(self, item: Resource) -> list[dict[str, Any]]:
        """Every role of the account with its policies, documents and tags: one paged call instead of four a role."""
        return self.rows(
            item, "iam", "get_account_authorization_details", "RoleDetailList", Filter=["Role"], MaxItems=1000
        )

    def cluster(self, item: Resource, name: str) -> dict[str, Any] | None:
        """The ECS cluster `name`; None when there is none. ECS goes on describing deleted ones as INACTIVE."""
        include = ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "TAGS"]
        found = self.answer(item, "ecs", "describe_clusters", clusters=[name], include=include)["clusters"]
        return next((row for row in found if row["status"] != "INACTIVE"), None)

    def latest_template(self, item: Resource, id_: str) -> dict[str, Any]:
        """The newest version of a launch template."""
        rows = self.rows(
            item,
            "ec2",
            "describe_launch_template_versions",
            "LaunchTemplateVersions",
            LaunchTemplateId=id_,
            Versions=["$Latest"],
        )
        return dict(rows[0])

    # -- tags ----------------------------------------------------------------------------------------------

    def tags(self, item: Resource) -> Tags:
        """The tags that `item` is to carry."""
        return {
            "tecs:project": self.project,
            "tecs:region": self.region,
            "tecs:name": item.name,
            "Name": f"{self.project}-{item.name}",
            "Project": self.project,
            "Environment": self.environment,
            "ManagedBy": "tecs",
            **(item.labels or {}),
        }

    def owns(self, item: Resource, found: Mapping[str, str]) -> bool:
        """Whether tags mark a thing as this project's `item`."""
        mine = {"tecs:project": self.project, "tecs:region": self.region, "tecs:name": item.name}
        return mine.items() <= found.items()

    def tag_list(self, item: Resource, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
        """tags() as most services want them; ECS wants lower-case keys."""
        return [{key: k, value: v} for k, v in self.tags(item).items()]

    def tag_specifications(self, item: Resource, *types: str) -> list[dict[str, Any]]:
        """Tags for EC2's create calls."""
        return [{"ResourceType": type_, "Tags": self.tag_list(item)} for type_ in types]

    def tags_of(self, item: Resource, live: Live) -> Tags:
        """The tags of something whose listing does not tell them; none when it is gone."""
        assert item.tagging is not None
        try:
            return parse(DIALECTS[item.tagging].read(self, live))
        except ClientError as error:
            if code(error) in item.absent:
                return {}
            raise

    def tag(self, item: Resource, live: Live, wanted: Tags) -> None:
        assert item.tagging is not None
        DIALECTS[item.tagging].write(self, live, wanted)

    def tagged(self) -> list[tuple[str, Tags]]:
        """ARN and tags of everything in the region that carries this project's tag, as far as AWS indexes it."""
        pages = self.resourcegroupstaggingapi.get_paginator("get_resources").paginate(
            TagFilters=[
                {"Key": "tecs:project", "Values": [self.project]},
                {"Key": "tecs:region", "Values": [self.region]},
            ]
        )
        return [(row["ResourceARN"], parse(row["Tags"])) for page in pages for row in page["ResourceTagMappingList"]]

    def refuse(self, operation: str, reason: Mapping[str, str]) -> None:
        """Raise what AWS put into the body of a successful answer as the error that it is."""
        raise ClientError({"Error": {"Code": reason["Code"], "Message": reason["Message"]}}, operation)

    # -- errors --------------------------------------------------------------------------------------------

    def transient(self, error: BaseException) -> bool:
        """Whether the same request may well succeed later: throttling, a server's fault, a lost connection."""
        if isinstance(error, ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return code(error) in THROTTLED or (status >= 500 and status != 501)
        if isinstance(error, UNREADABLE):
            return True
        if isinstance(error, HTTPClientError):
            return True
        return self._answered and isinstance(error, ConnectionError)  # before any answer: a wrong address

    def _before_call(self, model: Any, **_: Any) -> None:
        service, operation = model.service_model.service_name, model.name
        self._pace.wait(service, operation)
        with self._mutex:
            self.calls[service, operation] += 1

    def _after_call(self, **_: Any) -> None:
        self._answered = True

    @property
    def mutations(self) -> int:
        """How many calls were sent that may have changed something."""
        return sum(n for (_, operation), n in self.calls.items() if not operation.startswith(READING))


def dsql_region(host: str) -> str:
    """The region in the name of a DSQL endpoint, public or PrivateLink's; "" for any other name."""
    found = re.search(r"\.dsql[a-z0-9-]*\.([a-z0-9-]+)\.on\.aws$", host)
    return found[1] if found else ""


def profile_region(profile: str | None) -> str | None:
    """The region that a profile of the AWS configuration sets, if it does."""
    try:
        return boto3.Session(profile_name=profile).region_name
    except (ProfileNotFound, ConfigNotFound) as error:
        raise TecsError(str(error), "Choose a profile of your AWS configuration with --profile.") from None


def explain(error: BaseException) -> TecsError | None:
    """An AWS error in the operator's words; None for what is not AWS's."""
    if isinstance(error, strict.InvalidRequest):
        return TecsError(str(error), "This request was not sent. If the values are yours, correct tecs.toml.")
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return TecsError(
            "no AWS credentials were found",
            "Nothing was changed. Choose a profile with --profile, or set AWS_ACCESS_KEY_ID and its companions.",
        )
    if isinstance(error, (SSOError, TokenRetrievalError)):
        return TecsError(
            f"the AWS sign-in is not valid: {error}",
            "Sign in again (`aws sso login`) and repeat the command.",
        )
    if isinstance(error, EndpointConnectionError):
        return TecsError(str(error), "Check the network, the region's name, and AWS_ENDPOINT_URL if it is set.")
    if isinstance(error, ClientError):
        return _explain_answer(error)
    if isinstance(error, (BotoCoreError, *UNREADABLE)):
        return TecsError(f"AWS could not be asked: {error}", "Run the command again.")
    return None


def _explain_answer(error: ClientError) -> TecsError:
    operation, name = error.operation_name, code(error)
    said = str(error.response.get("Error", {}).get("Message", "")).strip()
    if name in EXPIRED:
        return TecsError("the AWS credentials have expired", "Get new ones and run the command again: it resumes.")
    if name in REJECTED:
        return TecsError(
            f"AWS does not accept the credentials: {said or name}",
            "Check the profile or the keys, and the clock of this machine.",
        )
    if name in DENIED or name.startswith("AccessDenied"):
        return TecsError(
            f"AWS does not allow {operation}: {said or name}",
            "Ask for that permission, or use another profile.",
        )
    return TecsError(f"{operation}: {said or 'refused'} ({name})")


class _Listings:
    """Answers by listing and call, each fetched by one thread while the others wait for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._mutex = clock, threading.Lock()
        self._answers: dict[str, dict[tuple[str, ...], _Answer]] = {}

    def get(self, listing: str, key: tuple[str, ...], fetch: Callable[[], Any]) -> Any:
        with self._mutex:
            answers = self._answers.setdefault(listing, {})
            answer = answers.get(key)
            mine = answer is None
            if answer is None:
                answer = answers[key] = _Answer(self._clock.now())
        if mine:
            try:
                answer.value = fetch()
            except BaseException as error:
                answer.error = error
                with self._mutex:
                    if answers.get(key) is answer:
                        del answers[key]
                raise
            finally:
                answer.done.set()
        answer.done.wait()
        if answer.error is not None:
            raise answer.error
        return answer.value

    def forget(self, listing: str, before: float) -> None:
        with self._mutex:  # one still being fetched is dropped too: it may have begun before the write
            answers = self._answers.get(listing, {})
            for key in [k for k, answer in answers.items() if answer.begun < before]:
                del answers[key]


class _Answer:
    def __init__(self, begun: float) -> None:
        self.begun, self.done = begun, threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None


class _CallLog:
    """One JSON line for every request: time, service, operation, status, retries, ms."""

    def __init__(self, path: Path) -> None:
        try:
            self._out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise TecsError(f"cannot write the API log {path}: {error.strerror}", "Choose another --api-log.") from None

    def before(self, model: Any, context: dict[str, Any], **_: Any) -> None:
        context["tecs_call"] = (model, time.monotonic())

    def after(self, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        meta = parsed.get("ResponseMetadata", {})
        extra = {"error": parsed["Error"].get("Code", "")} if "Error" in parsed else {}
        self._write(context, meta.get("HTTPStatusCode", 0), meta.get("RetryAttempts", 0), extra)

    def failed(self, exception: BaseException, context: dict[str, Any], **_: Any) -> None:
        self._write(context, 0, 0, {"error": type(exception).__name__})

    def _write(self, context: dict[str, Any], status: int, retries: int, extra: dict[str, str]) -> None:
        model, begun = context["tecs_call"]
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "service": model.service_model.service_name,
            "operation": model.name,
            "status": status,
            "retries": retries,
            "ms": round(1000 * (time.monotonic() - begun)),
            **extra,
        }
        os.write(self._out, f"{json.dumps(line)}\n".encode())  # one write for a line: threads don't mix


def _refuse_remote(request: Any, **_: Any) -> None:
    """Keep a sandbox run on this machine, whatever an environment variable may say."""
    host = urlsplit(request.url).hostname or ""
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise TecsError(f"refused to send to {host}: the sandbox is on this machine only", "Nothing was sent.")
