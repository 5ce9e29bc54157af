"""Amazon EC2 Auto Scaling: groups on launch templates, spread over their subnets."""

from temporal_ecs.sandbox.aws.autoscaling import capacity, groups

__all__ = ["capacity", "groups"]
