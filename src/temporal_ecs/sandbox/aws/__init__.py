"""What moto lacks for provisioning, reading back and removing the stack: one module to an AWS service."""

from __future__ import annotations

import functools
import importlib

_MODULES = (
    "amp", "autoscaling", "cloudmap", "dsql", "ec2", "ecs", "iam", "logs", "opensearch", "secretsmanager", "tagging",
)  # fmt: skip


@functools.cache
def install() -> None:
    """Register every operation of ours and apply the few changes to moto itself. Once to a process."""
    for name in _MODULES:
        importlib.import_module(f"{__name__}.{name}")
