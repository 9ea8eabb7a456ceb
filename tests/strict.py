"""A stand-in for CuPy: NumPy's arithmetic on arrays that refuse what CuPy's refuse, for `pytest --backend strict`.

They do not turn into host arrays by themselves, and do not mix with them. A step is not recorded: see tests/tape.py.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np

import backend as backends
from backend import numpy_backend


class DeviceArray:
    """Memory that its operators, its methods and `namespace` reach, and nothing else. 0-d results stay arrays."""

    __array_ufunc__ = None  # NumPy's operators leave it to those below
    __hash__ = None

    def __init__(self, memory):
        self._memory = np.asarray(memory)

    def __array__(self, *args, **kwargs):
        raise TypeError("a device array does not turn into a host array by itself; use the backend's to_host")

    def __array_function__(self, function, *args):
        raise TypeError(f"NumPy's {function.__name__} does not take a device array; use the backend's namespace")

    def __getattr__(self, name):
        if name.startswith("_"):  # NumPy asks so for an array's memory
            raise AttributeError(name)
        value = getattr(self._memory, name)
        return on_device(value) if callable(value) else wrapped(value)

    def __getitem__(self, index):
        index = unwrapped(index)
        part = self._memory[index]
        if not isinstance(part, np.ndarray):  # one entry, which is a view too
            part = self._memory[(*(index if isinstance(index, tuple) else (index,)), ...)]
        return DeviceArray(part)

    def __setitem__(self, index, value) -> None:
        self._memory[unwrapped(index)] = unwrapped(value)

    def __len__(self) -> int:
        return len(self._memory)

    def __iter__(self):
        return (self[i] for i in range(len(self)))


def add_operators() -> None:
    """Those of NumPy's arrays."""
    binary = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or")
    names = [prefix + name for name in binary for prefix in ("", "r")]
    names += ["eq", "ne", "lt", "le", "gt", "ge", "neg", "abs", "invert", "bool", "int", "float", "index"]
    for name in (f"__{name}__" for name in names):
        setattr(DeviceArray, name, on_device(getattr(np.ndarray, name)))
    for name in (f"__i{name}__" for name in binary):
        setattr(DeviceArray, name, in_place(getattr(np.ndarray, name)))


def on_device(f):
    """The function of host arrays as one of device arrays."""
    return lambda *args, **kwargs: wrapped(f(*unwrapped(args), **unwrapped(kwargs)))


def in_place(f):
    """The operator that writes into its first operand, for device arrays."""

    def operator(a, b):
        f(a._memory, unwrapped(b))
        return a

    return operator


def unwrapped(a):
    """The memory of all device arrays in a; a host array among them is refused."""
    if isinstance(a, DeviceArray):
        return a._memory
    if isinstance(a, np.ndarray):
        raise TypeError(f"a host array of shape {a.shape} where the device's is expected; use the backend's asarray")
    if isinstance(a, dict):
        return {key: unwrapped(value) for key, value in a.items()}
    return type(a)(map(unwrapped, a)) if type(a) in (tuple, list) else a


def wrapped(a):
    """Device arrays over all arrays and scalars of NumPy in a."""
    if isinstance(a, np.ndarray | np.generic):
        return DeviceArray(a)
    return tuple(map(wrapped, a)) if isinstance(a, tuple) and not all(isinstance(x, int) for x in a) else a


def namespace() -> SimpleNamespace:
    """NumPy's functions for device arrays, with `fused` as CuPy has it; host arrays enter through asarray alone."""

    def functions(module) -> dict:
        own = {name: f for name, f in vars(module).items() if not name.startswith("_")}
        return {
            name: on_device(f) if callable(f) and not isinstance(f, type) else f
            for name, f in own.items()
            if not isinstance(f, ModuleType)
        }

    xp = SimpleNamespace(**functions(np), linalg=SimpleNamespace(**functions(np.linalg)))
    xp.asarray = asarray
    xp.fused = lambda f: lambda *args: f(xp, *args)
    return xp


def asarray(a, dtype=None) -> DeviceArray:
    """A device array of a host array, of numbers or of a device array."""
    return DeviceArray(np.asarray(a._memory if isinstance(a, DeviceArray) else a, dtype))


def open_backend(precision: str, tf32: bool = False):
    """NumPy's backend with device arrays."""
    backend = numpy_backend.open_backend(precision, tf32)

    def draw(method):
        return lambda noise, shape: DeviceArray(method(noise._memory, shape))

    xp = namespace()
    return backend._replace(
        name="strict",
        xp=xp,
        asarray=lambda a: DeviceArray(backend.asarray(a._memory if isinstance(a, DeviceArray) else a)),
        to_host=lambda a: a._memory.copy(),
        noise=lambda seed: DeviceArray(backend.noise(seed)),
        normal=draw(backend.normal),
        uniform=draw(backend.uniform),
        fuse=lambda f: then_sum(xp, f),
        on_host=lambda f, **parts: lambda a, *args: f(a._memory, *args),
    )


def then_sum(xp, f):
    """f(xp, …), and then the sum of its first vector."""

    def call(first, *others):
        f(xp, first, *others)
        return xp.sum(first)

    return call


def register() -> None:
    """Lets `open_backend` and --backend find it by its name, before anything has asked for the names."""
    sys.modules["backend.strict_backend"] = sys.modules[__name__]
    backends.BACKENDS = tuple(dict.fromkeys((*backends.BACKENDS, "strict")))


add_operators()
