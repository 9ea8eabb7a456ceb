"""The linear VAE, known in closed form: training and evaluation end to end."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pytest import approx

from ref import mlp, vae
from ref.more import linear
from ref.more.linear import (
    calibrated_level,
    gaussian_rate_distortion,
    in_principal_coordinates,
    level_for,
    level_for_rate,
    multiplier_at,
    principal_components,
    principal_variances,
    start_linear,
    water_level,
)
from ref.more.metrics import Draws, Images, evaluate
from ref.objectives import METHODS
from ref.train import initial_state, initial_theta, make_step, train
from tests.small import plan_of, reader
from tests.tested import TESTED, device, host, needs_backend, xp

pytestmark = needs_backend

SPECTRUM = np.array([4.0, 2.0, 1.0, 0.5, 0.1, 0.05])
LATENTS = 5
USED, REST = SPECTRUM[:LATENTS], float(SPECTRUM[LATENTS:].sum())  # with a latent, and without


def gaussian_images(count=4000) -> np.ndarray:
    """Images whose sample mean and covariance are exact: a rotated spectrum about a mean."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(count, len(SPECTRUM)))
    white -= white.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(white.T @ white / count), white.T).T
    rotation = np.linalg.qr(rng.normal(size=(len(SPECTRUM),) * 2))[0]
    return white * np.sqrt(SPECTRUM) @ rotation.T + rng.uniform(size=len(SPECTRUM))


IMAGES = gaussian_images()
READ = reader(device(IMAGES))
CENTER = device(IMAGES.mean(axis=0))


def closed_form(level: float) -> tuple[float, float]:
    """Rate and distortion of the linear VAE of level θ = 1/(2λ)."""
    return 0.5 * np.log(np.maximum(SPECTRUM / level, 1)).sum(), np.minimum(SPECTRUM, level).sum()


def linear_model(hidden=(), latents=LATENTS) -> vae.Model:
    return vae.Model(mlp, hidden, latents, "silu", False, "gaussian", 0.5, CENTER)


@cache
def started_at(level: float):
    """A network whose start is the linear VAE of that level."""
    directions, variances, _ = principal_components(TESTED, READ, len(IMAGES), CENTER, 6, TESTED.noise(1))
    model = in_principal_coordinates(xp, linear_model((4,)), directions, variances)
    theta = initial_theta(TESTED, model, TESTED.noise(0), 0.0)
    start_linear(xp, model, theta, device(np.sort(SPECTRUM)[::-1]), level)
    return model, theta


def trained(method: str, model: vae.Model, epochs: int, lam: float | None, samples=1, **changes):
    """The state after training on the Gaussian images, and the last report."""
    noise = TESTED.noise(0)
    theta = initial_theta(TESTED, model, noise, CENTER)
    state = initial_state(TESTED, theta, noise, len(IMAGES), lam)
    plan = plan_of(method, epochs, 100, len(IMAGES), samples, **changes)
    *_, last = train(TESTED, make_step(TESTED, model, METHODS[method], plan, READ, state), state, plan)
    return state, last


@cache
def trained_from_scratch(method: str):
    """A linear VAE: its model, its state, and the last report."""
    latents, changes, *_ = ENDS[method]
    model = linear_model(latents=latents)
    return model, *trained(method, model, 120, 1.0, **changes)


def judged(model, theta, nll_samples=1, **changes):
    images = Images(READ, len(IMAGES))
    return evaluate(TESTED, model, theta, images, TESTED.noise(9), Draws(nll_samples, **changes))


LEVEL, LEFT = 0.2, SPECTRUM[3:].mean()  # of a target, and of what three latents leave
RATE, ERROR = closed_form(LEVEL)
CALIBRATED = 0.5 * np.log(SPECTRUM[:3] / LEFT).sum()
# Latents and plan; λ, rate, error and used latents at the optimum, and how close training comes.
ENDS = {
    "geco": (5, {"target": ERROR, "multiplier_rate": 4e-3}, 1 / (2 * LEVEL), RATE, ERROR, 4, 0.01),
    "rate": (5, {"target": RATE, "multiplier_rate": 4e-3}, 2 * LEVEL, RATE, ERROR, 4, 0.01),
    "sigma-vae": (3, {"multiplier_rate": 3}, 1 / (2 * LEFT), CALIBRATED, LEFT * 6, 3, 0.02),
}


@pytest.mark.parametrize("method", ENDS)
def test_training_on_gaussian_images_ends_at_the_closed_form_multiplier_rate_and_error(method):
    _, _, lam, rate, error, units, precision = ENDS[method]
    model, state, last = trained_from_scratch(method)
    figures = judged(model, state["theta"], samples=20)
    assert last["lambda"] == approx(lam, rel=precision)
    assert figures["rate"] == approx(rate, rel=precision)
    assert figures["error"] == approx(error, rel=precision)
    assert figures["active_units"] == units


def test_principal_components_are_those_of_the_covariance():
    found = principal_components(TESTED, READ, len(IMAGES), CENTER, 4, TESTED.noise(3), sweeps=30)
    directions, variances, total = host(found)
    expected = np.linalg.eigh(np.cov(IMAGES.T, bias=True))[1][:, ::-1][:, :4]
    assert_allclose(variances, SPECTRUM[:4], rtol=1e-6)
    assert_allclose(np.abs(np.sum(directions * expected, axis=0)), 1, rtol=1e-6)
    assert total == approx(SPECTRUM.sum())


@given(st.floats(0.06, 7.6))
def test_the_water_level_gives_back_its_distortion(distortion):
    level = water_level(list(USED), REST, distortion)
    assert np.minimum(USED, level).sum() + REST == approx(min(distortion, SPECTRUM.sum()))


@given(st.floats(0.06, 10.0))
def test_the_gaussian_bound_is_the_rate_of_the_best_linear_vae(level):
    rate, distortion = closed_form(level)
    assert gaussian_rate_distortion(sorted(SPECTRUM, reverse=True), distortion) == approx(rate, abs=1e-9)


def test_the_gaussian_bound_of_equal_variances_is_half_the_log_of_their_share_each():
    assert gaussian_rate_distortion([2.0] * 5, 1.0) == approx(5 * 0.5 * math.log(2.0 * 5 / 1.0))
    assert gaussian_rate_distortion([2.0] * 5, 10.0) == gaussian_rate_distortion([2.0] * 5, 11.0) == 0
    many = [3.0] * 100 + [1e-3] * 900
    assert gaussian_rate_distortion(many, 50.9) == approx(100 * 0.5 * math.log(3.0 / 0.5))


def variances_and_eigenvalues(count: int, pixels: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Ours and NumPy's, of images whose variances fall by a fifth from one to the next."""
    images = np.random.default_rng(0).normal(size=(count, pixels)) * 0.8 ** (np.arange(pixels) / 2)
    center = images.mean(axis=0)
    read = reader(device(images))
    variances, rest = principal_variances(TESTED, read, count, device(center), TESTED.noise(0))
    return np.array(variances), rest, np.linalg.eigvalsh((images - center).T @ (images - center) / count)[::-1]


@pytest.mark.parametrize("block", [10, 1000])
@pytest.mark.parametrize("shape", [(90, 40), (25, 40), (40, 40)], ids=str)
def test_principal_variances_are_the_eigenvalues_of_the_covariance(shape, block, monkeypatch):
    monkeypatch.setattr(linear, "BLOCK", block * shape[1])
    ours, rest, theirs = variances_and_eigenvalues(*shape)
    count = np.sum(theirs > linear.FLOOR * theirs[0])
    assert_allclose(ours, theirs[:count], rtol=1e-9)
    assert rest == approx(theirs[count:].sum(), abs=1e-12)


def test_of_many_large_images_the_leading_variances_are_the_largest_eigenvalues(monkeypatch):
    monkeypatch.setattr(linear, "DENSE", 30)
    monkeypatch.setattr(linear, "LEADING", 8)
    ours, rest, theirs = variances_and_eigenvalues(90, 40)
    assert_allclose(ours, theirs[:8], rtol=1e-4)
    assert rest == approx(theirs[8:].sum(), rel=1e-4)


def test_the_bound_of_the_leading_variances_holds_while_what_is_left_out_costs_no_rate():
    spectrum = sorted(SPECTRUM, reverse=True)
    for level in (0.3, 0.5, 0.7, 1.5):  # three are known; the largest of the others is 0.5
        distortion = closed_form(level)[1]
        whole = gaussian_rate_distortion(spectrum, distortion)
        known = gaussian_rate_distortion(spectrum[:3], distortion, sum(spectrum[3:]))
        assert (known == approx(whole)) == (level >= 0.5)


def test_the_aggregate_posterior_of_the_best_linear_vae_is_its_prior():
    # over all Gaussian images its marginal KL is 0; 4,000 of them leave it a trifle
    figures = judged(*started_at(LEVEL))
    assert figures["marginal_kl"] == approx(0, abs=0.15)
    assert figures["mutual_information"] == approx(RATE, abs=0.15)


def test_a_rate_and_an_error_at_the_mean_can_both_vanish_without_learning():
    # means shrunk to ε under the prior's own std, and a decoder that blows them up again
    model, epsilon = linear_model()._replace(latents=len(SPECTRUM)), 1e-6
    theta = initial_theta(TESTED, model, TESTED.noise(0), CENTER)
    params = vae.params_of(model, theta)
    params["encoder"]["W0"][...] = device(np.concatenate([epsilon * np.eye(6), np.zeros((6, 6))], axis=1))
    params["decoder"]["W0"][...] = device(np.eye(6) / epsilon)
    figures = judged(model, theta)
    assert figures["rate"] < 1e-9 and figures["error_at_mean"] < 1e-9
    assert figures["mutual_information"] < 1e-3 and figures["error"] > 1e9


def test_a_distortion_below_the_unexplained_variance_is_refused():
    with pytest.raises(ValueError, match=r"cannot reach a squared error of 0\.04"):
        water_level(list(USED), 0.05, 0.04)


def test_the_level_of_a_start_is_that_of_its_distortion_also_below_a_gap_of_the_spectrum():
    assert level_for(USED, SPECTRUM.sum(), np.minimum(SPECTRUM, 0.3).sum()) == approx(0.3)
    below = LATENTS * 0.5 * USED[-1] + REST  # half of the smallest in each
    assert level_for(USED, SPECTRUM.sum(), below) == approx(0.5 * USED[-1])
    assert level_for(USED, SPECTRUM.sum(), 0.04) == USED[-1]  # less than the variance outside the latents


@pytest.mark.parametrize("rate", [1e-3, 0.2, 1.0, 4.0, 20.0])
def test_the_level_of_a_rate_is_that_at_which_the_best_linear_vae_pays_it(rate):
    level = level_for_rate(USED, rate)
    assert np.sum(0.5 * np.log(np.maximum(USED / level, 1))) == approx(rate, rel=1e-9)
    assert level_for_rate(USED, 1e6) == approx(1e-6 * USED[0])  # a rate beyond reach


def test_the_calibrated_level_is_the_variance_of_probabilistic_principal_components():
    level = calibrated_level(USED, SPECTRUM.sum(), SPECTRUM.size)
    assert level == approx(REST)  # of the only direction without a latent
    error = np.minimum(USED, level).sum() + REST
    assert multiplier_at(level, METHODS["sigma-vae"].constraint) * error == approx(SPECTRUM.size / 2)
    assert calibrated_level(SPECTRUM, SPECTRUM.sum(), SPECTRUM.size) == SPECTRUM[-1]  # nothing is left
    assert calibrated_level(USED, USED.sum(), SPECTRUM.size) == approx(1e-6 * SPECTRUM[0])


@pytest.mark.parametrize("level", [0.07, 0.2, 0.7, 3.0])
def test_a_network_that_starts_linear_has_the_closed_form_rate_and_distortion(level):
    model, theta = started_at(level)
    figures, (rate, distortion) = judged(model, theta, samples=10), closed_form(level)
    assert figures["rate"] == approx(rate, rel=1e-3)
    assert figures["error"] == approx(distortion, rel=5e-3)
    assert figures["active_units"] == (level < SPECTRUM).sum()


def test_the_nll_of_a_linear_model_is_the_gaussian_marginal_likelihood():
    # with q(z|x) = p(z|x) every weight is p(x): one sample is enough, and ELBO = −NLL
    model, theta = started_at(LEVEL)
    values, vectors = np.linalg.eigh(np.cov(IMAGES.T, bias=True))
    model_values = np.maximum(values, LEVEL)
    centred = (IMAGES - IMAGES.mean(axis=0)) @ vectors
    log_px = -0.5 * (centred**2 / model_values + np.log(2 * np.pi * model_values)).sum(axis=1)
    figures = judged(model._replace(variance=LEVEL), theta, samples=20)
    assert figures["nll"] == approx(-log_px.mean(), rel=1e-4)
    assert figures["nll_standard_error"] == approx(log_px.std() / math.sqrt(len(IMAGES)), rel=1e-3)
    assert figures["elbo"] == approx(log_px.mean(), rel=2e-3)


def test_the_nll_falls_with_more_samples():
    model, state, _ = trained_from_scratch("geco")
    model = model._replace(variance=0.05)  # the posterior is not the exact one
    few, many = (judged(model, state["theta"], k) for k in (1, 64))
    assert many["nll"] < few["nll"] - 0.1 and -few["elbo"] >= many["nll"]


def test_evaluation_changes_nothing_and_repeats_itself():
    model, state, _ = trained_from_scratch("geco")
    before = {name: array.copy() for name, array in state.items()}
    assert judged(model, state["theta"], 3) == judged(model, state["theta"], 3)
    assert all((state[name] == before[name]).all() for name in state)


def short_run(method: str, lam: float | None, samples=1, **changes) -> tuple[dict, dict]:
    """A small non-linear network on the Gaussian images: the last report and the figures."""
    model, constraint = linear_model(hidden=(16,)), METHODS[method].constraint
    state, last = trained(method, model, 40, lam, samples, **changes)
    bounded = constraint.bounded if constraint else None
    return last, judged(model, state["theta"], samples=samples, bounded=bounded)


def test_geco_lands_on_the_curve_of_the_beta_vae():
    last, geco = short_run("geco", 3.0, target=1.0)
    _, beta_vae = short_run("beta-vae", None, options={"beta": 1 / last["lambda"]})
    assert geco["bounded"] == approx(1, abs=0.03)
    assert beta_vae["rate"] == approx(geco["rate"], rel=0.02)
    assert beta_vae["error"] == approx(geco["error"], rel=0.03)


def test_geco_iwae_meets_its_constraint():
    _, figures = short_run("geco-iwae", 3.0, samples=5, target=1.0)
    assert figures["bounded"] == approx(1, abs=0.05)
