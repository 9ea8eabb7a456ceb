"""A function of numbers, written down: it is called with symbols, which note what is done to them."""

from numbers import Real

import numpy as np


class Lines(list):
    """The lines of a loop or of a kernel. Each computes a number: t0, t1, …"""

    def add(self, function: str, operands: tuple) -> str:
        """The name of what one more line computes."""
        names = ", ".join(map(self.name_of, operands))
        self.append(f"t{len(self)} = {function}({names})")
        return f"t{len(self) - 1}"

    def name_of(self, a) -> str:
        """What stands for an operand in a line."""
        if isinstance(a, Symbol):
            return a.name
        if isinstance(a, Real):
            return f"number({float(a)!r})"
        raise TypeError(f"a loop has numbers and its own operands, and no {type(a).__name__} from elsewhere")


class Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """A number in a loop or in a kernel. NumPy's functions of it, operators included, become lines.

    As with CuPy's fused functions there is no function but NumPy's ufuncs, `where` and `clip`.
    """

    def __init__(self, lines: Lines, name: str):
        self.lines, self.name = lines, name

    def __bool__(self):
        raise TypeError("a loop has no `if` on a value: use xp.where, xp.minimum or xp.maximum")

    def __array_ufunc__(self, ufunc, method, *operands, out=None):
        if method != "__call__":
            raise TypeError(f"numpy.{ufunc.__name__}.{method} is no function of single numbers")
        target = Symbol(self.lines, "") if out is None else out[0]  # in place, it stands for the new number
        target.name = self.lines.add(ufunc.__name__, operands)
        return target

    def __array_function__(self, function, types, operands, named):
        if function is np.clip and not named:
            a, low, high = operands
            return np.minimum(np.maximum(a, low), high)
        if function is not np.where or named:
            raise TypeError(f"numpy.{function.__name__} is no function of single numbers")
        return Symbol(self.lines, self.lines.add("where", operands))


def traced(f, count: int) -> tuple[Lines, dict[int, str], list[str]]:
    """The lines of f(np, x0, …), what it writes into operands, and what it returns: the first operand if nothing."""
    lines = Lines()
    symbols = [Symbol(lines, f"x{i}") for i in range(count)]
    returned = f(np, *symbols)
    written = {i: symbol.name for i, symbol in enumerate(symbols) if symbol.name != f"x{i}"}
    if not isinstance(returned, tuple):
        returned = (symbols[0] if returned is None else returned,)
    return lines, written, [symbol.name for symbol in returned]
