"""Functions of single numbers, applied to whole arrays: what an array library may evaluate in one pass over memory."""

from functools import wraps


def elementwise(f):
    """Marks f(xp, a, b, …), which treats every position of its arrays alike, broadcast as usual.

    A namespace with `fused` evaluates f in one pass: one kernel on a GPU, blocks that fit the cache on a CPU. Any other
    namespace, such as autograd's, runs f as it is written.
    """

    @wraps(f)
    def call(xp, *arrays):
        return xp.fused(f)(*arrays) if hasattr(xp, "fused") else f(xp, *arrays)

    return call
