"""The figures against their definitions, written out by hand."""

import math

import numpy as np
import pytest

from ref import information, metrics, vae
from ref.objectives import METHODS
from tests.small import model_of, reader, theta_of
from tests.tested import TESTED, device, host, needs_backend

pytestmark = needs_backend
MODEL = model_of()


def normal(noise, shape) -> np.ndarray:
    """Noise of the backend, on the host."""
    return host(TESTED.normal(noise, shape))


def judged(theta, x, *options, backend=TESTED, **changes) -> dict:
    read = reader(device(x))
    return metrics.evaluate(backend, *device((MODEL, theta)), read, len(x), backend.noise(4), *options, **changes)


def information_by_hand(mean, log_std, noise) -> dict:
    """Marginal KL and mutual information, density by density; the gap of the factor that is n % 2."""
    std, own = np.exp(log_std), np.repeat(range(len(mean)), information.DRAWS // len(mean))
    z = mean[own] + std[own] * normal(noise, (len(own), mean.shape[1]))
    density = np.prod(np.exp(-0.5 * ((z[:, None] - mean) / std) ** 2) / std / math.sqrt(2 * math.pi), axis=2)
    gain = np.log(density[range(len(own)), own] / density.mean(axis=1))
    z = mean + std * normal(noise, mean.shape)
    density = np.exp(-0.5 * ((z[:, None] - mean) / std) ** 2) / std  # (N, N, Z)
    alike = np.arange(len(mean)) % 2 == np.arange(len(mean))[:, None] % 2
    known = np.mean(np.log(density.mean(axis=1, where=alike[:, :, None]) / density.mean(axis=1)), axis=0)
    gap = (sorted(known)[-1] - sorted(known)[-2]) / math.log(2)
    return {
        "mutual_information": gain.mean(),
        "mutual_information_ceiling": math.log(len(mean)),
        "information_standard_error": gain.std() / math.sqrt(gain.size),
        "marginal_kl": np.mean(np.sum(0.5 * (mean**2 + std**2 - 1) - log_std, axis=1)) - gain.mean(),
        "mig": gap,
        "mig_parity": gap,
    }


def by_hand(theta, x, noise, samples, nll_samples) -> dict:
    params = vae.params_of(MODEL, theta)
    mean, log_std, _ = vae.encode(np, MODEL, params, x)

    def terms(eps):
        return vae.sample_terms(np, MODEL, params, x, mean, log_std, eps)[0]

    drawn = [terms(normal(noise, (samples, *mean.shape))) for _ in range(metrics.REPEATS)]
    n = terms(normal(noise, (nll_samples, *mean.shape)))
    err, log_px = (np.mean([getattr(t, name) for t in drawn]) for name in ("err", "log_px"))
    rate = drawn[0].kl.mean()
    nll = -np.log(np.mean(np.exp(n.log_px + n.log_pz - n.log_qz), axis=0))
    return {
        "rate": rate,
        "distortion": err,
        "distortion_at_mean": terms(np.zeros((1, *mean.shape))).err.mean(),
        "elbo": log_px - rate,
        "nll": nll.mean(),
        "nll_standard_error": nll.std() / math.sqrt(len(x)),
        "active_units": (mean.var(axis=0) > 0.01).sum(),
        "constraint": err - 1.3**2,
        **information_by_hand(mean, log_std, noise),
    }


def test_the_figures_are_their_definitions():
    x, theta = np.random.default_rng(0).uniform(size=(100, 7)), theta_of(MODEL)
    constraint = METHODS["geco"].constraint
    ours = judged(
        theta, x, 6, lambda xp, t: constraint(xp, t, kappa=1.3), samples=3, factors={"parity": np.arange(100) % 2}
    )
    theirs = by_hand(theta, x, TESTED.noise(4), 3, 6)
    assert set(ours) == set(theirs) and ours["active_units"] == 1  # the means' variances are 0.002, 0.023 and 0.008
    assert all(ours[name] == pytest.approx(theirs[name], rel=1e-9) for name in ours)


def test_a_last_batch_that_is_smaller_counts_as_much_as_its_images():
    x, theta = np.random.default_rng(0).uniform(size=(251, 7)), theta_of(MODEL)
    ours = judged(theta, x, 1)
    params = vae.params_of(MODEL, theta)
    mean, log_std, _ = vae.encode(np, MODEL, params, x)
    t, _ = vae.sample_terms(np, MODEL, params, x, mean, log_std, np.zeros((1, *mean.shape)))
    assert ours["distortion_at_mean"] == pytest.approx(t.err.mean()) and ours["rate"] == pytest.approx(t.kl.mean())


@pytest.mark.parametrize(("samples", "nll_samples"), [(1, 500), (400, 1)])
def test_no_more_images_are_decoded_at_once_whatever_k_is(samples, nll_samples, monkeypatch):
    drawn = []

    def counted(noise, shape):
        drawn.append(math.prod(shape[:2]))
        return TESTED.normal(noise, shape)

    x, backend = np.random.default_rng(0).uniform(size=(300, 7)), TESTED._replace(normal=counted)
    monkeypatch.setattr(metrics, "mutual_information", lambda *args: (0.0, 0.0))  # draws, but decodes nothing
    judged(theta_of(MODEL), x, nll_samples, samples=samples, backend=backend)
    assert max(drawn) <= metrics.DECODED and sum(drawn) == 300 * (metrics.REPEATS * samples + nll_samples)
