"""The oracle: a hand-derived gradient against what autograd makes of the forward pass, in float64.

The gradient is computed on the backend under test, the oracle on the host.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import autograd
import autograd.numpy as anp
import numpy as np

from ref import vae
from ref.objectives import METHODS
from tests.small import NOW, options_of
from tests.tested import NAME, compute, device, host, xp

TOLERANCE = 1e-9 if NAME == "cupy" else 1e-10  # a GPU sums in another order


class Pair(NamedTuple):
    """forward(xp, *inputs, *constants) -> array; backward(xp, d_out, *inputs, *constants) -> the inputs' gradients."""

    forward: Callable
    backward: Callable
    inputs: list
    constants: tuple = ()


def relative_error(actual, expected) -> float:
    """‖actual − expected‖ / ‖expected‖, with a floor so that a gradient of zero can be met."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-12))


def check(actual, expected, what: str = "gradient") -> None:
    """Fails unless the two agree to 1e-10 relative, on a GPU to 1e-9; NaN never agrees."""
    error = relative_error(actual, expected)
    assert error <= TOLERANCE, f"{what}: relative error {error:.3g}"


def residuals(pair: Pair) -> list[float]:
    """The relative error of each input's gradient of Σ d_out·forward, with d_out random."""
    forward, backward, inputs, constants = pair
    out = forward(np, *inputs, *constants)
    d_out = np.random.default_rng(0).normal(size=np.shape(out))
    check(compute(forward, *inputs, *constants), out, "the forward pass")
    gradients = compute(backward, d_out, *inputs, *constants)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)

    def scalar(*args):
        return anp.sum(d_out * forward(anp, *args, *constants))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Output seems independent of input")  # as an objective of a term
        oracles = [autograd.grad(scalar, i)(*inputs) for i in range(len(inputs))]
    return [relative_error(*both) for both in zip(gradients, oracles, strict=True)]


def check_pair(pair: Pair) -> None:
    """Fails unless every gradient of the pair is autograd's."""
    for i, error in enumerate(residuals(pair)):
        assert error <= TOLERANCE, f"gradient {i}: relative error {error:.3g}"


def objective(name: str, model: vae.Model, theta, x, eps, xp=anp, now=NOW):
    """The loss of a method as a function of θ, and the terms and the cache of its backward pass."""
    terms, cache = vae.forward(xp, model, vae.params_of(model, theta), x, eps)
    return METHODS[name].loss(xp, terms, now, **options_of(name)), (terms, cache)


def gradient_of_terms(name: str, xp, terms, now=NOW) -> vae.Gradient:
    """The gradient by hand of a method's loss with respect to the terms."""
    return METHODS[name].backward(xp, terms, now, **options_of(name))


def hand_loss_and_gradient(name: str, model: vae.Model, theta, x, eps, now=NOW):
    """The loss and its gradient by hand, on the backend under test; every entry is written, or NaN."""
    model, theta, x, eps = device((model, theta, x, eps))
    loss, (terms, cache) = objective(name, model, theta, x, eps, xp, now)
    gradient = xp.full_like(theta, np.nan)
    d = gradient_of_terms(name, xp, terms, now)
    vae.backward(xp, model, vae.params_of(model, theta), cache, d, vae.params_of(model, gradient))
    return host((loss, gradient))
