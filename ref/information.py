"""What the latents know: about the images, and about the factors that the images were drawn from; all in float64.

N encodings q(z|x_n) make the aggregate posterior q(z) = (1/N) Σ_n q(z|x_n), and the rate is the sum of two parts,
E[KL(q(z|x)‖p(z))] = I(x;z) + KL(q(z)‖p(z)): Hoffman & Johnson 2016.
"""

import math
from collections.abc import Callable

from ref.densities import LOG_2PI, log_mean_exp, posterior_log_density
from ref.vae import reparameterize

BLOCK = 500  # draws of z at once, each against all N encodings
DRAWS = 10_000  # of z for the mutual information, spread evenly over the encodings, however many there are
FACTOR_DRAWS = 4_000  # of each z_j for its information about the factors: each is compared with all N encodings


def log_aggregate_posterior(xp, z, mean, log_std):
    """log q(z) = log (1/N) Σ_n N(z; mean_n, diag std_n²).   (S, Z), (N, Z), (N, Z) -> (S,), nats

    With the square written out, log q(z|x_n) = −½·z²·std⁻² + z·(mean·std⁻²) + c_n: one matrix product a block.
    """
    precision = xp.exp(-2 * log_std)
    weights = xp.concatenate([-0.5 * precision, mean * precision], axis=1)  # (N, 2Z)
    offset = -xp.sum(0.5 * mean * mean * precision + log_std, axis=1) - 0.5 * mean.shape[1] * LOG_2PI
    blocks = []
    for start in range(0, z.shape[0], BLOCK):
        part = z[start : start + BLOCK]
        log_q = xp.matmul(weights, xp.concatenate([part * part, part], axis=1).T) + offset[:, None]  # (N, S)
        blocks.append(log_mean_exp(xp, log_q))
    return xp.concatenate(blocks)


def mutual_information(backend, mean, log_std, noise) -> tuple[float, float]:
    """I(x;z) = E[log q(z|x) − log q(z)], x uniform over the N encodings, and its Monte Carlo standard error, nats.

    No draw exceeds log N, the ceiling. The marginal KL is the rate minus this, with the same error: closed form where
    log q(z) − log p(z) alone would carry the noise of the rate too.   (N, Z), (N, Z) -> two numbers
    """
    xp = backend.xp
    drawn = xp.arange(DRAWS) * mean.shape[0] // DRAWS  # of which encoding
    mean, log_std = mean.astype(xp.float64), log_std.astype(xp.float64)
    eps = backend.normal(noise, (1, DRAWS, mean.shape[1])).astype(xp.float64)
    z = reparameterize(xp, mean[drawn], log_std[drawn], eps)
    log_qz = posterior_log_density(xp, eps, log_std[drawn])
    gain = (log_qz - log_aggregate_posterior(xp, z[0], mean, log_std))[0]
    return float(xp.mean(gain)), float(xp.std(gain)) / math.sqrt(DRAWS)


def factor_information(backend, mean, log_std, factors: dict, noise, progress: Callable = iter) -> tuple:
    """I(z_j; v) of every factor v with every latent j, in nats, and the factors' entropies H(v).

    I(z_j; v) = E[log q(z_j|v) − log q(z_j)], where q(z_j|v) averages q(z_j|x_n) over the images with that value of v.
    z_j is drawn from FACTOR_DRAWS images at most; both averages run over all N.
    (N, Z), (N, Z), V factors of (N,) integers -> (V, Z), (V,)
    """
    xp, (images, latents) = backend.xp, mean.shape
    members = [(v[:, None] == xp.arange(int(xp.max(v)) + 1)).astype(xp.float64) for v in factors.values()]
    counts = [xp.sum(m, axis=0) for m in members]
    entropies = [-xp.sum(c * xp.log(xp.maximum(c, 1) / images)) / images for c in counts]
    averages = [m / xp.maximum(c, 1) for m, c in zip(members, counts, strict=True)]  # (N, values of the factor)
    drawn = xp.arange(min(images, FACTOR_DRAWS)) * images // min(images, FACTOR_DRAWS)  # from which images
    mean, log_std, eps = (a.astype(xp.float64) for a in (mean, log_std, backend.normal(noise, (len(drawn), latents))))
    z, std = reparameterize(xp, mean[drawn], log_std[drawn], eps), xp.exp(log_std)
    information = xp.zeros((len(members), latents), xp.float64)
    for start in progress(range(0, len(drawn), BLOCK)):
        own = drawn[start : start + BLOCK]
        for j in range(latents):
            distance = (z[start : start + BLOCK, j, None] - mean[:, j]) / std[:, j]  # (S, N)
            density = xp.exp(-0.5 * distance * distance) / std[:, j]  # but for √2π, which cancels
            log_q = xp.log(xp.mean(density, axis=1))
            for i, (v, average) in enumerate(zip(factors.values(), averages, strict=True)):
                given = xp.take_along_axis(xp.matmul(density, average), v[own][:, None], axis=1)[:, 0]
                information[i, j] += xp.sum(xp.log(given) - log_q) / len(drawn)
    return information, xp.stack(entropies)


def mutual_information_gaps(backend, mean, log_std, factors: dict, noise, progress: Callable = iter) -> dict:
    """(I(z_j*; v) − the second largest)/H(v) by the name of v: is the factor v in one latent alone?

    A factor that takes a single value has no gap, and is left out. Chen et al. 2018, equation 6.
    """
    xp = backend.xp
    varying = {name: v for name, v in factors.items() if bool(xp.any(v != v[0]))}
    if not varying:
        return {}
    information, entropies = factor_information(backend, mean, log_std, varying, noise, progress)
    ranked = xp.sort(information, axis=1)
    second = ranked[:, -2] if ranked.shape[1] > 1 else 0.0
    return dict(zip(varying, backend.to_host((ranked[:, -1] - second) / entropies).tolist(), strict=True))
