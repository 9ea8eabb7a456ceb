"""Two multilayer perceptrons: one of sizes D, …, 2Z encodes, and its mirror image Z, …, D decodes."""

from ref import mlp as nn


def shapes(model) -> tuple[dict, dict]:
    """Names and shapes of the encoder's and of the decoder's parameters, in the order in which they lie in θ."""
    pixels, inner = model.center.shape[0], tuple(reversed(model.hidden))
    encoder = nn.layer_shapes((pixels, *model.hidden, 2 * model.latents))
    return encoder, nn.layer_shapes((model.latents, *inner, pixels))


def encode(xp, model, p, x):
    """(mean, log std) = MLP(x − the mean image).   (B, D) -> (B, Z), (B, Z), cache"""
    out, cache = nn.mlp(xp, p, model.activation, x - model.center)  # (B, D) -> (B, 2Z)
    return out[:, : model.latents], out[:, model.latents :], cache


def encode_backward(xp, model, p, cache, d_mean, d_log_std, d_p) -> None:
    """(B, Z), (B, Z) -> d_p"""
    nn.mlp_backward(xp, xp.concatenate([d_mean, d_log_std], axis=1), p, cache, d_p, input_gradient=False)


def decode(xp, model, p, z):
    """l = MLP(z).   (N, Z) -> (N, D), cache"""
    return nn.mlp(xp, p, model.activation, z)


def decode_backward(xp, model, p, cache, d_logits, d_p):
    """(N, D) -> d_z (N, Z), and d_p"""
    return nn.mlp_backward(xp, d_logits, p, cache, d_p)
