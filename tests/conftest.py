"""Fixtures of all tests; no test sees AWS settings of the person who runs it."""

import os

from hypothesis import settings

from cloud import _server, new_project, provisioned, sandbox
from databases import place, standin, standin_clock

__all__ = ["_server", "new_project", "place", "provisioned", "sandbox", "standin", "standin_clock"]

if "TECS_TEST_DSQL_ENDPOINT" not in os.environ:  # else the table of truth runs there, with that person's keys
    for _name in [name for name in os.environ if name.startswith(("AWS_", "TECS_"))]:
        del os.environ[_name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

settings.register_profile("quick", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=2000)  # pytest --hypothesis-profile thorough
settings.load_profile("quick")
