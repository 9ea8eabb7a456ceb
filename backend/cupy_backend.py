"""CuPy: the same code on an NVIDIA GPU. With nvmath-python a step is recorded once as a CUDA graph and replayed."""

import sys
from functools import cache, partial
from types import SimpleNamespace

import numpy as np

from backend import Backend, BackendError

INSTALL = (
    'pip install "cupy-cuda13x[ctk]==14.2.*" "cuda-toolkit==13.0.*" (driver 580 or newer) '
    'or "cupy-cuda12x[ctk]==14.2.*" (driver 525 or newer)'
)
EAGER = "every operation is launched by itself: pip install nvmath-python lets a step be recorded as a CUDA graph"
WARM_UP = 2  # steps before the recording, in which kernels are compiled and memory is laid out
WORKSPACE = 2**25  # bytes that cuBLAS may not allocate by itself while a step is recorded
JOINED = 8  # arrays that one kernel joins at most
STREAMS = 2**14  # of random numbers side by side, 64 bytes each; CuPy's default follows the card, and noise must not


def open_backend(precision: str, tf32: bool = False) -> Backend:
    """The CuPy backend in float32 or float64, on the current device. Raises BackendError without CuPy or a GPU.

    `tf32` lets float32 matrix products round their operands to 10 bits of mantissa, on tensor cores.
    """
    cp = usable_cupy()
    dtype, stream = cp.dtype(precision), recordable_stream(cp)
    stream.__enter__()  # for good; after use(), the end of a `with stream` inside CuPy would restore the default stream
    try:
        products = products_through_cublas(cp, tf32)
    except Exception as error:  # of many kinds, if the bindings or the library behind them cannot be loaded
        if tf32:
            raise BackendError(f"--tf32 needs nvmath-python ({one_line(error)}); pip install nvmath-python") from error
        products = None
        say_once(f"run.py: --backend cupy runs eagerly ({one_line(error)}): {EAGER}")

    def asarray(a):
        a = cp.asarray(a)
        return a.astype(dtype, copy=False) if a.dtype.kind == "f" else a

    versions = {"cupy": cp.__version__, "device": cp.cuda.runtime.getDeviceProperties(0)["name"].decode()}
    return Backend(
        name="cupy",
        xp=namespace(cp, products),
        dtype=dtype,
        asarray=asarray,
        to_host=cp.asnumpy,
        noise=lambda seed: cp.random.Philox4x3210(seed, size=STREAMS)._state,
        normal=from_stream(cp, "standard_normal", dtype),
        uniform=from_stream(cp, "random", dtype),
        fuse=lambda f: then_sum(cp, cp.fuse(f)),
        compile=(lambda step: recorded(cp, stream, step)) if products else lambda step: step,
        synchronize=stream.synchronize,
        versions=versions | {"tf32": tf32, "graph": products is not None},
        on_host=through_pinned_memory,
        anywhere=partial(on_stream, stream),
    )


def then_sum(cp, kernel):
    """The kernel, and then the sum of its first argument."""

    def call(first, *others):
        kernel(first, *others)
        return cp.sum(first)

    return call


def from_stream(cp, method: str, dtype):
    """That method of CuPy's generator as a function of (noise, shape), where noise is its state and is advanced."""
    bits = cp.random.Philox4x3210(0, size=STREAMS)
    generator = cp.random.Generator(bits)

    def numbers(noise, shape: tuple[int, ...]):
        bits._state = noise  # its state on the device, which the draw advances in place
        return getattr(generator, method)(shape, dtype)

    return numbers


@cache
def say_once(sentence: str) -> None:
    """On stderr, however many backends this process opens."""
    print(sentence, file=sys.stderr)


def one_line(error: BaseException) -> str:
    """What the error says, without line breaks."""
    return " ".join(str(error).split())


@cache
def recordable_stream(cp):
    """One stream for every backend of this process: on streams of their own they would not wait for each other.

    It is not the default stream, which cannot be recorded.
    """
    return cp.cuda.Stream(non_blocking=True)


@cache
def products_through_cublas(cp, tf32: bool):
    """`recordable_matmul` with NVIDIA's bindings, made once a process: its handle and its workspace are never freed."""
    from nvmath.bindings import cublas

    return recordable_matmul(cp, cublas, recordable_stream(cp), tf32)


def usable_cupy():
    """CuPy, if there is one and a device for it. Raises BackendError that says what to install."""
    try:
        import cupy as cp
    except ImportError as error:
        raise BackendError(
            f"--backend cupy needs CuPy, which cannot be imported ({one_line(error)}): {INSTALL}"
        ) from error
    if not cp.cuda.is_available():
        driver = cp.cuda.runtime.driverGetVersion()
        speaks = f"its driver speaks CUDA {driver // 1000}.{driver % 1000 // 10}"
        found = speaks if driver else "there is no NVIDIA driver"
        raise BackendError(
            f"--backend cupy needs an NVIDIA GPU that CuPy {cp.__version__} can use and {found}: {INSTALL}"
        )
    try:
        cp.zeros(1) + 1  # compiles a kernel, for which a CuPy without [ctk] has no compiler
    except Exception as error:  # of many kinds: no library, no memory, a card too old
        raise BackendError(
            f"--backend cupy finds a GPU, and CuPy {cp.__version__} cannot compute on it ({one_line(error)}): {INSTALL}"
        ) from error
    return cp


def on_stream(stream, call):
    """call() on that stream also where another thread calls it, whose current stream would be the default one."""

    def on_any_thread():
        with stream:
            return call()

    return on_any_thread


def through_pinned_memory(f, read=lambda size: ..., written=lambda size: ...):
    """f, which works in place on a host array, for arrays on the device; a buffer stays for each kind of them.

    `read` and `written` say which part of an array of so many numbers f reads, and which it changes.
    """
    import cupyx

    buffers = {}

    def on_device(a, *args) -> None:
        key = a.shape, a.dtype.str
        if key not in buffers:
            buffers[key] = cupyx.empty_pinned(a.shape, a.dtype)
        buffer, before, after = buffers[key], read(a.size), written(a.size)
        a[before].get(out=buffer[before])  # waits for the device
        f(buffer, *args)
        a[after].set(buffer[after])

    return on_device


def namespace(cp, products) -> SimpleNamespace:
    """CuPy with one kernel for an elementwise function, or for its sum, and with `products` in place of its matmul."""

    @cache
    def fused(f):
        name = getattr(f, "func", f).__name__  # f may be a functools.partial
        # CUDA has a tanh of its own, hence the prefix.
        return cp.fuse(kernel_name=f"fused_{name}")(lambda *args: f(cp, *args))

    @cache
    def fused_sum(f):
        return cp.fuse(kernel_name=f"summed_{f.__name__}")(lambda *args: cp.sum(f(cp, *args), axis=-1))

    own = {"fused": fused, "fused_sum": fused_sum} | ({"matmul": products} if products else {}) | in_one_kernel(cp)
    return SimpleNamespace(**{name: getattr(cp, name) for name in dir(cp)} | own)


def in_one_kernel(cp) -> dict:
    """`mean`, `stack` and `concatenate` in one kernel, where CuPy launches two, or one an array.

    `sum` and `mean` over an axis of one entry, as that of K = 1 samples is, launch none.
    """
    count = "(_in_ind.size() / _out_ind.size())"
    mean = cp.ReductionKernel("T a", "T mean", "a", "a + b", f"mean = a / {count}", "0", "fused_mean")

    def but_for_one(reduce):
        def reduced(a, axis: int | None = None, out=None):
            return a[0] if axis == 0 and len(a) == 1 and out is None else reduce(a, axis=axis, out=out)

        return reduced

    @cp.fuse(kernel_name="fused_copies")
    def copy(*arrays) -> None:
        half = len(arrays) // 2
        for part, a in zip(arrays[:half], arrays[half:], strict=True):
            part[...] = a

    def concatenate(arrays, axis: int = 0):
        if len(arrays) > JOINED or len({(a.shape, a.dtype) for a in arrays}) > 1:
            return cp.concatenate(arrays, axis=axis)
        shape = list(arrays[0].shape)
        shape[axis] *= len(arrays)
        out = cp.empty(shape, arrays[0].dtype)
        copy(*cp.split(out, len(arrays), axis=axis), *arrays)
        return out

    return {
        "sum": but_for_one(cp.sum),
        "mean": but_for_one(mean),
        "concatenate": concatenate,
        "stack": lambda arrays: concatenate([a[None] for a in arrays]),
    }


def recordable_matmul(cp, cublas, stream, tf32: bool):
    """matmul(a, b, out=None) for matrices and vectors through NVIDIA's own bindings of cuBLAS.

    CuPy's own refuses while a stream is being recorded.
    """
    workspace, handle = cp.empty(WORKSPACE, cp.uint8), cublas.create()
    cublas.set_stream(handle, stream.ptr)
    cublas.set_workspace(handle, workspace.data.ptr, WORKSPACE)  # after the stream, which resets it
    cublas.set_math_mode(handle, cublas.Math.TF32_TENSOR_OP_MATH if tf32 else cublas.Math.DEFAULT_MATH)
    gemm = {"f": cublas.sgemm, "d": cublas.dgemm}
    one, zero = ({kind: np.array(value, kind) for kind in gemm} for value in (1, 0))

    def matmul(a, b, out=None):
        if a.ndim == b.ndim == 1:
            return cp.sum(a * b)  # a sum of one array goes through many blocks of threads
        kind, (m, k), n = a.dtype.char, a.shape, b.shape[1]
        out = cp.empty((m, n), a.dtype) if out is None else out
        a, b = packed(cp, a), packed(cp, b)
        # cuBLAS counts by columns, where our C = A·B lies as Cᵀ = Bᵀ·Aᵀ
        left, right = (operand(cublas, x) for x in (b, a))
        sizes = (n, m, k, one[kind].ctypes.data)
        gemm[kind](handle, left[0], right[0], *sizes, *left[1:], *right[1:], zero[kind].ctypes.data, out.data.ptr, n)
        return out

    matmul.workspace = workspace  # lives as long as the function
    return matmul


def packed(cp, a):
    """The matrix itself if its rows or its columns lie densely, else a copy."""
    return a if a.itemsize in a.strides and min(a.strides) > 0 else cp.ascontiguousarray(a)


def operand(cublas, a) -> tuple[int, int, int]:
    """(operation, pointer, leading dimension) of Aᵀ for cuBLAS: rows that lie densely are columns there."""
    by_rows = a.strides[1] == a.itemsize
    rows, columns = (0, 1) if by_rows else (1, 0)
    leading = max(a.strides[rows] // a.itemsize, a.shape[columns])
    return cublas.Operation.N if by_rows else cublas.Operation.T, a.data.ptr, leading


def recorded(cp, stream, step):
    """The step as a CUDA graph: eager at first, then recorded once, then replayed without any work on the host.

    Its memory is a pool that no one else allocates from. What the step reads and writes must stay where it is. A step
    that cannot be recorded stays eager. Raises RuntimeError if another stream has become the current one.
    """
    pool, graph, calls = cp.cuda.MemoryPool(), None, 0

    def run() -> None:
        nonlocal graph, calls
        if cp.cuda.get_current_stream() != stream:
            raise RuntimeError("another CUDA stream is current than the one that --backend cupy works on")
        if graph is None:
            with cp.cuda.using_allocator(pool.malloc):
                if calls == WARM_UP:
                    graph = capture(stream, step)
                calls += 1
                if graph is None:
                    return step()
        graph.launch(stream)

    return run


def capture(stream, step):
    """The graph of a step, which is recorded and does not run; None, said once, if it cannot be recorded."""
    try:
        stream.begin_capture()
        try:
            step()
        finally:
            graph = stream.end_capture()  # an open recording would spoil the stream
    except Exception as error:
        say_once(f"run.py: --backend cupy goes on eagerly, as the step cannot be recorded ({one_line(error)})")
        return None
    return graph
