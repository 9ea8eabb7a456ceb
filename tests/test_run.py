"""The command line, end to end: what a run leaves behind, and one clear sentence for everything that is wrong."""

import csv
import json
import math
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run
from data import DATASETS, load
from experiment import files, options, pictures, results, training
from ref import linear, objectives, vae
from ref.objectives import METHODS
from tests.tested import NAME, compute, device, host, on_command_line, open_tested

ROOT = Path(run.__file__).parent
QUICK = ["--data", "digits", "--epochs", "2", "--hidden", "16", "--latent", "4", "--nll-samples", "3"]
KEYS = {
    *(
        "method",
        "data",
        "backend",
        "seed",
        "epochs",
        "steps",
        "rate",
        "distortion",
        "distortion_at_mean",
        "elbo",
        "nll",
    ),
    *("nll_standard_error", "active_units", "lambda", "constraint_ma", "kappa", "seconds"),
    *("marginal_kl", "mutual_information", "information_standard_error", "mutual_information_ceiling", "mig"),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in a folder of its own and finds no data sets but the embedded one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMING_VAES_DATA", str(tmp_path / "no-data"))


def summary_of(*options: str, out="out") -> dict:
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
    summary = summary_of("--method", method)
    assert set(summary) >= KEYS and summary["method"] == method and summary["data"] == "digits"
    assert summary["backend"] == NAME
    assert all(math.isfinite(v) for v in summary.values() if isinstance(v, float))
    constrained = METHODS[method].constrained is not None
    assert all((summary[key] is not None) == constrained for key in ("lambda", "constraint_ma", "kappa", "constraint"))
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(files.FILES)
    with open("out/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "11"), ("2", "22")]
    assert (
        tuple(rows[0]) == files.COLUMNS and float(rows[0]["seconds"]) > 0 and (rows[0]["lambda"] != "") == constrained
    )
    config = json.loads(Path("out/config.json").read_text())
    assert config["command"][:3] == ["run.py", "--epochs", "2"] and config["versions"]["numpy"] == np.__version__
    assert config["options"]["method"] == method and config["options"]["samples"] == METHODS[method].samples
    with np.load("out/checkpoint.npz", allow_pickle=False) as checkpoint:
        assert int(checkpoint["step"]) == 22 and json.loads(checkpoint["config"].tobytes()) == config
        assert checkpoint["theta"].shape == checkpoint["m"].shape == checkpoint["v"].shape
        assert ("log_lambda" in checkpoint) == constrained
    for name, tiles in (("reconstructions", (10, 3)), ("interpolation", (12, 5)), ("traversals", (10, 4))):
        picture = Image.open(f"out/{name}.png")
        assert picture.size == tuple(n * 50 + 2 for n in tiles) and len(picture.getcolors()) > 10
    assert Image.open("out/curves.png").size[0] > 600
    out = capsys.readouterr().out
    assert method in out and f"{summary['rate']:.2f}" in out and "out/" in out


def test_the_originals_are_the_first_row_of_the_reconstructions():
    summary_of()
    picture = np.asarray(Image.open("out/reconstructions.png"))
    digits = DATASETS["digits"](Path(), False).test
    assert (picture[2 + 3 : 2 + 48 : 6, 2 + 3 : 2 + 48 : 6] == digits[0].reshape(8, 8)).all()


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
    static = summary_of("--method", "vae", "--likelihood", "bernoulli", "--binarize", "static", out="s")
    dynamic = summary_of("--method", "vae", "--likelihood", "bernoulli", "--binarize", "dynamic", out="d")
    assert static["nll"] != dynamic["nll"]
    for out in "sd":
        first = np.asarray(Image.open(f"{out}/reconstructions.png"))[:52]
        assert set(np.unique(first)) == {0, 255}


def test_own_pictures_and_arrays_bring_a_kappa_of_their_own():
    rng = np.random.default_rng(0)
    Path("pictures").mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(f"pictures/{i}.png")
    images = rng.uniform(size=(40, 5, 4)).astype(np.float32)
    np.savez("mine.npz", train=images[:30], test=images[30:])
    for chosen in (["--data", "pictures", "--size", "6"], ["--data", "mine.npz"]):
        assert run.main([*QUICK, *on_command_line(), *chosen, "--batch-size", "8"]) == 0
    summary = json.loads(Path("runs/mine-geco-0/summary.json").read_text())
    assert summary["kappa"] ** 2 == pytest.approx(0.3 * images[:30].reshape(30, -1).var(axis=0).sum(), rel=0.01)
    assert Path("runs/pictures-geco-0/samples.png").exists()


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
        (["--out", "x" * 300], "cannot be read|cannot be written"),
        (["--kappa", "nan"], "'nan' is not a finite number"),
        (["--lr", "inf"], "'inf' is not a finite number"),
        (["--epochs", "0"], "'0' is not an integer above 0"),
        (["--epochs", "1.5"], "'1.5' is not an integer"),
        (["--latent", "many"], "'many' is not an integer"),
        (["--seed", "-1"], "'-1' is not an integer at least 0"),
        (["--hidden", "0"], "'0' is not a list of layer sizes"),
        (["--hidden", "512,"], "'512,' is not a list of layer sizes"),
        (["--batch-size", "5000"], "5000 is more than the 1498 training images"),
        (["--latent", "65", "--hidden", "8"], "--latent 65 is more than the 64"),
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
        (["--sweep"], "--sweep is used only with --method all"),
        (["--method", "all", "--seeds", "0"], "'0' is not an integer above 0"),
        (["--method", "all", "--sweep", "kappa=3,"], "'' is not a finite number above 0"),
        (["--method", "all", "--sweep", "kappa=3,3"], "has a value twice"),
        (["--method", "all", "--sweep", "kappa=-1"], "'-1' is not a finite number above 0"),
        (["--method", "all", "--sweep", "epochs=3"], "'epochs=3' does not name one of beta, kappa"),
        (["--method", "all", "--sweep", "kappa=1", "kappa=2"], "names an option twice"),
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
    args, data = options.parser("").parse_args(["--hidden", "8", "--latent", "4", *chosen]), load("digits")
    args, backend = options.complete(args, data), open_tested("float32")
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


def test_beta_sets_the_level_of_the_linear_start():
    gains = []
    for beta in ("0.1", "1"):
        *_, model, state = prepared("--method", "beta-vae", "--beta", beta)
        gains.append(float(vae.params_of(model, state["theta"])["decoder"]["linear"][0, 0]))
    assert gains[0] > gains[1]


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
    chosen = ["--schedule", "constant", "--lr", "0.02", "--samples", "3", "--multiplier", "plain"]
    for rate in ([], ["--multiplier-rate", "0.5"]):
        args, _, backend, model, state = prepared(*chosen, *rate, "--weight-decay", "0.03")
        training.fit(args, backend, model, state, None, [], {})
    assert (plans[0].schedule, plans[0].lr, plans[0].samples, plans[0].weight_decay) == ("constant", 0.02, 3, 0.03)
    assert [(p.multiplier, p.multiplier_rate) for p in plans] == [("plain", 1e-3), ("plain", 0.5)]
    assert prepared()[0].multiplier_rate == pytest.approx(0.01)
    assert prepared("--epochs", "1000")[0].multiplier_rate == pytest.approx(56 / 11_000)


def test_dynamic_pixels_are_white_with_the_grey_as_probability():
    backend = open_tested("float32")
    read = training.reader(backend, np.full((2000, 3), 51, np.uint8), True)
    x = host(read(device(np.arange(2000)), backend.noise(0)))
    assert set(np.unique(x)) == {0, 1} and x.mean() == pytest.approx(0.2, abs=0.02)


def test_an_epochs_row_is_the_mean_over_its_steps():
    reports = [{"steps": n, "seconds": 1.5, **dict.fromkeys(training.MEANS, v)} for n, v in ((3, 1.0), (1, 5.0))]
    assert training.epoch_row(reports) == {"steps": 1, "seconds": 3, **dict.fromkeys(training.MEANS, 2)}


def test_the_table_names_the_psnr():
    names = ("rate", "distortion_at_mean", "elbo", "nll", "nll_standard_error", "seconds")
    summary = {"method": "vae", "distortion": 1.0, "active_units": 1, "lambda": None, **dict.fromkeys(names, 1.0)}
    table = results.table({**summary, "nll_samples": 7}, 100)
    assert "20.0 dB" in table and "0.100" in table and "NLL (K = 7)" in table


def test_the_pictures_of_a_run_are_what_they_are_called(monkeypatch, tmp_path):
    _, data, backend, model, state = prepared()
    drawn, grid = [], pictures.grid
    monkeypatch.setattr(
        pictures, "grid", lambda pixels, shape, columns: drawn.append(pixels) or grid(pixels, shape, columns)
    )
    read, params = training.reader(backend, data.test, False), vae.params_of(model, state["theta"])
    pictures.draw_pictures(tmp_path, backend, model, state["theta"], read, len(data.test), data.shape)
    reconstructions, prior, aggregate, interpolation, traversals = drawn
    x, at_mean, sampled = np.split(reconstructions, 3)
    mean, _, _ = compute(vae.encode, model, params, x)
    many, _, _ = compute(vae.encode, model, params, read(device(np.arange(len(data.test))), None))

    def decoded(z):
        return compute(vae.decode, model, params, z)[0]

    np.testing.assert_allclose(x, data.test[:10] / 255, atol=1e-6)
    np.testing.assert_allclose(at_mean, decoded(mean), atol=1e-6)
    assert (sampled != at_mean).any() and len(prior) == len(aggregate) == 100 and (prior != aggregate).any()
    first = interpolation.reshape(5, 12, -1)
    np.testing.assert_allclose(first[:, [0, -1]], x.reshape(5, 2, -1), atol=1e-6)
    np.testing.assert_allclose(first[:, [1, -2]], decoded(mean).reshape(5, 2, -1), atol=1e-5)
    np.testing.assert_allclose(first[:, 4], decoded(mean[::2] + (mean[1::2] - mean[::2]) / 3), atol=1e-5)
    z = np.tile(mean[:1], (10, 1))
    z[:, many.var(axis=0).argmax()] = np.linspace(-pictures.REACH, pictures.REACH, 10)
    np.testing.assert_allclose(traversals[:10], decoded(z), atol=1e-5)


def test_samples_of_the_aggregate_posterior_are_sampled_reconstructions_spread_over_the_test_set(monkeypatch, tmp_path):
    _, data, backend, model, state = prepared()
    rows, images = [], training.reader(backend, data.test, False)

    def read(r, noise):
        rows.append(host(r))
        return images(r, noise)

    pictures.draw_pictures(tmp_path, backend, model, state["theta"], read, 299, data.shape)
    assert len({*rows[1]}) == 100 and rows[1].max() > 290


def test_the_preset_of_burda_is_the_protocol_of_the_paper_and_each_of_its_options_gives_way():
    chosen = ["--method", "iwae", "--preset", "burda"]
    args = options.complete(options.parser("").parse_args(chosen), load("sprites"))
    assert (args.hidden, args.latent, args.activation, args.output) == ((200, 200), 50, "tanh", "sigmoid")
    assert (args.likelihood, args.binarize, args.batch_size, args.weight_decay) == ("bernoulli", "dynamic", 20, 0)
    assert (args.adam, args.schedule, args.lr) == ((0.99, 0.999, 1e-4), "stages", 1e-3)
    assert (args.epochs, args.nll_samples) == (3280, 5000)
    other = ["--latent", "7", "--adam", "0.5,0.9,1e-3", "--schedule", "cosine", "--binarize", "none", "--epochs", "2"]
    args = options.complete(options.parser("").parse_args([*chosen, *other]), load("sprites"))
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


def test_known_factors_put_the_gap_into_the_summary(monkeypatch):
    sprites = load("sprites")
    few = sprites._replace(
        train=sprites.train[::40], test=sprites.test[::15], factors={k: v[::15] for k, v in sprites.factors.items()}
    )
    monkeypatch.setattr("experiment.one.load", lambda *args: few)
    summary = summary_of("--data", "sprites")
    gaps = [summary[f"mig_{name}"] for name in ("shape", "scale", "rotation", "x", "y")]
    assert 0 <= summary["mig"] < 1 and summary["mig"] == pytest.approx(np.mean(gaps))


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
        raise KeyboardInterrupt

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
    assert summary["steps"] == 30 and summary["rate"] < 1000


def test_images_that_are_all_the_same_are_refused(capsys):
    np.savez("same.npz", train=np.full((9, 4, 4), 7, np.uint8), test=np.full((3, 4, 4), 7, np.uint8))
    assert "all the same" in refusal(capsys, "--data", "same.npz")


def test_a_constraint_that_is_missed_on_either_side_is_reported_and_a_multiplier_at_its_limit():
    args = options.parser("").parse_args(["--kappa", "2", "--epochs", "5"])

    def warning(excess: float, first: float, last: float) -> str | None:
        rows = [{"distortion": 9.0, "lambda": lam} for lam in (first, 1.0, 1.0, 1.0, last)]
        return results.warn(args, {"constraint_ma": excess, "lambda": last}, rows)

    most = math.exp(objectives.TRAVEL * 4 / 5)  # in the four epochs after the first
    assert re.search(r"not met.*9.*too much by 5.*moved as fast as it may", warning(5.0, 1.0, most))
    assert re.search(r"does not bind.*error 3 .*κ² = 4; λ.*moved as fast.*--kappa 2", warning(-1.0, most, 1.0))
    assert "as fast" not in warning(5.0, 1.0, 0.9 * most) and "as fast" not in warning(-1.0, 1.0, 1.0)
    assert warning(0.19, 1.0, 1.0) is None and warning(-0.19, 1.0, 1.0) is None
    assert "best so far was 4.21;" in warning(0.21, 1.0, 1.0)


def test_numbers_that_stop_being_finite_stop_the_run_and_keep_the_last_checkpoint(capsys):
    chosen = ["--out", "out", "--lr", "1e30", "--precision", "float64", "--epochs", "50"]
    status = run.main([*QUICK, *on_command_line(), *chosen])
    error = capsys.readouterr().err
    assert status == 1 and error.count("\n") == 1 and "step" in error and "λ" in error and "--lr" in error
    assert not Path("out/summary.json").exists()


def test_the_command_itself_is_quiet_and_fails_without_a_traceback():
    command = [sys.executable, str(ROOT / "run.py")]
    good = subprocess.run([*command, *QUICK, "--method", "vae"], capture_output=True, text=True, timeout=120)
    assert good.returncode == 0 and good.stderr == "" and good.stdout.count("\n") == 3
    bad = subprocess.run([*command, "--method", "gecko"], capture_output=True, text=True, timeout=120)
    assert bad.returncode == 2 and bad.stdout == "" and bad.stderr.count("\n") == 1
    help_text = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=120).stdout
    assert all(name in help_text for name in (*METHODS, *DATASETS, "--beta", "--kappa", "--multiplier"))
