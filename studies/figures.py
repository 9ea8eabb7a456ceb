"""Draws mnist-geco.png of the first page and multipliers.png of experiment/README.md from two finished runs.

python run.py --data mnist && python run.py --data mnist --multiplier plain --out runs/mnist-plain
python -m studies.figures runs/mnist-geco-0 runs/mnist-plain
"""

import csv
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data import load as load_data
from experiment.model import load
from experiment.pictures import save, sheet
from studies.runs import PICTURES


def draw_multipliers(relative: Path, plain: Path) -> None:
    """multipliers.png: λ, the rate and the squared error of two runs against the epoch."""
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    panels = (("lambda", "λ"), ("rate", "rate [nats]"), ("distortion", "squared error per image"))
    for axes, (key, label) in zip(figure.subplots(1, 3), panels, strict=True):
        for run, name in ((relative, "relative, bounded (default)"), (plain, "plain: Δ log λ = η·C_ma")):
            with open(run / "metrics.csv") as file:
                rows = list(csv.DictReader(file))
            axes.plot([int(row["epoch"]) for row in rows], [float(row[key]) for row in rows], label=name)
        axes.set(xlabel="epoch", title=label, yscale="log")
        axes.grid(alpha=0.3)
    axes.axhline(16, color="black", linestyle=":", label="κ² = 16")
    axes.legend(fontsize=8)
    figure.savefig(PICTURES / "multipliers.png", dpi=100)


def draw_run(run: Path) -> None:
    """mnist-geco.png: test images, what the model makes of them, and draws from the prior."""
    model, images = load(run), load_data("mnist").test[:10]
    rows = [("original", images.reshape(-1, *model.shape) / 255), ("at the mean", model.reconstruct(images))]
    rows += [("prior p(z)", row) for row in np.split(model.sample(30), 3)]
    save(PICTURES / "mnist-geco.png", sheet(rows))


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    draw_run(Path(sys.argv[1]))
    draw_multipliers(*(Path(path) for path in sys.argv[1:3]))
