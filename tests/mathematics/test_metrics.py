"""The figures against their definitions, written out by hand."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pytest import approx

from ref import vae
from ref.more import information, metrics
from ref.objectives import METHODS
from tests.small import model_of, reader, theta_of
from tests.tested import TESTED, device, host, needs_backend, open_tested, xp

pytestmark = needs_backend
MODEL = model_of()
THETA = theta_of(MODEL)
PARAMS = vae.params_of(MODEL, THETA)


def pictures(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, and mean and log std of their posteriors."""
    x = np.random.default_rng(0).uniform(size=(count, 7))
    return x, *MODEL.network.encode(np, MODEL, PARAMS["encoder"], x)[:2]


def terms_of(x, mean, log_std, eps) -> vae.Terms:
    return vae.sample_terms(np, MODEL, PARAMS, x, mean, log_std, eps)[0]


def normal(noise, shape) -> np.ndarray:
    """Noise of the backend, on the host."""
    return host(TESTED.normal(noise, shape))


def images_of(x) -> metrics.Images:
    return metrics.Images(reader(device(x)), len(x))


def judged(x, nll_samples, backend=TESTED, **draws) -> dict:
    drawn = metrics.Draws(nll_samples, **draws)
    return metrics.evaluate(backend, *device((MODEL, THETA)), images_of(x), backend.noise(4), drawn)


def information_by_hand(mean, log_std, noise) -> dict:
    """Marginal KL and mutual information, density by density."""
    std, own = np.exp(log_std), np.repeat(range(len(mean)), information.DRAWS // len(mean))
    z = mean[own] + std[own] * normal(noise, (len(own), mean.shape[1]))
    density = np.prod(np.exp(-0.5 * ((z[:, None] - mean) / std) ** 2) / std / math.sqrt(2 * math.pi), axis=2)
    gain = np.log(density[range(len(own)), own] / density.mean(axis=1))
    return {
        "mutual_information": gain.mean(),
        "mutual_information_ceiling": math.log(len(mean)),
        "information_standard_error": gain.std() / math.sqrt(gain.size),
        "marginal_kl": np.mean(np.sum(0.5 * (mean**2 + std**2 - 1) - log_std, axis=1)) - gain.mean(),
    }


def weights(log_px, t) -> np.ndarray:
    """w_k = p(x|z_k)·p(z_k)/q(z_k|x)"""
    return np.exp(log_px + t.log_pz - t.log_qz)


BOUNDED = {
    "geco": lambda t: t.err.mean(axis=0),
    "geco-iwae": lambda t: np.average(t.err, axis=0, weights=weights(-t.err, t)),
}


@pytest.mark.parametrize("method", BOUNDED)
def test_the_figures_are_their_definitions(method):
    (x, mean, log_std), noise = pictures(100), TESTED.noise(4)
    drawn = [terms_of(x, mean, log_std, normal(noise, (3, 100, 3))) for _ in range(metrics.REPEATS)]
    n = terms_of(x, mean, log_std, normal(noise, (6, 100, 3)))
    rate, nll = n.kl.mean(), -np.log(weights(n.log_px, n).mean(axis=0))
    log_gaussian = -n.err / 0.14 - 3.5 * math.log(2 * math.pi * 0.07)  # σ² = 0.07, seven pixels
    theirs = {
        "rate": rate,
        "error": np.mean([t.err for t in drawn]),
        "error_at_mean": terms_of(x, mean, log_std, np.zeros((1, 100, 3))).err.mean(),
        "elbo": np.mean([t.log_px for t in drawn]) - rate,
        "nll": nll.mean(),
        "nll_standard_error": nll.std() / 10,
        "calibrated_nll": -np.log(weights(log_gaussian, n).mean(axis=0)).mean(),
        "active_units": 1,  # the means' variances are 0.002, 0.023 and 0.008
        "bounded": np.mean([BOUNDED[method](t) for t in drawn]),
        **information_by_hand(mean, log_std, noise),
        "not_finite": 0,
    }
    ours = judged(x, 6, samples=3, bounded=METHODS[method].constraint.bounded, variance=0.07)
    assert ours == {name: approx(value, rel=1e-9) for name, value in theirs.items()}


def test_the_calibrated_elbo_is_that_of_its_variance_and_greatest_at_the_error_a_pixel():
    x, mean, log_std = pictures(60)
    model = MODEL._replace(variance=0.07)
    eps = np.random.default_rng(0).normal(size=(9, *mean.shape))
    t, _ = vae.sample_terms(np, model, PARAMS, x, mean, log_std, eps)
    rate, error = t.kl.mean(), t.err.mean()
    found = metrics.calibrated_elbo(rate, error, 0.07, 7)
    assert found == approx(t.log_px.mean() - rate, rel=1e-12)
    best = metrics.calibrated_elbo(rate, error, error / 7, 7)
    assert best == approx(-rate - 3.5 * (1 + math.log(2 * math.pi * error / 7)), rel=1e-12)
    assert best > max(metrics.calibrated_elbo(rate, error, share * error / 7, 7) for share in (0.98, 1.02))


@pytest.mark.parametrize("nll_samples", [24, 25, 26, 61])  # a hundred images are decoded 25 times at once
def test_every_sample_of_the_nll_counts_once_whatever_the_chunks(nll_samples):
    noise, (x, mean, log_std) = TESTED.noise(4), pictures(100)
    for _ in range(metrics.REPEATS):
        normal(noise, (1, *mean.shape))
    chunks = [min(25, nll_samples - begin) for begin in range(0, nll_samples, 25)]
    terms = terms_of(x, mean, log_std, np.concatenate([normal(noise, (k, *mean.shape)) for k in chunks]))
    w = weights(terms.log_px, terms)
    assert judged(x, nll_samples)["nll"] == approx(-np.log(w.mean(axis=0)).mean(), rel=1e-12)


def test_log_weights_are_averaged_in_float64():
    backend = open_tested("float32")
    model = MODEL._replace(center=backend.asarray(MODEL.center))
    theta, x = map(backend.asarray, (THETA, pictures(4)[0]))
    params = vae.params_of(model, theta)
    mean, log_std, _ = model.network.encode(xp, model, params["encoder"], x)
    assert mean.dtype == "float32"
    eps = backend.asarray(np.random.default_rng(1).normal(size=(3, *mean.shape)))
    terms = metrics.drawn_terms(backend, model, params, (x, mean, log_std), lambda k: eps, 3)
    assert {str(host(term).dtype) for term in terms} == {"float64"}


def test_scores_are_one_number_an_image_and_their_means_are_the_figures():
    x, mean, log_std = pictures(60)
    found = host(metrics.scores(TESTED, *device((MODEL, THETA)), images_of(x), TESTED.noise(4), metrics.Draws(6)))
    figures = judged(x, 6)
    assert {array.shape for name, array in found.items() if name not in ("mean", "log_std")} == {(60,)}
    assert figures["nll"] == approx(-found["log_likelihood"].mean(), rel=1e-12)
    assert figures["rate"] == approx(found["rate"].mean(), rel=1e-12)
    rate = (0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std).sum(axis=1)
    for name, expected in {"mean": mean, "log_std": log_std, "rate": rate}.items():
        assert_allclose(found[name], expected, rtol=1e-9)


def test_the_encodings_of_many_images_are_those_of_each(monkeypatch):
    monkeypatch.setattr(metrics, "DECODED", 10)
    x, *expected = pictures(23)
    ours = host(metrics.encodings(TESTED, *device((MODEL, THETA)), images_of(x), TESTED.noise(4)))
    assert_allclose(ours, expected, rtol=1e-9)


def test_a_last_batch_that_is_smaller_counts_as_much_as_its_images():
    x, mean, log_std = pictures(251)
    ours, t = judged(x, 1), terms_of(x, mean, log_std, np.zeros((1, *mean.shape)))
    assert ours["error_at_mean"] == approx(t.err.mean()) and ours["rate"] == approx(t.kl.mean())


@pytest.mark.parametrize(("samples", "nll_samples"), [(1, 20), (16, 1), (1, 104), (104, 1)])
def test_no_more_images_are_decoded_at_once_whatever_k_is(samples, nll_samples, monkeypatch):
    drawn = []

    def counted(noise, shape):
        drawn.append(math.prod(shape[:2]))
        return TESTED.normal(noise, shape)

    monkeypatch.setattr(metrics, "DECODED", 100)
    monkeypatch.setattr(metrics, "mutual_information", lambda *args: (0.0, 0.0))  # it decodes nothing
    judged(pictures(30)[0], nll_samples, samples=samples, backend=TESTED._replace(normal=counted))
    assert max(drawn) <= 100 and sum(drawn) == 30 * (metrics.REPEATS * samples + nll_samples)
