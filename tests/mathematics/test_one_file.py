"""ref/one_file.py is ref/ on one page; ref/README.md leads to it from the pieces."""

import ast
import os
import re
import subprocess
import sys

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from ref import mlp, objectives, one_file, vae
from tests.page import FILE, ROOT, definitions

SOURCE = (ROOT / "ref/one_file.py").read_text("utf-8")
FUNCTIONS = definitions(SOURCE)
LAM, TARGET = 0.7, one_file.KAPPA**2
MODEL = vae.Model(mlp, (one_file.H,), one_file.Z, "tanh", True, "gaussian", 0.5, center=np.zeros(one_file.D))
RNG = np.random.default_rng(0)
X, EPS = RNG.uniform(size=(5, one_file.D)), RNG.normal(size=(5, one_file.Z))
THETA = 0.1 * RNG.normal(size=sum(map(mlp.size, mlp.shapes(MODEL))))


ADVICE = "python -m tests.by_hand says which function of ref/ is wrong; where none is, ref/one_file.py is"


def distance(actual, expected) -> float:
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def check(actual, expected, most: float) -> None:
    """Fails with the names of the weights whose gradient is further off than `most`."""
    names = ("d_W0", "d_b0", "d_W1", "d_b1", "d_W2", "d_b2", "d_W3", "d_b3")
    errors = map(distance, one_file.views(actual), one_file.views(expected))
    wrong = [name for name, error in zip(names, errors, strict=True) if not error < most]
    assert not wrong, f"backward of ref/one_file.py finds another {', '.join(wrong)}: {ADVICE}"


def gradient() -> np.ndarray:
    return one_file.backward(THETA, one_file.forward(THETA, X, EPS)[2], LAM)


def test_its_gradient_is_that_of_autograd(monkeypatch):
    def loss(theta):
        kl, err, _ = one_file.forward(theta, X, EPS)
        return anp.mean(kl) + LAM * (anp.mean(err) - TARGET)

    by_hand = gradient()
    monkeypatch.setattr(one_file, "np", anp)
    check(by_hand, autograd.grad(loss)(THETA), 1e-10)


def test_its_terms_and_its_gradient_are_those_of_ref_on_the_same_weights():
    params, expected = vae.params_of(MODEL, THETA), np.full_like(THETA, np.nan)
    terms, cache = vae.forward(np, MODEL, params, X, EPS[None])
    d_terms = objectives.geco_backward(np, terms, objectives.Now(lam=LAM, target=TARGET))
    vae.backward(np, MODEL, params, cache, d_terms, vae.params_of(MODEL, expected))

    kl, err, _ = one_file.forward(THETA, X, EPS)
    assert distance(kl, terms.kl) < 1e-12 and distance(err, terms.err[0]) < 1e-12, ADVICE
    check(gradient(), expected, 1e-12)


def test_it_is_a_page_without_options_classes_and_the_rest_of_the_project():
    lines, nodes = SOURCE.splitlines(), list(ast.walk(ast.parse(SOURCE)))
    assert len(lines) <= 100 and max(map(len, lines)) <= 100
    assert f"in {len(lines)} lines" in (ROOT / "README.md").read_text("utf-8")
    assert not any(isinstance(node, ast.ClassDef) for node in nodes) and not re.search("sys|argparse|environ", SOURCE)
    imports = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    imports += [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    assert sorted(imports) == ["lzma", "math", "numpy", "pathlib"]


def test_each_line_of_backward_quotes_the_line_that_it_mirrors_and_none_is_left_out():
    forward = FUNCTIONS["forward"].replace("    h0, mean, log_std = encode(theta, x)\n", FUNCTIONS["encode"] + "\n")
    forward = forward.replace("    h2, x_hat = decode(theta, z)\n", FUNCTIONS["decode"] + "\n")
    lines = [line.split("  #")[0].strip() for line in forward.splitlines()]
    mirrored = re.findall(r"^    d_.*  # (.*)$", FUNCTIONS["backward"], re.MULTILINE)
    others = re.compile(r"def |\"\"\"|return |std = np.exp|.* = views\(theta\)")  # the slope of exp is a factor
    assert mirrored == [line for line in reversed(lines) if not others.match(line)]


@pytest.mark.slow
def test_it_trains_to_the_error_that_it_is_allowed_and_draws_digits():
    command = [sys.executable, ROOT / "ref/one_file.py"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    printed = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", check=True).stdout
    rate, error = map(float, re.search(r"step 3000: KL (\S+) nats, error (\S+),", printed).groups())
    assert abs(error - TARGET) < 0.03 * TARGET and 5 < rate < 9
    digits = printed.splitlines()[-12:]
    assert {len(row) for row in digits} == {80} and sum(row.count("@") + row.count("#") for row in digits) > 20


def test_the_pieces_of_ref_train_as_the_page_says():
    """The page's own text, run as it stands, prints what the page says that it prints."""
    page = FILE.read_text("utf-8")
    program, printed = re.search(r"```py\n(.*?)```.*?```text\n(.*?)```", page, re.DOTALL).groups()
    assert len(program.splitlines()) <= 25
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    for said, found in zip(printed.split(), run.stdout.split(), strict=True):
        assert said == found or abs(float(said) - float(found)) < 0.05 * float(said)
