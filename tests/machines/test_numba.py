"""The loops that Numba compiles compute what NumPy computes, however arrays lie in memory."""

import math
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from backend import BackendError, numba_backend, open_backend
from backend.numba_backend import fuse, fused, normals, python_function
from ref import densities as de
from ref.adam import adam

scalars = pytest.importorskip("backend.scalars", reason="pip install numba")
ROOT = Path(__file__).parents[2]
rng = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
@np.errstate(all="ignore")
def test_a_function_in_float32_is_within_two_units_in_the_last_place_for_every_kind_of_number(name):
    of, loop = getattr(np, name), fused(lambda xp, a: getattr(xp, name)(a))
    bits = np.arange(0, 2**32, 4999)  # of every 4999th float32
    numbers = bits.astype(np.uint32).view(np.float32)
    ours, exact = loop(numbers), of(numbers.astype(float))
    rounded = exact.astype(np.float32)
    finite, unit = np.isfinite(rounded), np.spacing(np.abs(rounded)).astype(float)
    assert_array_equal(ours[~finite], rounded[~finite])  # infinities and nan
    assert finite.sum() > 10**5 and ours.dtype == np.float32
    assert (np.abs(ours - exact) <= 2 * unit)[finite].all()
    special = np.array([0, np.inf, -np.inf, np.nan, 1], np.float32)
    assert_allclose(loop(special), of(special), rtol=2e-7)


def laid_out(shape, dtype):
    """The same numbers, dense, with gaps, by columns, in part of wider rows, and backwards twice."""
    a = rng.normal(size=shape).astype(dtype)
    doubled, backwards = np.repeat(a, 2, axis=-1), a[..., ::-1].copy()
    wide = np.concatenate([a, a], axis=-1)[..., : shape[-1]]
    return [a, doubled[..., ::2], np.asfortranarray(a), wide, backwards[..., ::-1]]


PAIRS = [((4, 7), (4, 7)), ((4, 7), (3, 4, 7)), ((3, 4, 1), (4, 7)), ((7,), (4, 7))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [*PAIRS, ((1,), (4, 1)), ((2, 3, 4, 5), (5,))])
def test_a_loop_and_a_sum_are_numpys_however_the_arrays_lie_and_are_broadcast(shapes, dtype):
    def f(xp, a, b):
        return xp.maximum(a, 0.5) * (b - 2 * a) / (1 + xp.exp(-xp.abs(b))), a > b

    both, summed = fused(f), fused(lambda xp, a, b: f(xp, a, b)[0], summed=True)
    close, of_sums = (1e-5, 1e-4) if dtype == np.float32 else (1e-14, 1e-13)
    for a, b in product(laid_out(shapes[0], dtype), laid_out(shapes[1], dtype)):
        expected, larger = f(np, a, b)
        ours, ours_larger = both(a, b)
        assert ours.dtype == dtype and ours.shape == expected.shape
        assert_allclose(ours, expected, rtol=close, atol=1e-7)
        assert_array_equal(ours_larger, larger)
        assert_allclose(summed(a, b), expected.sum(-1), rtol=of_sums, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (5,), (100_003,), (3, 4), (2, 3, 4), (3, 0)])
def test_a_sum_over_any_axis_is_numpys(shape):
    xp = open_backend("numba", "float64").xp
    for a in (rng.normal(size=shape), rng.integers(0, 9, shape)):
        for axis in (None, *range(-len(shape), len(shape))):
            found, expected = xp.sum(a, axis=axis), np.sum(a, axis=axis)
            assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    out = np.empty(4)
    assert xp.sum(np.ones((3, 4)), axis=0, out=out) is out and (out == 3).all()


def test_numbers_bytes_arrays_of_one_number_and_empty_ones_are_treated_as_by_numpy():
    f, a = fused(lambda xp, d, x, y: 2 * d * (y - x)), rng.normal(size=(2, 3)).astype(np.float32)
    assert_allclose(f(1.0, 1, a), 2 * (a - 1), rtol=1e-6)
    assert_allclose(f(np.array(1, np.float32), a[:1], a), 2 * (a - a[:1]), rtol=1e-6)
    whole = f(1, 1, np.arange(3))
    assert whole.tolist() == [-2, 0, 2] and whole.dtype.kind == "i"
    assert f(np.float64(1), np.array(1.0), np.float64(3)) == 4
    assert f(2.0, a[:0], a[0]).shape == (0, 3) and f(2.0, a[:, :0], 1.0).shape == (2, 0)
    pixels, scaled = np.array([0, 51, 255], np.uint8), fused(lambda xp, pixels, scale: pixels * scale)
    assert_allclose(scaled(pixels, np.float32(1 / 255)), [0, 0.2, 1], rtol=1e-6)


def test_functions_of_the_same_name_do_not_share_a_loop():
    twice, thrice = (fused(lambda xp, a, factor=factor: factor * a) for factor in (2.0, 3.0))
    assert (twice(np.ones(1)), thrice(np.ones(1))) == (2, 3)


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("shapes", [((3,), (5,)), ((4, 3), (4, 5)), ((4, 3), (2, 3)), ((1, 2), (3,))])
def test_arrays_that_numpy_cannot_broadcast_are_refused(shapes, summed):
    a, b = map(np.ones, shapes)
    for _ in range(2):  # also by a plan that has been made
        with pytest.raises(ValueError, match="broadcast"):
            fused(de.squared_error_backward.__wrapped__, summed)(1.0, a, b)


CHOICE, NO_NUMBERS = "no `if` on a value", "is no function of single numbers"
REFUSED = {
    "if": (lambda xp, a, b: a if a > 0 else b, CHOICE),
    "min": (lambda xp, a, b: min(a, b), CHOICE),
    "or": (lambda xp, a, b: a or b, CHOICE),
    "reduce": (lambda xp, a, b: xp.add.reduce(a), f"numpy.add.reduce {NO_NUMBERS}"),
    "cumsum": (lambda xp, a, b: xp.cumsum(a), f"numpy.cumsum {NO_NUMBERS}"),
    "an array": (lambda xp, a, b: a * np.ones(3), "no ndarray from elsewhere"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_function_of_single_numbers_or_chooses_by_value_is_refused(what):
    f, sentence = REFUSED[what]
    with pytest.raises(TypeError, match=sentence):
        fused(f)(np.ones(3), np.zeros(3))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_adam_in_one_loop_writes_what_numpys_writes(precision):
    vectors = np.abs(rng.normal(size=(4, 1001))).astype(precision)
    sizes = [np.asarray(s, precision) for s in (1e-2, 1e-8)]
    ours, numpys = vectors.copy(), vectors.copy()
    of_numpy = lambda xp, *arrays: adam(xp, *arrays, 0.9, 0.999)  # noqa: E731
    total = fuse(of_numpy)(*ours, *sizes)
    of_numpy(np, *numpys, *sizes)
    assert total == pytest.approx(math.fsum(numpys[0]), rel=1e-5 if precision == "float32" else 1e-13)
    assert_allclose(ours, numpys, rtol=1e-6 if precision == "float32" else 1e-15)
    assert (ours[3] == vectors[3]).all() and (ours[0] != vectors[0]).all()
    with pytest.raises(ValueError, match="has gaps"):
        fuse(of_numpy)(*(a[::2] for a in ours), *sizes)


def test_normal_numbers_by_counter_are_normal_and_independent():
    backend = open_backend("numba", "float32")
    noise = backend.noise(1)
    count, levels = 1_000_001, np.arange(0.001, 1, 0.001)
    x = backend.normal(noise, (count,)).astype(float)
    for stream in (noise, backend.noise(2)):
        assert abs(np.corrcoef(x, backend.normal(stream, (count,)))[0, 1]) < 4.5 / 1000
    ranks = np.searchsorted(np.sort(x), [*map(NormalDist().inv_cdf, levels)]) / count
    assert np.abs(ranks - levels).max() < 1.95 / count**0.5  # Kolmogorov–Smirnov, 0.1 %
    assert 4.5 < np.abs(x).max() < 6.6
    pairs = x[: count // 2], x[count // 2 + 1 :]  # the two of each Box–Muller pair
    for a, b in (pairs, (x[:-1], x[1:]), (x[:-2], x[2:])):
        for g in (np.asarray, np.square, np.abs):
            assert abs(np.corrcoef(g(a), g(b))[0, 1]) < 4.5 / len(a) ** 0.5
    angles, _ = np.histogram(np.arctan2(*pairs), 64, (-np.pi, np.pi))
    expected = len(pairs[0]) / 64
    assert ((angles - expected) ** 2).sum() / expected < 115  # χ², 63 degrees of freedom, 0.01 %


def test_every_bit_of_the_generators_number_makes_other_normal_numbers():
    def drawn(number):
        generator = SimpleNamespace(bit_generator=SimpleNamespace(random_raw=lambda: number))
        return normals(generator, (4,)).tobytes()

    assert len({drawn(0), *(drawn(1 << bit) for bit in range(64))}) == 65


@pytest.mark.parametrize("bits", [0, 2**64 - 1, 2**32 - 1, 2**63, 2**34 - 1])
def test_the_bits_that_give_the_largest_and_the_smallest_normal_numbers_give_finite_ones(bits):
    pair = scalars.two_normals(np.uint64(bits))
    high = (bits >> 34) & (2**30 - 1)  # u = (high + ½)/2³⁰, never 0
    radius = math.sqrt(-2 * math.log((high + 0.5) / 2**30))
    assert math.hypot(*pair) == pytest.approx(radius, rel=1e-5, abs=3e-4)


def test_a_choice_and_a_bound_of_the_namespace_may_be_in_a_loop():
    def f(xp, a, b):
        return xp.where(a > b, 2 * a, b - 1), xp.clip(a, -0.5, b)

    a, b = rng.normal(size=(2, 3, 40))
    assert_array_equal(fused(f)(a, b), f(np, a, b))
    a = a.astype(np.float32)
    single = fused(lambda xp, a: xp.where(a > 0, a, 0))(a)
    assert single.dtype == np.float32 and (single == np.maximum(a, 0)).all()


def test_a_loop_is_not_taken_from_a_cache_of_other_functions_of_numbers(monkeypatch):
    name_of = lambda kind: python_function("(a0): return a0", np.dtype(kind)).__name__  # noqa: E731
    name = name_of("f4")
    assert name_of("f4") == name != name_of("f8")
    monkeypatch.setattr(Path, "read_text", lambda *args, **named: "another scalars.py")
    assert name != name_of("f4")


def test_without_numba_or_its_compiler_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(BackendError, match=r"^NUMBA_DISABLE_JIT .* compile nothing: unset it, or"):
        open_backend("numba")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(BackendError, match=r"--backend numba needs Numba, .*: pip install numba$"):
        open_backend("numba")


COMPUTE = """
import numpy as np
from backend import open_backend
from backend.numba_backend import fused
from ref.vae import reparameterize
backend = open_backend("numba")
assert np.isfinite(backend.normal(backend.noise(0), (9,))).all()
print(fused(reparameterize.__wrapped__)(np.ones(3), np.zeros(3), np.ones(3)).tolist())
"""


@pytest.fixture
def compute(tmp_path, monkeypatch):
    """Runs COMPUTE beside a copy of the source."""
    for name in ("backend", "ref"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def compute():
        command = [sys.executable, "-c", COMPUTE]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert result.stdout == "[2.0, 2.0, 2.0]\n" and not result.stderr, result.stderr

    return compute


@pytest.mark.slow
def test_loops_run_where_no_cache_can_be_written_and_where_what_is_kept_is_damaged(compute, tmp_path):
    compute()
    cache = tmp_path / "backend/__pycache__"
    kept = [*cache.glob("*.nb[ic]")]
    assert len(kept) >= 4
    for content in (b"", b"no pickle", bytes(1000)):
        for path in kept:
            path.write_bytes(content)
        compute()
    shutil.rmtree(cache)
    for place in (cache, tmp_path / "home"):
        place.write_text("no folder can be made here, by no user")
    compute()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["backend/__pycache__", "home"])
def test_loops_are_compiled_once_and_kept_beside_the_source_or_where_that_is_read_only_in_the_users_cache(
    compute, tmp_path, place
):
    if place == "home":
        (tmp_path / "backend/__pycache__").write_text("no folder can be made here, by no user")
    kept = []
    for _ in range(2):
        compute()
        kept.append({path: path.stat().st_mtime_ns for path in (tmp_path / place).rglob("*.loop_*.nbc")})
    assert kept[0] == kept[1] != {}


def test_each_signature_of_a_loop_is_kept_under_a_name_of_its_own(monkeypatch):
    """Numba keeps the signatures of a name in one index, which two processes at once can mix up."""
    make = Mock(side_effect=python_function)
    monkeypatch.setattr(numba_backend, "python_function", make)
    single, double = np.ones(3, np.float32), np.ones(3)
    for a, b in ((double, double), (double, single), (single, double)):  # the same lines
        assert_allclose(fused(lambda xp, a, b: a * b + 1)(a, b), a * b + 1)
    names = {python_function(*call.args).__name__ for call in make.call_args_list}
    assert len(names) == make.call_count == 3
