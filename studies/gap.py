"""The mutual-information gap (MIG) of Chen et al. 2018: is each factor of variation in a latent of its own?"""

import numpy as np

from experiment.results import EVALUATION_SEED

BLOCK = 500  # draws of z_j at once, each against all N encodings
DRAWS = 4_000  # of each z_j


def factor_information(mean: np.ndarray, log_std: np.ndarray, factors: dict[str, np.ndarray]) -> tuple:
    """I(z_j; v) of every factor v with every latent j, in nats, and the factors' entropies H(v).

    I(z_j; v) = E[log q(z_j|v) − log q(z_j)], where q(z_j|v) averages q(z_j|x_n) over the images with that value of v.
    z_j is drawn from DRAWS images at most, spread evenly over all N; both averages run over all N. In float64.
    (N, Z), (N, Z), V factors of (N,) integers -> (V, Z), (V,)
    """
    images, latents = mean.shape
    members = [(v[:, None] == np.arange(v.max() + 1)).astype(float) for v in factors.values()]
    counts = [m.sum(axis=0) for m in members]
    entropies = [-np.sum(c * np.log(np.maximum(c, 1) / images)) / images for c in counts]
    averages = [m / np.maximum(c, 1) for m, c in zip(members, counts, strict=True)]  # (N, values of the factor)
    drawn = np.arange(min(images, DRAWS)) * images // min(images, DRAWS)  # from which images
    mean, std = mean.astype(float), np.exp(log_std.astype(float))
    z = mean[drawn] + std[drawn] * np.random.default_rng(EVALUATION_SEED).normal(size=(len(drawn), latents))
    information = np.zeros((len(members), latents))
    for start in range(0, len(drawn), BLOCK):
        own = drawn[start : start + BLOCK]
        for j in range(latents):
            distance = (z[start : start + BLOCK, j, None] - mean[:, j]) / std[:, j]  # (S, N)
            density = np.exp(-0.5 * distance * distance) / std[:, j]  # but for √2π, which cancels
            log_q = np.log(density.mean(axis=1))
            for i, (v, average) in enumerate(zip(factors.values(), averages, strict=True)):
                given = np.take_along_axis(density @ average, v[own][:, None], axis=1)[:, 0]
                information[i, j] += np.sum(np.log(given) - log_q) / len(drawn)
    return information, np.array(entropies)


def gaps(information: np.ndarray, entropies: np.ndarray) -> np.ndarray:
    """(I(z_j*; v) − the second largest)/H(v) of each factor v: equation 6, whose mean over the factors is MIG.

    A single latent has no second, and its gap is all that it knows.   (V, Z), (V,) -> (V,)
    """
    shares = np.sort(np.pad(information / entropies[:, None], [(0, 0), (1, 0)]))
    return shares[:, -1] - shares[:, -2]
