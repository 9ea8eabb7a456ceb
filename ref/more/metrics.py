"""What a trained model is worth on images it has not seen, in nats or squared error per image."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ref import densities as de
from ref import vae
from ref.more.information import mutual_information
from ref.objectives import log_weight

IMAGES = 250  # per batch
DECODED, PIXELS = 2_500, 1 << 23  # images decoded at once at most, whatever K is, and their pixels
REPEATS = 10  # independent draws of the K samples, so that few images leave less to chance
ACTIVE = 0.01  # variance of the posterior mean; Burda et al. 2015, section 5


class Images(NamedTuple):
    """Images that a model is judged on."""

    read: Callable  # (rows, noise) -> these images as floats (B, D)
    count: int

    def batches(self, xp, at_once: int) -> Iterator:
        """The rows of all images, so many at once."""
        for start in range(0, self.count, at_once):
            yield xp.arange(start, min(start + at_once, self.count))


def at_once(pixels: int, samples: int = 1) -> int:
    """How many images of so many pixels are decoded at once, with so many samples each."""
    return max(1, min(DECODED, PIXELS // pixels) // samples)


class Draws(NamedTuple):
    """How many samples of q(z|x) an image is judged by, and what for."""

    nll: int  # samples of the log-likelihood
    samples: int = 1  # K of the training objective
    bounded: Callable | None = None  # what the method's constraint bounds: (xp, terms) -> (B,)
    variance: float | None = None  # a second σ² to find the Gaussian log-likelihood at
    progress: Callable = iter  # wraps the iteration over batches
    normal: Callable | None = None  # (start, count, k) -> noise (k, count, Z); None: one stream for all images


def encodings(backend, model: vae.Model, theta, images: Images, noise):
    """mean and log std of q(z|x) for all images.   -> (N, Z), (N, Z)"""
    xp, params = backend.xp, vae.params_of(model, theta)
    batches = (images.read(rows, noise) for rows in images.batches(xp, at_once(model.center.shape[0])))
    found = [model.network.encode(xp, model, params["encoder"], x)[:2] for x in batches]
    return tuple(xp.concatenate(a, axis=0) for a in zip(*found, strict=True))


def drawn_terms(backend, model: vae.Model, params, encoded, draw: Callable, samples: int) -> vae.Terms:
    """The terms of `samples` draws in float64, a few at a time; `encoded` is x, mean, log std; draw(k) -> (k, B, Z)."""
    xp, (images, pixels) = backend.xp, encoded[0].shape
    most = at_once(pixels, images)
    draws = (draw(min(most, samples - begin)) for begin in range(0, samples, most))
    chunks = [vae.sample_terms(xp, model, params, *encoded, eps)[0] for eps in draws]
    kl, *sampled = ([term.astype(xp.float64) for term in terms] for terms in zip(*chunks, strict=True))
    return vae.Terms(kl[0], *(xp.concatenate(terms, axis=0) for terms in sampled))


def image_scores(backend, model: vae.Model, params, encoded, draw: Callable, draws: Draws) -> dict:
    """The scores of a batch, by name."""
    xp, (_, mean, log_std) = backend.xp, encoded
    repeats = [drawn_terms(backend, model, params, encoded, draw, draws.samples) for _ in range(REPEATS)]
    found = {"mean": mean, "log_std": log_std, "rate": repeats[0].kl}
    found["error"] = sum(xp.mean(terms.err, axis=0) for terms in repeats) / REPEATS
    found["log_px"] = sum(xp.mean(terms.log_px, axis=0) for terms in repeats) / REPEATS
    if draws.bounded:
        found["bounded"] = sum(draws.bounded(xp, terms) for terms in repeats) / REPEATS
    found["error_at_mean"] = vae.sample_terms(xp, model, params, *encoded, xp.zeros_like(mean)[None])[0].err[0]
    terms = drawn_terms(backend, model, params, encoded, draw, draws.nll)
    found["log_likelihood"] = de.log_mean_exp(xp, log_weight(terms.log_px, terms))
    if draws.variance:
        log_px = de.gaussian_log_likelihood(xp, encoded[0], de.Decoded(None, None, terms.err), draws.variance)
        found["calibrated_log_likelihood"] = de.log_mean_exp(xp, log_weight(log_px, terms))
    return found


def calibrated_elbo(rate: float, error: float, variance: float, pixels: int) -> float:
    """−rate − D/2·log(2πσ²) − error/(2σ²): the ELBO at another σ², in nats. Rybkin, Daniilidis & Levine 2021."""
    return -rate - 0.5 * pixels * math.log(2 * math.pi * variance) - error / (2 * variance)


def scores(backend, model: vae.Model, theta, images: Images, noise, draws: Draws) -> dict:
    """One number for each of the images, by name; changes nothing but `noise`, its own.

    Each rank goes through its part of every batch, with the noise that is drawn for the whole of it.

    rate            KL(q(z|x)‖p(z)), nats
    error           ‖x − x̂(z)‖², averaged over z from q(z|x)
    error_at_mean   the same at z = the posterior mean (the slides' "Reconstruction")
    log_px          log p(x|z), averaged over z from q(z|x), nats: with −rate the ELBO
    log_likelihood  log (1/K) Σ_k w_k, K = draws.nll: in expectation at most log p(x), the closer the larger K
    calibrated_log_likelihood  the same under a Gaussian likelihood with draws.variance, if given
    bounded         what the constraint bounds, by draws.samples samples, if given
    mean, log_std   of q(z|x): (N, Z)
    """
    xp, params, found = backend.xp, vae.params_of(model, theta), {}
    most, start = min(IMAGES, at_once(model.center.shape[0], draws.samples)), 0
    own = draws.normal or (lambda start, count, k: backend.normal(noise, (k, count, model.latents)))

    def draw(k: int):  # for the batch at hand
        return own(start, len(rows), k)[:, part]

    for rows in draws.progress([*images.batches(xp, most)]):
        part, weight = backend.ranks.share(len(rows))
        x = images.read(rows, noise)[part]
        mean, log_std, _ = model.network.encode(xp, model, params["encoder"], x)
        for name, values in image_scores(backend, model, params, (x, mean, log_std), draw, draws).items():
            if name not in found:
                found[name] = xp.zeros((images.count, *values.shape[1:]), xp.float64)
            if weight:
                found[name][start + part.start : start + part.stop] = values
        start += len(rows)
    for values in found.values():
        backend.ranks.all_reduce(values, 1.0)
    return found


def batch_means(backend, model: vae.Model, theta, images: Images, noise, samples: int, bounded=None) -> dict:
    """rate, error, elbo and what is `bounded`, averaged over all images by one draw of `samples` each: a quick look.

    An image whose figures are not finite is left out.
    """
    xp, params, sums = backend.xp, vae.params_of(model, theta), 0.0
    for rows in images.batches(xp, at_once(model.center.shape[0], samples)):
        x = images.read(rows, noise)
        eps = backend.normal(noise, (samples, len(x), model.latents))
        terms, _ = vae.forward(xp, model, params, x, eps)
        error, elbo = xp.mean(terms.err, axis=0), xp.mean(terms.log_px, axis=0) - terms.kl
        found = xp.stack([terms.kl, error, elbo, bounded(xp, terms) if bounded else error, xp.ones_like(error)])
        found = xp.where(xp.isfinite(xp.sum(found, axis=0)), found, 0)
        sums += backend.to_host(xp.sum(found.astype(xp.float64), axis=1))
    *sums, count = sums.tolist()
    means = [total / count if count else math.nan for total in sums]
    return dict(zip(("rate", "error", "elbo", "bounded"), means, strict=True))


def evaluate(backend, model: vae.Model, theta, images: Images, noise, draws: Draws) -> dict:
    """The figures of a model: means of its `scores`, and what the latents know of the images.

    rate, error, error_at_mean, bounded   the means of these scores
    elbo                 E[log p(x|z)] − rate, nats: β = 1 whatever the objective was
    nll                  −E[log_likelihood]: an upper bound on E[−log p(x)]
    nll_standard_error   of that mean, over images
    calibrated_nll       −E[calibrated_log_likelihood], if there is one
    active_units         latents whose posterior mean varies by more than 0.01 over the images
    marginal_kl          KL(q(z)‖p(z)), q(z) the average of q(z|x) over these images: an upper bound on that over all
                         images, and near the rate minus log N where the rate is well above log N
    mutual_information   I(x;z) = rate − marginal KL, never above mutual_information_ceiling = log N
    information_standard_error  of marginal_kl and of mutual_information
    not_finite           images with a score that is not finite: they are left out of all means
    """
    xp = backend.xp
    found = scores(backend, model, theta, images, noise, draws)
    finite = xp.isfinite(found["log_px"] + found["log_likelihood"] + found["rate"] + found["error"])
    count = int(xp.sum(finite)) or images.count
    found = {name: values[finite] for name, values in found.items()} if count < images.count else found
    mean, log_std = found.pop("mean"), found.pop("log_std")
    means = {name: float(xp.mean(values)) for name, values in found.items()}
    information, error = mutual_information(backend, mean, log_std, noise)
    calibrated = means.get("calibrated_log_likelihood")
    return {
        **{name: means.get(name) for name in ("rate", "error", "error_at_mean", "bounded")},
        "elbo": means["log_px"] - means["rate"],
        "nll": -means["log_likelihood"],
        "nll_standard_error": float(xp.std(found["log_likelihood"])) / math.sqrt(count),
        "calibrated_nll": None if calibrated is None else -calibrated,
        "active_units": int(xp.sum(xp.var(mean, axis=0) > ACTIVE)),
        "marginal_kl": means["rate"] - information,
        "mutual_information": information,
        "mutual_information_ceiling": math.log(count),
        "information_standard_error": error,
        "not_finite": images.count - int(xp.sum(finite)),
    }
