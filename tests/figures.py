"""Draws README's pictures from two finished runs.

python run.py --data mnist && python run.py --data mnist --multiplier plain --out runs/mnist-plain
python -m tests.figures runs/mnist-geco-0 runs/mnist-plain
"""

import csv
import sys
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

PICTURES = Path(__file__).parent.parent / "data" / "pictures"


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
    """mnist-geco.png: the reconstructions above the first three rows of the samples."""
    top, samples = Image.open(run / "reconstructions.png"), Image.open(run / "samples.png")
    left, top_row = (samples.width - 14) // 2, 28  # the prior's panel, below its label
    bottom = samples.crop((0, top_row, left, top_row + 3 * (samples.height - top_row - 2) // 10 + 2))
    sheet = Image.new("L", (top.width, top.height + 12 + bottom.height), 255)
    sheet.paste(top, (0, 0))
    sheet.paste(bottom, (0, top.height + 12))
    sheet.save(PICTURES / "mnist-geco.png", optimize=True)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    draw_run(Path(sys.argv[1]))
    draw_multipliers(*(Path(path) for path in sys.argv[1:3]))
