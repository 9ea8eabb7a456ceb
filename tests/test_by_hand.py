"""Start here: the gradient by hand is the one that automatic differentiation finds, for two of the objectives."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from ref import mlp, objectives, vae

MODEL = vae.Model(mlp, (5,), 2, "silu", True, "gaussian", 0.5, center=np.full(4, 0.5))  # 4 pixels, 5 units, 2 latents
SIZE = (4 * 5 + 5) + (5 * 4 + 4) + (2 * 5 + 5) + (5 * 4 + 4)  # weights and biases: 4 → 5 → 2·2, and 2 → 5 → 4
ADVICE = "python -m tests.by_hand says which function is wrong"
NOW = objectives.Now(lam=3.0, target=0.49)  # λ and κ², which GECO's loss depends on
RNG = np.random.default_rng(0)
X, EPS, THETA = RNG.uniform(size=(3, 4)), RNG.normal(size=(6, 3, 2)), RNG.normal(size=SIZE)  # 3 images, 6 samples each


@pytest.mark.parametrize("name", ["iwae", "geco"])
def test_the_gradient_by_hand_is_that_of_autograd(name):
    method = objectives.METHODS[name]

    def loss(theta):
        terms, _ = vae.forward(anp, MODEL, vae.params_of(MODEL, theta), X, EPS)
        return method.loss(anp, terms, NOW)

    params, gradient = vae.params_of(MODEL, THETA), np.zeros(SIZE)
    terms, cache = vae.forward(np, MODEL, params, X, EPS)
    d_terms = method.backward(np, terms, NOW)
    vae.backward(np, MODEL, params, cache, d_terms, vae.params_of(MODEL, gradient))

    expected = autograd.grad(loss)(THETA)
    assert np.linalg.norm(gradient - expected) < 1e-10 * np.linalg.norm(expected), ADVICE
