"""Identities that pin the forward of every objective, and GECO's multiplier."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pytest import approx

from ref import objectives as ob
from ref import vae
from ref.objectives import Now
from ref.train import REPORTED, batch_means
from tests.small import NOW, batch_of, model_of, options_of, plan_of, theta_of
from tests.tested import compute, device, host, needs_backend, xp

pytestmark = needs_backend

finite = st.floats(-1e6, 1e6)
ANY = Now()  # for a loss that ignores it


CONSTANT = 0.5 * 7 * np.log(np.pi)  # at σ² = ½, where log p(x|z) = −err − CONSTANT


def terms_of(samples=4, images=5, seed=3, **changes):
    def terms(xp, model, theta, x, eps):
        return vae.forward(xp, model, vae.params_of(model, theta), x, eps)[0]

    model = model_of(**changes)
    return compute(terms, model, theta_of(model), *batch_of(model, images, samples, seed))


@pytest.mark.parametrize(("warm_up", "done", "beta"), [(0.4, 0.0, 0), (0.4, 0.1, 0.25), (0.4, 0.5, 1), (0.0, 0.0, 1)])
def test_iwae_with_one_sample_is_the_sampled_elbo_whose_kl_grows_in_a_warm_up(warm_up, done, beta):
    t = terms_of(samples=1)
    expected = beta * np.mean(t.log_qz - t.log_pz) - np.mean(t.log_px)
    assert compute(ob.iwae, t, Now(done=np.array(done)), warm_up) == approx(expected, rel=1e-14)


def test_the_bound_of_k_samples_rises_with_k():
    # every subset of K samples has the same law, so the mean over subsets is L_k without noise
    log_w = ob.log_weight((t := terms_of(samples=4, images=50)).log_px, t)
    means = [
        np.mean([np.log(np.mean(np.exp(log_w[list(s)]), axis=0)) for s in subsets])
        for subsets in ([(0,), (1,), (2,), (3,)], [(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)], [(0, 1, 2, 3)])
    ]
    assert means[0] < means[1] < means[2] == approx(-compute(ob.iwae, t, ANY))


def test_the_loss_is_the_negative_elbo_and_beta_weighs_its_kl():
    t = terms_of()
    assert compute(ob.vae, t, ANY) == approx(np.mean(t.kl) - np.mean(t.log_px), rel=1e-14)
    assert compute(ob.vae, t, ANY, beta=0.3) == approx(0.3 * np.mean(t.kl) - np.mean(t.log_px), rel=1e-14)


def test_a_frozen_multiplier_makes_geco_the_beta_vae_up_to_scale():
    # KL + λ·err = λ·(β·KL + err), β = 1/λ
    t, lam = terms_of(variance=0.5), 2.5
    beta_vae = compute(ob.vae, t, ANY, beta=1 / lam) - CONSTANT
    assert compute(ob.geco, t, Now(lam, 1.7)) == approx(lam * (beta_vae - 1.7), rel=1e-12)
    geco, d = compute(ob.geco_backward, t, Now(lam, 1.7)), compute(ob.vae_backward, t, ANY, beta=1 / lam)
    assert_allclose(geco.kl, lam * d.kl, rtol=1e-12)
    assert_allclose(geco.err, -lam * d.log_px, rtol=1e-12)


def test_geco_iwae_with_one_sample_is_geco_with_the_sampled_kl():
    t = terms_of(samples=1)
    expected = np.mean(t.log_qz - t.log_pz) + 2.5 * (np.mean(t.err) - 1.7)
    assert compute(ob.geco_iwae, t, Now(2.5, 1.7)) == approx(expected, rel=1e-12)
    assert_allclose(compute(ob.weighted_error, t), compute(ob.mean_error, t), rtol=1e-12)


def test_geco_iwae_at_lambda_one_is_iwae_up_to_a_constant():
    t, now = terms_of(variance=0.5), Now(1.0, 1.7)
    assert compute(ob.geco_iwae, t, now) == approx(compute(ob.iwae, t, ANY) - CONSTANT - 1.7, rel=1e-12)
    ours, d_log_w = compute(ob.geco_iwae_backward, t, now), compute(ob.iwae_backward, t, ANY).log_px
    for d, expected in ((ours.err, -d_log_w), (ours.log_pz, d_log_w), (ours.log_qz, -d_log_w)):
        assert_allclose(d, expected, rtol=1e-12)


def test_geco_iwae_is_the_kl_of_q_iw_plus_lambda_times_its_constraint():
    t, lam = terms_of(), 2.5
    log_w = -t.err + t.log_pz - t.log_qz
    w = np.exp(log_w) / np.exp(log_w).sum(axis=0)
    # q_IW at z_k is p(x, z_k)/(mean of w), so log q_IW − log p(z_k) = −err_k − log mean w
    kl = np.mean(np.sum(w * (-t.err - np.log(np.exp(log_w).mean(axis=0))), axis=0))
    constraint = np.mean(np.sum(w * t.err, axis=0)) - 1.7
    assert compute(ob.geco_iwae, t, Now(lam, 1.7)) == approx(kl + lam * constraint, rel=1e-12)


def test_one_sample_is_the_default_and_five_where_the_loss_weighs_them():
    defaults = {"vae": 1, "beta-vae": 1, "geco": 1, "iwae": 5, "dreg": 5, "geco-iwae": 5}
    assert {name: ob.METHODS[name].samples for name in defaults} == defaults
    assert ob.METHODS["beta-vae"].options["beta"].default == 0.5


def test_losses_are_pure():
    before, t = terms_of(), device(terms_of())
    for name, method in ob.METHODS.items():
        options = options_of(name)
        assert host(method.loss(xp, t, NOW, **options)) == host(method.loss(xp, t, NOW, **options))
        method.backward(xp, t, NOW, **options)
    assert all((a == b).all() for a, b in zip(before, host(t), strict=True))


def advanced(rule, log_lam, c_ma, *options, start=None):
    """log λ after one step of the rule; log λ₀ is log λ unless given."""
    return compute(rule, *map(np.array, (log_lam, log_lam if start is None else start, c_ma)), *options)


@pytest.mark.parametrize("rule", ob.MULTIPLIERS)
@given(log_lam=st.floats(-8, 8), c_ma=finite, target=st.floats(0.01, 100))
def test_lambda_rises_exactly_while_the_moving_average_is_positive(rule, log_lam, c_ma, target):
    update, rate = ob.MULTIPLIERS[rule][0], ob.MULTIPLIERS[rule][1](10_000)
    log_lam += np.log(ob.initial_multiplier(target))
    change = advanced(update, log_lam, c_ma, target, rate, 10_000) - log_lam
    if abs(c_ma) > 1e-9 * target:
        assert np.sign(change) == np.sign(c_ma)
    assert rule == "plain" or abs(change) <= ob.TRAVEL / 10_000 + 1e-12


@given(c_ma=finite, target=st.floats(0.01, 100), units=st.floats(0.01, 255))
def test_the_relative_rule_does_not_see_the_units_of_the_pixels(c_ma, target, units):
    moved = []
    for unit in (1.0, units):
        start = np.log(ob.initial_multiplier(target * unit**2))
        moved.append(advanced(ob.relative_multiplier, start, c_ma * unit**2, target * unit**2, 1e-3, 1000) - start)
    assert moved[0] == approx(moved[1], rel=1e-9, abs=1e-12)


def test_the_relative_rule_moves_by_the_rate_times_the_relative_violation_inside_its_bounds():
    start = np.log(ob.initial_multiplier(4.0))
    assert advanced(ob.relative_multiplier, start, 0.4, 4.0, 1e-2, 1000) - start == approx(1e-2 * 0.4 / 4)
    assert advanced(ob.relative_multiplier, start, 40.0, 4.0, 1e-2, 1000) - start == approx(4 / 1000)


@pytest.mark.parametrize("violation", [1e9, -1e9])
def test_the_multiplier_stays_within_e_to_the_four_of_its_start_in_a_run(violation):
    log_lam = 0.3
    for steps in (10, 30):  # of a run whose epochs grew
        for _ in range(10):
            log_lam = advanced(ob.relative_multiplier, log_lam, violation, 4.0, 1.0, steps, start=0.3)
        assert log_lam - 0.3 == approx(4 * np.sign(violation))


def test_the_plain_rule_is_algorithm_one_to_the_letter():
    assert advanced(ob.plain_multiplier, 0.3, 5.0, 4.0, 1e-3, 10) == approx(0.305)


def test_the_multiplier_starts_at_that_of_sixteen_gaussian_latents_that_share_the_error():
    # rate = (d/2) log(e/ℓ) and err = dℓ, so −d rate/d err = d/(2 err)
    assert ob.initial_multiplier(4.0**2) == 16 / (2 * 4.0**2)


def test_the_rate_of_the_relative_rule_is_56_over_the_steps_and_at_most_a_hundredth():
    rate = ob.MULTIPLIERS["relative"][1]
    assert [rate(steps) for steps in (100, 5600, 56_000)] == approx([0.01, 0.01, 0.001])
    assert ob.MULTIPLIERS["plain"][1](100) == ob.MULTIPLIERS["plain"][1](10**6) == 1e-3


BOUNDED = [name for name, row in ob.METHODS.items() if row.constraint and row.constraint.name]


@pytest.mark.parametrize("method", BOUNDED)
def test_the_constraint_is_the_derivative_of_the_loss_by_lambda(method):
    row, t = ob.METHODS[method], terms_of()
    above, below = (compute(row.loss, t, Now(lam, 1.7), **options_of(method)) for lam in (3.5, 2.5))
    assert above - below == approx(np.mean(compute(row.constraint.bounded, t)) - 1.7, rel=1e-12)


@pytest.mark.parametrize("method", BOUNDED)
def test_a_constraint_bounds_the_mean_that_it_names_and_its_target_is_kappa_squared_or_the_rate(method):
    constraint = ob.METHODS[method].constraint
    how = {"method": ob.METHODS[method], "plan": plan_of(method, 1, 4, 4, 1)}
    *reported, bounded = compute(batch_means, terms_of(), NOW, **how)
    named = [name for name, mean in zip(REPORTED, reported, strict=True) if mean == approx(bounded, rel=1e-12)]
    assert named == [name for name in REPORTED if name == constraint.bounds]
    assert (constraint.name, constraint.power) in (("kappa", 2), ("rate", 1))


def test_the_rate_target_weighs_the_rate_as_geco_weighs_the_error():
    t = terms_of()
    assert compute(ob.rate_bound, t, Now(3.0, 4.0)) == approx(np.mean(t.err) + 3 * (np.mean(t.kl) - 4))
    there, back = compute(ob.rate_bound_backward, t, Now(0.25, 4.0)), compute(ob.geco_backward, t, Now(4.0, 4.0))
    for name in ("kl", "err"):  # one Lagrangian, multiplied by λ
        assert_allclose(4 * getattr(there, name), getattr(back, name), rtol=1e-14)


@pytest.mark.parametrize("lam", [0.3, 1.0, 40.0])
def test_the_loss_of_the_sigma_vae_is_the_negative_elbo_at_the_variance_of_its_multiplier(lam):
    t, pixels = terms_of(), 7
    log_px = -t.err * lam - 0.5 * pixels * np.log(2 * np.pi / (2 * lam))  # σ² = 1/(2λ)
    expected = np.mean(t.kl) - np.mean(log_px)
    assert compute(ob.sigma_vae, t, Now(np.array(lam), pixels=pixels)) == approx(expected, rel=1e-13)


def test_the_sigma_vae_is_least_where_lambda_times_the_error_is_half_the_pixels():
    t, pixels = terms_of(), 7
    error = np.mean(t.err)
    best = 0.5 * pixels / error

    def loss(lam):
        return compute(ob.sigma_vae, t, Now(np.array(lam), pixels=pixels))

    assert loss(best) < min(loss(0.99 * best), loss(1.01 * best))
    constant = 0.5 * pixels * (1 + np.log(2 * np.pi / pixels))
    assert loss(best) == approx(np.mean(t.kl) + 0.5 * pixels * np.log(error) + constant, rel=1e-13)
    d = compute(ob.METHODS["sigma-vae"].backward, t, Now(best, pixels=pixels))
    log_error = autograd.grad(lambda err: 0.5 * pixels * anp.log(anp.mean(err)))(t.err)  # as if λ were no constant
    assert_allclose(d.err, log_error, rtol=1e-13)
    assert advanced(ob.calibrated_multiplier, 9.9, error, 0.0, pixels / 2, 10) == approx(np.log(best))


def test_vr_iwae_lies_between_iwae_and_the_sampled_elbo():
    t = terms_of(samples=6)
    elbo = np.mean(t.log_px + t.log_pz - t.log_qz)
    found = [-compute(ob.vr_iwae, t, ANY, alpha) for alpha in (0.0, 0.3, 0.7, 1 - 1e-9)]
    assert found[0] == approx(-compute(ob.iwae, t, ANY), rel=1e-14)
    assert found[0] > found[1] > found[2] > found[3] == approx(elbo, rel=1e-6)
    w = np.exp(0.7 * (t.log_px + t.log_pz - t.log_qz))
    assert found[1] == approx(np.mean(np.log(w.mean(axis=0))) / 0.7, rel=1e-12)
    early = Now(done=0.1)
    assert compute(ob.vr_iwae, t, early, 0.0, 0.4) == approx(compute(ob.iwae, t, early, 0.4))


def test_the_rate_target_starts_where_latents_have_half_a_nat_each():
    # λ = 2ℓ, and 2R latents of variance V/2R have the level ℓ = V/2R·e^(−2·½)
    assert ob.initial_price(10.0, 52.7) == approx(2 * 52.7 / 20 * np.exp(-1))


def test_the_moving_average_starts_at_the_first_constraint_and_then_moves_by_one_minus_alpha():
    first = compute(ob.moving_average, np.array(123.0), np.array(10.0), np.array(True), 0.99)
    second = compute(ob.moving_average, np.array(first), np.array(20.0), np.array(False), 0.99)
    assert first == 10
    assert second == approx(0.99 * 10 + 0.01 * 20)


def test_the_moving_average_remembers_a_hundred_steps_and_a_tenth_of_a_shorter_run():
    assert [ob.memory(steps) for steps in (10**6, 1000, 200, 10, 1)] == approx([0.99, 0.99, 0.95, 0, 0])
