"""Which factors of the sprites come apart: MIG and the FactorVAE score of finished runs against their rate.

python -m experiment.studies.disentanglement runs/sprites

Draws disentanglement.png. The last lines name the runs, the highest MIG first.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from data import Dataset
from experiment.comparison import Finished, rows_of
from experiment.evaluation import EVALUATION_SEED, aligned
from experiment.pictures import MARKERS, drawn, plot, save_plot
from experiment.record import UsageError
from experiment.studies.measures import factor_information, factor_vae_score, gaps
from experiment.studies.runs import FOLDERS, OUT, command, finished_in, images_of, over_seeds, untrained
from experiment.trained_model import TrainedModel, load
from ref.densities import gaussian_kl

MEASURES = ("rate", "MIG", "MIG without shape", "FactorVAE score")


def figures_of(model: TrainedModel, data: Dataset) -> dict[str, float]:
    """The MEASURES over the whole population, and each factor's gap under the factor's name."""
    mean, std = model.encode(data.population)
    found = gaps(*factor_information(mean, np.log(std), data.factors))
    gap = dict(zip(data.factors, found.tolist(), strict=True))
    without_shape = fmean(share for name, share in gap.items() if name != "shape")
    score, rate = factor_vae_score(mean, data.factors), float(np.mean(gaussian_kl(np, mean, np.log(std))))
    return dict(zip(MEASURES, (rate, fmean(gap.values()), without_shape, score), strict=True)) | gap


def shuffled(factors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each factor in a random order of its own, so that the factors tell nothing of the images or of one another."""
    rng = np.random.default_rng(EVALUATION_SEED)
    return {name: rng.permutation(v) for name, v in factors.items()}


def floors(run: Finished, data: Dataset) -> dict[str, dict]:
    """The figures where no factor can be told: of the network before training, and of the run with shuffled factors."""
    found = figures_of(load(run.out), data._replace(factors=shuffled(data.factors)))
    return {"untrained": figures_of(untrained(run, data), data), "factors shuffled": found}


def study(folders: Sequence[Path], out: Path) -> str:
    """The table and the picture."""
    runs = finished_in(folders)
    if len({run.summary["images"] for run in runs}) > 1:
        raise UsageError(f"the runs in {', '.join(map(str, folders))} are on different images")
    data = images_of(runs[0])
    if data.factors is None:
        raise UsageError(f"the factors of the images of {runs[0].out} are not known; name runs on sprites")
    found = {str(run.out): figures_of(load(run.out), data) for run in runs}
    rows, _ = rows_of(runs)
    groups = {title(row): [found[folder] for folder in row["runs"]] for row in rows}
    lowest = floors(max(runs, key=lambda run: run.summary["rate"]), data)
    said = drawn(draw, out / "disentanglement.png", [row["method"] for row in rows], groups, lowest)
    groups |= {name: [figures] for name, figures in lowest.items()}
    ranked = sorted(found, key=lambda folder: -found[folder]["MIG"])
    return "\n".join([table(groups), *said, "", *(f"{folder}: MIG {found[folder]['MIG']:.3f}" for folder in ranked)])


def title(row: dict) -> str:
    """A row's method and options. The β-VAE is on binary cross-entropy, unless the title says: on the squared error."""
    words = [part for part in row["parts"] if not part.startswith("--")]
    gaussian = row["method"] == "beta-vae" and "--likelihood gaussian" in row["parts"]
    return ", ".join(words + ["squared error"] * gaussian)


def table(groups: dict[str, list[dict]]) -> str:
    """The MEASURES and the factors' gaps, mean ± standard error over seeds, a row a setting."""
    names = [*next(iter(groups.values()))[0]]
    lines = [["", "seeds", *(name if name in MEASURES else f"gap of {name}" for name in names)]]
    for title, runs in groups.items():
        cells = [over_seeds([run[name] for run in runs], 3 if name.startswith("MIG") else 2) for name in names]
        lines.append([title, str(len(runs)), *cells])
    return aligned(lines)


def draw(path: Path, methods: list[str], groups: dict[str, list[dict]], lowest: dict[str, dict]) -> None:
    """MIG and FactorVAE score against the rate: a point a run, a line a floor, a marker a method and likelihood."""
    figure, panels = plot(12, 4.5, 2)
    kinds = [(method, title.endswith("squared error")) for method, title in zip(methods, groups, strict=True)]
    for axes, measure in zip(panels, ("MIG", "FactorVAE score"), strict=True):
        for (title, runs), kind in zip(groups.items(), kinds, strict=True):
            marker = MARKERS[[*dict.fromkeys(kinds)].index(kind)]
            axes.plot([run["rate"] for run in runs], [run[measure] for run in runs], marker, label=title)
        for (name, floor), line in zip(lowest.items(), ("--", ":"), strict=True):
            axes.axhline(floor[measure], color="black", linestyle=line, linewidth=1, label=name)
        axes.set(xlabel="rate [nats]", ylabel=measure)
    panels[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save_plot(path, figure)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, study, FOLDERS, OUT))
