"""The studies behind the results: what the FactorVAE score measures, and that each script reads what run.py leaves."""

import re

import numpy as np
import pytest

import run
from data import load as load_data
from experiment import one, options
from experiment.defaults import complete
from experiment.model import load
from experiment.studies import ablation, disentanglement, ladder, signal_to_noise
from experiment.studies.factor_vae import factor_vae_score
from experiment.studies.runs import command, finished_in, over_seeds
from ref.objectives import METHODS
from tests.gradients import hand_loss_and_gradient

FACTORS = dict(zip("abcd", np.stack(np.meshgrid(*map(np.arange, (3, 4, 6, 5)))).reshape(4, -1), strict=True))
COPIES = np.stack([*FACTORS.values()], axis=1).astype(float)  # a latent a factor


def test_a_latent_for_each_factor_scores_one_whatever_its_scale_sign_and_place():
    assert factor_vae_score(COPIES[:, [2, 0, 3, 1]] * [-3.0, 0.1, 100.0, 1.0], FACTORS) == 1


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
