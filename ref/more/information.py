"""What the latents know about the images, in float64.

E[KL(q(z|x)‖p(z))] = I(x;z) + KL(q(z)‖p(z)) with q(z) = (1/N) Σ_n q(z|x_n): Hoffman & Johnson 2016.
"""

import math

from ref.densities import LOG_2PI, log_mean_exp, posterior_log_density
from ref.vae import reparameterize

BLOCK, PAIRS = 500, 5_000_000  # draws of z at once, each against all N encodings; pairs of both at most
DRAWS = 10_000  # of z for the mutual information, spread evenly over the encodings


def log_aggregate_posterior(xp, z, mean, log_std):
    """log q(z) = log (1/N) Σ_n N(z; mean_n, diag std_n²).   (S, Z), (N, Z), (N, Z) -> (S,), nats"""
    precision = xp.exp(-2 * log_std)
    weights = xp.concatenate([-0.5 * precision, mean * precision], axis=1)  # (N, 2Z), of z² and z
    offset = -xp.sum(0.5 * mean * mean * precision + log_std, axis=1) - 0.5 * mean.shape[1] * LOG_2PI
    blocks, at_once = [], max(1, min(BLOCK, PAIRS // mean.shape[0]))
    for start in range(0, z.shape[0], at_once):
        part = z[start : start + at_once]
        log_q = xp.matmul(weights, xp.concatenate([part * part, part], axis=1).T) + offset[:, None]  # (N, S)
        blocks.append(log_mean_exp(xp, log_q))
    return xp.concatenate(blocks)


def mutual_information(backend, mean, log_std, noise) -> tuple[float, float]:
    """I(x;z) = E[log q(z|x) − log q(z)] ≤ log N, and its standard error, nats.   (N, Z), (N, Z) -> (), ()

    The marginal KL is the rate minus I(x;z), with the same error, because the rate has a closed form. The mean of
    log q(z) − log p(z) would carry the noise of the rate, too.
    """
    xp = backend.xp
    drawn = xp.arange(DRAWS) * mean.shape[0] // DRAWS  # of which encoding
    mean, log_std = mean.astype(xp.float64), log_std.astype(xp.float64)
    eps = backend.normal(noise, (1, DRAWS, mean.shape[1])).astype(xp.float64)
    z = reparameterize(xp, mean[drawn], log_std[drawn], eps)
    log_qz = posterior_log_density(xp, eps, log_std[drawn])
    gain = (log_qz - log_aggregate_posterior(xp, z[0], mean, log_std))[0]
    return float(xp.mean(gain)), float(xp.std(gain)) / math.sqrt(DRAWS)
