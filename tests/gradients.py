"""The oracle: a hand-derived gradient against what autograd makes of the forward pass, in float64.

The gradient is computed on the backend under test, the oracle on the host.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from ref import vae
from ref.objectives import METHODS
from tests.small import NOW, options_of
from tests.tested import NAME, compute, device, host, xp

TOLERANCE = 1e-9 if NAME == "cupy" else 1e-10  # a GPU sums in another order
ADVICE = "python -m tests.by_hand says which function is wrong"
tested_pairs: set[str] = set()  # those with a test of their own in this session: conftest.py notes them


class Pair(NamedTuple):
    """forward(xp, *inputs, *constants) -> array; backward(xp, d_out, *inputs, *constants) -> the inputs' gradients."""

    forward: Callable
    backward: Callable
    inputs: list
    constants: tuple = ()

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """What forward gives on the host, and a random d_out."""
        out = self.forward(np, *self.inputs, *self.constants)
        return out, np.random.default_rng(0).normal(size=np.shape(out))


def relative_error(actual, expected, floor: float = 1e-12) -> float:
    """‖actual − expected‖ / ‖expected‖, with a floor so that a gradient of zero can be met."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), floor))


def check(actual, expected, what: str = "gradient", floor: float = 1e-12) -> None:
    """Fails unless the two agree to 1e-10 relative, on a GPU to 1e-9; NaN never agrees."""
    error = relative_error(actual, expected, floor)
    if not error <= TOLERANCE:
        fail(f"{what}: relative error {error:.3g}; {ADVICE}")


def fail(message: str, own: str = "") -> None:
    """Fails, but as an expected failure where the test of another pair than `own` fails and says why.

    So a wrong line in one function makes one red test, and not all the tests of what calls it.
    """
    from tests.by_hand import culprits  # which is built on this module

    for culprit, why in culprits().items():
        if culprit != own and culprit in tested_pairs:
            pytest.xfail(why)
    raise AssertionError(message)


def residuals(pair: Pair) -> list[float]:
    """The relative error of each input's gradient of Σ d_out·forward, with d_out random."""
    forward, backward, inputs, constants = pair
    out, d_out = pair.output()
    assert relative_error(compute(forward, *inputs, *constants), out) <= TOLERANCE, "the forward pass is not NumPy's"
    gradients = compute(backward, d_out, *inputs, *constants)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)

    def scalar(*args):
        return anp.sum(d_out * forward(anp, *args, *constants))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Output seems independent of input")  # as an objective of a term
        oracles = [autograd.grad(scalar, i)(*inputs) for i in range(len(inputs))]
    return [relative_error(*both) for both in zip(gradients, oracles, strict=True)]


def objective(name: str, model: vae.Model, theta, x, eps, xp=anp, now=NOW):
    """The loss of a method as a function of θ, and the terms and the cache of its backward pass."""
    terms, cache = vae.forward(xp, model, vae.params_of(model, theta), x, eps)
    return METHODS[name].loss(xp, terms, now, **options_of(name)), (terms, cache)


def gradient_of_terms(name: str, xp, terms, now=NOW) -> vae.Gradient:
    """The gradient by hand of a method's loss by the terms."""
    return METHODS[name].backward(xp, terms, now, **options_of(name))


def hand_loss_and_gradient(name: str, model: vae.Model, theta, x, eps, now=NOW):
    """The loss and its gradient by hand, on the backend under test; every entry is written, or NaN."""
    model, theta, x, eps = device((model, theta, x, eps))
    loss, (terms, cache) = objective(name, model, theta, x, eps, xp, now)
    gradient = xp.full_like(theta, np.nan)
    d = gradient_of_terms(name, xp, terms, now)
    vae.backward(xp, model, vae.params_of(model, theta), cache, d, vae.params_of(model, gradient))
    return host((loss, gradient))
