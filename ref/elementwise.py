"""Functions of single numbers, applied to whole arrays: a GPU makes one kernel of each, and Numba one loop."""

from functools import wraps


def elementwise(f):
    """Marks f(xp, a, b, …), which treats every position of its arrays alike, broadcast as usual.

    The namespaces of CuPy and Numba have `fused`, which makes a kernel or a loop of f. NumPy and autograd run f as
    written. f may write into its arrays if each of them holds a single number.
    """

    @wraps(f)
    def call(xp, *arrays):
        return xp.fused(f)(*arrays) if hasattr(xp, "fused") else f(xp, *arrays)

    return call


def summed(f):
    """Marks f(xp, a, b, …) as `elementwise` does, and sums the result over the last axis, in that kernel or loop."""
    terms = elementwise(f)

    @wraps(f)
    def call(xp, *arrays):
        return xp.fused_sum(f)(*arrays) if hasattr(xp, "fused_sum") else xp.sum(terms(xp, *arrays), axis=-1)

    return call


def averaged(f):
    """Marks f(xp, …), which stacks numbers made of means. A namespace with `averaged`, CuPy's, makes one kernel."""

    @wraps(f)
    def call(xp, *args):
        return xp.averaged(f)(*args) if hasattr(xp, "averaged") else f(xp, *args)

    return call
