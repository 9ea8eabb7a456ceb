"""A trained model in use: what it answers is what its run has found, and other input gets one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

import run
from data import load as load_data
from experiment import load
from experiment.options import UsageError
from tests.tested import NAME, on_command_line

QUICK = ["--data", "digits", "--epochs", "2", "--hidden", "16", "--latent", "4", "--nll-samples", "3"]
DIGITS = load_data("digits").test


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on the digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert run.main([*QUICK, *on_command_line(), "--out", str(out)]) == 0
    return out


def test_a_model_is_what_its_checkpoint_holds(folder):
    """One affine layer after another, by hand, of the arrays in the file."""
    model, arrays = load(folder, NAME), dict(np.load(folder / "checkpoint.npz"))
    mean, std = model.encode(DIGITS)
    assert mean.shape == std.shape == (299, 4) and (std > 0).all()
    summary = json.loads((folder / "summary.json").read_text())
    at_mean = np.sum((model.reconstruct(DIGITS).reshape(299, -1) - DIGITS / 255) ** 2, axis=1).mean()
    assert at_mean <= summary["distortion_at_mean"] < 1.01 * at_mean  # pictures are clipped to [0, 1]
    np.testing.assert_array_equal(model.decode(mean), model.reconstruct(DIGITS))
    assert model.theta.shape == arrays["theta"].shape and model.shape == (8, 8, 1)


@pytest.mark.parametrize("form", [(8, 8, 1), (8, 8), (64,)])
def test_images_mean_the_same_in_every_form(form, folder):
    model, images = load(folder, NAME), DIGITS[:5].reshape(5, *form)
    expected = model.encode(DIGITS[:5])
    for same in (images, (images / 255).astype(np.float32), images / 255):
        np.testing.assert_allclose(model.encode(same), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (DIGITS[:, :5], r"shape \(299, 5\), expected \(N, 8, 8, 1\)"),
        (DIGITS[0], r"shape \(64,\)"),
        (DIGITS[:0], r"shape \(0, 64\)"),
        (DIGITS.astype(int), "int64, expected uint8"),
        (DIGITS.astype(float), r"in \[0, 1\], found 0 to 255"),
        (DIGITS * np.nan, r"found nan to nan"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_of_another_kind_get_one_sentence(images, sentence, folder):
    with pytest.raises(UsageError, match=sentence):
        load(folder, NAME).encode(images)


def test_samples_are_decoded_draws_of_the_prior_by_their_seed(folder):
    model = load(folder, NAME)
    samples = model.sample(20, seed=3)
    assert samples.shape == (20, 8, 8, 1) and 0 <= samples.min() < samples.max() <= 1
    assert (samples == model.sample(20, seed=3)).all() and (samples != model.sample(20, seed=4)).any()
