"""Amazon ECS, all of it ours. So far the control plane: services can be kept at a desired count of 0."""

from temporal_ecs.sandbox.aws.ecs import clusters, definitions, providers, services, settings, updates

__all__ = ["clusters", "definitions", "providers", "services", "settings", "updates"]
