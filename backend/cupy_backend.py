"""CuPy: the same code on an NVIDIA GPU, where a step is recorded once as a CUDA graph and replayed."""

import sys
import weakref
from functools import cache, partial
from types import SimpleNamespace

from backend import Backend, BackendError
from backend.cublas import KINDS, Beside, Cublas
from backend.kernels import averaged, in_place

INSTALL = (
    'pip install "cupy-cuda13x[ctk]==14.2.*" "cuda-toolkit==13.0.*" (driver 580 or newer) '
    'or "cupy-cuda12x[ctk]==14.2.*" (driver 525 or newer)'
)
WARM_UP = 2  # steps before the recording, in which kernels are compiled and memory is laid out
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
        cublas = Beside(cp, cublas_of(cp, tf32, "first"), cublas_of(cp, tf32, "second"))
    except Exception as error:  # of many kinds, if the library cannot be reached or does not work
        reason = f"cuBLAS cannot be reached through CuPy's module ({one_line(error)}), as with ROCm or under Windows"
        if tf32:
            raise BackendError(f"--tf32 cannot be had: {reason}; leave it out") from error
        cublas = None
        say_once(f"run.py: --backend cupy launches every operation by itself, a few times slower: {reason}")

    def asarray(a):
        a = cp.asarray(a)
        return a.astype(dtype, copy=False) if a.dtype.kind == "f" else a

    versions = {"cupy": cp.__version__, "device": cp.cuda.runtime.getDeviceProperties(0)["name"].decode()}
    return Backend(
        name="cupy",
        xp=namespace(cp, cublas),
        dtype=dtype,
        asarray=asarray,
        to_host=cp.asnumpy,
        noise=lambda seed: cp.random.Philox4x3210(seed, size=STREAMS)._state,
        normal=from_stream(cp, "standard_normal", dtype),
        uniform=from_stream(cp, "random", dtype),
        fuse=lambda f: cublas.before(in_place(cp, f)) if cublas else in_place(cp, f),
        compile=lambda step: recorded(cp, stream, cublas.within(step)) if cublas else step,
        synchronize=stream.synchronize,
        versions=versions | {"tf32": tf32, "graph": cublas is not None},
        on_host=through_pinned_memory,
    )


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


def recordable_stream(cp):
    """The stream of every backend of this process: on streams of their own they would not wait for each other."""
    return stream_of(cp, "first")


@cache
def stream_of(cp, name: str):
    """A stream by that name, which can be recorded, as the default stream cannot."""
    return cp.cuda.Stream(non_blocking=True)


@cache
def cublas_of(cp, tf32: bool, stream: str) -> Cublas:
    """One handle and one workspace on a stream for every backend of this process."""
    return Cublas(cp, stream_of(cp, stream), tf32)


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


def namespace(cp, cublas: Beside | None) -> SimpleNamespace:
    """CuPy with one kernel for an elementwise function, or for its sum, and with the products of `cublas`."""

    @cache
    def fused(f):
        name = getattr(f, "func", f).__name__  # f may be a functools.partial
        # CUDA has a tanh of its own, hence the prefix.
        return cp.fuse(kernel_name=f"fused_{name}")(lambda *args: f(cp, *args))

    @cache
    def fused_sum(f):
        return cp.fuse(kernel_name=f"summed_{f.__name__}")(lambda *args: cp.sum(f(cp, *args), axis=-1))

    own = {"fused": fused, "fused_sum": fused_sum} | own_functions(cp, cublas)
    own |= {"matmul": cublas.matmul} if cublas else {}
    xp = SimpleNamespace(**{name: getattr(cp, name) for name in dir(cp)} | own)
    xp.averaged = cache(partial(averaged, cp, xp))
    return xp


def own_functions(cp, cublas: Beside | None) -> dict:
    """`concatenate` in one kernel, where CuPy launches one an array; sums over rows by `cublas`.

    `sum` and `mean` over an axis of one entry, as that of K = 1 samples is, launch none.
    """

    def total(a, axis: int | None = None, out=None):
        dense = a.flags.c_contiguous and (out is None or out.flags.c_contiguous)
        in_rows = axis == 0 and a.ndim > 1 and a.size and a.dtype.char in KINDS and dense
        return cublas.sum_rows(a, out) if cublas and in_rows else cp.sum(a, axis=axis, out=out)

    def but_for_one(reduce):
        def reduced(a, axis: int | None = None, out=None):
            return a[0] if axis == 0 and len(a) == 1 and out is None else reduce(a, axis=axis, out=out)

        return reduced

    @cache
    def full(shape: tuple[int, ...], dtype, value: float):
        return cp.full(shape, value, dtype)

    def constant(a, value: float):
        """Made once, because nobody writes into it."""
        return full(a.shape, a.dtype, value)

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
        "full_like": constant,
        "sum": but_for_one(total),
        "mean": but_for_one(cp.mean),
        "concatenate": concatenate,
    }


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

    freed = weakref.finalize(run, pool.free_all_blocks)  # CuPy keeps the memory of a pool that is dropped
    freed.atexit = False  # there the device may be gone
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
