"""CloudWatch Logs: moto's, with the member that it forgets."""

from __future__ import annotations

from typing import Any

from temporal_ecs.sandbox.world import Request, operation


@operation("logs", "DescribeLogGroups")
def describe_log_groups(request: Request) -> Any:
    """Every group has a class."""
    answer = request.moto()
    for group in answer["logGroups"]:
        group.setdefault("logGroupClass", "STANDARD")
    return answer
