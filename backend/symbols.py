"""A function of numbers, written down: it is called with symbols, which note what is done to them."""

from numbers import Real

import numpy as np


class Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """A number in a loop or in a kernel. NumPy's functions of it, operators included, become lines.

    As with CuPy's fused functions there is no function but NumPy's ufuncs, `where` and `clip`.
    """

    def __init__(self, lines: list[str], name: str):
        self.lines, self.name = lines, name

    def __bool__(self):
        raise TypeError("a loop has no `if` on a value: use xp.where, xp.minimum or xp.maximum")

    def __array_ufunc__(self, ufunc, method, *operands, out=None):
        if method != "__call__":
            raise TypeError(f"numpy.{ufunc.__name__}.{method} is no function of single numbers, so no loop can have it")
        target = Symbol(self.lines, "") if out is None else out[0]  # in place, the symbol stands for the new number
        target.name = self.line(ufunc.__name__, operands)
        return target

    def __array_function__(self, function, types, operands, named):
        if function is np.clip and not named:
            a, low, high = operands
            return np.minimum(np.maximum(a, low), high)
        if function is not np.where or named:
            raise TypeError(f"numpy.{function.__name__} is no function of single numbers, so no loop can have it")
        return Symbol(self.lines, self.line("where", operands))

    def line(self, function: str, operands: tuple) -> str:
        """The name of what one more line computes."""
        odd = [type(a).__name__ for a in operands if not isinstance(a, Symbol | Real)]
        if odd:
            raise TypeError(f"a loop has numbers and its own operands, and no {odd[0]} from elsewhere")
        names = (a.name if isinstance(a, Symbol) else f"number({float(a)!r})" for a in operands)
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {function}({', '.join(names)})")
        return name


def traced(f, count: int) -> tuple[list[str], list[Symbol], tuple[Symbol, ...]]:
    """The lines of f(np, x0, …), its operands at the end, and what it returns."""
    lines = []
    symbols = [Symbol(lines, f"x{i}") for i in range(count)]
    returned = f(np, *symbols)
    if returned is None:
        returned = ()
    return lines, symbols, returned if isinstance(returned, tuple) else (returned,)
