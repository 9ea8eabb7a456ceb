"""backward = d forward, for every pair and every method, through all parameters."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ref import densities as de
from ref import mlp as nn
from ref import vae
from ref.networks import principal
from ref.objectives import METHODS
from tests.gradients import TOLERANCE, check, check_pair
from tests.small import NETWORKS, batch_of, model_of, options_of, theta_of
from tests.tested import device, host, needs_backend, xp

pytestmark = needs_backend

rng = np.random.default_rng(0)
K, B, Z, D = 3, 4, 5, 6
mean, log_std, eps, z = (
    rng.normal(size=(B, Z)),
    rng.normal(size=(B, Z)),
    rng.normal(size=(K, B, Z)),
    rng.normal(size=(K, B, Z)),
)
x, logits, a = rng.uniform(size=(B, D)), rng.normal(size=(K, B, D)), rng.normal(size=(K, B))


def decoded(xp, x, logits, x_hat):
    return de.Decoded(logits, x_hat, de.squared_error(xp, x, x_hat))


def bernoulli(xp, x, logits):
    return decoded(xp, x, logits, nn.sigmoid(xp, logits))


PAIRS = {
    "gaussian_kl": (de.gaussian_kl, de.gaussian_kl_backward, [mean, log_std]),
    "normal_log_density": (de.normal_log_density, lambda xp, d, z: de.normal_log_density_backward(d, z), [z]),
    "posterior_log_density": (
        lambda xp, log_std, eps: de.posterior_log_density(xp, eps, log_std),
        lambda xp, d, log_std, eps: de.posterior_log_density_backward(xp, d, log_std),
        [log_std],
        [eps],
    ),
    "squared_error": (
        lambda xp, x_hat, x: de.squared_error(xp, x, x_hat),
        lambda xp, d, x_hat, x: de.squared_error_backward(xp, d, x, x_hat),
        [logits],
        [x],
    ),
    "gaussian_log_likelihood": (
        lambda xp, x_hat, x: de.gaussian_log_likelihood(xp, x, decoded(xp, x, x_hat, x_hat), 0.3),
        lambda xp, d, x_hat, x: de.gaussian_log_likelihood_backward(xp, d, x, decoded(xp, x, x_hat, x_hat), 0.3),
        [logits],
        [x],
    ),
    "bernoulli_log_likelihood": (
        lambda xp, out, x: de.bernoulli_log_likelihood(xp, x, bernoulli(xp, x, out), 0.3),
        lambda xp, d, out, x: de.bernoulli_log_likelihood_backward(xp, d, x, bernoulli(xp, x, out), 0.3),
        [logits],
        [x],
    ),
    "log_mean_exp": (de.log_mean_exp, de.log_mean_exp_backward, [a]),
    "log_density_of_sample": (
        lambda xp, z, mean, log_std: de.posterior_log_density(xp, (z - mean) / xp.exp(log_std), log_std),
        lambda xp, d, z, mean, log_std: de.log_density_of_sample_backward(xp, d, (z - mean) / xp.exp(log_std), log_std),
        [z],
        [mean, log_std],
    ),
    "reparameterize": (
        vae.reparameterize,
        lambda xp, d, mean, log_std, eps: vae.reparameterize_backward(xp, d, log_std, eps),
        [mean, log_std],
        [eps],
    ),
    "gated_linear": (
        lambda xp, *args: principal.gated_linear(xp, *args)[0],
        lambda xp, d, *args: gated_linear_gradients(xp, d, *args),
        [x, rng.normal(size=(D, Z)), mean, log_std],
    ),
    **{
        name: (lambda xp, a, f=f: f(xp, a)[0], lambda xp, d, a, f=f: d * f(xp, a)[1], [a])
        for name, f in nn.ACTIVATIONS.items()
    },
}


def gated_linear_gradients(xp, d, x, weights, shift, gate_logit):
    d_weights = xp.full_like(weights, np.nan)
    _, cache = principal.gated_linear(xp, x, weights, shift, gate_logit)
    d_x, d_shift, d_gate = principal.gated_linear_backward(xp, d, x, weights, cache, d_weights)
    return d_x, d_weights, d_shift, d_gate


@pytest.mark.parametrize("pair", PAIRS)
def test_the_backward_of_a_pair_is_the_derivative_of_its_forward(pair):
    check_pair(*PAIRS[pair])


def told(method, lam=0.8) -> dict:
    """What training tells a method."""
    return {name: {"lam": lam, "progress": 0.3}[name] for name in method.takes}


def objective(name, model, theta, x, eps, lam=0.8, xp=anp):
    method = METHODS[name]
    options = options_of(name) | told(method, lam)
    terms, cache = vae.forward(xp, model, vae.params_of(model, theta), x, eps)
    return method.loss(xp, terms, **options), (method.backward, terms, cache, options)


def hand_loss_and_gradient(name, model, theta, x, eps, **changes):
    model, theta, x, eps = device((model, theta, x, eps))
    loss, (backward, terms, cache, options) = objective(name, model, theta, x, eps, xp=xp, **changes)
    gradient = xp.full_like(theta, np.nan)
    vae.backward(
        xp, model, vae.params_of(model, theta), cache, backward(xp, terms, **options), vae.params_of(model, gradient)
    )
    return host((loss, gradient))


def is_of_the_loss(d: vae.Gradient) -> bool:
    return d.log_qz_of_z is None and d.to_encoder is None


def oracle_gradient(name, model, theta, x, eps, **changes):
    """autograd's gradient of the loss or, of a method whose gradient is not the loss's own, of its surrogate."""
    _, (backward, terms, _, options) = objective(name, model, theta, x, eps, xp=np, **changes)
    d = backward(np, terms, **options)
    if is_of_the_loss(d):
        return autograd.grad(lambda theta: objective(name, model, theta, x, eps, **changes)[0])(theta)
    encoder = nn.size(model.network.shapes(model)[0])
    weighted, plain = (
        autograd.grad(lambda t, w=w: surrogate(d, w, model, t, theta, x, eps))(theta) for w in (True, False)
    )
    return np.concatenate([weighted[:encoder], plain[encoder:]])


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


def check_every_parameter(name, model, theta, x, eps, **changes):
    loss, _ = objective(name, model, theta, x, eps, xp=np, **changes)
    oracle = oracle_gradient(name, model, theta, x, eps, **changes)
    hand, gradient = hand_loss_and_gradient(name, model, theta, x, eps, **changes)
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
    likelihood=st.sampled_from(["gaussian", "bernoulli"]),
    lam=st.floats(0.01, 50),
    seed=st.integers(0, 10**6),
)
def test_the_gradient_is_right_at_any_size(name, images, samples, latents, hidden, likelihood, lam, seed):
    model = model_of(hidden=tuple(hidden), latents=latents, likelihood=likelihood)
    check_every_parameter(name, model, theta_of(model, seed), *batch_of(model, images, samples, seed), lam=lam)


@pytest.mark.parametrize("name", METHODS)
def test_finite_differences_of_the_loss_agree(name):
    model = model_of()
    theta, (x, eps) = theta_of(model), batch_of(model)
    _, (backward, terms, _, options) = objective(name, model, theta, x, eps, xp=np)
    if not is_of_the_loss(backward(np, terms, **options)):
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
    forward, backward, inputs = PAIRS["gaussian_kl"]

    def off(xp, d, *args):
        d_mean, d_log_std = backward(xp, d, *args)
        return d_mean, 1.0005 * d_log_std

    with pytest.raises(AssertionError, match="gradient 1"):
        check_pair(forward, off, inputs)


def test_the_checker_rejects_nan_and_wrong_shapes():
    with pytest.raises(AssertionError):
        check(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(AssertionError):
        check(np.zeros((2, 1)), np.zeros(2))
