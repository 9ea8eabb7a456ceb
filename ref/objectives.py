"""The objectives: pairs of short pure functions of the per-sample terms, and GECO's multiplier.

Every loss is minimised. E_B is the mean over a batch's B images, mean_k the mean over an image's K samples. `_backward`
returns the gradient with respect to the terms. One more objective is one more pair, and one more row of METHODS.
"""

from collections.abc import Callable
from typing import NamedTuple

from ref.densities import log_mean_exp, log_mean_exp_backward, softmax
from ref.vae import Gradient


def vae(xp, terms):
    """E_B[ KL − mean_k log p(x|z_k) ], the negative ELBO. Kingma & Welling 2014, equation 10."""
    return xp.mean(terms.kl) - xp.mean(terms.log_px)


def vae_backward(xp, terms):
    """d_kl = 1/B,  d_log_px = −1/(K·B)"""
    return beta_vae_backward(xp, terms, beta=1.0)


def beta_vae(xp, terms, beta):
    """E_B[ β·KL − mean_k log p(x|z_k) ]. Higgins et al. 2017, equation 4."""
    return beta * xp.mean(terms.kl) - xp.mean(terms.log_px)


def beta_vae_backward(xp, terms, beta):
    """d_kl = β/B,  d_log_px = −1/(K·B)"""
    return Gradient(kl=beta * mean_backward(xp, terms.kl), log_px=-mean_backward(xp, terms.log_px))


def mean_error(xp, terms):
    """mean_k err_k, the squared error of each image that GECO bounds.   -> (B,)"""
    return xp.mean(terms.err, axis=0)


def geco(xp, terms, lam, kappa):
    """E_B[ KL ] + λ·C,  C = E_B[ mean_k err_k ] − κ². Rezende & Viola 2018, equation 3; the slides' GECO."""
    return xp.mean(terms.kl) + lam * (xp.mean(terms.err) - kappa**2)


def geco_backward(xp, terms, lam, kappa):
    """d_kl = 1/B,  d_err = λ/(K·B): θ sees Ĉ's gradient alone, whatever moves λ"""
    return Gradient(kl=mean_backward(xp, terms.kl), err=lam * mean_backward(xp, terms.err))


def log_weight(log_px, terms, beta=1.0):
    """log w_k = log p(x|z_k) + β·(log p(z_k) − log q(z_k|x)), β = 1 but in a warm-up.   (K, B), nats"""
    return log_px + beta * (terms.log_pz - terms.log_qz)


def warmed_up(xp, warm_up: float, progress):
    """β = min(progress/warm_up, 1): latents find a use before they cost their full price. Sønderby et al. 2016."""
    return xp.minimum(progress / warm_up, 1.0) if warm_up else 1.0


def iwae(xp, terms, warm_up=0.0, progress=1.0):
    """−L_K,  L_K = E_B[ log (1/K) Σ_k w_k ]. Burda et al. 2015, equation 8."""
    return -xp.mean(log_mean_exp(xp, log_weight(terms.log_px, terms, warmed_up(xp, warm_up, progress))))


def iwae_backward(xp, terms, warm_up=0.0, progress=1.0):
    """d_log_w = −w̃/B,  w̃ = softmax_k(log w). Burda et al. 2015, equation 14."""
    images, beta = terms.kl.size, warmed_up(xp, warm_up, progress)
    d_log_w = log_mean_exp_backward(xp, -1 / images, log_weight(terms.log_px, terms, beta))
    return Gradient(log_px=d_log_w, log_pz=beta * d_log_w, log_qz=-beta * d_log_w)


def dreg_backward(xp, terms, warm_up=0.0, progress=1.0):
    """IWAE's gradient in expectation, of less variance: the decoder's is weighted by w̃_k, the encoder's by w̃_k².

    d_log_w = −w̃/B. The way through log q(z_k|x) is the one through z_k alone. What arrives at z_k is weighted by w̃_k
    once more on its way into the encoder, in a warm-up by 1 − β + β·w̃_k. Tucker et al. 2019, the estimator IWAE-DReG.
    """
    images, beta = terms.kl.size, warmed_up(xp, warm_up, progress)
    w = softmax(xp, log_weight(terms.log_px, terms, beta))
    d_log_w = -1 / images * w
    return Gradient(log_px=d_log_w, log_pz=beta * d_log_w, log_qz_of_z=-beta * d_log_w, to_encoder=1 - beta + beta * w)


def weighted_error(xp, terms):
    """Σ_k w̃_k err_k, each image's error under q_IW, which draws z_k by w̃_k: Cremer et al. 2017.   -> (B,)"""
    return xp.sum(softmax(xp, log_weight(-terms.err, terms)) * terms.err, axis=0)


def geco_iwae(xp, terms, lam, kappa):
    """−L_K + (λ − 1)·E_B[ Σ_k w̃_k err_k ] − λκ², with log p(x|z) = −err. The slides' GECO + IWAE.

    It is KL(q_IW‖p) + λ·C with C = E_B[ Σ_k w̃_k err_k ] − κ², since L_K = E_{q_IW}[−err] − KL(q_IW‖p).
    """
    bound = xp.mean(log_mean_exp(xp, log_weight(-terms.err, terms)))
    return -bound + (lam - 1) * (xp.mean(weighted_error(xp, terms)) - kappa**2) - kappa**2


def geco_iwae_backward(xp, terms, lam, kappa):
    """With E = Σ_j w̃_j err_j:  ∂E/∂err_k = w̃_k,  ∂E/∂log w_k = w̃_k (err_k − E),  ∂L_K/∂log w_k = w̃_k.

    err_k counts directly, and by way of log w_k = −err_k + …:  d_err = (λ − 1)·w̃/B − d_log_w.
    """
    w, images = softmax(xp, log_weight(-terms.err, terms)), terms.kl.size
    error = xp.sum(w * terms.err, axis=0)
    d_log_w = w * (1 / images) * ((lam - 1) * (terms.err - error) - 1)
    directly, through_log_w = (lam - 1) * w * (1 / images), -d_log_w
    return Gradient(err=directly + through_log_w, log_pz=d_log_w, log_qz=-d_log_w)


def mean_backward(xp, term):
    """The gradient of a mean over all entries of `term`: 1/size everywhere."""
    return xp.full_like(term, 1 / term.size)


class Method(NamedTuple):
    """An objective: its loss and its gradient, and what a user may set.

    `constrained(xp, terms)` is the error (B,) whose mean κ² bounds; None without a constraint, and so without λ.
    `options` maps a name to its default (None: by data set) and meaning. `takes` names what training itself tells:
    "lam", the multiplier λ, and "progress", the share t/steps of the run that is done. Loss and backward get options
    and what they take as keywords. `samples` is the default K.
    """

    loss: Callable
    backward: Callable
    constrained: Callable | None
    options: dict[str, tuple[float | None, str]]
    samples: int
    about: str
    title: str
    takes: tuple[str, ...] = ()


BETA = {"beta": (0.5, "β, the weight of the KL")}
KAPPA = {"kappa": (None, "κ, the tolerance on ‖x − x̂‖ per image: κ² of squared error")}
WARM_UP = {"warm_up": (0.0, "the share of the run in which log p(z) − log q(z|x) grows to its full weight")}

METHODS = {
    "vae": Method(vae, vae_backward, None, {}, 1, "the ELBO", "VAE"),
    "beta-vae": Method(beta_vae, beta_vae_backward, None, BETA, 1, "the ELBO with its KL weighted by β", "β-VAE"),
    "geco": Method(geco, geco_backward, mean_error, KAPPA, 1, "the least KL within an error of κ²", "GECO", ("lam",)),
    "iwae": Method(iwae, iwae_backward, None, WARM_UP, 5, "the bound of K weighted samples", "IWAE", ("progress",)),
    "dreg": Method(iwae, dreg_backward, None, WARM_UP, 5, "IWAE by a less noisy gradient", "DReG", ("progress",)),
    "geco-iwae": Method(
        geco_iwae, geco_iwae_backward, weighted_error, KAPPA, 5, "GECO under q_IW", "GECO + IWAE", ("lam",)
    ),
}

TRAVEL = 4  # how far log λ may go from where it started: the guard of λ, e^±4


def memory(steps: int) -> float:
    """α of the moving average: it remembers a tenth of the run, 100 steps at most, as in the slides' code."""
    return 1 - 1 / min(100, max(1, steps / 10))


def moving_average(xp, c_ma, c_hat, first, alpha: float):
    """C_ma starts at the first Ĉ, then C_ma ← α·C_ma + (1 − α)·Ĉ: the slides' algorithm 1. `first`: bool ()."""
    return xp.where(first, c_hat, alpha * c_ma + (1 - alpha) * c_hat)


def initial_multiplier(kappa: float) -> float:
    """λ₀ = d/(2κ²) with d = 16: what d Gaussian latents that share an error of κ² need."""
    return 8 / kappa**2


def plain_multiplier(xp, log_lam, start, c_ma, kappa, rate, steps):
    """log λ ← log λ + η·C_ma, in squared error per image: the slides' algorithm 1 to the letter."""
    return log_lam + rate * c_ma


def relative_multiplier(xp, log_lam, start, c_ma, kappa, rate, steps):
    """log λ ← log λ + clip(η·C_ma/κ², −4/steps, 4/steps), within log λ₀ ± 4: the same direction as the plain rule.

    Relative, so the units of the pixels do not matter. Bounded, so λ cannot run away while the network is young, and
    quick inside the bounds, so λ has settled when the run ends. `start` is log λ₀.
    """
    moved = log_lam + xp.clip(rate * c_ma / kappa**2, -TRAVEL / steps, TRAVEL / steps)
    return xp.clip(moved, start - TRAVEL, start + TRAVEL)


# Name: the rule, and its rate η by the steps of the run.
MULTIPLIERS = {
    "relative": (relative_multiplier, lambda steps: min(56 / steps, 0.01)),
    "plain": (plain_multiplier, lambda steps: 1e-3),
}
