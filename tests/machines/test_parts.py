"""A batch that is cut into parts, one a thread, is the whole batch; and the threads behave."""

import threading
import time
from unittest.mock import Mock

import numpy as np
import pytest

from backend import numpy_backend, open_backend
from backend.numpy_backend import PART
from backend.openblas import Threads
from backend.parts import cut
from backend.ranks import Ranks
from ref.objectives import METHODS
from ref.train import make_step
from tests.mathematics.test_train import READ, setup
from tests.small import assert_close
from tests.tested import EAGER, host, needs_backend

pytestmark = needs_backend


def after_steps(method, count, steps=50, **changes):
    """The state after so many steps of 5 images, all parts at work at once."""
    parts, each = Mock(return_value=count), Mock(side_effect=EAGER.each)
    backend = EAGER._replace(parts=parts, each=each)
    _, state, step_of, _ = setup(method, backend, epochs=13, **changes)
    step = step_of(state)
    for _ in range(steps):
        step()
    parts.assert_called_once_with(5 * changes.get("samples", 2), state["theta"].size)
    assert {len(call.args[1]) for call in each.call_args_list} == {min(count, 5)}
    return host(state)


@pytest.mark.parametrize("count", [2, 3, 5, 9])
@pytest.mark.parametrize("method", METHODS)
def test_fifty_steps_in_parts_are_those_of_whole_batches(method, count):
    whole, parts = after_steps(method, 1), after_steps(method, count)
    assert (whole["noise"] == parts["noise"]).all() and int(parts["step"]) == 50
    assert_close(parts, whole)


@pytest.mark.parametrize("changes", [{"likelihood": "bernoulli"}, {"coordinates": 5}, {"hidden": ()}, {"samples": 1}])
def test_steps_in_parts_are_those_of_whole_batches_for_every_kind_of_network(changes):
    whole, parts = (after_steps("geco-iwae", count, 10, **changes) for count in (1, 2))
    assert_close(parts, whole)


def test_the_same_seed_in_the_same_parts_gives_the_same_bits():
    a, b = after_steps("geco", 3), after_steps("geco", 3)
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("method", METHODS)
def test_the_parts_of_the_ranks_add_up_to_the_batch(method):
    def sent(rank, size, count):
        vectors = []
        send = lambda array, weight: vectors.append(host(array * weight))  # noqa: E731
        ranks, parts = Ranks(rank, size, all_reduce=send, reduce_scatter=send), Mock(return_value=count)
        _, state, step_of, _ = setup(method, EAGER._replace(ranks=ranks, parts=parts))
        step_of(state)()
        share = ranks.share(5)[0]
        assert parts.call_args.args[0] == 2 * (share.stop - share.start)  # K = 2, this rank's images
        gradient, means, _ = vectors
        return np.concatenate([gradient, means])

    np.testing.assert_allclose(sent(0, 2, 2) + sent(1, 2, 2), sent(0, 1, 1), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("term", ["kl", "err"])
def test_a_step_whose_gradient_alone_is_not_finite_is_not_counted(term, count):
    backend, row = EAGER._replace(parts=lambda rows, weights: count), METHODS["geco"]
    plan, state, _, model = setup("geco", backend)

    def backward(xp, terms, now):
        d = row.backward(xp, terms, now)
        return d._replace(**{term: getattr(d, term) * np.inf})

    before = float(state["log_lambda"])
    with np.errstate(all="ignore"):
        make_step(backend, model, row._replace(backward=backward), plan, READ, state)()
    assert int(state["step"]) == 0 and float(state["log_lambda"]) == before
    assert np.isfinite(host(state["totals"])).all()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("where", [0, 0.5, -1])
def test_a_weight_that_is_no_longer_finite_ends_the_count_in_whichever_part_it_lies(where, count):
    _, state, step_of, _ = setup("vae", EAGER._replace(parts=lambda rows, weights: count))
    step = step_of(state)
    step()
    state["m"][int(where * len(state["m"]))] = np.inf
    with np.errstate(all="ignore"):
        step()
    assert int(state["step"]) == 1


def test_parts_are_the_whole_in_order_and_as_even_as_can_be():
    for count in (1, 5, 128, 1001):
        for parts in range(1, 9):
            slices = cut(slice(3, 3 + count), parts)
            assert [i for part in slices for i in range(3 + count)[part]] == list(range(3, 3 + count))
            assert max(s.stop - s.start for s in slices) - min(s.stop - s.start for s in slices) <= 1


@pytest.fixture
def backend_of(monkeypatch):
    """NumPy's backend with so many threads of BLAS, and their limits up to now."""

    def backend_of(count, matmul=np.matmul):
        limits = [count]
        monkeypatch.setattr(numpy_backend, "openblas", lambda: (matmul, Threads(count, limits.append)))
        return open_backend("numpy"), limits

    return backend_of


def test_a_batch_is_cut_only_if_every_core_gets_enough(backend_of, monkeypatch):
    monkeypatch.setattr(numpy_backend, "most_at_once", lambda: 4)
    parts = backend_of(1, matmul=None)[0].parts
    assert [parts(rows, PART // 100) for rows in (1, 399, 400, 10**6)] == [1, 1, 4, 4]
    assert [parts(400, weights) for weights in (1, PART // 100 - 1, PART // 100)] == [1, 1, 4]
    # A BLAS whose threads nobody limits keeps the cores busy.
    assert backend_of(1)[0].parts(10**6, 10**6) == 1


def test_the_parts_run_at_once_in_the_order_of_the_answers_with_blas_limited_to_one_thread(backend_of):
    (backend, limits), arrived = backend_of(2), threading.Barrier(2, timeout=10)

    def f(part):
        arrived.wait()  # in vain, if one part came after the other
        return part, limits[-1], threading.get_ident()

    (first, a, here), (second, b, there) = backend.each(f, [10, 20])
    assert (first, second) == (10, 20) and a == b == 1 and limits[-1] == 2
    assert here == threading.get_ident() != there
    assert backend.each(lambda part: limits[-1], [0]) == [2]  # a single part leaves the cores to BLAS


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_in_a_part_comes_out_when_the_others_are_done(bad, backend_of):
    (backend, limits), done = backend_of(2), []

    def f(part):
        if part == bad:
            raise KeyboardInterrupt(f"in part {part}")
        time.sleep(0.05)
        done.append(part)

    with pytest.raises(KeyboardInterrupt, match=f"in part {bad}"):
        backend.each(f, [0, 1])
    assert done == [1 - bad] and limits[-1] == 2
    assert backend.each(abs, [-1, -2, -3]) == [1, 2, 3]  # and the threads are still there


def test_with_one_thread_the_parts_come_one_after_another(backend_of):
    here, each = threading.get_ident(), backend_of(1)[0].each
    assert each(lambda part: (part, threading.get_ident()), [1, 2]) == [(1, here), (2, here)]


def test_a_part_heeds_what_numpy_was_told_to_do_about_overflows(backend_of):
    each = backend_of(2)[0].each
    overflow = lambda part: time.sleep(0.05) or np.exp(np.float32(1000.0) * part)  # noqa: E731
    with np.errstate(over="ignore"):
        assert each(overflow, [0, 1])[1] == np.inf
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        each(overflow, [0, 1])
