"""A network in principal coordinates u = (x − center)·whiten: an MLP shifts and gates a linear path.

u has unit variance; the variance outside of it stays unexplained. linear.py starts at the best linear VAE.
"""

from ref import mlp as nn
from ref.elementwise import elementwise


def shapes(model) -> tuple[dict, dict]:
    """As `mlp.shapes`, for M, …, 3Z and Z, …, 2M, and the weights of the two linear paths."""
    z, m, inner = model.latents, model.whiten.shape[1], tuple(reversed(model.hidden))
    encoder, decoder = nn.layer_shapes((m, *model.hidden, 3 * z)), nn.layer_shapes((z, *inner, 2 * m))
    return {**encoder, "linear": (m, z)}, {**decoder, "linear": (z, m)}


def encode(xp, model, p, x):
    """(shift, log std, gate logit) = MLP(u), mean = shift + gate·(u·linear).   (B, D) -> (B, Z), (B, Z), cache"""
    z, u = model.latents, xp.matmul(x - model.center, model.whiten)  # (B, D) @ (D, M)
    out, cache = nn.mlp(xp, p, model.activation, u)  # (B, M) -> (B, 3Z)
    linear = xp.matmul(u, p["linear"])  # (B, M) @ (M, Z)
    mean, gate = gated(xp, linear, out[:, :z], out[:, 2 * z :])
    return mean, out[:, z : 2 * z], (cache, u, linear, gate)


def encode_backward(xp, model, p, cache, d_mean, d_log_std, d_p) -> None:
    """(B, Z), (B, Z) -> None; writes d_p"""
    mlp_cache, u, linear, gate = cache
    d_linear, d_gate_logit = gated_backward(xp, d_mean, linear, gate)
    xp.matmul(u.T, d_linear, out=d_p["linear"])  # (M, B) @ (B, Z)
    d_out = xp.concatenate([d_mean, d_log_std, d_gate_logit], axis=1)
    nn.mlp_backward(xp, d_out, p, mlp_cache, d_p, input_gradient=False)


def decode(xp, model, p, z):
    """(shift, gate logit) = MLP(z), l = center + (shift + gate·(z·linear))·color.   (N, Z) -> (N, D), cache"""
    m = model.whiten.shape[1]
    out, cache = nn.mlp(xp, p, model.activation, z)  # (N, Z) -> (N, 2M)
    linear = xp.matmul(z, p["linear"])  # (N, Z) @ (Z, M)
    coordinates, gate = gated(xp, linear, out[:, :m], out[:, m:])
    return model.center + xp.matmul(coordinates, model.color), (cache, z, linear, gate)  # (N, M) @ (M, D)


def decode_backward(xp, model, p, cache, d_logits, d_p):
    """(N, D) -> d_z (N, Z); writes d_p"""
    mlp_cache, z, linear, gate = cache
    d_coordinates = xp.matmul(d_logits, model.color.T)  # (N, D) @ (D, M)
    d_linear, d_gate_logit = gated_backward(xp, d_coordinates, linear, gate)
    xp.matmul(z.T, d_linear, out=d_p["linear"])  # (Z, N) @ (N, M)
    d_z = xp.matmul(d_linear, p["linear"].T)  # (N, M) @ (M, Z)
    return nn.mlp_backward(xp, xp.concatenate([d_coordinates, d_gate_logit], axis=1), p, mlp_cache, d_p) + d_z


@elementwise
def gated(xp, linear, shift, gate_logit):
    """shift + gate·linear, and gate = 2·sigmoid(gate_logit): 1 where the MLP is silent, and bounded"""
    gate = 2 * nn.sigmoid(xp, gate_logit)
    return shift + gate * linear, gate


@elementwise
def gated_backward(xp, d_out, linear, gate):
    """d_linear and d_gate_logit: d gate/d logit = gate·(1 − gate/2); d_shift is d_out"""
    d_linear = d_out * gate
    return d_linear, d_linear * linear * (1 - 0.5 * gate)
