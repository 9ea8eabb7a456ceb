"""The variational autoencoder: encode → reparameterize → decode → the per-sample terms, and its mirror image."""

from typing import Any, NamedTuple

from ref import densities as de
from ref import mlp as nn
from ref.elementwise import elementwise


class Model(NamedTuple):
    """The constants of a network. θ is not here: it is an argument.

    Without `whiten`, two MLPs: D, …, 2Z and Z, …, D. With it the network lives in M principal coordinates of unit
    variance, where squared errors are well conditioned, and its MLPs, M, …, 3Z and Z, …, 2M, shift and scale a linear
    path beside each of them; the variance outside these coordinates stays unexplained.
    """

    hidden: tuple[int, ...]  # the encoder's hidden layers; the decoder mirrors them
    latents: int  # Z
    activation: str  # a name in mlp.ACTIVATIONS
    sigmoid_output: bool  # x̂ = sigmoid(l), or x̂ = l
    likelihood: str  # "gaussian" or "bernoulli"
    variance: float  # σ² of the Gaussian likelihood
    center: Any  # (D,) the mean image, subtracted on the way into the encoder
    whiten: Any = None  # (D, M): the encoder sees (x − center)·whiten
    color: Any = None  # (M, D): the way back, l = center + (the decoder's coordinates)·color


class Terms(NamedTuple):
    """What every objective is made of. As a gradient, None says that the objective does not depend on the term."""

    kl: Any = None  # (B,)    KL(q(z|x)‖p(z)), closed form
    err: Any = None  # (K, B)  ‖x − x̂(z_k)‖²
    log_px: Any = None  # (K, B)  log p(x|z_k)
    log_pz: Any = None  # (K, B)  log p(z_k)
    log_qz: Any = None  # (K, B)  log q(z_k|x)


def joined(xp, parts: list[Terms]) -> Terms:
    """The terms of a batch from those of its parts."""
    if len(parts) == 1:
        return parts[0]
    return Terms(*(xp.concatenate(term, axis=-1) for term in zip(*parts, strict=True)))


def part_of(terms: Terms, images: slice) -> Terms:
    """The terms of some of the images."""
    return Terms(*(None if term is None else term[..., images] for term in terms))


def param_shapes(model: Model) -> tuple[dict, dict]:
    """Names and shapes of the encoder's and of the decoder's parameters, in the order in which they lie in θ."""
    pixels, z, inner = model.center.shape[0], model.latents, tuple(reversed(model.hidden))
    if model.whiten is None:
        return nn.layer_shapes((pixels, *model.hidden, 2 * z)), nn.layer_shapes((z, *inner, pixels))
    m = model.whiten.shape[1]
    encoder, decoder = nn.layer_shapes((m, *model.hidden, 3 * z)), nn.layer_shapes((z, *inner, 2 * m))
    return {**encoder, "linear": (m, z)}, {**decoder, "linear": (z, m)}


def params_of(model: Model, theta) -> dict[str, dict]:
    """θ, or its gradient, as {"encoder": {name: view}, "decoder": {name: view}}."""
    encoder, decoder = param_shapes(model)
    return {
        "encoder": nn.views(theta, encoder),
        "decoder": nn.views(theta[nn.size(encoder) :], decoder),
    }


def encode(xp, model: Model, params, x):
    """q(z|x) = N(mean, diag std²).   (B, D) -> (B, Z), (B, Z), cache"""
    p, u, z, path = params["encoder"], x - model.center, model.latents, None
    if model.whiten is not None:
        u = xp.matmul(u, model.whiten)  # (B, D) @ (D, M)
    out, cache = nn.mlp(xp, p, model.activation, u)
    mean, log_std = out[:, :z], out[:, z : 2 * z]
    if model.whiten is not None:
        mean, path = nn.gated_linear(xp, u, p["linear"], mean, out[:, 2 * z :])
    return mean, log_std, (cache, u, path)


def encode_backward(xp, model: Model, params, cache, d_mean, d_log_std, d_params) -> None:
    """(B, Z), (B, Z) -> the encoder's part of `d_params`"""
    (cache, u, path), p, d_p = cache, params["encoder"], d_params["encoder"]
    d_out = [d_mean, d_log_std]
    if path is not None:
        _, _, d_gate = nn.gated_linear_backward(xp, d_mean, u, p["linear"], path, d_p["linear"])
        d_out.append(d_gate)
    nn.mlp_backward(xp, xp.concatenate(d_out, axis=1), p, cache, d_p, input_gradient=False)


@elementwise
def reparameterize(xp, mean, log_std, eps):
    """z = mean + std·eps.   (B, Z), (B, Z), (K, B, Z) -> (K, B, Z)"""
    return mean + xp.exp(log_std) * eps


def reparameterize_backward(xp, d_z, log_std, eps):
    """d_mean = Σ_K d_z,  d_log_std = Σ_K d_z·std·eps.   (K, B, Z) -> (B, Z), (B, Z)"""
    return xp.sum(d_z, axis=0), xp.sum(d_z * eps, axis=0) * xp.exp(log_std)


def decode(xp, model: Model, params, z):
    """x̂ and the logits l that it comes from.   (K, B, Z) -> (K, B, D), (K, B, D), cache"""
    p, flat_z, path = params["decoder"], z.reshape(-1, model.latents), None  # (K·B, Z)
    out, cache = nn.mlp(xp, p, model.activation, flat_z)
    if model.whiten is not None:
        m = model.whiten.shape[1]
        out, path = nn.gated_linear(xp, flat_z, p["linear"], out[:, :m], out[:, m:])
        out = model.center + xp.matmul(out, model.color)  # (K·B, M) @ (M, D)
    logits = out.reshape(*z.shape[:-1], -1)
    return (nn.sigmoid(xp, logits) if model.sigmoid_output else logits), logits, (cache, flat_z, path)


def decode_backward(xp, model: Model, params, cache, d_logits, d_params):
    """(K, B, D) -> d_z (K, B, Z), and the decoder's part of `d_params`"""
    (cache, flat_z, path), p, d_p = cache, params["decoder"], d_params["decoder"]
    d_out, d_linear_z = d_logits.reshape(-1, d_logits.shape[-1]), None
    if path is not None:
        d_out = xp.matmul(d_out, model.color.T)  # (K·B, D) @ (D, M)
        d_linear_z, *d_out = nn.gated_linear_backward(xp, d_out, flat_z, p["linear"], path, d_p["linear"])
        d_out = xp.concatenate(d_out, axis=1)
    d_z = total(nn.mlp_backward(xp, d_out, p, cache, d_p), d_linear_z)
    return d_z.reshape(*d_logits.shape[:-1], model.latents)


def likelihood(xp, model: Model, x, x_hat, logits):
    """err and log p(x|z).   (B, D), (K, B, D), (K, B, D) -> (K, B), (K, B)"""
    err = de.squared_error(xp, x, x_hat)
    if model.likelihood == "bernoulli":
        return err, de.bernoulli_log_likelihood(xp, x, logits)
    return err, de.gaussian_log_likelihood(err, x.shape[-1], model.variance)


def likelihood_backward(xp, model: Model, d_err, d_log_px, x, x_hat):
    """(K, B), (K, B) -> d_l (K, B, D); either gradient may be None."""
    direct, through_err = None, None
    if d_log_px is not None and model.likelihood == "bernoulli":
        direct = de.bernoulli_log_likelihood_backward(xp, d_log_px, x, x_hat)
    elif d_log_px is not None:
        d_err = total(d_err, de.gaussian_log_likelihood_backward(d_log_px, model.variance))
    if d_err is not None:
        d_x_hat = de.squared_error_backward(xp, d_err, x, x_hat)
        through_err = nn.sigmoid_backward(xp, d_x_hat, x_hat) if model.sigmoid_output else d_x_hat
    return total(direct, through_err)


def total(*gradients):
    """The sum of the gradients that arrive by several ways; None is a way that is not there."""
    first, *others = [d for d in gradients if d is not None]
    return sum(others, first)


def sample_terms(xp, model: Model, params, x, mean, log_std, eps):
    """The terms of K samples z = mean + std·eps.   (B, D), (B, Z), (B, Z), (K, B, Z) -> Terms, cache"""
    z = reparameterize(xp, mean, log_std, eps)
    x_hat, logits, cache = decode(xp, model, params, z)
    err, log_px = likelihood(xp, model, x, x_hat, logits)
    kl = de.gaussian_kl(xp, mean, log_std)
    terms = Terms(kl, err, log_px, de.normal_log_density(xp, z), de.posterior_log_density(xp, eps, log_std))
    return terms, (x, mean, log_std, eps, z, x_hat, cache)


def forward(xp, model: Model, params, x, eps):
    """Images and noise -> Terms, cache.   (B, D), (K, B, Z) -> five arrays (B,) or (K, B)"""
    mean, log_std, encoder_cache = encode(xp, model, params, x)
    terms, cache = sample_terms(xp, model, params, x, mean, log_std, eps)
    return terms, (encoder_cache, *cache)


def backward(xp, model: Model, params, cache, d: Terms, d_params) -> None:
    """The mirror image of `forward`: the gradient d of a loss with respect to the terms -> `d_params`."""
    encoder_cache, x, mean, log_std, eps, z, x_hat, decoder_cache = cache
    d_logits = likelihood_backward(xp, model, d.err, d.log_px, x, x_hat)
    d_z = decode_backward(xp, model, params, decoder_cache, d_logits, d_params)
    if d.log_pz is not None:
        d_z = d_z + de.normal_log_density_backward(d.log_pz, z)
    d_mean, d_log_std = reparameterize_backward(xp, d_z, log_std, eps)
    if d.log_qz is not None:
        d_log_std = d_log_std + de.posterior_log_density_backward(xp, d.log_qz, log_std)
    if d.kl is not None:
        kl_mean, kl_log_std = de.gaussian_kl_backward(xp, d.kl, mean, log_std)
        d_mean, d_log_std = d_mean + kl_mean, d_log_std + kl_log_std
    encode_backward(xp, model, params, encoder_cache, d_mean, d_log_std, d_params)
