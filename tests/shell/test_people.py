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
from data.dataset import Dataset
from experiment import UsageError, evaluation, fit, load, pictures, sources, terminal, training
from experiment.run_folder import FILES, MODELS, read_checkpoint
from experiment.studies import runs
from ref.more import linear, metrics
from ref.more.planes import plane
from tests.hostile import peak
from tests.shell.runs import QUICK, chosen, completed, contents, json_of, made, refused
from tests.tested import NAME, on_command_line, open_tested

pytestmark = pytest.mark.usefixtures("elsewhere")
NAMES = ("draw_pictures", "draw_curves", "draw_latents", "draw_rate_distortion")
DRAWERS = {name: getattr(pictures, name) for name in NAMES}
DIGITS, TINY = load_data("digits"), {"hidden": (4,), "latent": 2, "epochs": 1, "backend": NAME}
TEST, ONE_EPOCH = DIGITS.test, ["--epochs", "1", "--nll-samples", "2"]


@pytest.fixture
def drawn(monkeypatch):
    """Runs with their pictures."""
    for name, draw in DRAWERS.items():
        monkeypatch.setattr(pictures, name, draw)


def ran(line: str, *more: str) -> bool:
    """Whether a command of `more` and the words of a line ends well."""
    return run.main([*more, *line.split()]) == 0


def save_pictures(folder, count=12) -> None:
    Path(folder).mkdir(parents=True)
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (count, 6, 6), dtype=np.uint8)):
        Image.fromarray(pixels).save(Path(folder, f"{i}.png"))


def test_no_run_trains_on_what_the_program_has_written(monkeypatch, drawn):
    save_pictures("mine")
    monkeypatch.chdir("mine")
    first = made("runs/a", quick=["--data", ".", *ONE_EPOCH])
    for use in ("--sample 100", "--sample 3 --out draws", "--reconstruct 1.png --out again"):
        assert ran(f"--load runs/a {use}")
    assert ran("--compare runs/a --out compared")
    made("runs/b", quick=["--data", ".", *ONE_EPOCH])
    one, other = (read_checkpoint(Path("runs", name)).run for name in "ab")
    assert one == other and first["steps"] == 1
    assert "written are left out: 5, such as again" in load_data(".").split


@pytest.mark.parametrize(
    ("source", "where", "count"),
    [("digits", "the data set digits", "1,498"), ("./digits", None, "11"), ("mine.npz", None, "50")],
)
def test_a_run_says_first_how_where_and_on_which_images_it_trains(source, where, count, capsys, monkeypatch):
    save_pictures("digits")
    np.savez("mine.npz", train=TEST[:50], test=TEST[50:60])
    options = ["--data", source, "--method", "vae", "--epochs", "1", "--hidden", "4", "--latent", "2"]
    if source == "digits":
        refused(capsys, options, "digits is the name of a data set and of a file here: give ./digits")
        Path("digits").rename("elsewhere")
    step, said = training.make_step, []
    monkeypatch.setattr(training, "make_step", lambda *what: said.append(capsys.readouterr()) or step(*what))
    assert ran("--out out", *options, *on_command_line())
    where = where or str(Path(source).resolve())
    assert said[0].out.startswith(f"VAE for 1 epoch in out/, on {where}: {count} images to train on and ")
    fit(TEST[:50], method="vae", **TINY)
    assert said[1].err.startswith("VAE for 1 epoch, on images in memory: 45 images to train on and 5 to test: a tenth")


def test_images_without_a_finite_score_are_named_counted_and_in_no_figure(capsys):
    """Images that vary by a millionth, and a test image that is a million times as far away."""
    x = (1e-6 * np.random.default_rng(0).random((60, 9))).astype(np.float32)
    test = np.concatenate([x[:4], np.ones((1, 9), np.float32), x[4:9]])
    chosen = {"hidden": (8,), "latent": 3, "kappa": 3e-7, "epochs": 3, "backend": NAME, "nll_samples": 5}
    model, summary = fit(x, test=test, out="out", **chosen), json_of("out", "summary.json")
    assert "1 test images have no finite score" in capsys.readouterr().err
    np.save("test.npy", test)
    assert ran("--load out --encode test.npy")
    assert "least for images/4 (-inf), " in capsys.readouterr().out
    scores, others = model.scores(test, 5), np.arange(10) != 4
    assert np.flatnonzero(np.isneginf(scores["log_likelihood"])).tolist() == [4] and summary["not_finite"] == 1
    watched, rate = evaluation.look(model, test), pytest.approx(scores["rate"][others].mean(), rel=1e-4)
    assert summary["rate"] == watched["rate"] == model.history[-1]["test_rate"] == rate
    assert summary["error_at_mean"] == pytest.approx(scores["error_at_mean"][others].mean(), rel=1e-4)
    assert summary["mutual_information_ceiling"] == math.log(9) and watched["error"] > 0


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_what_is_said_of_an_image_follows_from_that_image_alone(binarize):
    likelihood = "gaussian" if binarize == "none" else "bernoulli"
    model = fit(TEST, "iwae", binarize=binarize, likelihood=likelihood, **TINY)
    whole, order = model.scores(TEST, 7), np.random.default_rng(0).permutation(299)
    for rows, scale in ((order, 1), ([5], 1), ([5] * 40, 1), (order, 1 / 255)):
        images = TEST[rows] if scale == 1 else scale * TEST[rows]
        for name, values in model.scores(images, 7).items():
            np.testing.assert_allclose(values, whole[name][rows], rtol=5e-5, atol=5e-5, err_msg=name)
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda _: model.log_likelihood(TEST, 7), range(12))]
    assert all((one == whole["log_likelihood"]).all() for one in found)


def test_noise_that_follows_from_an_image_is_normal_and_alike_for_no_other():
    model, images = fit(TEST, "vae", **TINY), np.unique(TEST, axis=0)
    images[1] = images[0]
    images[1, -1] += 1
    draw = model.own_noise(model.pixels(images))
    parts = [model.backend.to_host(draw(0, len(images), k)).astype(float) for k in (30, 20)]
    both = np.concatenate(parts)  # a stream goes on
    assert both.mean() == pytest.approx(0, abs=0.03) and both.std() == pytest.approx(1, abs=0.02)
    between = np.corrcoef(both.reshape(50, -1).T) - np.eye(2 * len(images))
    assert np.abs(between).max() < 0.8 and (parts[0][:20] != parts[1]).all()
    grey = np.full((2, 10_000), 51, np.uint8) + np.array([[0], [1]], np.uint8)
    drawn = sources.black_and_white(grey)
    assert {*np.unique(drawn)} == {0, 255} and drawn.mean() / 255 == pytest.approx(0.2, abs=0.01)
    assert 0.25 < np.mean(drawn[0] != drawn[1]) < 0.39  # 2·0.2·0.8 = 0.32


@pytest.mark.parametrize("scale", [1e-3, 1e-6])
def test_choices_and_runs_follow_the_scale_of_the_images(scale):
    rng = np.random.default_rng(0)
    x = (rng.random((200, 3)) @ rng.random((3, 20)) / 3).astype(np.float32)
    before, after = (chosen(a) for a in (x, x * np.float32(scale)))
    assert after["kappa"] == pytest.approx(scale * before["kappa"], rel=1e-3)
    assert (after["latent"], after["hidden"]) == (before["latent"], before["hidden"])
    big, small = (fit(a, "vae", **TINY).history[-1]["rate"] for a in (x, x * np.float32(scale)))
    assert small == pytest.approx(big, rel=0.02) and big > 1


def test_images_that_no_run_can_learn_from_get_one_sentence():
    for scale, count, sentence in ((1e-25, 20, "vary by .*e-26, too"), (0, 9, "all the same"), (1, 2, "single")):
        with pytest.raises(UsageError, match=sentence):
            fit(scale * np.random.default_rng(0).random((count, 4)), **TINY)


def test_choices_are_made_from_images_spread_over_all_of_them():
    """A set in the order of its classes: the first 2,000 images are black but for a pixel."""
    x = np.zeros((3000, 30), np.float32)
    x[:, 0] = np.arange(3000) % 2
    x[2000:, 1:] = np.random.default_rng(0).random((1000, 29))
    assert chosen(x, kappa=0.5)["latent"] == 30
    assert sources.spread(np.arange(10), 4).tolist() == [0, 3, 6, 9]


def test_a_cell_has_no_minus_zero_and_small_images_keep_their_digits():
    for name, mean, std, text in (
        ("rate", -0.001, None, "0.00"),
        ("rate", 12.345, 0.001, "12.35 ± 0.00"),
        ("active_units", 3, None, "3"),
        ("constraint", -0.0001, None, "-0.0001"),
        ("constraint", -0.0, None, "0.000"),
        ("error", 4.119e-7, 1e-9, "4.12e-07 ± 1e-09"),
        ("error", 0.005, 0.0001, "0.005 ± 0.000"),
        ("lambda", 163103410.099, None, "1.63e+08"),
    ):
        assert evaluation.cell(name, {"mean": mean, "std": std}) == text
    assert runs.over_seeds([-0.001, -0.002]).startswith("0.00 ±") and runs.over_seeds([-1.5]) == "−1.50"


CURES = {"geco": "--kappa", "vae": "--variance", "vae --likelihood bernoulli --binarize none": "--beta"}


@pytest.mark.parametrize("method", CURES)
def test_latents_without_use_are_told_the_option_that_this_run_has(method):
    model = SimpleNamespace(run=completed("--data", "digits", "--method", *method.split()).run, history=[])
    ended = {"train_constraint": None, "constraint": None, "active_units": 0, "not_finite": 0}
    two, one = (SimpleNamespace(test=np.zeros((count, 64))) for count in (2, 1))
    (said,) = evaluation.warnings(model, two, ended)
    assert f"a smaller {CURES[method]}" in said
    assert evaluation.warnings(model, one, ended) == []
    assert evaluation.warnings(model, two, ended | {"active_units": 1}) == []


@pytest.mark.parametrize("count", [3, 11])
def test_the_fewest_images_run_to_the_end_with_every_picture(count, drawn, capsys):
    save_pictures("mine/train", count - 1)
    save_pictures("mine/test", 1)
    made("out", quick=["--data", "mine", *ONE_EPOCH])
    assert {path.name for path in Path("out").iterdir()} == {*FILES} and "failed" not in capsys.readouterr().err
    assert ran("--resume out --epochs 2") and ran("--load out --evaluate") and ran("--compare out")
    assert fit(np.random.default_rng(0).random((count, 5)), **TINY).sample(1).shape == (1, 1, 5, 1)


def figure_of(monkeypatch, draw, *what):
    figures = []
    monkeypatch.setattr(pictures, "save_plot", lambda path, figure: figures.append(figure))
    assert pictures.drawn(DRAWERS[draw], *what) == []
    return figures[0]


def test_a_class_keeps_its_name_where_the_test_set_lacks_another(monkeypatch):
    means = np.array([[9.0, 0], [0, 1], [9, 0.1], [-9, 0]])
    labels = (np.arange(3), np.array([2, 0, 2, 0]))
    images = Dataset("pets", means, means, (1, 2, 1), labels=labels, classes=("ant", "a^$x_$", "cat"))
    (axes,) = figure_of(monkeypatch, "draw_latents", Path("x.png"), means, images).axes
    found = {group.get_label(): group.get_offsets() for group in axes.collections}
    points = (means - means.mean(axis=0)) @ plane(np, means, labels[1])[0]
    assert {*found} == {"ant", "cat"}
    np.testing.assert_allclose(found["ant"], points[1::2])
    np.testing.assert_allclose(found["cat"], points[::2])


def test_epoch_means_stand_at_the_middle_of_an_epoch_and_test_figures_at_its_end(monkeypatch):
    report = {"rate": 5.0, "error": 2.0, "elbo": -9.0, "test_rate": 6.0, "test_error": 3.0, "test_elbo": -8.0}
    rows = [report | {"step": step, "test_images": 299} for step in (10, 20, 30)]
    model = SimpleNamespace(run=completed("--data", "digits", "--method", "vae").run, history=rows)
    panels = figure_of(monkeypatch, "draw_curves", Path(), model, DIGITS, rows).axes
    for axes, train, test in zip(panels, (5, 2, -9), (6, 3, -8), strict=True):
        lines = {line.get_label(): (line.get_xdata().tolist(), {*line.get_ydata()}) for line in axes.lines}
        assert lines["training"] == ([5, 15, 25], {train}) and lines["test"] == ([10, 20, 30], {test})


def test_a_row_stands_at_its_rate_and_error_and_its_bars_are_their_deviations(monkeypatch):
    figures = {"rate": (5.0, 1.0), "error": (9.0, 2.0), "error_at_mean": (7.0, 3.0)}
    figures = {name: {"mean": mean, "std": std} for name, (mean, std) in figures.items()}
    row = {"method": "vae", "parts": ["VAE"], "figures": figures}
    result = {"linear_bound": [(0, 20), (9, 3)], "rows": [row], "mean_image": {"error": 20}, "data": "digits"}
    (axes,) = figure_of(monkeypatch, "draw_rate_distortion", Path(), result).axes
    point, _, bars = axes.containers[0]
    assert point.get_xydata().tolist() == [[5, 9]]
    assert [bar.get_segments()[0].tolist() for bar in bars] == [[[4, 9], [6, 9]], [[5, 7], [5, 11]]]


def test_what_is_watched_while_training_are_test_images_and_their_number_is_said():
    """What is learnt from is bright, and what is tested dark: the mean image is far from it."""
    rng = np.random.default_rng(0)
    train, test = 0.8 + 0.1 * rng.random((60, 9)), 0.1 * rng.random((130, 9))
    model = fit(train, test=test, **TINY)
    last = model.history[-1]
    assert last["test_error"] > 5 > 1 > last["error"] and last["test_images"] == 100
    assert training.postfix(model.history)["error of 100 test images"] == f"{last['test_error']:.4g}"
    assert len(evaluation.watched(test, 10**5)) == 130 and len(evaluation.watched(np.zeros((2000, 1)), 10**6)) == 1000


def shown_by(monkeypatch, draw, *what) -> dict:
    """The rows of each sheet, by its file's name: name -> what is shown, decoded by no network."""
    sheets = {}
    monkeypatch.setattr(pictures, "save", lambda path, rows, *_: sheets.setdefault(path.stem, rows))
    monkeypatch.setattr(pictures, "sheet", lambda rows, *_: [*rows])
    for name in ("draw_latents", "traversals", "interpolations"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    draw(Path(), *what)
    return sheets


def copying(latents: int, means=None) -> SimpleNamespace:
    """A model that decodes z to z."""
    network, encode = SimpleNamespace(latents=latents), lambda x: (means[: len(x)], np.ones((len(x), 1)))
    same = {"decode": lambda z: z[:, None, None], "pixels": lambda x: x}
    same["reconstruct"] = lambda x: x.reshape(-1, 8, 8, 1)
    return SimpleNamespace(network=network, shape=(8, 8, 1), encode=encode, **same)


def test_models_of_unlike_latents_are_shown_at_draws_that_agree(monkeypatch):
    def generations(*latents: int) -> dict:
        models = {z: copying(z) for z in latents}
        return dict(shown_by(monkeypatch, pictures.draw_comparison, models, DIGITS)["generations"])

    both, alone = generations(2, 5), generations(2)
    assert both[5].shape == (10, 1, 1, 5) and np.std(both[5]) > 0.7
    assert (both[2] == both[5][..., :2]).all() and (both[2] == alone[2]).all()


def test_the_aggregate_posterior_is_shown_in_a_mixed_order(monkeypatch):
    """Codes in the order of a file: the first half at −9, the other at 9."""
    means = np.repeat([[-9.0], [9.0]], [150, 149], axis=0)
    rows = shown_by(monkeypatch, DRAWERS["draw_pictures"], copying(1, means), DIGITS)["samples"]
    assert len(rows) == 10
    for name, z in rows:
        assert np.abs(z).max() < 5 if "prior" in name else 0 < np.sum(z > 0) < len(z)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_fingerprint_is_of_the_images_to_train_on_and_of_those_to_test(part):
    other = getattr(DIGITS, part).copy()
    other[-1, -1] ^= 1
    assert sources.fingerprint(DIGITS) != sources.fingerprint(DIGITS._replace(**{part: other}))


def test_on_another_backend_no_stream_of_noise_starts_again(folder):
    saved, backend = read_checkpoint(folder), open_tested("float32")
    for step in (7, 8):
        saved.arrays["step"] = np.array(step)
        other = saved._replace(config=saved.config | {"backend": "another"})
        noise = backend.to_host(training.restored_state(other, saved.run, backend, 1498)[1]["noise"])
        assert (noise == backend.to_host(backend.noise(saved.run.seed + step))).all()


def test_peak_memory_follows_pixels(monkeypatch):
    """Of 40 pictures of 48 kB: bytes a number that are in use at most, of 4 that are returned, or none."""
    x = np.random.default_rng(0).integers(0, 256, (40, 49152), dtype=np.uint8)
    model = fit(x[:8], test=x[8:10], shape=(128, 128, 3), kappa=60, **TINY | {"hidden": (), "backend": "numpy"})
    monkeypatch.setattr(metrics, "PIXELS", 4 * 49152)
    calls = {
        8: lambda: model.decode(np.zeros((40, 2), np.float32)),
        5: lambda: model.scores(x[:3], 40),
        3: lambda: sources.black_and_white(x),
        24: lambda: chosen(x),  # two copies in floats, and a Gram matrix of 40 × 40
    }
    for most, call in calls.items():
        assert peak(call) < most * x.size


def test_principal_variances_of_large_images_are_of_as_many_directions_as_fit(monkeypatch):
    backend, rng = open_tested("float64"), np.random.default_rng(0)
    x = rng.normal(size=(50, 20)) * np.arange(20, 0, -1)
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    for name, value in {"DENSE": 10, "BLOCK": 100, "SPARE": 9}.items():
        monkeypatch.setattr(linear, name, value)
    what = (sources.reader(backend, x, False), 50, backend.asarray(x.mean(axis=0)))
    found, others = linear.principal_variances(backend, *what, backend.noise(0))
    np.testing.assert_allclose(found, expected[:5], rtol=1e-3)
    assert len(found) == 5 and others == pytest.approx(expected[5:].sum(), rel=1e-3)


def test_settings_and_names_of_people_are_no_obstacle_to_drawing(drawn, monkeypatch, capsys):
    for name in ("a^$x_$", "b\nc", os.fsdecode(b"caf\xe9")):
        save_pictures(Path("mine", name))
    with matplotlib.rc_context({"text.usetex": True, "font.family": "Nonesuch", "figure.dpi": 1}):
        made("out", quick=["--data", "mine", *ONE_EPOCH])
        assert ran("--compare out --out both")
        said = "".join(capsys.readouterr())
        assert "failed" not in said and Image.open("out/latents.png").size == (1500, 1200)
        monkeypatch.setattr(pictures, "draw_rate_distortion", lambda *_: {}["a font"])
        assert ran("--compare out --out other")
    assert "<lambda> failed" in capsys.readouterr().out and Path("other/report.html").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_lacks_letters_gets_marks_in_their_place(encoding, monkeypatch, folder):
    def written(call, status) -> bytes:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        with contextlib.suppress(SystemExit):  # of --help
            assert call() == status
        sys.stdout.flush()
        return sys.stdout.buffer.getvalue()

    assert b"?" in written(lambda: run.main(["--help"]), 0)
    assert b"?" in written(lambda: run.main(["--compare", str(folder), "--out", "both"]), 0)
    assert written(lambda: runs.command("", lambda: "−1 nats", argv=[]), 0) == b"?1 nats\n"


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX closes the streams")
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_run_whose_streams_are_closed_ends_as_any_other(closed):
    command = f"{sys.executable} {run.__file__} {' '.join(QUICK)} --method vae --out out {closed}"
    environment = os.environ | {"MPLBACKEND": "module://nonesuch", "LANG": "C", "HOME": "/nowhere"}
    assert subprocess.run(command, shell=True, timeout=60, env=environment).returncode == 0
    assert {*FILES} == {path.name for path in Path("out").iterdir()}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_run_goes_on_when_nobody_listens_any_more(name, monkeypatch):
    monkeypatch.setattr(terminal, "EVERY", 0)
    there, here = os.pipe()
    os.close(there)
    with os.fdopen(here, "w") as stream:
        monkeypatch.setattr(sys, name, stream)
        assert made("out", "--method", "vae")["epochs"] == 2
        monkeypatch.undo()


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["missing", "closed"])
def test_a_python_without_a_console_trains_and_scores(stream, monkeypatch):
    if stream:
        stream.close()
    monkeypatch.setattr(terminal, "EVERY", 0)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    assert np.isfinite(fit(TEST, **TINY).log_likelihood(TEST, 2)).all()
    monkeypatch.undo()


def test_without_a_terminal_a_line_says_now_and_then_how_far_a_run_is(monkeypatch, capsys):
    made("out", "--method", "vae")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(terminal, "EVERY", 0)
    made("again", "--method", "vae")
    lines = capsys.readouterr().err.splitlines()
    last = [line for line in lines if line.startswith("vae")][-1]
    assert re.fullmatch(r"vae: 22 of 22 steps, 00:0\d gone, 00:00 to go, rate=.*, error of 100 test images=.*", last)
    assert len(lines) > 20 and "\r" not in "".join(lines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    made("bar", "--method", "vae")
    assert "\r" in capsys.readouterr().err


def test_all_says_which_run_of_how_many_and_what_is_there_already(capsys):
    made("all/beta-vae-0", "--epochs", "1", "--method", "beta-vae")
    capsys.readouterr()
    assert ran("--method all --epochs 1 --out all", *QUICK, *on_command_line())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
    assert lines[0].startswith("run 1 of 9: VAE for 1 epoch in all/vae-0/, on the data set digits: ")
    assert lines[1] == "run 2 of 9: all/beta-vae-0/ is whole" and len(lines) == 9


def test_named_data_are_looked_for_where_the_runs_data_lay(monkeypatch, capsys):
    looked = []
    monkeypatch.setitem(data.DATASETS, "mnist", lambda folder, download: looked.append(folder) or DIGITS)
    made("out", "--data", "mnist", "--data-dir", "kept", "--kappa", "2", quick=QUICK[2:])
    for use in ("--encode mnist", "--reconstruct mnist", "--evaluate --nll-samples 2"):
        assert ran(f"--load out {use}")
    assert ran("--resume out --epochs 3") and {*looked} == {Path("kept")}
    again = "--load out --out e.npz --force --data-dir moved --encode"
    assert ran(f"{again} mnist") and looked[-1] == Path("moved")
    refused(capsys, f"{again} digits".split(), "--encode digits does not use it")


def test_an_output_that_cannot_be_written_is_refused_before_the_work(folder, capsys, monkeypatch):
    for work in ("ref.more.metrics.vae.decode", "experiment.comparison.linear_bound", "experiment.training.make_step"):
        monkeypatch.setattr(work, None)
    Path("file").write_text("mine")
    Path("folder").mkdir()
    for command in (
        "--load FOLDER --encode x.npy --out file/x.npz",
        "--load FOLDER --encode x.npy --force --out folder",
        "--load FOLDER --sample 3 --out file",
        "--load FOLDER --reconstruct x.npy --out file/a/b",
        "--load FOLDER --evaluate --nll-samples 9 --out file/x.json",
        "--compare FOLDER --out file/x",
        "--data digits --out file",
        "--data digits --method all --out file/a",
    ):
        argv = [str(folder) if word == "FOLDER" else word for word in command.split()]
        assert "cannot be written" in refused(capsys, argv, ""), command


def test_no_name_from_a_file_is_a_path(folder):
    Path("mine/deep").mkdir(parents=True)
    with zipfile.ZipFile("mine/deep/x.npz", "w") as archive, archive.open("../../x.npy", "w") as member:
        np.save(member, TEST[:3].reshape(3, 8, 8))
    assert ran("--reconstruct mine/deep/x.npz --out mine/deep/out", "--load", str(folder))
    assert {path.parent for path in contents(".")} == {Path("mine/deep"), Path("mine/deep/out")}
    assert [*json_of("mine/deep/out", "pictures.json")["of"].values()] == [f"../../x/{i}" for i in range(3)]


def test_a_model_travels_as_its_arrays_and_its_record(folder):
    model = load(folder, NAME)
    expected, packed = model.encode(TEST), pickle.dumps(model)
    assert len(packed) < 2 * (folder / "checkpoint.npz").stat().st_size
    for same in (pickle.loads(packed), copy.copy(model), copy.deepcopy(model)):
        assert same is not model and same.run == model.run and same.history == model.history
        np.testing.assert_array_equal(same.encode(TEST), expected)
        same.theta[...] = 0
    np.testing.assert_array_equal(model.encode(TEST), expected)
    scores = model.scores(TEST, np.int64(3))
    np.testing.assert_array_equal(model.log_likelihood(TEST, 3), scores["log_likelihood"])
    np.testing.assert_array_equal(model.score_samples(TEST), scores["calibrated_log_likelihood"])


def test_scikit_learn_may_clone_thread_and_frame_a_model(folder, monkeypatch):
    selection, joblib = pytest.importorskip("sklearn.model_selection"), pytest.importorskip("joblib")
    pipeline, tree = pytest.importorskip("sklearn.pipeline"), pytest.importorskip("sklearn.tree")
    model, labels = load(folder, NAME), DIGITS.labels[1]
    steps = pipeline.make_pipeline(model, tree.DecisionTreeClassifier(random_state=0))
    with joblib.parallel_config(backend="threading"):
        threads, alone = (selection.cross_val_score(steps, TEST, labels, cv=3, n_jobs=n) for n in (2, 1))
    assert (threads == alone).all() and (alone > 0.2).all()
    cloned = pytest.importorskip("sklearn.base").clone(model)
    assert cloned is not model and (cloned.transform(TEST) == model.transform(TEST)).all()
    assert model.get_feature_names_out().tolist() == ["latent0", "latent1", "latent2", "latent3"]
    frames = SimpleNamespace(DataFrame=lambda *what, **how: [*what, *how.values()])
    for library in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, library, frames)
        mean, *others = pickle.loads(pickle.dumps(model.set_output(transform=library))).transform(TEST)
        assert (mean == model.encode(TEST)[0]).all() and model.get_feature_names_out().tolist() in others
    assert model.set_output(transform=None).output == "polars"
    assert isinstance(model.set_output(transform="default").transform(TEST), np.ndarray)
    with pytest.raises(UsageError, match="found 'arrow'"):
        model.set_output(transform="arrow")


@pytest.mark.parametrize("hidden", [[6, 5], np.array([6, 5]), (6, 5)], ids=["list", "array", "tuple"])
def test_numbers_of_numpy_are_numbers_and_labels_are_no_method(hidden):
    model = fit(TEST[:20], hidden=hidden, latent=np.int64(3), kappa=np.float32(1.5), epochs=1, backend=NAME)
    assert (model.run.hidden, model.run.latent, model.run.target) == ((6, 5), 3, 2.25)
    with pytest.raises(UsageError, match=r"fit trains one of vae, .*, not a method that is a ndarray"):
        fit(TEST, np.arange(299))


def test_the_shipped_model_is_good_and_small_and_writes_below_runs(capsys):
    model, test = load("mnist-10k"), load_data("mnist-10k").test
    errors = ((model.reconstruct(test).reshape(len(test), -1) - test / 255) ** 2).sum(axis=1)
    assert 17 < errors.mean() < 21 and model.run.method == "geco" and model.run.target == 25
    assert max(path.stat().st_size for path in MODELS.iterdir()) < 1.6e6
    assert ran("--load mnist-10k --sample 3")
    assert len([*Path("runs/mnist-10k-samples-3-0").glob("[0-9].png")]) == 3
    refused(capsys, ["--load", "mnist-10k", "--encode", "digits"], r"shape \(299, 8, 8, 1\), expected \(N, 28, 28, 1\)")


def test_a_folder_of_the_name_of_a_shipped_model_is_not_guessed_at():
    Path("mnist-10k").mkdir()
    with pytest.raises(UsageError, match=r"write \./mnist-10k"):
        load("mnist-10k")
    with pytest.raises(UsageError, match="holds no checkpoint"):
        load("./mnist-10k")


@pytest.mark.slow
def test_training_the_shipped_model_anew_ends_at_its_figures():
    shipped = {"rate": 6.07, "error": 25.46}  # nats, and squared error; by summary.json of the run
    assert ran("--hidden 256,128 --seed 1 --out anew")
    assert ran("--load mnist-10k --evaluate --out evaluated.json")
    for summary, rel in ((json_of("anew", "summary.json"), 0.03), (json_of("", "evaluated.json"), 0.005)):
        assert {name: summary[name] for name in shipped} == pytest.approx(shipped, rel=rel)
    assert np.isfinite(load("mnist-10k").theta).all()
