"""Secrets Manager: moto's, with names that stay taken."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.world import Fault, Request, operation


@operation("secretsmanager", "CreateSecret")
def create_secret(request: Request) -> Any:
    """A name scheduled for deletion is refused with a code of its own."""
    name, secrets = request.params["Name"], request.backend("secretsmanager").secrets
    if name in secrets and secrets[name].is_deleted():
        raise Fault(
            "InvalidRequestException",
            "You can't create this secret because a secret with this name is already scheduled for deletion.",
        )
    return request.moto()
