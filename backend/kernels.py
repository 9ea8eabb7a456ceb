"""Kernels in CUDA C where CuPy's fusion makes several: an update with a flag; means and what is made of them."""

from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

from backend.symbols import Lines, Symbol, traced

SOURCE = Path(__file__).with_name("kernels.cuh").read_text(encoding="utf-8")
THREADS = 256  # as in kernels.cuh
KINDS = {"f": "float", "d": "double"}
ARITHMETIC = ("add", "subtract", "multiply", "divide", "negative")  # which kernels.cuh has


def in_place(cp, f):
    """f(xp, vector, …), which writes into vectors; one number goes to every place.

    Returns 0, or nan as soon as the first vector has held a number that is not finite, and ever after.
    """
    flag = cache(partial(cp.zeros, ()))

    @cache
    def kernel(count: int):
        lines, written, (first,) = traced(f, count)
        body = [f"const T {line}" for line in lines] + [f"y{i} = {name}" for i, name in written.items()]
        body.append(f"if ({first} - {first} != 0) flag[0] = {first} - {first}")
        inputs = ", ".join(f"T x{i}" for i in range(count))
        outputs = "".join(f"T y{i}, " for i in written) + "raw T flag"
        return cp.ElementwiseKernel(inputs, outputs, ";\n".join(body), "in_place", preamble=SOURCE), [*written]

    def call(*vectors):
        run, written = kernel(len(vectors))
        raised = flag(vectors[0].dtype)
        run(*vectors, *(vectors[i] for i in written), raised)
        return raised

    return call


def averaged(cp, xp, f):
    """f(xp, …), which stacks numbers made of means: one kernel averages every array once.

    Where f does more with a mean than arithmetic, it runs as written.
    """

    def call(*args):
        means = Means(cp)

        def mean(a, axis=None):
            return means.load(a) if axis is None else xp.mean(a, axis)

        own = {"mean": mean, "stack": means.stack}
        try:
            return f(SimpleNamespace(**vars(xp) | own), *args)
        except TypeError:  # of an operand that is no array for CuPy, or of another function
            return f(xp, *args)

    return call


class Means(Lines):
    """The lines of a kernel of means, each a Symbol."""

    def __init__(self, cp):
        self.cp, self.loads, self.sent = cp, {}, []

    def load(self, a) -> Symbol:
        """The mean of an array, or the number that it holds, once for each place in memory."""
        key, i = (a.data.ptr, a.size), len(self.sent)
        if key not in self.loads:
            value = f"mean(a{i}, {a.size}, sums)" if a.ndim else f"*a{i}"
            self.loads[key] = f"x{i} = {value}"
            self.sent.append(a)  # and it is kept: nobody else gets its place
        return Symbol(self, f"x{[*self.loads].index(key)}")

    def name_of(self, a) -> str:
        """As for a loop; an operand may also be a number on the device."""
        return super().name_of(self.load(a) if isinstance(a, self.cp.ndarray) and a.ndim == 0 else a)

    def add(self, function: str, operands: tuple) -> str:
        """One more line, of arithmetic alone."""
        if function not in ARITHMETIC:
            raise TypeError(f"a kernel of means has no {function}")
        return super().add(function, operands)

    def stack(self, found: list):
        """The numbers, by one kernel of all that was written down."""
        stores = [f"if (threadIdx.x == 0) out[{i}] = {self.name_of(a)};" for i, a in enumerate(found)]
        if len({a.dtype for a in self.sent}) > 1:
            raise TypeError("the numbers of a kernel are of one type")
        out = self.cp.empty(len(found), self.sent[0].dtype)
        parameters = "".join(f"const T* a{i}, " for i in range(len(self.sent)))
        head = f'extern "C" __global__ void means({parameters}T* out) {{'
        lines = [f"const T {line};" for line in (*self.loads.values(), *self)]
        source = [f"typedef {KINDS[out.dtype.char]} T;", SOURCE, head, "__shared__ T sums[THREADS];"]
        kernel = self.cp.RawKernel("\n".join([*source, *lines, *stores, "}"]), "means")
        kernel((1,), (THREADS,), (*map(self.cp.ascontiguousarray, self.sent), out))
        return out
