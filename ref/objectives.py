"""The objectives, each a pair of pure functions of the terms and a row of METHODS; constraints, and what moves λ.

E_B is the mean over images, mean_k over an image's samples. `_backward` is the gradient with respect to the terms.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ref.densities import log_mean_exp, log_mean_exp_backward, softmax
from ref.vae import Gradient


class Now(NamedTuple):
    """What a loss may depend on besides the terms. A loss that does not need it ignores it."""

    lam: Any = 1.0  # λ, the multiplier of a constraint
    target: float = 0.0  # what the constraint allows: κ² of squared error, R nats
    done: Any = 1.0  # the share of the run that is done, from 0 to 1
    pixels: int = 1  # D


def vae(xp, terms, now, beta=1.0):
    """E_B[ β·KL − mean_k log p(x|z_k) ]; −ELBO at β = 1. Kingma & Welling 2014; Higgins et al. 2017."""
    return beta * xp.mean(terms.kl) - xp.mean(terms.log_px)


def vae_backward(xp, terms, now, beta=1.0):
    """d_kl = β/B,  d_log_px = −1/(K·B)"""
    return Gradient(kl=beta * mean_backward(xp, terms.kl), log_px=-mean_backward(xp, terms.log_px))


def mean_error(xp, terms):
    """mean_k err_k, the squared error of each image that GECO bounds.   -> (B,)"""
    return xp.mean(terms.err, axis=0)


def geco(xp, terms, now):
    """E_B[ KL ] + λ·C,  C = E_B[ mean_k err_k ] − κ². Rezende & Viola 2018, equation 3."""
    return xp.mean(terms.kl) + now.lam * (xp.mean(terms.err) - now.target)


def geco_backward(xp, terms, now):
    """d_kl = 1/B,  d_err = λ/(K·B): θ sees Ĉ's gradient alone, whatever moves λ"""
    return Gradient(kl=mean_backward(xp, terms.kl), err=now.lam * mean_backward(xp, terms.err))


def sigma_vae(xp, terms, now):
    """E_B[ KL + λ·mean_k err_k ] + D/2·log(π/λ): −ELBO at σ² = 1/(2λ); has GECO's gradient. Rybkin et al. 2021."""
    return xp.mean(terms.kl) + now.lam * xp.mean(terms.err) + 0.5 * now.pixels * xp.log(math.pi / now.lam)


def rate_bound(xp, terms, now):
    """E_B[ mean_k err_k ] + λ·(E_B[ KL ] − R): the least error within R nats. Burgess et al. 2018; Shao et al. 2020."""
    return xp.mean(terms.err) + now.lam * (xp.mean(terms.kl) - now.target)


def rate_bound_backward(xp, terms, now):
    """d_kl = λ/B,  d_err = 1/(K·B): GECO's two weights, the other way round"""
    return Gradient(kl=now.lam * mean_backward(xp, terms.kl), err=mean_backward(xp, terms.err))


def log_weight(log_px, terms, beta=1.0):
    """log w_k = log p(x|z_k) + β·(log p(z_k) − log q(z_k|x)), β = 1 but in a warm-up.   (K, B)"""
    return log_px + beta * (terms.log_pz - terms.log_qz)


def warmed_up(xp, warm_up: float, done):
    """β = min(done/warm_up, 1): latents find a use before they cost their price. Sønderby et al. 2016."""
    return xp.minimum(done / warm_up, 1.0) if warm_up else 1.0


def iwae(xp, terms, now, warm_up=0.0):
    """−L_K,  L_K = E_B[ log (1/K) Σ_k w_k ]. Burda et al. 2015, equation 8."""
    beta = warmed_up(xp, warm_up, now.done)
    return -xp.mean(log_mean_exp(xp, log_weight(terms.log_px, terms, beta)))


def iwae_backward(xp, terms, now, warm_up=0.0):
    """d_log_w = −w̃/B,  w̃ = softmax_k(log w). Burda et al. 2015, equation 14."""
    images, beta = terms.kl.size, warmed_up(xp, warm_up, now.done)
    d_log_w = log_mean_exp_backward(xp, -1 / images, log_weight(terms.log_px, terms, beta))
    return Gradient(log_px=d_log_w, log_pz=beta * d_log_w, log_qz=-beta * d_log_w)


def dreg_backward(xp, terms, now, warm_up=0.0):
    """d_log_w = −w̃/B, weighted by w̃ once more on its way into the encoder. Tucker et al. 2019."""
    images, beta = terms.kl.size, warmed_up(xp, warm_up, now.done)
    w = softmax(xp, log_weight(terms.log_px, terms, beta))
    d_log_w = -1 / images * w
    return Gradient(log_px=d_log_w, log_pz=beta * d_log_w, log_qz_of_z=-beta * d_log_w, to_encoder=1 - beta + beta * w)


def vr_iwae(xp, terms, now, alpha=0.5, warm_up=0.0):
    """−E_B[ log (1/K) Σ_k w_k^{1−α} ]/(1 − α): IWAE at α = 0, the sampled ELBO as α → 1. Daudel et al. 2023."""
    beta = warmed_up(xp, warm_up, now.done)
    return -xp.mean(log_mean_exp(xp, (1 - alpha) * log_weight(terms.log_px, terms, beta))) / (1 - alpha)


def vr_iwae_backward(xp, terms, now, alpha=0.5, warm_up=0.0):
    """d_log_w = −softmax_k((1 − α)·log w)/B"""
    images, beta = terms.kl.size, warmed_up(xp, warm_up, now.done)
    d_log_w = log_mean_exp_backward(xp, -1 / images, (1 - alpha) * log_weight(terms.log_px, terms, beta))
    return Gradient(log_px=d_log_w, log_pz=beta * d_log_w, log_qz=-beta * d_log_w)


def weighted_error(xp, terms):
    """Σ_k w̃_k err_k, the error of each image under q_IW. Cremer et al. 2017.   -> (B,)"""
    return xp.sum(softmax(xp, log_weight(-terms.err, terms)) * terms.err, axis=0)


def geco_iwae(xp, terms, now):
    """−L_K + (λ − 1)·E_B[ Σ_k w̃_k err_k ] − λκ², with log p(x|z) = −err. The slides' GECO + IWAE."""
    bound = xp.mean(log_mean_exp(xp, log_weight(-terms.err, terms)))
    return -bound + (now.lam - 1) * (xp.mean(weighted_error(xp, terms)) - now.target) - now.target


def geco_iwae_backward(xp, terms, now):
    """d_log_w = w̃/B·((λ − 1)(err − E) − 1),  E = Σ_j w̃_j err_j;  d_err = (λ − 1)·w̃/B − d_log_w."""
    w, images = softmax(xp, log_weight(-terms.err, terms)), terms.kl.size
    error = xp.sum(w * terms.err, axis=0)
    d_log_w = w * (1 / images) * ((now.lam - 1) * (terms.err - error) - 1)
    directly, through_log_w = (now.lam - 1) * w * (1 / images), -d_log_w
    return Gradient(err=directly + through_log_w, log_pz=d_log_w, log_qz=-d_log_w)


def mean_backward(xp, term):
    """The gradient of a mean over all entries of `term`: 1/size everywhere."""
    return xp.full_like(term, 1 / term.size)


class Option(NamedTuple):
    """A number that a user may set."""

    default: float | None  # None: it depends on the images
    symbol: str
    about: str
    interval: str = "(0, inf)"  # of the numbers that are allowed; a square bracket includes its end


class Constraint(NamedTuple):
    """E_B[ bounded ] ≤ target, by the multiplier λ; without an option nothing is bounded, and λ is calibrated."""

    bounded: Callable  # (xp, terms) -> (B,)
    bounds: str | None  # what is bounded: the name of a mean in train.REPORTED, or other words
    weighs: str  # what λ multiplies: the "error" or the "rate"
    start: Callable  # (target, variance of the images, D) -> λ₀
    name: str | None = None  # of the option that says the target
    option: Option | None = None
    power: int = 1  # the target is that power of the option's number
    rule: Callable | None = None  # what moves λ, as those of MULTIPLIERS do; None: the user chooses


class Method(NamedTuple):
    """An objective: loss(xp, terms, now, **options), its gradient with respect to the terms, what a user may set."""

    loss: Callable
    backward: Callable
    constraint: Constraint | None
    options: dict[str, Option]  # of loss and backward
    samples: int  # K by default
    about: str
    title: str


KAPPA = Option(None, "κ", "the tolerance on ‖x − x̂‖ per image: κ² of squared error", "[1e-12, 1e12]")
RATE = Option(None, "R", "the nats that q(z|x) may cost: E[KL] ≤ R", "[1e-6, 1e6]")
BETA = {"beta": Option(0.5, "β", "the weight of the KL")}
ALPHA = {"alpha": Option(0.5, "α", "w^(1 − α) takes the place of w: 0 is IWAE, towards 1 the ELBO", "[0, 1)")}
GROWTH = Option(0.0, "warm-up", "the share of the run in which log p(z) − log q(z|x) grows to full weight", "[0, 1]")
WARM_UP = {"warm_up": GROWTH}


def initial_multiplier(target: float, *_) -> float:
    """λ₀ = d/(2κ²) with d = 16: what d Gaussian latents that share an error of κ² need."""
    return 8 / target


def initial_price(rate: float, variance: float, *_) -> float:
    """λ₀ = V·exp(−1)/R: 2R Gaussian latents share the variance V, and half a nat each leaves exp(−1) of it."""
    return variance / (math.e * rate)


def calibrated_multiplier(xp, log_lam, start, c_ma, target, rate, steps):
    """λ = η/C_ma with η = D/2 and a target of 0: C_ma is the average error, and σ² = 1/(2λ) = error/D, the best."""
    return xp.log(rate / c_ma)


ERROR = Constraint(mean_error, "error", "error", initial_multiplier, "kappa", KAPPA, 2)
ERROR_UNDER_Q_IW = ERROR._replace(bounded=weighted_error, bounds="error under q_IW")
NATS = Constraint(lambda xp, terms: terms.kl, "rate", "rate", initial_price, "rate", RATE)
CALIBRATED = Constraint(
    mean_error, None, "error", lambda _, variance, pixels: pixels / (2 * variance), rule=calibrated_multiplier
)

METHODS = {
    "vae": Method(vae, vae_backward, None, {}, 1, "the ELBO", "VAE"),
    "beta-vae": Method(vae, vae_backward, None, BETA, 1, "the ELBO with its KL weighted by β", "β-VAE"),
    "sigma-vae": Method(sigma_vae, geco_backward, CALIBRATED, {}, 1, "the ELBO at the best σ²", "σ-VAE"),
    "geco": Method(geco, geco_backward, ERROR, {}, 1, "the least KL within an error of κ²", "GECO"),
    "rate": Method(rate_bound, rate_bound_backward, NATS, {}, 1, "the least error within R nats", "Rate target"),
    "iwae": Method(iwae, iwae_backward, None, WARM_UP, 5, "the bound of K weighted samples", "IWAE"),
    "dreg": Method(iwae, dreg_backward, None, WARM_UP, 5, "IWAE by a less noisy gradient", "DReG"),
    "vr-iwae": Method(vr_iwae, vr_iwae_backward, None, ALPHA | WARM_UP, 5, "between ELBO and IWAE", "VR-IWAE"),
    "geco-iwae": Method(geco_iwae, geco_iwae_backward, ERROR_UNDER_Q_IW, {}, 5, "GECO under q_IW", "GECO + IWAE"),
}

TRAVEL = 4  # how far log λ may go from where it started: the guard of λ, e^±4


def memory(steps: int) -> float:
    """α of the moving average: it remembers a tenth of the run, 100 steps at most, as in the slides' code."""
    return 1 - 1 / min(100, max(1, steps / 10))


def moving_average(xp, c_ma, c_hat, first, alpha: float):
    """C_ma starts at the first Ĉ, then C_ma ← α·C_ma + (1 − α)·Ĉ. The slides' algorithm 1."""
    return xp.where(first, c_hat, alpha * c_ma + (1 - alpha) * c_hat)


def plain_multiplier(xp, log_lam, start, c_ma, target, rate, steps):
    """log λ ← log λ + η·C_ma, in squared error per image: the slides' algorithm 1 to the letter."""
    return log_lam + rate * c_ma


def relative_multiplier(xp, log_lam, start, c_ma, target, rate, steps):
    """log λ ← log λ + clip(η·C_ma/κ², −4/steps, 4/steps), within log λ₀ ± 4. `start` is log λ₀."""
    moved = log_lam + xp.clip(rate * c_ma / target, -TRAVEL / steps, TRAVEL / steps)
    return xp.clip(moved, start - TRAVEL, start + TRAVEL)


MULTIPLIERS = {  # name: the rule, and its rate η by the steps of the run
    "relative": (relative_multiplier, lambda steps: min(56 / steps, 0.01)),
    "plain": (plain_multiplier, lambda steps: 1e-3),
}
