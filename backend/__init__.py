"""The array libraries: one file each, with the same few names, found by `open_backend`."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from backend.parts import Shared
from backend.ranks import ALONE, Ranks

BACKENDS = ("numpy", "numba", "cupy")


class BackendError(Exception):
    """The array library cannot be used here; one sentence, in one line, says what to install."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class Backend(NamedTuple):
    """What the mathematics, the training loop and the evaluation need of an array library."""

    name: str
    xp: Any  # the mathematics' namespace; may have `fused` and `fused_sum`, see ref/elementwise.py
    dtype: Any  # float32 or float64
    asarray: Callable  # host array -> device array: floating point becomes dtype, integers keep theirs
    to_host: Callable  # device array -> NumPy array
    noise: Callable  # seed -> the state of a stream of random numbers
    normal: Callable  # (noise, shape) -> standard normal numbers; advances the stream
    uniform: Callable  # (noise, shape) -> numbers uniform on [0, 1); advances the stream
    fuse: Callable  # f(xp, vectors …), elementwise and in place -> f in one pass over memory; see `Shared.update`
    compile: Callable  # a step without arguments or result -> the same step, recorded if the library can
    synchronize: Callable  # waits until the device has finished
    versions: dict  # name -> version of the libraries that do the arithmetic
    on_host: Callable  # a function that works in place on a host array, `read` and `written` -> on a device array
    ranks: Ranks = ALONE  # the processes that share the work
    parts: Callable = lambda rows, weights: 1  # of a batch of rows, images × samples, that are best computed at once
    each: Callable = lambda f, parts: [f(part) for part in parts]  # all at once, if the library can

    def shared(self, batch: int, samples: int, grad) -> Shared:
        """How a step on a batch is cut into parts and shared by processes; `grad` is its flat gradient."""
        return Shared(self, batch, samples, grad)


def cores(group: str | Path = "/sys/fs/cgroup/cpu.max") -> int:
    """How many cores this process may use, no more than a container's share of time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = Path(group).read_text().split()  # microseconds, or "max"
        return min(count, max(1, round(int(share) / int(period))))
    except (OSError, ValueError):
        return count


def open_backend(name: str, precision: str = "float32", tf32: bool = False, ranks: Ranks = ALONE) -> Backend:
    """The backend called `name`, in one of `ranks` processes; `tf32` is for matrix products on a GPU.

    Raises BackendError if it cannot be had.
    """
    if name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}; choose {', '.join(BACKENDS)}")
    backend = importlib.import_module(f"backend.{name}_backend").open_backend(precision, tf32)
    if ranks.size == 1:
        return backend
    on_device = ranks._replace(
        all_reduce=backend.on_host(ranks.all_reduce),
        reduce_scatter=backend.on_host(ranks.reduce_scatter, written=ranks.own),
        all_gather=backend.on_host(ranks.all_gather, read=ranks.own),
        broadcast=backend.on_host(ranks.broadcast),
    )
    # a recorded graph cannot wait for other ranks
    return backend._replace(ranks=on_device, compile=lambda step: step)
