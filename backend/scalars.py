"""exp, log and tanh of one number, for the loops of numba_backend.py.

LLVM makes vector instructions of arithmetic, and not of calls of the C library. So in float32 they are arithmetic: each
is within 2 units in the last place, whatever the number. In float64 they are the library's. The polynomials are those
of the Cephes library (S. Moshier, 1989), single precision.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

f, i = np.float32, np.int32
inlined = njit(fastmath={"contract"}, error_model="numpy")  # a·b + c may be rounded once


def polynomial(*coefficients: float):
    """Σ c_j·xⁿ⁻ʲ as a function of x, by Horner's rule."""
    first, *others = map(f, coefficients)
    others = tuple(others)

    @inlined
    def horner(x):
        p = first
        for c in others:
            p = p * x + c
        return p

    return horner


@inlined
def power_of_two(n):
    """2ⁿ for n = −126, …, 127: only the exponent's bits are set"""
    return i(i(n + i(127)) << i(23)).view(np.float32)


of_exp = polynomial(
    1.98756915e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
of_log = polynomial(
    7.0376836292e-2,
    -1.151461031e-1,
    1.167699874e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
of_tanh = polynomial(
    -5.70498872745e-3,
    2.06390887954e-2,
    -5.37397155531e-2,
    1.33314422036e-1,
    -3.33332819422e-1,
)
of_sine = polynomial(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
of_cosine = polynomial(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


@inlined
def reduced_exp(x):
    """(eʳ, n) with x = n·log 2 + r, n = round(x/log 2): eˣ = eʳ·2ⁿ"""
    n = np.rint(x * f(1.44269504088896341))
    r = (x - n * f(0.693359375)) - n * f(-2.12194440e-4)  # log 2 in two pieces, the first so short that n·it is exact
    return of_exp(r) * (r * r) + r + f(1), i(n)


@inlined
def exp32(x):
    """eˣ; beyond the limits it is infinite, or 0 (nan passes them)"""
    x = f(89) if x > f(89) else x
    x = f(-104) if x < f(-104) else x
    p, n = reduced_exp(x)
    half = i(n >> i(1))  # 2ⁿ in two steps, because n goes from −150 to 128
    return p * power_of_two(half) * power_of_two(i(n - half))


@inlined
def log32(x):
    """log x = e·log 2 + log(1 + r), x = 2ᵉ(1 + r), √½ ≤ 1 + r < √2"""
    small = x < f(1.17549435e-38)  # subnormal numbers are scaled first
    bits = f(x * f(33554432) if small else x).view(np.int32)
    e = i(i(bits - i(0x3F3504F3)) >> i(23))  # the bits of √½ are subtracted
    r = i(bits - i(e << i(23))).view(np.float32) - f(1)
    n = f(e) - (f(25) if small else f(0))
    square = r * r
    y = of_log(r) * r * square + n * f(-2.12194440e-4) - f(0.5) * square
    y = r + y + n * f(0.693359375)
    y = x if x == f(np.inf) else y
    y = f(-np.inf) if x == f(0) else y
    return y if x >= f(0) else f(np.nan)


@inlined
def tanh32(x):
    """An odd polynomial up to 0.625, and (1 − e⁻²ˣ)/(1 + e⁻²ˣ) beyond it, and 1 from 10 on"""
    size = f(10) if abs(x) > f(10) else abs(x)
    e, n = reduced_exp(size * f(-2))
    e = e * power_of_two(n)
    z = size * size
    y = of_tanh(z) * z * size + size if size < f(0.625) else (f(1) - e) / (f(1) + e)
    return np.copysign(y, x)


@njit(fastmath={"reassoc"})
def plus(a, b):
    """a + b within a sum, whose order the compiler may change, always alike, to add many numbers at a time"""
    return a + b


def by_precision(single, double):
    """The function for a loop: `single` of a float32, the C library's of a float64."""

    def function(x):
        """The name that a loop calls; Numba compiles what `choose` returns."""

    @overload(function, inline="always")
    def choose(x):
        return (lambda x: single(x)) if x == types.float32 else (lambda x: double(x))

    return function


exp, log, tanh = by_precision(exp32, math.exp), by_precision(log32, math.log), by_precision(tanh32, math.tanh)


@njit
def mixed(z):
    """The 64 bits of a counter, mixed. SplitMix64: Steele, Lea & Flood 2014, figure 17."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def two_normals(bits):
    """Two independent numbers from N(0, 1), made of 64 random bits: r·cos φ, r·sin φ. Box & Muller 1958.

    30 bits make r = √(−2 log u), 32 bits φ within ±π/4, and two turn that quarter of the circle into any other.
    """
    high, low = i(bits >> np.uint64(32)), i(bits & np.uint64(0xFFFFFFFF))
    u = (f(i(high >> i(2)) & i(0x3FFFFFFF)) + f(0.5)) * f(2.0**-30)
    r = np.sqrt(f(-2) * log32(u))
    r = -r if high & i(1) else r
    phi = f(low) * f(math.pi / 4 * 2.0**-31)
    z = phi * phi
    sine = r * (of_sine(z) * z * phi + phi)
    cosine = r * (of_cosine(z) * z * z - f(0.5) * z + f(1))
    return (sine, cosine) if high & i(2) else (cosine, sine)


def kept(make):
    """make(True), kept on disk by Numba; make(False) where it cannot be kept, or not be read."""
    try:
        return make(True)
    except Exception:  # of many kinds, as a file may be damaged in many ways
        return make(False)


def _fill_with_normals(first, out) -> None:
    """Numbers from N(0, 1) into the flat `out`, of even length; each depends on `first` and its place alone."""
    half = len(out) // 2
    for j in range(half):
        counter = np.uint64(first) + np.uint64(j) * np.uint64(0x9E3779B97F4A7C15)
        out[j], out[half + j] = two_normals(mixed(counter))


fill_with_normals = kept(lambda cache: njit("void(uint64, float32[::1])", nogil=True, cache=cache)(_fill_with_normals))
