"""What a run draws at random follows its seed, what judges it does not; and each figure is of the images it names."""

import numpy as np
import pytest

from data import Dataset, load
from experiment import fit
from experiment import load as load_model
from experiment.evaluation import look, summarize
from experiment.sources import reader
from tests.shell.runs import json_of, made
from tests.tested import NAME, TESTED, host, needs_backend

pytestmark = [needs_backend, pytest.mark.usefixtures("elsewhere")]
FROZEN = 1e-30  # a learning rate at which nothing is learnt


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_initial_weights_follow_the_seed(output):
    images = np.random.default_rng(0).uniform(size=(40, 9))
    options = {"output": output, "hidden": (8,), "latent": 2, "lr": FROZEN, "epochs": 1, "method": "vae"}
    a, b, same = (host(fit(images, seed=seed, backend=NAME, **options).theta) for seed in (0, 1, 0))
    weights = 8 * (9 if output == "sigmoid" else 2)  # of the first layer, which is random; biases are not
    assert (a[:weights] != b[:weights]).mean() > 0.9 and (a == same).all()


def test_figures_are_drawn_from_noise_of_their_own_whatever_the_training_drew():
    options = f"--method vae --lr {FROZEN} --hidden 8 --latent 2 --nll-samples 2".split()
    short, long = (made(epochs, *options, "--epochs", epochs, quick=[]) for epochs in ("1", "2"))
    for name in ("rate", "error", "elbo", "nll", "mutual_information"):
        assert short[name] == pytest.approx(long[name], rel=1e-6), name


def test_pixels_are_binarized_anew_each_time_and_are_white_as_often_as_grey():
    grey = np.tile(np.array([0, 51, 204, 255], np.uint8), (500, 1))
    read, noise, rows = reader(TESTED, grey, True), TESTED.noise(0), TESTED.xp.arange(500)
    first, second = host(read(rows, noise)), host(read(rows, noise))
    assert {*first.ravel()} == {0.0, 1.0}
    np.testing.assert_allclose(first.mean(axis=0), [0, 0.2, 0.8, 1], atol=0.06)
    assert 0.25 < (first != second)[:, 1:3].mean() < 0.39  # 2·0.2·0.8 = 0.32


def test_a_constraint_is_measured_on_test_images_and_on_training_images_apart():
    rng = np.random.default_rng(0)
    train = (0.5 + rng.normal(size=(300, 3)) @ rng.normal(size=(3, 16)) / 10).clip(0, 1)
    options = {"kappa": 0.3, "epochs": 1, "output": "linear", "hidden": (8,), "latent": 3, "lr": FROZEN}
    fit(train, test=1 - train**4, out="out", backend=NAME, **options)
    summary = json_of("out", "summary.json")
    assert abs(summary["train_constraint"]) < 0.2 * summary["constraint"]
    assert summary["constraint"] == pytest.approx(summary["error"] - 0.3**2, rel=1e-6)


def test_encodings_are_those_of_the_rate_and_figures_are_by_the_same_draws_in_every_run():
    images = np.random.default_rng(0).uniform(size=(40, 9))
    model = fit(images, "vae", epochs=1, hidden=(8,), latent=2, lr=FROZEN, variance=0.01, backend=NAME)
    mean, std = model.encode(images)
    rate = np.sum(0.5 * (mean**2 + std**2 - 1) - np.log(std), axis=1)
    assert std.max() < 0.5  # so that every latent is in use
    np.testing.assert_allclose(model.scores(images, 1)["rate"], rate, rtol=1e-4)
    for found in (lambda: look(model, images), lambda: summarize(model, Dataset("", images, images, (3, 3, 1)), 3)):
        before = found()
        model.run = model.run.but(seed=model.run.seed + 1)
        assert found() | {"seed": 0} == before | {"seed": 0}


def test_the_constraint_of_geco_iwae_is_that_under_q_iw():
    """Σ_k w̃_k err_k by hand, in the mean over 400 draws of K = 5 samples."""
    x = np.random.default_rng(0).uniform(size=(80, 9))
    model = fit(x, "geco-iwae", test=x, out="out", backend=NAME, kappa=0.5, epochs=2)
    mean, std = model.encode(x)
    z = mean + std * np.random.default_rng(1).normal(size=(400, 5, *mean.shape))
    err = np.sum((model.decode(z.reshape(-1, mean.shape[1])).reshape(400, 5, 80, 9) - x) ** 2, axis=-1)
    log_w = -err - 0.5 * np.sum(z**2 - ((z - mean) / std) ** 2 - 2 * np.log(std), axis=-1)
    w = np.exp(log_w) / np.sum(np.exp(log_w), axis=1, keepdims=True)
    expected, summary = np.mean(np.sum(w * err, axis=1)), json_of("out", "summary.json")
    assert summary["constraint"] + 0.25 == pytest.approx(expected, rel=0.02) != pytest.approx(err.mean(), rel=0.04)


def test_the_nll_is_by_the_samples_asked_for_and_the_error_by_those_of_training():
    chosen = ["--method", "vae", "--output", "sigmoid", "--variance", "0.2", "--nll-samples", "300"]
    summary, test = made("out", *chosen), load("digits").test
    expected = -load_model("out").log_likelihood(test, 300).mean()
    assert summary["nll"] == pytest.approx(expected, abs=0.02) and -summary["elbo"] - summary["nll"] > 0.1
