"""A stand-in for a recorded CUDA graph: every array operation of a step, with its host numbers, to be replayed.

It shares a graph's trap and its refusals: whatever the step computes on the host is baked into the recording, and the
value of an array cannot be read while it is made.
"""

from types import SimpleNamespace

import numpy as np


def read_as(number: type):
    """A method that gives the host the value of an array, which a recorded step may not ask for."""

    def read(self):
        if Taped.tape is not None:
            raise RuntimeError("the host reads an array while the step is recorded")
        return number(self.view(np.ndarray))

    return read


class Taped(np.ndarray):
    """A host array that plays the device's: a tape records its operations. 0-d results stay arrays."""

    tape = None  # the list of operations being recorded
    __bool__, __int__, __float__ = map(read_as, (bool, int, float))

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        inputs = [plain(a) for a in inputs]
        return perform(lambda: getattr(ufunc, method)(*inputs, **kwargs), None if out is None else out[0])

    def __array_function__(self, func, types, args, kwargs):
        kwargs = dict(kwargs)
        args, out = plain(args), kwargs.pop("out", None)
        return perform(lambda: func(*args, **plain(kwargs)), out, args)

    def astype(self, dtype, **kwargs):
        return perform(lambda: self.view(np.ndarray).astype(dtype))

    def __getitem__(self, index):
        return perform(lambda: self.view(np.ndarray)[plain(index)], sources=[self.view(np.ndarray)])

    def __setitem__(self, index, value) -> None:
        target, index, value = self.view(np.ndarray), plain(index), plain(value)
        operation(lambda: target.__setitem__(index, value))


def plain(a):
    """Ordinary arrays instead of taped ones, also inside lists, tuples and dicts."""
    if isinstance(a, Taped):
        return a.view(np.ndarray)
    if isinstance(a, dict):
        return {key: plain(value) for key, value in a.items()}
    return type(a)(plain(x) for x in a) if type(a) in (list, tuple) else a


def operation(f) -> None:
    """Does it now, and in every replay."""
    f()
    if Taped.tape is not None:
        Taped.tape.append(f)


def perform(f, out=None, sources=()):
    """The array f() computes, in `out` or in memory of its own, which every replay fills again.

    A view of one of the `sources` stays a view: reshape, transpose and their like move nothing.
    """
    if out is not None:
        operation(lambda: np.copyto(plain(out), f(), casting="same_kind"))
        return out
    result = f()
    if not isinstance(result, np.ndarray | np.generic):
        return result
    if any(isinstance(a, np.ndarray) and np.shares_memory(a, result) for a in sources):
        return result.view(Taped)
    memory = np.array(result)
    if Taped.tape is not None:
        Taped.tape.append(lambda: np.copyto(memory, f()))
    return memory.view(Taped)


def taped(backend):
    """The backend with taped arrays; `compile` records the second call of a step, and then replays it."""

    def draw(method):
        def numbers(noise, shape):
            memory = np.empty(shape, backend.dtype)
            operation(lambda: np.copyto(memory, method(plain(noise), shape)))
            return memory.view(Taped)

        return numbers

    def compile(step):
        recording, calls = [], 0

        def run() -> None:
            nonlocal calls
            calls += 1
            if calls > 2:
                for operation in recording:
                    operation()
                return
            Taped.tape = recording if calls == 2 else None
            try:
                step()
            finally:
                Taped.tape = None

        return run

    def made(create):
        return lambda *args, **kwargs: create(*args, **kwargs).view(Taped)

    creations = {name: made(getattr(np, name)) for name in ("arange", "empty", "full", "zeros")}
    return backend._replace(
        xp=SimpleNamespace(**{**vars(np), **creations}),
        asarray=lambda a: backend.asarray(a).view(Taped),
        noise=lambda seed: backend.noise(seed).view(Taped),
        normal=draw(backend.normal),
        uniform=draw(backend.uniform),
        compile=compile,
    )
