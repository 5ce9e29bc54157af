"""What a refused connection means, and what the operator can do about it.

For a failed connect libpq and psycopg give neither SQLSTATE nor hint, only text, so refusals are told apart by text,
whatever its case. The texts are those of the Aurora DSQL user guide, "Troubleshooting", of AWS's own DSQL skill
(awslabs/mcp), of recordings of a real cluster, and of libpq 18.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from temporal_ecs.errors import TecsError

if TYPE_CHECKING:
    from .connect import Target


class UnreachableError(TecsError):
    """No connection could be made. `kind` names the refusal."""

    def __init__(self, kind: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.kind = kind


class Refusal(NamedTuple):
    """A way to be refused: any of `marks` is in the text, in lower case.

    For `patience` seconds from the first such answer the same connection may be tried again, after pauses that
    double from `pause` seconds up to `longest`.
    """

    kind: str
    marks: tuple[str, ...]
    patience: float = 0.0
    pause: float = 0.5
    longest: float = 5.0
    waiting: str = ""  # what is said while waiting


EXPIRED = Refusal("expired", ("signature expired",))
WAKING = Refusal("waking", ("waking up",), 180.0, 1.0, waiting="the cluster was asleep and wakes up")
RATE = Refusal("rate", ("rate exceeded",), 60.0, waiting="DSQL's 100 new connections a second are used up")
FULL = Refusal(
    "full", ("too many open connections", "too many connections"), 60.0, 1.0, waiting="DSQL has no connection left"
)
CUT = Refusal(
    "cut",
    ("server closed the connection", "connection reset", "unexpected eof", "broken pipe", "server unavailable"),
    20.0,
    waiting="DSQL broke the connection off",
)
UNKNOWN = Refusal("unknown", ())

REFUSALS = (  # the first that fits
    EXPIRED,
    Refusal("early", ("signature not yet current",)),
    Refusal("stale keys", ("token included in the request is expired", "token has expired", "expiredtoken")),
    Refusal(
        "keys",
        (
            "token included in the request is invalid",
            "signature we calculated",
            "signature does not match",
            "credential should be scoped",
            "the token is for",
        ),
    ),
    Refusal("mapping", ("wrong user to action mapping",)),
    Refusal("denied", ("access denied", "not authorized")),
    WAKING,
    FULL,
    RATE,
    Refusal("sni", ("sni was not received", "sni not received")),
    Refusal("name", ("does not match host name",)),
    Refusal("no roots", ("root certificate file",)),
    Refusal("trust", ("certificate verify failed", "self-signed certificate", "self signed certificate")),
    Refusal("plain", ("server does not support ssl", "wrong version number", "unencrypted", "no ssl", "tls is requ")),
    Refusal("no such host", ("failed to resolve host", "could not translate host name")),
    Refusal("silent", ("timeout expired", "connection refused", "unreachable", "no route to host")),
    CUT,
)


def classify(text: str) -> Refusal:
    """Which refusal `text` is; UNKNOWN for none that we know."""
    lowered = text.lower()
    return next((refusal for refusal in REFUSALS if any(mark in lowered for mark in refusal.marks)), UNKNOWN)


def explain(refusal: Refusal, text: str, target: Target, now: float) -> UnreachableError:
    """One message for the operator. `text` must not hold the token; `now` is this machine's time, in seconds since
    the epoch."""
    said = _hint(text) or _last_line(text)
    message, hint = _clocks(refusal, text, target, now) or _words(refusal, said, target)
    return UnreachableError(refusal.kind, message, hint)


def _clocks(refusal: Refusal, text: str, target: Target, now: float) -> tuple[str, str] | None:
    """For a token that was signed this moment and is expired, or not yet good."""
    if refusal.kind not in ("expired", "early"):
        return None
    stamps = re.findall(r"\b\d{8}T\d{6}Z\b", text)
    known = len(stamps) >= (2 if refusal is EXPIRED else 3)  # the last is AWS's time; of two, an early token's is not
    off = now - _seconds(stamps[-1]) if known else 0.0
    if refusal is EXPIRED and abs(off) < 60:
        return (
            f"DSQL refuses a token for {target.host} that was signed this moment: {_hint(text) or _last_line(text)}",
            "Compare this machine's clock with AWS's, and get new credentials if these are temporary.",
        )
    way = "ahead of" if refusal is not EXPIRED or off > 0 else "behind"
    return (
        f"this machine's clock is {_minutes(abs(off)) + ' ' if known else ''}{way} AWS's, so DSQL refuses its tokens",
        "Set the clock (with systemd: timedatectl set-ntp true) and run the command again.",
    )


def _words(refusal: Refusal, said: str, target: Target) -> tuple[str, str]:
    host, port = target.host, target.port
    again = "Run the command again: it resumes."
    grant = f"Allow {target.action} on {target.resource}"
    return {
        "stale keys": (
            f"the AWS credentials have expired, so DSQL refuses them: {said}",
            "Get new ones and run the command again: it resumes.",
        ),
        "keys": (
            f"DSQL does not accept these AWS keys for {host}: {said}",
            "Check the profile or the keys, and that the endpoint is this very cluster's.",
        ),
        "mapping": (
            f"DSQL does not let {target.user!r} in with a token for {target.action}: {said}",
            "Only the user admin goes with dsql:DbConnectAdmin, every other with dsql:DbConnect. Check --user.",
        ),
        "denied": (
            f"DSQL denies {target.user!r} the way into {host}: {said}",
            f"{grant} (a new policy takes a minute or two), or use the cluster's account with --profile.",
        ),
        "waking": (f"{host} was asleep and has not woken up within {WAKING.patience:.0f} s", again),
        "full": (
            f"{host} has no connection left; a cluster takes 10,000",
            "Stop what holds them (`tecs status`), or have the quota raised, and run the command again.",
        ),
        "rate": (
            f"{host} takes no new connection: its 100 a second have been used up for {RATE.patience:.0f} s",
            "Something opens connections in a loop: look for tasks that restart (`tecs status`), then run it again.",
        ),
        "sni": (
            f"{host} was not told its own name in the TLS handshake (SNI)",
            "Connect to the endpoint's name, not through a proxy that takes TLS apart; libpq must be 14 or newer.",
        ),
        "name": (
            f"what answers for {host} on port {port} shows the certificate of another host: {said}",
            "No token was sent. Check the endpoint, DNS, and TECS_DSQL_HOSTADDR if it is set.",
        ),
        "no roots": (
            f"the trusted roots cannot be read: {said}",
            "Check TECS_DSQL_CA, or unset it for the roots that come with tecs.",
        ),
        "trust": (
            f"the certificate of {host} is not signed by a root that tecs trusts: {said}",
            "No token was sent. Something stands between this machine and AWS; for a sandbox set TECS_DSQL_CA.",
        ),
        "plain": (
            f"what answers for {host} on port {port} does not speak TLS: {said}",
            "No token was sent. Check the endpoint, TECS_DSQL_HOSTADDR and TECS_DSQL_PORT.",
        ),
        "no such host": (
            f"there is no host {host}",
            "Check the endpoint (`tecs output dsql_endpoint`) and this machine's DNS.",
        ),
        "silent": (
            f"{host} does not answer on port {port}: {said}",
            "Open TCP 5432 outwards from this machine, or check TECS_DSQL_HOSTADDR and TECS_DSQL_PORT.",
        ),
        "cut": (
            f"{host} breaks every connection off: {said}",
            f"{again} If it goes on: does TLS speak there? Check the endpoint, TECS_DSQL_HOSTADDR and TECS_DSQL_PORT.",
        ),
    }.get(refusal.kind, (f"{host} cannot be connected to: {said}", again))


def _hint(text: str) -> str:
    """What DSQL added as a hint, which psycopg only shows as text."""
    return " ".join(text.partition("HINT:")[2].split())


def _last_line(text: str) -> str:
    """libpq's own words, without the address it tried."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(FATAL|ERROR):\s*", "", lines[-1].rpartition("failed: ")[2]) if lines else "no reason given"


def _seconds(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
