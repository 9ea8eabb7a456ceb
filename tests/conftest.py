"""`pytest --backend cupy` runs the whole suite on a GPU; where there is none, what needs one skips with the reason.

`--backend strict` is a stand-in for CuPy that needs no GPU (tests/strict.py). What has nothing to do with an array
library, such as the data files, runs as it always does.
"""

import os

from hypothesis import settings

from backend import BACKENDS
from tests import strict

settings.register_profile("project", deadline=None)  # a backend compiles a kernel when it is first called
settings.load_profile("project")


def pytest_addoption(parser) -> None:
    choices = (*BACKENDS, "strict")
    parser.addoption("--backend", choices=choices, default="numpy", help="the array library under test (numpy)")


def pytest_configure(config) -> None:
    os.environ["TESTED_BACKEND"] = config.getoption("--backend")  # before tests/tested.py is imported
    if config.getoption("--backend") == "strict":
        strict.register()
