"""The backend under test computes what NumPy computes, recorded or not, on the same noise.

The tests of recording run also on a tape. The stand-in for CuPy is tested here, too.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from backend import BackendError, cores, open_backend
from ref import vae
from ref.mlp import sigmoid_backward
from ref.more.metrics import Draws, Images, evaluate
from ref.objectives import METHODS
from ref.train import initial_state, make_step
from tests import strict
from tests.small import NETWORKS, SOME, model_of, plan_of, theta_of
from tests.tape import Taped, taped
from tests.tested import NAME, open_tested

ROOT = Path(__file__).parents[2]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 7), dtype=np.uint8)
STRICT = strict.namespace()


def on(backend, model: vae.Model) -> vae.Model:
    """The model with its arrays on the backend."""
    arrays = {name: getattr(model, name) for name in ("center", "whiten", "color")}
    return model._replace(**{name: a if a is None else backend.asarray(a) for name, a in arrays.items()})


def reader(backend, images=IMAGES):
    """read(rows, noise): bytes to floats."""
    pixels = backend.asarray(images)
    return lambda rows, noise: backend.xp.take(pixels, rows, axis=0).astype(backend.dtype) * (1 / 255)


def playing(backend):
    """The backend with normal numbers of the host, the same for every backend."""
    rng = np.random.default_rng(0)
    return backend._replace(normal=lambda noise, shape: backend.asarray(rng.normal(size=shape)))


def training(backend, name: str, network: dict):
    """A step and the state that it advances, the same weights on every backend."""
    model, method = model_of(**network), METHODS[name]
    theta = backend.asarray(theta_of(model))
    state = initial_state(backend, theta, backend.noise(0), len(IMAGES), 2.0 if method.constraint else None)
    plan = plan_of(name, 30, 8, len(IMAGES), 3, weight_decay=0.1)
    return make_step(backend, on(backend, model), method, plan, reader(backend), state), state


@pytest.mark.parametrize("network", SOME)
@pytest.mark.parametrize("name", METHODS)
def test_steps_in_float32_are_numpys_on_the_same_noise(name, network):
    states = []
    numpys = [open_backend("numpy", precision) for precision in ("float32", "float64")]
    for backend in (open_tested("float32"), *numpys):
        backend = playing(backend._replace(compile=lambda step: step))
        step, state = training(backend, name, NETWORKS[network])
        for _ in range(5):
            step()
        states.append({key: backend.to_host(array) for key, array in state.items() if key != "noise"})
    for key, array in states[0].items():
        for other in states[1:]:
            np.testing.assert_allclose(array, other[key], rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("recorder", ["backend", "tape"])
@pytest.mark.parametrize("network", SOME)
@pytest.mark.parametrize("name", METHODS)
def test_a_recorded_step_replayed_is_the_step_bit_for_bit(name, network, recorder):
    backend = taped(open_backend("numpy", "float32")) if recorder == "tape" else open_tested("float32")
    replayed, state = training(backend, name, NETWORKS[network])
    eager, expected = training(backend._replace(compile=lambda step: step), name, NETWORKS[network])
    for _ in range(100):
        replayed()
        eager()
    assert all((backend.to_host(state[key]) == backend.to_host(expected[key])).all() for key in state)
    assert int(state["step"]) == 100


def test_the_tape_catches_a_host_number_that_changes_and_a_host_read():
    backend = taped(open_backend("numpy", "float64"))
    total, count = backend.asarray(np.zeros(())), 0

    def step():
        nonlocal count
        count += 1
        total[...] += count

    run = backend.compile(step)
    for _ in range(4):
        run()
    assert float(total) == 1 + 2 + 2 + 2  # a graph bakes the host's count in just so

    run = backend.compile(lambda: float(total))
    run()
    with pytest.raises(RuntimeError, match="the host reads"):
        run()
    assert Taped.tape is None


@pytest.mark.parametrize("network", SOME)
def test_the_figures_of_the_evaluation_are_numpys_on_the_same_noise(network):
    figures = []
    for backend in (open_tested("float64"), open_backend("numpy", "float64")):
        backend, model = playing(backend), model_of(**NETWORKS[network])
        theta, draws = backend.asarray(theta_of(model)), Draws(7, 2, METHODS["geco"].constraint.bounded)
        images = Images(reader(backend), 40)
        figures.append(evaluate(backend, on(backend, model), theta, images, None, draws))
    ours, theirs = ({name: value for name, value in f.items() if value is not None} for f in figures)
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "mean", "std"), [("normal", 0, 1), ("uniform", 0.5, 12**-0.5)])
def test_a_seed_is_a_stream_of_numbers_that_goes_on_from_its_state(kind, mean, std, precision):
    backend = open_tested(precision)
    draw, noise = getattr(backend, kind), backend.noise(3)
    drawn = lambda noise: backend.to_host(draw(noise, (200_000,)))  # noqa: E731
    first, state, second = drawn(noise), noise.copy(), drawn(noise)
    assert (drawn(state) == second).all() and (drawn(backend.noise(3)) == first).all()
    assert (first != second).any() and (first != drawn(backend.noise(8))).any()
    assert abs(first.mean() - mean) < 0.01 * std and abs(first.std() - std) < 0.01 * std
    assert kind == "normal" or (first.min() >= 0 and first.max() < 1)
    assert first.dtype == precision
    assert precision == "float32" or (first != first.astype("float32")).mean() > 0.9


def test_a_run_that_goes_on_with_another_backend_draws_no_number_of_its_first_steps_again(tmp_path):
    import run
    from experiment.run_folder import read_checkpoint
    from experiment.training import restored_state

    options = "--data digits --hidden 4 --latent 2 --epochs 1 --nll-samples 2 --seed 5 --out"
    assert run.main([*options.split(), str(tmp_path / "run")]) == 0
    saved, backend = read_checkpoint(tmp_path / "run"), open_backend("numpy")
    count = len(saved.arrays["order"])
    both = (backend, backend._replace(name="another"))
    same, other = (restored_state(saved, saved.run, b, count)[1]["noise"] for b in both)
    assert (same == saved.arrays["noise"]).all() and (other != same).any()
    assert (other != backend.noise(5)).any()  # that of the first step


def test_the_cores_are_those_that_the_process_may_use_and_a_containers_share_of_time(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8), raising=False)
    assert cores(tmp_path / "none") == 8
    shares = {"max 100": 8, "200 100": 2, "150 100": 2, "10 100": 1, "9999 100": 8, "?": 8}
    for said, count in shares.items():
        (tmp_path / "cpu.max").write_text(said + "\n")
        assert cores(tmp_path / "cpu.max") == count, said


REFUSED = {
    "NumPy's conversion": lambda a, b: np.asarray(a),
    "a comparison by NumPy's testing": lambda a, b: np.testing.assert_allclose(a, b),
    "a function of NumPy": lambda a, b: np.sum(a),
    "a ufunc of NumPy": lambda a, b: np.exp(a),
    "a host array on the right": lambda a, b: a + b,
    "a host array on the left": lambda a, b: b * a,
    "a host array in place": lambda a, b: a.__iadd__(b),
    "a host array assigned": lambda a, b: a.__setitem__(slice(None), b),
    "a host array of indices": lambda a, b: a[np.array([0, 1])],
    "a host array in a function": lambda a, b: STRICT.matmul(a, b),
    "a host array in a list": lambda a, b: STRICT.stack([a, b]),
    "a host array in a fused function": lambda a, b: sigmoid_backward(STRICT, a, b),
}


@pytest.mark.parametrize("mixture", REFUSED)
def test_the_strict_stand_in_mixes_no_host_arrays_with_its_own(mixture):
    b = np.ones(3)
    with pytest.raises(TypeError, match=r"device|ufunc"):
        REFUSED[mixture](strict.asarray(b), b)


def test_the_strict_stand_in_computes_what_numpy_computes_in_the_memory_that_numpy_would_use():
    xp, host = STRICT, np.arange(6.0).reshape(2, 3)
    a = xp.asarray(host.copy())
    a[0] *= np.float64(2)
    total = a[1, 1]
    a += 1
    host[0] *= 2
    host += 1
    assert (a._memory == host).all() and float(total) == host[1, 1]  # an entry is a view, as CuPy's
    assert float(xp.sum(a / xp.asarray(host))) == 6 and xp.linalg.qr(a)[0].shape == (2, 2)


def said_by_tests_on(backend: str, *names: str) -> str:
    """What pytest says, where no test fails."""
    files = [f"tests/mathematics/test_{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "--backend", backend, "-rs", "-p", "no:cacheprovider", *files]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.slow
@pytest.mark.skipif(NAME != "numpy", reason="all tests run on another backend already")
def test_the_mathematics_runs_on_arrays_that_do_not_mix_with_numpys():
    assert "SKIPPED" not in said_by_tests_on("strict", "objectives", "information", "train")


def test_no_example_of_hypothesis_fails_because_a_kernel_is_compiled_first():
    assert settings.default.deadline is None


@pytest.mark.slow
def test_without_a_gpu_its_tests_skip_with_the_reason():
    try:
        open_backend("cupy")
    except BackendError as error:
        assert str(error) in said_by_tests_on("cupy", "objectives")
    else:
        pytest.skip("there is a GPU")


@pytest.mark.skipif(NAME == "cupy", reason="not tried on a GPU")
def test_threads_that_draw_at_once_have_streams_of_their_own():
    backend = open_tested("float32")

    def drawn(seed: int):
        noise = backend.noise(seed)
        return [backend.to_host(backend.normal(noise, (3001,))).copy() for _ in range(40)]

    expected = [drawn(seed) for seed in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(drawn, range(8))]
    sys.setswitchinterval(before)
    assert np.array_equal(found, expected)
