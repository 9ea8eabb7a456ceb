"""CuPy: the same code on an NVIDIA GPU, eagerly: one kernel launch per operation."""

from backend import Backend, BackendError

INSTALL = (
    'pip install "cupy-cuda13x[ctk]==14.2.*" "cuda-toolkit==13.0.*" (driver 580 or newer) '
    'or "cupy-cuda12x[ctk]==14.2.*" (driver 525 or newer)'
)


def open_backend(precision: str) -> Backend:
    """The CuPy backend in float32 or float64, on the current device. Raises BackendError without CuPy or a GPU."""
    try:
        import cupy as cp
        import cupyx
    except ImportError as error:
        raise BackendError(f"--backend cupy needs CuPy, which cannot be imported ({error}): {INSTALL}") from error
    if not cp.cuda.is_available():
        driver = cp.cuda.runtime.driverGetVersion()
        found = (
            f"its driver speaks CUDA {driver // 1000}.{driver % 1000 // 10}" if driver else "there is no NVIDIA driver"
        )
        raise BackendError(
            f"--backend cupy needs an NVIDIA GPU that CuPy {cp.__version__} can use and {found}: {INSTALL}"
        )
    dtype = cp.dtype(precision)

    def asarray(a):
        a = cp.asarray(a)
        return a.astype(dtype, copy=False) if a.dtype.kind == "f" else a

    bits = cp.random.Philox4x3210(0)
    generator = cp.random.Generator(bits)

    def draw(method: str):
        def numbers(noise, shape: tuple[int, ...]):
            bits._state = noise  # its state on the device, which the draw advances in place
            return getattr(generator, method)(shape, dtype)

        return numbers

    buffers = {}

    def on_host(f):
        def through_pinned_memory(a, *args) -> None:
            key = a.shape, a.dtype.str
            if key not in buffers:
                buffers[key] = cupyx.empty_pinned(a.shape, a.dtype)
            a.get(out=buffers[key])  # waits for the device
            f(buffers[key], *args)
            a.set(buffers[key])

        return through_pinned_memory

    return Backend(
        name="cupy",
        xp=cp,
        dtype=dtype,
        asarray=asarray,
        to_host=cp.asnumpy,
        noise=lambda seed: cp.random.Philox4x3210(seed)._state,
        normal=draw("standard_normal"),
        uniform=draw("random"),
        fuse=cp.fuse,
        compile=lambda step: step,
        synchronize=cp.cuda.get_current_stream().synchronize,
        versions={"cupy": cp.__version__, "device": cp.cuda.runtime.getDeviceProperties(0)["name"].decode()},
        on_host=on_host,
    )
