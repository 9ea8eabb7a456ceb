"""The studies behind the results: what their measures measure, and that each reads what run.py leaves."""

import json
import math
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import run
from data import load as load_data
from experiment.comparison import Finished
from experiment.studies import disentanglement, ladder, measures, runs, signal_to_noise, tables
from experiment.studies.measures import factor_vae_score
from experiment.studies.runs import FOLDERS, command, over_seeds
from experiment.trained_model import load
from ref import vae
from ref.more import linear
from ref.objectives import METHODS, Now, log_weight
from tests.shell.undrawn import undrawn
from tests.small import NUMPY, model_of, theta_of

DIGITS = load_data("digits")
FACTORS = dict(zip("abcd", np.array([*product(*map(range, (3, 4, 6, 5)))]).T, strict=True))
COPIES = np.stack([*FACTORS.values()], axis=1).astype(float)  # a latent a factor
STANDARD = (COPIES - COPIES.mean(axis=0)) / COPIES.std(axis=0)
TURN = 0.5**0.5 * np.array([[1, 1], [-1, 1]])
NEAR = pytest.approx(0.75, abs=0.03)
NOISY = COPIES[:, [2, 0, 3, 1]] + np.random.default_rng(0).normal(0, 0.1, COPIES.shape)
# All but constant where the first factor is, so that it would win the votes of this factor.
COLLAPSED = 1e-3 * (COPIES[:, :1] > 0)
CODES = {
    "a latent for each factor, whatever its scale, sign and place": (NOISY * [-3.0, 0.1, 100.0, 1.0], 1),
    "a collapsed latent beside these takes no part": (np.hstack([0.1 * COPIES, COLLAPSED]), 1),
    "no latent but collapsed latents": (1e-3 * COPIES, 0),
    # two factors are read aright always, and two half of the time
    "two latents that mix two factors evenly": (np.hstack([STANDARD[:, :2], STANDARD[:, 2:] @ TURN]), NEAR),
    # its votes fall on any latent, each read as the factor that it copies
    "a factor that no latent knows": (COPIES[:, :3], NEAR),
}


@pytest.mark.parametrize("code", CODES)
def test_the_factor_vae_score_of_a_code_is_what_it_should_be(code):
    latents, score = CODES[code]
    assert factor_vae_score(latents, FACTORS) == factor_vae_score(latents, FACTORS) == score


def test_latents_that_know_no_factor_are_read_by_chance(monkeypatch):
    factors = {name: np.random.default_rng(9).integers(v.max() + 1, size=20_000) for name, v in FACTORS.items()}

    def mean(latents: int, seeds: int) -> float:
        codes = [np.random.default_rng(seed).normal(size=(20_000, latents)) for seed in range(seeds)]
        return np.mean([factor_vae_score(code, factors, seed) for seed, code in enumerate(codes)])

    assert factor_vae_score(STANDARD[:, :3], FACTORS) != factor_vae_score(STANDARD[:, :3], FACTORS, seed=1)
    assert mean(6, 3) == pytest.approx(0.25, abs=0.02)
    # 100 votes fall on 150 latents that know nothing: read by these very votes, most are read aright
    monkeypatch.setattr(measures, "TRAINING", 100)
    monkeypatch.setattr(measures, "TEST", 100)
    assert mean(150, 5) < 0.4


def test_mean_and_standard_error_or_standard_deviation():
    assert over_seeds([1.0, 2.0, 3.0]) == f"2.00 ± {1 / math.sqrt(3):.2f}"
    assert over_seeds([-1.5], 1) == "−1.5"
    assert over_seeds([1.0, 2.0, 3.0], of_mean=False) == "2.00 ± 1.00"


OPTIONS = dict.fromkeys(runs.OPTIONS) | {"samples": 1, "seed": 0, "binarize": "none", "data": "mnist", "epochs": 30}
OPTIONS |= {"likelihood": "gaussian", "variance": 0.5, "hidden": [512, 256], "latent": 200}


def finished(out: str, figures: dict, **options) -> Finished:
    """A finished run, of which a study reads no more than this."""
    own = {name: options.pop(name) for name in ("kappa", "beta") if name in options}
    images = SimpleNamespace(sha256="the checksum", validation=0)
    record = SimpleNamespace(typed=OPTIONS | options | own, options=own, images=images)
    return Finished(Path(out), record, {}, figures)


def answer(monkeypatch, module, **answers) -> None:
    """Lets functions of a module return these, whatever they are given."""
    for name, found in answers.items():
        monkeypatch.setattr(module, name, lambda *_, found=found: found)


def test_a_run_has_its_options_among_its_figures(monkeypatch):
    figures = {"rate": 1.0, "error": 2.0, "error_at_mean": 3.0}
    answer(monkeypatch, runs, runs_in=[finished("a", figures, kappa=4.0, seed=7)])
    (run_of,) = runs.finished_in(["a"])
    assert run_of.summary == OPTIONS | figures | {"options": {"kappa": 4}, "seed": 7, "images": "the checksum"}


@pytest.mark.parametrize("option", ["binarize", "likelihood"])
def test_runs_on_unlike_pixels_are_refused(monkeypatch, option):
    first, second = finished("a", {}), finished("b", {}, **{option: "another"})
    answer(monkeypatch, runs, runs_in=[first, second])
    with pytest.raises(runs.UsageError, match="b and a differ in images, binarization or likelihood"):
        runs.like_runs_in(["a", "b"])
    answer(monkeypatch, runs, runs_in=[first])
    assert [run_of.out for run_of in runs.like_runs_in(["a"])] == [Path("a")]


def cells(table: str) -> list[list[str]]:
    """The rows of a table in Markdown, without the line under its header."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_the_ladder_shows_the_evaluation_with_the_most_samples_and_goes_up_in_k(monkeypatch, tmp_path):
    figures = {"nll": 90.0, "nll_standard_error": 0.5, "elbo": -95.0, "active_units": 9, "seconds": 60.2}
    own = figures | {"method": "iwae", "epochs": 30, "seed": 0, "nll_samples": 500}
    for count, nll in ((100, 91.25), (5000, 88.125)):
        later = figures | {"nll": nll, "nll_samples": count, "elbo": -96.0, "active_units": 8}
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / f"many/evaluation-nll{count}.json").write_text(json.dumps(later))
    found = [Finished(tmp_path / name, None, {}, own | {"samples": k}) for name, k in (("many", 5), ("one", 1))]
    answer(monkeypatch, ladder, like_runs_in=found)
    one_sample, five = cells(ladder.ladder([tmp_path]))[1:]
    assert one_sample == ["1", "IWAE", "30", "90.00 ± 0.50", "500", "−95.00", "5.00", "9", "60", "one"]
    assert five == ["5", "IWAE", "30", "88.12 ± 0.50", "5000", "−96.00", "7.88", "8", "60", "many"]


def test_each_shuffled_factor_has_an_order_of_its_own_and_keeps_its_values():
    images = np.arange(2000)
    found = disentanglement.shuffled({"a": images, "b": images, "c": images})
    assert all((np.sort(v) == images).all() for v in found.values())
    assert np.abs(np.corrcoef([images, *found.values()]) - np.eye(4)).max() < 0.1


def test_figures_and_floors_are_those_of_latents_that_copy_factors(monkeypatch):
    """The floors are of the untrained network, and of the trained network with shuffled factors."""
    monkeypatch.setattr(measures, "DRAWS", 200)
    sprites, near = load_data("sprites"), {"abs": 1e-3}

    def copies_of(*names: str) -> SimpleNamespace:
        copies = np.stack([sprites.factors[name] for name in names], axis=1).astype(float)  # all but without noise
        return SimpleNamespace(encode=lambda images: (copies, np.full(copies.shape, 1e-3)), backend=NUMPY)

    model = copies_of("scale", "rotation", "x", "y")
    found = disentanglement.figures_of(model, sprites)
    assert found["MIG"] == pytest.approx(0.8, **near)
    assert found["MIG without shape"] == pytest.approx(1, **near)
    assert found["x"] == pytest.approx(1, **near) and found["shape"] < 0.01
    assert found["FactorVAE score"] == pytest.approx(0.8, abs=0.03)
    rate = 0.5 * (np.mean(model.encode(None)[0] ** 2) + 1e-6 - 1) - math.log(1e-3)
    assert found["rate"] == pytest.approx(4 * rate)
    answer(monkeypatch, disentanglement, load=copies_of(*sprites.factors), untrained=copies_of("x"))
    untrained, floor = disentanglement.floors(SimpleNamespace(out="a run"), sprites).values()
    assert untrained["x"] == pytest.approx(1, **near)
    assert max(floor[factor] for factor in sprites.factors) < 0.05
    assert floor["rate"] > 2 * untrained["rate"]  # of five latents, and of one


@pytest.fixture
def model() -> SimpleNamespace:
    """A network with random weights, as the study of its noise sees it."""
    network = model_of()
    theta = theta_of(network)
    return SimpleNamespace(backend=NUMPY, network=network, theta=theta, params=vae.params_of(network, theta))


def terms_of(model: SimpleNamespace, x, samples: int):
    eps = NUMPY.normal(NUMPY.noise(signal_to_noise.SEED), (samples, len(x), model.network.latents))
    return vae.forward(np, model.network, model.params, x, eps)


def test_the_gradients_whose_noise_is_measured_are_those_of_the_estimators(model):
    x = np.random.default_rng(0).random((4, 7))
    (found,) = signal_to_noise.encoder_gradients(model, x, samples=3, draws=1)
    for gradient, name in zip(found, ("iwae", "dreg"), strict=True):
        terms, cache = terms_of(model, x, 3)
        whole = np.zeros_like(model.theta)
        d_params = vae.params_of(model.network, whole)
        vae.backward(np, model.network, model.params, cache, METHODS[name].backward(np, terms, Now()), d_params)
        np.testing.assert_allclose(gradient, whole[: len(gradient)], rtol=1e-12)
        assert len(gradient) == sum(w.size for w in d_params["encoder"].values())


def test_signal_to_noise_is_the_mean_ratio_over_the_parameters_that_vary():
    draws = np.random.default_rng(0).normal(3, [[1, 2, 0, 5], [1, 1, 1, 1]], size=(50, 2, 4))
    ratios, variances = signal_to_noise.signal_and_noise(iter(draws))
    moving = draws[:, 0, [0, 1, 3]]
    assert ratios[0] == pytest.approx(np.mean(moving.mean(axis=0) / moving.std(axis=0, ddof=1)))
    np.testing.assert_allclose(variances, draws.var(axis=0, ddof=1).sum(axis=1))


def test_effective_samples_are_the_mean_over_the_images(model):
    x = np.linspace(0, 1, 28).reshape(4, 7)
    terms, _ = terms_of(model, x, 8)
    weights = np.exp(log_weight(terms.log_px, terms))
    of_images = weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)
    assert np.ptp(of_images) > 1 and of_images.min() >= 1 and of_images.max() <= 8
    assert signal_to_noise.effective_samples(model, x, 8) == pytest.approx(of_images.mean())
    # without weights q is the prior, and no z changes the picture
    model.params = {side: {name: 0 * w for name, w in views.items()} for side, views in model.params.items()}
    assert signal_to_noise.effective_samples(model, x, 8) == pytest.approx(8)


def test_a_variance_is_a_share_of_the_first_estimators(monkeypatch):
    model = SimpleNamespace(backend=NUMPY)
    model.readable = lambda images: SimpleNamespace(count=2, read=lambda rows, noise: images)
    answers = {"effective_samples": 1.5, "encoder_gradients": None, "images_of": DIGITS, "load": model}
    answers["signal_and_noise"] = np.array([0.3, 0.7]), np.array([4.0, 1.0])
    answer(monkeypatch, signal_to_noise, like_runs_in=[finished("a", {})], **answers)
    _, first, *_ = cells(signal_to_noise.study([]))
    assert first == ["a", "1", "1.5", "0.300", "0.700", "0.25"]


def test_the_floors_are_those_of_the_run_of_the_highest_rate(monkeypatch):
    asked, figures = [], dict.fromkeys(disentanglement.MEASURES, 0.5)
    found = [finished(name, {"rate": rate, "images": "1"}) for name, rate in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    row = {"parts": ["VAE"], "method": "vae", "runs": ["a", "b", "c"]}
    answers = {"images_of": DIGITS._replace(factors={}), "load": None, "draw": None, "drawn": []}
    answer(monkeypatch, disentanglement, finished_in=found, rows_of=([row], []), figures_of=figures, **answers)
    monkeypatch.setattr(disentanglement, "floors", lambda run, _: asked.append(f"{run.out}") or {"untrained": figures})
    assert "0.50" in disentanglement.study([], Path()) and asked == ["b"]


def test_rows_of_sprites_say_the_squared_error_where_it_is_in_the_loss():
    for method, parts, title in (
        ("beta-vae", ["β-VAE", "β = 2.4", "--likelihood gaussian", "--variance 0.5"], "β-VAE, β = 2.4, squared error"),
        ("rate", ["Rate target", "R = 8.15", "--likelihood bernoulli"], "Rate target, R = 8.15"),
    ):
        assert disentanglement.title({"parts": parts, "method": method}) == title


@pytest.mark.slow
def test_each_study_reads_what_run_py_leaves(tmp_path, monkeypatch):
    """GECO with two seeds, and IWAE, on sprites: a row a setting, a run or a K; the floors; the pictures."""
    undrawn(monkeypatch)
    names, tiny = ("geco-0", "geco-1", "iwae-0"), tmp_path / "tiny"
    options = ["--data", "sprites", "--hidden", "4", "--epochs", "2", "--batch-size", "512", "--nll-samples", "1"]
    for name in names:
        method, seed = name.split("-")
        assert run.main([*options, "--out", str(tiny / name), "--method", method, "--seed", seed]) == 0
    monkeypatch.setattr(measures, "DRAWS", 20)
    text = disentanglement.study([tiny], tmp_path)
    header, *rows = cells(text)
    assert header[-5:] == [f"gap of {factor}" for factor in ("shape", "scale", "rotation", "x", "y")]
    assert [row[0].split(",")[0] for row in rows] == ["GECO", "IWAE", "untrained", "factors shuffled"]
    assert [row[1] for row in rows] == ["2", "1", "1", "1"] and " ± " in rows[0][2]
    last = [line.split(": MIG ") for line in text.splitlines()[-3:]]
    assert {folder for folder, _ in last} == {f"{tiny / name}" for name in names}
    assert [float(mig) for _, mig in last] == sorted((float(mig) for _, mig in last), reverse=True)
    assert {path.name for path in tmp_path.iterdir()} == {"disentanglement.png", "tiny"}
    (iwae,) = runs.like_runs_in([tiny / "iwae-0"])
    before, after = runs.untrained(iwae, load_data("sprites")), load(iwae.out)
    assert before.network._replace(center=0) == after.network._replace(center=0)
    assert before.theta.shape == after.theta.shape and (before.theta != after.theta).any()
    assert [row[0] for row in cells(ladder.ladder([tiny]))[1:]] == ["1", "1", "5"]
    monkeypatch.setattr(signal_to_noise, "DRAWS", 3)
    monkeypatch.setattr(signal_to_noise, "SAMPLES", (1, 4))
    rows = cells(signal_to_noise.study([iwae.out]))
    assert [row[1] for row in rows[1:]] == ["1", "4"] and {len(row) for row in rows} == {6}


def test_folders_that_a_study_cannot_read_are_one_sentence(tmp_path, capsys):
    for study in (ladder.ladder, signal_to_noise.study):
        assert command("", study, FOLDERS, argv=[str(tmp_path)]) == 2
    sentences = capsys.readouterr().err.splitlines()
    assert len(sentences) == 2 and all("holds no run" in sentence for sentence in sentences)


def figures_file(folder: Path, name: str, **figures) -> None:
    """The figures of a run among those of its data set."""
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    content = OPTIONS | {"images": "the checksum", "mean_image_error": 52.9, "method": "vae", "options": {}} | figures
    (folder / f"mnist/{name}.json").write_text(json.dumps(content))


@pytest.fixture
def figures(tmp_path, monkeypatch) -> Path:
    """A folder of figures: GECO with three seeds and a VAE with one; and a page."""
    folder = tmp_path / "figures"
    monkeypatch.setattr(tables, "FIGURES", folder)
    monkeypatch.setattr(tables, "PAGES", (tmp_path / "page.md",))
    for seed, rate in enumerate((9.0, 10.0, 11.5)):
        own = {"options": {"kappa": 4.1}, "rate": rate, "seed": seed}
        figures_file(folder, f"geco-kappa4.1-{seed}", method="geco", **own)
    figures_file(folder, "vae-0", rate=12.25)
    figures_file(folder, "geco-kappa4-0", method="geco", options={"kappa": 4.0}, rate=99.0)
    return folder


OPENING, END = "before\n<!-- table: mnist/vae mnist/geco-kappa4.1: rate slides_rate -->\n", "<!-- end -->\nafter\n"
WRITTEN = """| mnist | rate | slides |
| --- | --- | --- |
| VAE | 12.25 | 1.58 |
| GECO, κ = 4.1 | 10.17 ± 1.26 | – |
| the mean image | 0.00 | – |

*Mean ± standard deviation over seeds: 4 runs of 30 epochs, from experiment/figures/.*
"""  # (9 + 10 + 11.5)/3 = 10.17; √((1.17² + 0.17² + 1.33²)/2) = 1.26


def test_a_table_is_written_from_the_figures_and_the_page_around_it_stays(figures):
    page = figures.parent / "page.md"
    page.write_text(f"{OPENING}an older table\n{END}", encoding="utf-8")
    tables.write([])
    assert page.read_text(encoding="utf-8") == f"{OPENING}{WRITTEN}{END}" == tables.written(page.read_text())
    figures_file(figures, "vae-1", rate=13.25, seed=1)
    assert "| VAE | 12.75 ± 0.71 |" in tables.written(page.read_text(encoding="utf-8"))
    assert "| GECO, κ = 4 | 99.00 |" in tables.table(["mnist/geco-kappa4"], ["rate"])  # without the runs of κ = 4.1


def test_of_no_runs_and_of_unlike_runs_there_is_no_table(figures):
    figures_file(figures, "vae-2", rate=13.0, seed=2, epochs=5)
    for page, sentence in (
        (OPENING.replace("mnist/", "cifar10/") + END, "no run of cifar10/vae"),
        (OPENING, "markers"),
        (OPENING + END, "differ in epochs"),
    ):
        with pytest.raises(runs.UsageError, match=sentence):
            tables.written(page)


def test_the_tables_of_the_pages_are_what_the_figures_say_and_the_figures_bear_their_names():
    for path in tables.PAGES:
        page = path.read_text(encoding="utf-8")
        assert "<!-- table: " in page and tables.written(page) == page, "run python -m experiment.studies.tables"
    for path in tables.FIGURES.glob("*/*.json"):
        assert path == tables.FIGURES / tables.name_of(json.loads(path.read_text()))


def test_added_figures_have_the_mean_image_and_the_linear_bound_beside(figures, monkeypatch):
    images = DIGITS._replace(test=DIGITS.test // 2)  # of which the linear bound is not
    own = {"data": "digits", "method": "geco-iwae", "kappa": 1.25, "samples": 5, "seed": 3}
    summary = {"error": 2.0, "rate": 0.1 + 0.2, "seconds": 5.0}
    answer(monkeypatch, runs, images_of=images, runs_in=[finished("a", summary, **own)])
    tables.add([Path("a")])
    found = json.loads((figures / "digits/geco-iwae-kappa1.25-samples5-3.json").read_text())
    assert found["rate"] == 0.1 + 0.2 and found["error"] == 2 and "seconds" not in found
    train, test = (pixels.reshape(len(pixels), -1) / 255 for pixels in (images.train, images.test))
    assert found["mean_image_error"] == pytest.approx(((test - train.mean(axis=0)) ** 2).sum(axis=1).mean(), rel=1e-5)
    variances = np.linalg.eigvalsh(np.cov(train.T, bias=True))[::-1]
    assert found["linear_rate"] == pytest.approx(linear.gaussian_rate_distortion(variances, 2.0), rel=2e-3)


def test_added_figures_replace_no_others_and_are_of_named_data_sets(figures, monkeypatch):
    answer(monkeypatch, tables, without_network=(1.0, lambda error: 2.0))

    def added(**options) -> None:
        answer(monkeypatch, runs, runs_in=[finished("a", {"error": 2.0, "rate": 3.0}, method="vae", **options)])
        tables.add([Path("a")])

    added(seed=5)
    added(seed=5)  # the same again
    with pytest.raises(runs.UsageError, match="holds other figures than a"):
        added(seed=5, latent=3)
    for options in ({"data": "../pictures"}, {"binarize": "dynamic"}):
        with pytest.raises(runs.UsageError, match="named data sets"):
            added(**options)


STAND_IN = f"""#!{sys.executable}
import os, pathlib, sys
if sys.argv[1] == "-c":
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir()
(out / "options").write_text(" ".join(sys.argv))
(out / "metrics.csv").write_text("epoch,lambda\\n1,4\\n2," + ("9" if out.name == "rate5.43-0" else "0.25"))
(out / "summary.json").touch()
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_of_sprites_weighs_the_control_by_the_last_multiplier_of_the_like_run(tmp_path):
    python, script = tmp_path / "python", Path(ladder.__file__).with_name("sprites.sh")
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tmp_path / "runs").mkdir()
    subprocess.run([script, "runs", "0"], cwd=tmp_path, env=os.environ | {"PYTHON": str(python)}, check=True)
    options = {folder.name: (folder / "options").read_text() for folder in (tmp_path / "runs").iterdir()}
    assert len(options) == 15 and "--likelihood gaussian --beta 9.0 " in options["control5.43-0"]
    assert "--beta 0.25 " in options["control2.12-0"]
    assert "--method rate --rate 2.12 " in options["rate2.12-0"]


def test_the_control_has_a_marker_of_its_own(monkeypatch):
    figures, run = [], {"rate": 1.0, "MIG": 0.5, "FactorVAE score": 0.5}
    monkeypatch.setattr(disentanglement, "save_plot", lambda path, figure: figures.append(figure))
    titles = ["β-VAE, β = 2", "β-VAE, β = 1, squared error", "β-VAE, β = 4"]
    floors = dict.fromkeys(("untrained", "shuffled"), run)
    disentanglement.draw(Path(), ["beta-vae"] * 3, {title: [run] for title in titles}, floors)
    markers = [line.get_marker() for line in figures[0].axes[0].lines[:3]]
    assert markers[0] == markers[2] != markers[1]
