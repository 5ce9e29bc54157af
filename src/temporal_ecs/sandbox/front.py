"""The front door: one WSGI application that every AWS request goes through.

A request is routed by its signature and parsed by its service model, the credentials are looked at, the
parameters are checked strictly, and then the operation is done: by one of ours, else by moto. All under one lock,
because moto has none and the hooks promise to see one request at a time.
"""

from __future__ import annotations

import io
import json
import os
import re
import traceback
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from moto.backends import list_of_moto_modules
from moto.core.exceptions import ServiceException
from moto.core.model import OperationModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request as HttpRequest
from moto.core.request import determine_request_protocol
from moto.core.routing import get_service_router
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.exceptions import HTTPException

from temporal_ecs import strict
from temporal_ecs.sandbox import aws, wire
from temporal_ecs.sandbox.world import OPERATIONS, OWN_SERVICES, WORLD, Fault, Request


class Call(NamedTuple):
    """One request as the hooks see it. `number` counts from 1; `service` is botocore's name."""

    number: int
    service: str
    operation: str
    params: dict[str, Any]

    @property
    def mutating(self) -> bool:
        """Whether it may change anything in AWS."""
        return not self.operation.startswith(_READS)


_READS = ("Describe", "List", "Get", "BatchGet", "Search", "Lookup", "Filter", "Discover", "Head", "Simulate")

_REMEMBERED = 100_000  # calls; a sandbox may be polled for hours

Hook = Callable[[Call], None]

_SERVICES = {  # where the signing name isn't botocore's
    "es": "opensearch", "aps": "amp", "tagging": "resourcegroupstaggingapi", "monitoring": "cloudwatch",
    "servicequotas": "service-quotas",
}  # fmt: skip
_MOTO_SERVICES = frozenset(list_of_moto_modules())
_SIGNATURE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")


class Front:
    """The WSGI application. `before` and `after` run under the world's lock, on either side of the act."""

    def __init__(self, before: Hook | None, after: Hook | None) -> None:
        aws.install()
        self.before, self.after = before, after
        self.calls: list[Call] = []
        self._served = 0
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"] == "/_sandbox":
            status, headers, answer = self._identity()
        else:
            status, headers, answer = self._answer(environ)
        headers["Content-Length"] = str(len(answer))
        start_response(f"{status} {HTTPStatus(status).phrase}", list(headers.items()))
        return [answer]

    def _identity(self) -> wire.Answer:
        """Which process this is: nobody stops another one by mistake."""
        text = json.dumps({"pid": os.getpid(), "calls": self._served})
        return 200, {"Content-Type": "application/json"}, text.encode()

    def _answer(self, environ: dict[str, Any]) -> wire.Answer:
        signature = _SIGNATURE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if not signature:
            return self._ask_moto(environ, "rest-xml")
        key, region, signed_for = signature.groups()
        http = HttpRequest(environ)
        model, path_params = _route(_SERVICES.get(signed_for, signed_for), http)
        if model is None:
            return self._ask_moto(environ, "json")
        protocol = determine_request_protocol(model.service_model, http.content_type)
        service = model.service_model.service_name
        try:
            _check_key(key, protocol, service)
            params = _parse(model, protocol, http, path_params)
            _check_params(service, model, params)
        except Fault as fault:
            return wire.error(protocol, fault)
        with WORLD.lock:
            environ["wsgi.input"].seek(0)
            return self._act(environ, Request(service, str(model.name), params, region, http), model, protocol)

    def _act(self, environ: dict[str, Any], request: Request, model: OperationModel, protocol: str) -> wire.Answer:
        WORLD.clock.catch_up()
        self._served += 1
        call = Call(self._served, request.service, request.operation, request.params)
        self.calls.append(call)
        del self.calls[:-_REMEMBERED]
        try:
            if self.before:
                self.before(call)
        except Fault as fault:
            return wire.error(protocol, fault)
        try:
            answer = self._perform(environ, request, model, protocol)
        except Fault as fault:
            answer = wire.error(protocol, fault)
        except ServiceException as refusal:
            answer = wire.error(protocol, Fault(refusal.code, str(refusal.message)))
        except HTTPException as refusal:  # the older of moto's two kinds of refusal
            answer = wire.error(protocol, _fault_of(refusal))
        except Exception as crash:  # noqa: BLE001  # ours or moto's; a 500 would be retried and hide it
            traceback.print_exc()
            answer = wire.error(protocol, Fault("SandboxError", f"{type(crash).__name__}: {crash}", 501))
        if self.after:
            self.after(call)
        return answer

    def _perform(self, environ: dict[str, Any], request: Request, model: OperationModel, protocol: str) -> wire.Answer:
        service = request.service
        if handler := OPERATIONS.get((service, request.operation)):
            if service == "ec2" and request.params.get("DryRun"):
                raise Fault("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
            return wire.answer(model, protocol, handler(request))
        if service in OWN_SERVICES or service.replace("-", "") not in _MOTO_SERVICES:
            raise Fault("NotImplemented", f"not in the sandbox: {service} {request.operation}", 501)
        return self._ask_moto(environ, protocol)

    def _ask_moto(self, environ: dict[str, Any], protocol: str) -> wire.Answer:
        """moto's answer; where it has none, an AWS error in place of its HTML page."""
        head: list[Any] = []
        try:
            chunks = self._moto(environ, lambda status, headers, _=None: head.extend((status, headers)))
            body = b"".join(chunks)
        except NotImplementedError as missing:
            return wire.error(protocol, Fault("NotImplemented", f"not in the sandbox: {missing}", 501))
        status, headers = int(head[0].split()[0]), dict(head[1])
        if status in (404, 500) and headers.get("Content-Type", "").startswith("text/html"):
            text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body.decode(errors="replace")))[:300]
            gap = f"not in the sandbox: {environ['REQUEST_METHOD']} {environ['PATH_INFO']}: {text}"
            return wire.error(protocol, Fault("NotImplemented", gap, 501))
        return status, headers, body


def _route(service: str, http: HttpRequest) -> tuple[OperationModel | None, dict[str, Any]]:
    if service == "opensearch" and not http.path.startswith("/2021-01-01/"):
        service = "es"
    try:
        model, params = get_service_router(service).match(http)
    except (HTTPException, NotImplementedError, LookupError, OSError):
        return None, {}
    return model, params


def _parse(model: OperationModel, protocol: str, http: HttpRequest, path_params: dict[str, Any]) -> dict[str, Any]:
    """The parameters by their AWS names."""
    parts = {
        "method": http.method, "values": http.values, "headers": http.headers, "body": http.data,
        "url_path": http.path, "url_params": path_params,
    }  # fmt: skip
    params: dict[str, Any] = PROTOCOL_PARSERS[protocol](model).parse(parts)
    return params


def _check_key(key: str, protocol: str, service: str) -> None:
    """Two access keys are refused, so that the refusals can be tried; all others are good."""
    if key == "EXPIRED":
        code = {"ec2": "RequestExpired", "query": "ExpiredToken"}.get(protocol, "ExpiredTokenException")
        raise Fault(code, "The security token included in the request is expired", 403)
    if key == "INVALID":
        code = {"ec2": "AuthFailure", "query": "InvalidClientTokenId"}.get(protocol, "UnrecognizedClientException")
        raise Fault(code, f"The security token included in the request is invalid ({service})", 403)


_VALIDATION_CODES = {
    "ecs": "InvalidParameterException", "ec2": "InvalidParameterValue", "iam": "ValidationError",
    "autoscaling": "ValidationError", "sts": "ValidationError", "logs": "InvalidParameterException",
    "ecr": "InvalidParameterException", "servicediscovery": "InvalidInput",
    "secretsmanager": "InvalidParameterException", "resourcegroupstaggingapi": "InvalidParameterException",
}  # fmt: skip


def _check_params(service: str, model: OperationModel, params: dict[str, Any]) -> None:
    problems = strict.examine(service, str(model.name), params, model.input_shape)
    if not problems:
        return
    text = "; ".join(map(str, problems))
    code = _VALIDATION_CODES.get(service, "ValidationException")
    if (service, model.name) in {("ecs", "RegisterTaskDefinition"), ("ecs", "CreateCapacityProvider")}:
        code = "ClientException"
    elif service == "iam" and any("quota" in problem.text for problem in problems):
        code = "LimitExceeded"
    elif service == "iam" and any(problem.path.endswith("PolicyDocument") for problem in problems):
        code = "MalformedPolicyDocument"
    raise Fault(code, text)


def _fault_of(refusal: HTTPException) -> Fault:
    code = getattr(refusal, "error_type", None) or getattr(refusal, "name", "Error")
    return Fault(str(code), str(getattr(refusal, "message", refusal.description)), refusal.code or 400)
