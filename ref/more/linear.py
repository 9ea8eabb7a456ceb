"""The best linear VAE: what GECO must reach on Gaussian images, and where a network may start.

Under the loss KL + λ·err, of images with the principal variances e_i, at the level ℓ = 1/(2λ):
rate = Σ_i ½ log max(e_i/ℓ, 1), err = Σ_i min(e_i, ℓ). Tipping & Bishop 1999; Lucas et al. 2019.
"""

import math

from ref.more import principal
from ref.vae import params_of

FLOOR = 1e-6  # of the largest variance: below it a direction is rounding error, and is not used
DENSE = 2048  # pixels of images whose principal variances are all computed
LEADING = 512  # principal variances of images that have more
BLOCK = 1 << 25  # pixels held as floats at once
SPARE = 10  # directions iterated beyond those asked for, so that the last of these converge too


def principal_components(backend, read, images: int, center, count: int, noise, sweeps: int = 4, progress=iter):
    """The leading principal directions (D, count) of the images, their variances (count,), the total variance.

    Subspace iteration over batches, then Rayleigh–Ritz: no D×D matrix. Halko, Martinsson & Tropp 2011.
    """
    xp, pixels = backend.xp, center.shape[0]
    at_once = max(1, min(1000, BLOCK // pixels))
    basis = xp.linalg.qr(backend.normal(noise, (pixels, min(count + SPARE, pixels))))[0]
    for sweep in range(sweeps + 1):
        product, total = xp.zeros_like(basis), 0.0
        for start in progress(range(0, images, at_once)):
            x = read(xp.arange(start, min(start + at_once, images)), noise) - center
            product += xp.matmul(x.T, xp.matmul(x, basis)) / images
            total += float(xp.sum(x * x)) / images
        if sweep < sweeps:
            basis = xp.linalg.qr(product)[0]
    variances, rotation = xp.linalg.eigh(xp.matmul(basis.T, product))
    variances, directions = variances[::-1], xp.matmul(basis, rotation[:, ::-1])
    return directions[:, :count], xp.maximum(variances, FLOOR * variances[0])[:count], total


def principal_variances(backend, read, images: int, center, noise, progress=iter) -> tuple[list[float], float]:
    """The principal variances of the images, the largest first, and the sum of those that are not found.

    Up to DENSE pixels the basis is complete, so one sweep is exact. For more pixels it has LEADING directions, or as
    many as BLOCK holds.
    """
    pixels = center.shape[0]
    count, sweeps = (pixels, 0) if pixels <= DENSE else (min(LEADING, max(1, BLOCK // pixels)), 4)
    _, variances, total = principal_components(backend, read, images, center, count, noise, sweeps, progress)
    largest, *others = backend.to_host(variances)
    variances = [float(largest), *(float(v) for v in others if v > FLOOR * largest)]
    return variances, max(0.0, total - math.fsum(variances))


def variances_of(xp, x) -> list[float]:
    """The principal variances of a few images (N, D), the largest first, by the smaller Gram matrix."""
    x = x - xp.mean(x, axis=0)
    gram = xp.matmul(x, x.T) if len(x) < x.shape[1] else xp.matmul(x.T, x)
    found = xp.linalg.eigvalsh(gram)[::-1] / len(x)
    return [float(variance) for variance in found if variance > FLOOR * found[0]]


def latents_in_use(variances: list[float], error: float) -> int:
    """The latents that the best linear VAE puts to use at this error."""
    level = water_level(variances, 0.0, error)
    return max(1, sum(variance > level for variance in variances))


def rate_distortion_curve(variances: list[float], rest: float) -> list[tuple[float, float]]:
    """100 points (R, D), from the whole variance down to a hundredth of it, or to where the known variances end."""
    total = math.fsum(variances) + rest
    lowest = max(0.01 * total, rest + len(variances) * variances[-1] if rest else 0)
    errors = [total * (lowest / total) ** (i / 99) for i in range(100)]
    return [(gaussian_rate_distortion(variances, error, rest), error) for error in errors]


def gaussian_rate_distortion(variances: list[float], error: float, rest: float = 0.0) -> float:
    """R(D) = Σ_i ½ log max(e_i/ℓ, 1) at the water level ℓ of D: the nats that the best linear VAE pays.

    No code of Gaussian images pays less; of others the best linear VAE is an upper bound. Cover & Thomas 2006, 10.3.3.
    `rest` is the variance outside `variances`: R is exact while ℓ is at least the smallest of these, because what is
    below ℓ costs no rate.
    """
    level = water_level(variances, rest, error)
    return math.fsum(0.5 * math.log(e / level) for e in variances if e > level)


def water_level(variances: list[float], rest: float, error: float) -> float:
    """ℓ with Σ_i min(e_i, ℓ) + rest = error: reverse water-filling. Cover & Thomas 2006, theorem 10.3.3.

    `variances` descending; `rest` is the variance outside them. Raises ValueError if no ℓ > 0 reaches the error.
    """
    for used in range(len(variances), 0, -1):
        level = (error - rest - math.fsum(variances[used:])) / used
        if level <= 0:
            raise ValueError(f"{len(variances)} linear latents cannot reach a squared error of {error:.4g}")
        if level <= variances[used - 1]:
            return level
    return variances[0]


def level_for(variances, total: float, error: float) -> float:
    """The water level ℓ of the error, or the smallest variance where no level reaches it."""
    rest = total - math.fsum(variances)
    return water_level(variances, rest, error) if error > rest else variances[-1]


def level_for_rate(variances, rate: float) -> float:
    """ℓ with Σ_i ½ log max(e_i/ℓ, 1) = rate, `variances` descending, but no less than FLOOR of the largest."""
    logs = [math.log(v) for v in variances]
    for used in range(1, len(logs) + 1):
        level = (math.fsum(logs[:used]) - 2 * rate) / used
        if used == len(logs) or level >= logs[used]:
            return max(math.exp(level), FLOOR * variances[0])


def calibrated_level(variances, total: float, pixels: int) -> float:
    """ℓ at which the error is D·ℓ: the mean of the D − Z variances without a latent. Tipping & Bishop 1999, eq. 8."""
    if len(variances) >= pixels:
        return variances[-1]  # every level up to the smallest variance is as good
    return max((total - math.fsum(variances)) / (pixels - len(variances)), FLOOR * variances[0])


def level_of(constraint, target: float | None, variances, total: float, pixels: int) -> float:
    """The level ℓ of the best linear VAE under a constraint of an objective."""
    e = [float(v) for v in variances]
    if constraint.weighs == "rate":
        return level_for_rate(e, target)
    return calibrated_level(e, total, pixels) if target is None else level_for(e, total, target)


def multiplier_at(level: float, constraint) -> float:
    """λ at the level ℓ: 1/(2ℓ) as the weight of the error, 2ℓ as that of the rate."""
    return 2 * level if constraint.weighs == "rate" else 1 / (2 * level)


def in_principal_coordinates(xp, model, directions, variances):
    """The model with the principal directions as its coordinates, each scaled to unit variance."""
    root = xp.sqrt(variances)
    inverse = xp.where(variances > FLOOR * variances[0], 1 / root, 0).astype(variances.dtype)
    color = xp.ascontiguousarray((directions * root).T)
    return model._replace(network=principal, whiten=directions * inverse, color=color)


def start_linear(xp, model, theta, variances, level: float) -> None:
    """Starts a network in principal coordinates at the linear VAE of level ℓ; its MLPs start silent.

    Encoder and decoder √(1 − ℓ/e_i) on the diagonal and posterior variance ℓ/e_i where e_i > ℓ, nothing elsewhere.
    """
    params, z = params_of(model, theta), model.latents
    last, used = len(model.hidden), xp.arange(z)
    for part in params.values():
        part[f"W{last}"][...] = 0
        part["linear"][used, used] = xp.sqrt(xp.maximum(1 - level / variances[:z], 0))
    params["encoder"][f"b{last}"][z : 2 * z] = 0.5 * xp.log(xp.minimum(level / variances[:z], 1))
