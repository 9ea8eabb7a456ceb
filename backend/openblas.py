"""NumPy's own OpenBLAS, called by ctypes: products whose bits do not depend on how many threads multiply.

OpenBLAS cuts a product as the number of its threads says, and another cut rounds otherwise. Here the shapes and
the cores of the process say how it is cut. OpenBLAS gets the blocks as a batch, of which a thread multiplies whole
blocks.
"""

import ctypes
import math
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache

import numpy as np

from backend import cores
from backend.parts import cut

PTHREADS = 1  # cblas.h: OPENBLAS_THREAD; the whole process has a single number of threads
NAMES = ("scipy_{}64_", "scipy_{}", "{}64_", "{}")  # NumPy's wheels, distributions; 64: long integers
BY_ROWS, AS_IT_IS, TRANSPOSED = 101, 111, 112  # cblas.h: CblasRowMajor, CblasNoTrans, CblasTrans
FUNCTIONS = [f"openblas_{f}" for f in ("get_num_threads", "set_num_threads", "get_parallel")]
FUNCTIONS += ["cblas_sgemm_batch", "cblas_dgemm_batch"]  # of float32, of float64
KINDS = {np.dtype("float32"): ctypes.c_float, np.dtype("float64"): ctypes.c_double}
# Batches of products of SMALL multiplications or fewer end the process in OpenBLAS before August 2026:
# pull request 5980.
SMALL = 10**6
SHARED = 2**18  # up to so many multiplications OpenBLAS takes a single thread, by its gemm.c
# Seconds by which all threads may be slower than a single thread before a single thread multiplies.
LOST = 2e-3
CREDIT = 20e-3  # seconds that all threads have gained before, and may lose besides: a system may be busy
SHORTEST, LONGEST = 16, 4096  # products for which a single thread multiplies; twice as many each time


class Threads:
    """How many threads of OpenBLAS multiply: all, or a single thread while other programs use the cores.

    The time that all threads need more than a single thread is added up, product by product: see backend/README.md.
    `with threads:` lets a single thread multiply, until every thread of Python has left the block.
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
        """Within, this thread of Python has a part of a batch: its products are not cut."""
        self.own.part = True
        try:
            yield
        finally:
            self.own.part = False

    @property
    def in_part(self) -> bool:
        """Whether this thread of Python is within `part`."""
        return getattr(self.own, "part", False)

    def multiply(self, blocks: "Blocks", *addresses: int) -> None:
        """Multiplies the blocks, and chooses for the next products by the time."""
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
        """`loss`: the seconds that all threads took more for a product than a single thread."""
        self.lost = max(-CREDIT, self.lost + loss)
        if self.lost == -CREDIT:
            self.pause = SHORTEST
        elif self.lost > LOST:
            self.alone, self.pause, self.lost = self.pause, min(2 * self.pause, LONGEST), 0.0

    def limited(self, f):
        """f, while a single thread multiplies."""

        def call(*args, **kwargs):
            if self.count == 1:
                return f(*args, **kwargs)
            with self:
                return f(*args, **kwargs)

        return call


def timed(f, *args) -> float:
    """The seconds that f takes."""
    started = time.perf_counter()
    f(*args)
    return time.perf_counter() - started


def most_at_once() -> int:
    """Into how many blocks or parts work is cut at most: the cores of the process, and at least two."""
    return max(2, cores())


class Blocks:
    """How the product of an (m, k) and a (k, n) matrix is cut; `layouts` say how A, B and C lie."""

    def __init__(self, gemm_batch, kinds: tuple, layouts: tuple, m: int, k: int, n: int, most: int):
        self.gemm_batch, (number, self.integer), self.seconds, self.measured = gemm_batch, kinds, math.inf, 0
        (flag_a, lead_a), (flag_b, lead_b), (_, lead_c) = layouts
        width, work = max(m, n), m * k * n  # the longer side of the result is cut
        least = SMALL * width // work + 1  # rows or columns of a block that is not small
        slices = cut(slice(0, width), min(most, width // least))
        self.count, widths = len(slices), [part.stop - part.start for part in slices]
        self.pointers = ctypes.c_void_p * self.count
        if m >= n:  # numbers from row to row
            sides, steps = (widths, n), (lead_a if flag_a == AS_IT_IS else 1, 0, lead_c)
        else:  # from column to column
            sides, steps = (m, widths), (0, 1 if flag_b == AS_IT_IS else lead_b, 1)
        self.starts = [[part.start * step * ctypes.sizeof(number) for part in slices] for step in steps]
        flags = self.each(flag_a, ctypes.c_int), self.each(flag_b, ctypes.c_int)
        self.before = ctypes.c_int(BY_ROWS), *flags, *map(self.each, (*sides, k)), self.each(1, number)
        self.leads, self.zeros = [*map(self.each, (lead_a, lead_b, lead_c))], self.each(0, number)
        self.after = self.integer(self.count), self.each(1)

    def each(self, value, kind=None) -> ctypes.Array:
        """An array for CBLAS: a value for each block, or a single value for all."""
        return ((kind or self.integer) * self.count)(*(value if isinstance(value, list) else [value] * self.count))

    def multiply(self, *addresses: int) -> None:
        """C = A·B, by the addresses of A, B and C."""
        found = zip(addresses, self.starts, strict=True)
        a, b, c = [self.pointers(*[address + start for start in starts]) for address, starts in found]
        of_a, of_b, of_c = self.leads
        self.gemm_batch(*self.before, a, of_a, b, of_b, self.zeros, c, of_c, *self.after)


def lies(shape: tuple, strides: tuple, itemsize: int) -> tuple[int, int] | None:
    """(CBLAS's flag, leading dimension) of a matrix; None with gaps both ways."""
    for flag, width, (down, along) in ((AS_IT_IS, shape[1], strides), (TRANSPOSED, shape[0], strides[::-1])):
        if along == itemsize and down >= width * itemsize and down % itemsize == 0:
            return flag, down // itemsize
    return None


def product(threads: Threads, gemms: dict, integer) -> Callable:
    """matmul(a, b, out=None) by `gemms`, whose integers are of that type."""
    numpys, most = threads.limited(np.matmul), most_at_once()

    @cache
    def blocks_of(dtype, most: int, of_a: tuple, of_b: tuple, *strides: tuple) -> Blocks | None:
        (m, k), (_, n), size = of_a, of_b, dtype.itemsize
        layouts = lies(of_a, strides[0], size), lies(of_b, strides[1], size), lies((m, n), strides[2], size)
        if m * k * n <= SMALL or None in layouts or layouts[2][0] != AS_IT_IS:
            return None
        return Blocks(gemms[dtype], (KINDS[dtype], integer), layouts, m, k, n, most)

    def matmul(a, b, out=None):
        """A·B, of the same bits for any number of threads."""
        dtype, shape = a.dtype, (*a.shape[:1], *b.shape[1:])
        if not a.ndim == b.ndim == 2 or dtype not in gemms or b.dtype != dtype or a.shape[1] != len(b):
            return numpys(a, b, out=out)
        if a.size * shape[1] <= SHARED and min(shape) > 1:
            return np.matmul(a, b, out=out)
        if out is None:
            out = np.empty(shape, dtype)
        elif not takes(out, shape, dtype, a, b):
            return numpys(a, b, out=out)
        parts = 1 if threads.inside and threads.in_part else most
        blocks = blocks_of(dtype, parts, a.shape, b.shape, a.strides, b.strides, out.strides)
        if blocks is None:
            return numpys(a, b, out=out)
        threads.multiply(blocks, a.ctypes.data, b.ctypes.data, out.ctypes.data)
        return out

    return matmul


def takes(out, shape: tuple, dtype, a, b) -> bool:
    """Whether a product may be written there: such an array, writeable, apart from the operands."""
    fits = out.shape == shape and out.dtype == dtype and out.flags.writeable
    return fits and not (np.may_share_memory(out, a) or np.may_share_memory(out, b))


@cache
def openblas() -> tuple[Callable, Threads]:
    """(matmul, threads). NumPy's own product and a single thread where its BLAS is no OpenBLAS, or has no batches."""
    try:
        blas = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (OSError, AttributeError):
        blas = None
    for name in NAMES:
        get, limit, kind, *gemms = (getattr(blas, name.format(f), None) for f in FUNCTIONS)
        if get and limit and kind and kind() == PTHREADS:
            limit(min(get(), cores()))  # OpenBLAS counts the machine's cores, not a container's
            if all(gemms):
                threads, integer = Threads(get(), limit), ctypes.c_int64 if "64" in name else ctypes.c_int32
                return product(threads, dict(zip(KINDS, gemms, strict=True)), integer), threads
    return np.matmul, Threads(1, lambda count: None)
