"""A trained model in use: what it answers is what its run has found, and other input gets one sentence."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run
from data import load as load_data
from experiment import UsageError, fit, load, one, results
from ref import metrics
from tests.shell.undrawn import undrawn
from tests.tested import NAME, on_command_line

QUICK = ["--data", "digits", "--epochs", "2", "--hidden", "16", "--latent", "4", "--nll-samples", "3"]
DIGITS = load_data("digits").test


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    undrawn(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on the digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
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
    with pytest.raises(ValueError, match=sentence):
        load(folder, NAME).encode(images)


def test_samples_are_decoded_draws_of_the_prior_by_their_seed(folder):
    model = load(folder, NAME)
    samples = model.sample(20, seed=3)
    assert samples.shape == (20, 8, 8, 1) and 0 <= samples.min() < samples.max() <= 1
    assert (samples == model.sample(20, seed=3)).all() and (samples != model.sample(20, seed=4)).any()


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_the_mean_log_likelihood_of_the_test_set_is_minus_the_nll_of_the_run(binarize, tmp_path):
    chosen = ["--method", "iwae", "--binarize", binarize, "--out", str(tmp_path)]
    assert run.main([*QUICK, *on_command_line(), *chosen]) == 0
    summary, model = json.loads((tmp_path / "summary.json").read_text()), load(tmp_path, NAME)
    scores = model.scores(DIGITS, samples=3)
    assert model.log_likelihood(DIGITS, samples=3).shape == (299,)
    assert model.log_likelihood(DIGITS, samples=3).mean() == pytest.approx(-summary["nll"], rel=1e-12)
    for name in ("rate", "distortion", "distortion_at_mean"):
        assert scores[name].mean() == pytest.approx(summary[name], rel=1e-12)


@pytest.mark.parametrize("shape", [(299, 4), (299, 3), (4,), (0, 4)])
def test_latents_of_another_shape_or_not_finite_get_one_sentence(shape, folder):
    model = load(folder, NAME)
    z = np.zeros(shape) if shape != (299, 4) else np.full(shape, np.inf)
    with pytest.raises(UsageError, match="z "):
        model.decode(z)
    with pytest.raises(UsageError, match="samples must be"):
        model.log_likelihood(DIGITS, samples=0)


def test_fit_trains_what_the_command_line_trains(tmp_path):
    """The run of the digits' own split, in Python, to the bit; kept in a folder or not."""
    digits = load_data("digits")
    chosen = {"epochs": 2, "hidden": (16,), "latent": 4, "kappa": 1.2, "batch_size": 128, "nll_samples": 3}
    command = [*QUICK, *on_command_line(), "--out", str(tmp_path / "typed")]
    assert run.main(command) == 0
    for out in (None, tmp_path / "fitted"):
        model = fit(digits.train, test=digits.test, backend=NAME, out=out, **chosen)
        typed = load(tmp_path / "typed", NAME)
        assert (model.backend.to_host(model.theta) == typed.backend.to_host(typed.theta)).all()
        np.testing.assert_array_equal(model.encode(DIGITS), typed.encode(DIGITS))
    assert (tmp_path / "fitted" / "summary.json").exists()


def test_vectors_that_are_no_pictures_work_throughout():
    x = np.random.default_rng(0).uniform(size=(200, 7))
    model = fit(x, backend=NAME, epochs=2, hidden=(8,), latent=3)
    mean, std = model.encode(x)
    assert model.shape == (1, 7, 1) and mean.shape == std.shape == (200, 3)
    assert model.inverse_transform(mean).shape == x.shape and model.sample(5).shape == (5, 1, 7, 1)


@pytest.mark.parametrize(
    ("images", "chosen", "sentence"),
    [
        (DIGITS, {"method": "gecko"}, "gecko"),
        (DIGITS, {"method": "all"}, "fit trains one of"),
        (DIGITS, {"capa": 4}, "--capa"),
        (DIGITS[:1], {}, "at least two images, found 1"),
        (DIGITS[0], {}, r"images has shape \(64,\), expected"),
        (DIGITS[0, 0], {}, r"images has shape \(\), expected"),
        (DIGITS, {"test": DIGITS[:, :9]}, r"test has shape \(299, 9\), expected \(N, 8, 8, 1\)"),
        (DIGITS, {"kappa": -1}, "not a finite number above 0"),
        (DIGITS, {"shape": (7, 7, 1)}, "expected"),
        (np.zeros((9, 4)), {}, "all the same"),
    ],
    ids=str,
)
def test_fit_refuses_with_one_sentence(images, chosen, sentence):
    with pytest.raises(ValueError, match=sentence):
        fit(images, **{"backend": NAME, **chosen})


def test_a_model_is_a_step_of_a_pipeline(folder):
    pipeline = pytest.importorskip("sklearn.pipeline")
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    digits, model = load_data("digits"), load(folder, NAME)
    labels = digits.labels[0]
    rows = pipeline.make_pipeline(preprocessing.FunctionTransformer(lambda x: x / 255), model)
    rows.fit(digits.train)
    np.testing.assert_allclose(rows.transform(DIGITS), model.encode(DIGITS)[0], atol=1e-6)
    np.testing.assert_allclose(rows.score_samples(DIGITS / 1.0), model.log_likelihood(DIGITS, 3), rtol=1e-5)
    back = rows[-1].inverse_transform(model.transform(DIGITS))
    np.testing.assert_array_equal(back, model.reconstruct(DIGITS).reshape(299, 64))
    classifier = pipeline.make_pipeline(model, linear_model.LogisticRegression(max_iter=1000)).fit(digits.train, labels)
    assert classifier.score(digits.test, digits.labels[1]) > 0.3
    selection = pytest.importorskip("sklearn.model_selection")
    assert len(selection.cross_val_score(classifier, digits.train, labels, cv=2)) == 2  # clones every step


def encoded(folder: Path, *options: str, status=0) -> int:
    assert run.main(["--load", str(folder), *options]) == status
    return status


def test_encode_writes_of_each_picture_what_the_model_finds(folder, tmp_path, capsys):
    for name in ("b.png", "a/c.png"):
        (tmp_path / "mine" / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(DIGITS[len(name)].reshape(8, 8)).save(tmp_path / "mine" / name)
    encoded(folder, "--encode", str(tmp_path / "mine"), "--nll-samples", "7", "--out", str(tmp_path / "e.npz"))
    found, model = dict(np.load(tmp_path / "e.npz")), load(folder)
    assert found["files"].tolist() == ["a/c.png", "b.png"]
    scores = model.scores(DIGITS[[7, 5]], 7)
    np.testing.assert_allclose(found["mean"], scores["mean"], rtol=1e-6)
    np.testing.assert_allclose(found["std"], np.exp(scores["log_std"]), rtol=1e-6)
    pairs = [("rate", "rate"), ("squared_error", "distortion"), ("log_likelihood", "log_likelihood")]
    for name, score in pairs:
        np.testing.assert_allclose(found[name], scores[score], rtol=1e-6)
    least = found["files"][scores["log_likelihood"].argmin()]
    assert f"least for {least} (" in capsys.readouterr().out


def test_evaluate_writes_the_table_again_beside_the_summary_and_never_over_it(folder, capsys):
    before = (folder / "summary.json").read_bytes()
    encoded(folder, "--evaluate", *on_command_line())
    again, summary = json.loads((folder / "evaluation-nll3.json").read_text()), json.loads(before)
    assert again == {**summary, "backend": again["backend"]}
    encoded(folder, "--evaluate", "--nll-samples", "50")
    assert json.loads((folder / "evaluation-nll50.json").read_text())["nll"] < summary["nll"]
    encoded(folder, "--evaluate", status=2)
    encoded(folder, "--evaluate", "--force", "--out", str(folder / "summary.json"), status=2)
    assert (folder / "summary.json").read_bytes() == before
    assert "exists" in capsys.readouterr().err


def test_samples_and_reconstructions_are_png_files_and_a_sheet(folder, tmp_path):
    encoded(folder, "--sample", "12", "--seed", "3", "--out", str(tmp_path / "s"))
    assert len([*(tmp_path / "s").glob("[0-9]*.png")]) == 12 and (tmp_path / "s" / "sheet.png").exists()
    model = load(folder)
    first = np.asarray(Image.open(tmp_path / "s" / "00.png")) / 255
    np.testing.assert_allclose(first, model.sample(12, 3)[0, :, :, 0], atol=0.51 / 255)
    np.save(tmp_path / "x.npy", DIGITS[:3].reshape(3, 8, 8))
    encoded(folder, "--reconstruct", str(tmp_path / "x.npy"), "--out", str(tmp_path / "r"))
    found = sorted((tmp_path / "r").rglob("*.png"))
    assert len(found) == 4
    second = np.asarray(Image.open(found[1])) / 255
    np.testing.assert_allclose(second, model.reconstruct(DIGITS)[1, :, :, 0], atol=0.51 / 255)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--load", "FOLDER"], "--load DIR and one of --evaluate, --encode"),
        (["--sample", "3"], "--load DIR and one of"),
        (["--load", "FOLDER", "--sample", "3", "--evaluate"], "one of"),
        (["--load", "FOLDER", "--sample", "3", "--epochs", "3"], "--epochs is not used by --load with --sample"),
        (["--load", "nowhere", "--sample", "3"], "nowhere holds no checkpoint.npz"),
        (["--load", "FOLDER", "--encode", "nothing"], "nothing"),
        (["--load", "FOLDER", "--evaluate", "--data", "mnist-10k"], r"\(28, 28, 1\), those of"),
    ],
)
def test_a_use_that_makes_no_sense_gets_one_sentence(options, sentence, folder, capsys):
    capsys.readouterr()
    assert run.main([str(folder) if option == "FOLDER" else option for option in options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(sentence, error), error


def test_init_from_starts_at_the_trained_theta_and_lambda_with_its_network(folder, tmp_path, capsys):
    chosen = ["--data", "digits", *on_command_line(), "--init-from", str(folder), "--epochs", "1", "--nll-samples", "2"]
    assert run.main([*chosen, "--lr", "1e-30", "--multiplier-rate", "1e-30", "--out", str(tmp_path / "tuned")]) == 0
    trained, tuned = load(folder), load(tmp_path / "tuned")
    np.testing.assert_allclose(tuned.theta, trained.theta, rtol=1e-6)
    np.testing.assert_array_equal(tuned.network.whiten, trained.network.whiten)
    assert tuned.history[-1]["lambda"] == pytest.approx(trained.history[-1]["lambda"])
    capsys.readouterr()
    assert run.main([*chosen, "--latent", "5"]) == 2
    assert "--latent 5 contradicts --init-from" in capsys.readouterr().err
    assert run.main([*chosen[2:], "--data", "mnist-10k"]) == 2
    assert "28" in capsys.readouterr().err


def test_watching_the_test_set_changes_no_weight(tmp_path, monkeypatch):
    for name in ("watched", "not"):
        if name == "not":
            monkeypatch.setattr(one, "watcher", lambda *_: dict)
        model = fit(load_data("digits").train, epochs=2, hidden=(8,), latent=3, backend=NAME)
        assert (model.history[-1].get("test_rate") is not None) == (name == "watched")
        thetas = {**locals().get("thetas", {}), name: model.backend.to_host(model.theta)}
    assert (thetas["watched"] == thetas["not"]).all()


def test_what_is_watched_are_the_means_over_fixed_images_spread_over_the_test_set(monkeypatch):
    model = fit(load_data("digits").train, epochs=1, hidden=(8,), latent=3, method="iwae", backend=NAME)
    images = DIGITS[::3]
    monkeypatch.setattr(metrics, "DECODED", 5 * 40)  # forty images with five samples at once, and the rest
    look = results.watcher(model, images)
    assert len(images) % 40
    assert look() == look() and len(results.watched(load_data("digits"))) == 59  # a 25th of 1,498 to train on
    assert look()["test_rate"] == pytest.approx(model.scores(images, 1)["rate"].mean(), rel=1e-5)
    assert look()["test_distortion"] == pytest.approx(model.scores(images, 1)["distortion"].mean(), rel=0.05)
    log_px = model.scores(images, 1)["log_px"].mean()
    assert look()["test_elbo"] == pytest.approx(log_px - look()["test_rate"], abs=0.2)
