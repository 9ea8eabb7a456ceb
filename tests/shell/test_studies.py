"""The studies behind the results: what the FactorVAE score measures, and that each script reads what run.py leaves."""

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
from backend import open_backend
from data import load as load_data
from experiment import one
from experiment.defaults import UsageError
from experiment.model import load
from ref import vae
from ref.objectives import METHODS
from studies import ablation, disentanglement, figures, gap, ladder, signal_to_noise
from studies.factor_vae import factor_vae_score
from studies.runs import command, over_seeds

FACTORS = dict(zip("abcd", np.array([*product(*map(range, (3, 4, 6, 5)))]).T, strict=True))
COPIES = np.stack([*FACTORS.values()], axis=1).astype(float)  # a latent a factor


def test_a_latent_for_each_factor_scores_one_whatever_its_scale_sign_and_place():
    noisy = COPIES[:, [2, 0, 3, 1]] + np.random.default_rng(0).normal(0, 0.1, COPIES.shape)
    assert factor_vae_score(noisy * [-3.0, 0.1, 100.0, 1.0], FACTORS) == 1


def test_latents_that_know_no_factor_score_one_over_the_number_of_factors():
    scores = [factor_vae_score(np.random.default_rng(seed).normal(size=(20_000, 6)), many(), seed) for seed in range(3)]
    assert np.mean(scores) == pytest.approx(0.25, abs=0.02)


def many() -> dict[str, np.ndarray]:
    """The values of four factors of 20,000 images, at random."""
    return {name: np.random.default_rng(9).integers(v.max() + 1, size=20_000) for name, v in FACTORS.items()}


def test_two_latents_that_mix_two_factors_evenly_leave_a_coins_toss_between_these():
    # of four factors two are read aright always and two half of the time: ¾
    standard = (COPIES - COPIES.mean(axis=0)) / COPIES.std(axis=0)
    mixed = standard @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5**0.5, 0.5**0.5], [0, 0, -(0.5**0.5), 0.5**0.5]])
    assert factor_vae_score(mixed, FACTORS) == pytest.approx(0.75, abs=0.03)


def test_a_factor_that_no_latent_knows_costs_its_share_of_the_votes():
    # its votes fall on any latent, each read as the factor that it copies: 3 of 4 factors are read aright
    assert factor_vae_score(COPIES[:, :3], FACTORS) == pytest.approx(0.75, abs=0.03)


def test_a_collapsed_latent_takes_no_part():
    tiny = 1e-3 * (COPIES[:, :1] > 0)  # all but constant where the factor is, so that it would win its votes
    assert factor_vae_score(np.hstack([0.1 * COPIES, tiny]), FACTORS) == factor_vae_score(0.1 * COPIES, FACTORS)
    assert factor_vae_score(1e-3 * COPIES, FACTORS) == 0


def test_the_same_code_has_the_same_score_every_time():
    code = COPIES @ np.random.default_rng(0).normal(size=(4, 3))
    assert factor_vae_score(code, FACTORS) == factor_vae_score(code, FACTORS) != factor_vae_score(code, FACTORS, seed=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with tiny runs on sprites: GECO with two seeds, and IWAE; their pictures are left out."""
    out = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_pictures", "draw_curves"):
            patch.setattr(one, name, lambda *_: None)
        loose = ["--kappa", "8"]  # which does not bind, so that λ falls
        tiny = ["--data", "sprites", "--hidden", "4", "--epochs", "2", "--batch-size", "512", "--nll-samples", "1"]
        for name, options in (
            ("geco-0", ["geco", *loose]),
            ("geco-1", ["geco", "--seed", "1", *loose]),
            ("iwae-0", ["iwae"]),
        ):
            assert run.main([*tiny, "--out", str(out / name), "--method", *options]) == 0
    return out


def cells(table: str) -> list[list[str]]:
    """The rows of a table in Markdown, without the line under its header."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


@pytest.mark.slow
def test_the_ladder_shows_the_evaluation_with_the_most_samples(runs):
    assert [row[0] for row in cells(ladder.ladder([runs]))[1:]] == ["1", "1", "5"]
    evaluated = json.loads((runs / "iwae-0/summary.json").read_text()) | {"nll": 77.7, "nll_samples": 9}
    (runs / "iwae-0/evaluation-nll9.json").write_text(json.dumps(evaluated))
    row = cells(ladder.ladder([runs]))[-1]
    elbo, lacking = (float(cell.replace("−", "-")) for cell in row[5:7])
    assert row[3].startswith("77.70 ±") and row[4] == "9" and row[-1] == "iwae-0"
    assert elbo == pytest.approx(evaluated["elbo"], abs=0.006)
    assert lacking == pytest.approx(-evaluated["elbo"] - 77.7, abs=0.006)


@pytest.mark.slow
def test_the_ablation_moves_a_rate_to_kappa_along_the_slope_lambda(runs):
    header, row = cells(ablation.ablation([runs / "geco-0", runs / "geco-1"]))
    runs_of = [json.loads((runs / f"geco-{seed}/summary.json").read_text()) for seed in (0, 1)]
    moved = [of["rate"] + of["lambda"] * (of["distortion"] - 64) for of in runs_of]
    error = abs(moved[0] - moved[1]) / 2  # of the mean of two
    assert row[:2] == ["geco", "2"]
    assert row[header.index("rate at κ²")] == f"{sum(moved) / 2:.2f} ± {error:.2f}".replace("-", "−")
    assert float(row[header.index("overshoot of λ")].split()[0]) > 1  # λ was higher than at the end


@pytest.mark.slow
def test_disentanglement_has_a_row_a_setting_and_the_floors_and_draws(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(gap, "DRAWS", 20)
    text = disentanglement.study([runs], tmp_path)
    first, second = (cells(table) for table in text.split("\n\n")[:2])
    assert second[0][1:] == ["shape", "scale", "rotation", "x", "y"] and len(first) == len(second)
    assert [row[0].split(",")[0] for row in first[1:]] == ["GECO", "IWAE", "untrained", "factors shuffled"]
    pictures = {"disentanglement.png", "traversals-best.png", "traversals-median.png"}
    assert {path.name for path in tmp_path.iterdir()} == pictures


@pytest.mark.slow
def test_one_floor_is_of_the_network_before_training_and_the_other_of_the_trained_network(runs, monkeypatch):
    monkeypatch.setattr(gap, "DRAWS", 20)
    (iwae,), sprites = disentanglement.finished_in([runs / "iwae-0"]), load_data("sprites")
    floors = disentanglement.floors(iwae, sprites)
    trained = disentanglement.figures_of(load(iwae.out), sprites)["rate"]
    assert floors["factors shuffled"]["rate"] == trained != floors["untrained"]["rate"]


@pytest.mark.slow
def test_the_shuffled_factors_have_no_gap_even_where_the_latents_copy_the_factors(runs, monkeypatch):
    monkeypatch.setattr(gap, "DRAWS", 200)
    sprites = load_data("sprites")
    monkeypatch.setattr(disentanglement, "load", lambda _: copies_of(sprites, *sprites.factors))
    monkeypatch.setattr(disentanglement, "start", lambda *_: (copies_of(sprites, "x"), None))
    found = disentanglement.floors(disentanglement.finished_in([runs / "iwae-0"])[0], sprites)
    assert found["untrained"]["x"] == pytest.approx(1, abs=1e-3)
    assert max(found["factors shuffled"][factor] for factor in sprites.factors) < 0.05


def copies_of(sprites, *names: str) -> SimpleNamespace:
    """A model whose latents copy these factors, all but without noise."""
    copies = np.stack([sprites.factors[name] for name in names], axis=1).astype(float)
    return SimpleNamespace(encode=lambda images: (copies, np.full(copies.shape, 1e-3)), backend=open_backend("numpy"))


def test_the_median_is_that_of_the_setting_of_the_best_run_and_not_of_all_runs():
    scores = {"a0": 0.1, "a1": 0.9, "a2": 0.3, "b0": 0.5, "b1": 0.6, "b2": 0.7}
    rows = [{"runs": ["b0", "b1", "b2"]}, {"runs": ["a0", "a1", "a2"]}]
    assert disentanglement.best_and_median(scores, rows) == ("a1", "a2")


def test_the_figures_of_latents_that_copy_all_factors_but_the_shape(monkeypatch):
    monkeypatch.setattr(gap, "DRAWS", 200)
    sprites = load_data("sprites")
    model = copies_of(sprites, *(name for name in sprites.factors if name != "shape"))
    copies, _ = model.encode(None)
    found = disentanglement.figures_of(model, sprites)
    assert found["MIG"] == pytest.approx(0.8, abs=1e-3) and found["MIG without shape"] == pytest.approx(1, abs=1e-3)
    assert found["x"] == pytest.approx(1, abs=1e-3) and found["shape"] < 0.01
    assert found["FactorVAE score"] == pytest.approx(0.8, abs=0.03)
    rate = 0.5 * (np.mean(copies**2) + 1e-6 - 1) - math.log(1e-3)
    assert found["rate"] == pytest.approx(4 * rate)


@pytest.mark.slow
def test_the_gradients_whose_noise_is_measured_are_those_of_the_estimators(runs):
    model = load(runs / "iwae-0")
    x = np.random.default_rng(0).random((4, 784), dtype=np.float32)
    (found,) = signal_to_noise.encoder_gradients(model, x, samples=3, draws=1)
    eps = model.backend.normal(model.backend.noise(signal_to_noise.SEED), (3, 4, model.network.latents))
    assert {*found} == {"iwae", "dreg"}
    for name, gradient in found.items():
        terms, cache = vae.forward(np, model.network, model.params, x, eps)
        whole = np.zeros_like(model.theta)
        d_params = vae.params_of(model.network, whole)
        vae.backward(np, model.network, model.params, cache, METHODS[name].backward(np, terms), d_params)
        np.testing.assert_allclose(gradient, whole[: len(gradient)], rtol=1e-6)
        assert len(gradient) == sum(w.size for w in d_params["encoder"].values())


def test_signal_to_noise_is_the_mean_ratio_over_the_parameters_that_vary():
    draws = np.random.default_rng(0).normal(3, [1, 2, 0, 5], size=(50, 4))
    ratio, variance = signal_to_noise.signal_and_noise({"iwae": g} for g in draws)["iwae"]
    moving = draws[:, [0, 1, 3]]
    assert ratio == pytest.approx(np.mean(moving.mean(axis=0) / moving.std(axis=0, ddof=1)))
    assert variance == pytest.approx(draws.var(axis=0, ddof=1).sum())


@pytest.mark.slow
def test_effective_samples_are_one_to_k(runs):
    model, x = load(runs / "iwae-0"), np.random.default_rng(0).random((4, 784), dtype=np.float32)
    assert signal_to_noise.effective_samples(model, x, 1) == pytest.approx(1)
    assert 1 < signal_to_noise.effective_samples(model, x, 8) < 8
    # without weights q is the prior, and no z changes the picture
    model.params = {side: {name: 0 * w for name, w in views.items()} for side, views in model.params.items()}
    assert signal_to_noise.effective_samples(model, x, 8) == pytest.approx(8)


@pytest.mark.slow
def test_the_picture_of_signal_to_noise_has_a_row_for_each_k(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(signal_to_noise, "DRAWS", 3)
    monkeypatch.setattr(signal_to_noise, "SAMPLES", (1, 4))
    rows = cells(signal_to_noise.study([runs / "iwae-0"], tmp_path))
    assert [row[1] for row in rows[1:]] == ["1", "4"] and (tmp_path / "signal-to-noise.png").is_file()


def test_mean_and_standard_error():
    assert over_seeds([1.0, 2.0, 3.0]) == f"2.00 ± {1 / math.sqrt(3):.2f}" and over_seeds([-1.5], 1) == "−1.5"


@pytest.mark.slow
def test_folders_that_a_study_cannot_read_are_one_sentence(runs, tmp_path, capsys):
    assert command("", ladder.ladder, argv=[str(tmp_path)]) == 2
    assert command("", ablation.ablation, argv=[str(runs)]) == 2
    assert command("", signal_to_noise.study, draws=True, argv=[str(tmp_path)]) == 2
    shutil.copytree(runs / "geco-0", tmp_path / "other/geco-0")
    assert command("", ablation.ablation, argv=[str(runs / "geco-0"), str(tmp_path / "other/geco-0")]) == 2
    assert command("", figures.figures, draws=True, argv=[str(runs)]) == 2
    empty, without, no_run, twice, unlike = capsys.readouterr().err.splitlines()
    assert "holds no run" in empty and "iwae-0 does not bound" in without and "checkpoint" in no_run
    assert "geco has a seed twice among [0, 0]" in twice and "the same error" in unlike


@pytest.mark.slow
def test_the_ablation_refuses_the_method_whose_error_is_not_that_of_the_posterior(runs):
    (geco,) = disentanglement.finished_in([runs / "geco-0"])
    geco.args.method = "geco-iwae"
    with pytest.raises(UsageError, match="does not bound the error of q"):
        ablation.figures_of(geco)


@pytest.mark.slow
def test_the_curves_are_those_of_the_runs_and_the_line_is_at_the_square_of_kappa(runs, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_plot", lambda _, figure: drawn.append(figure))
    finished = disentanglement.finished_in([runs / "geco-0", runs / "geco-1"])
    figures.draw_multipliers(None, finished)
    *of_runs, bound = drawn[0].axes[-1].lines
    assert list(bound.get_ydata()) == [64, 64]
    for line, run_of in zip(of_runs, finished, strict=True):
        assert list(line.get_ydata()) == [report["distortion"] for report in epochs_of(run_of.out)]


def epochs_of(folder: Path) -> list[dict[str, float]]:
    """The columns of metrics.csv that hold numbers, a row an epoch."""
    header, *rows = (line.split(",") for line in (folder / "metrics.csv").read_text().splitlines())
    return [dict(zip(header, (float(cell or "nan") for cell in row), strict=True)) for row in rows]


@pytest.mark.slow
def test_the_figures_of_the_multiplier_are_drawn_where_they_are_asked_for(runs, tmp_path):
    text = figures.figures([runs / "geco-0", runs / "geco-1"], tmp_path)
    assert text.splitlines() == [f"{tmp_path / name}" for name in ("mnist-geco.png", "multipliers.png")]
    assert {path.name for path in tmp_path.iterdir()} == {"mnist-geco.png", "multipliers.png"}


STAND_IN = f"""#!{sys.executable}
import os, pathlib, sys
if sys.argv[1] == "-c":
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir()
(out / "options").write_text(" ".join(sys.argv))
(out / "metrics.csv").write_text("epoch,distortion\\n1,4\\n2," + ("9" if out.name == "beta4-0" else "25"))
(out / "summary.json").touch()
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_of_sprites_takes_kappa_from_the_last_error_of_the_like_run(tmp_path):
    python, script = tmp_path / "python", Path(figures.__file__).with_name("sprites.sh")
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tmp_path / "runs").mkdir()
    subprocess.run([script, "runs", "0"], cwd=tmp_path, env=os.environ | {"PYTHON": str(python)}, check=True)
    options = {folder.name: (folder / "options").read_text() for folder in (tmp_path / "runs").iterdir()}
    assert len(options) == 10 and "--method geco --kappa 3.0 " in options["geco-like-beta4-0"]
    assert "--method geco --kappa 5.0 " in options["geco-like-beta8-0"] and "--beta 8 " in options["beta8-0"]
