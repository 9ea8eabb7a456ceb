"""backward = d forward, for every pair and every method, through all parameters."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from ref import mlp as nn
from ref import vae
from ref.densities import LIKELIHOODS, Likelihood, bernoulli_log_likelihood, bernoulli_log_likelihood_backward
from ref.objectives import METHODS
from tests.by_hand import PAIRS, culprits, error_of, file_of
from tests.gradients import (
    ADVICE,
    TOLERANCE,
    check,
    fail,
    gradient_of_terms,
    hand_loss_and_gradient,
    objective,
    relative_error,
    residuals,
)
from tests.small import NETWORKS, NOW, REFUSED, batch_of, model_of, theta_of
from tests.tested import device, host, needs_backend, xp

pytestmark = needs_backend
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_backward_of_a_pair_is_the_derivative_of_its_forward(pair):
    if error_of(pair) == np.inf:
        residuals(PAIRS[pair])  # raises what its functions raise
    if not error_of(pair) <= TOLERANCE:
        fail(f"{culprits().get(pair, pair)}: relative error {error_of(pair):.3g}; {ADVICE}", own=pair)


def test_a_wrong_function_is_named_by_the_command_and_by_the_one_test_that_fails(tmp_path):
    if culprits():
        pytest.skip("a function is wrong already")
    for folder in ("ref", "backend", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "shell"))
    wrong = tmp_path / "ref/densities.py"
    wrong.write_text(wrong.read_text("utf-8").replace("return 2 * d_err *", "return 2.002 * d_err *"), "utf-8")

    def said_by(*command: str) -> subprocess.CompletedProcess:
        start = [sys.executable, "-m", *command]
        environment = os.environ | {"TESTED_BACKEND": "numpy"}
        return subprocess.run(start, cwd=tmp_path, env=environment, capture_output=True, text=True)

    said = said_by("tests.by_hand")
    rows = [re.split("  +", line) for line in said.stdout.splitlines()[1:]]
    assert [(name, file) for name, file, *_ in rows] == [(name.rpartition(".")[2], file_of(name)) for name in PAIRS]
    marks = {name: mark for name, _, _, *more in rows for mark in more}
    assert said.returncode == 1 and marks.pop("squared_error") == "← not autograd's"
    assert len(marks) > 3 and {*marks.values()} == {"← by way of densities.squared_error"}
    said = said_by("pytest", "tests/mathematics/test_gradients.py", "-k", "pair or parameter or differences")
    assert "1 failed" in said.stdout.splitlines()[-1], said.stdout
    assert "ref/densities.py: squared_error_backward is not the derivative of squared_error" in said.stdout


def oracle_gradient(name, model, theta, x, eps, now=NOW):
    """autograd's gradient of the loss or, where a method follows another, of its surrogate."""
    _, (terms, _) = objective(name, model, theta, x, eps, np, now)
    d = gradient_of_terms(name, np, terms, now)
    if is_of_the_loss(d):
        return autograd.grad(lambda theta: objective(name, model, theta, x, eps, now=now)[0])(theta)
    encoder = nn.size(model.network.shapes(model)[0])
    weighted = autograd.grad(lambda t: surrogate(d, True, model, t, theta, x, eps))(theta)
    plain = autograd.grad(lambda t: surrogate(d, False, model, t, theta, x, eps))(theta)
    return np.concatenate([weighted[:encoder], plain[encoder:]])


def is_of_the_loss(d: vae.Gradient) -> bool:
    return d.log_qz_of_z is None and d.to_encoder is None


def surrogate(d: vae.Gradient, weighted: bool, model, theta, fixed, x, eps):
    """Σ d·term with d constant, q at `fixed` in log_qz_of_z; `weighted` by to_encoder on the way through z."""
    terms, _ = vae.forward(anp, model, vae.params_of(model, theta), x, eps)
    mean, log_std, _ = model.network.encode(np, model, vae.params_of(model, fixed)["encoder"], x)
    moving = model.network.encode(anp, model, vae.params_of(model, theta)["encoder"], x)[:2]
    z = vae.reparameterize(anp, *moving, eps)
    log_qz_of_z = anp.sum(-0.5 * ((z - mean) / np.exp(log_std)) ** 2 - log_std, axis=-1)
    weight = d.to_encoder if weighted and d.to_encoder is not None else 1.0
    found = {**terms._asdict(), "log_qz_of_z": log_qz_of_z}
    ways = {name: 1.0 if name in ("kl", "log_qz") else weight for name in found if getattr(d, name) is not None}
    return sum(anp.sum(way * getattr(d, name) * found[name]) for name, way in ways.items())


def check_every_parameter(name, model, theta, x, eps, now=NOW):
    loss, _ = objective(name, model, theta, x, eps, np, now)
    oracle = oracle_gradient(name, model, theta, x, eps, now)
    hand, gradient = hand_loss_and_gradient(name, model, theta, x, eps, now)
    assert hand == approx(loss, rel=1e-12, abs=1e-11)
    floor = 1e-4 * np.linalg.norm(oracle)  # without influence there are roundings
    for part, parameters in vae.params_of(model, np.arange(gradient.size)).items():
        for parameter, places in parameters.items():
            check(gradient[places], oracle[places], f"{part} {parameter}", floor)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_autograds_gradient_through_every_parameter(name, network):
    model = model_of(**NETWORKS[network])
    check_every_parameter(name, model, theta_of(model), *batch_of(model))


def check_refused(model) -> None:
    with pytest.raises(AssertionError, match=f"{model.likelihood} needs x̂ = sigmoid"):
        vae.forward(np, model, vae.params_of(model, theta_of(model)), *batch_of(model))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_likelihood_of_logits_on_a_linear_output_is_refused_and_not_trained_on_nonsense(kind):
    check_refused(model_of(**REFUSED[kind]))


@pytest.mark.parametrize("coordinates", [0, 5])
def test_a_new_likelihood_of_logits_is_trained_refused_and_caught_if_its_row_hides_what_it_needs(
    coordinates, monkeypatch
):
    def log_density(xp, x, decoded, variance):
        return 3 * bernoulli_log_likelihood(xp, x, decoded, variance)

    def backward(xp, d_log_px, x, decoded, variance):
        return bernoulli_log_likelihood_backward(xp, 3 * d_log_px, x, decoded, variance)

    honest = Likelihood(log_density, backward, of_logits=True, black_and_white=False, has_variance=False)
    sigmoid = model_of(likelihood="new", coordinates=coordinates, sigmoid_output=True)
    monkeypatch.setitem(LIKELIHOODS, "new", honest)
    check_refused(sigmoid._replace(sigmoid_output=False))
    check_every_parameter("vae", sigmoid, theta_of(sigmoid), *batch_of(sigmoid))
    monkeypatch.setitem(LIKELIHOODS, "new", honest._replace(of_logits=False))
    with pytest.raises(AssertionError, match="relative error"):
        check_every_parameter("vae", sigmoid, theta_of(sigmoid), *batch_of(sigmoid))


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=20)
@given(
    images=st.integers(1, 5),
    samples=st.integers(1, 6),
    latents=st.integers(1, 4),
    hidden=st.lists(st.integers(1, 6), max_size=3),
    likelihood=st.sampled_from([*LIKELIHOODS]),
    lam=st.floats(0.01, 50),
    seed=st.integers(0, 10**6),
)
def test_the_gradient_is_right_at_any_size(name, images, samples, latents, hidden, likelihood, lam, seed):
    model = model_of(hidden=tuple(hidden), latents=latents, likelihood=likelihood)
    batch, now = batch_of(model, images, samples, seed), NOW._replace(lam=lam)
    check_every_parameter(name, model, theta_of(model, seed), *batch, now)


@pytest.mark.parametrize("name", METHODS)
def test_finite_differences_of_the_loss_agree(name):
    model = model_of()
    theta, (x, eps) = theta_of(model), batch_of(model)
    _, (terms, _) = objective(name, model, theta, x, eps, xp=np)
    if not is_of_the_loss(gradient_of_terms(name, np, terms)):
        pytest.skip("its gradient is another estimator of the loss's")
    direction = np.random.default_rng(5).normal(size=theta.shape)
    above, below = theta + 1e-5 * direction, theta - 1e-5 * direction
    losses = [host(objective(name, *device((model, t, x, eps)), xp=xp)[0]) for t in (above, below)]
    slope = (losses[0] - losses[1]) / 2e-5
    _, gradient = hand_loss_and_gradient(name, model, theta, x, eps)
    if gradient @ direction != approx(slope, rel=1e-7):
        fail(f"{gradient @ direction} by hand, {slope} by finite differences; {ADVICE}")


def test_the_checker_rejects_a_gradient_that_is_off_by_half_a_per_mille():
    pair = PAIRS["densities.gaussian_kl"]

    def off(xp, d, *args):
        d_mean, d_log_std = pair.backward(xp, d, *args)
        return d_mean, 1.0005 * d_log_std

    right, wrong = residuals(pair._replace(backward=off))
    assert right <= TOLERANCE < wrong == approx(5e-4, rel=1e-6)


def test_the_checker_rejects_nan_and_wrong_shapes():
    assert not relative_error(np.array([np.nan]), np.array([1.0])) <= TOLERANCE
    with pytest.raises(AssertionError, match="shape"):
        relative_error(np.zeros((2, 1)), np.zeros(2))
