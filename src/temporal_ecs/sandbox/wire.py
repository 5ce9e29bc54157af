"""Answers and errors in AWS's wire formats."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

from moto.core.model import OperationModel
from moto.core.responses import ActionContext, ActionResult
from moto.core.serialize import get_serializer_class

from temporal_ecs.sandbox.world import Fault, hex_id, response_class, uuid

Answer = tuple[int, dict[str, str], bytes]


class _Plain:
    """The response class of a service whose answers are all ours: nothing is renamed on the way out."""


def answer(operation: OperationModel, protocol: str, result: Any) -> Answer:
    """A result in the wire format of its service."""
    model = operation.service_model
    serializer = get_serializer_class(model.service_name, protocol)
    response = response_class(model.service_name) or _Plain
    status, headers, body = ActionResult(result).execute_result(ActionContext(model, operation, serializer, response))
    return int(status), {**headers, "x-amzn-RequestId": uuid()}, _bytes(body)


def error(protocol: str, fault: Fault) -> Answer:
    """A refusal in the wire format of its service."""
    code, message = escape(fault.code), escape(fault.message)
    if protocol == "ec2":
        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        body = f"<Response><Errors>{error}</Errors><RequestID>{hex_id(32)}</RequestID></Response>"
        return fault.status, {"Content-Type": "text/xml"}, body.encode()
    if protocol in ("query", "rest-xml"):
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        body = f"<ErrorResponse>{error}<RequestId>{hex_id(32)}</RequestId></ErrorResponse>"
        return fault.status, {"Content-Type": "text/xml"}, body.encode()
    text = json.dumps({"__type": fault.code, "message": fault.message, "Message": fault.message})
    headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": fault.code}
    return fault.status, headers, text.encode()


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()
