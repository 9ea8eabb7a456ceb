"""Small networks, images and plans for the tests."""

from itertools import product

import numpy as np

from backend import open_backend
from ref import mlp, vae
from ref.densities import LIKELIHOODS
from ref.more import principal
from ref.objectives import METHODS, Now
from ref.train import Plan

NUMPY = open_backend("numpy", "float64")
NOW = Now(lam=0.8, target=0.48, done=0.3)


# Every likelihood on every output of every network; a function of logits needs x̂ = sigmoid(l).
TRAINED, REFUSED = {}, {}
for likelihood, output, network in product(LIKELIHOODS, ("sigmoid", "linear"), ("plain", "principal")):
    kind = {
        "likelihood": likelihood,
        "sigmoid_output": output == "sigmoid",
        "coordinates": 5 * (network == "principal"),
    }
    refused = LIKELIHOODS[likelihood].of_logits and output == "linear"
    (REFUSED if refused else TRAINED)[f"{likelihood}, {output}, {network}"] = kind
NETWORKS = TRAINED | {
    "one layer": {"hidden": (5,)},
    "no layer": {"hidden": ()},
    "bernoulli, no layer": {"likelihood": "bernoulli", "hidden": ()},
    "tanh": {"activation": "tanh"},
    "relu": {"activation": "relu"},
    "one latent, one pixel": {"latents": 1, "pixels": 1, "hidden": (1,)},
}
# Where a few are enough.
SOME = ["gaussian, sigmoid, plain", "bernoulli, sigmoid, plain", "gaussian, linear, principal"]


def options_of(method: str) -> dict[str, float]:
    """Values for the options of a method, whatever they are: not its defaults, not round."""
    return {name: 0.87 * (option.default or 0.8) for name, option in METHODS[method].options.items()}


def plan_of(method: str, epochs: int, batch_size: int, images: int, samples: int, **changes) -> Plan:
    """A plan by which so many images are learned quickly."""
    constraint = METHODS[method].constraint
    return Plan(
        epochs=epochs,
        batch_size=batch_size,
        steps_per_epoch=images // batch_size,
        samples=samples,
        options=options_of(method),
        lr=1e-2,
        schedule="cosine",
        adam=(0.9, 0.999, 1e-8),
        weight_decay=0.0,
        target=NOW.target if constraint and constraint.name else 0.0,
        multiplier_rate=3.5 if constraint and not constraint.name else 1e-2,
    )._replace(**changes)


def model_of(
    pixels=7, hidden=(6, 5), latents=3, activation="silu", likelihood="gaussian", coordinates=0, **changes
) -> vae.Model:
    """A network in float64 with a random centre; `coordinates` > 0: in so many principal coordinates."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(pixels, pixels)))[0][:, :coordinates]
    scale = rng.uniform(0.5, 2, coordinates)
    model = vae.Model(
        network=principal if coordinates else mlp,
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
    return 0.5 * np.random.default_rng(seed).normal(size=sum(map(mlp.size, model.network.shapes(model))))


def batch_of(model: vae.Model, images=4, samples=3, seed=3) -> tuple[np.ndarray, np.ndarray]:
    """Random images x (B, D), black and white where the likelihood needs it, and noise eps (K, B, Z)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(images, *model.center.shape))
    x = (x < 0.5).astype(float) if LIKELIHOODS[model.likelihood].black_and_white else x
    return x, rng.normal(size=(samples, images, model.latents))


def reader(images: np.ndarray):
    """read(rows, noise) over images that are floats already."""
    return lambda rows, noise: images[rows]


def assert_close(state: dict, expected: dict) -> None:
    """Each array to ten digits, as it is when sums are only added up in another order."""
    for name, array in expected.items():
        a, b = (np.asarray(values, np.float64) for values in (state[name], array))
        assert np.linalg.norm(a - b) <= 1e-10 * np.linalg.norm(b), name
