"""The model that comes with the repository: it is of use at once, small, and what training it anew gives."""

import json
from pathlib import Path

import numpy as np
import pytest

import run
from data import load as load_data
from experiment import UsageError, load
from experiment.run_folder import MODELS
from tests.shell.undrawn import undrawn

FIGURES = {"rate": 6.07, "error": 25.46}  # nats, and squared error; with the option below, by summary.json of the run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_shipped_model_reconstructs_test_images_and_is_small():
    model, test = load("mnist-10k"), load_data("mnist-10k").test
    errors = ((model.reconstruct(test).reshape(len(test), -1) - test / 255) ** 2).sum(axis=1)
    assert 17 < errors.mean() < 21 and model.run.method == "geco" and model.run.target == 25
    assert max(path.stat().st_size for path in MODELS.iterdir()) < 1.6e6


def test_it_is_used_from_the_command_line_and_writes_below_runs(capsys):
    assert run.main(["--load", "mnist-10k", "--sample", "3"]) == 0
    assert len([*Path("runs/mnist-10k-samples-3-0").glob("[0-9].png")]) == 3
    assert run.main(["--load", "mnist-10k", "--encode", "digits"]) == 2  # of 8×8 pixels
    assert "has shape (299, 8, 8, 1), expected (N, 28, 28, 1)" in capsys.readouterr().err


def test_a_folder_of_its_name_is_not_guessed_at():
    Path("mnist-10k").mkdir()
    with pytest.raises(UsageError, match=r"write \./mnist-10k"):
        load("mnist-10k")
    with pytest.raises(UsageError, match="holds no checkpoint"):
        load("./mnist-10k")


@pytest.mark.slow
def test_training_it_anew_ends_at_its_figures(monkeypatch):
    undrawn(monkeypatch)
    assert run.main(["--hidden", "256,128", "--seed", "1", "--out", "anew"]) == 0
    summary = json.loads(Path("anew/summary.json").read_text())
    assert all(summary[name] == pytest.approx(value, rel=0.03) for name, value in FIGURES.items())
    assert run.main(["--load", "mnist-10k", "--evaluate", "--out", "evaluated.json"]) == 0
    shipped = json.loads(Path("evaluated.json").read_text())
    assert all(shipped[name] == pytest.approx(value, rel=0.005) for name, value in FIGURES.items())
    assert np.isfinite(load("mnist-10k").theta).all()
