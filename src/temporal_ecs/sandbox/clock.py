"""How long AWS takes, and a clock that makes it shorter."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from itertools import count

DELAYS = {
    # seconds in the real AWS; the source is where the figure was seen
    "nat gateway create": 90,  # botocore's waiter polls for 10 min; users report about 90 s
    "nat gateway delete": 60,  # 1 to 5 min until the address is free
    "vpc endpoint create": 60,  # pending for one to several minutes
    "vpc endpoint delete": 60,  # `deleting` for minutes
    "instance launch": 60,  # Pending until InService
    "instance terminate": 60,  # Terminating until gone
    "instance profile": 10,  # EC2 learns of an IAM instance profile some seconds after IAM
    "opensearch create": 20 * 60,  # 15 to 60 min
    "opensearch change": 10 * 60,  # a blue/green deployment
    "opensearch delete": 15 * 60,
    "dsql create": 45,  # botocore's waiter gives up at 120 s
    "dsql delete": 45,
    "dsql index": 20,  # recorded on empty tables: a minute at most, jobs are looked at every 20 s to 60 s
    "amp create": 5,
    "amp delete": 5,
    "cloud map operation": 5,  # GetOperation: SUBMITTED, PENDING, SUCCESS
    "capacity provider delete": 10,
    "capacity provider association": 20,  # attachmentsStatus UPDATE_IN_PROGRESS
    "ecs service drain": 30,  # DRAINING until INACTIVE, without tasks
    "service connect clean-up": 120,  # ECS removes its Cloud Map services some minutes after the service
    "agent registration": 30,  # from a running instance to a container instance
    "task attach": 10,  # PROVISIONING: the network interface
    "image pull": 15,  # PENDING
    "task stop": 10,  # SIGTERM to STOPPED; Temporal drains
    "task eni detach": 60,  # the address of a stopped task holds its security group for 1 to 15 min
    "task definition delete": 5,  # DELETE_IN_PROGRESS, while nothing refers to it
}

Action = Callable[[], None]


class Clock:
    """Time in the sandbox: AWS's seconds divided by `speed`; infinite speed means that nothing takes time.

    Work that AWS does later is queued with `after` and done by `catch_up`, which runs before each request. So
    there is no thread of its own, and two runs with the same requests and the same time do the same.
    """

    def __init__(self, speed: float = math.inf, now: Callable[[], float] = time.monotonic) -> None:
        self.speed, self.now = speed, now
        self._due: list[tuple[float, int, Action]] = []
        self._order = count()

    def after(self, delay: str, action: Action) -> None:
        """Do `action` once the named delay has passed."""
        self.in_seconds(DELAYS[delay], action)

    def in_seconds(self, seconds: float, action: Action, *, at_least: float = 0.0) -> None:
        """Do `action` once that many of AWS's seconds have passed, and `at_least` so many of ours: what is done again
        and again must not be due at once."""
        due = self.now() + max(seconds / self.speed, at_least)
        heapq.heappush(self._due, (due, next(self._order), action))

    def catch_up(self) -> None:
        """Do what has fallen due, in order, including what that makes due at once."""
        while self._due and self._due[0][0] <= self.now():
            heapq.heappop(self._due)[2]()

    def clear(self) -> None:
        """Forget all work that is still to be done."""
        self._due.clear()
