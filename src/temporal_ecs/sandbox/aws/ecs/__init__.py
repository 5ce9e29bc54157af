"""Amazon ECS, all of it ours: the control plane, container instances, and a scheduler that runs tasks on them."""

from temporal_ecs.sandbox.aws.ecs import (
    clusters,
    definitions,
    instances,
    providers,
    scheduler,
    services,
    settings,
    tasks,
    updates,
)

__all__ = [
    "clusters", "definitions", "instances", "providers", "scheduler", "services", "settings", "tasks", "updates",
]  # fmt: skip
