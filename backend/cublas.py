"""NVIDIA's cuBLAS, which CuPy's own module is linked to, called by ctypes: its products can be recorded.

CuPy refuses its own matrix products while a stream is recorded. Rows are summed by a product with ones, which reads
many rows at a time. CuPy's kernel waits for each row.
"""

import ctypes
from functools import cache

WORKSPACE = 2**25  # bytes that cuBLAS may not allocate by itself while a step is recorded
DEFAULT_MATH, TF32_MATH = 0, 3  # cublas_api.h: CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
AS_IT_IS, TRANSPOSED = 0, 1  # CUBLAS_OP_N, CUBLAS_OP_T
KINDS = {"f": ("S", ctypes.c_float), "d": ("D", ctypes.c_double)}  # NumPy's letter: cuBLAS's, the type


def blas_behind(cp) -> ctypes.CDLL:
    """cuBLAS, of any version. With ROCm and under Windows it has no such functions: AttributeError."""
    return ctypes.CDLL(cp.cuda.cublas.__file__)


class Cublas:
    """Products on one stream. The handle and its workspace live as long as the process."""

    def __init__(self, cp, stream, tf32: bool):
        self.cp, self.stream, self.blas, self.handle = cp, stream, blas_behind(cp), ctypes.c_void_p()
        self.workspace, self.ones = cp.empty(WORKSPACE, cp.uint8), cache(cp.ones)
        self.call("Create_v2", ctypes.byref(self.handle))
        self.call("SetStream_v2", self.handle, ctypes.c_void_p(stream.ptr))
        size = ctypes.c_size_t(WORKSPACE)  # after the stream, which resets it
        self.call("SetWorkspace_v2", self.handle, pointer(self.workspace), size)
        self.call("SetMathMode", self.handle, TF32_MATH if tf32 else DEFAULT_MATH)

    def call(self, name: str, *args) -> None:
        """cublasNAME(…). Raises RuntimeError unless it succeeds."""
        if status := getattr(self.blas, f"cublas{name}")(*args):
            raise RuntimeError(f"cublas{name} ends with status {status}")

    def matmul(self, a, b, out=None):
        """A·B of matrices, or of two vectors."""
        cp = self.cp
        if a.ndim == b.ndim == 1:
            return cp.sum(a * b)  # a sum of one array goes through many blocks of threads
        (letter, number), (m, k), n = KINDS[a.dtype.char], a.shape, b.shape[1]
        out = cp.empty((m, n), a.dtype) if out is None else out
        a, b = packed(cp, a), packed(cp, b)
        # cuBLAS counts by columns, where our C = A·B lies as Cᵀ = Bᵀ·Aᵀ
        (left, *left_at), (right, *right_at) = operand(b), operand(a)
        one, zero = ctypes.byref(number(1)), ctypes.byref(number(0))
        sizes = left, right, n, m, k, one
        self.call(f"{letter}gemm_v2", self.handle, *sizes, *left_at, *right_at, zero, pointer(out), n)
        return out

    def sum_rows(self, a, out=None):
        """Σ over the first axis of a dense array of two or more axes."""
        letter, number = KINDS[a.dtype.char]
        out = self.cp.empty(a.shape[1:], a.dtype) if out is None else out
        rows, columns = len(a), out.size
        one, zero = ctypes.byref(number(1)), ctypes.byref(number(0))
        by_columns, ones = (columns, rows, one, pointer(a), columns), pointer(self.ones(rows, a.dtype))
        self.call(f"{letter}gemv_v2", self.handle, AS_IT_IS, *by_columns, ones, 1, zero, pointer(out), 1)
        return out


class Beside:
    """Gradients of weights and biases on a second stream, beside the other products of the backward pass.

    Within a step, what is written into a given array goes there: only the update reads it. A product waits for all that
    the first stream has launched so far, and the update for all products. Until then the operands are kept, because the
    first stream would launch into memory that is free again. Several processes do not use this class,
    because they send each other gradients before the update.
    """

    def __init__(self, cp, main: Cublas, side: Cublas):
        self.cp, self.main, self.side = cp, main, side
        side.ones = main.ones  # ones are made on the first stream
        self.event, self.kept = cp.cuda.Event(disable_timing=True), None  # the operands; None outside of a step

    def matmul(self, a, b, out=None):
        """A·B"""
        if out is None or self.kept is None:
            return self.main.matmul(a, b, out)
        a, b = packed(self.cp, a), packed(self.cp, b)  # on the first stream
        return self.after(a, b).matmul(a, b, out)

    def sum_rows(self, a, out=None):
        """Σ over the first axis."""
        if out is None or self.kept is None:
            return self.main.sum_rows(a, out)
        return self.after(a, self.main.ones(len(a), a.dtype)).sum_rows(a, out)

    def after(self, *operands) -> Cublas:
        """The second stream's products, which wait for the operands."""
        self.kept.extend(operands)
        self.event.record(self.main.stream)
        self.side.stream.wait_event(self.event)
        return self.side

    def join(self) -> None:
        """The first stream waits for the second one."""
        if self.kept:
            self.event.record(self.side.stream)
            self.main.stream.wait_event(self.event)
            self.kept.clear()

    def within(self, step):
        """The step, with its gradients beside it."""

        def run() -> None:
            self.kept = []
            try:
                step()
                self.join()  # if the step had no update
            finally:
                self.kept = None

        return run

    def before(self, update):
        """The update, which waits for the gradients."""

        def waits(*arrays):
            self.join()
            return update(*arrays)

        return waits


def pointer(a) -> ctypes.c_void_p:
    """Where the array lies on the device."""
    return ctypes.c_void_p(a.data.ptr)


def packed(cp, a):
    """The matrix itself if its rows or its columns lie densely, else a copy."""
    return a if a.itemsize in a.strides and min(a.strides) > 0 else cp.ascontiguousarray(a)


def operand(a) -> tuple[int, ctypes.c_void_p, int]:
    """(operation, pointer, leading dimension) of Aᵀ for cuBLAS: rows that lie densely are columns there."""
    by_rows = a.strides[1] == a.itemsize
    rows, columns = (0, 1) if by_rows else (1, 0)
    leading = max(a.strides[rows] // a.itemsize, a.shape[columns])
    return AS_IT_IS if by_rows else TRANSPOSED, pointer(a), leading
