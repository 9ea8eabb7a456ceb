"""NumPy: the reference."""

import ctypes

import numpy as np

from backend import Backend, BackendError

BLOCK = 262_144  # elements of each operand: the quickest for Adam where it was measured, of 2^13 to 2^20


def open_backend(precision: str, tf32: bool = False) -> Backend:
    """The NumPy backend in float32 or float64. Raises BackendError for `tf32`."""
    if tf32:
        raise BackendError("--tf32 is not used by --backend numpy; leave it out or use --backend cupy")
    dtype = np.dtype(precision)
    keep_freed_memory()

    def asarray(a) -> np.ndarray:
        a = np.asarray(a)
        return a.astype(dtype, copy=False) if a.dtype.kind == "f" else a

    bits = np.random.SFC64(0)
    generator = np.random.Generator(bits)

    def draw(method: str):
        def numbers(noise: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
            bits.state = {"bit_generator": "SFC64", "state": {"state": noise}, "has_uint32": 0, "uinteger": 0}
            out = getattr(generator, method)(shape, dtype)
            noise[...] = bits.state["state"]["state"]
            return out

        return numbers

    return Backend(
        name="numpy",
        xp=np,
        dtype=dtype,
        asarray=asarray,
        to_host=np.asarray,
        noise=lambda seed: np.random.SFC64(seed).state["state"]["state"].copy(),
        normal=draw("standard_normal"),
        uniform=draw("random"),
        fuse=fuse,
        compile=lambda step: step,
        synchronize=lambda: None,
        versions={"numpy": np.__version__},
        on_host=lambda f: f,
    )


def keep_freed_memory() -> None:
    """Asks glibc to keep what a step frees for the next one; giving it back and taking it anew costs a step a fifth."""
    mmap_threshold, trim_threshold = -3, -1  # malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another C library
    mallopt(mmap_threshold, 2**25)
    mallopt(trim_threshold, 2**30)


def fuse(f):
    """`f` over flat vectors of one length, evaluated block by block; arguments of one number go to every block."""

    def blockwise(*args) -> None:
        for start in range(0, max(np.size(a) for a in args), BLOCK):
            f(*(a[start : start + BLOCK] if np.ndim(a) else a for a in args))

    return blockwise
