"""The oracle: a hand-derived gradient against what autograd makes of the forward pass, in float64.

The gradient is computed on the backend under test, the oracle on the host.
"""

import autograd
import autograd.numpy as anp
import numpy as np

from tests.tested import NAME, compute

TOLERANCE = 1e-9 if NAME == "cupy" else 1e-10  # a GPU sums in another order


def relative_error(actual, expected) -> float:
    """‖actual − expected‖ / ‖expected‖, with a floor so that a gradient of zero can be met."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-12))


def check(actual, expected, what: str = "gradient") -> None:
    """Fails unless the two agree to 1e-10 relative, on a GPU to 1e-9; NaN never agrees."""
    error = relative_error(actual, expected)
    assert error <= TOLERANCE, f"{what}: relative error {error:.3g}"


def check_pair(forward, backward, inputs: list[np.ndarray], constants=(), seed: int = 0) -> None:
    """forward(xp, *inputs, *constants) -> array, backward(xp, d_out, *inputs, *constants) -> the inputs' gradients.

    d_out is random.
    """
    out = forward(np, *inputs, *constants)
    d_out = np.random.default_rng(seed).normal(size=np.shape(out))
    check(compute(forward, *inputs, *constants), out, "the forward pass")
    gradients = compute(backward, d_out, *inputs, *constants)
    for i, gradient in enumerate(gradients if isinstance(gradients, tuple) else (gradients,)):
        oracle = autograd.grad(lambda *args: anp.sum(d_out * forward(anp, *args, *constants)), i)(*inputs)
        check(gradient, oracle, f"gradient {i}")
