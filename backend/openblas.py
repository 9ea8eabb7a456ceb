"""NumPy's own OpenBLAS, called by ctypes: products whose bits do not depend on how many threads multiply.

OpenBLAS cuts a product as the number of its threads says, and another cut rounds otherwise. Here the shapes and the
cores that the process may use say how a product is cut. Its blocks go to OpenBLAS as a batch, of which a thread
multiplies whole blocks. So the number of threads may be chosen anew at each product.
"""

import ctypes
import math
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, wraps

import numpy as np

from backend import cores
from backend.parts import cut

PTHREADS = 1  # cblas.h: OPENBLAS_THREAD, whose number of threads is one for the whole process
NAMES = ("scipy_{}64_", "scipy_{}", "{}64_", "{}")  # NumPy's wheels, and what distributions have; 64: long integers
BY_ROWS, AS_IT_IS, TRANSPOSED = 101, 111, 112  # cblas.h: CblasRowMajor, CblasNoTrans, CblasTrans
KINDS = {np.dtype("float32"): ("s", ctypes.c_float), np.dtype("float64"): ("d", ctypes.c_double)}
# Batches of products of so many multiplications end the process in OpenBLAS before its pull request 5980, August 2026.
SMALL = 10**6
SHARED = 2**18  # OpenBLAS multiplies with one thread up to so many multiplications, by its gemm.c
LOST = 2e-3  # seconds that several threads may lose against one before one multiplies alone
CREDIT = 20e-3  # seconds that they gained before and may lose besides: now and then a system is busy by itself
SHORTEST, LONGEST = 16, 4096  # for so many products; twice as many each time


class Threads:
    """How many threads of OpenBLAS's multiply: all, or one where busy programs keep the other threads from working.

    While OpenBLAS's first thread waits for the others, it offers its core to any program (`sched_yield`), and gets it
    back some milliseconds later. So what all threads lose against one is added up, product by product.

    `with threads:` lets one thread multiply, until every thread of Python's has left.
    """

    def __init__(self, count: int, limit: Callable[[int], None]):
        self.count, self.limit = count, limit
        self.alone, self.pause, self.lost = 0, SHORTEST, 0.0
        self.inside, self.lock, self.own = 0, threading.Lock(), threading.local()

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            self.limit(1)

    def __exit__(self, *error) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit(self.count)

    @contextmanager
    def part(self):
        """Within, this thread of Python's has a part of a batch, beside others: its products are not cut."""
        before, self.own.part = self.in_part, True
        try:
            yield
        finally:
            self.own.part = before

    @property
    def in_part(self) -> bool:
        """Whether this thread of Python's is within `part`."""
        return getattr(self.own, "part", False)

    def multiply(self, blocks: "Blocks", *addresses: int) -> None:
        """Multiplies the blocks, and chooses for the next products by the time that it takes."""
        if self.count == 1 or self.inside:
            blocks.multiply(*addresses)
        elif self.alone or blocks.measured < 2:
            with self:
                seconds = timed(blocks.multiply, *addresses)
            self.alone, blocks.measured = max(0, self.alone - 1), blocks.measured + 1
            blocks.seconds = min(seconds, blocks.seconds)
        else:
            self.judge(timed(blocks.multiply, *addresses) - blocks.seconds)

    def judge(self, loss: float) -> None:
        """`loss`: how many seconds all threads took more for a product than one takes."""
        self.lost = max(-CREDIT, self.lost + loss)
        if self.lost == -CREDIT:
            self.pause = SHORTEST
        elif self.lost > LOST:
            self.alone, self.pause, self.lost = self.pause, min(2 * self.pause, LONGEST), 0.0

    def limited(self, f: Callable) -> Callable:
        """f, while one thread multiplies."""

        @wraps(f)
        def call(*args, **kwargs):
            if self.count == 1:
                return f(*args, **kwargs)
            with self:
                return f(*args, **kwargs)

        return call


def timed(f: Callable, *args) -> float:
    """The seconds that f takes."""
    started = time.perf_counter()
    f(*args)
    return time.perf_counter() - started


def most_at_once() -> int:
    """Into how many blocks or parts work is cut at most: as many as the process may use cores, and two for one core."""
    return max(2, cores())


class Blocks:
    """How the product of an (m, k) and a (k, n) matrix is cut where these and the result lie as `layouts` say."""

    def __init__(self, gemm_batch: Callable, kinds: tuple, layouts: list[tuple], m: int, k: int, n: int, most: int):
        self.gemm_batch, (number, self.integer), self.seconds, self.measured = gemm_batch, kinds, math.inf, 0
        width, work = max(m, n), m * k * n  # the longer side of the result is cut
        least = SMALL * width // work + 1  # rows or columns of a block that is not small
        slices = cut(slice(0, width), min(most, width // least))
        self.count, widths = len(slices), [part.stop - part.start for part in slices]
        self.pointers = ctypes.c_void_p * self.count
        flags, leads, downs, alongs = zip(*layouts, strict=True)
        steps = (downs[0], 0, downs[2]) if m >= n else (0, alongs[1], alongs[2])
        self.starts = [[part.start * step * ctypes.sizeof(number) for part in slices] for step in steps]
        each = self.each
        sides = (each(widths), each(n)) if m >= n else (each(m), each(widths))
        transposed = (each(flag, ctypes.c_int) for flag in flags[:2])
        self.before = ctypes.c_int(BY_ROWS), *transposed, *sides, each(k), each(1, number)
        self.leads, self.zeros = [each(lead) for lead in leads], each(0, number)
        self.after = self.integer(self.count), each(1)

    def each(self, value, kind=None) -> ctypes.Array:
        """An array for CBLAS: a value for each block, or the same value for all."""
        return ((kind or self.integer) * self.count)(*(value if isinstance(value, list) else [value] * self.count))

    def multiply(self, *addresses: int) -> None:
        """C = A·B, by the addresses of A, B and C."""
        found = zip(addresses, self.starts, strict=True)
        a, b, c = [self.pointers(*[address + start for start in starts]) for address, starts in found]
        self.gemm_batch(*self.before, a, self.leads[0], b, self.leads[1], self.zeros, c, self.leads[2], *self.after)


def lies(shape: tuple, strides: tuple, itemsize: int) -> tuple[int, int, int, int] | None:
    """(CBLAS's flag, leading dimension, numbers from row to row, from column to column); None with gaps both ways."""
    (rows, columns), (down, along) = shape, strides
    if along == itemsize and down >= columns * itemsize and down % itemsize == 0:
        return AS_IT_IS, down // itemsize, down // itemsize, 1
    if down == itemsize and along >= rows * itemsize and along % itemsize == 0:
        return TRANSPOSED, along // itemsize, 1, along // itemsize
    return None


def product(threads: Threads, gemms: dict[np.dtype, Callable], integer) -> Callable:
    """matmul(a, b, out=None) by `gemms`, whose integers are of that type."""
    numpys, most = threads.limited(np.matmul), most_at_once()

    @cache
    def blocks_of(dtype: np.dtype, most: int, of_a: tuple, of_b: tuple, *strides: tuple) -> Blocks | None:
        (m, k), (_, n) = of_a, of_b
        found = [lies(*one, dtype.itemsize) for one in zip((of_a, of_b, (m, n)), strides, strict=True)]
        if m * k * n <= SMALL or None in found or found[2][0] != AS_IT_IS:
            return None
        return Blocks(gemms[dtype], (KINDS[dtype][1], integer), found, m, k, n, most)

    def matmul(a, b, out=None):
        """A·B, the bits of which are the same for any number of threads."""
        dtype, shape = a.dtype, (*a.shape[:1], *b.shape[1:])
        if not a.ndim == b.ndim == 2 or dtype not in gemms or b.dtype != dtype or a.shape[1] != len(b):
            return numpys(a, b, out=out)
        if a.size * shape[1] <= SHARED and min(shape) > 1:
            return np.matmul(a, b, out=out)
        if out is None:
            out = np.empty(shape, dtype)
        elif not takes(out, shape, dtype, a, b):
            return numpys(a, b, out=out)
        strides = a.strides, b.strides, out.strides
        blocks = blocks_of(dtype, 1 if threads.inside and threads.in_part else most, a.shape, b.shape, *strides)
        if blocks is None:
            return numpys(a, b, out=out)
        threads.multiply(blocks, a.ctypes.data, b.ctypes.data, out.ctypes.data)
        return out

    return matmul


def takes(out: np.ndarray, shape: tuple, dtype: np.dtype, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a product may be written there: such an array, not locked, and apart from the operands."""
    fits = out.shape == shape and out.dtype == dtype and out.flags.writeable
    return fits and not (np.may_share_memory(out, a) or np.may_share_memory(out, b))


@cache
def openblas() -> tuple[Callable, Threads]:
    """(matmul, threads). NumPy's own product and one thread where its BLAS is another one, or has no batches."""
    try:
        blas = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (OSError, AttributeError):
        blas = None
    for name in NAMES:
        names = (f"openblas_{f}" for f in ("get_num_threads", "set_num_threads", "get_parallel"))
        get, limit, kind = (getattr(blas, name.format(f), None) for f in names)
        if get and limit and kind and kind() == PTHREADS:
            limit(min(get(), cores()))  # it counts the machine's, not those of a container
            gemms = [getattr(blas, name.format(f"cblas_{letter}gemm_batch"), None) for letter, _ in KINDS.values()]
            if all(gemms):
                threads, integer = Threads(get(), limit), ctypes.c_int64 if "64" in name else ctypes.c_int32
                return product(threads, dict(zip(KINDS, gemms, strict=True)), integer), threads
    return np.matmul, Threads(1, lambda count: None)
