"""Functions of single numbers, applied to whole arrays: a GPU makes one kernel of each, and Numba one loop."""

from functools import wraps


def elementwise(f):
    """Marks f(xp, a, b, …), which treats every position of its arrays alike, broadcast as usual.

    A namespace with `fused`, CuPy's or Numba's, makes one kernel or one loop of it. Any other, NumPy's or autograd's,
    runs f as written.
    Where all its arrays hold one number, f may write into them.
    """

    @wraps(f)
    def call(xp, *arrays):
        return xp.fused(f)(*arrays) if hasattr(xp, "fused") else f(xp, *arrays)

    return call


def summed(f):
    """The same, and the result is summed over the last axis. A namespace with `fused_sum` makes one of both."""
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
