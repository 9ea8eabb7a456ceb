"""Find the fault: copies of ref/ with one mistake each, which train nevertheless."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.page import ROOT

QUANTITIES = ("loss", "KL", "error", "λ")
LOOP = "train.py"


class Fault(NamedTuple):
    """One mistake in a copy of ref/ and of the loop."""

    method: str  # that is trained
    function: str
    right: str  # a text of the function
    wrong: str
    about: str


# Method and function, the text that is right, the text that is wrong, and what it does.
TABLE = """
geco gaussian_kl
0.5 * (mean * mean + xp.exp(2 * log_std) - 1)
(mean * mean + xp.exp(2 * log_std) - 1)
The ½ is lost. Training is right, since backward is; the printed KL is wrong where mean² + std² is not 1.

vae reparameterize
mean + xp.exp(log_std) * eps
mean + xp.exp(0.5 * log_std) * eps
log_std is taken for the log variance. The KL takes it for log std, so the noise is not what the KL pays for.

iwae softmax
return w / xp.sum(w, axis=0)
return w / xp.sum(w, axis=1)[:, None]
The weights sum to one over the images of the batch, and have to over the samples of an image.

iwae step
terms, cache = vae.forward(np, MODEL, params, batch, eps)
terms, cache = (vae.forward(np, MODEL, params, batch, rng.normal(size=eps.shape))[i] for i in (0, 1))
The noise is drawn twice: the weights w̃ are those of other samples than the ones that backward goes through.

geco relative_multiplier
log_lam + xp.clip
log_lam - xp.clip
λ goes the wrong way: it falls while the error is too large.

geco geco_backward
now.lam * mean_backward(xp, terms.err)
now.lam * xp.ones_like(terms.err) / terms.kl.size
A sum over the K samples stands where their mean belongs. GECO hides it: λ ends K times smaller.

geco-iwae geco_iwae_backward
((now.lam - 1) * (terms.err - error) - 1)
-1
The way through the weights w̃ is left out, as if they were constants.

vae mlp_backward
xp.sum(d_a, axis=0
xp.mean(d_a, axis=0
A mean over the rows stands where their sum belongs. Adam hides it, whose step does not depend on the scale.
"""
ROWS = [paragraph.splitlines() for paragraph in TABLE.strip().split("\n\n")]
FAULTS = [Fault(*names.split(), *texts) for names, *texts in ROWS]


def copy(folder: Path, fault: Fault | None = None) -> Path:
    """Writes ref/ and the loop into the folder, with the mistake unless there is none."""
    shutil.copytree(ROOT / "ref", folder / "ref", ignore=shutil.ignore_patterns("__pycache__", "one_file.py", "*.md"))
    shutil.copy(Path(__file__).with_name("loop.py"), folder / LOOP)
    for path in folder.rglob("*.py"):
        text = path.read_text("utf-8")
        if fault and f"def {fault.function}(" in text:
            path.write_text(text.replace(fault.right, fault.wrong), "utf-8")
    return folder


def functions(folder: Path) -> set[str]:
    """The names of all functions in a copy."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def run(folder: Path, *command: str) -> str:
    """What Python prints in that folder, whose ref/ stands before the project's."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *command]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it printed nothing"])[-1])
    return done.stdout


def trained(folder: Path, method: str) -> np.ndarray:
    """The numbers of QUANTITIES at every report.   -> (reports, 4)"""
    return np.array([line.split() for line in run(folder, LOOP, method).splitlines()], float)


def residuals(folder: Path) -> str:
    """The pairs of the copy that are not autograd's, each with its residual."""
    table = run(folder, "-c", "from tests.by_hand import table; print(table())").splitlines()
    wrong = [f"  {line}" for line in table if "←" in line]
    return "\n".join(wrong or ["  Each gradient is autograd's, so no residual shows it."])


def curves(numbers: np.ndarray) -> str:
    """A line for each quantity: its course in characters, and its last value."""
    lines = []
    for name, course in zip(QUANTITIES, numbers.T, strict=True):
        if name == "λ" and np.ptp(course) == 0:  # the method has none
            continue
        low, high = course.min(), course.max()
        levels = ((course - low) / max(high - low, 1e-12) * 7.99).astype(int)
        lines.append(f"  {name:5}  {''.join('▁▂▃▄▅▆▇█'[level] for level in levels)}  {course[-1]:.4g}")
    return "\n".join(lines)
