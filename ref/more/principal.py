"""A network in M principal coordinates u = (x − center)·whiten of the images: an MLP shifts and gates a linear path.

The coordinates have unit variance, which conditions the squared error well; the variance outside them stays
unexplained. The MLPs have the sizes M, …, 3Z and Z, …, 2M. `ref.more.linear` starts the path at the best linear VAE.
"""

from ref import mlp as nn
from ref.elementwise import elementwise


def shapes(model) -> tuple[dict, dict]:
    """Names and shapes of the encoder's and of the decoder's parameters, in the order in which they lie in θ."""
    z, m, inner = model.latents, model.whiten.shape[1], tuple(reversed(model.hidden))
    encoder, decoder = nn.layer_shapes((m, *model.hidden, 3 * z)), nn.layer_shapes((z, *inner, 2 * m))
    return {**encoder, "linear": (m, z)}, {**decoder, "linear": (z, m)}


def encode(xp, model, p, x):
    """(shift, log std, gate logit) = MLP(u), mean = shift + gate·(u·linear).   (B, D) -> (B, Z), (B, Z), cache"""
    z, u = model.latents, xp.matmul(x - model.center, model.whiten)  # (B, D) @ (D, M)
    out, cache = nn.mlp(xp, p, model.activation, u)  # (B, M) -> (B, 3Z)
    mean, path = gated_linear(xp, u, p["linear"], out[:, :z], out[:, 2 * z :])
    return mean, out[:, z : 2 * z], (cache, u, path)


def encode_backward(xp, model, p, cache, d_mean, d_log_std, d_p) -> None:
    """(B, Z), (B, Z) -> None; writes d_p"""
    mlp_cache, u, path = cache
    of_images = gated_linear_backward(xp, d_mean, u, p["linear"], path, d_p["linear"], input_gradient=False)
    _, d_shift, d_gate_logit = of_images
    d_out = xp.concatenate([d_shift, d_log_std, d_gate_logit], axis=1)
    nn.mlp_backward(xp, d_out, p, mlp_cache, d_p, input_gradient=False)


def decode(xp, model, p, z):
    """(shift, gate logit) = MLP(z), l = center + (shift + gate·(z·linear))·color.   (N, Z) -> (N, D), cache"""
    m = model.whiten.shape[1]
    out, cache = nn.mlp(xp, p, model.activation, z)  # (N, Z) -> (N, 2M)
    coordinates, path = gated_linear(xp, z, p["linear"], out[:, :m], out[:, m:])
    return model.center + xp.matmul(coordinates, model.color), (cache, z, path)  # (N, M) @ (M, D)


def decode_backward(xp, model, p, cache, d_logits, d_p):
    """(N, D) -> d_z (N, Z); writes d_p"""
    mlp_cache, z, path = cache
    d_coordinates = xp.matmul(d_logits, model.color.T)  # (N, D) @ (D, M)
    d_z, *d_out = gated_linear_backward(xp, d_coordinates, z, p["linear"], path, d_p["linear"])
    return nn.mlp_backward(xp, xp.concatenate(d_out, axis=1), p, mlp_cache, d_p) + d_z


def gated_linear(xp, u, weights, shift, gate_logit):
    """shift + gate·(u·weights), gate = 2·sigmoid(gate_logit): 1 where the MLP is silent, and bounded.

    (N, in), (in, out), (N, out), (N, out) -> (N, out) and the cache: u·weights and the gate.
    """
    linear = xp.matmul(u, weights)
    out, gate = gated(xp, linear, shift, gate_logit)
    return out, (linear, gate)


@elementwise
def gated(xp, linear, shift, gate_logit):
    """shift + gate·linear, and the gate"""
    gate = 2 * nn.sigmoid(xp, gate_logit)
    return shift + gate * linear, gate


def gated_linear_backward(xp, d_out, u, weights, cache, d_weights, input_gradient: bool = True):
    """d_u, which images do not need, d_shift, d_gate_logit; writes d_weights.   (N, out) -> (N, in), twice (N, out)"""
    d_linear, d_gate_logit = gated_backward(xp, d_out, *cache)
    xp.matmul(u.T, d_linear, out=d_weights)  # (in, N) @ (N, out)
    d_u = xp.matmul(d_linear, weights.T) if input_gradient else None
    return d_u, d_out, d_gate_logit


@elementwise
def gated_backward(xp, d_out, linear, gate):
    """d_linear and d_gate_logit: d gate/d logit = gate·(1 − gate/2)"""
    d_linear = d_out * gate
    return d_linear, d_linear * linear * (1 - 0.5 * gate)
