"""NumPy: the reference."""

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace

import numpy as np

from backend import Backend, BackendError
from backend.openblas import Threads, most_at_once, openblas

BLOCK = 262_144  # elements of each operand: of 2^13 to 2^20 the quickest for Adam
# Rows × weights of a part. With less, two threads within each product are quicker: a step of 128 images took 1.25 times
# as long in two parts.
PART = 450_000_000
LINALG = ("eigh", "eigvalsh", "qr")  # which `ref` calls


def open_backend(precision: str, tf32: bool = False) -> Backend:
    """The NumPy backend in float32 or float64. Raises BackendError for `tf32`."""
    if tf32:
        raise BackendError("TF32 is for matrix products on a GPU: take --precision float32, or --backend cupy")
    dtype = np.dtype(precision)
    keep_freed_memory()
    matmul, threads = openblas()
    linalg = vars(np.linalg) | {name: threads.limited(getattr(np.linalg, name)) for name in LINALG}
    own = {"matmul": matmul, "linalg": SimpleNamespace(**linalg)}  # the same bits with any number of threads
    most = 1 if matmul is np.matmul else most_at_once()

    def asarray(a):
        a = np.asarray(a)
        return a.astype(dtype, copy=False) if a.dtype.kind == "f" else a

    return Backend(
        name="numpy",
        xp=SimpleNamespace(**vars(np) | own),  # not dir(np), which also names what is not yet imported
        dtype=dtype,
        asarray=asarray,
        to_host=np.asarray,
        noise=lambda seed: np.random.SFC64(seed).state["state"]["state"].copy(),
        normal=from_stream(lambda generator, shape: generator.standard_normal(shape, dtype)),
        uniform=from_stream(lambda generator, shape: generator.random(shape, dtype)),
        fuse=fuse,
        compile=lambda step: step,
        synchronize=lambda: None,
        versions={"numpy": np.__version__, "threads": threads.count},
        on_host=lambda f, **parts: f,
        parts=lambda rows, weights: most if rows * weights >= most * PART else 1,
        each=on_threads(threads),
    )


def from_stream(draw):
    """draw(generator, shape) as a function of (noise, shape), which advances noise, the generator's state."""
    of_thread = threading.local()  # two threads that draw at once would mix their streams

    def numbers(noise, shape):
        if not hasattr(of_thread, "generator"):
            of_thread.generator = np.random.Generator(np.random.SFC64(0))
        generator, bits = of_thread.generator, of_thread.generator.bit_generator
        bits.state = {"bit_generator": "SFC64", "state": {"state": noise}, "has_uint32": 0, "uinteger": 0}
        out = draw(generator, shape)
        noise[...] = bits.state["state"]["state"]
        return out

    return numbers


def keep_freed_memory() -> None:
    """Asks glibc to keep the memory that a step frees: to ask for it anew costs a fifth of a step."""
    mmap_threshold, trim_threshold = -3, -1  # malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another C library
    mallopt(mmap_threshold, 2**25)
    mallopt(trim_threshold, 2**30)


def on_threads(threads: Threads):
    """each(f, parts), all parts at once, each on a thread of its own, which sleeps while it waits.

    A part that no thread has begun when the first part is done is computed here.
    """
    pool = ThreadPoolExecutor(max(1, threads.count - 1))  # starts none before there is work

    def each(f, parts) -> list:
        first, *others = parts
        if not others:
            return [f(first)]
        settings = np.geterr()  # of this thread: each thread has settings of its own

        def work(part):
            with np.errstate(**settings), threads.part():
                return f(part)

        futures = []
        with threads:
            if threads.count == 1:
                return [work(part) for part in parts]
            try:
                futures += (pool.submit(work, part) for part in others)
                found = [work(first)]
                for part, future in zip(others, futures, strict=True):
                    found.append(work(part) if future.cancel() else future.result())
                return found
            finally:
                wait(future for future in futures if not future.cancelled())  # nobody writes on

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
