"""tecs: operate a Temporal cluster on Amazon ECS with Aurora DSQL."""

__version__ = "0.1.0"
