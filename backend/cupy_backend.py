"""CuPy: the same code on an NVIDIA GPU, where a step is recorded once as a CUDA graph and replayed."""

import sys
import weakref
from functools import cache, partial
from types import SimpleNamespace

from backend import Backend, BackendError
from backend.cublas import KINDS, Beside, Cublas
from backend.kernels import averaged, in_place

INSTALL = 'pip install "cupy-cuda13x[ctk]==14.2.*" "cuda-toolkit==13.0.*" (driver 580 or newer)'
INSTALL += ' or "cupy-cuda12x[ctk]==14.2.*" (driver 525 or newer)'
WARM_UP = 2  # steps before the recording, in which kernels are compiled and memory is laid out
JOINED = 8  # arrays that one kernel joins at most
# Streams of random numbers side by side, 64 bytes each. CuPy's default depends on the card, and noise must not.
STREAMS = 2**14


def open_backend(precision: str, tf32: bool = False) -> Backend:
    """The CuPy backend in float32 or float64, on the current device. Raises BackendError without CuPy or a GPU.

    `tf32` lets float32 matrix products round their operands to 10 bits of mantissa, on tensor cores.
    """
    cp = usable_cupy()
    dtype, stream = cp.dtype(precision), recordable_stream(cp)
    stream.__enter__()  # for good; after use(), a `with stream` inside CuPy would restore the default one
    try:
        cublas = recordable_products(cp, tf32)
    except Exception as error:  # of many kinds
        reason = f"cuBLAS cannot be reached through CuPy's module ({error}), as with ROCm or under Windows"
        if tf32:
            raise BackendError(f"TF32 cannot be had: {reason}; take --precision float32") from error
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
    """A method of CuPy's generator as a function of (noise, shape), which advances noise, its state."""
    bits = cp.random.Philox4x3210(0, size=STREAMS)
    generator = cp.random.Generator(bits)

    def numbers(noise, shape):
        bits._state = noise  # its state on the device, which the draw advances in place
        return getattr(generator, method)(shape, dtype)

    return numbers


@cache
def say_once(sentence: str) -> None:
    """On stderr, in one line, however many backends this process opens."""
    print(" ".join(sentence.split()), file=sys.stderr)


@cache
def recordable_stream(cp, number: int = 0):
    """The stream of that number. All backends of this process share it: on streams of their own they would not wait
    for each other. The default stream cannot be recorded.
    """
    return cp.cuda.Stream(non_blocking=True)


@cache
def recordable_products(cp, tf32: bool) -> Beside:
    """One handle and one workspace on each stream for every backend of this process."""
    first, second = recordable_stream(cp), recordable_stream(cp, 1)
    return Beside(cp, Cublas(cp, first, tf32), Cublas(cp, second, tf32))


def usable_cupy():
    """CuPy, if there is one and a device for it. Raises BackendError that says what to install."""
    try:
        import cupy as cp

        if cp.cuda.is_available():
            cp.zeros(1) + 1  # compiles a kernel, for which a CuPy without [ctk] has no compiler
            return cp
        driver = cp.cuda.runtime.driverGetVersion()
        speaks = f"the driver speaks CUDA {driver // 1000}.{driver % 1000 // 10}"
        reason = f"CuPy {cp.__version__} finds none: {speaks if driver else 'there is no NVIDIA driver'}"
    except Exception as error:  # of many kinds: no CuPy, no library, no memory, a card too old
        reason = error
    raise BackendError(f"--backend cupy needs CuPy and an NVIDIA GPU that it can compute on ({reason}): {INSTALL}")


def through_pinned_memory(f, read=lambda size: ..., written=lambda size: ...):
    """f, which works in place on a host array, for arrays on the device; a buffer stays for each kind.

    `read` and `written` say which part of an array of so many numbers f reads, and which it changes.
    """
    import cupyx

    buffer_of = cache(cupyx.empty_pinned)

    def on_device(a, *args) -> None:
        buffer, before, after = buffer_of(a.shape, a.dtype), read(a.size), written(a.size)
        a[before].get(out=buffer[before])  # waits for the device
        f(buffer, *args)
        a[after].set(buffer[after])

    return on_device


def namespace(cp, cublas: Beside | None) -> SimpleNamespace:
    """CuPy with one kernel for an elementwise function or its sum, and the products of `cublas`."""

    @cache
    def fused(f):
        name = getattr(f, "func", f).__name__  # f may be a functools.partial; CUDA has a tanh of its own
        return cp.fuse(kernel_name=f"fused_{name}")(lambda *args: f(cp, *args))

    @cache
    def fused_sum(f):
        return cp.fuse(kernel_name=f"summed_{f.__name__}")(lambda *args: cp.sum(f(cp, *args), axis=-1))

    full = cache(cp.full)  # made once, because nobody writes into it
    xp = SimpleNamespace(**{name: getattr(cp, name) for name in dir(cp)})
    xp.fused, xp.fused_sum, xp.averaged = fused, fused_sum, cache(partial(averaged, cp, xp))
    xp.full_like = lambda a, value: full(a.shape, value, a.dtype)
    xp.sum, xp.mean = but_for_one(partial(total, cp, cublas)), but_for_one(cp.mean)
    xp.concatenate = concatenation(cp)
    if cublas:
        xp.matmul = cublas.matmul
    return xp


def total(cp, cublas: Beside | None, a, axis=None, out=None):
    """The sum, of dense rows by cuBLAS."""
    dense = a.flags.c_contiguous and (out is None or out.flags.c_contiguous)
    if cublas and dense and axis == 0 and a.ndim > 1 and a.size and a.dtype.char in KINDS:
        return cublas.sum_rows(a, out)
    return cp.sum(a, axis=axis, out=out)


def but_for_one(reduce):
    """`sum` or `mean`, which launches nothing over an axis of length 1, such as K = 1 samples."""

    def reduced(a, axis=None, out=None):
        return a[0] if axis == 0 and len(a) == 1 and out is None else reduce(a, axis=axis, out=out)

    return reduced


def concatenation(cp):
    """`concatenate` by one kernel for arrays of one shape, where CuPy launches a kernel for each array."""

    @cp.fuse(kernel_name="fused_copies")
    def copy(*arrays) -> None:
        half = len(arrays) // 2
        for part, a in zip(arrays[:half], arrays[half:], strict=True):
            part[...] = a

    def concatenate(arrays, axis=0):
        if len(arrays) > JOINED or len({(a.shape, a.dtype) for a in arrays}) > 1:
            return cp.concatenate(arrays, axis=axis)
        shape = list(arrays[0].shape)
        shape[axis] *= len(arrays)
        out = cp.empty(shape, arrays[0].dtype)
        copy(*cp.split(out, len(arrays), axis=axis), *arrays)
        return out

    return concatenate


def recorded(cp, stream, step):
    """The step as a CUDA graph: eager at first, then recorded once, then replayed without work on the host.

    Its memory is a pool that no one else allocates from. What the step reads and writes must stay where it is.
    Raises RuntimeError if another stream has become the current one.
    """
    pool, graph, calls = cp.cuda.MemoryPool(), None, 0

    def run() -> None:
        nonlocal graph, calls
        if cp.cuda.get_current_stream() != stream:
            raise RuntimeError("another CUDA stream is current than that of --backend cupy")
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
    """The graph of a step, which is recorded and does not run; None, said once, if it cannot be."""
    try:
        stream.begin_capture()
        try:
            step()
        finally:
            graph = stream.end_capture()  # an open recording would spoil the stream
    except Exception as error:
        say_once(f"run.py: --backend cupy goes on eagerly, as the step cannot be recorded ({error})")
        return None
    return graph
