"""`pytest --backend cupy` runs tests/test_backends.py on a GPU."""

import pytest

from backend import BACKENDS, BackendError, open_backend


def pytest_addoption(parser) -> None:
    parser.addoption("--backend", choices=BACKENDS, default="numpy", help="the array library of tests/test_backends.py")


@pytest.fixture(scope="session")
def open_tested(request):
    """precision -> the backend under test; skips with the reason where it cannot be had."""

    def opened(precision: str):
        try:
            return open_backend(request.config.getoption("--backend"), precision)
        except BackendError as error:
            pytest.skip(str(error))

    return opened
