"""How the cost of a step grows: batch, samples, hidden width and latents, doubled five times each.

python -m tests.benchmarks.growth                            measures what runs/growth.csv lacks, and draws it all
python -m tests.benchmarks.growth --axis batch latents --rounds 5
python -m tests.benchmarks.growth --axis --picture here.png  only draws

Each axis runs through the benchmark's own point, GECO on the slides' network at batch 128, but for samples, which need
iwae. Time is the median of a step. Memory is what a process held at most (ru_maxrss) beyond what it held once
its libraries were imported: weights, images, the work of a step, and what a compiler took.
"""

import argparse
import csv
import importlib.util
import io
import statistics
from pathlib import Path

import numpy as np

from data.files import write_whole
from tests.benchmarks.benchmark import conditions, measure
from tests.benchmarks.peers import Case

SLIDES = Case("geco", (512, 256), 200, "silu", "gaussian", 128, 1)
# Name: what is doubled, and its sizes with what is timed there.
AXES = {
    "batch": ("images a batch, B", {b: SLIDES._replace(batch_size=b) for b in (32, 64, 128, 256, 512, 1024)}),
    "samples": (
        "samples an image, K (iwae)",
        {k: SLIDES._replace(method="iwae", samples=k) for k in (1, 2, 4, 8, 16, 32)},
    ),
    "hidden": (
        "units of the first hidden layer",
        {h: SLIDES._replace(hidden=(h, h // 2)) for h in (64, 128, 256, 512, 1024, 2048)},
    ),
    "latents": ("latents, Z", {z: SLIDES._replace(latents=z) for z in (25, 50, 100, 200, 400, 800)}),
}
NAMES = {"numpy": "NumPy", "step": "Numba", "jax": "JAX", "torch": "PyTorch", "compile": "PyTorch, compiled"}
NAMES |= {"products": "products alone"}
COLUMNS = ("axis", "size", "contestant", "ms", "mb_before", "mb_peak")
PICTURE = Path(__file__).parents[2] / "backend" / "pictures" / "growth.png"


def known(path: Path) -> list[dict]:
    """The rows of the file, none if there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        kinds = (str, int, str, float, float, float)
        return [{c: kind(row[c]) for c, kind in zip(COLUMNS, kinds, strict=True)} for row in csv.DictReader(file)]


def keep(path: Path, rows: list[dict]) -> None:
    """Writes the file, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def point(axis: str, size: int, names: list[str], rounds: int) -> list[dict]:
    """A row a contestant at one size of an axis. The benchmark checks the peers' losses; their memory is not ours."""
    times, memory = measure(names, "numba", "float32", AXES[axis][1][size], rounds, check=False)
    found = [(axis, size, name, statistics.median(times[name]), *memory[name]) for name in names]
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def slope(curve: dict[int, float]) -> float:
    """The exponent of the power law that fits best: least squares of the logarithms."""
    return float(np.polyfit(np.log([*curve]), np.log([*curve.values()]), 1)[0])


def curves(rows: list[dict], axis: str) -> dict[str, dict[str, dict[int, float]]]:
    """{"ms": {contestant: {size: …}}, "mb": the same} of an axis; the products have no memory of their own."""
    found = {"ms": {}, "mb": {}}
    for row in sorted((row for row in rows if row["axis"] == axis), key=lambda row: row["size"]):
        found["ms"].setdefault(row["contestant"], {})[row["size"]] = row["ms"]
        if row["contestant"] != "products":
            found["mb"].setdefault(row["contestant"], {})[row["size"]] = row["mb_peak"] - row["mb_before"]
    return found


def draw(rows: list[dict], path: Path) -> None:
    """Time above, memory below, an axis a column, both scales logarithmic, the slope of each curve in the legend."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes = [axis for axis in AXES if any(row["axis"] == axis for row in rows)]
    figure = Figure(figsize=(3.4 * len(axes), 6.4), layout="constrained")
    grid = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False)
    for column, axis in zip(grid.T, axes, strict=True):
        for panel, found in zip(column, curves(rows, axis).values(), strict=True):
            for i, name in enumerate(name for name in NAMES if name in found):
                style = "k--" if name == "products" else f"C{i}.-"
                label = f"{NAMES[name]}, slope {slope(found[name]):.2f}" if len(found[name]) > 1 else NAMES[name]
                panel.plot([*found[name]], [*found[name].values()], style, label=label)
            panel.set(xscale="log", yscale="log", xticks=[*AXES[axis][1]])
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            for scale in (panel.xaxis, panel.yaxis):
                scale.set_major_formatter(ScalarFormatter())
                scale.set_minor_formatter(NullFormatter())
            panel.grid(alpha=0.3)
            panel.legend(fontsize=7, loc="upper left")
        column[1].set_xlabel(AXES[axis][0])
    grid[0, 0].set_ylabel("a step [ms]")
    grid[1, 0].set_ylabel("memory [MB]")
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=100))


def table(rows: list[dict]) -> str:
    """A line for each axis and contestant: the first and the last size, and the slopes."""
    lines = [
        "| doubled | from, to | | ms | slope | MB | slope | whole process, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for axis in AXES:
        found = curves(rows, axis)
        for name, times in found["ms"].items():
            first, last = min(times), max(times)
            cells = [axis, f"{first}, {last}", NAMES[name]]
            for curve in (times, found["mb"].get(name)):
                shown = curve and [f"{curve[first]:.3g} to {curve[last]:.3g}", f"{slope(curve):.2f}"]
                cells += shown if shown and first < last else ["", ""]
            peaks = {r["size"]: r["mb_peak"] for r in rows if (r["axis"], r["contestant"]) == (axis, name)}
            cells.append(f"{peaks[first]:.0f} to {peaks[last]:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures point by point, keeps each, then prints the table and draws the picture."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--axis", nargs="*", choices=AXES, default=[*AXES])
    p.add_argument("--peer", choices=("jax", "torch", "compile"), default="jax", help="the quickest where it was tried")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--points", type=Path, default=Path("runs/growth.csv"), help="what is measured already")
    p.add_argument("--picture", type=Path, default=PICTURE)
    args = p.parse_args()
    if args.rounds < 1:
        p.error(f"--rounds {args.rounds} is not an integer above 0")
    for library in ("numba", "jax" if args.peer == "jax" else "torch"):
        if args.axis and not importlib.util.find_spec(library):
            p.error(f"{library} is not installed: pip install {library}")
    print(", ".join(f"{name} {value}" for name, value in conditions().items()))
    rows, names = known(args.points), ["numpy", "step", "products", args.peer]
    for axis in args.axis:
        for size in AXES[axis][1]:
            there = {row["contestant"] for row in rows if (row["axis"], row["size"]) == (axis, size)}
            if missing := [name for name in names if name not in there]:
                rows += point(axis, size, missing, args.rounds)
                keep(args.points, rows)
    if not rows:
        p.error(f"{args.points} holds no points, and --axis names none to measure")
    print(table(rows))
    draw(rows, args.picture)


if __name__ == "__main__":
    main()
