"""The Grafana administrator's secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from temporal_ecs.errors import TecsError
from temporal_ecs.resource import Live, Resource

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class GrafanaSecret(Resource):
    """Made once, with a password of Secrets Manager's own making. Its value is never read or stored."""

    secret_name: str
    scheduled_for_deletion: bool = False  # by hand; the name stays taken, so it is restored

    group = "secrets"
    tagging: ClassVar[str | None] = "secretsmanager"
    absent = frozenset({"ResourceNotFoundException"})
    exists = frozenset({"ResourceExistsException"})
    # After a forced deletion the name stays taken for a few seconds.
    not_yet = frozenset(
        {"InvalidRequestException: scheduled for deletion", "InvalidRequestException: is being deleted"}
    )
    mutable = frozenset({"scheduled_for_deletion"})
    holds_data = "Grafana's administrator password"
    costs = "one secret by the month"

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        row = aws.answer(self, "secretsmanager", "describe_secret", SecretId=id or self.secret_name)
        return {
            "id": row["Name"],
            "secret_name": row["Name"],
            "scheduled_for_deletion": "DeletedDate" in row,
            "arn": row["ARN"],
            "tags": {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())},
        }

    def create(self, aws: Aws, token: str) -> str:
        password = aws.secretsmanager.get_random_password(
            PasswordLength=32, ExcludePunctuation=True, RequireEachIncludedType=True
        )["RandomPassword"]
        aws.secretsmanager.create_secret(
            Name=self.secret_name,
            Description="Grafana administrator",
            ClientRequestToken=token,
            SecretString=json.dumps({"admin_user": "admin", "admin_password": password}),
            Tags=aws.tag_list(self),
        )
        return self.secret_name

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        aws.secretsmanager.restore_secret(SecretId=live["id"])

    def delete(self, aws: Aws, live: Live) -> None:
        aws.secretsmanager.delete_secret(SecretId=live["id"], ForceDeleteWithoutRecovery=True)


@dataclass(frozen=True, kw_only=True)
class ExistingSecret(GrafanaSecret):
    """A secret that someone else made: only looked up, never tagged."""

    tagging = None
    permanent = True
    exists = frozenset()
    mutable = frozenset()
    holds_data = ""
    costs = ""

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        raise TecsError(
            f"the secret {self.secret_name} does not exist in {aws.region}",
            "Make it (JSON with admin_user and admin_password), or set grafana.create_secret = true.",
        )


def declare(config: Config) -> Iterator[Resource]:
    kind = GrafanaSecret if config.grafana.create_secret else ExistingSecret
    yield kind(name="grafana-secret", secret_name=config.grafana.secret)
