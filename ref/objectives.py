"""The five objectives: pairs of short pure functions of the per-sample terms, and GECO's multiplier.

Every loss is minimised; E_B is the mean over the images of a batch, mean_k the mean over an image's K samples. Each
`_backward` returns the gradient of the loss with respect to the terms. A sixth objective is one more pair, and one more
row of METHODS.
"""

from collections.abc import Callable
from typing import NamedTuple

from ref.densities import log_mean_exp, log_mean_exp_backward, softmax
from ref.vae import Terms


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
    return Terms(
        kl=beta * mean_backward(xp, terms.kl),
        log_px=-mean_backward(xp, terms.log_px),
    )


def geco_constraint(xp, terms, kappa):
    """C = E_B[ mean_k err_k ] − κ²: squared error per image above what κ tolerates. Rezende & Viola 2018, table 1."""
    return xp.mean(terms.err) - kappa**2


def geco(xp, terms, lam, kappa):
    """E_B[ KL ] + λ·C. Rezende & Viola 2018, equation 3; the slides' GECO."""
    return xp.mean(terms.kl) + lam * geco_constraint(xp, terms, kappa)


def geco_backward(xp, terms, lam, kappa):
    """d_kl = 1/B,  d_err = λ/(K·B): θ sees Ĉ's gradient alone, whatever moves λ"""
    return Terms(
        kl=mean_backward(xp, terms.kl),
        err=lam * mean_backward(xp, terms.err),
    )


def log_weight(log_px, terms):
    """log w_k = log p(x|z_k) + log p(z_k) − log q(z_k|x).   (K, B), nats"""
    return log_px + terms.log_pz - terms.log_qz


def iwae(xp, terms):
    """−L_K,  L_K = E_B[ log (1/K) Σ_k w_k ]. Burda et al. 2015, equation 8."""
    return -xp.mean(log_mean_exp(xp, log_weight(terms.log_px, terms)))


def iwae_backward(xp, terms):
    """−w̃_k/B for every log w_k. Burda et al. 2015, equation 14."""
    log_w = log_weight(terms.log_px, terms)
    d_log_w = log_mean_exp_backward(xp, -mean_backward(xp, terms.kl), log_w)
    return Terms(log_px=d_log_w, log_pz=d_log_w, log_qz=-d_log_w)


def geco_iwae_constraint(xp, terms, kappa):
    """C = E_B[ Σ_k w̃_k err_k ] − κ²: the expectation under q_IW, with log p(x|z) = −err. Cremer et al. 2017."""
    w = softmax(xp, log_weight(-terms.err, terms))
    return xp.mean(xp.sum(w * terms.err, axis=0)) - kappa**2


def geco_iwae(xp, terms, lam, kappa):
    """−L_K + (λ − 1)·E_B[ Σ_k w̃_k err_k ] − λκ², with log p(x|z) = −err. The slides' GECO + IWAE.

    It is KL(q_IW‖p) + λ·C, since L_K = E_{q_IW}[−err] − KL(q_IW‖p).
    """
    log_w = log_weight(-terms.err, terms)
    bound = xp.mean(log_mean_exp(xp, log_w))
    return -bound + (lam - 1) * geco_iwae_constraint(xp, terms, kappa) - kappa**2


def geco_iwae_backward(xp, terms, lam, kappa):
    """The gradient goes through w̃ too: d(Σ_j w̃_j err_j)/d log w_k = w̃_k (err_k − Σ_j w̃_j err_j)."""
    w = softmax(xp, log_weight(-terms.err, terms))
    batch_mean = mean_backward(xp, terms.kl)
    err = xp.sum(w * terms.err, axis=0)
    d_log_w = w * batch_mean * ((lam - 1) * (terms.err - err) - 1)
    d_err = (lam - 1) * w * batch_mean - d_log_w  # directly, and through log w = −err + …
    return Terms(err=d_err, log_pz=d_log_w, log_qz=-d_log_w)


def mean_backward(xp, term):
    """The gradient of a mean over all entries of `term`: 1/size everywhere."""
    return xp.full_like(term, 1 / term.size)


class Method(NamedTuple):
    """An objective: its loss and gradient, the constraint that drives λ (None without one), and what a user may set.

    `options` maps a name to its default (None: by data set) and meaning; loss, backward and constraint take them as
    keywords, and the first two `lam` too where there is a constraint. `samples` is the default K.
    """

    loss: Callable
    backward: Callable
    constraint: Callable | None
    options: dict[str, tuple[float | None, str]]
    samples: int
    about: str
    title: str


BETA = {"beta": (0.5, "β, the weight of the KL")}
KAPPA = {"kappa": (None, "κ, the tolerance on ‖x − x̂‖ per image: κ² of squared error")}

METHODS = {
    "vae": Method(vae, vae_backward, None, {}, 1, "the ELBO", "VAE"),
    "beta-vae": Method(beta_vae, beta_vae_backward, None, BETA, 1, "the ELBO with its KL weighted by β", "β-VAE"),
    "geco": Method(geco, geco_backward, geco_constraint, KAPPA, 1, "the least KL within a squared error of κ²", "GECO"),
    "iwae": Method(iwae, iwae_backward, None, {}, 5, "the importance-weighted bound of K samples", "IWAE"),
    "geco-iwae": Method(
        geco_iwae, geco_iwae_backward, geco_iwae_constraint, KAPPA, 5, "GECO under q_IW, of K samples", "GECO + IWAE"
    ),
}


MOVING_AVERAGE = 0.99  # α


def moving_average(xp, c_ma, c_hat, first):
    """C_ma starts at the first Ĉ, then C_ma ← α·C_ma + (1 − α)·Ĉ: the slides' algorithm 1. `first`: bool ()."""
    return xp.where(first, c_hat, MOVING_AVERAGE * c_ma + (1 - MOVING_AVERAGE) * c_hat)


def plain_multiplier(xp, log_lam, c_ma, kappa, rate, steps):
    """log λ ← log λ + η·C_ma, in squared error per image: the slides' algorithm 1 to the letter."""
    return log_lam + rate * c_ma


TRAVEL = 4  # how far log λ may go in a whole run: the guard of λ, e^±4 around where it started


def initial_multiplier(kappa: float) -> float:
    """λ₀ = d/(2κ²) with d = 16: what d Gaussian latents that share an error of κ² need."""
    return 8 / kappa**2


def relative_multiplier(xp, log_lam, c_ma, kappa, rate, steps):
    """log λ ← log λ + clip(η·C_ma/κ², −4/steps, 4/steps), the same direction as the plain rule.

    Relative, so it does not see the units of the pixels; bounded, so λ cannot run away while the network is young;
    and quick inside these bounds, so λ has settled when the run ends.
    """
    return log_lam + xp.clip(rate * c_ma / kappa**2, -TRAVEL / steps, TRAVEL / steps)


# Name: the rule, and its rate η by the steps of the run.
MULTIPLIERS = {
    "relative": (relative_multiplier, lambda steps: min(56 / steps, 0.01)),
    "plain": (plain_multiplier, lambda steps: 1e-3),
}
