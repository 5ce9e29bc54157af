"""IAM tokens: the password of a DSQL connection is a presigned request, checked here as AWS checks it.

Nobody evaluates policies: a key that the stand-in knows may connect as any role.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlencode

from temporal_ecs.sandbox.dsql.wire import SqlError

LONGEST = 604800
"""Seconds that a token may live: seven days."""

_SKEW = timedelta(minutes=15)
_EMPTY = hashlib.sha256(b"").hexdigest()
_NEEDED = (
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
)  # fmt: skip


def action_for(user: str) -> str:
    """What a token for this database role must be signed for."""
    return "DbConnectAdmin" if user == "admin" else "DbConnect"


def action_of(token: str) -> str:
    """The action a token names, or nothing."""
    return dict(parse_qsl(token.partition("?")[2])).get("Action", "")


def presigned(host: str, *, region: str, user: str, keys: Mapping[str, str], now: float, life: int = 900) -> str:
    """A token as an SDK makes it, with the first of `keys`; for the sandbox's own clients."""
    key, secret = next(iter(keys.items()))
    date = _moment(datetime.fromtimestamp(now, UTC))
    pairs = [
        ("Action", action_for(user)), ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", f"{key}/{date[:8]}/{region}/dsql/aws4_request"), ("X-Amz-Date", date),
        ("X-Amz-Expires", str(life)), ("X-Amz-SignedHeaders", "host"),
    ]  # fmt: skip
    pairs.append(("X-Amz-Signature", _signature(secret, host, "/", pairs)))
    return f"{host}/?{urlencode(pairs)}"


def check(token: str, *, host: str, region: str, user: str, keys: Mapping[str, str], now: float) -> None:
    """Raise DSQL's refusal unless this token lets `user` into `host` now."""
    address, _, query = token.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    fields = dict(pairs)
    if missing := [name for name in _NEEDED if not fields.get(name)]:
        raise denied(f"The token lacks {missing[0]}.")
    key, _, scope = fields["X-Amz-Credential"].partition("/")
    date = fields["X-Amz-Date"]
    if scope != f"{date[:8]}/{region}/dsql/aws4_request":
        raise denied(f"Credential should be scoped to {date[:8]}/{region}/dsql/aws4_request, not {scope}.")
    if key not in keys:
        raise denied("The security token included in the request is invalid.")
    _check_times(date, fields["X-Amz-Expires"], datetime.fromtimestamp(now, UTC))
    signed_for, _, path = address.partition("/")
    if not hmac.compare_digest(_signature(keys[key], signed_for, f"/{path}", pairs), fields["X-Amz-Signature"]):
        raise denied(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )
    if signed_for != host:
        raise denied(f"The token is for {signed_for}, not for {host}.")
    if fields.get("Action") != action_for(user):
        raise denied("Wrong user to action mapping.")


def denied(hint: str) -> SqlError:
    """Access denied, with the reason where DSQL puts it."""
    return SqlError("08006", "unable to accept connection, access denied", hint=hint, fatal=True)


def _check_times(date: str, expires: str, now: datetime) -> None:
    try:
        signed = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise denied(f"X-Amz-Date must be in the ISO8601 basic format, got {date}.") from None
    if not re.fullmatch(r"\d{1,9}", expires) or not 1 <= int(expires) <= LONGEST:
        raise denied(f"X-Amz-Expires must be between 1 and {LONGEST} seconds, got {expires}.")
    until = signed + timedelta(seconds=int(expires))
    if now > until:
        raise denied(f"Signature expired: {_moment(until)} is now earlier than {_moment(now)}.")
    if signed > now + _SKEW:
        raise denied(f"Signature not yet current: {_moment(signed)} is still later than {_moment(now + _SKEW)}.")


def _moment(time: datetime) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ")


def _signature(secret: str, host: str, path: str, pairs: list[tuple[str, str]]) -> str:
    """Signature Version 4 of a presigned GET with nothing but the host signed."""
    fields = dict(pairs)
    scope = fields["X-Amz-Credential"].partition("/")[2]
    signed = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs if name != "X-Amz-Signature"
    )
    canonical = "&".join(f"{name}={value}" for name, value in signed)
    request = "\n".join(("GET", path, canonical, f"host:{host}", "", "host", _EMPTY))
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    document = "\n".join(("AWS4-HMAC-SHA256", fields["X-Amz-Date"], scope, digest))
    return hmac.new(key, document.encode(), hashlib.sha256).hexdigest()
