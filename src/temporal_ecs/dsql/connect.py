"""One connection to Aurora DSQL: a token of its own, TLS that is verified, deadlines on our side.

`statement_timeout` and cancelling do not work in DSQL, so a statement that takes too long ends by closing the
connection from here. psycopg is imported in this package alone.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import certifi
import psycopg
from psycopg import pq, waiting
from psycopg.abc import RV, PQGen

from temporal_ecs import __version__
from temporal_ecs.clock import Clock
from temporal_ecs.pace import Bucket

from .refusals import EXPIRED, classify, explain

DATABASE = "postgres"
"""A DSQL cluster has this database and no other."""

ADMIN = "admin"

CONNECT_SECONDS = 15
"""For the TCP and TLS handshakes and the answer to the token, for each address of the host."""

STATEMENT_SECONDS = 60.0

CONNECTIONS = Bucket(burst=1, rate=5)
"""New connections of this process: tecs shares DSQL's 100 a second with the services, and takes 5 of them."""

SETTINGS: Mapping[str, Any] = {
    "dbname": DATABASE,
    "sslmode": "verify-full",
    "connect_timeout": CONNECT_SECONDS,
    "application_name": f"tecs/{__version__}",
    **({"sslnegotiation": "direct"} if pq.version() >= 170000 else {}),  # saves a round trip
    # What follows is said because libpq would else take it from PG* variables, which are meant for other databases.
    "client_encoding": "UTF8",
    "options": "",
    "sslcert": "",
    "sslkey": "",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "target_session_attrs": "any",
}

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to connect, and as whom.

    `host` is the endpoint: the name in the token, in SNI and in the certificate. `address`, an IP address, is
    connected to instead of what DNS says; `roots` is a file of trusted certificates instead of certifi's. `resource`
    is the cluster's ARN, for messages.
    """

    host: str
    user: str = ADMIN
    address: str = ""
    port: int = 5432
    roots: str = ""
    resource: str = ""

    @property
    def admin(self) -> bool:
        return self.user == ADMIN

    @property
    def action(self) -> str:
        """The IAM action that `user` goes with."""
        return "dsql:DbConnectAdmin" if self.admin else "dsql:DbConnect"


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every wait ends after `deadline` seconds, and at once when interrupted.

    Either way the connection is closed, since the server goes on with what it was told.
    """

    deadline: float = STATEMENT_SECONDS
    overdue: bool = False  # closed by us, because no answer came in time

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return waiting.wait(gen, self.pgconn.socket, interval=interval, timeout=timeout or self.deadline)
        except psycopg.OperationalError:
            # A lost connection has no state any more; one that still has a statement running was waited for in vain.
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.overdue = True
                self.pgconn.finish()
            raise
        except (KeyboardInterrupt, SystemExit):
            self.pgconn.finish()
            raise

    def in_utc(self) -> Self | str:
        """This session with its time zone set, which libpq takes from PGTZ; or how it was lost over that."""
        if self.info.parameter_status("TimeZone") != "UTC":
            try:
                self.execute("SET TIME ZONE 'UTC'")
            except psycopg.Error as error:
                self.close()
                return f"server closed the connection unexpectedly: {without_token(str(error))}"
        return self

    @classmethod
    def open(cls, target: Target, token: str) -> Self | str:
        """A connection, or what libpq said, without the token. Never raises psycopg's own error, which has it."""
        try:
            return cls.connect(
                host=target.host,
                hostaddr=target.address,
                port=target.port,
                user=target.user,
                password=token,
                sslrootcert=target.roots or certifi.where(),
                autocommit=True,
                prepare_threshold=None,
                **SETTINGS,
            )
        except psycopg.Error as error:
            return without_token(str(error), token)


def connect(
    target: Target,
    token: Callable[[], str],
    *,
    clock: Clock | None = None,
    pace: Bucket = CONNECTIONS,
    note: Note = lambda _: None,
) -> Session:
    """A session in UTC. `token` is called for each attempt; `note` is told what is waited for.

    Waits, within limits, for what passes: a waking cluster, DSQL's limits, a cut. An expired token is tried once
    more with a new one. Everything else raises UnreachableError at once, with the remedy.
    """
    clock = clock or Clock()
    since: dict[str, float] = {}
    tries: Counter[str] = Counter()
    while True:
        clock.sleep(pace.reserve(clock.now()))
        opened = Session.open(target, token())
        if isinstance(opened, Session):
            opened = opened.in_utc()
        if isinstance(opened, Session):
            return opened
        refusal = classify(opened)
        tries[refusal.kind] += 1
        if refusal is EXPIRED and tries[refusal.kind] == 1:
            continue
        now = clock.now()
        if now - since.setdefault(refusal.kind, now) >= refusal.patience:
            raise explain(refusal, opened, target, time.time())
        if tries[refusal.kind] == 1:
            note(f"{refusal.waiting}: trying again for up to {refusal.patience:.0f} s")
        ceiling = min(refusal.longest, refusal.pause * 2.0 ** min(tries[refusal.kind], 10))
        clock.sleep(random.uniform(refusal.pause / 2, ceiling))  # noqa: S311  spreads callers, guards no secret


def without_token(text: str, token: str = "") -> str:
    """`text` without the token, and without anything that looks like a part of one."""
    if token:
        text = text.replace(token, "(token)")
    return re.sub(r"X-Amz-(Signature|Security-Token|Credential)=[^&\s'\"]+", r"X-Amz-\1=(hidden)", text)
