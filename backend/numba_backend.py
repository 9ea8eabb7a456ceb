"""Numba: NumPy's backend, with one compiled loop for what NumPy does in several passes over memory.

A function is called once, with symbols (`symbols.py`). Numba compiles a loop around what they write down and keeps it
on disk, under a name with a digest of all that it depends on. A loop runs on the thread that calls it: threads of its
own would fight with those of BLAS.
"""

import hashlib
import math
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from backend import Backend, BackendError, numpy_backend
from backend.symbols import traced


def open_backend(precision: str, tf32: bool = False) -> Backend:
    """The Numba backend in float32 or float64. Raises BackendError for `tf32`, and without Numba."""
    try:
        import numba
    except ImportError as error:
        raise BackendError(f"--backend numba needs Numba, whose import fails ({error}): pip install numba") from error
    if numba.config.DISABLE_JIT:
        raise BackendError("NUMBA_DISABLE_JIT lets --backend numba compile nothing: unset it, or use --backend numpy")
    backend = numpy_backend.open_backend(precision, tf32)
    own = {"fused": fused, "fused_sum": lambda f: fused(f, summed=True), "sum": total}
    return backend._replace(
        name="numba",
        xp=SimpleNamespace(**vars(backend.xp) | own),
        fuse=fuse,
        normal=numpy_backend.from_stream(normals) if precision == "float32" else backend.normal,
        versions=backend.versions | {"numba": numba.__version__},
    )


def normals(generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers from N(0, 1) in float32, counted on from a number of the generator: 18 times as fast as NumPy."""
    from backend.scalars import fill_with_normals

    count = math.prod(shape)
    out = np.empty(count + count % 2, np.float32)
    fill_with_normals(np.uint64(generator.bit_generator.random_raw()), out)
    return out[:count].reshape(shape)


@cache
def fused(f, summed: bool = False):
    """The elementwise f(xp, a, b, …) in one loop over its arrays, broadcast as usual.

    With `summed`, its sum over the last axis. Without floating-point numbers in the arrays f runs as written.
    """

    @cache
    def plan(kinds: tuple):
        """The loop for operands of these types and shapes, and which of them have rows; or None."""
        types, shapes = zip(*kinds, strict=True)
        number = np.result_type(*(kind() if isinstance(kind, type) else kind for kind in types))
        widths = {shape[-1] for shape in shapes if shape}
        if number.kind != "f" or not widths or 0 in widths:
            return None
        if len(widths - {1}) > 1:
            raise ValueError(f"operands of the shapes {', '.join(map(str, shapes))} cannot be broadcast together")
        dtypes = tuple(number if isinstance(kind, type) else kind for kind in types)
        rows = tuple(shape[-1:] == (max(widths),) for shape in shapes)
        return compiled(f, dtypes, rows, summed), rows

    def call(*operands):
        kinds = tuple((a.dtype, a.shape) if hasattr(a, "dtype") else (type(a), ()) for a in operands)
        found = plan(kinds)
        if found is None:
            return np.sum(f(np, *operands), axis=-1) if summed else f(np, *operands)
        loop, rows = found
        return loop(*map(handed, operands, kinds, rows))

    return call


def handed(a, kind: tuple, row: bool):
    """An operand as a loop takes it: dense rows, a number for each row, or a single number."""
    if not row:
        return a[..., 0] if kind[1] else a
    return a if a.strides[-1] == a.itemsize or a.shape[-1] == 1 else np.ascontiguousarray(a)


def total(a, axis=None, out=None):
    """NumPy's sum, of rows and of a flat vector in a loop: 3.8 times as fast for 10⁵ float32, 1.3 for 10⁶."""
    along_rows = axis == -1 or (axis is None and np.ndim(a) == 1)
    return sum_of_rows(a) if along_rows and out is None else np.sum(a, axis=axis, out=out)


sum_of_rows = fused(lambda xp, a: a, summed=True)


def fuse(f):
    """f(xp, …), which writes into its arguments, in one loop over flat vectors; one number goes to every turn.

    Returns the sum of the first vector.
    """

    def call(*vectors):
        if not all(a.flags.c_contiguous for a in vectors):
            raise ValueError("a fused function writes into dense vectors, and one of these has gaps")
        dtypes, rows = tuple(a.dtype for a in vectors), tuple(a.ndim > 0 for a in vectors)
        return compiled(f, dtypes, rows, summed=True)(*vectors)

    return call


@cache
def compiled(f, dtypes: tuple, rows: tuple, summed: bool):
    """The loop around f as a function of NumPy's, a gufunc: NumPy broadcasts, and lets go of the interpreter.

    `rows` says which operands have a row of numbers; every other operand is one number. The loop writes into the
    operands that f changes, and returns what f returns: the first operand if nothing. With `summed`, its sum.
    """
    from numba import from_dtype, guvectorize

    from backend.scalars import kept

    count = len(dtypes)
    lines, written, returned = traced(f, count)
    arguments = ", ".join(f"a{i}" for i in range(count + len(returned)))
    head = [f"({arguments}):", "total = number(0)", f"for j in range(len(a{rows.index(True)})):"]
    body = [f"x{i} = number(a{i}{'[j]' if row else ''})" for i, row in enumerate(rows)] + lines
    body += [f"a{i}[j] = {name}" for i, name in written.items()]
    if summed:
        body += [f"total = plus(total, {returned[0]})"]
    else:
        body += [f"a{count + i}[j] = {name}" for i, name in enumerate(returned)]
    end = [f"a{count}[0] = total"] if summed else []
    text = "\n    ".join([*head, *(f"    {line}" for line in body), *end]) + "\n"
    samples = [np.ones(1, dtype) for dtype in dtypes]
    results = f(np, *samples)
    if not isinstance(results, tuple):
        results = (samples[0] if results is None else results,)
    types = [from_dtype(dtype)[::1] if row else from_dtype(dtype) for dtype, row in zip(dtypes, rows, strict=True)]
    types += [from_dtype(result.dtype)[::1] for result in results]
    sizes = ["(n)" if row else "()" for row in (*rows, *[not summed] * len(results))]
    layout = f"{','.join(sizes[:count])}->{','.join(sizes[count:])}"
    function = python_function(text, np.result_type(*dtypes), f"{types}{layout}")
    options = {"nopython": True, "writable_args": [*written]}
    return kept(lambda cache: guvectorize([tuple(types)], layout, cache=cache, **options)(function).ufunc)


def python_function(text: str, number: np.dtype, signature: str = ""):
    """The function `def loop_DIGEST` + text, in which number is the type of its numbers.

    Another signature is another name: where processes that start at once keep two signatures under one name, Numba's
    cache may hand out the other signature's loop.
    """
    from backend import scalars

    source = Path(scalars.__file__).read_text(encoding="utf-8")
    name = f"loop_{hashlib.sha256(f'{number}{signature}{text}{source}'.encode()).hexdigest()[:20]}"
    own = {name: getattr(scalars, name) for name in ("exp", "log", "tanh", "plus")}
    namespace = vars(np) | own | {"number": number.type}
    exec(compile(f"def {name}{text}", __file__, "exec"), namespace)  # of this file, beside which Numba keeps it
    return namespace[name]
