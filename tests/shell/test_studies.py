"""The studies behind the results: what the FactorVAE score measures, and that each script reads what run.py leaves."""

import json
import math
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

import run
from data import load as load_data
from experiment import one
from experiment.model import load
from ref import vae
from ref.objectives import METHODS
from studies import ablation, disentanglement, gap, ladder, signal_to_noise
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
        tiny = ["--data", "sprites", "--hidden", "4", "--epochs", "1", "--batch-size", "512", "--nll-samples", "1"]
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
    assert row[3].startswith("77.70 ±") and row[4] == "9" and row[-1] == "iwae-0"
    assert float(row[6].replace("−", "-")) == pytest.approx(-evaluated["elbo"] - 77.7, abs=0.006)


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


def test_the_figures_of_latents_that_copy_all_factors_but_the_shape(monkeypatch):
    monkeypatch.setattr(gap, "DRAWS", 200)
    sprites = load_data("sprites")
    copies = np.stack([v for name, v in sprites.factors.items() if name != "shape"], axis=1).astype(float)
    model = SimpleNamespace(encode=lambda images: (copies, np.full(copies.shape, 1e-3)))
    found = disentanglement.figures_of(model, sprites)
    assert found["MIG"] == pytest.approx(0.8, abs=1e-3) and found["MIG without shape"] == pytest.approx(1, abs=1e-3)
    assert found["x"] == pytest.approx(1, abs=1e-3) == found["x, known"] and found["shape, known"] < 0.01
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
    empty, without, no_run = capsys.readouterr().err.splitlines()
    assert "holds no run" in empty and "iwae-0 has no constraint" in without and "checkpoint" in no_run
