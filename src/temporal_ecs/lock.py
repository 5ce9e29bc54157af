"""The lock that operators on different machines share: an SSM parameter, there while a command changes AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import LOCKED, TecsError, code
from .holder import Holder
from .state import locked

if TYPE_CHECKING:
    from .aws import Aws


class OperatorLock:
    """Taken before the first change, dropped at the end. A run that changes nothing never takes it."""

    def __init__(self, aws: Aws, operation: str, note: Callable[[str], None] = lambda _: None) -> None:
        """`note` is told when the lock of a dead process is taken over."""
        self.aws, self.operation, self.note = aws, operation, note
        self.parameter = f"/{aws.project}/tecs/lock"
        self._held: Holder | None = None

    def take(self) -> None:
        """TecsError with status LOCKED while somebody else holds it. Taking what is ours already does nothing."""
        if self._held is not None:
            return
        mine = Holder.this(self.operation)
        while not self._put(mine, overwrite=False):
            text = self._text()
            if text is None:  # given back this moment
                self.aws.clock.sleep(0.2)
                continue
            holder = Holder.parse(text)
            if holder == mine:  # the request was sent twice, because its first answer got lost
                break
            if holder is None or not holder.dead():
                raise TecsError(
                    f"another operator is changing {self.aws.project}: {holder or 'unknown holder'}",
                    "Nothing was changed. Wait until it has finished; if it never will, `tecs state unlock`.",
                    status=LOCKED,
                )
            self.note(f"took over the lock of a dead process: {holder}")
            self._put(mine, overwrite=True)
            break
        self._held = mine

    def drop(self, *, abandoned: bool = False) -> None:
        """Give the lock back, if it was taken and is still ours; with `abandoned` also one of a dead process."""
        if self._held is None and not abandoned:
            return
        holder, mine = self.holder(), self._held
        if holder is not None and (holder == mine or (abandoned and holder.dead())):
            self.clear()
        self._held = None

    def clear(self) -> None:
        """Remove the lock, whoever holds it."""
        try:
            self.aws.ssm.delete_parameter(Name=self.parameter)
        except Exception as error:
            if code(error) != "ParameterNotFound":
                raise

    def held(self) -> bool:
        """Whether somebody holds it, whatever is written in it."""
        return self._text() is not None

    def holder(self) -> Holder | None:
        """Who holds it, or None when nobody does (or somebody who left no name)."""
        return Holder.parse(self._text() or "")

    def _text(self) -> str | None:
        try:
            return str(self.aws.ssm.get_parameter(Name=self.parameter)["Parameter"]["Value"])
        except Exception as error:
            if code(error) != "ParameterNotFound":
                raise
            return None

    def _put(self, holder: Holder, *, overwrite: bool) -> bool:
        """Whether it is written: not when it exists and may not be overwritten."""
        try:
            self.aws.ssm.put_parameter(
                Name=self.parameter,
                Description="Held by tecs while it changes this project",
                Value=holder.encode(),
                Type="String",
                Overwrite=overwrite,
            )
        except Exception as error:
            if code(error) != "ParameterAlreadyExists":
                raise
            return False
        return True


@contextmanager
def changing(
    aws: Aws, state: Path, operation: str, note: Callable[[str], None] = lambda _: None
) -> Iterator[Callable[[], None]]:
    """Hold the state file for one command; yields what takes the operators' lock, for the moment before the first
    change. Both are given back at the end.

    A command that finds nothing to change never takes the operators' lock; the one of a process that died with this
    state file goes all the same.
    """
    with locked(state, operation) as left_behind:
        if left_behind is not None:
            note(f"took over the lock of a dead process: {left_behind}")
        lock = OperatorLock(aws, operation, note)
        try:
            yield lock.take
        finally:
            try:
                lock.drop(abandoned=left_behind is not None)
            except Exception as error:  # noqa: BLE001  what was done matters more than a lock left behind
                note(f"could not give back {lock.parameter}: {error}; `tecs state unlock` removes it")
