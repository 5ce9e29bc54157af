"""The lock that operators on different machines share: an SSM parameter, there while a command changes AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import LOCKED, TecsError, code
from .holder import Holder

if TYPE_CHECKING:
    from .aws import Aws


class OperatorLock:
    """Taken before the first change, dropped at the end. A run that changes nothing never takes it."""

    def __init__(self, aws: Aws, operation: str, note: Callable[[str], None] = lambda _: None) -> None:
        """`note` is told when the lock of a dead process is taken over."""
        self.aws, self.operation, self.note = aws, operation, note
        self.parameter = f"/{aws.project}/tecs/lock"
        self._held = False

    def take(self) -> None:
        """TecsError with status LOCKED while somebody else holds it."""
        try:
            self._put(overwrite=False)
        except Exception as error:
            if code(error) != "ParameterAlreadyExists":
                raise
            holder = self.holder()
            if holder is None or not holder.dead():
                raise TecsError(
                    f"another operator is changing {self.aws.project}: {holder or 'unknown holder'}",
                    "Nothing was changed. Wait until it has finished; if it never will, `tecs state unlock`.",
                    status=LOCKED,
                ) from None
            self.note(f"took over the lock of a dead process: {holder}")
            self._put(overwrite=True)
        self._held = True

    def drop(self) -> None:
        """Give the lock back, if it was taken."""
        if self._held:
            self.clear()
            self._held = False

    def clear(self) -> None:
        """Remove the lock, whoever holds it."""
        try:
            self.aws.ssm.delete_parameter(Name=self.parameter)
        except Exception as error:
            if code(error) != "ParameterNotFound":
                raise

    def holder(self) -> Holder | None:
        """Who holds it, or None when nobody does (or somebody who left no name)."""
        try:
            return Holder.parse(self.aws.ssm.get_parameter(Name=self.parameter)["Parameter"]["Value"])
        except Exception as error:
            if code(error) != "ParameterNotFound":
                raise
            return None

    def _put(self, *, overwrite: bool) -> None:
        self.aws.ssm.put_parameter(
            Name=self.parameter,
            Description="Held by tecs while it changes this project",
            Value=Holder.this(self.operation).encode(),
            Type="String",
            Overwrite=overwrite,
        )
