"""The backend under test, named by `pytest --backend`; the oracles run on the host.

Where it cannot be had, NumPy stands in while the tests are collected, and those that need it skip.
"""

import os

import numpy as np
import pytest

from backend import Backend, BackendError, open_backend

NAME = os.environ.get("TESTED_BACKEND", "numpy")
try:
    TESTED, MISSING = open_backend(NAME, "float64"), ""
except BackendError as error:
    TESTED, MISSING = open_backend("numpy", "float64"), str(error)
xp = TESTED.xp
ARRAY = type(xp.zeros(0))
EAGER = TESTED._replace(compile=lambda step: step)  # for steps that the host looks into
needs_backend = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def open_tested(precision: str) -> Backend:
    """The backend under test in that precision; skips with the reason where it cannot be had."""
    if MISSING:
        pytest.skip(MISSING)
    return open_backend(NAME, precision)


def on_command_line() -> list[str]:
    """The options of a run on the backend under test, none for NumPy; skips where it cannot be had."""
    return [] if open_tested("float32").name == "numpy" else ["--backend", NAME]


def device(value):
    """The value with all its host arrays on the backend, also those inside tuples, lists and dicts."""
    return moved(xp.asarray, np.ndarray, value)


def host(value):
    """The value with all its arrays of the backend on the host, numbers as numbers."""
    return moved(lambda a: TESTED.to_host(a)[()], ARRAY, value)


def moved(move, kind: type, value):
    """The value with all arrays of that kind moved."""
    if isinstance(value, kind):
        return move(value)
    if isinstance(value, dict):
        return {key: moved(move, kind, a) for key, a in value.items()}
    if type(value) in (tuple, list):
        return type(value)(moved(move, kind, a) for a in value)
    return type(value)(*(moved(move, kind, a) for a in value)) if hasattr(value, "_fields") else value


def compute(f, *args, **kwargs):
    """f(xp, *args, **kwargs) on the backend: host arrays go in, and host arrays come out."""
    return host(f(xp, *device(args), **device(kwargs)))
