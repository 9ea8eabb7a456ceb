"""Two measures of whether each factor of variation has a latent of its own: MIG and the FactorVAE score."""

import numpy as np

from experiment.evaluation import EVALUATION_SEED

BLOCK = 500  # draws of z_j that are compared with all N encodings at once
DRAWS = 4_000  # of each z_j at most
FIXED, TRAINING, TEST, COLLAPSED = 64, 10_000, 5_000, 0.05  # as in the code of Locatello et al. 2019


def factor_information(mean: np.ndarray, log_std: np.ndarray, factors: dict[str, np.ndarray]) -> tuple:
    """I(z_j; v) of every factor v with every latent j, in nats, and the factors' entropies H(v).

    I(z_j; v) = E[log q(z_j|v) − log q(z_j)]. q(z_j) averages q(z_j|x_n) over all images, and q(z_j|v) over the images
    of that value of v. z_j is drawn from images that are spread evenly over all N. The computation is in float64.
    (N, Z), (N, Z), V factors of (N,) integers -> (V, Z), (V,)
    """
    images, latents = mean.shape
    members = [(v[:, None] == np.arange(v.max() + 1)).astype(float) for v in factors.values()]
    counts = [m.sum(axis=0) for m in members]
    entropies = [-np.sum(c * np.log(np.maximum(c, 1) / images)) / images for c in counts]
    averages = [m / np.maximum(c, 1) for m, c in zip(members, counts, strict=True)]  # (N, values of the factor)
    drawn = np.arange(min(images, DRAWS)) * images // min(images, DRAWS)  # the images that z_j is drawn from
    mean, std = mean.astype(float), np.exp(log_std.astype(float))
    z = mean[drawn] + std[drawn] * np.random.default_rng(EVALUATION_SEED).normal(size=(len(drawn), latents))
    information = np.zeros((len(members), latents))
    for start in range(0, len(drawn), BLOCK):
        own = drawn[start : start + BLOCK]
        for j in range(latents):
            distance = (z[start : start + BLOCK, j, None] - mean[:, j]) / std[:, j]  # (S, N)
            density = np.exp(-0.5 * distance * distance) / std[:, j]  # times √2π, which cancels
            log_q = np.log(density.mean(axis=1))
            for i, (v, average) in enumerate(zip(factors.values(), averages, strict=True)):
                given = np.take_along_axis(density @ average, v[own][:, None], axis=1)[:, 0]
                information[i, j] += np.sum(np.log(given) - log_q) / len(drawn)
    return information, np.array(entropies)


def gaps(information: np.ndarray, entropies: np.ndarray) -> np.ndarray:
    """(largest − second largest I(z_j; v))/H(v) for each factor v. Their mean is the mutual-information gap (MIG).

    Equation 6 of Chen et al. 2018. The second largest of a single latent counts as 0.   (V, Z), (V,) -> (V,)
    """
    shares = np.sort(np.pad(information / entropies[:, None], [(0, 0), (1, 0)]))
    return shares[:, -1] - shares[:, -2]


def factor_vae_score(mean: np.ndarray, factors: dict[str, np.ndarray], seed: int = EVALUATION_SEED) -> float:
    """How surely the latent that varies least tells which factor was held fixed. Kim & Mnih 2018, section 4.

    TRAINING votes tell which factor each latent is read as: the factor that the latent was named for most often. The
    score is the share of TEST further votes that are read aright. It is 1 if each factor has a latent of its own, and
    1/V if the latents do not depend on the V factors. Latents whose mean has a standard deviation below COLLAPSED do
    not take part. Without any other latent the score is 0.   (N, Z), V factors of (N,) integers -> a number
    """
    std, rng = mean.std(axis=0), np.random.default_rng(seed)
    scaled = mean[:, std >= COLLAPSED] / std[std >= COLLAPSED]
    if scaled.shape[1] == 0:
        return 0.0
    read_as = votes(scaled, factors, TRAINING, rng).argmax(axis=0)  # the factor of each latent
    return float(votes(scaled, factors, TEST, rng)[read_as, range(len(read_as))].sum() / TEST)


def votes(scaled: np.ndarray, factors: dict[str, np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """How often each latent is named when each factor is held fixed, in `count` votes.   (N, Z) -> (V, Z)

    A vote draws a factor at random, and then FIXED images that share a random value of it. It names the latent that
    varies least among these images. `scaled` has a standard deviation of 1 over all images.
    """
    shares, named = rng.multinomial(count, [1 / len(factors)] * len(factors)), []
    for v, share in zip(factors.values(), shares, strict=True):
        by_value, images = np.argsort(v, kind="stable"), np.bincount(v)  # images of one value are neighbours
        value = rng.choice(v, share)
        first = np.cumsum(images)[value] - images[value]
        drawn = by_value[first[:, None] + rng.integers(images[value][:, None], size=(share, FIXED))]
        named.append(np.bincount(scaled[drawn].var(axis=1).argmin(axis=1), minlength=scaled.shape[1]))
    return np.stack(named)
