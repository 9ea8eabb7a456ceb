"""What a run draws at random follows its seed, what judges it does not; and each figure is of the images it names."""

import json

import numpy as np
import pytest

import run
from experiment import fit
from experiment.results import watcher
from experiment.training import reader
from tests.shell.undrawn import undrawn
from tests.tested import NAME, TESTED, host, needs_backend, on_command_line

pytestmark = needs_backend
FROZEN = 1e-30  # a learning rate at which nothing is learnt


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    undrawn(monkeypatch)


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_initial_weights_follow_the_seed(output):
    images = np.random.default_rng(0).uniform(size=(40, 9))
    options = {"output": output, "hidden": (8,), "latent": 2, "lr": FROZEN, "epochs": 1, "method": "vae"}
    a, b, same = (host(fit(images, seed=seed, backend=NAME, **options).theta) for seed in (0, 1, 0))
    weights = 8 * (9 if output == "sigmoid" else 2)  # of the first layer, which is random; biases are not
    assert (a[:weights] != b[:weights]).mean() > 0.9 and (a == same).all()


def test_the_figures_are_drawn_from_noise_of_their_own_however_much_the_training_drew(tmp_path):
    options = ["--method", "vae", "--lr", f"{FROZEN}", "--hidden", "8", "--latent", "2", "--nll-samples", "2"]
    short, long = {}, {}
    for figures, epochs in ((short, "1"), (long, "2")):
        out = tmp_path / epochs
        assert run.main([*options, *on_command_line(), "--epochs", epochs, "--out", str(out)]) == 0
        figures |= json.loads((out / "summary.json").read_text())
    for name in ("rate", "distortion", "elbo", "nll", "mutual_information"):
        assert short[name] == pytest.approx(long[name], rel=1e-6), name


def test_pixels_that_are_binarized_anew_are_white_as_often_as_they_are_grey_and_never_the_same_twice():
    grey = np.tile(np.array([0, 51, 204, 255], np.uint8), (500, 1))
    read, noise, rows = reader(TESTED, grey, True), TESTED.noise(0), TESTED.xp.arange(500)
    first, second = host(read(rows, noise)), host(read(rows, noise))
    assert {*first.ravel()} == {0.0, 1.0}
    np.testing.assert_allclose(first.mean(axis=0), [0, 0.2, 0.8, 1], atol=0.06)
    assert 0.25 < (first != second)[:, 1:3].mean() < 0.39  # 2·0.2·0.8 = 0.32


def test_the_constraint_is_measured_on_test_images_and_the_constraint_of_training_on_training_images(tmp_path):
    rng = np.random.default_rng(0)
    train = (0.5 + rng.normal(size=(300, 3)) @ rng.normal(size=(3, 16)) / 10).clip(0, 1)
    options = {"kappa": 0.3, "epochs": 1, "output": "linear", "hidden": (8,), "latent": 3, "lr": FROZEN}
    fit(train, test=1 - train**4, out=tmp_path / "out", backend=NAME, **options)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert abs(summary["train_constraint"]) < 0.2 * summary["constraint"]
    assert summary["constraint"] == pytest.approx(summary["distortion"] - 0.3**2, rel=1e-6)


def test_encodings_are_those_of_the_rate_and_watched_images_are_decoded_by_the_same_draws_in_every_run():
    images = np.random.default_rng(0).uniform(size=(40, 9))
    model = fit(images, "vae", epochs=1, hidden=(8,), latent=2, lr=FROZEN, variance=0.01, backend=NAME)
    mean, std = model.encode(images)
    rate = np.sum(0.5 * (mean**2 + std**2 - 1) - np.log(std), axis=1)
    assert std.max() < 0.5  # so that every latent is in use
    np.testing.assert_allclose(model.scores(images, 1)["rate"], rate, rtol=1e-4)
    watched = watcher(model, images)()
    model.args.seed += 1
    assert watcher(model, images)() == watched
