"""The command line, end to end: what a run leaves behind, and one clear sentence for everything that is wrong."""

import csv
import json
import math
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import data as data_module
import run
from data import DATASETS, load
from experiment import checkpoint, defaults, files, one, options, pictures, results, training
from experiment import load as load_model
from experiment.defaults import complete
from experiment.model import TrainedModel
from ref import linear, vae
from ref.adam import adam, step_sizes
from ref.objectives import METHODS
from tests.shell.undrawn import undrawn
from tests.tested import NAME, device, host, on_command_line, open_tested

ROOT = Path(run.__file__).parent
QUICK = ["--data", "digits", "--epochs", "2", "--hidden", "16", "--latent", "4", "--nll-samples", "3"]
KEYS = {
    *("method", "data", "backend", "seed", "epochs", "steps", "rate", "distortion", "distortion_at_mean", "elbo"),
    *("nll", "nll_standard_error", "active_units", "lambda", "constraint", "train_constraint", "kappa", "seconds"),
    *("version", "likelihood", "beta", "variance", "samples", "latent", "hidden", "lr", "batch_size"),
    *("marginal_kl", "mutual_information", "information_standard_error", "mutual_information_ceiling"),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in a folder of its own and finds no data sets but the embedded one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMING_VAES_DATA", str(tmp_path / "no-data"))


def summary_of(*options: str, out="out", drawn=False) -> dict:
    """The summary of a run in the folder `out`, whose pictures are drawn or not."""
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            undrawn(patch)
        assert run.main([*QUICK, *on_command_line(), "--out", out, *options]) == 0
    return json.loads(Path(out, "summary.json").read_text())


def refusal(capsys, *options: str) -> str:
    """The one sentence on stderr of a command that must fail with status 2 and write nothing."""
    before = sorted(Path().rglob("*"))
    assert run.main(list(options)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("run.py: ")
    assert sorted(Path().rglob("*")) == before
    return captured.err


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_every_method_leaves_everything_behind(method, capsys):
    summary = summary_of("--method", method, drawn=True)
    assert set(summary) >= KEYS and summary["method"] == method and summary["data"] == "digits"
    assert summary["backend"] == NAME
    assert all(math.isfinite(v) for v in summary.values() if isinstance(v, float))
    assert summary["rmse"] ** 2 * 64 == pytest.approx(summary["distortion"])
    assert summary["psnr"] == pytest.approx(-20 * math.log10(summary["rmse"]))
    constrained = METHODS[method].constrained is not None
    assert all(
        (summary[key] is not None) == constrained for key in ("lambda", "train_constraint", "kappa", "constraint")
    )
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(files.FILES)
    with open("out/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "11"), ("2", "22")]
    assert (
        {*rows[0]} == {*checkpoint.COLUMNS}
        and float(rows[0]["seconds"]) > 0
        and (rows[0]["lambda"] != "") == constrained
    )
    config = json.loads(Path("out/config.json").read_text())
    assert config["command"][:3] == ["run.py", "--data", "digits"] and config["versions"]["numpy"] == np.__version__
    assert config["options"]["method"] == method and config["options"]["samples"] == METHODS[method].samples
    with np.load("out/checkpoint.npz", allow_pickle=False) as arrays:
        assert int(arrays["step"]) == 22 and json.loads(arrays["config"].tobytes()) == config
        assert arrays["theta"].shape == arrays["m"].shape == arrays["v"].shape
        assert ("log_lambda" in arrays) == constrained
    assert Image.open("out/curves.png").size[0] > 600
    out = capsys.readouterr().out
    assert method in out and f"{summary['rate']:.2f}" in out and "out/" in out


def test_the_same_seed_gives_the_same_weights_and_figures():
    runs = [summary_of("--seed", seed, out=out) for seed, out in (("5", "a"), ("5", "b"), ("6", "c"))]
    theta = [np.load(f"{out}/checkpoint.npz")["theta"] for out in "abc"]
    assert (theta[0] == theta[1]).all() and (theta[0] != theta[2]).any()
    assert {**runs[0], "seconds": 0} == {**runs[1], "seconds": 0}


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "vae", "--samples", "3"],
        ["--method", "iwae", "--likelihood", "bernoulli", "--binarize", "dynamic"],
        ["--method", "vae", "--likelihood", "bernoulli", "--binarize", "static"],
        ["--method", "vae", "--likelihood", "bernoulli", "--binarize", "none"],
        ["--method", "geco", "--multiplier", "plain", "--multiplier-rate", "0.01"],
        ["--hidden", "none"],
        ["--hidden", "none", "--output", "sigmoid"],
        ["--output", "sigmoid", "--activation", "tanh", "--schedule", "constant"],
        ["--precision", "float64", "--batch-size", "1498"],
        ["--variance", "0.1", "--lr", "1e-4"],
    ],
    ids=" ".join,
)
def test_every_option_runs(options):
    assert math.isfinite(summary_of(*options)["elbo"])


def test_static_binarization_trains_on_black_and_white_and_dynamic_on_grey_as_probability():
    chosen = ["--method", "vae", "--likelihood", "bernoulli", "--binarize"]
    assert summary_of(*chosen, "static", out="s")["nll"] != summary_of(*chosen, "dynamic", out="d")["nll"]
    args = options.parsed(["--data", "digits", *chosen, "static"])[0]
    assert {*np.unique(one.open_data(args).train)} == {0, 255}
    args.binarize = "dynamic"
    assert len(np.unique(one.open_data(args).train)) == 17


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_methods_are_tested_on_the_same_black_and_white_images_whatever_k_is(binarize):
    chosen = ["--method", "iwae", "--likelihood", "bernoulli", "--binarize", binarize]
    white = data_module.binarize(load("digits").test, 1) / 255
    for samples in ("1", "5"):
        summary = summary_of(*chosen, "--samples", samples, out=samples)
        model = load_model(samples, NAME)
        at_mean = np.sum((model.reconstruct(white).reshape(white.shape) - white) ** 2, axis=1).mean()
        assert summary["distortion_at_mean"] == pytest.approx(at_mean, rel=1e-5)


def test_what_own_images_bring_is_chosen_from_them_and_said(capsys):
    """κ² is 6 % of the variance of photographs, and 30 % of that of pictures that are mostly black or white."""
    rng = np.random.default_rng(0)
    Path("pictures").mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(f"pictures/{i}.png")
    images = rng.uniform(0.2, 0.8, size=(400, 5, 4)).astype(np.float32)
    np.savez("grey.npz", train=images[:300], test=images[300:])
    np.savez("drawn.npz", train=np.round(images[:300]), test=np.round(images[300:]))
    quick = [*on_command_line(), "--epochs", "1", "--nll-samples", "2"]
    for name, share, units in (("grey.npz", 0.06, 10), ("drawn.npz", 0.3, 42)):
        assert run.main([*quick, "--data", name, "--out", name[:-4]]) == 0
        summary, said = json.loads(Path(name[:-4], "summary.json").read_text()), capsys.readouterr().out
        train = np.load(name)["train"].reshape(300, -1)
        assert summary["kappa"] ** 2 == pytest.approx(share * train.var(axis=0).sum(), rel=0.01)
        rmse = math.sqrt(summary["kappa"] ** 2 / 20)
        assert f"--kappa {summary['kappa']:g}, --latent {summary['latent']}, --hidden {units}, --batch-size" in said
        assert f"RMSE of {rmse:.3f} a pixel, PSNR {-20 * math.log10(rmse):.1f} dB" in said
    assert run.main([*quick, "--data", "pictures", "--size", "6"]) == 0
    assert "27 images to train on and 3 to test" in capsys.readouterr().out
    assert Path("runs/pictures-geco-epochs1-nll-samples2-0/samples.png").exists()


def test_latents_are_those_that_the_best_linear_vae_uses_at_kappa():
    """Eight directions of variance 1, 1/2, …, 1/128: at a level of 1/20 the first five are in use."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(2000, 9)) + np.eye(2000, 9) * 0)[0]
    scores = basis[:, 1:] - basis[:, 1:].mean(axis=0)
    scores = np.linalg.qr(scores)[0] * math.sqrt(2000)  # uncorrelated, of mean 0 and variance 1
    variances = 0.5 ** np.arange(8)
    images = np.pad(scores * np.sqrt(variances), ((0, 0), (0, 4))) + 0.5
    assert defaults.latents_for(images, np.minimum(variances, 1 / 20).sum()) == 5


def test_a_few_pictures_train_for_thousands_of_steps_and_many_for_twenty_epochs():
    def budget(count: int) -> tuple[int, int]:
        images = np.zeros((count, 4), np.float32)
        args = options.parsed(["--data", "mine", "--kappa", "1", "--latent", "1"])[0]
        found = defaults.defaults_of(args, SimpleNamespace(train=images))
        return found["batch_size"], found["epochs"]

    assert budget(270) == (16, 188) and 187 * (270 // 16) < 3000 <= 188 * (270 // 16)
    assert budget(3600) == (128, 108) and budget(50_000) == (128, 20)


def test_the_fewer_the_images_the_smaller_the_network_and_smaller_for_photographs_than_for_drawings():
    def hidden(count: int, pixel: float, *chosen: str) -> tuple[int, ...]:
        args = options.parsed(["--data", "mine", "--kappa", "1", "--latent", "1", *chosen])[0]
        return complete(args, SimpleNamespace(name="mine", train=np.full((count, 4), pixel, np.float32))).hidden

    grey = [hidden(n, 0.5) for n in (20, 280, 3600, 14_335, 14_336)]
    assert grey == [(8,), (10,), (128,), (511,), (512, 256)]
    assert [hidden(n, 1.0) for n in (20, 280, 3583, 3600)] == [(8,), (40,), (511,), (512, 256)]
    assert hidden(280, 0.5, "--hidden", "64,32") == (64, 32)


def test_the_curve_of_test_images_is_in_view_where_it_ends_far_above_kappa():
    """It is orange and crosses the second of three panels; the line in its legend is short."""
    report = {"rate": 5.0, "distortion": 10.0, "lambda": 1.0, "test_rate": 5.0}
    rows = [report | {"step": step, "test_distortion": 30.0 + step} for step in (10, 20)]
    pictures.draw_curves(Path("curves.png"), rows, rows, math.sqrt(10))
    pixels = np.asarray(Image.open("curves.png").convert("RGB")).astype(int)
    panel = pixels[:, pixels.shape[1] // 3 : 2 * pixels.shape[1] // 3]
    orange = np.abs(panel - [255, 127, 14]).sum(axis=2) < 60
    assert np.ptp(np.flatnonzero(orange.any(axis=0))) > panel.shape[1] / 2


def test_an_existing_run_is_kept_unless_forced(capsys):
    summary_of()
    before = {p: p.read_bytes() for p in Path("out").iterdir()}
    assert run.main([*QUICK, "--out", "out", "--seed", "1"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in Path("out").iterdir()} == before
    assert summary_of("--seed", "1", "--force")["seed"] == 1


def test_an_out_that_cannot_be_written_is_found_out_before_training(capsys):
    Path("file").write_text("in the way")
    assert "file/run cannot be written" in refusal(capsys, *QUICK, "--out", "file/run")
    if os.geteuid() != 0:  # root may write anywhere
        Path("locked").mkdir()
        Path("locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert "cannot be written" in refusal(capsys, *QUICK, "--out", "locked/run")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--method", "gecko"], "gecko.*vae.*geco-iwae"),
        (["--data", "mnits"], "mnits.*digits, mnist, cifar10"),
        (["--backend", "torch"], "torch.*numpy.*cupy"),
        (["--beta", "2"], "--beta is not used by --method geco .it takes: --kappa, --multiplier, --multiplier-rate"),
        (["--method", "vae", "--kappa", "4"], "--kappa is not used by --method vae .it takes: none"),
        (["--method", "beta-vae", "--multiplier", "plain"], "--multiplier is not used by --method beta-vae"),
        (["--kappa", "-1"], "'-1' is not a finite number above 0"),
        (["--kappa", "1e200"], "--kappa 1e.200 is not between"),
        (["--seed", "1" + "0" * 400], "is not an integer at least 0"),
        (["--out", "x" * 300], "too long"),
        (["--kappa", "nan"], "'nan' is not a finite number"),
        (["--lr", "inf"], "'inf' is not a finite number"),
        (["--epochs", "0"], "'0' is not an integer above 0"),
        (["--epochs", "1.5"], "'1.5' is not an integer"),
        (["--latent", "many"], "'many' is not an integer"),
        (["--seed", "-1"], "'-1' is not an integer at least 0"),
        (["--hidden", "0"], "'0' is not a list of layer sizes"),
        (["--hidden", "512,"], "'512,' is not a list of layer sizes"),
        (["--data", "digits", "--batch-size", "5000"], "5000 is more than the 1498 training images"),
        (["--data", "digits", "--latent", "65", "--hidden", "8"], "--latent 65 is more than the 64"),
        (["--likelihood", "bernoulli"], "--binarize dynamic or static"),
        (["--likelihood", "bernoulli", "--variance", "1"], "--variance is not used by --likelihood bernoulli"),
        (["--likelihood", "bernoulli", "--output", "linear"], "--output linear is not used by --likelihood bernoulli"),
        (["--size", "8"], "--size"),
        (["--hidden", "2000000000"], "out of memory.*--hidden"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--adam", "0.9,0.999"], "'0.9,0.999' is not β₁,β₂,ε"),
        (["--adam", "0.9,1,1e-8"], "each β between 0 and 1"),
        (["--preset", "kingma"], "kingma.*burda"),
        (["--preset", "burda", "--variance", "1"], "--variance is not used by --likelihood bernoulli"),
        (["--seeds", "2"], "--seeds is used only with --method all"),
        (["--method", "all", "--seeds", "0"], "'0' is not an integer above 0"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_options_get_one_sentence(options, sentence, capsys):
    message = refusal(capsys, *options)
    assert re.search(sentence, message), message


def test_bad_data_get_one_sentence_that_names_the_file(capsys):
    Path("empty").mkdir()
    assert "empty" in refusal(capsys, "--data", "empty")
    np.savez("wrong.npz", a=np.zeros(3))
    assert "wrong.npz" in refusal(capsys, "--data", "wrong.npz")


def test_cupy_without_a_gpu_says_what_to_install(capsys):
    try:
        import cupy

        if cupy.cuda.is_available():
            pytest.skip("there is a GPU")
    except ImportError:
        pass
    assert "cupy" in refusal(capsys, "--backend", "cupy")


def test_an_unreachable_kappa_ends_cleanly_with_one_warning(capsys):
    summary = summary_of("--kappa", "0.01", "--epochs", "4")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "constraint is not met" in error and "κ² = 0.0001" in error
    assert all(math.isfinite(v) for v in summary.values() if isinstance(v, float))


def prepared(*chosen: str):
    """The options, the data and the backend of a run, its network and its first state."""
    args, _ = options.parsed(["--data", "digits", "--hidden", "8", "--latent", "4", *chosen])
    data = load("digits")
    args, backend = complete(args, data), open_tested("float32")
    return (args, data, backend, *training.build(args, backend, data, training.reader(backend, data.train, False)))


def test_a_linear_output_starts_at_the_linear_vae_of_kappa():
    _, data, _, *built = prepared("--kappa", "1.5", "--variance", "0.2", "--latent", "20")
    (model, state), x = host(built), data.train / 255
    np.testing.assert_allclose(model.center, x.mean(axis=0), atol=1e-6)
    assert (model.variance, model.activation) == (0.2, "silu")
    e = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    level = linear.level_for(e[:20], e.sum(), 1.5**2, 0.0)
    assert float(state["log_lambda"]) == pytest.approx(-math.log(2 * level), abs=5e-3)
    gain = vae.params_of(model, state["theta"])["decoder"]["linear"].diagonal()
    np.testing.assert_allclose(gain, np.sqrt(np.maximum(1 - level / e[:20], 0)), atol=0.02)


def test_beta_times_the_variance_of_the_likelihood_is_the_level_of_the_linear_start():
    def gain(*options: str) -> float:
        """√(1 − level/e₁), of the first principal direction."""
        *_, model, state = prepared("--method", "beta-vae", *options)
        return float(vae.params_of(model, state["theta"])["decoder"]["linear"][0, 0])

    first = 0.5 / (1 - gain("--beta", "1") ** 2)  # e₁, at the default variance of ½
    for beta, variance in ((0.1, 0.5), (1.0, 0.2), (0.5, 0.4)):
        level = first * (1 - gain("--beta", str(beta), "--variance", str(variance)) ** 2)
        assert level == pytest.approx(beta * variance, rel=1e-3)


def test_a_sigmoid_output_starts_at_the_mean_image_and_lambda_at_8_over_kappa_squared():
    _, data, _, *built = prepared("--output", "sigmoid", "--activation", "tanh", "--kappa", "2")
    model, state = host(built)
    bias, mean = vae.params_of(model, state["theta"])["decoder"]["b1"], data.train.mean(axis=0) / 255
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), np.clip(mean, 1e-3, 1 - 1e-3), atol=1e-5)
    assert float(state["log_lambda"]) == pytest.approx(math.log(2)) and model.activation == "tanh"


def test_options_reach_the_plan(monkeypatch):
    plans = []
    monkeypatch.setattr(training, "make_step", lambda backend, model, method, plan, read, state: plans.append(plan))
    monkeypatch.setattr(training, "train", lambda *args: [])
    monkeypatch.setattr(training, "epoch_rows", lambda *args: [])
    chosen = ["--schedule", "constant", "--lr", "0.02", "--samples", "3", "--multiplier", "plain"]
    for rate in ([], ["--multiplier-rate", "0.5"]):
        args, data, backend, network, state = prepared(*chosen, *rate, "--weight-decay", "0.03")
        model = TrainedModel(backend, network, state["theta"], data.shape, args, [])
        training.proceed(model, state, None, dict, {})
    assert (plans[0].schedule, plans[0].lr, plans[0].samples, plans[0].weight_decay) == ("constant", 0.02, 3, 0.03)
    assert [(p.multiplier, p.multiplier_rate) for p in plans] == [("plain", 1e-3), ("plain", 0.5)]
    assert prepared()[0].multiplier_rate == pytest.approx(0.01)
    assert prepared("--epochs", "1000")[0].multiplier_rate == pytest.approx(56 / 11_000)


def test_dynamic_pixels_are_white_with_the_grey_as_probability():
    backend = open_tested("float32")
    read = training.reader(backend, np.full((2000, 3), 51, np.uint8), True)
    x = host(read(device(np.arange(2000)), backend.noise(0)))
    assert set(np.unique(x)) == {0, 1} and x.mean() == pytest.approx(0.2, abs=0.02)


def test_an_epochs_row_is_the_mean_over_its_steps_the_sum_of_its_times_and_where_it_ended():
    reports = [dict.fromkeys(checkpoint.COLUMNS, value) | {"steps": n, "epoch": 7} for n, value in ((3, 1.0), (1, 5.0))]
    (row,), means = training.epoch_rows(reports, 5), ("loss", "rate", "distortion", "elbo")
    assert {name: row.pop(name) for name in means} == dict.fromkeys(means, 2)
    assert (row.pop("steps"), row.pop("seconds"), row.pop("epoch")) == (4, 6, 7) and {*row.values()} == {5}
    assert training.epoch_rows(reports, 6) == []  # an epoch that is not complete


def test_the_figures_of_a_run_are_listed_with_rmse_and_psnr_and_without_those_that_it_does_not_have():
    summary = {"method": "vae", "rate": 1.0, "rmse": 0.1, "psnr": 20.0, "active_units": 3, "lambda": None}
    lines = [line.strip("| ").split("|") for line in results.listing(summary).splitlines()]
    figures = {name.strip(): value.strip() for name, value in lines[2:]}
    assert figures == {"rate": "1.00", "RMSE": "0.100", "PSNR [dB]": "20.0", "active": "3"}
    assert "vae" in lines[0][-1] and defaults.a_pixel(1.0, 100) == pytest.approx((0.1, 20.0))


@pytest.mark.parametrize("data", [name for name in defaults.BY_DATA if defaults.row_of(name)["output"] == "linear"])
def test_a_batch_with_an_outlier_moves_no_weight_of_a_linear_output_by_more_than_the_learning_rate(data):
    beta1, beta2, epsilon = defaults.row_of(data)["adam"]
    theta, m, v = np.zeros(1), np.zeros(1), np.zeros(1)
    gradients = [*np.random.default_rng(0).choice([-1.0, 1.0], size=5000), 1e6]  # the outlier comes last
    for t, g in enumerate(gradients):
        before = theta.copy()
        adam(np, theta, m, v, np.array([g]), *step_sizes(np, t, 0.5, beta1, beta2, epsilon), beta1, beta2)
    assert 0.25 < before - theta < 0.5001  # with β₂ = 0.999: 1.58


def test_the_preset_of_burda_is_the_protocol_of_the_paper_and_each_of_its_options_gives_way():
    chosen = ["--method", "iwae", "--preset", "burda", "--data", "sprites"]
    args = complete(options.parsed(chosen)[0], load("sprites"))
    assert (args.hidden, args.latent, args.activation, args.output) == ((200, 200), 50, "tanh", "sigmoid")
    assert (args.likelihood, args.binarize, args.batch_size, args.weight_decay) == ("bernoulli", "dynamic", 20, 0)
    assert (args.adam, args.schedule, args.lr) == ((0.99, 0.999, 1e-4), "stages", 1e-3)
    assert (args.epochs, args.nll_samples) == (3280, 5000)
    other = ["--latent", "7", "--adam", "0.5,0.9,1e-3", "--schedule", "cosine", "--binarize", "none", "--epochs", "2"]
    args = complete(options.parsed([*chosen, *other])[0], load("sprites"))
    assert (args.latent, args.adam, args.schedule) == (7, (0.5, 0.9, 1e-3), "cosine")
    assert (args.binarize, args.epochs, args.hidden) == ("none", 2, (200, 200))


def test_a_preset_is_recorded_in_figures_and_runs(monkeypatch):
    plans, make_step = [], training.make_step
    monkeypatch.setattr(
        training,
        "make_step",
        lambda b, m, method, plan, *rest: plans.append(plan) or make_step(b, m, method, plan, *rest),
    )
    summary = summary_of("--method", "iwae", "--preset", "burda", "--samples", "2")
    config = json.loads(Path("out/config.json").read_text())["options"]
    assert (config["adam"], config["schedule"], config["preset"]) == ([0.99, 0.999, 1e-4], "stages", "burda")
    assert (plans[0].adam, plans[0].schedule, plans[0].samples) == ((0.99, 0.999, 1e-4), "stages", 2)
    assert math.isfinite(summary["nll"]) and summary["steps"] == 2 * (1498 // 20)


def test_precision_reaches_the_weights():
    summary_of("--precision", "float64")
    assert np.load("out/checkpoint.npz")["theta"].dtype == "float64"


def test_data_dir_is_where_data_are_looked_for(capsys):
    Path("elsewhere/mnist").mkdir(parents=True)
    for name in ("train", "t10k"):
        Path(f"elsewhere/mnist/{name}-images-idx3-ubyte").write_bytes(b"not IDX")
    assert "elsewhere" in refusal(capsys, "--data", "mnist", "--data-dir", "elsewhere")


def test_ctrl_c_is_status_130(monkeypatch, capsys):
    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run, "run", interrupted)
    assert run.main([]) == 130 and capsys.readouterr().err.count("\n") == 1


def test_force_removes_what_the_old_run_left():
    summary_of()
    files.claim(Path("out"), True, {}, [], lambda: None)
    assert sorted(path.name for path in Path("out").iterdir()) == ["checkpoint.npz", "config.json", "metrics.csv"]


def test_images_of_low_rank_and_fewer_than_a_batch_are_fine():
    assert math.isfinite(summary_of("--latent", "64", out="full")["rate"])
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12), dtype=np.uint8)
    np.savez("few.npz", train=images[:40], test=images[40:])
    summary = summary_of("--data", "few.npz", "--latent", "64", "--epochs", "30", out="few")
    assert summary["steps"] == 30 * (40 // 16) and summary["rate"] < 1000


def test_images_that_are_all_the_same_are_refused(capsys):
    np.savez("same.npz", train=np.full((9, 4, 4), 7, np.uint8), test=np.full((3, 4, 4), 7, np.uint8))
    assert "all the same" in refusal(capsys, "--data", "same.npz")


def test_a_constraint_that_is_missed_says_both_errors_the_multiplier_and_what_helps():
    args, _ = options.parsed(["--kappa", "2", "--hidden", "9"])

    def warning(train: float | None, test: float | None) -> str | None:
        return results.warn(args, {"train_constraint": train, "constraint": test, "lambda": 3.0})

    both = "squared error is 9 on training images and 10 on test images, κ² = 4, and λ = 3"
    assert re.search(rf"not met: at the end the {both};.*--kappa 3.03", warning(5.0, 6.0))
    assert re.search(r"does not bind.*3 on training.*3.1 on test.*a κ below 2", warning(-1.0, -0.9))
    generalizes = warning(0.1, 1.0)
    assert re.search(r"on training images alone.*4.1 on training images and 5 on test", generalizes)
    assert "--hidden" not in generalizes  # nine units are small
    assert warning(0.19, 0.19) is None and warning(-0.19, -0.5) is None and warning(None, None) is None


def test_numbers_that_stop_being_finite_stop_the_run_and_keep_the_last_checkpoint(capsys):
    chosen = ["--out", "out", "--lr", "1e30", "--precision", "float64", "--epochs", "50"]
    status = run.main([*QUICK, *on_command_line(), *chosen])
    error = capsys.readouterr().err
    assert status == 1 and error.count("\n") == 1 and "step" in error and "λ" in error and "--lr" in error
    assert not Path("out/summary.json").exists()


def test_the_command_itself_is_quiet_and_fails_without_a_traceback():
    command = [sys.executable, str(ROOT / "run.py")]
    good = subprocess.run([*command, *QUICK, "--method", "vae"], capture_output=True, text=True, timeout=120)
    assert good.returncode == 0 and good.stderr == "" and good.stdout.count("\n") > 10
    bad = subprocess.run([*command, "--method", "gecko"], capture_output=True, text=True, timeout=120)
    assert bad.returncode == 2 and bad.stdout == "" and bad.stderr.count("\n") == 1
    help_text = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=120).stdout
    assert all(name in help_text for name in (*METHODS, *DATASETS, "--beta", "--kappa", "--multiplier"))


def test_the_name_of_a_run_says_which_options_are_not_at_their_default():
    def name(*chosen: str) -> str:
        return str(complete(options.parsed(["--data", "digits", *chosen])[0], load("digits")).out)

    assert name() == name("--kappa", "1.2", "--hidden", "128,64") == "runs/digits-geco-0"
    assert name("--kappa", "1") == "runs/digits-geco-kappa1-0"
    assert name("--seed", "3", "--hidden", "64,32", "--lr", "0.002") == "runs/digits-geco-hidden64x32-lr0.002-3"
    assert name("--init-from", "runs/mnist-geco-0") == "runs/digits-geco-init-from-mnist-geco-0-0"
    assert name("--method", "iwae", "--preset", "burda", "--epochs", "3", "--binarize", "dynamic") == (
        "runs/digits-iwae-presetburda-epochs3-0"
    )


def test_help_shows_every_default_by_data_set_where_it_differs():
    text = " ".join(options.parser().format_help().split()).replace("- ", "-")  # a line may end within a name
    assert "mnist-10k: 5.0; digits: 1.2; mnist: 4.0; cifar10: 3.394; sprites: 2.0; own images: chosen from them" in text
    assert "sprites: bernoulli" in text and "(silu)" in text
    assert all(f"{name} {method.samples}" in text for name, method in METHODS.items())
    assert "by data set" not in text


def test_sprites_are_bernoulli_and_grey_unless_told_otherwise():
    args = complete(options.parsed(["--data", "sprites"])[0], load("sprites"))
    assert (args.likelihood, args.binarize, args.output, args.variance) == ("bernoulli", "none", "sigmoid", None)
    args = options.parsed(["--data", "sprites", "--likelihood", "gaussian"])[0]
    assert complete(args, load("sprites")).variance == 0.5


def test_matplotlib_is_imported_only_where_something_is_drawn():
    program = "import sys, run, experiment; assert 'matplotlib' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
