"""What studies/geco_variants.py changes in GECO is what the names of its variants say, and nothing else."""

import math
from contextlib import nullcontext

import numpy as np
import pytest

import experiment.training
import ref.train
from experiment.defaults import UsageError
from ref.objectives import METHODS
from ref.train import Plan, initial_state, train
from studies import geco_variants
from studies.geco_variants import VARIANTS, average, late_batch, nu_pi
from tests.small import NUMPY, model_of, theta_of

LAMBDA_0, KAPPA, RATE = 20.0, 0.6, 1e-3
IMAGES = np.random.default_rng(0).uniform(size=(26, 7))
PLAN = Plan(6, 4, 6, 2, 1e-2, "constant", "relative", RATE, {"kappa": KAPPA}, 0.1)


def trained(variant=None, plan=PLAN, every_step=lambda state: None):
    """The state and the reports after a run; `read` notes each step's images."""
    model, seen = model_of(), []
    state = initial_state(NUMPY, theta_of(model), NUMPY.noise(0), len(IMAGES), LAMBDA_0)

    def read(rows, noise):
        seen.append([*rows])
        return IMAGES[rows]

    with variant or nullcontext():
        step = experiment.training.make_step(NUMPY, model, METHODS["geco"], plan, read, state)

        def watched():
            step()
            every_step(state)

        return state, [*train(NUMPY, watched, state, plan, plan.steps_per_epoch)], seen


def test_nu_pi_integrates_each_violation_once_and_adds_the_smoothed_one(monkeypatch):
    violations, follow = [], ref.train.moving_average

    def noted(xp, before, violation, first, alpha):
        violations.append(float(violation))
        return follow(xp, before, violation, first, alpha)

    monkeypatch.setattr(geco_variants, "moving_average", noted)
    state, _, _ = trained(nu_pi(3.0))
    alpha, smoothed = 1 - 1 / 3.6, violations[0]  # 36 steps
    for violation in violations[1:]:
        smoothed = alpha * smoothed + (1 - alpha) * violation
    moved = sum(violations) + 3 * (smoothed - violations[0])
    assert len(violations) == 36 and float(state["constraint_ma"]) == pytest.approx(smoothed, rel=1e-12)
    assert float(state["log_lambda"]) == pytest.approx(math.log(LAMBDA_0) + RATE * moved / KAPPA**2, rel=1e-12)


def test_late_batches_are_larger_in_the_last_third_and_see_as_many_images():
    _, reports, seen = trained(late_batch(3))
    assert [len(rows) for rows in seen] == 24 * [4] + 4 * [12]
    for epoch in range(4, 6):
        of = [*seen[24 + 2 * (epoch - 4)], *seen[25 + 2 * (epoch - 4)]]
        assert len({*of}) == 24
    assert [report["step"] for report in reports] == [*range(1, 37)]


def test_until_it_is_late_nothing_has_changed_and_the_learning_rate_and_lambda_keep_their_pace():
    def thetas(variant, plan=PLAN):
        found = []
        trained(variant, plan, lambda state: found.append(state["theta"].copy()))
        return found

    plain, late = thetas(None), thetas(late_batch(3))
    assert all((a == b).all() for a, b in zip(plain[:24], late[:24], strict=True))
    assert (late[24] == late[26]).all() and (late[26] != late[27]).any()
    lams = []
    state, _, _ = trained(late_batch(3), every_step=lambda state: lams.append(float(state["log_lambda"])))
    expected = 3 * RATE * float(state["constraint_ma"]) / KAPPA**2  # the last large batch was the 34th step
    assert lams[33] - lams[32] == pytest.approx(expected, rel=1e-9)
    fast = PLAN._replace(options={"kappa": 0.1}, multiplier_rate=1.0)  # beyond reach: λ is at its fastest
    state, _, _ = trained(late_batch(3), fast)
    assert float(state["log_lambda"]) == pytest.approx(math.log(LAMBDA_0) + 4)
    cosine = PLAN._replace(schedule="cosine")
    moved = np.abs(np.diff(thetas(late_batch(3), cosine), axis=0)).max(axis=1)
    assert moved[-3] < 0.2 * moved[23]  # the last of the large batches: the cosine has come down for it, too


def test_an_epoch_that_cannot_be_cut_into_larger_batches_is_refused():
    with pytest.raises(UsageError, match="6 batches"):
        trained(late_batch(4))


def test_a_late_step_that_is_not_finite_is_named(monkeypatch):
    def poisoned(state):
        if int(state["step"]) == 30:
            state["theta"][...] = np.nan

    with pytest.raises(ref.train.NonFiniteError, match="step 31"):
        trained(late_batch(3), every_step=poisoned)


def test_the_average_is_that_of_the_last_epochs_steps():
    thetas = []
    trained(every_step=lambda state: thetas.append(state["theta"].copy()))
    state, _, _ = trained(average(2))
    np.testing.assert_allclose(state["theta"], np.mean(thetas[-12:], axis=0), rtol=1e-12)


def test_the_decay_of_all_shrinks_the_biases_too():
    params = {"decoder": {"W0": np.ones(2), "b0": np.ones(2)}}
    geco_variants.decay_all(params, 0.5)
    assert [*params["decoder"]["W0"], *params["decoder"]["b0"]] == 4 * [0.5]
    with VARIANTS["decay-biases"]():
        assert ref.train.decay is geco_variants.decay_all


@pytest.mark.slow
def test_a_variant_is_trained_once_and_leaves_a_whole_run(tmp_path, monkeypatch):
    options = ["--data", "digits", "--variants", "average-1", "--seeds", "3"]
    assert geco_variants.main([str(tmp_path), *options]) == 0
    assert (tmp_path / "digits-average-1-3" / "summary.json").is_file()
    monkeypatch.setattr(geco_variants.run, "main", lambda argv: pytest.fail("trained again"))
    assert geco_variants.main([str(tmp_path), *options]) == 0
