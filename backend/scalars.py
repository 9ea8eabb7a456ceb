"""exp, log and tanh of one number, for the loops of numba_backend.py.

LLVM turns a loop around arithmetic into vector instructions, and not one around a call of the C library. So in float32
they are arithmetic alone: each is within 2 units in the last place, whatever the number. In float64 they are the
library's own. The polynomials are those of the Cephes library (S. Moshier, 1989), single precision.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

f, i = np.float32, np.int32
inlined = njit(fastmath={"contract"}, error_model="numpy")  # a·b + c may be rounded once, which is quicker and nearer


def exp(x):
    """eˣ"""


def log(x):
    """log x"""


def tanh(x):
    """tanh x"""


@inlined
def bits_of(x):
    """The float32's bits as an int32"""
    return f(x).view(np.int32)


@inlined
def from_bits(n):
    """The float32 that has these bits"""
    return i(n).view(np.float32)


@inlined
def power_of_two(n):
    """2ⁿ for n = −126, …, 127: only the exponent's bits are set"""
    return from_bits((n + i(127)) << i(23))


@inlined
def exp32(x):
    """eˣ = 2ⁿ·eʳ, n = round(x/log 2), |r| ≤ ½ log 2. The limits lie where the result is infinite, and 0; nan passes."""
    x = f(89) if x > f(89) else x
    x = f(-104) if x < f(-104) else x
    n = np.rint(x * f(1.44269504088896341))
    r = (x - n * f(0.693359375)) - n * f(-2.12194440e-4)  # log 2 in two pieces, the first of few bits: no rounding
    p = f(1.9875691500e-4)
    p = p * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    p = p * (r * r) + r + f(1)
    half = i(n) >> i(1)  # 2ⁿ in two steps, because n goes from −150 to 128
    return p * power_of_two(half) * power_of_two(i(n) - half)


@inlined
def log32(x):
    """log x = e·log 2 + log(1 + r), x = 2ᵉ(1 + r), √½ − 1 ≤ r < √2 − 1"""
    small = x < f(1.17549435e-38)  # subnormal numbers are scaled first
    bits = bits_of(x * f(33554432) if small else x)
    e = i(bits >> i(23)) - i(151 if small else 126)
    m = from_bits(i(bits & i(0x007FFFFF)) | i(0x3F000000))  # in [½, 1)
    below = m < f(0.707106781186547524)
    n = f(e) - f(1 if below else 0)
    r = (m + m if below else m) - f(1)
    p = f(7.0376836292e-2)
    p = p * r + f(-1.1514610310e-1)
    p = p * r + f(1.1676998740e-1)
    p = p * r + f(-1.2420140846e-1)
    p = p * r + f(1.4249322787e-1)
    p = p * r + f(-1.6668057665e-1)
    p = p * r + f(2.0000714765e-1)
    p = p * r + f(-2.4999993993e-1)
    p = p * r + f(3.3333331174e-1)
    square = r * r
    y = p * r * square + n * f(-2.12194440e-4) - f(0.5) * square
    y = r + y + n * f(0.693359375)
    y = x if x == f(np.inf) else y
    y = f(-np.inf) if x == f(0) else y
    return y if x >= f(0) else f(np.nan)


@inlined
def tanh32(x):
    """An odd polynomial up to 0.625, and 1 − 2/(e²ˣ + 1) beyond it"""
    size = abs(x)
    far = f(1) - f(2) / (exp32(min(size, f(10)) * f(2)) + f(1))
    z = x * x
    p = f(-5.70498872745e-3)
    p = p * z + f(2.06390887954e-2)
    p = p * z + f(-5.37397155531e-2)
    p = p * z + f(1.33314422036e-1)
    p = p * z + f(-3.33332819422e-1)
    near = p * z * x + x
    return near if size < f(0.625) else (far if x > f(0) else -far)


@njit(fastmath={"reassoc"})
def plus(a, b):
    """a + b, as part of a sum that may be taken in any order: many at a time, and the order is always the same one"""
    return a + b


def by_precision(name: str, single) -> None:
    """Lets Numba take `single` for a float32, the C library's function for a float64."""
    double = getattr(math, name)

    @overload(globals()[name], inline="always")
    def choose(x):
        return (lambda x: single(x)) if x == types.float32 else (lambda x: double(x))


for name, single in (("exp", exp32), ("log", log32), ("tanh", tanh32)):
    by_precision(name, single)
