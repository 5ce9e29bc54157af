"""The one error an operator sees: what happened and why, then what to do next."""

from __future__ import annotations

FAILED, USAGE, CHANGES, THRESHOLDS, LOCKED, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 5, 130, 143
"""The exit statuses that tecs promises, beside 0."""


class TecsError(Exception):
    """Something the operator can act on.

    `message` says what happened and why, `hint` what to do next, `status` is the exit status.
    """

    def __init__(self, message: str, hint: str = "", *, status: int = FAILED) -> None:
        super().__init__(message)
        self.message, self.hint, self.status = message, hint, status


class ConfigError(TecsError):
    """Wrong flags, environment or tecs.toml: anything that shows without asking AWS."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, status=USAGE)


def code(error: BaseException | None) -> str:
    """The AWS error code of a botocore ClientError, or "" for any other exception.

    Duck-typed, so that asking never imports botocore.
    """
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
