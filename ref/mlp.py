"""The multilayer perceptron, whose parameters W0, b0, W1, b1, … are views of θ; the plain network is two."""

import math
from itertools import pairwise

from ref.elementwise import elementwise


def layer_shapes(sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of an MLP whose layers have `sizes`, input first."""
    shapes = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        shapes |= {f"W{i}": (fan_in, fan_out), f"b{i}": (fan_out,)}
    return shapes


def views(theta, shapes: dict[str, tuple[int, ...]]) -> dict:
    """The flat vector θ cut into arrays by name, in the order of `shapes`, without copies: writing there writes θ."""
    arrays, start = {}, 0
    for name, shape in shapes.items():
        arrays[name] = theta[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
    return arrays


def size(shapes: dict[str, tuple[int, ...]]) -> int:
    """How many numbers `shapes` holds."""
    return sum(math.prod(shape) for shape in shapes.values())


@elementwise
def sigmoid(xp, a):
    """1/(1 + e^−a), written with tanh because that cannot overflow."""
    return 0.5 * xp.tanh(0.5 * a) + 0.5


@elementwise
def sigmoid_backward(xp, d_s, s):
    """d_a = d_s·s·(1 − s), s = sigmoid(a)"""
    return d_s * (s * (1 - s))


@elementwise
def relu(xp, product, bias):
    """max(a, 0), and its slope: 1 where a > 0, else 0"""
    a = product + bias
    return xp.maximum(a, 0), a > 0


@elementwise
def tanh(xp, product, bias):
    """h = tanh a, and its slope 1 − h²"""
    h = xp.tanh(product + bias)
    return h, 1 - h * h


@elementwise
def silu(xp, product, bias):
    """h = a·s, s = sigmoid(a), and its slope s + h·(1 − s). Hendrycks & Gimpel 2016."""
    a = product + bias
    s = sigmoid(xp, a)
    h = a * s
    return h, s + h * (1 - s)


ACTIVATIONS = {"silu": silu, "tanh": tanh, "relu": relu}


def mlp(xp, params: dict, activation: str, x):
    """h₀ = x,  a_i = h_i·W_i + b_i,  h_{i+1} = activation(a_i);  a_last.   (N, in) -> (N, out), cache"""
    last = sum(name.startswith("W") for name in params) - 1
    hs, slopes = [x], []
    for i in range(last):
        product = xp.matmul(hs[-1], params[f"W{i}"])  # (N, fan_in) @ (fan_in, fan_out)
        h, slope = ACTIVATIONS[activation](xp, product, params[f"b{i}"])
        hs.append(h)
        slopes.append(slope)
    out = xp.matmul(hs[-1], params[f"W{last}"]) + params[f"b{last}"]
    return out, (hs, slopes)


def mlp_backward(xp, d_out, params: dict, cache, d_params: dict, input_gradient: bool = True):
    """The mirror image: writes `d_params`, returns d_x, which images do not need.   (N, out) -> (N, in)"""
    hs, slopes = cache
    d_h = d_out
    for i in reversed(range(len(hs))):
        d_a = d_h * slopes[i] if i < len(slopes) else d_h
        xp.matmul(hs[i].T, d_a, out=d_params[f"W{i}"])  # (fan_in, N) @ (N, fan_out)
        xp.sum(d_a, axis=0, out=d_params[f"b{i}"])
        if i > 0 or input_gradient:
            d_h = xp.matmul(d_a, params[f"W{i}"].T)  # (N, fan_out) @ (fan_out, fan_in)
    return d_h if input_gradient else None


def shapes(model) -> tuple[dict, dict]:
    """The shapes of the encoder, D, …, 2Z, and of the decoder, Z, …, D, in the order of θ."""
    pixels, inner = model.center.shape[0], tuple(reversed(model.hidden))
    encoder = layer_shapes((pixels, *model.hidden, 2 * model.latents))
    return encoder, layer_shapes((model.latents, *inner, pixels))


def encode(xp, model, p, x):
    """(mean, log std) = MLP(x − the mean image).   (B, D) -> (B, Z), (B, Z), cache"""
    out, cache = mlp(xp, p, model.activation, x - model.center)  # (B, D) -> (B, 2Z)
    return out[:, : model.latents], out[:, model.latents :], cache


def encode_backward(xp, model, p, cache, d_mean, d_log_std, d_p) -> None:
    """(B, Z), (B, Z) -> None; writes d_p"""
    mlp_backward(xp, xp.concatenate([d_mean, d_log_std], axis=1), p, cache, d_p, input_gradient=False)


def decode(xp, model, p, z):
    """l = MLP(z).   (N, Z) -> (N, D), cache"""
    return mlp(xp, p, model.activation, z)


def decode_backward(xp, model, p, cache, d_logits, d_p):
    """(N, D) -> d_z (N, Z); writes d_p"""
    return mlp_backward(xp, d_logits, p, cache, d_p)
