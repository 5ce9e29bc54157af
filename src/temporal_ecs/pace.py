"""Token buckets that AWS documents, kept on our side so that we don't run into its throttling.

Source: "Request throttling for the Amazon ECS API", Amazon ECS API reference. The buckets are per account and
region and shared with every other tool, so botocore's own retries stay the second line.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .clock import Clock


@dataclass
class Bucket:
    """`burst` calls at once, then `rate` a second."""

    burst: float
    rate: float
    _tokens: float = field(init=False)
    _at: float | None = field(init=False, default=None)
    _mutex: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def reserve(self, now: float) -> float:
        """Take one token; the seconds to wait until it is there."""
        with self._mutex:
            if self._at is not None:
                self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
            self._tokens -= 1
            return max(0.0, -self._tokens / self.rate)


_ECS: Iterable[tuple[float, float, str]] = (
    (20, 1, "CreateCluster DeleteCluster UpdateCluster UpdateClusterSettings PutClusterCapacityProviders"),
    (50, 20, "DescribeClusters ListClusters"),
    (20, 1, "RegisterTaskDefinition DeregisterTaskDefinition"),
    (50, 20, "DescribeTaskDefinition ListTaskDefinitions ListTaskDefinitionFamilies"),
    (5, 1, "DeleteTaskDefinitions"),
    (10, 1, "CreateCapacityProvider DeleteCapacityProvider UpdateCapacityProvider"),
    (50, 20, "DescribeCapacityProviders"),
    (20, 10, "TagResource UntagResource"),
    (50, 20, "ListTagsForResource"),
    (10, 1, "PutAccountSetting PutAccountSettingDefault DeleteAccountSetting"),
    (50, 20, "ListAccountSettings"),
    (100, 40, "RunTask StopTask ExecuteCommand DeregisterContainerInstance PutAttributes DeleteAttributes"),
    (100, 20, "DescribeTasks ListTasks DescribeContainerInstances ListContainerInstances ListAttributes"),
    (50, 5, "CreateService UpdateService DeleteService"),
    (100, 20, "DescribeServices ListServices"),
    (50, 20, "DescribeServiceDeployments ListServiceDeployments DescribeServiceRevisions"),
    (200, 80, "UpdateTaskProtection GetTaskProtection"),
    (10, 1, "ListServicesByNamespace"),
)


class Pace:
    """The buckets of one account and region."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: Mapping[tuple[str, str], Bucket] = {
            ("ecs", operation): bucket
            for burst, rate, operations in _ECS
            for bucket in (Bucket(burst, rate),)
            for operation in operations.split()
        }

    def wait(self, service: str, operation: str) -> None:
        """Block until the call may be sent."""
        bucket = self._buckets.get((service, operation))
        delay = bucket.reserve(self._clock.now()) if bucket else 0.0
        if delay:
            self._clock.sleep(delay)
