"""Functions of single numbers, applied to whole arrays: a GPU makes one kernel of each, and Numba one loop."""

from functools import wraps


def by_namespace(name: str, f, as_written):
    """f as the namespace's function of that name makes it anew; without such a function `as_written`."""

    @wraps(f)
    def call(xp, *args):
        return getattr(xp, name)(f)(*args) if hasattr(xp, name) else as_written(xp, *args)

    return call


def elementwise(f):
    """Marks f(xp, a, b, …), which treats every position of its arrays alike, broadcast as usual.

    The namespaces of CuPy and Numba have `fused`, which makes a kernel or a loop of f. NumPy and autograd run f as
    written. f may write into its arrays if each of them holds a single number.
    """
    return by_namespace("fused", f, f)


def summed(f):
    """Marks f(xp, a, b, …) as `elementwise` does, and sums the result over the last axis, in that kernel or loop."""
    terms = elementwise(f)
    return by_namespace("fused_sum", f, lambda xp, *arrays: xp.sum(terms(xp, *arrays), axis=-1))


def averaged(f):
    """Marks f(xp, …), which stacks numbers made of means. A namespace with `averaged`, CuPy's, makes one kernel."""
    return by_namespace("averaged", f, f)
