"""backward = d forward, for every pair and every method, through all parameters."""

import importlib
import inspect
import pkgutil

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ref
from ref import mlp as nn
from ref import vae
from ref.densities import LIKELIHOODS
from ref.objectives import METHODS
from tests.by_hand import PAIRS, file_of, table
from tests.gradients import TOLERANCE, check, check_pair, gradient_of_terms, hand_loss_and_gradient, objective
from tests.small import NETWORKS, NOW, batch_of, model_of, theta_of
from tests.tested import device, host, needs_backend, xp

pytestmark = needs_backend


@pytest.mark.parametrize("pair", PAIRS)
def test_the_backward_of_a_pair_is_the_derivative_of_its_forward(pair):
    check_pair(PAIRS[pair])


def test_every_backward_pass_of_ref_is_among_the_pairs():
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(ref.__path__, "ref.")]
    found = {
        f"{module.__name__.removeprefix('ref.')}.{name.removesuffix('_backward')}"
        for module in modules
        for name, f in inspect.getmembers(module, inspect.isfunction)
        if name.endswith("_backward") and f.__module__ == module.__name__
    }
    # The whole network's is the mirror image of `forward`.
    pairs = {name.partition(",")[0].removesuffix("forward") for name in PAIRS}
    assert "densities.gaussian_kl" in found and found - pairs == set()


def test_the_table_of_residuals_has_a_row_for_each_pair():
    rows = [line.rsplit(maxsplit=2) for line in table().splitlines()[1:]]
    assert [file for _, file, _ in rows] == [file_of(name) for name in PAIRS]
    assert all(float(residual) <= TOLERANCE for *_, residual in rows)


def oracle_gradient(name, model, theta, x, eps, now=NOW):
    """autograd's gradient of the loss or, of a method whose gradient is not the loss's own, of its surrogate."""
    _, (terms, _) = objective(name, model, theta, x, eps, np, now)
    d = gradient_of_terms(name, np, terms, now)
    if is_of_the_loss(d):
        return autograd.grad(lambda theta: objective(name, model, theta, x, eps, now=now)[0])(theta)
    encoder = nn.size(model.network.shapes(model)[0])
    weighted, plain = (
        autograd.grad(lambda t, w=w: surrogate(d, w, model, t, theta, x, eps))(theta) for w in (True, False)
    )
    return np.concatenate([weighted[:encoder], plain[encoder:]])


def is_of_the_loss(d: vae.Gradient) -> bool:
    return d.log_qz_of_z is None and d.to_encoder is None


def surrogate(d: vae.Gradient, weighted: bool, model, theta, fixed, x, eps):
    """Σ d·term with d constant, and q's mean and std those at `fixed` in log_qz_of_z: what reaches the encoder through
    z is `weighted` by d.to_encoder.
    """
    terms, _ = vae.forward(anp, model, vae.params_of(model, theta), x, eps)
    mean, log_std, _ = vae.encode(np, model, vae.params_of(model, fixed), x)
    moving_mean, moving_log_std, _ = vae.encode(anp, model, vae.params_of(model, theta), x)
    z = vae.reparameterize(anp, moving_mean, moving_log_std, eps)
    log_qz_of_z = anp.sum(-0.5 * ((z - mean) / np.exp(log_std)) ** 2 - log_std, axis=-1)
    through_z = [(d.err, terms.err), (d.log_px, terms.log_px), (d.log_pz, terms.log_pz), (d.log_qz_of_z, log_qz_of_z)]
    weight = d.to_encoder if weighted and d.to_encoder is not None else 1.0
    total = sum(anp.sum(weight * d_term * term) for d_term, term in through_z if d_term is not None)
    direct = [(d.kl, terms.kl), (d.log_qz, terms.log_qz)]
    return total + sum(anp.sum(d_term * term) for d_term, term in direct if d_term is not None)


def check_every_parameter(name, model, theta, x, eps, now=NOW):
    loss, _ = objective(name, model, theta, x, eps, np, now)
    oracle = oracle_gradient(name, model, theta, x, eps, now)
    hand, gradient = hand_loss_and_gradient(name, model, theta, x, eps, now)
    assert hand == pytest.approx(loss, rel=1e-12, abs=1e-11)
    check(gradient, oracle, "θ")
    actual, expected = (vae.params_of(model, g) for g in (gradient, oracle))
    for part in actual:
        for parameter in actual[part]:
            scale = np.linalg.norm(oracle)  # a parameter without influence has rounding errors for a gradient
            error = np.linalg.norm(actual[part][parameter] - expected[part][parameter]) / scale
            assert error <= TOLERANCE, f"{part}.{parameter}: {error:.3g}"


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_autograds_gradient_through_every_parameter(name, network):
    model = model_of(**NETWORKS[network])
    check_every_parameter(name, model, theta_of(model), *batch_of(model))


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=20, deadline=None)
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
    check_every_parameter(
        name, model, theta_of(model, seed), *batch_of(model, images, samples, seed), NOW._replace(lam=lam)
    )


@pytest.mark.parametrize("name", METHODS)
def test_finite_differences_of_the_loss_agree(name):
    model = model_of()
    theta, (x, eps) = theta_of(model), batch_of(model)
    _, (terms, _) = objective(name, model, theta, x, eps, xp=np)
    if not is_of_the_loss(gradient_of_terms(name, np, terms)):
        pytest.skip("its gradient is another estimator of the loss's")
    direction = np.random.default_rng(5).normal(size=theta.shape)
    h = 1e-5
    above, below = (
        host(objective(name, *device((model, theta + step * direction, x, eps)), xp=xp)[0]) for step in (h, -h)
    )
    slope = (above - below) / (2 * h)
    _, gradient = hand_loss_and_gradient(name, model, theta, x, eps)
    assert gradient @ direction == pytest.approx(slope, rel=1e-7)


def test_the_checker_rejects_a_gradient_that_is_off_by_half_a_per_mille():
    pair = PAIRS["densities.gaussian_kl"]

    def off(xp, d, *args):
        d_mean, d_log_std = pair.backward(xp, d, *args)
        return d_mean, 1.0005 * d_log_std

    with pytest.raises(AssertionError, match="gradient 1"):
        check_pair(pair._replace(backward=off))


def test_the_checker_rejects_nan_and_wrong_shapes():
    with pytest.raises(AssertionError):
        check(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(AssertionError):
        check(np.zeros((2, 1)), np.zeros(2))
