"""Draws mnist-geco.png of the first page and multipliers.png of experiment/README.md from finished runs of GECO.

python run.py --data mnist && python run.py --data mnist --multiplier plain --out runs/mnist-plain
python -m studies.figures runs/mnist-geco-0 runs/mnist-plain

The first run's images are shown, and the curves of all runs, which bound the same error.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiment.compare import Finished
from experiment.defaults import UsageError
from experiment.model import load
from experiment.one import open_data
from experiment.pictures import plot, save, save_plot, seen, sheet
from studies.runs import command, finished_in

PANELS = (("lambda", "λ"), ("rate", "rate [nats]"), ("distortion", "squared error per image"))


def draw_multipliers(path: Path, runs: Sequence[Finished]) -> None:
    """λ, the rate and the squared error of each run against the epoch, and κ²."""
    figure, panels = plot(10, 2.8, len(PANELS))
    for axes, (key, label) in zip(panels, PANELS, strict=True):
        for run in runs:
            with open(run.out / "metrics.csv") as file:
                rows = list(csv.DictReader(file))
            curve = [float(row[key]) for row in rows]
            axes.plot([int(row["epoch"]) for row in rows], curve, label=f"--multiplier {run.args.multiplier}")
        axes.set(xlabel="epoch", title=label, yscale="log")
    bound = runs[0].args.kappa ** 2
    panels[-1].axhline(bound, color="black", linestyle=":", label=f"κ² = {bound:g}")
    panels[-1].legend(fontsize=8)
    save_plot(path, figure)


def draw_run(path: Path, run: Finished) -> None:
    """Test images, what the model makes of them, and draws from the prior."""
    model, images = load(run.out), open_data(run.args).test[:10]
    rows = [("original", seen(model, images)), ("at the mean", model.reconstruct(images))]
    save(path, sheet([*rows, *(("prior p(z)", row) for row in np.split(model.sample(30), 3))]))


def figures(folders: Sequence[Path], out: Path) -> str:
    """Draws both pictures, and names them."""
    runs = finished_in(folders)
    if any(run.args.multiplier is None for run in runs) or len({run.args.kappa for run in runs}) > 1:
        raise UsageError("these runs do not all bound the same error; name runs of GECO with one --kappa")
    first, second = out / "mnist-geco.png", out / "multipliers.png"
    draw_run(first, runs[0])
    draw_multipliers(second, runs)
    return f"{first}\n{second}"


if __name__ == "__main__":
    raise SystemExit(command(__doc__, figures, draws=True))
