"""What the latents know, where it is known: equal posteriors, and separate ones."""

import math

import numpy as np
from pytest import approx

from ref.more.information import log_aggregate_posterior, mutual_information
from tests.tested import TESTED, compute, device, host, needs_backend, open_tested

pytestmark = needs_backend

RNG = np.random.default_rng(0)


def known(mean, log_std, backend=TESTED):
    """The mutual information of host arrays, and its standard error."""
    return host(mutual_information(backend, *device((mean, log_std)), backend.noise(0)))


def test_the_aggregate_posterior_is_the_mean_of_the_densities_however_small_they_are():
    mean, log_std, z = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 3)) - 1, RNG.normal(size=(700, 3))
    std = np.exp(log_std)
    densities = np.exp(-0.5 * ((z[:, None] - mean) / std) ** 2) / std / math.sqrt(2 * math.pi)
    expected = np.log(densities.prod(axis=2).mean(axis=1))
    np.testing.assert_allclose(compute(log_aggregate_posterior, z, mean, log_std), expected, rtol=1e-10)
    assert compute(log_aggregate_posterior, z + 1e4, mean, log_std).max() < -1e6  # where every density underflows


def test_posteriors_that_are_all_equal_know_nothing_so_the_marginal_kl_is_the_rate():
    mean, log_std = np.tile(RNG.normal(size=(1, 4)), (50, 1)), np.tile(RNG.normal(size=(1, 4)), (50, 1))
    assert known(mean, log_std) == approx((0, 0), abs=1e-10)


def test_posteriors_that_are_far_apart_know_log_n():
    mean, log_std = 1e3 * np.arange(60.0)[:, None] * [1, -1], np.full((60, 2), -1.0)
    assert known(mean, log_std) == approx((math.log(60), 0), abs=1e-6)


def binary_channel(m: float) -> float:
    """What ±m in noise of std 1 tells: log 2 − E[log(1 + e^(−2my))], y ~ N(m, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return math.log(2) - np.sum(weights * np.logaddexp(0, -2 * m * (m + nodes))) / math.sqrt(2 * math.pi)


def test_the_information_of_two_posteriors_is_that_of_a_binary_gaussian_channel():
    mean, log_std = np.repeat([[1.0], [-1.0]], 500, axis=0), np.zeros((1000, 1))
    ours, error = known(mean, log_std)
    assert abs(ours - binary_channel(1)) < 4 * error < 0.03


def test_no_estimate_exceeds_its_ceiling_in_float32():
    mean = (30 * RNG.normal(size=(200, 5))).astype("float32")
    found, _ = known(mean, np.full_like(mean, -3), backend=open_tested("float32"))
    assert math.log(200) - 1e-6 < found <= math.log(200) + 1e-9
