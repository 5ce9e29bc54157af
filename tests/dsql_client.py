"""A plain psycopg client of DSQL, for tests: verify-full, a token for each connection. Knows nothing of tecs."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import Any

import boto3
import certifi
import psycopg

from temporal_ecs.sandbox.dsql import StandIn


def real_endpoint() -> str | None:
    """The host of a real cluster to test against, if one was named. libpq's PG* variables may say how to get there."""
    return os.environ.get("TECS_TEST_DSQL_ENDPOINT")


def _way() -> dict[str, Any]:
    return {"sslrootcert": os.environ.get("PGSSLROOTCERT", certifi.where())}


@functools.cache
def _signer(key: str | None, secret: str | None, session_token: str | None) -> Any:
    return boto3.Session(key, secret, session_token).client("dsql", region_name="eu-west-1")


@dataclass
class Client:
    """Connects to one cluster. `address` holds what is special about the way there."""

    host: str
    address: dict[str, Any] = field(default_factory=_way)
    key: str | None = None
    secret: str | None = None
    session_token: str | None = None
    life: int = 900

    @classmethod
    def of(cls, standin: StandIn, cluster: str = "a" * 26, *, key: str = "sandbox", secret: str = "sandbox") -> Client:
        address = {"hostaddr": standin.hostaddr, "port": standin.port, "sslrootcert": str(standin.ca_file)}
        return cls(standin.host(cluster), address, key, secret)

    def token(
        self, *, admin: bool = True, host: str | None = None, region: str | None = None, expires: int | None = None
    ) -> str:
        region = region or self.host.split(".")[-3]
        dsql = _signer(self.key, self.secret, self.session_token)
        make = dsql.generate_db_connect_admin_auth_token if admin else dsql.generate_db_connect_auth_token
        return str(make(host or self.host, region, expires or self.life))

    def connect(self, user: str = "admin", token: str | None = None, **options: Any) -> psycopg.Connection:
        settings = {
            "host": self.host, "user": user, "dbname": "postgres", "sslmode": "verify-full", "autocommit": True,
            "password": self.token(admin=user == "admin") if token is None else token, "connect_timeout": 10,
            **self.address,
        }  # fmt: skip
        return psycopg.connect(**{**settings, **options})
