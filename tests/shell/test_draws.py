"""What a run draws at random follows its seed, and what judges it does not."""

import json

import numpy as np
import pytest

import run
from experiment.training import reader
from tests.tested import TESTED, host, on_command_line

FROZEN = ["--lr", "1e-30", "--latent", "2", "--nll-samples", "2", "--batch-size", "300", "--method", "vae"]


def frozen(out, *options) -> tuple[dict, dict]:
    """The checkpoint and the summary of a run that learns nothing."""
    assert run.main([*FROZEN, *on_command_line(), *options, "--out", str(out)]) == 0
    return dict(np.load(out / "checkpoint.npz")), json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("options", [["--output", "sigmoid", "--hidden", "8"], ["--output", "linear", "--hidden", "8"]])
def test_initial_weights_and_the_order_of_the_images_follow_the_seed(options, tmp_path):
    (a, _), (b, _) = (frozen(tmp_path / seed, "--epochs", "1", "--seed", seed, *options) for seed in "01")
    weights = 64 * 8 if "sigmoid" in options else 2 * 8  # of the first layer, which is random; biases are not
    assert (a["theta"][:weights] != b["theta"][:weights]).mean() > 0.9
    assert (a["order"] != b["order"]).any()


def test_the_figures_are_drawn_from_noise_of_their_own_however_much_the_training_drew(tmp_path):
    (a, short), (b, long) = (frozen(tmp_path / n, "--epochs", n, "--hidden", "8") for n in "12")
    assert (a["noise"] != b["noise"]).any()
    for name in ("rate", "distortion", "elbo", "nll", "mutual_information"):
        assert short[name] == pytest.approx(long[name], rel=1e-6), name


def test_pixels_that_are_binarized_anew_are_white_as_often_as_they_are_grey_and_never_the_same_twice():
    grey = np.tile(np.array([0, 51, 204, 255], np.uint8), (500, 1))
    read, noise, rows = reader(TESTED, grey, True), TESTED.noise(0), TESTED.xp.arange(500)
    first, second = host(read(rows, noise)), host(read(rows, noise))
    assert {*first.ravel()} == {0.0, 1.0}
    np.testing.assert_allclose(first.mean(axis=0), [0, 0.2, 0.8, 1], atol=0.06)
    assert 0.25 < (first != second)[:, 1:3].mean() < 0.39  # 2·0.2·0.8 = 0.32
