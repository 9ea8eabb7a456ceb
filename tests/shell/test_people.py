"""What people's images, machines and habits do to a run and to a trained model: right figures, or one sentence."""

import contextlib
import copy
import io
import math
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image

import data
import run
from data import load as load_data
from data.dataset import Dataset, file_names
from experiment import (
    UsageError,
    choices,
    comparison,
    evaluation,
    fit,
    load,
    pictures,
    sources,
    streams,
    trained_model,
    training,
    use_model,
)
from experiment.record import IN_MEMORY
from experiment.run_folder import FILES, read_checkpoint
from experiment.studies import runs
from experiment.studies.runs import over_seeds
from ref.more import linear, metrics
from tests.shell.runs import QUICK, completed, contents, json_of, made, refused
from tests.shell.undrawn import undrawn
from tests.tested import NAME, on_command_line, open_tested

pytestmark = pytest.mark.usefixtures("elsewhere")
DRAWERS = {name: getattr(pictures, name) for name in ("draw_pictures", "draw_curves")}
DRAW_LATENTS = pictures.draw_latents
ROOT, DIGITS = Path(run.__file__).parent, load_data("digits").test
TINY = {"hidden": (4,), "latent": 2, "epochs": 1, "backend": NAME}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on the digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        made(out)
    return out


@pytest.fixture
def drawn(monkeypatch):
    """Runs with their pictures."""
    for name, draw in DRAWERS.items():
        monkeypatch.setattr(pictures, name, draw)


def save_pictures(folder, count=12) -> None:
    Path(folder).mkdir(parents=True)
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (count, 6, 6), dtype=np.uint8)):
        Image.fromarray(pixels).save(Path(folder, f"{i}.png"))


def test_no_run_trains_on_what_the_program_has_written(monkeypatch, drawn):
    """Issue: 40 pictures became 146, curves and samples among them."""
    save_pictures("mine")
    monkeypatch.chdir("mine")
    quick = ["--data", ".", "--epochs", "1", "--nll-samples", "2"]
    first = made("runs/a", quick=quick)
    for use in (["--sample", "100"], ["--sample", "3", "--out", "draws"], ["--reconstruct", "1.png", "--out", "again"]):
        assert run.main(["--load", "runs/a", *use]) == 0
    assert run.main(["--compare", "runs/a", "--out", "compared"]) == 0
    made("runs/b", quick=quick)
    one, other = (read_checkpoint(Path("runs", name)).run for name in "ab")
    assert one == other and first["steps"] == 1
    assert "written are left out: 5, such as again" in load_data(".").split


@pytest.mark.parametrize("source", ["digits", "./digits", "mine.npz", IN_MEMORY])
def test_a_run_says_first_by_what_method_where_and_on_which_images_it_trains(source, capsys, monkeypatch):
    save_pictures("digits")
    np.savez("mine.npz", train=DIGITS[:50], test=DIGITS[50:60])
    if source == IN_MEMORY:
        fit(DIGITS[:50], test=DIGITS[50:60], method="vae", **TINY)
        said = capsys.readouterr().err
    else:
        train = training.make_step
        monkeypatch.setattr(training, "make_step", lambda *a: said.append(capsys.readouterr().out) or train(*a))
        said = []
        options = ["--data", source, "--method", "vae", "--epochs", "1", "--hidden", "4", "--latent", "2"]
        if source == "digits":
            refused(capsys, options, "digits is the name of a data set and of a file here: give ./digits")
            Path("digits").rename("elsewhere")
        assert run.main([*options, "--out", "out"]) == 0
        said = said[0]
    where = {"digits": "the data set digits", IN_MEMORY: IN_MEMORY}.get(source, str(Path(source).resolve()))
    count = {"digits": "1,498", "./digits": "11"}.get(source, "50")
    folder = "" if source == IN_MEMORY else " in out/"
    assert said.startswith(f"VAE for 1 epoch{folder}, on {where}: {count} images to train on and ")


def small_images() -> tuple[np.ndarray, np.ndarray]:
    """Images that vary by a millionth, and beside nine of them one that is a million times as far away."""
    x = (1e-6 * np.random.default_rng(0).random((60, 9))).astype(np.float32)
    return x, np.concatenate([x[:4], np.ones((1, 9), np.float32), x[4:9]])


def test_images_without_a_finite_score_are_named_first_counted_and_left_out_of_every_figure(capsys):
    train, test = small_images()
    chosen = {"hidden": (8,), "latent": 3, "kappa": 3e-7, "epochs": 3, "backend": NAME, "nll_samples": 5}
    model, summary = fit(train, test=test, out="out", **chosen), json_of("out", "summary.json")
    assert "1 test images have no finite score" in capsys.readouterr().err
    np.save("test.npy", test)
    assert run.main(["--load", "out", "--encode", "test.npy"]) == 0
    assert "least for images/4 (-inf), " in capsys.readouterr().out
    scores = model.scores(test, 5)
    assert np.flatnonzero(np.isneginf(scores["log_likelihood"])).tolist() == [4]
    others = np.arange(10) != 4
    assert summary["not_finite"] == 1
    assert summary["rate"] == pytest.approx(scores["rate"][others].mean(), rel=1e-5)
    assert summary["mutual_information_ceiling"] == math.log(9)
    np.testing.assert_allclose(summary["error_at_mean"], scores["error_at_mean"][others].mean(), rtol=1e-4)
    watched = evaluation.look(model, test)
    assert watched["rate"] == pytest.approx(summary["rate"], rel=1e-5) and watched["error"] > 0
    assert model.history[-1]["test_rate"] == pytest.approx(summary["rate"], rel=1e-5)


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_what_is_said_of_an_image_follows_from_that_image_alone(binarize):
    likelihood = "gaussian" if binarize == "none" else "bernoulli"
    model = fit(DIGITS, "iwae", binarize=binarize, likelihood=likelihood, **TINY)
    whole = {"mean": model.encode(DIGITS)[0], "log_likelihood": model.log_likelihood(DIGITS, 7)}
    order = np.random.default_rng(0).permutation(len(DIGITS))
    ways = {
        "shuffled": (order, DIGITS[order]),
        "alone": ([5], DIGITS[5:6]),
        "repeated": ([5] * 40, DIGITS[[5] * 40]),
        "floats": (range(299), DIGITS / 255),
    }
    for way, (rows, images) in ways.items():
        found = {"mean": model.encode(images)[0], "log_likelihood": model.log_likelihood(images, 7)}
        for name, values in found.items():
            np.testing.assert_allclose(values, whole[name][list(rows)], rtol=2e-5, atol=2e-5, err_msg=f"{way} {name}")
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda _: model.log_likelihood(DIGITS, 7), range(12))]
    assert all((one == whole["log_likelihood"]).all() for one in found)


def test_noise_that_follows_from_the_images_is_normal_and_that_of_no_two_images_is_alike():
    model = fit(DIGITS, "vae", **TINY)
    draw = model.own_noise(model.pixels(DIGITS))
    first, second = (model.backend.to_host(draw(0, 299, k)).astype(float) for k in (30, 20))
    both = np.concatenate([first, second])  # a stream goes on
    assert both.mean() == pytest.approx(0, abs=0.03) and both.std() == pytest.approx(1, abs=0.02)
    between = np.corrcoef(both.reshape(50, -1).T)
    distinct = len(np.unique(DIGITS, axis=0)) * 2
    assert np.sum(np.triu(between, 1) > 0.99) == 299 * 2 - distinct
    drawn = sources.black_and_white(np.full((1, 10_000), 51, np.uint8) + np.arange(10_000, dtype=np.uint8) % 2)
    assert {*np.unique(drawn)} == {0, 255} and drawn.mean() / 255 == pytest.approx(0.2, abs=0.015)


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 2**-20])
def test_choices_and_runs_follow_the_scale_of_the_images(scale):
    rng = np.random.default_rng(0)
    x = (rng.random((200, 3)) @ rng.random((3, 20)) / 3).astype(np.float32)
    chosen, scaled = (choices.choose(a, None, None, None) for a in (x, x * np.float32(scale)))
    assert scaled["kappa"] == pytest.approx(scale * chosen["kappa"], rel=1e-3)
    assert (scaled["latent"], scaled["hidden"]) == (chosen["latent"], chosen["hidden"])
    big, small = (fit(a, "vae", **TINY).history[-1]["rate"] for a in (x, x * np.float32(scale)))
    assert small == pytest.approx(big, rel=0.02) and big > 1


def test_images_that_vary_too_little_for_32_bits_get_one_sentence():
    for scale, count, sentence in ((1e-25, 20, "vary by .*e-26, too little"), (0, 9, "all the same"), (1, 2, "single")):
        with pytest.raises(UsageError, match=sentence):
            fit(scale * np.random.default_rng(0).random((count, 4)), **TINY)


def test_choices_are_made_from_images_spread_over_all_of_them():
    """A set in the order of its classes: the first 2,000 images are black but for one pixel."""
    x = np.zeros((3000, 30), np.float32)
    x[:, 0] = np.arange(3000) % 2
    x[2000:, 1:] = np.random.default_rng(0).random((1000, 29))
    assert choices.choose(x, 0.5, None, (1,))["latent"] == 30
    assert choices.kind(x[2000:, 1:]) == choices.PHOTOGRAPHED
    every = choices.spread(np.arange(10), 4)
    assert every.tolist() == [0, 3, 6, 9] and choices.spread(every, 9).tolist() == every.tolist()


@pytest.mark.parametrize(
    ("name", "mean", "std", "text"),
    [
        ("rate", -0.001, None, "0.00"),
        ("rate", 12.345, 0.001, "12.35 ± 0.00"),
        ("active_units", 3, None, "3"),
        ("active_units", 3.5, 0.5, "3.5 ± 0.5"),
        ("constraint", -0.0001, None, "-0.0001"),
        ("constraint", -0.0, None, "0.000"),
        ("error", 4.119e-7, 1e-9, "4.12e-07 ± 1e-09"),
        ("error", 0.005, 0.0001, "0.005 ± 0.000"),
        ("lambda", 163103410.099, None, "1.63e+08"),
        ("error", 189.8, None, "189.800"),
    ],
)
def test_a_cell_has_no_minus_zero_and_small_images_keep_their_digits(name, mean, std, text):
    assert evaluation.cell(name, {"mean": mean, "std": std}) == text
    assert over_seeds([-0.001, -0.002]).startswith("0.00 ±") and over_seeds([-1.5]) == "−1.50"


@pytest.mark.parametrize(
    ("chosen", "cure"),
    [
        ("", "--kappa"),
        ("--method vae", "--variance"),
        ("--method vae --likelihood bernoulli --binarize none", "--beta"),
    ],
)
def test_latents_without_use_are_told_the_option_that_this_run_has(chosen, cure):
    model = SimpleNamespace(run=completed("--data", "digits", *chosen.split()).run, history=[])
    ended = {"train_constraint": None, "constraint": None, "active_units": 0, "rate": 0.01, "not_finite": 0}
    (said,) = evaluation.warnings(model, None, ended)
    assert f"a smaller {cure}" in said
    assert evaluation.warnings(model, None, ended | {"rate": 5.0}) == []  # of one test image


@pytest.mark.parametrize("count", [3, 11])
def test_the_fewest_images_run_to_the_end_with_every_picture(count, drawn, capsys):
    save_pictures("mine", count)
    if count == 11:
        Path("mine/test").mkdir()
        Path("mine/train").mkdir()
        for i in range(11):
            Path(f"mine/{i}.png").rename(f"mine/{'train' if i else 'test'}/{i}.png")
    assert made("out", quick=["--data", "mine", "--epochs", "1", "--nll-samples", "2"])["active_units"] == 0
    assert {path.name for path in Path("out").iterdir()} == {*FILES} and "failed" not in capsys.readouterr().err
    assert run.main(["--resume", "out", "--epochs", "2"]) == 0
    assert run.main(["--load", "out", "--evaluate", "--nll-samples", "3"]) == 0
    assert fit(np.random.default_rng(0).random((count, 5)), **TINY).sample(1).shape == (1, 1, 5, 1)


def stub(means: np.ndarray, **others) -> SimpleNamespace:
    """A model whose codes are these, of as many images."""
    return SimpleNamespace(encode=lambda images: (means[: len(images)], np.ones((len(images), 1))), **others)


def figure_of(monkeypatch, draw, *what):
    figures = []
    monkeypatch.setattr(pictures, "save_plot", lambda path, figure: figures.append(figure))
    assert pictures.drawn(draw, *what) == []
    return figures[0]


def test_a_class_keeps_its_name_in_the_legend_where_the_test_set_lacks_another(monkeypatch):
    means = np.array([[9.0, 0], [0, 1], [9, 0.1], [-9, 0]])
    labels, classes = (np.arange(3), np.array([2, 0, 2, 0])), ("ant", "a^$x_$", "cat")
    images = Dataset("pets", means, means, (1, 2, 1), labels=labels, classes=classes)
    (axes,) = figure_of(monkeypatch, DRAW_LATENTS, Path("x.png"), means, images).axes
    places = {group.get_label(): np.abs(group.get_offsets()[:, 0]).round().tolist() for group in axes.collections}
    plane, _ = pictures.principal_plane(means)
    assert places == {"ant": np.abs(plane[1::2, 0]).round().tolist(), "cat": np.abs(plane[::2, 0]).round().tolist()}


def test_epoch_means_stand_at_the_middle_of_an_epoch_and_figures_of_test_images_at_its_end(monkeypatch):
    report = {"rate": 5.0, "error": 2.0, "lambda": 1.0, "elbo": -9.0, "test_rate": 6.0, "test_error": 3.0}
    rows = [report | {"step": step, "test_elbo": -8.0, "test_images": 299} for step in (10, 20, 30)]
    model = SimpleNamespace(run=completed("--data", "digits", "--method", "vae").run, history=rows)
    panels = figure_of(monkeypatch, DRAWERS["draw_curves"], Path(), model, load_data("digits"), rows).axes
    for axes, train, test in zip(panels, (5, 2, -9), (6, 3, -8), strict=True):
        lines = {line.get_label(): (line.get_xdata().tolist(), {*line.get_ydata()}) for line in axes.lines}
        assert lines["training"] == ([5, 15, 25], {train}) and lines["test"] == ([10, 20, 30], {test})


def test_the_figures_of_test_images_while_training_are_those_of_test_images_and_their_number_is_said():
    """What is learnt from is bright, and what is tested dark: the mean image is far from it."""
    rng = np.random.default_rng(0)
    train, test = 0.8 + 0.1 * rng.random((60, 9)), 0.1 * rng.random((130, 9))
    model = fit(train.astype(np.float32), test=test.astype(np.float32), **TINY)
    last = model.history[-1]
    assert last["test_error"] > 5 > 1 > last["error"] and last["test_images"] == 100
    assert training.postfix(model.history)["error of 100 test images"] == f"{last['test_error']:.4g}"
    assert len(evaluation.watched(test, 10**5)) == 130 and len(evaluation.watched(np.zeros((2000, 1)), 10**6)) == 1000


def test_models_of_unlike_latents_are_shown_at_draws_that_agree_where_both_have_them(monkeypatch):
    sheets = {}
    monkeypatch.setattr(pictures, "save", lambda path, sheet: sheets.setdefault(path.stem, sheet))
    monkeypatch.setattr(pictures, "sheet", lambda rows, *_: dict(rows))
    models = {}
    for latents in (2, 5):
        decode, network = lambda z: z, SimpleNamespace(latents=latents)
        models[f"{latents}"] = SimpleNamespace(
            decode=decode, network=network, shape=(8, 8, 1), pixels=lambda x: x, reconstruct=decode
        )
    pictures.draw_comparison(Path(), models, load_data("digits"))
    few, many = sheets["generations"]["2"], sheets["generations"]["5"]
    assert few.shape == (10, 2) and many.shape == (10, 5) and (few == many[:, :2]).all() and np.std(many) > 0.7


def test_the_aggregate_posterior_is_shown_in_a_mixed_order(monkeypatch):
    """Codes in the order of a file: the first half at −9, the other at 9."""
    rows = {}
    monkeypatch.setattr(pictures, "save", lambda *_: None)
    monkeypatch.setattr(pictures, "draw_latents", lambda *_: None)
    monkeypatch.setattr(pictures, "traversals", lambda *_: None)
    monkeypatch.setattr(pictures, "seen", lambda model, images: images)
    monkeypatch.setattr(pictures, "sheet", lambda found, *_: [rows.setdefault(name, []).append(z) for name, z in found])
    means = np.repeat([[-9.0], [9.0]], [150, 149], axis=0)
    DRAWERS["draw_pictures"](Path(), stub(means, decode=lambda z: z), load_data("digits"))
    for z in rows["aggregate\nposterior q(z)"]:
        assert 0 < (z > 0).sum() < len(z)
    assert np.abs(np.concatenate(rows["prior p(z)"])).max() < 5


def test_two_rows_of_the_slides_are_those_of_the_slides():
    """As published: their marginal KL, which is the rate, and their reconstruction."""
    published = {"vae": (1.58, 55.85), "beta-vae": (10.59, 15.14), "geco": (10.50, 14.63), "geco-iwae": (1.36, 12.92)}
    coloured = {"vae": (31.97, 77.66), "beta-vae": (59.50, 57.97), "geco": (383.08, 11.44)}
    for name, rows in (("mnist", published), ("cifar10", coloured)):
        found = {method: (row["rate"], row["error"]) for method, row in comparison.SLIDES[name].items()}
        for method, row in rows.items():
            assert found[method] == pytest.approx(row, abs=0.005), method


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_fingerprint_is_of_the_images_to_train_on_and_of_those_to_test(part):
    images = load_data("digits")
    other = getattr(images, part).copy()
    other[-1, -1] ^= 1
    assert sources.fingerprint(images) != sources.fingerprint(images._replace(**{part: other}))


def test_peak_memory_follows_pixels():
    """Of 40 pictures of 192 kB: decoded at 8 bytes a number at most, black or white at 3, looked at by 6 copies."""
    open_tested("float32")
    x = np.random.default_rng(0).integers(0, 256, (40, 49152), dtype=np.uint8)
    model = fit(x[:8], test=x[8:10], shape=(128, 128, 3), kappa=60, **TINY | {"hidden": ()})

    def peak(call) -> float:
        tracemalloc.start()
        call()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top / x.size

    z = np.zeros((40, 2), np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "PIXELS", 4 * 49152)
        assert NAME != "numpy" or peak(lambda: model.decode(z)) < 8
        assert NAME != "numpy" or peak(lambda: model.scores(x[:3], 40)) < 5
    assert peak(lambda: sources.black_and_white(x)) < 3
    assert peak(lambda: choices.choose(x, None, None, None)) < 24


def test_the_principal_variances_of_large_images_take_as_many_directions_as_fit(monkeypatch):
    backend, rng = open_tested("float64"), np.random.default_rng(0)
    x = rng.normal(size=(50, 20)) * np.arange(20, 0, -1)
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    for name, value in {"DENSE": 10, "BLOCK": 100, "SPARE": 9}.items():
        monkeypatch.setattr(linear, name, value)
    what = (sources.reader(backend, x, False), 50, backend.asarray(x.mean(axis=0)))
    found, others = linear.principal_variances(backend, *what, backend.noise(0))
    np.testing.assert_allclose(found, expected[:5], rtol=1e-3)
    assert len(found) == 5 and others == pytest.approx(expected[5:].sum(), rel=1e-3)


@pytest.mark.parametrize("setting", ["run", "compare"])
def test_the_settings_and_names_of_people_are_no_obstacle_to_drawing(setting, folder, drawn, monkeypatch, capsys):
    with matplotlib.rc_context({"text.usetex": True, "font.family": "Nonesuch", "figure.dpi": 1}):
        if setting == "compare":
            assert run.main(["--compare", str(folder), "--out", "both"]) == 0
            assert "failed" not in capsys.readouterr().out
            assert Image.open("both/rate_distortion.png").size == (900, 560)
            monkeypatch.setattr(pictures, "draw_rate_distortion", lambda *_: {}["a font"])
            assert run.main(["--compare", str(folder), "--out", "other"]) == 0
            assert "<lambda> failed" in capsys.readouterr().out and Path("other/report.html").exists()
            return
        save_pictures("mine/a^$x_$")
        save_pictures("mine/b\nc")
        save_pictures(os.fsdecode(b"mine/caf\xe9"))
        made("out", quick=["--data", "mine", "--epochs", "1", "--nll-samples", "2"])
    assert "failed" not in capsys.readouterr().err and Image.open("out/latents.png").size == (750, 600)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_lacks_letters_gets_marks_in_their_place(encoding, monkeypatch, folder):
    for command in (["--help"], ["--load", str(folder), "--evaluate", "--nll-samples", "2", "--force"]):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        with contextlib.suppress(SystemExit):
            assert run.main(command) == 0
        stream.flush()
        assert b"?" in stream.buffer.getvalue()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert runs.command("", lambda: "−1 nats", argv=[]) == 0
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue() == b"?1 nats\n"


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- 2>&-"])
def test_a_run_whose_streams_are_closed_ends_as_any_other(closed):
    command = f"{sys.executable} {ROOT / 'run.py'} {' '.join(QUICK)} --method vae --out out {closed}"
    environment = os.environ | {"MPLBACKEND": "module://nonesuch", "LANG": "C", "HOME": "/nowhere"}
    assert subprocess.run(command, shell=True, timeout=60, env=environment).returncode == 0
    assert {*FILES} == {path.name for path in Path("out").iterdir()}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_run_goes_on_when_nobody_listens_any_more(name, monkeypatch):
    monkeypatch.setattr(streams, "EVERY", 0)
    there, here = os.pipe()
    with os.fdopen(here, "w") as stream:
        monkeypatch.setattr(sys, name, stream)
        os.close(there)
        made("out", "--method", "vae")
        monkeypatch.undo()


def test_without_a_terminal_a_line_says_now_and_then_how_far_a_run_is(monkeypatch, capsys):
    made("out", "--method", "vae")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(streams, "EVERY", 0)
    made("again", "--method", "vae")
    lines = capsys.readouterr().err.splitlines()
    last = [line for line in lines if line.startswith("vae")][-1]
    assert len(lines) > 20 and "\r" not in "".join(lines)
    assert re.fullmatch(r"vae: 22 of 22 steps, 00:0\d gone, 00:00 to go, rate=.*, error of 100 test images=.*", last)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    made("bar", "--method", "vae")
    assert "\r" in capsys.readouterr().err


def test_all_says_which_run_of_how_many_and_what_is_there_already(capsys):
    options = ["--method", "all", "--epochs", "1", "--out", "all"]
    made("all/beta-vae-0", *options[2:4], "--method", "beta-vae")
    capsys.readouterr()
    assert run.main([*QUICK, *on_command_line(), *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
    assert lines[0].startswith("run 1 of 6: VAE for 1 epoch in all/vae-0/, on the data set digits: ")
    assert lines[1] == "run 2 of 6: all/beta-vae-0/ is whole" and len(lines) == 6


def test_named_data_are_looked_for_where_the_runs_data_lay(monkeypatch):
    looked = []
    digits = load_data("digits")
    monkeypatch.setitem(data.DATASETS, "mnist", lambda folder, download: looked.append(folder) or digits)
    chosen = ["--data", "mnist", "--data-dir", "kept", "--kappa", "2"]
    made("out", *chosen, quick=QUICK[2:])
    for use in (["--encode", "mnist"], ["--reconstruct", "mnist"], ["--evaluate", "--nll-samples", "2"]):
        assert run.main(["--load", "out", *use]) == 0
    assert run.main(["--resume", "out", "--epochs", "3"]) == 0 and {*looked} == {Path("kept")}
    assert run.main(["--load", "out", "--encode", "mnist", "--data-dir", "moved", "--out", "e.npz"]) == 0
    assert looked[-1] == Path("moved")


@pytest.mark.parametrize(
    "command",
    [
        "--load FOLDER --encode x.npy --out file/x.npz",
        "--load FOLDER --encode x.npy --force --out folder",
        "--load FOLDER --sample 3 --out file",
        "--load FOLDER --reconstruct x.npy --out file/a/b",
        "--load FOLDER --evaluate --nll-samples 9 --out file/x.json",
        "--compare FOLDER --out file/x",
        "--data digits --out file",
        "--data digits --method all --out file/a",
        f"--data digits --out {'x' * 300}",
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(command, folder, capsys, monkeypatch):
    for work in ("log_mean_exp", "sample_terms"):
        monkeypatch.setattr(f"ref.more.metrics.{'de' if work == 'log_mean_exp' else 'vae'}.{work}", None)
    Path("file").write_text("mine")
    Path("folder").mkdir()
    refused(capsys, [str(folder) if word == "FOLDER" else word for word in command.split()], "cannot be written")


def test_no_name_from_a_file_is_a_path_and_no_picture_writes_over_another(folder):
    names = ["../../x", "/etc/passwd", "sheet", "a.jpg", "a.jpg.png", "A.JPG", "con", "é" * 200, "\n"]
    Path("mine/deep").mkdir(parents=True)
    with zipfile.ZipFile("mine/deep/x.npz", "w") as archive, archive.open("../../x.npy", "w") as member:
        np.save(member, DIGITS[:3].reshape(3, 8, 8))
    assert run.main(["--load", str(folder), "--reconstruct", "mine/deep/x.npz", "--out", "mine/deep/out"]) == 0
    assert {path.parent for path in contents(".")} == {Path("mine/deep"), Path("mine/deep/out")}
    of = json_of("mine/deep/out", "pictures.json")["of"]
    assert [*of.values()] == ["../../x/0", "../../x/1", "../../x/2"] and len(contents("mine/deep/out")) == 5
    use_model.write_pictures(Path("again"), np.zeros((9, 2, 2, 1)), file_names(names), {})
    assert len([*Path("again").glob("*.png")]) == 9 and not Path("again/sheet.png").exists()


def test_a_model_travels_as_its_arrays_and_its_record(folder):
    model = load(folder, NAME)
    expected, packed = model.encode(DIGITS), pickle.dumps(model)
    assert len(packed) < 2 * sum(a.nbytes for a in (model.theta, *trained_model.constants(model.network).values()))
    for same in (pickle.loads(packed), copy.copy(model), copy.deepcopy(model)):
        assert same is not model and same.run == model.run and same.history == model.history
        np.testing.assert_array_equal(same.encode(DIGITS), expected)
        same.theta[...] = 0
    np.testing.assert_array_equal(model.encode(DIGITS), expected)
    np.testing.assert_array_equal(model.log_likelihood(DIGITS, np.int64(3)), model.log_likelihood(DIGITS, 3))


def test_scikit_learn_may_clone_thread_and_frame_a_model(folder, monkeypatch):
    selection, pipeline, tree = (
        pytest.importorskip(f"sklearn.{name}") for name in ("model_selection", "pipeline", "tree")
    )
    joblib = pytest.importorskip("joblib")
    model, labels = load(folder, NAME), load_data("digits").labels[1]
    steps = pipeline.make_pipeline(model, tree.DecisionTreeClassifier(random_state=0))
    with joblib.parallel_config(backend="threading"):
        threads, alone = (selection.cross_val_score(steps, DIGITS, labels, cv=3, n_jobs=n) for n in (2, 1))
    assert (threads == alone).all() and (alone > 0.2).all()
    assert model.get_feature_names_out().tolist() == ["latent0", "latent1", "latent2", "latent3"]
    frame = SimpleNamespace(DataFrame=lambda *what, **how: ("frame", *what, how))
    for library in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, library, frame)
        kind, mean, *_ = pickle.loads(pickle.dumps(model.set_output(transform=library))).transform(DIGITS)
        assert kind == "frame" and (mean == model.encode(DIGITS)[0]).all()
    assert model.set_output(transform=None).output == "polars"
    assert isinstance(model.set_output(transform="default").transform(DIGITS), np.ndarray)
    with pytest.raises(UsageError, match="found 'arrow'"):
        model.set_output(transform="arrow")


@pytest.mark.parametrize("hidden", [[6, 5], np.array([6, 5]), (6, 5)])
def test_numbers_of_numpy_are_numbers_and_labels_are_no_method(hidden):
    model = fit(DIGITS[:20], hidden=hidden, latent=np.int64(3), kappa=np.float32(1.5), epochs=1, backend=NAME)
    assert (model.run.hidden, model.run.latent, model.run.target) == ((6, 5), 3, 2.25)
    with pytest.raises(UsageError, match=r"fit trains one of vae, .*, not a method that is a ndarray"):
        fit(DIGITS, np.arange(299))
