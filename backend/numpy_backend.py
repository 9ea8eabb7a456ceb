"""NumPy: the reference."""

import ctypes
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from backend import Backend, BackendError, cores

BLOCK = 262_144  # elements of each operand: the quickest for Adam where it was measured, of 2^13 to 2^20
# Rows × weights of a part. With less, two threads within each product are quicker on an idle machine: a step of 128
# images took 1.25 times as long in two parts, with compiled loops.
PART = 450_000_000
PROBES, SLOWED = 7, 3  # products to measure, and how many times as long as with one thread is worth a sentence
PTHREADS = 1  # cblas.h: OPENBLAS_THREAD, whose number of threads is one for the whole process


def open_backend(precision: str, tf32: bool = False) -> Backend:
    """The NumPy backend in float32 or float64. Raises BackendError for `tf32`."""
    if tf32:
        raise BackendError("--tf32 is for matrix products on a GPU; leave it out or use --backend cupy")
    dtype = np.dtype(precision)
    keep_freed_memory()
    threads, limit = blas_threads()

    def asarray(a) -> np.ndarray:
        a = np.asarray(a)
        return a.astype(dtype, copy=False) if a.dtype.kind == "f" else a

    return Backend(
        name="numpy",
        xp=np,
        dtype=dtype,
        asarray=asarray,
        to_host=np.asarray,
        noise=lambda seed: np.random.SFC64(seed).state["state"]["state"].copy(),
        normal=from_stream(lambda generator, shape: generator.standard_normal(shape, dtype)),
        uniform=from_stream(lambda generator, shape: generator.random(shape, dtype)),
        fuse=fuse,
        compile=lambda step: step,
        synchronize=lambda: None,
        versions={"numpy": np.__version__, "threads": threads},
        on_host=lambda f, **parts: f,
        parts=lambda rows, weights: threads if rows * weights >= threads * PART else 1,
        each=on_threads(threads, limit),
        advice=lambda: advice(threads, limit),
    )


def from_stream(draw: Callable) -> Callable:
    """draw(generator, shape) as a function of (noise, shape), where noise is the generator's state and is advanced."""
    of_thread = threading.local()  # two threads that draw at once would mix their streams

    def numbers(noise: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if not hasattr(of_thread, "generator"):
            of_thread.generator = np.random.Generator(np.random.SFC64(0))
        generator, bits = of_thread.generator, of_thread.generator.bit_generator
        bits.state = {"bit_generator": "SFC64", "state": {"state": noise}, "has_uint32": 0, "uinteger": 0}
        out = draw(generator, shape)
        noise[...] = bits.state["state"]["state"]
        return out

    return numbers


def keep_freed_memory() -> None:
    """Asks glibc to keep what a step frees for the next one; giving it back and taking it anew costs a step a fifth."""
    mmap_threshold, trim_threshold = -3, -1  # malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another C library
    mallopt(mmap_threshold, 2**25)
    mallopt(trim_threshold, 2**30)


def blas_threads() -> tuple[int, Callable]:
    """How many threads NumPy's BLAS works with, and what sets that; 1 where this BLAS has no such function."""
    try:
        blas = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (OSError, AttributeError):
        return 1, lambda count: None
    for name in ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}"):
        get, set_, kind = (
            getattr(blas, name.format(f), None) for f in ("get_num_threads", "set_num_threads", "get_parallel")
        )
        if get and set_ and kind and kind() == PTHREADS:
            set_(min(get(), cores()))  # it counts the machine's, not those of a container
            return get(), set_
    return 1, lambda count: None  # Accelerate, MKL, or an OpenBLAS whose threads each count their own


def advice(threads: int, limit: Callable) -> str:
    """What to say where other programs keep BLAS's threads from working: the first yields its core while it waits."""
    a, b = np.ones((128, 784), np.float32), np.ones((784, 512), np.float32)

    def seconds(count: int) -> float:
        limit(count)
        started = time.perf_counter()
        np.matmul(a, b)
        return time.perf_counter() - started

    if threads == 1:
        return ""
    rounds = [(seconds(threads), seconds(1)) for _ in range(PROBES)]
    limit(threads)
    with_all, with_one = (statistics.median(times) for times in zip(*rounds, strict=True))
    times = with_all / with_one
    said = f"other programs keep this one waiting: with OMP_NUM_THREADS=1 it is some {times:.0f} times faster"
    return said if times > SLOWED else ""


def on_threads(threads: int, limit: Callable) -> Callable:
    """each(f, parts), a part a thread, with BLAS limited to one thread.

    BLAS's own threads wait for each other at every product, awake, and may be put aside by a busy machine meanwhile.
    The pool's threads sleep. A part that no thread has begun when the first part is done is computed here.
    """
    pool = ThreadPoolExecutor(max(1, threads - 1))  # starts none before there is work

    def each(f, parts) -> list:
        first, *others = parts
        if not others:
            return [f(first)]
        settings = np.geterr()  # of this thread, and each thread has its own

        def work(part):
            with np.errstate(**settings):
                return f(part)

        futures = []
        try:
            limit(1)
            futures += (pool.submit(work, part) for part in others)
            found = [f(first)]
            for part, future in zip(others, futures, strict=True):
                found.append(f(part) if future.cancel() else future.result())
            return found
        finally:
            wait(future for future in futures if not future.cancelled())  # nobody writes on
            limit(threads)

    return each


def fuse(f):
    """f(xp, …) over flat vectors of one length, block by block; arguments of one number go to every block.

    Returns the sum of the first vector, each block's while it is in the cache.
    """

    def blockwise(*args):
        total = args[0].dtype.type(0)
        for start in range(0, len(args[0]), BLOCK):
            first, *others = (a[start : start + BLOCK] if np.ndim(a) else a for a in args)
            f(np, first, *others)
            total += np.sum(first)
        return total

    return blockwise
