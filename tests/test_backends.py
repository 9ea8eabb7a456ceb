"""Every backend computes what NumPy computes: `python -m pytest --backend cupy tests/test_backends.py` on a GPU.

Without --backend the same tests run on NumPy, and those of recording also on a tape, the stand-in for a CUDA graph.
"""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from backend import open_backend
from ref import vae
from ref.linear import principal_components
from ref.metrics import evaluate
from ref.objectives import METHODS
from ref.train import Plan, initial_state, initial_theta, make_step
from tests.small import NETWORKS, batch_of, model_of, options_of, theta_of
from tests.tape import Taped, taped

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 7), dtype=np.uint8)


def on(backend, model: vae.Model) -> vae.Model:
    """The model with its arrays on the backend."""
    arrays = {name: getattr(model, name) for name in ("center", "whiten", "color")}
    return model._replace(**{name: a if a is None else backend.asarray(a) for name, a in arrays.items()})


def reader(backend, images=IMAGES):
    """read(rows, noise) as in training: bytes to floats."""
    pixels = backend.asarray(images)
    return lambda rows, noise: backend.xp.take(pixels, rows, axis=0).astype(backend.dtype) * (1 / 255)


def playing(backend, seed: int = 0):
    """The backend with normal numbers drawn on the host, the same for every backend."""
    rng = np.random.default_rng(seed)
    return backend._replace(normal=lambda noise, shape: backend.asarray(rng.normal(size=shape)))


def training(backend, name: str, network: dict, epochs: int = 30):
    """A step of `name` on `network` and the state that it advances, the same weights on every backend."""
    model, method = model_of(**network), METHODS[name]
    theta = backend.asarray(theta_of(model))
    state = initial_state(backend, theta, backend.noise(0), len(IMAGES), 2.0 if method.constraint else None)
    plan = Plan(epochs, 8, len(IMAGES) // 8, 3, 1e-2, True, "relative", 1e-2, options_of(name), weight_decay=0.1)
    return make_step(backend, on(backend, model), method, plan, reader(backend), state), state


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", METHODS)
def test_the_hand_derived_gradient_is_autograds_on_every_backend(name, network, open_tested):
    backend, model, method = open_tested("float64"), model_of(**NETWORKS[network]), METHODS[name]
    theta, (x, eps) = theta_of(model), batch_of(model)
    options = options_of(name) | ({"lam": 0.8} if method.constraint else {})

    def loss(theta):
        terms, _ = vae.forward(anp, model, vae.params_of(model, theta), x, eps)
        return method.loss(anp, terms, **options)

    xp, moved = backend.xp, on(backend, model)
    params = vae.params_of(moved, backend.asarray(theta))
    gradient = xp.full_like(backend.asarray(theta), np.nan)
    terms, cache = vae.forward(xp, moved, params, backend.asarray(x), backend.asarray(eps))
    vae.backward(xp, moved, params, cache, method.backward(xp, terms, **options), vae.params_of(moved, gradient))
    oracle = autograd.grad(loss)(theta)
    assert np.linalg.norm(backend.to_host(gradient) - oracle) <= 1e-9 * np.linalg.norm(oracle)
    assert float(method.loss(xp, terms, **options)) == pytest.approx(loss(theta), rel=1e-12)


@pytest.mark.parametrize("network", ["two layers", "bernoulli", "principal coordinates"])
@pytest.mark.parametrize("name", METHODS)
def test_steps_in_float32_are_numpys_on_the_same_noise(name, network, open_tested):
    states = []
    for backend in (open_tested("float32"), open_backend("numpy", "float32"), open_backend("numpy", "float64")):
        backend = playing(backend._replace(compile=lambda step: step))
        step, state = training(backend, name, NETWORKS[network])
        for _ in range(5):
            step()
        states.append({key: backend.to_host(array) for key, array in state.items() if key != "noise"})
    for key in states[0]:
        for other in states[1:]:
            np.testing.assert_allclose(states[0][key], other[key], rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("recorder", ["backend", "tape"])
@pytest.mark.parametrize("network", ["two layers", "bernoulli", "principal coordinates"])
@pytest.mark.parametrize("name", METHODS)
def test_a_recorded_step_replayed_is_the_step_bit_for_bit(name, network, recorder, open_tested):
    backend = taped(open_backend("numpy", "float32")) if recorder == "tape" else open_tested("float32")
    (replayed, state), (eager, expected) = (
        training(b, name, NETWORKS[network]) for b in (backend, backend._replace(compile=lambda step: step))
    )
    for _ in range(100):
        replayed()
        eager()
    assert all((backend.to_host(state[key]) == backend.to_host(expected[key])).all() for key in state)
    assert int(state["step"]) == 100


def test_the_tape_catches_a_host_number_that_changes_and_a_host_read():
    backend = taped(open_backend("numpy", "float64"))
    total, count = backend.asarray(np.zeros(())), 0

    def step() -> None:
        nonlocal count
        count += 1
        total[...] += count

    run = backend.compile(step)
    for _ in range(4):
        run()
    assert float(total) == 1 + 2 + 2 + 2  # a graph bakes the host's count in just so

    def peeking() -> None:
        float(total)

    run = backend.compile(peeking)
    run()
    with pytest.raises(RuntimeError, match="the host reads"):
        run()
    assert Taped.tape is None


@pytest.mark.parametrize("network", ["two layers", "bernoulli", "principal coordinates"])
def test_the_figures_of_the_evaluation_are_numpys_on_the_same_noise(network, open_tested):
    figures = []
    for backend in (open_tested("float64"), open_backend("numpy", "float64")):
        backend, model = playing(backend), model_of(**NETWORKS[network])
        method, options = METHODS["geco"], options_of("geco")
        constraint = lambda xp, terms: method.constraint(xp, terms, **options)  # noqa: B023, E731
        theta = backend.asarray(theta_of(model))
        figures.append(evaluate(backend, on(backend, model), theta, reader(backend), 40, None, 7, constraint, 2))
    assert figures[0] == pytest.approx(figures[1], rel=1e-9)


def test_principal_components_are_the_eigenvectors_on_every_backend(open_tested):
    backend = open_tested("float64")
    x = IMAGES / 255
    center, noise = backend.asarray(x.mean(axis=0)), backend.noise(0)
    _, variances, total = principal_components(backend, reader(backend), 40, center, 4, noise)
    spectrum = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    np.testing.assert_allclose(backend.to_host(variances), spectrum[:4], rtol=1e-6)
    assert total == pytest.approx(spectrum.sum(), rel=1e-9)


def test_a_seed_is_a_stream_of_noise_that_goes_on_from_its_state(open_tested):
    backend = open_tested("float32")
    noise = backend.noise(3)
    first = backend.to_host(backend.normal(noise, (50_000,)))
    state = noise.copy()
    second = backend.to_host(backend.normal(noise, (5,)))
    assert (backend.to_host(backend.normal(state, (5,))) == second).all() and (first[:5] != second).any()
    assert (backend.to_host(backend.normal(backend.noise(3), (50_000,))) == first).all()
    assert abs(first.mean()) < 0.02 and abs(first.std() - 1) < 0.02
    uniform = backend.to_host(backend.uniform(noise, (50_000,)))
    assert uniform.dtype == np.float32 and uniform.min() >= 0 and abs(uniform.mean() - 0.5) < 0.01


def test_initial_weights_are_glorots_on_every_backend(open_tested):
    backend, model = open_tested("float32"), model_of()
    theta = backend.to_host(initial_theta(backend, on(backend, model), backend.noise(1), 0.5))
    weights = vae.params_of(model, theta)["encoder"]["W0"]
    assert np.abs(weights).max() <= (6 / sum(weights.shape)) ** 0.5 and weights.std() > 0
