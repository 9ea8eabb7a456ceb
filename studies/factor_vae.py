"""The FactorVAE score: unlike MIG it estimates no information, and narrow posteriors cannot flatter it."""

import numpy as np

from experiment.results import EVALUATION_SEED

FIXED, TRAINING, TEST, COLLAPSED = 64, 10_000, 5_000, 0.05  # as in code after Locatello et al. 2019


def factor_vae_score(mean: np.ndarray, factors: dict[str, np.ndarray], seed: int = EVALUATION_SEED) -> float:
    """How surely the latent that varies least tells which factor was held fixed. Kim & Mnih 2018, section 4.

    A vote fixes a random factor at a random value, draws L = 64 such images, divides each latent by its standard
    deviation over all images, and names the latent of the least variance. A latent is then read as the factor that it
    was named for most often in 10,000 votes. The score is the share of 5,000 other votes that are read aright: 1 if
    each factor has a latent of its own, 1/V if the latents do not depend on the V factors. Latents whose mean has a
    standard deviation below 0.05 do not take part; 0 if none does.   (N, Z), V factors of (N,) integers -> a number
    """
    std, rng = mean.std(axis=0), np.random.default_rng(seed)
    scaled = mean[:, std >= COLLAPSED] / std[std >= COLLAPSED]
    if scaled.shape[1] == 0:
        return 0.0

    def votes(count: int) -> np.ndarray:
        """How often each latent was named when each factor was held fixed.   -> (V, Z)"""
        shares = rng.multinomial(count, [1 / len(factors)] * len(factors))
        return np.stack([named(v, share) for v, share in zip(factors.values(), shares, strict=True)])

    def named(v: np.ndarray, count: int) -> np.ndarray:
        by_value, images = np.argsort(v, kind="stable"), np.bincount(v)  # the images of a value lie side by side
        value = rng.choice(v, count)
        first = np.cumsum(images)[value] - images[value]
        drawn = by_value[first[:, None] + rng.integers(images[value][:, None], size=(count, FIXED))]
        return np.bincount(scaled[drawn].var(axis=1).argmin(axis=1), minlength=scaled.shape[1])

    read_as = votes(TRAINING).argmax(axis=0)  # the factor of each latent
    return float(votes(TEST)[read_as, range(len(read_as))].sum() / TEST)
