"""Products in blocks are NumPy's, with any number of threads, and busy machines cost little."""

import ctypes
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import Mock, patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import array_equal

from backend import open_backend, openblas
from backend.openblas import CREDIT, LONGEST, SHORTEST, SMALL, Blocks, Threads
from tests.benchmarks import benchmark, peers

MATMUL, THREADS = openblas.openblas()
LIMITED = pytest.mark.skipif(MATMUL is np.matmul, reason="NumPy's BLAS is no OpenBLAS with batches")


@contextmanager
def multiplying(count: int):
    """Within, so many threads multiply."""
    try:
        with patch.object(THREADS, "count", count):
            THREADS.limit(count)
            yield
    finally:
        THREADS.limit(THREADS.count)


def matrices(m: int, k: int, n: int, dtype=np.float32):
    """Whole numbers, whose products are exact in any order."""
    rng = np.random.default_rng(0)
    return tuple(rng.integers(-9, 10, shape).astype(dtype) for shape in ((m, k), (k, n)))


def exact(a, b):
    """Their product, in whole numbers."""
    return np.einsum("ij,jk->ik", a.astype(int), b.astype(int))


def in_wider(a):
    """The matrix as a part of one with more columns."""
    return np.hstack([a, np.full_like(a, np.nan)])[:, : a.shape[1]]


LAYOUTS = {
    "by rows": np.copy,
    "by columns": np.asfortranarray,
    "a part of a wider one": in_wider,
    "a part of a taller one, by columns": lambda a: in_wider(a.T).T,
    "with gaps": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("step", [0, 1, 7])
def test_rows_may_lie_over_one_another(step):
    numbers, (other, _) = np.arange(9000, dtype=np.float32) % 17, matrices(111, 120, 1)
    rows = np.lib.stride_tricks.as_strided(numbers, (130, 111), (4 * step, 4))
    for a, b in ((rows, other), (other.T, rows.T)):
        assert array_equal(MATMUL(a, b), exact(a, b))


@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_a_product_is_exact_however_its_operands_lie(of_a, of_b):
    for dtype, count, (m, k, n) in [(np.float32, 2, (130, 111, 201)), (np.float64, 1, (203, 99, 70))]:
        a, b = matrices(m, k, n, dtype)
        expected, a, b = exact(a, b), LAYOUTS[of_a](a), LAYOUTS[of_b](b)
        wide, by_columns = np.full((m, 2 * n), np.nan, dtype), np.full((n, m), np.nan, dtype).T
        with multiplying(count):
            assert array_equal(MATMUL(a, b), expected)
            for out in (np.full((m, n), np.nan, dtype), wide[:, 3 : n + 3], by_columns):
                assert MATMUL(a, b, out=out) is out and array_equal(out, expected)


@pytest.mark.parametrize("shape", [(1, 1500, 1500), (1500, 1500, 1), (1500, 1, 1500), (2, 1100, 1000), (101, 100, 100)])
def test_a_product_is_exact_when_a_side_is_short(shape):
    a, b = matrices(*shape)
    assert array_equal(MATMUL(a, b), exact(a, b))


def test_what_is_no_product_of_two_like_matrices_is_left_to_numpy():
    a, b = matrices(120, 110, 130)
    with pytest.raises(ValueError, match="mismatch"):
        MATMUL(a, a)
    for shape in ((120, 131), (120, 60), (60, 130)):
        with pytest.raises(ValueError, match="mismatch"):
            MATMUL(a, b, out=np.empty(shape, np.float32))
    wide, locked = np.empty((120, 130)), np.empty((120, 130), np.float32)
    assert MATMUL(a, b, out=wide) is wide and array_equal(wide, np.matmul(a, b))
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        MATMUL(a, b, out=locked)
    for place in (0, 1):
        squares = [*matrices(120, 120, 120)]
        expected = exact(*squares)
        assert array_equal(MATMUL(*squares, out=squares[place]), expected)  # its own operand
    packed, stack = np.zeros(a.shape, "f4, i1"), np.stack([a, 2 * a])
    packed["f0"] = a
    pairs = [(a.astype(">f4"), b.astype(">f4")), (packed["f0"], b), (b.T, packed["f0"].T)]
    pairs += [(a[0], b), (a, b[:, 0]), (a[0], b[:, 0]), (stack, b), (a, b.astype(float))]
    pairs += [(a.astype(int), b.astype(int))]
    for x, y in pairs:
        found, expected = MATMUL(x, y), np.matmul(x, y)
        assert found.dtype == expected.dtype and array_equal(found, expected)


@LIMITED
@settings(max_examples=25)
@given(*(st.integers(40, 400) for _ in range(3)), st.sampled_from([np.float32, np.float64]))
def test_the_bits_of_a_product_do_not_know_how_many_threads_multiply(m, k, n, dtype):
    rng, found = np.random.default_rng(m), []
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    for count in (1, 2, 3, 2):
        with multiplying(count):
            found += [MATMUL(a, b) for _ in range(4)]  # the first of them with one thread
    assert all(array_equal(found[0], other) for other in found)


@LIMITED
@pytest.mark.parametrize("shapes", [((1, 20_001), (20_001, 1)), ((20_001,), (20_001,)), ((3, 150, 90), (3, 90, 150))])
def test_nor_do_those_of_a_product_that_is_no_block(shapes):
    a, b = (np.random.default_rng(0).normal(size=shape) for shape in shapes)
    assert array_equal(multiplying(1)(MATMUL)(a, b), multiplying(2)(MATMUL)(a, b))


@LIMITED
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_step_has_the_same_bits_with_any_number_of_threads(name, parts):
    if name == "numba":
        pytest.importorskip("numba")
    case, found = peers.Case("geco", *benchmark.NETWORKS["slides"], 64, 1), []
    for count in (1, 2):
        with multiplying(count):
            backend = open_backend(name)._replace(parts=lambda rows, weights: parts)
            step, state = benchmark.step_and_state(backend, case)
            for _ in range(4):
                step()
            found.append(state["theta"])
    assert array_equal(*found)


@LIMITED
@multiplying(2)
def test_a_part_that_another_thread_of_pythons_works_on_changes_no_bit_here():
    rng, backend = np.random.default_rng(0), open_backend("numpy")
    a, b = rng.normal(size=(2, 200, 200)).astype(np.float32)
    expected, begun, ended = MATMUL(a, b), threading.Event(), threading.Event()

    def part(number):
        begun.set()
        return ended.wait(10) and THREADS.in_part

    with ThreadPoolExecutor(1) as pool:
        parts = pool.submit(backend.each, part, [0, 1])
        begun.wait(10)
        assert THREADS.inside and not THREADS.in_part and array_equal(MATMUL(a, b), expected)
        ended.set()
        assert parts.result() == [True, True] and not THREADS.inside and not THREADS.in_part


@LIMITED
def test_a_product_of_a_part_is_not_cut_because_each_part_has_its_own_thread(monkeypatch):
    most, operands = [], matrices(211, 97, 113, np.float64)
    monkeypatch.setattr(openblas, "Blocks", lambda *given: most.append(given[-1]) or Blocks(*given))
    for _ in range(2):
        open_backend("numpy").each(lambda part: MATMUL(*operands), [0, 1])
    MATMUL(*operands)
    assert most == [1, openblas.most_at_once()]


def test_one_thread_multiplies_until_the_last_has_left_even_by_an_error():
    limits = []
    threads = Threads(3, limits.append)
    failing = threads.limited(lambda: limits[-1] / 0)
    with threads:
        assert threads.limited(lambda: limits[-1])() == 1 == limits[-1]
        with pytest.raises(ZeroDivisionError):
            failing()
        assert limits[-1] == 1
    assert limits[-1] == 3
    with pytest.raises(ZeroDivisionError):
        failing()
    assert limits[-1] == 3


@LIMITED
@pytest.mark.parametrize("name", ["eigh", "eigvalsh", "qr"])
@multiplying(2)
def test_decompositions_are_made_with_one_thread_too(name, monkeypatch):
    monkeypatch.setattr(np.linalg, name, lambda a: THREADS.inside)
    assert getattr(open_backend("numpy").xp.linalg, name)(np.eye(2)) == 1 and THREADS.inside == 0


@given(*(st.integers(1, 3000) for _ in range(3)), st.integers(1, 70))
def test_no_block_is_so_small_that_openblas_falls_over_it_and_all_of_them_are_the_product(m, k, n, cores):
    if m * k * n <= SMALL:
        return
    layouts = [(111, k), (111, n), (111, n)]
    blocks = Blocks(None, (ctypes.c_float, ctypes.c_int64), layouts, m, k, n, cores)
    works = [height * depth * width for height, width, depth in zip(*blocks.before[3:6], strict=True)]
    assert sum(works) == m * k * n and min(works) > SMALL
    most = min(cores, max(m, n))  # else one block more is too small
    assert len(works) == most or m * k * n < (len(works) + 1) * (SMALL + m * k + k * n)


def test_work_is_cut_for_all_cores_and_for_two_at_least(monkeypatch):
    monkeypatch.setattr(openblas, "cores", Mock(side_effect=[1, 2, 8]))
    assert [openblas.most_at_once() for _ in range(3)] == [2, 2, 8]


class Machine:
    """A clock and a BLAS: how long a product takes with one thread and with all."""

    def __init__(self, monkeypatch, count: int = 2):
        self.now, self.limits, self.used = 0.0, [count], []
        self.one, self.all = 0.001, 0.00055
        self.late = [0, 0.01, *[0] * 100_000]  # the second, timed with one thread, hiccups
        monkeypatch.setattr(openblas, "time", SimpleNamespace(perf_counter=lambda: self.now))
        self.threads = Threads(count, self.limits.append)
        self.blocks = SimpleNamespace(multiply=self.multiply, measured=0, seconds=math.inf)

    def multiply(self):
        self.used.append(self.limits[-1])
        self.now += (self.one if self.limits[-1] == 1 else self.all) + self.late.pop(0)

    def products(self, count: int) -> list[int]:
        """How many threads multiplied in each of the next products."""
        self.used.clear()
        for _ in range(count):
            self.threads.multiply(self.blocks)
            assert self.limits[-1] == self.threads.count  # whatever else needs BLAS finds all of them
        return [*self.used]


def test_all_threads_multiply_on_an_idle_machine(monkeypatch):
    machine = Machine(monkeypatch)
    assert machine.products(500) == [1, 1] + [2] * 498
    assert Machine(monkeypatch, 1).products(50) == [1] * 50


def test_a_pause_of_the_system_is_no_busy_machine(monkeypatch):
    machine = Machine(monkeypatch)
    machine.products(100)
    for _ in range(20):
        machine.all = 0.9 * CREDIT
        machine.products(1)
        machine.all = 0.00055
        assert 1 not in machine.products(60)


def test_one_thread_multiplies_beside_busy_programs_and_all_are_tried_ever_more_seldom(monkeypatch):
    machine = Machine(monkeypatch)
    machine.products(10)
    machine.all = 0.005
    used = machine.products(40_000)
    tries = [i for i, count in enumerate(used) if count == 2]
    pauses = np.diff(tries)[np.diff(tries) > 1] - 1
    assert (pauses[:4] / SHORTEST).tolist() == [1, 2, 4, 8] and pauses[-1] == LONGEST
    machine.all = 0.00055  # the other programs have ended
    assert machine.products(2 * LONGEST)[-LONGEST + 10 :] == [2] * (LONGEST - 10)
    machine.all = 0.005
    used = machine.products(10 * SHORTEST)
    first = used.index(1)  # as soon as the credit is used up, and its pause is short again
    assert first <= 2 + CREDIT / 0.004 and used[first:].index(2) == SHORTEST


def test_a_small_loss_at_each_product_is_a_loss_and_a_small_gain_is_none(monkeypatch):
    machine = Machine(monkeypatch)
    machine.products(100)
    machine.all = 0.0012
    assert machine.products(1000)[200:].count(1) > 500
    other = Machine(monkeypatch)
    other.all = 0.00095
    assert 1 not in other.products(1000)[2:]


@pytest.fixture
def blas_of(monkeypatch):
    """`openblas()` where NumPy's BLAS has OpenBLAS's functions by that name, but for one."""

    def blas_of(name: str, lacking: str = "", kind: int = 1):
        limits, batch = [64], Mock()
        found = {"openblas_get_num_threads": lambda: limits[-1], "openblas_get_parallel": lambda: kind}
        found |= {"openblas_set_num_threads": limits.append}
        found |= {"cblas_sgemm_batch": batch, "cblas_dgemm_batch": batch}
        found = {name.format(key): value for key, value in found.items() if key != lacking}
        monkeypatch.setattr(openblas.ctypes, "CDLL", lambda path: SimpleNamespace(**found))
        return *openblas.openblas.__wrapped__(), limits, batch

    return blas_of


@pytest.mark.parametrize("lacking", ["cblas_sgemm_batch", "openblas_set_num_threads", "OpenMP", "all"])
def test_another_blas_multiplies_by_itself(lacking, blas_of):
    name, kind = "another_{}" if lacking == "all" else "scipy_{}64_", 2 if lacking == "OpenMP" else 1
    matmul, threads, *_ = blas_of(name, lacking, kind)
    assert matmul is np.matmul and threads.count == 1


@LIMITED
@pytest.mark.parametrize("name", openblas.NAMES)
def test_every_name_of_openblas_is_known_and_it_gets_no_more_threads_than_a_container_has_cores(
    name, blas_of, monkeypatch
):
    monkeypatch.setattr(openblas, "cores", lambda: 3)
    matmul, threads, limits, batch = blas_of(name)
    assert threads.count == 3 and limits == [64, 3]
    matmul(*matrices(300, 300, 300))
    sides = batch.call_args_list[0].args[3:6]
    assert {ctypes.sizeof(side._type_) for side in sides} == {8 if "64" in name else 4}
    assert sum(sides[0]) == 300
