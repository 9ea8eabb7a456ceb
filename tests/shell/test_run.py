"""The command line, end to end: what a run leaves behind, and one clear sentence for everything that is wrong."""

import math
import os
import re
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import data
import run
from data import DATASETS, load
from data.dataset import with_validation
from experiment import evaluation, fit, pictures, record, run_folder, sources, training
from experiment import load as load_model
from experiment.record import Start, bounds
from experiment.run_folder import last_epoch, read_checkpoint, rows_of, state_of
from ref import vae
from ref.more import linear
from ref.objectives import METHODS
from tests.shell.runs import QUICK, after_each, completed, json_of, made, metrics_of, refused, status
from tests.tested import NAME, host, open_tested

ROOT = Path(run.__file__).parent
DRAW_PICTURES, DRAW_CURVES = pictures.draw_pictures, pictures.draw_curves
KEYS = {
    *("method", "data", "backend", "seed", "epochs", "steps", "rate", "error", "error_at_mean", "elbo"),
    *("nll", "nll_standard_error", "active_units", "lambda", "constraint", "train_constraint", "kappa", "seconds"),
    *("version", "likelihood", "beta", "variance", "samples", "latent", "hidden", "lr", "batch_size"),
    *("target", "options", "calibrated_variance", "calibrated_elbo", "calibrated_nll"),
    *("marginal_kl", "mutual_information", "information_standard_error", "mutual_information_ceiling"),
}
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_every_method_leaves_everything_behind(method, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "draw_pictures", DRAW_PICTURES)
    monkeypatch.setattr(pictures, "draw_curves", DRAW_CURVES)
    summary, constrained = made("out", "--method", method), METHODS[method].constraint is not None
    assert {*summary} >= KEYS
    assert (summary["method"], summary["data"], summary["backend"]) == (method, "digits", NAME)
    assert all(math.isfinite(v) for v in summary.values() if isinstance(v, float))
    assert summary["rmse"] ** 2 * 64 == pytest.approx(summary["error"])
    assert summary["psnr"] == pytest.approx(-20 * math.log10(summary["rmse"]))
    assert (summary["lambda"] is not None) == constrained
    of_a_target = ("train_constraint", "target", "constraint")
    assert all((summary[key] is not None) == bounds(METHODS[method]) for key in of_a_target)
    rate, error, variance = (summary[name] for name in ("rate", "error", "calibrated_variance"))
    elbo = -rate - 32 * math.log(2 * math.pi * variance) - error / (2 * variance)
    rows = metrics_of("out")
    assert variance == pytest.approx(float(rows[-1]["error"]) / 64)
    assert summary["calibrated_elbo"] == pytest.approx(elbo)
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(run_folder.FILES)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "11"), ("2", "22")]
    assert [*rows[0]] == [*run_folder.COLUMNS] and float(rows[0]["seconds"]) > 0
    assert all((row["lambda"] != "") == constrained and row["test_error"] != "" for row in rows)
    config, saved = json_of("out", "config.json"), run_folder.read_checkpoint(Path("out"))
    assert config["command"][:3] == ["run.py", "--data", "digits"]
    assert config["versions"]["numpy"] == np.__version__
    expected = completed(*QUICK, "--method", method).run
    assert record.of_json(config.pop("run")) == saved.run == expected and config == saved.config
    arrays = saved.arrays
    assert arrays["step"] == 22
    assert arrays["theta"].shape == arrays["m"].shape == arrays["v"].shape
    assert ("log_lambda" in arrays) == constrained and arrays["theta"].dtype == np.float32
    assert Image.open("out/curves.png").size[0] > 600
    out = capsys.readouterr().out
    assert method in out and f"{summary['rate']:.2f}" in out and "out/" in out


def test_validation_images_are_training_images_in_the_place_of_test_images(capsys, monkeypatch):
    whole, seen, out = load("digits"), [], "runs/a"
    made(out, "--epochs", "1", "--validation", "98")
    assert "1,400 images to train on and 98 to test: held out of the training images" in capsys.readouterr().out
    assert status("--resume", out, "--epochs", "2") == 0
    after_each(monkeypatch, evaluation, "inputs", lambda _, images: seen.append(images))
    assert status("--load", out, "--evaluate") == 0
    before, after = json_of(out, "summary.json"), json_of(out, "evaluation-nll3.json")
    assert after["error"] == before["error"]
    assert after["data"] == before["data"] == "digits-validation98"
    held, train = ({row.tobytes() for row in images} for images in (seen[0], whole.train))
    assert len(held) == 98 and held <= train and not held & {row.tobytes() for row in whole.test}
    found = with_validation(whole, 98)
    assert not (found.test == whole.train[:98]).all()
    assert not (found.test == whole.train[-98:]).all()
    at = {row.tobytes(): label for row, label in zip(whole.train, whole.labels[0], strict=True)}
    assert [at[row.tobytes()] for row in found.test] == found.labels[1].tolist()
    assert {row.tobytes() for row in found.train} | held == train
    few = "1498 images for validation leave too few to train on; hold out 1496"
    refused(capsys, [*QUICK, "--validation", "1498"], few)


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_methods_learn_and_are_tested_on_black_and_white_whatever_k_is(binarize):
    chosen = ["--method", "iwae", "--likelihood", "bernoulli", "--binarize", binarize]
    white = data.binarize(load("digits").test, 1) / 255
    for samples in ("1", "5"):
        summary, model = made(samples, *chosen, "--samples", samples), load_model(samples, NAME)
        at_mean = np.sum((model.reconstruct(white).reshape(white.shape) - white) ** 2, axis=1).mean()
        assert summary["error_at_mean"] == pytest.approx(at_mean, rel=1e-5)
    opened, _ = sources.opened("digits", binarize)
    assert len(np.unique(opened.train)) == (2 if binarize == "static" else 17)  # grey is a probability for dynamic


def test_what_own_images_bring_is_chosen_from_them_and_said(capsys):
    """κ² is 6 % of the variance of photographs, and 30 % of that of pictures that are mostly black or white."""
    rng = np.random.default_rng(0)
    Path("pictures").mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(f"pictures/{i}.png")
    images = rng.uniform(0.2, 0.8, size=(400, 5, 4)).astype(np.float32)
    np.savez("grey.npz", train=images[:300], test=images[300:])
    np.savez("drawn.npz", train=np.round(images[:300]), test=np.round(images[300:]))
    quick = ["--epochs", "1", "--nll-samples", "2"]  # a sixteenth of 300 images makes batches of 18
    for name, share, units in (("grey.npz", 0.06, 10), ("drawn.npz", 0.3, 42)):
        summary, said = made(name[:-4], "--data", name, quick=quick), capsys.readouterr().out
        train = np.load(name)["train"].reshape(300, -1)
        assert summary["kappa"] ** 2 == pytest.approx(share * train.var(axis=0).sum(), rel=0.01)
        rmse = math.sqrt(summary["kappa"] ** 2 / 20)
        assert f"--kappa {summary['kappa']:g}, --latent {summary['latent']}, --hidden {units}, --variance" in said
        assert summary["variance"] == pytest.approx(summary["kappa"] ** 2 / 20, rel=1e-3)
        assert f"RMSE of {rmse:.3g} a pixel, PSNR {-20 * math.log10(rmse):.1f} dB" in said
    assert status(*quick, "--data", "pictures", "--size", "6") == 0
    assert "27 images to train on and 3 to test" in capsys.readouterr().out
    assert Path("runs/pictures-geco-epochs1-nll-samples2-size6-0/samples.png").exists()
    assert status(*quick, "--data", "grey.npz", "--seeds", "2") == 0
    assert capsys.readouterr().out.count("κ tolerates an RMSE") == 2
    fit(images, epochs=1, backend=NAME)
    assert "κ tolerates an RMSE" in capsys.readouterr().err


def test_what_lies_in_a_folder_is_kept_and_said_unless_forced(capsys):
    made("out")
    again = [*QUICK, "--out", "out"]
    ended = "--out out already holds this run, which has ended; choose another --out or --seed, or add --force"
    refused(capsys, again, ended)
    refused(capsys, [*again, "--seed", "1"], r"--out out already holds another run, which has --seed 0;")
    Path("out/summary.json").unlink()
    on = "go on by python run.py --resume out, choose another --out or --seed, or add --force"
    refused(capsys, again, f"--out out already holds this run, which was stopped; {on}")
    Path("out/checkpoint.npz").write_bytes(b"")
    refused(capsys, again, r"--out out already holds a run that cannot be read: .*; choose")
    Path("out/evaluation-nll5.json").touch()
    assert made("out", "--seed", "1", "--force")["seed"] == 1
    assert not Path("out/evaluation-nll5.json").exists()


def test_another_run_is_told_by_what_was_typed_and_not_by_what_follows_from_it(monkeypatch):
    np.save("own.npy", np.random.default_rng(0).random((50, 6, 6)))
    there = completed("--data=own.npy", "--kappa=1").run
    monkeypatch.setattr(run_folder, "read_checkpoint", lambda _: SimpleNamespace(run=there))
    for other, words in (
        (completed("--data=own.npy", "--kappa=2").run, "which has --kappa 1.0"),  # latents and σ² follow from it
        (completed("--data=own.npy", "--kappa=1", "--epochs=9").run, "which has --epochs 1500"),  # and η
        (completed("--data=digits", "--kappa=1").run, "of --data own.npy"),
        (there.but(start=Start("a", "0")), "which has another start"),
    ):
        assert run_folder.what_lies_in(Path("out"), other) == f"another run, {words}"


def test_an_own_folder_that_is_called_like_a_data_set_has_runs_of_its_own(capsys):
    Path("mine/digits").mkdir(parents=True)
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(f"mine/digits/{i}.png")
    names = [completed("--data", source).name for source in ("digits", "mine/digits", "./mine/../mine/digits/")]
    assert names == ["digits-geco-0", "own-digits-geco-0", "own-digits-geco-0"]
    assert status(*QUICK) == 0
    refused(capsys, QUICK, "-0 already holds this run, which has ended; choose another --out or --seed, or add --force")


def test_an_out_that_cannot_be_written_is_found_out_before_training(capsys):
    Path("file").write_text("in the way")
    refused(capsys, [*QUICK, "--out", "file/run"], "file/run cannot be written")
    if getattr(os, "geteuid", lambda: 0)() != 0:  # root may write anywhere, and on Windows chmod locks nothing
        Path("locked").mkdir()
        Path("locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
        refused(capsys, [*QUICK, "--out", "locked/run"], "cannot be written")


BAD = {
    "--method gecko": "gecko.*vae.*geco-iwae",
    "--data mnits": "mnits.*digits, mnist, cifar10",
    "--backend torch": "torch.*numpy.*cupy",
    "--beta 2": "--beta is not used by --method geco .it takes: --kappa, --multiplier, --multiplier-rate",
    "--method vae --kappa 4": "--kappa is not used by --method vae .it takes: none",
    "--method beta-vae --multiplier plain": "--multiplier is not used by --method beta-vae",
    "--kappa -1": r"'-1' is not a finite number in \[1e-12, 1e12\]",
    "--kappa nan": "'nan' is not a finite number in",
    "--lr inf": r"'inf' is not a finite number in \(0, inf\)",
    "--seed 1" + "0" * 400: "is not an integer at least 0",
    "--adam 0.9,nan,1e-8": "is not β₁,β₂,ε",
    "--seed -1": "'-1' is not an integer at least 0",
    "--out " + "x" * 300: "too long",
    "--epochs 0": "'0' is not an integer above 0",
    "--latent many": "'many' is not an integer",
    "--hidden 0": "'0' is not a list of layer sizes",
    "--data digits --batch-size 5000": "5000 is more than the 1498 training images",
    "--data digits --latent 65 --hidden 8": "--latent 65 is more than the 64",
    "--likelihood bernoulli": "--binarize dynamic or static",
    "--likelihood bernoulli --variance 1": "--variance is not used by --likelihood bernoulli",
    "--likelihood bernoulli --output linear": "--output linear is not used by --likelihood bernoulli",
    "--size 8": "--size",
    "--hidden 2000000000": "out of memory.*--hidden",
    "--xyzzy 3": "unrecognized arguments: --xyzzy 3; --help lists the options",
    "--adam 0.9,0.999": "'0.9,0.999' is not β₁,β₂,ε",
    "--adam 0.9,1,1e-8": "each β between 0 and 1",
    "--preset kingma": "kingma.*burda",
    "--preset burda --variance 1": "--variance is not used by --likelihood bernoulli",
    "--data digits --hidden none --activation tanh": "--activation is not used by --hidden none",
    "--method iwae --warm-up 10": r"'10' is not a finite number in \[0, 1\]",
    "--warm-up 0.1": "--warm-up is not used by --method geco",
    "--precision float16": "invalid choice: 'float16'",
    "--latents 3": "unrecognized arguments: --latents 3; did you mean --latent?",
    "x --versoin": "unrecognized arguments: x --versoin; did you mean --version?",
    "--method vae --kappa 3 4": "--kappa is not used by --method vae .it takes: none",
    "--kappa 3 nan": "'nan' is not a finite number in",
    "--latent 3 4": "unrecognized arguments: 4",
    f"--seed {2**63 - 1} --seeds 2": "--seeds 2 from --seed .* would end at .*; begin at a smaller --seed",
    "--method all --seeds 0": "'0' is not an integer above 0",
    "--data empty": "empty",
    "--data wrong.npz": "wrong.npz",
    "--data same.npz": "all the same",
    "--data mnist --data-dir empty/kept": "empty/kept",
    "--data digits --data-dir empty": "--data-dir is where mnist, cifar10 are kept; --data digits does not use it",
    "--data same.npz --data-dir empty": "--data same.npz does not use it",
}


def test_bad_options_and_bad_data_get_one_sentence(capsys):
    Path("empty/kept/mnist").mkdir(parents=True)
    for name in ("train", "t10k"):
        Path(f"empty/kept/mnist/{name}-images-idx3-ubyte").write_bytes(b"not IDX")
    np.savez("wrong.npz", a=np.zeros(3))
    np.savez("same.npz", train=np.full((9, 4, 4), 7, np.uint8), test=np.full((3, 4, 4), 7, np.uint8))
    for options, sentence in BAD.items():
        refused(capsys, options.split(" "), sentence)


def test_cupy_without_a_gpu_says_what_to_install(capsys):
    with suppress(ImportError):
        import cupy

        if cupy.cuda.is_available():
            pytest.skip("there is a GPU")
    refused(capsys, ["--backend", "cupy"], "cupy")


def first_state(*chosen: str) -> tuple:
    """The network and the first state of a run on the digits, and its images."""
    run, backend = completed("--data", "digits", "--hidden", "8", "--latent", "4", *chosen).run, open_tested("float32")
    digits = load("digits")
    read = sources.reader(backend, digits.train, False)
    return (*host(training.first_state(run, backend, digits, read)), digits.train / 255)


def test_a_linear_output_starts_at_the_linear_vae_that_is_asked_for():
    e = np.linalg.eigvalsh(np.cov(load("digits").train.T / 255, bias=True))[::-1]
    for chosen, level, sign in (  # of log λ, where there is a λ
        ("--kappa 1.5 --variance 0.2", linear.level_for(e[:20], e.sum(), 1.5**2), -1),
        ("--method rate --rate 5", linear.level_for_rate(e[:20], 5), 1),
        ("--method sigma-vae", e[20:].sum() / 44, -1),
        ("--method beta-vae --beta 0.1", 0.1 * 0.5, 0),
        ("--method beta-vae --beta 1 --variance 0.2", 0.2, 0),
        ("--method beta-vae --beta 0.5 --variance 0.4", 0.5 * 0.4, 0),
    ):
        model, state, x = first_state(*chosen.split(), "--latent", "20")
        gain = vae.params_of(model, state["theta"])["decoder"]["linear"].diagonal()
        np.testing.assert_allclose(gain, np.sqrt(np.maximum(1 - level / e[:20], 0)), atol=0.02, err_msg=chosen)
        assert e[0] * (1 - gain[0] ** 2) == pytest.approx(level, rel=1e-3), chosen
        assert model.variance == float(chosen.partition("--variance ")[2] or 0.5)
        assert model.activation == "silu"
        np.testing.assert_allclose(model.center, x.mean(axis=0), atol=1e-6)
        log_lambda = float(state.get("log_lambda", 0))
        assert log_lambda == pytest.approx(sign * math.log(2 * level), abs=5e-3), chosen


def test_a_run_takes_the_multiplier_of_another_as_the_weight_of_what_it_weighs():
    def after(method: str, own: str) -> float:
        trained = SimpleNamespace(history=[{"lambda": 4.0}], run=SimpleNamespace(objective=METHODS[method]))
        return training.multiplier_after(trained, METHODS[own].constraint)

    assert (after("geco", "sigma-vae"), after("geco", "rate"), after("rate", "geco")) == (4, 0.25, 0.25)


def test_a_run_that_holds_images_out_starts_from_no_run_that_has_seen_them(capsys):
    made("seen", quick=QUICK)
    made("held", "--validation", "98")
    chosen = [*QUICK[:2], "--epochs", "1", "--out", "b", "--validation", "50", "--init-from"]
    refused(capsys, [*chosen, "seen"], "has seen images that --validation 50 holds")
    assert status(*chosen, "held") == 0  # the fifty are among the 98


def test_a_sigmoid_output_starts_at_the_mean_image_and_lambda_at_8_over_kappa_squared():
    model, state, x = first_state("--output", "sigmoid", "--activation", "tanh", "--kappa", "2")
    bias = vae.params_of(model, state["theta"])["decoder"]["b1"]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), np.clip(x.mean(axis=0), 1e-3, 1 - 1e-3), atol=1e-5)
    assert float(state["log_lambda"]) == pytest.approx(math.log(2))
    assert model.activation == "tanh"
    total = x.var(axis=0).sum()
    for method, expected in (("sigma-vae", 32 / total), ("rate", total / (math.e * 10))):  # λ·variance = D/2
        _, state, _ = first_state("--method", method, "--output", "sigmoid")
        assert float(state["log_lambda"]) == pytest.approx(math.log(expected), abs=1e-3)


def test_an_epochs_row_is_the_mean_over_its_steps_and_where_it_ended():
    reports = [dict.fromkeys(run_folder.COLUMNS, value) | {"steps": n, "epoch": 7} for n, value in ((3, 1.0), (1, 5.0))]
    (row,), means = rows_of(reports, 5), ("loss", "rate", "error", "elbo")
    assert {name: row.pop(name) for name in means} == dict.fromkeys(means, 2)
    assert (row.pop("steps"), row.pop("seconds"), row.pop("epoch")) == (4, 6, 7)
    assert {*row.values()} == {5}
    assert rows_of(reports, 6) == []  # an epoch that is not complete
    before = dict.fromkeys(run_folder.COLUMNS, 9.0) | {"epoch": 6}
    assert last_epoch([before, *reports]) == reports


def test_the_figures_of_a_run_are_listed_without_those_that_it_does_not_have():
    summary = {"method": "vae", "rate": 1.0, "rmse": 0.1, "psnr": 20.0, "active_units": 3, "lambda": None}
    lines = [line.strip("| ").split("|") for line in evaluation.listing(summary).splitlines()]
    figures = {name.strip(): value.strip() for name, value in lines[2:]}
    assert figures == {"rate": "1.00", "RMSE": "0.100", "PSNR [dB]": "20.0", "active": "3"}
    assert "vae" in lines[0][-1]


def curves(monkeypatch, *chosen: str, test_error=2.0) -> list:
    """The panels of the curves of a run that had an error of 2 and ends at that error on test images."""
    drawn, report = [], {"rate": 5.0, "error": 2.0, "lambda": 1.0, "elbo": -9.0, "test_rate": 5.0, "test_images": 100}
    monkeypatch.setattr(pictures, "save_plot", lambda path, figure: drawn.append(figure))
    rows = [report | {"step": step, "test_error": test_error, "lambda": 17.28 / step} for step in (10, 20)]
    model = SimpleNamespace(run=completed("--data", "digits", *chosen).run, history=rows)
    DRAW_CURVES(Path(), model, load("digits"), rows)
    return drawn[0].axes


def test_the_last_multiplier_and_an_error_far_above_kappa_are_in_view(monkeypatch):
    _, error, axes = curves(monkeypatch, test_error=50.0)
    (text,), (left, right) = axes.texts, axes.get_xlim()
    assert text.get_text() == "0.864" and text.xy == pytest.approx((20, 0.864))
    assert right - 20 > 0.15 * (right - left) and axes.get_yscale() == "log"
    assert [axes.yaxis.get_major_formatter()(tick, 0) for tick in (0.9, 12.5)] == ["0.9", "12.5"]
    assert error.get_ylim()[0] == 0 and error.get_ylim()[1] > 50
    assert "test (100 of 299 images)" in [text.get_text() for text in error.get_legend().get_texts()]


@pytest.mark.parametrize("method", METHODS)
def test_the_target_is_a_line_on_the_curve_of_what_is_bounded_and_on_no_other(method, monkeypatch):
    """GECO + IWAE bounds the error under q_IW, which no panel shows."""
    targets = {}
    for axes in curves(monkeypatch, "--method", method):
        at = [line.get_ydata()[0] for line in axes.lines if "target" in line.get_label()]
        targets |= {axes.get_title().split(" ")[0]: at} if at else {}
    assert targets == {"geco": {"error": [pytest.approx(1.2**2)]}, "rate": {"rate": [10]}}.get(method, {})


def test_pictures_that_cannot_be_drawn_are_a_warning_beside_a_whole_run(monkeypatch, capsys):
    monkeypatch.setattr(pictures, "draw_pictures", lambda *_: {}["a font"])
    made("out", "--method", "vae")
    assert "run.py: <lambda> failed, and all else is whole without these pictures" in capsys.readouterr().err
    assert state_of(Path("out"), read_checkpoint("out").run) == "whole"


def test_images_of_low_rank_and_fewer_than_a_batch_are_fine():
    assert math.isfinite(made("full", "--latent", "64")["rate"])
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12), dtype=np.uint8)
    np.savez("few.npz", train=images[:40], test=images[40:])
    summary = made("few", "--data", "few.npz", "--latent", "64", "--epochs", "30")
    assert summary["steps"] == 30 * (40 // 16) and summary["rate"] < 1000


def warned(*chosen: str, train=0.0, test=0.0, travelled=0.0, active=1, lost=0) -> list[str]:
    """The warnings of a run on the digits by GECO that ended with these constraints, log λ having gone so far."""
    model = SimpleNamespace(run=completed("--data", "digits", *chosen).run)
    model.history = [{"lambda": 3 / math.exp(travelled), "step": 1}, {"lambda": 3.0, "step": 100}]
    summary = {"train_constraint": train, "constraint": test, "lambda": 3.0, "active_units": active, "rate": 0.0}
    return evaluation.warnings(model, load("digits"), summary | {"not_finite": lost})


KAPPA, RATE, GUARDED = ["--kappa", "2"], ["--method", "rate", "--rate", "10"], {"travelled": 3.97}
MISSED, LOOSE, FAR = {"train": 5.0, "test": 6.0}, {"train": -2.0, "test": -2.0}, {"train": -5.0, "test": -5.0}
ENDED = [  # options, how the run ended, and what is said
    (KAPPA, MISSED, "is not met: at the end the BOTH;.* --kappa 3.03, or add --epochs"),
    (KAPPA, MISSED | GUARDED, "at its guard: at the end the BOTH;.* more --latent"),
    ([*KAPPA, "--multiplier", "plain"], MISSED | GUARDED, "is not met: at the end"),  # no guard
    (KAPPA, {"train": 0.1, "test": 1.0}, "training images alone.*4.1 on training images and 5 on test images.*more"),
    (KAPPA, {"train": -1.0, "test": -0.9}, "does not bind.*3 on training images and 3.1 on test.*a --kappa below 2 "),
    (["--kappa", "3"], FAR, "does not bind: κ² = 9 is above the variance of the images, VARIANCE"),
    (["--kappa", "3", "--binarize", "dynamic"], FAR, "does not bind: at the end"),  # pixels that are drawn vary by 9.19
    ([*KAPPA, "--method", "geco-iwae"], MISSED, "is not met: at the end the error under q_IW is 9 on"),
    (KAPPA, {"train": 0.19, "test": 0.19}, None),
    (KAPPA, {"train": -0.19, "test": -0.5}, None),
    (KAPPA, {"active": 0}, "no latent is active"),
    (KAPPA, {"lost": 7}, "7 test images have no finite score"),
    (RATE, {"train": 1.0, "test": 1.0}, "is not met: .* rate is 11 .*R = 10, and λ = 3; allow --rate 11.1, or add"),
    (RATE, LOOSE, "does not bind: .*; more --epochs or a --rate below 10 would make it"),
    (RATE, LOOSE | {"travelled": -3.97}, "not bind, and λ is at its guard: .*; more --latent or a"),
    (RATE, {"active": 0}, "a larger --rate would make it use them"),
]


@pytest.mark.parametrize(("chosen", "ended", "sentence"), ENDED)
def test_a_warning_says_what_is_wrong_with_a_run_and_what_helps(chosen, ended, sentence):
    found = warned(*chosen, **ended)
    both = "error is 9 on training images and 10 on test images, κ² = 4, and λ = 3"
    variance = f"{(load('digits').train / 255).var(axis=0).sum():.4g}"
    assert len(found) == (sentence is not None)
    assert not found or re.search(sentence.replace("BOTH", both).replace("VARIANCE", variance), found[0]), found


def test_numbers_that_stop_being_finite_stop_the_run_and_keep_the_last_checkpoint(capsys):
    chosen = ["--out", "out", "--lr", "1e30", "--precision", "float64", "--epochs", "50"]
    assert status(*QUICK, *chosen) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "step" in error and "λ" in error and "--lr" in error
    assert run_folder.read_checkpoint(Path("out")) and not Path("out/summary.json").exists()


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command, how = [sys.executable, *arguments], {"capture_output": True, "text": True, "timeout": 120}
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, **how)


def test_the_command_itself_is_quiet_and_fails_without_a_traceback():
    program = str(ROOT / "run.py")
    good = python(program, *QUICK, "--method", "vae")
    assert good.returncode == 0 and good.stderr == "" and good.stdout.count("\n") > 10
    bad = python(program, "--method", "gecko")
    assert bad.returncode == 2 and bad.stdout == "" and bad.stderr.count("\n") == 1
    help_text = python(program, "--help", PYTHONIOENCODING="ascii").stdout  # a console which has no κ
    assert all(name in help_text for name in (*METHODS, *DATASETS, "--beta", "--kappa", "--multiplier"))
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {python(program, '--version').stdout}" in cited
    done = python("-c", "import sys, run, experiment; print('matplotlib' in sys.modules)")  # only to draw
    assert done.stdout == "False\n", done.stderr
