"""The variational autoencoder: encode → reparameterize → decode → the terms, and its mirror image."""

from typing import Any, NamedTuple

from ref import densities as de
from ref import mlp as nn
from ref.elementwise import elementwise


class Model(NamedTuple):
    """The constants of a network. θ is not here: it is an argument."""

    network: Any  # the module ref.mlp, or ref.more.principal
    hidden: tuple[int, ...]  # the encoder's hidden layers; the decoder mirrors them
    latents: int  # Z
    activation: str  # a name in mlp.ACTIVATIONS
    sigmoid_output: bool  # x̂ = sigmoid(l), which the Bernoulli likelihood needs, or x̂ = l
    likelihood: str  # a name in densities.LIKELIHOODS
    variance: float  # σ² of the Gaussian likelihood
    center: Any  # (D,) the mean image, subtracted on the way into the encoder
    whiten: Any = None  # (D, M) principal coordinates of unit variance, for ref.more.principal
    color: Any = None  # (M, D) the way back from them


class Terms(NamedTuple):
    """What every objective is made of."""

    kl: Any  # (B,)    KL(q(z|x)‖p(z)), closed form
    err: Any  # (K, B)  ‖x − x̂(z_k)‖²
    log_px: Any  # (K, B)  log p(x|z_k)
    log_pz: Any  # (K, B)  log p(z_k)
    log_qz: Any  # (K, B)  log q(z_k|x)


class Gradient(NamedTuple):
    """The gradient of a loss by the terms, None where there is none. The last two are DReG's."""

    kl: Any = None
    err: Any = None
    log_px: Any = None
    log_pz: Any = None
    log_qz: Any = None
    log_qz_of_z: Any = None  # of log q(z_k|x) as a function of z_k alone, q held fixed
    to_encoder: Any = None  # (K, B) multiplies what goes from z_k on into the encoder


def params_of(model: Model, theta) -> dict[str, dict]:
    """θ, or its gradient, as {"encoder": {name: view}, "decoder": {name: view}}."""
    encoder, decoder = model.network.shapes(model)
    return {"encoder": nn.views(theta, encoder), "decoder": nn.views(theta[nn.size(encoder) :], decoder)}


@elementwise
def reparameterize(xp, mean, log_std, eps):
    """z = mean + std·eps.   (B, Z), (B, Z), (K, B, Z) -> (K, B, Z)"""
    return mean + xp.exp(log_std) * eps


def reparameterize_backward(xp, d_z, log_std, eps):
    """d_mean = Σ_K d_z,  d_log_std = Σ_K d_z·std·eps.   (K, B, Z) -> (B, Z), (B, Z)"""
    return xp.sum(d_z, axis=0), xp.sum(d_z * eps, axis=0) * xp.exp(log_std)


def decode(xp, model: Model, params, z):
    """x̂ and the logits l that it comes from.   (K, B, Z) -> (K, B, D), (K, B, D), cache"""
    out, cache = model.network.decode(xp, model, params["decoder"], z.reshape(-1, model.latents))  # (K·B, D)
    logits = out.reshape(*z.shape[:-1], -1)
    return (nn.sigmoid(xp, logits) if model.sigmoid_output else logits), logits, cache


def decode_backward(xp, model: Model, params, cache, d_logits, d_params):
    """(K, B, D) -> d_z (K, B, Z), and the decoder's part of `d_params`"""
    d_out = d_logits.reshape(-1, d_logits.shape[-1])  # (K·B, D)
    d_z = model.network.decode_backward(xp, model, params["decoder"], cache, d_out, d_params["decoder"])
    return d_z.reshape(*d_logits.shape[:-1], model.latents)


def likelihood(xp, model: Model, x, x_hat, logits):
    """err and log p(x|z), and what they are functions of.   (B, D), … -> (K, B), (K, B), Decoded"""
    row = de.LIKELIHOODS[model.likelihood]
    assert model.sigmoid_output or not row.of_logits, f"{model.likelihood} needs x̂ = sigmoid(l)"
    decoded = de.Decoded(logits, x_hat, de.squared_error(xp, x, x_hat))
    return decoded.err, row.log_density(xp, x, decoded, model.variance), decoded


def likelihood_backward(xp, model: Model, d: Gradient, x, decoded):
    """The ways from err and from log p(x|z) back to the logits, added up.   -> d_l (K, B, D)"""
    row, to_x_hat, to_logits = de.LIKELIHOODS[model.likelihood], [], []
    if d.err is not None:
        to_x_hat.append(de.squared_error_backward(xp, d.err[..., None], x, decoded.x_hat))
    if d.log_px is not None:
        ways = to_logits if row.of_logits else to_x_hat
        ways.append(row.backward(xp, d.log_px, x, decoded, model.variance))
    if model.sigmoid_output:
        to_x_hat = [nn.sigmoid_backward(xp, d_x_hat, decoded.x_hat) for d_x_hat in to_x_hat]
    first, *others = to_x_hat + to_logits
    return sum(others, first)


def sample_terms(xp, model: Model, params, x, mean, log_std, eps):
    """The terms of K samples z = mean + std·eps of each image.   (K, B, Z) -> Terms, cache"""
    z = reparameterize(xp, mean, log_std, eps)
    x_hat, logits, cache = decode(xp, model, params, z)
    err, log_px, decoded = likelihood(xp, model, x, x_hat, logits)
    kl = de.gaussian_kl(xp, mean, log_std)
    terms = Terms(kl, err, log_px, de.normal_log_density(xp, z), de.posterior_log_density(xp, eps, log_std))
    return terms, (x, mean, log_std, eps, z, decoded, cache)


def forward(xp, model: Model, params, x, eps):
    """Images and noise -> Terms, cache.   (B, D), (K, B, Z) -> five arrays (B,) or (K, B)"""
    mean, log_std, encoder_cache = model.network.encode(xp, model, params["encoder"], x)  # q(z|x): (B, Z), (B, Z)
    terms, cache = sample_terms(xp, model, params, x, mean, log_std, eps)
    return terms, (encoder_cache, *cache)


def backward(xp, model: Model, params, cache, d: Gradient, d_params) -> None:
    """The mirror image of `forward`: the gradient d of a loss by the terms -> `d_params`."""
    encoder_cache, x, mean, log_std, eps, z, decoded, decoder_cache = cache
    d_logits = likelihood_backward(xp, model, d, x, decoded)
    d_z = decode_backward(xp, model, params, decoder_cache, d_logits, d_params)
    if d.log_pz is not None:
        d_z = d_z + de.normal_log_density_backward(d.log_pz, z)
    if d.log_qz_of_z is not None:
        d_z = d_z + de.log_density_of_sample_backward(xp, d.log_qz_of_z, eps, log_std)
    if d.to_encoder is not None:
        d_z = d_z * d.to_encoder[..., None]
    d_mean, d_log_std = reparameterize_backward(xp, d_z, log_std, eps)
    if d.log_qz is not None:
        d_log_std = d_log_std + de.posterior_log_density_backward(xp, d.log_qz, log_std)
    if d.kl is not None:
        kl_mean, kl_log_std = de.gaussian_kl_backward(xp, d.kl[:, None], mean, log_std)
        d_mean, d_log_std = d_mean + kl_mean, d_log_std + kl_log_std
    model.network.encode_backward(xp, model, params["encoder"], encoder_cache, d_mean, d_log_std, d_params["encoder"])
