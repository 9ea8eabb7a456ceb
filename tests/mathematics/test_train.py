"""Adam, the step as a function of arrays, and the loop."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pytest import approx

from ref import vae
from ref.adam import SCHEDULES
from ref.objectives import METHODS, MULTIPLIERS
from ref.train import NonFiniteError, initial_state, initial_theta, make_step, train
from tests.gradients import hand_loss_and_gradient, objective
from tests.small import NOW, model_of, plan_of, reader
from tests.tested import EAGER, TESTED, compute, device, host, needs_backend, open_tested, xp

pytestmark = needs_backend

LAMBDA_0 = 20.0
RNG = np.random.default_rng(0)
IMAGES = 1 / (1 + np.exp(-3 * RNG.normal(size=(23, 2)) @ RNG.normal(size=(2, 7))))  # two factors of variation
READ = reader(device(IMAGES))


def setup(method="geco", backend=TESTED, seed=0, epochs=3, samples=2, **network):
    model = device(model_of(**network)._replace(center=IMAGES.mean(axis=0)))
    noise = backend.noise(seed)
    theta = initial_theta(backend, model, noise, 0.0)
    row = METHODS[method]
    state = initial_state(backend, theta, noise, len(IMAGES), LAMBDA_0 if row.constraint else None)
    plan = plan_of(method, epochs, 5, len(IMAGES), samples)
    return plan, state, lambda state: make_step(backend, model, row, plan, READ, state), model


def trained(*args, **kwargs):
    plan, state, step_of, _ = setup(*args, **kwargs)
    reports = list(train(TESTED, step_of(state), state, plan))
    return state, reports


def test_the_eight_stages_last_3_to_the_i_epochs_each_and_end_at_a_tenth():
    shares = compute(SCHEDULES["stages"], np.arange(7 * 3280), 7 * 3280)  # 7 steps an epoch
    expected = np.concatenate([np.full(7 * 3**i, 10 ** (-i / 7)) for i in range(8)])
    assert_allclose(shares, expected)
    shortened = compute(SCHEDULES["stages"], np.arange(100), 100)
    assert shortened[0] == approx(1) and shortened[-1] == approx(0.1) and (np.diff(shortened) <= 0).all()


@pytest.mark.parametrize("coordinates", [0, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_step_is_adam_with_decoupled_decay_of_the_weights_and_not_of_the_biases(schedule, coordinates):
    plan, state, _, model = setup("vae", coordinates=coordinates)
    weights = np.zeros(state["theta"].size)
    for part in vae.params_of(model, weights).values():
        for values in part.values():
            values[...] = values.ndim == 2
    assert 0 < weights.sum() < weights.size
    beta1, beta2, epsilon, lr, decay = 0.8, 0.95, 1e-3, 0.02, 0.3
    plan = plan._replace(schedule=schedule, adam=(beta1, beta2, epsilon), lr=lr, weight_decay=decay)
    step = make_step(TESTED, model, METHODS["vae"], plan, READ, state)
    theta, m, v = host(state["theta"]), 0.0, 0.0
    shares = {
        "cosine": [0.5 * (1 + math.cos(math.pi * t / 12)) for t in range(6)],
        "constant": [1.0] * 6,
        "stages": [10 ** (-stage / 7) for stage in (0, 5, 6, 6, 7, 7)],
    }
    for t in range(6):
        _, grad = hand_loss_and_gradient("vae", model, state["theta"], *batch_of_the_next(state))
        m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
        rate = lr * shares[schedule][t]
        move = (m / (1 - beta1 ** (t + 1))) / (np.sqrt(v / (1 - beta2 ** (t + 1))) + epsilon)
        theta = theta - rate * move - rate * decay * weights * theta
        step()
        assert_allclose(host(state["theta"]), theta, rtol=1e-9, atol=1e-12)
    assert_allclose((1 - beta1) * host(state["m"]), m, rtol=1e-9, atol=1e-12)
    assert_allclose((1 - beta2) * host(state["v"]), v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_fused_function_is_the_function_and_says_whether_its_first_vector_is_finite(precision):
    fuse = open_tested(precision).fuse

    def f(xp, a, b, scale):
        a += scale * b
        b *= a

    for length in (1, 5, 262_144, 262_145, 700_003):
        limit = 999 if precision == "float32" else 2**20  # which float32 could not hold
        a, b = np.random.default_rng(length).integers(-limit, limit, (2, length)).astype(precision)
        scale = np.asarray(3, precision)  # integers, so that nothing rounds
        expected = (a + scale * b, b * (a + scale * b))
        ours = device((a, b, scale))
        fused = fuse(f)
        assert math.isfinite(fused(*ours))
        assert (host(ours[0]) == expected[0]).all() and (host(ours[1]) == expected[1]).all()
        for odd in (np.inf, -np.inf, np.nan):
            ours[0][length // 2] = odd
            with np.errstate(all="ignore"):
                assert not math.isfinite(fuse(f)(*ours))


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_a_function_of_the_arrays_in_its_state(method):
    _, state, step_of, _ = setup(method)
    step = step_of(state)
    for _ in range(3):
        step()
    copy = {name: array.copy() for name, array in state.items()}
    step()
    step_of(copy)()
    assert all((state[name] == copy[name]).all() for name in state)
    assert int(state["step"]) == 4


def test_the_weights_and_the_order_of_the_images_each_follow_the_seed():
    plan, a, step_of, _ = setup(seed=0)
    _, b, _, _ = setup(seed=1)
    first, second = host((a["theta"], b["theta"]))
    assert (first[first == second] == 0).all()  # the biases alone
    for state in (a, b):
        next(train(TESTED, step_of(state), state, plan))
    assert (host(a["order"]) != host(b["order"])).any()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_error(method):
    _, reports = trained(method, epochs=100, samples=5)
    errors = [report["error"] for report in reports]  # of five images each
    assert np.mean(errors[-100:]) < 0.95 * np.mean(errors[:4])


def test_training_continues_from_a_state_at_the_end_of_an_epoch():
    whole, _ = trained()
    plan, state, step_of, _ = setup()
    for report in train(TESTED, step_of(state), state, plan):
        if report["step"] == plan.steps_per_epoch:
            break
    rest = {name: array.copy() for name, array in state.items()}
    list(train(TESTED, step_of(rest), rest, plan))
    assert all((whole[name] == rest[name]).all() for name in whole)


def test_every_epoch_has_an_order_of_its_own_and_sees_every_image_at_most_once():
    plan, state, _, model = setup()
    seen, orders = [], [tuple(range(len(IMAGES)))]

    def read(rows, noise):
        seen.extend(host(rows))
        return READ(rows, noise)

    step = make_step(EAGER, model, METHODS["geco"], plan, read, state)
    for report in train(TESTED, step, state, plan):
        if report["step"] % plan.steps_per_epoch == 0:
            assert len(set(seen)) == len(seen) == 20
            orders.append(tuple(host(state["order"])))
            seen.clear()
    assert len({*orders}) == 1 + plan.epochs and all(sorted(order) == [*orders[0]] for order in orders)


def test_reports_are_means_over_their_steps_and_their_number_changes_nothing():
    sums, ends = [], []
    for number, counts in {100: [1, 1, 1], 2: [2, 1], 1: [3]}.items():
        plan, state, step_of, _ = setup()
        reports = list(train(TESTED, step_of(state), state, plan._replace(steps_per_epoch=3), number))
        assert [report["steps"] for report in reports] == counts * plan.epochs
        sums.append([sum(r["steps"] * r["loss"] for r in reports if r["epoch"] == e) for e in (1, 2, 3)])
        ends.append([*host(state["theta"]), reports[-1]["lambda"]])
        assert ends[0] == ends[-1] and ends[-1][-1] == approx(math.exp(state["log_lambda"]))
    assert_allclose(sums, sums[:1] * 3)


def test_an_objective_is_told_multiplier_target_and_the_share_of_the_run_before_the_step():
    plan, state, _, model = setup("geco", EAGER)
    row, seen, expected = METHODS["geco"], [], []

    def loss(xp, terms, now):
        seen.extend(map(float, now))
        expected.extend([math.exp(state["log_lambda"]), NOW.target, int(state["step"]) / 12, model.center.size])
        return row.loss(xp, terms, now)

    list(train(EAGER, make_step(EAGER, model, row._replace(loss=loss), plan, READ, state), state, plan))
    assert len(seen) == 48 and seen == approx(expected)


def test_no_number_of_the_stream_is_drawn_twice():
    drawn_from = []

    def noted(draw):
        def numbers(noise, shape):
            drawn_from.append(tuple(host(noise).ravel().tolist()))
            return draw(noise, shape)

        return numbers

    backend = EAGER._replace(normal=noted(EAGER.normal), uniform=noted(EAGER.uniform))
    plan, state, step_of, _ = setup("geco", backend)
    list(train(backend, step_of(state), state, plan))
    # The layers' weights, the orders, the steps.
    assert len({*drawn_from}) == len(drawn_from) == 6 + plan.epochs + 12


@pytest.mark.parametrize("bad", [1, 2, 3, 6])  # of four steps an epoch, and a report each two
@pytest.mark.parametrize("what", ["loss", "backward"])
def test_the_first_step_that_was_not_finite_is_the_one_that_is_named(what, bad):
    plan, state, _, model = setup("geco", EAGER)
    row, calls = METHODS["geco"], []

    def broken(xp, terms, now):
        calls.append(terms)
        value = getattr(row, what)(xp, terms, now)
        if len(calls) != bad:
            return value
        return value * np.nan if what == "loss" else value._replace(kl=value.kl * np.nan)

    step = make_step(EAGER, model, row._replace(**{what: broken}), plan, READ, state)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=f"step {bad}\\b"):
        list(train(EAGER, step, state, plan, reports_per_epoch=2))


def test_a_gradient_whose_square_alone_overflows_is_no_failure():
    backend = open_tested("float32")._replace(compile=lambda step: step)
    model = model_of()._replace(center=backend.asarray(IMAGES.mean(axis=0)))
    plan, row, read = setup("vae")[0], METHODS["vae"], reader(backend.asarray(IMAGES))

    def after_a_step(factor: float) -> dict:
        def backward(xp, terms, now):
            return vae.Gradient(*(None if d is None else factor * d for d in row.backward(xp, terms, now)))

        noise = backend.noise(0)
        state = initial_state(backend, initial_theta(backend, model, noise, 0.0), noise, len(IMAGES), None)
        with np.errstate(all="ignore"):
            make_step(backend, model, row._replace(backward=backward), plan, read, state)()
        return host(state)

    usual = after_a_step(1.0)  # whose first moment is the gradient
    large = after_a_step(1.7e19 / float(np.abs(usual["m"]).max()))
    overflows = np.square(large["m"].astype(np.float64)).sum() > np.finfo(np.float32).max
    assert overflows and np.isfinite(large["v"]).all() and int(large["step"]) == 1
    assert_allclose(large["theta"], usual["theta"], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_number_that_is_not_finite_stops_the_run_and_names_the_step(method):
    plan, state, step_of, _ = setup(method, epochs=4)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=f"step {plan.steps_per_epoch + 1}\\b"):
        for report in train(TESTED, step_of(state), state, plan):
            if report["step"] == plan.steps_per_epoch:
                state["theta"][3] = np.nan
    assert all(math.isfinite(float(state[name])) for name in ("log_lambda", "constraint_ma") if name in state)


def test_a_last_step_that_blows_up_is_not_reported_as_a_result():
    plan, state, _, model = setup("vae", epochs=1)
    step = make_step(TESTED, model, METHODS["vae"], plan._replace(lr=math.inf), READ, state)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="weights"):
        list(train(TESTED, step, state, plan._replace(steps_per_epoch=1)))


def batch_of_the_next(state) -> tuple:
    """Images and noise of the next step, whose state stays as it is."""
    at = int(state["step"]) % 4 * 5
    return READ(state["order"][at : at + 5], None), TESTED.normal(state["noise"].copy(), (2, 5, 3))


def terms_of_the_next(method: str, state, model) -> vae.Terms:
    """What the next step will compute."""
    _, (terms, _) = objective(method, model, state["theta"], *batch_of_the_next(state), xp)
    return terms


CONSTRAINED = [(name, row.constraint) for name, row in METHODS.items() if row.constraint]
# The rules that a user may choose, or None where the constraint has its own.
RULES = [(name, rule) for name, row in CONSTRAINED for rule in ([None] if row.rule else MULTIPLIERS)]


@pytest.mark.parametrize(("method", "rule"), RULES)
def test_the_multiplier_follows_the_moving_average_by_the_rule_that_was_asked_for(method, rule):
    plan, state, _, model = setup(method)
    row = METHODS[method]
    plan = plan._replace(multiplier=rule or "relative", multiplier_rate=1e-3)
    advance = MULTIPLIERS[rule][0] if rule else row.constraint.rule
    step, c_ma = make_step(TESTED, model, row, plan, READ, state), 0.0
    for t in range(6):  # into the second epoch
        bounded = row.constraint.bounded(xp, terms_of_the_next(method, state, model))
        c_hat = np.mean(host(bounded)) - plan.target
        c_ma = c_hat if t == 0 else c_ma / 6 + 5 / 6 * c_hat  # 12 steps, of which it remembers 1.2
        numbers = map(np.asarray, (float(state["log_lambda"]), math.log(LAMBDA_0), c_ma))
        steps = plan.epochs * plan.steps_per_epoch
        log_lam = compute(advance, *numbers, plan.target, 1e-3, steps)
        step()
        assert float(state["constraint_ma"]) == approx(c_ma, rel=1e-12)
        assert float(state["log_lambda"]) == approx(log_lam, rel=1e-12)


def test_the_guard_of_the_multiplier_lies_about_where_it_started():
    _, state, step_of, _ = setup("geco")
    state["log_lambda"][...] = math.log(LAMBDA_0) + 4
    step_of(state)()
    assert float(state["constraint_ma"]) > 0  # which asks for more
    assert float(state["log_lambda"]) == approx(math.log(LAMBDA_0) + 4)


def test_the_reported_elbo_is_the_mean_log_likelihood_minus_the_rate():
    plan, state, _, model = setup("beta-vae")
    terms = host(terms_of_the_next("beta-vae", state, model))
    make_step(TESTED, model, METHODS["beta-vae"], plan, READ, state)()
    expected = [np.mean(terms.kl), np.mean(terms.err), np.mean(terms.log_px) - np.mean(terms.kl)]
    assert state["totals"][1:].tolist() == approx(expected)


def test_initial_weights_are_glorot_uniform_and_start_at_the_given_bias():
    model = model_of(pixels=300, hidden=(200,), latents=50)
    params = host(vae.params_of(model, initial_theta(TESTED, device(model), TESTED.noise(0), 0.25)))
    w, limit = params["encoder"]["W0"], math.sqrt(6 / 500)
    assert abs(w).max() <= limit and w.std() == approx(limit / math.sqrt(3), rel=0.01)
    assert (params["decoder"]["b1"] == 0.25).all() and (params["encoder"]["b0"] == 0).all()
