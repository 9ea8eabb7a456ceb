"""Kernels in CUDA C where CuPy's fusion makes several: an update with a flag, means and what is made of them."""

from functools import cache, partial
from pathlib import Path

from backend.symbols import traced

SOURCE = Path(__file__).with_name("kernels.cuh").read_text(encoding="utf-8")
THREADS = 256  # as there
KINDS = {"f": "float", "d": "double"}


def in_place(cp, f):
    """f(xp, vector, …), which writes into vectors; one number goes to every place.

    Returns 0, or nan as soon as the first vector has held a number that is not finite, and ever after.
    """
    flag = cache(partial(cp.zeros, ()))

    @cache
    def kernel(count: int):
        lines, symbols, _ = traced(f, count)
        written = [i for i, symbol in enumerate(symbols) if symbol.name != f"x{i}"]
        first = symbols[0].name
        stores = [f"y{i} = {symbols[i].name}" for i in written]
        body = [
            *(f"const T {line}" for line in lines),
            *stores,
            f"if ({first} - {first} != 0) flag[0] = {first} - {first}",
        ]
        inputs = ", ".join(f"T x{i}" for i in range(count))
        outputs = "".join(f"T y{i}, " for i in written) + "raw T flag"
        return cp.ElementwiseKernel(inputs, outputs, ";\n".join(body), "in_place", preamble=SOURCE), written

    def call(*vectors):
        run, written = kernel(len(vectors))
        raised = flag(vectors[0].dtype)
        run(*vectors, *(vectors[i] for i in written), raised)
        return raised

    return call


class Number:
    """A number that a kernel is going to compute. What is done to it becomes lines of the kernel."""

    __array_priority__ = 1000  # above that of CuPy's arrays, which leave their operators to it

    def __init__(self, name: str, write):
        self.name, self.write = name, write

    def __neg__(self):
        return self.write("negative", self)


def operator(function: str, reflected: bool):
    """The operator that writes a line with that function."""
    return lambda a, b: a.write(function, *((b, a) if reflected else (a, b)))


for name, function in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide")):
    setattr(Number, f"__{name}__", operator(function, reflected=False))
    setattr(Number, f"__r{name}__", operator(function, reflected=True))


def averaged(cp, xp, f):
    """f(xp, …), which stacks numbers made of means: one kernel averages every array once.

    Where f does more with a mean than arithmetic, it runs as written.
    """

    def call(*args):
        try:
            return in_one_kernel(cp, xp, f, args)
        except TypeError:  # CuPy's, of an operand that is no array
            return f(xp, *args)

    return call


def in_one_kernel(cp, xp, f, args: tuple):
    """f(xp, …) once, with a Number for each mean."""
    lines, loads, sent = [], {}, []

    def loaded(a, load: str) -> Number:
        """What is loaded from a, once for each place in memory."""
        key = a.data.ptr, a.size
        if key not in loads:
            i = len(loads)
            loads[key] = f"const T x{i} = {load.format(f'a{i}')};"
            sent.append(a)  # and it is kept: nobody else gets its place
        return Number(f"x{[*loads].index(key)}", write)

    def name_of(a) -> str:
        if isinstance(a, cp.ndarray) and a.ndim == 0:
            a = loaded(a, "*{}")
        return a.name if isinstance(a, Number) else f"number({float(a)!r})"

    def write(function: str, *operands) -> Number:
        lines.append(f"const T t{len(lines)} = {function}({', '.join(map(name_of, operands))});")
        return Number(f"t{len(lines) - 1}", write)

    def mean(a, axis: int | None = None, out=None):
        return loaded(a, f"mean({{}}, {a.size}, sums)") if axis is None else xp.mean(a, axis=axis, out=out)

    def stack(found: list):
        stores = [f"if (threadIdx.x == 0) out[{i}] = {name_of(a)};" for i, a in enumerate(found)]
        if len({a.dtype for a in sent}) > 1:
            raise TypeError("the numbers of a kernel are of one type")
        out = cp.empty(len(found), sent[0].dtype)
        body = "\n    ".join([*loads.values(), *lines, *stores])
        kernel = means_kernel(cp, out.dtype.char, len(sent), body)
        kernel((1,), (THREADS,), (*map(cp.ascontiguousarray, sent), out))
        return out

    return f(type(xp)(**vars(xp) | {"mean": mean, "stack": stack}), *args)


@cache
def means_kernel(cp, kind: str, count: int, body: str):
    """The kernel `means` with that body, of so many arrays a0, a1, …"""
    parameters = "".join(f"const T* a{i}, " for i in range(count))
    head = f'typedef {KINDS[kind]} T;\n{SOURCE}\nextern "C" __global__ void means({parameters}T* out) {{\n'
    return cp.RawKernel(f"{head}    __shared__ T sums[THREADS];\n    {body}\n}}\n", "means")
