"""A stand-in for CuPy: NumPy's arithmetic on arrays that refuse what CuPy's refuse.

They do not turn into host arrays by themselves, and do not mix with them.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np

import backend as backends
from backend import numpy_backend


class DeviceArray:
    """Memory that its operators, its methods and `namespace` reach, and nothing else."""

    __array_ufunc__ = None  # NumPy's operators leave it to those below
    __hash__ = None

    def __init__(self, memory):
        self._memory = np.asarray(memory)

    def __array__(self, *args, **kwargs):
        raise TypeError("a device array is no host array by itself; use the backend's to_host")

    def __array_function__(self, function, *args):
        raise TypeError(f"NumPy's {function.__name__} takes no device array; use the backend's namespace")

    def __getattr__(self, name):
        if name.startswith("_"):  # NumPy asks so for an array's memory
            raise AttributeError(name)
        value = getattr(self._memory, name)
        return on_device(value) if callable(value) else wrapped(value)

    def __getitem__(self, index):
        index = unwrapped(index)
        index = index if isinstance(index, tuple) else (index,)
        view = () if any(i is ... for i in index) else (...,)  # one entry is a view, too
        return DeviceArray(self._memory[(*index, *view)])

    def __iter__(self):
        return (self[i] for i in range(len(self)))


def on_device(f):
    """The function of host arrays as one of device arrays."""
    return lambda *args, **kwargs: wrapped(f(*unwrapped(args), **unwrapped(kwargs)))


def unwrapped(a):
    """The memory of all device arrays in a; a host array among them is refused."""
    if isinstance(a, DeviceArray):
        return a._memory
    if isinstance(a, np.ndarray):
        raise TypeError(f"a host array of shape {a.shape} is not on the device; use the backend's asarray")
    if isinstance(a, dict):
        return {key: unwrapped(value) for key, value in a.items()}
    return type(a)(map(unwrapped, a)) if type(a) in (tuple, list) else a


def wrapped(a):
    """Device arrays over all arrays and scalars of NumPy in a."""
    if isinstance(a, np.ndarray | np.generic):
        return DeviceArray(a)
    if not isinstance(a, tuple) or all(isinstance(x, int) for x in a):
        return a  # a shape, for one
    return tuple(map(wrapped, a))


BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or")
names = [prefix + name for name in BINARY for prefix in ("", "r", "i")]
names += ["eq", "ne", "lt", "le", "gt", "ge", "neg", "abs", "invert", "bool", "int", "float", "index", "len", "setitem"]
for name in (f"__{name}__" for name in names):
    setattr(DeviceArray, name, on_device(getattr(np.ndarray, name)))


def functions(module) -> dict:
    """The module's functions for device arrays, and its types and numbers."""
    found = {}
    for name, f in vars(module).items():
        if not name.startswith("_") and not isinstance(f, ModuleType):
            found[name] = f if isinstance(f, type) or not callable(f) else on_device(f)
    return found


def namespace() -> SimpleNamespace:
    """NumPy's functions, and `fused` as CuPy has it; host arrays enter through asarray alone."""
    xp = SimpleNamespace(**functions(np), linalg=SimpleNamespace(**functions(np.linalg)))
    xp.asarray = asarray
    xp.fused = lambda f: lambda *args: f(xp, *args)
    return xp


def asarray(a, dtype=None) -> DeviceArray:
    """A device array of a host array, of numbers or of a device array."""
    return DeviceArray(np.asarray(a._memory if isinstance(a, DeviceArray) else a, dtype))


def open_backend(precision: str, tf32: bool = False):
    """NumPy's backend with device arrays."""
    backend, xp = numpy_backend.open_backend(precision, tf32), namespace()

    def fuse(f):
        def call(first, *others):
            f(xp, first, *others)
            return xp.sum(first)

        return call

    return backend._replace(
        name="strict",
        xp=xp,
        asarray=lambda a: DeviceArray(backend.asarray(asarray(a)._memory)),
        to_host=lambda a: a._memory.copy(),
        noise=on_device(backend.noise),
        normal=on_device(backend.normal),
        uniform=on_device(backend.uniform),
        fuse=fuse,
        on_host=lambda f, **parts: on_device(f),
    )


def register() -> None:
    """Lets `open_backend` and --backend find it, before anything has asked for the names."""
    sys.modules["backend.strict_backend"] = sys.modules[__name__]
    backends.BACKENDS = tuple(dict.fromkeys((*backends.BACKENDS, "strict")))
