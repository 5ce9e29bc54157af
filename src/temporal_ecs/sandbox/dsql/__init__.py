"""Aurora DSQL on a laptop: a stand-in that refuses what DSQL refuses."""

from temporal_ecs.sandbox.dsql.cluster import Limits
from temporal_ecs.sandbox.dsql.faults import Connection, Faults, Ran
from temporal_ecs.sandbox.dsql.standin import StandIn

__all__ = ["Connection", "Faults", "Limits", "Ran", "StandIn"]
