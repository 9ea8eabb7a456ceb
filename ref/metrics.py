"""What a trained model is worth on images it has not seen: nats or squared error per image, averaged over images."""

import math
from collections.abc import Callable, Iterable, Iterator

from ref import densities as de
from ref import vae
from ref.information import mutual_information, mutual_information_gap
from ref.objectives import log_weight

IMAGES = 250  # per batch
DECODED = 2_500  # images decoded at once at most, whatever K is
REPEATS = 10  # independent draws of the K samples, so that a small test set does not leave the figures to chance
ACTIVE = 0.01  # variance of the posterior mean; Burda et al. 2015, section 5


def streamed_log_mean_exp(xp, chunks: Iterable):
    """log (1/K) Σ_k exp a_k, the K rows arriving in chunks (k, B): a running maximum and a running sum.   -> (B,)"""
    top, total, count = None, 0.0, 0
    for a in chunks:
        chunk_top = xp.max(a, axis=0)
        new_top = chunk_top if top is None else xp.maximum(top, chunk_top)
        if top is not None:
            total = total * xp.exp(top - new_top)
        top, total, count = new_top, total + xp.sum(xp.exp(a - new_top), axis=0), count + a.shape[0]
    return top + xp.log(total) - math.log(count)


def log_weights(backend, model: vae.Model, params, x, mean, log_std, draw, samples: int, at_once: int) -> Iterator:
    """log w of `samples` draws from q(z|x), a few at a time.   -> arrays (k, B) in float64, k summing to `samples`"""
    for begin in range(0, samples, at_once):
        eps = draw(min(at_once, samples - begin))
        terms, _ = vae.sample_terms(backend.xp, model, params, x, mean, log_std, eps)
        yield log_weight(terms.log_px, terms).astype(backend.xp.float64)


def evaluate(
    backend,
    model: vae.Model,
    theta,
    read: Callable,
    images: int,
    noise,
    nll_samples: int,
    constraint: Callable | None = None,
    samples: int = 1,
    factors: dict | None = None,
    progress: Callable = iter,
) -> dict:
    """The figures of a model over all `images` that `read(rows, noise)` knows; changes nothing but `noise`, its own.

    Each rank goes through its share of every batch, with the noise that is drawn for the whole of it.

    rate                 E[KL(q(z|x)‖p(z))], nats
    distortion           E[‖x − x̂(z)‖²], z sampled from q(z|x)
    distortion_at_mean   the same at z = the posterior mean (the slides' "Reconstruction")
    elbo                 E[log p(x|z)] − rate, nats: β = 1 whatever the objective was
    nll                  −E[L_K], K = nll_samples: an upper bound on −log p(x), the tighter the larger K
    nll_standard_error   of that mean, over images
    active_units         latents whose posterior mean varies by more than 0.01 over the images
    marginal_kl          KL(q(z)‖p(z)), q(z) the average of q(z|x) over these images: an upper bound on that over all
                         images, and near the rate minus log N where the rate is well above log N
    mutual_information   I(x;z) = rate − marginal KL, never above mutual_information_ceiling = log N
    information_standard_error  of both
    mig                  mutual-information gap, averaged over the `factors` (integers by name), or None without them;
                         mig_x for the factor x alone
    constraint           the method's constraint Ĉ with `samples` samples an image, or None
    """
    xp, params = backend.xp, vae.params_of(model, theta)
    sums, means, log_stds = {}, xp.zeros((images, model.latents)), xp.zeros((images, model.latents))
    at_once = max(1, min(IMAGES, DECODED // samples))
    for start in progress(range(0, images, at_once)):
        rows = xp.arange(start, min(start + at_once, images))
        batch, (mine, weight) = rows.shape[0], backend.ranks.share(rows.shape[0])
        x = read(rows, noise)[mine]
        mean, log_std, _ = vae.encode(xp, model, params, x)

        def draw(k: int, batch=batch, mine=mine):
            return backend.normal(noise, (k, batch, model.latents))[:, mine]

        for name, value in batch_figures(
            backend, model, params, x, mean, log_std, draw, nll_samples, max(1, DECODED // batch), constraint, samples
        ).items():
            sums[name] = sums.get(name, 0.0) + float(value) * weight * batch / images
        if weight:
            own = slice(start + mine.start, start + mine.stop)
            means[own], log_stds[own] = mean, log_std
    total = xp.asarray([*sums.values()], xp.float64)
    for array in (total, means, log_stds):
        backend.ranks.sum(array, 1.0)
    sums = dict(zip(sums, map(float, total), strict=True))
    information, error = mutual_information(backend, means, log_stds, noise)
    gaps = {
        f"mig_{name}": mutual_information_gap(backend, means, log_stds, xp.asarray(factor), noise)
        for name, factor in (factors or {}).items()
    }
    return {
        **{name: sums[name] for name in ("rate", "distortion", "distortion_at_mean")},
        "elbo": sums["log_px"] - sums["rate"],
        "nll": sums["nll"],
        "nll_standard_error": math.sqrt(max(0.0, sums["nll²"] - sums["nll"] ** 2) / images),
        "active_units": int(xp.sum(xp.var(means, axis=0) > ACTIVE)),
        "marginal_kl": sums["rate"] - information,
        "mutual_information": information,
        "mutual_information_ceiling": math.log(images),
        "information_standard_error": error,
        "mig": math.fsum(gaps.values()) / len(gaps) if gaps else None,
        **gaps,
        "constraint": sums.get("constraint"),
    }


def batch_figures(backend, model, params, x, mean, log_std, draw, nll_samples, at_once, constraint, samples) -> dict:
    """The means over a batch that `evaluate` averages; draw(k) gives noise (k, B, Z)."""
    xp = backend.xp
    figures = {"rate": xp.mean(de.gaussian_kl(xp, mean, log_std))}
    for _ in range(REPEATS):
        terms, _ = vae.sample_terms(xp, model, params, x, mean, log_std, draw(samples))
        drawn = {"distortion": xp.mean(terms.err), "log_px": xp.mean(terms.log_px)}
        drawn |= {"constraint": constraint(xp, terms)} if constraint else {}
        figures |= {name: figures.get(name, 0) + value / REPEATS for name, value in drawn.items()}
    at_mean, _ = vae.sample_terms(xp, model, params, x, mean, log_std, xp.zeros_like(mean)[None])
    nll = -streamed_log_mean_exp(xp, log_weights(backend, model, params, x, mean, log_std, draw, nll_samples, at_once))
    return figures | {"distortion_at_mean": xp.mean(at_mean.err), "nll": xp.mean(nll), "nll²": xp.mean(nll * nll)}
