"""The forwards, against sources that know nothing of this code."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from ref import densities as de
from ref import mlp as nn
from tests.tested import compute, host, needs_backend, xp

pytestmark = needs_backend
rng = np.random.default_rng(0)
K, B, Z, D = 3, 2, 4, 5
weights = arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 3)), elements=st.floats(-1e3, 1e3))


def test_the_kl_of_two_known_gaussians_is_the_textbook_number():
    # KL(N(1, 2²)‖N(0, 1)) = ½(1 + 4 − 1) − log 2
    assert compute(de.gaussian_kl, np.array([[1.0]]), np.log([[2.0]]))[0] == pytest.approx(2 - math.log(2), rel=1e-15)
    assert compute(de.gaussian_kl, np.zeros((1, Z)), np.zeros((1, Z)))[0] == 0


def test_the_closed_form_kl_is_the_monte_carlo_kl():
    mean, log_std, eps = rng.normal(size=(1, Z)), 0.5 * rng.normal(size=(1, Z)), rng.normal(size=(200_000, 1, Z))
    z = mean + np.exp(log_std) * eps
    sampled = compute(de.posterior_log_density, eps, log_std) - compute(de.normal_log_density, z)
    standard_error = sampled.std() / math.sqrt(len(sampled))
    assert abs(sampled.mean() - compute(de.gaussian_kl, mean, log_std)[0]) < 4 * standard_error


def log_normal(value, mean, std):
    """log N(value; mean, std²) by Python's standard library, summed over the last axis."""
    terms = np.vectorize(lambda v, m, s: math.log(NormalDist(m, s).pdf(v)))
    return terms(value, mean, std).sum(axis=-1)


def test_log_densities_are_those_of_the_standard_library():
    mean, log_std, eps = rng.normal(size=(B, Z)), rng.normal(size=(B, Z)), rng.normal(size=(K, B, Z))
    std = np.exp(log_std)
    z = mean + std * eps
    assert_allclose(compute(de.normal_log_density, z), log_normal(z, 0, 1), rtol=1e-12)
    assert_allclose(compute(de.posterior_log_density, eps, log_std), log_normal(z, mean, std), rtol=1e-12)


def test_the_gaussian_likelihood_is_that_of_the_standard_library():
    x, x_hat, variance = rng.uniform(size=(B, D)), rng.normal(size=(K, B, D)), 0.3
    decoded = de.Decoded(x_hat, x_hat, compute(de.squared_error, x, x_hat))
    log_px = compute(de.gaussian_log_likelihood, x, decoded, variance)
    assert_allclose(log_px, log_normal(x, x_hat, math.sqrt(variance)), rtol=1e-12)


def test_the_bernoulli_likelihood_is_the_product_of_its_probabilities():
    x, logits = (rng.uniform(size=(B, D)) < 0.5).astype(float), 3 * rng.normal(size=(K, B, D))
    p = 1 / (1 + np.exp(-logits))
    expected = np.log(np.prod(np.where(x == 1, p, 1 - p), axis=-1))
    log_px = compute(de.bernoulli_log_likelihood, x, de.Decoded(logits, p, 0.0), 1.0)
    assert_allclose(log_px, expected, rtol=1e-12)


def test_the_bernoulli_likelihood_is_finite_at_extreme_logits():
    x, logits = np.array([[0.0, 1.0]], np.float32), np.array([[[1e4, -1e4]]], np.float32)
    assert compute(de.bernoulli_log_likelihood, x, de.Decoded(logits, 0.0, 0.0), 1.0)[0, 0] == -2e4


@given(weights, st.floats(-1e5, 1e5))
def test_log_mean_exp_is_a_mean_that_shifts_with_its_argument_and_softmax_sums_to_one(a, shift):
    value, shifted = compute(de.log_mean_exp, a), compute(de.log_mean_exp, a + shift)
    assert (value >= a.mean(axis=0) - 1e-9).all() and (value <= a.max(axis=0) + 1e-9).all()
    assert_allclose(shifted, value + shift, rtol=1e-9, atol=1e-7)
    assert_allclose(compute(de.softmax, a).sum(axis=0), 1, rtol=1e-12)


def test_sigmoid_is_the_logistic_function_and_never_overflows():
    a = np.array([-2.0, 0.0, 3.0])
    assert_allclose(compute(nn.sigmoid, a), 1 / (1 + np.exp(-a)), rtol=1e-14)
    with np.errstate(all="raise"):
        assert compute(nn.sigmoid, np.array([-1e4, 1e4], np.float32)).tolist() == [0, 1]


def test_silu_is_a_times_the_logistic_function_and_the_others_are_what_their_names_say():
    a = np.array([-3.0, -0.5, 0.0, 2.0])
    expected = {"silu": a / (1 + np.exp(-a)), "tanh": [math.tanh(v) for v in a], "relu": [0, 0, 0, 2]}
    assert {*expected} == {*nn.ACTIVATIONS}
    for name, values in expected.items():
        assert_allclose(compute(nn.ACTIVATIONS[name], a - 1, np.ones(4))[0], values, rtol=1e-12)


def test_the_parameters_are_views_that_cover_the_flat_vector_once():
    shapes = nn.layer_shapes((3, 4, 2))
    theta = xp.zeros(nn.size(shapes))
    for view in nn.views(theta, shapes).values():
        view += 1
    assert (host(theta) == 1).all() and nn.size(shapes) == 3 * 4 + 4 + 4 * 2 + 2


def test_an_mlp_is_its_matrix_products():
    params = {"W0": [[1.0, -2.0]], "b0": [0.5, 0.0], "W1": [[1.0], [3.0]], "b1": [0.25]}
    params = {name: np.array(values) for name, values in params.items()}
    out, _ = compute(nn.mlp, params, "relu", np.array([[2.0], [-1.0]]))
    assert out.ravel().tolist() == [1 * 2.5 + 0.25, 3 * 2.0 + 0.25]
