"""Amazon EC2: moto's VPCs, subnets, routes and instances, with AWS's delays, refusals and dependencies."""

from temporal_ecs.sandbox.aws.ec2 import endpoints, groups, nat, network, rules, tags, templates

__all__ = ["endpoints", "groups", "nat", "network", "rules", "tags", "templates"]
