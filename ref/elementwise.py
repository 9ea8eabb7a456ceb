"""Functions of single numbers, applied to whole arrays: a GPU makes one kernel of each, Numba one loop."""

from functools import wraps


def by_namespace(name: str, f, as_written):
    """What the namespace's function of that name makes of f; without such a function `as_written`."""

    @wraps(f)
    def call(xp, *args):
        return getattr(xp, name)(f)(*args) if hasattr(xp, name) else as_written(xp, *args)

    return call


def elementwise(f):
    """Marks f(xp, a, b, …), which treats every position of its arrays alike, broadcast as usual.

    CuPy's and Numba's namespaces have `fused`, which makes a kernel or a loop of f; in others f runs as written. f may
    write into its arrays if each of them holds a single number.
    """
    return by_namespace("fused", f, f)


def summed(f):
    """Marks f(xp, a, b, …) as `elementwise` does, and sums the result over the last axis in that kernel."""
    terms = elementwise(f)
    return by_namespace("fused_sum", f, lambda xp, *arrays: xp.sum(terms(xp, *arrays), axis=-1))


def averaged(f):
    """Marks f(xp, …), which stacks numbers made of means: CuPy's namespace makes one kernel."""
    return by_namespace("averaged", f, f)
