"""`pytest --backend cupy` runs the suite on a GPU; where there is none, what needs one skips.

`--backend strict` is a stand-in for CuPy that needs none (tests/strict.py).
"""

import os
import sys

# Before NumPy is imported: beside busy programs a second thread is thirty times as slow.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from backend import BACKENDS
from tests import strict


class WithoutAutograd:
    """A finder of modules: a test module that needs autograd is skipped with the reason."""

    def find_spec(self, name, path=None, target=None):
        if name == "autograd":
            pytest.skip("needs autograd: pip install -r tests/requirements.txt", allow_module_level=True)


try:
    import autograd  # noqa: F401
except ImportError:
    sys.meta_path.insert(0, WithoutAutograd())

settings.register_profile("project", deadline=None)  # a backend compiles a kernel when it is first called
settings.load_profile("project")


def pytest_addoption(parser) -> None:
    choices = (*BACKENDS, "strict")
    parser.addoption("--backend", choices=choices, default="numpy", help="what is under test (numpy)")


def pytest_configure(config) -> None:
    os.environ["TESTED_BACKEND"] = config.getoption("--backend")  # before tests/tested.py is imported
    if config.getoption("--backend") == "strict":
        strict.register()


@pytest.hookimpl(trylast=True)  # after what is deselected has gone
def pytest_collection_modifyitems(items) -> None:
    """The tests of a pair come first: the cause of many failures is among them."""
    name = "test_the_backward_of_a_pair_is_the_derivative_of_its_forward"
    items.sort(key=lambda item: getattr(item, "originalname", "") != name)
    found = {item.callspec.params["pair"] for item in items if getattr(item, "originalname", "") == name}
    if found:
        from tests.gradients import tested_pairs  # only now, because it opens the backend under test

        tested_pairs.update(found)


def pytest_terminal_summary(terminalreporter) -> None:
    """After a red test of the mathematics: which command points at its cause."""
    if any("mathematics" in report.nodeid for report in terminalreporter.stats.get("failed", [])):
        terminalreporter.write_line("python -m tests.by_hand marks the function of ref/ that is wrong, if there is one")
