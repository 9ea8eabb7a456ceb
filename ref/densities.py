"""Densities, and what is made of them, in nats: below each forward pass stands its backward pass."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ref.elementwise import elementwise, summed

LOG_2PI = math.log(2 * math.pi)


@summed
def gaussian_kl(xp, mean, log_std):
    """KL(q(z|x)‖p(z)) = Σ_Z ½(mean² + std² − 1) − log std. Kingma & Welling 2014, B.   -> (B,), nats"""
    return 0.5 * (mean * mean + xp.exp(2 * log_std) - 1) - log_std


@elementwise
def gaussian_kl_backward(xp, d_kl, mean, log_std):
    """d_mean = mean, d_log_std = std² − 1, each times d_kl.   (B, 1) -> (B, Z), (B, Z)"""
    return d_kl * mean, d_kl * (xp.exp(2 * log_std) - 1)


@summed
def normal_log_density(xp, z):
    """log N(z; 0, I) = Σ_Z −½ (z² + log 2π).   (K, B, Z) -> (K, B), nats"""
    return -0.5 * (z * z + LOG_2PI)


def normal_log_density_backward(d_log_p, z):
    """d_z = −z·d_log_p.   (K, B) -> (K, B, Z)"""
    return -d_log_p[..., None] * z


@summed
def posterior_log_density(xp, eps, log_std):
    """log q(z|x) = log N(eps; 0, I) − Σ_Z log std at z = mean + std·eps.   -> (K, B), nats"""
    return -0.5 * (eps * eps + LOG_2PI) - log_std


def posterior_log_density_backward(xp, d_log_qz, log_std):
    """d_log_std = −Σ_K d_log_qz for every latent; eps is fixed, so mean drops out.   -> (B, Z)"""
    return -xp.sum(d_log_qz, axis=0)[:, None] * xp.ones_like(log_std)


def log_density_of_sample_backward(xp, d_log_qz, eps, log_std):
    """d_z = −(z − mean)/std²·d_log_qz = −eps/std·d_log_qz, q held fixed.   (K, B) -> (K, B, Z)"""
    return -d_log_qz[..., None] * eps * xp.exp(-log_std)


@summed
def squared_error(xp, x, x_hat):
    """err = ‖x − x̂‖², summed over the pixels of an image.   (B, D), (K, B, D) -> (K, B)"""
    difference = x - x_hat
    return difference * difference


@elementwise
def squared_error_backward(xp, d_err, x, x_hat):
    """d_x̂ = −2(x − x̂)·d_err.   (K, B, 1) -> (K, B, D)"""
    return 2 * d_err * (x_hat - x)


class Decoded(NamedTuple):
    """What a likelihood may be a function of."""

    logits: Any  # (K, B, D) the decoder's output l
    x_hat: Any  # (K, B, D) sigmoid(l) or l
    err: Any  # (K, B) ‖x − x̂‖²


def gaussian_log_likelihood(xp, x, decoded: Decoded, variance: float):
    """log p(x|z) = −err/(2σ²) − (D/2) log(2πσ²), for p(x|z) = N(x̂, σ² I).   -> (K, B), nats"""
    return -0.5 / variance * decoded.err - 0.5 * x.shape[-1] * (LOG_2PI + math.log(variance))


def gaussian_log_likelihood_backward(xp, d_log_px, x, decoded: Decoded, variance: float):
    """d_err = −d_log_px/(2σ²), and from there d_x̂ = (x − x̂)·d_log_px/σ².   (K, B) -> (K, B, D)"""
    return squared_error_backward(xp, -0.5 / variance * d_log_px[..., None], x, decoded.x_hat)


def bernoulli_log_likelihood(xp, x, decoded: Decoded, variance: float):
    """log p(x|z) = Σ_D x·l − softplus(l), for pixels drawn with probability x̂.   -> (K, B), nats"""
    return bernoulli_log_density(xp, x, decoded.logits)


@summed
def bernoulli_log_density(xp, x, logits):
    """Σ_D x·l − softplus(l), where softplus(l) = max(l, 0) + log(1 + e^−|l|) never overflows."""
    return x * logits - (xp.maximum(logits, 0) + xp.log(1 + xp.exp(-xp.abs(logits))))


def bernoulli_log_likelihood_backward(xp, d_log_px, x, decoded: Decoded, variance: float):
    """d_l = (x − x̂)·d_log_px, x̂ = sigmoid(l): as from −½‖x − x̂‖² to x̂.   (K, B) -> (K, B, D)"""
    return squared_error_backward(xp, -0.5 * d_log_px[..., None], x, decoded.x_hat)


class Likelihood(NamedTuple):
    """log p(x|z), its backward pass, and its needs: `vae` asserts the first, a run's defaults meet the others."""

    log_density: Callable  # (xp, x (B, D), Decoded, σ²) -> (K, B), nats
    backward: Callable  # (xp, d_log_px (K, B), x, Decoded, σ²) -> the gradient of x̂ or of the logits
    of_logits: bool  # whose gradient it is; a function of logits needs x̂ = sigmoid(l)
    black_and_white: bool  # whether it is a density of pixels 0 and 1
    has_variance: bool  # whether σ² is a parameter of it
    calibrated: bool = False  # whether error/D is the best σ², as of a Gaussian


# One more likelihood is one more pair, and one more row.
LIKELIHOODS = {
    "gaussian": Likelihood(gaussian_log_likelihood, gaussian_log_likelihood_backward, False, False, True, True),
    "bernoulli": Likelihood(bernoulli_log_likelihood, bernoulli_log_likelihood_backward, True, True, False),
}


def log_mean_exp(xp, a):
    """log (1/K) Σ_k exp a_k over the first axis, shifted so that it cannot overflow.   (K, B) -> (B,)"""
    top = xp.max(a, axis=0)
    return top + xp.log(xp.mean(xp.exp(a - top), axis=0))


def softmax(xp, a):
    """w̃_k = exp a_k / Σ_k exp a_k over the first axis, the normalised weights.   (K, B) -> (K, B)"""
    w = xp.exp(a - xp.max(a, axis=0))
    return w / xp.sum(w, axis=0)


def log_mean_exp_backward(xp, d_out, a):
    """d_a_k = w̃_k·d_out.   (B,) -> (K, B)"""
    return softmax(xp, a) * d_out
