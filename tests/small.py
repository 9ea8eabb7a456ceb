"""Small networks and images for the tests."""

import numpy as np

from backend import open_backend
from ref import vae
from ref.mlp import size
from ref.networks import plain, principal
from ref.objectives import METHODS

NUMPY = open_backend("numpy", "float64")
NETWORKS = {
    "two layers": {},
    "one layer": {"hidden": (5,)},
    "no layer": {"hidden": ()},
    "tanh": {"activation": "tanh"},
    "relu": {"activation": "relu"},
    "bernoulli": {"likelihood": "bernoulli"},
    "bernoulli, no layer": {"likelihood": "bernoulli", "hidden": ()},
    "principal coordinates": {"coordinates": 5},
    "one latent, one pixel": {"latents": 1, "pixels": 1, "hidden": (1,)},
}


def options_of(method: str) -> dict[str, float]:
    """Values for the options of a method, whatever they are: not its defaults, not round."""
    return {name: 0.87 * (default or 0.8) for name, (default, _) in METHODS[method].options.items()}


def model_of(
    pixels=7, hidden=(6, 5), latents=3, activation="silu", likelihood="gaussian", coordinates=0, **changes
) -> vae.Model:
    """A network in float64 with a random centre, with `coordinates` > 0 in that many principal coordinates."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(pixels, pixels)))[0][:, :coordinates]
    scale = rng.uniform(0.5, 2, coordinates)
    model = vae.Model(
        network=principal if coordinates else plain,
        hidden=hidden,
        latents=latents,
        activation=activation,
        sigmoid_output=not coordinates,
        likelihood=likelihood,
        variance=0.3,
        center=rng.uniform(size=pixels),
        whiten=basis / scale if coordinates else None,
        color=(basis * scale).T if coordinates else None,
    )
    return model._replace(**changes)


def theta_of(model: vae.Model, seed=2) -> np.ndarray:
    """Random parameters, biases and skip paths included."""
    return 0.5 * np.random.default_rng(seed).normal(size=sum(size(shapes) for shapes in model.network.shapes(model)))


def batch_of(model: vae.Model, images=4, samples=3, seed=3) -> tuple[np.ndarray, np.ndarray]:
    """Random images x (B, D), black and white where the likelihood wants them so, and noise eps (K, B, Z)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(images, *model.center.shape))
    x = (x < 0.5).astype(float) if model.likelihood == "bernoulli" else x
    return x, rng.normal(size=(samples, images, model.latents))


def reader(images: np.ndarray):
    """read(rows, noise) over images that are floats already."""
    return lambda rows, noise: images[rows]
