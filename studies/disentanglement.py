"""Which factors of the sprites come apart: MIG and the FactorVAE score of finished runs against their rate.

python -m studies.disentanglement runs/sprites

Draws disentanglement.png, every run as a point, and the traversals of the run of the highest MIG and of the run of the
median MIG in the same setting, traversals-best.png and traversals-median.png. It takes about ten seconds a run.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from data import Dataset
from experiment.compare import Finished, rows_of
from experiment.defaults import UsageError
from experiment.model import TrainedModel, load
from experiment.one import open_data, start
from experiment.pictures import MARKERS, plot, save, save_plot, traversals
from experiment.results import EVALUATION_SEED, aligned
from experiment.training import reader
from ref.densities import gaussian_kl
from ref.objectives import METHODS
from studies.factor_vae import factor_vae_score
from studies.gap import factor_information, gaps
from studies.runs import command, finished_in, over_seeds


def figures_of(model: TrainedModel, data: Dataset) -> dict[str, float]:
    """The rate, MIG with and without shape, the FactorVAE score, and each factor's gap under its name. All over the
    whole population.
    """
    mean, std = model.encode(data.population)
    found = gaps(*factor_information(mean, np.log(std), data.factors))
    gap = dict(zip(data.factors, found.tolist(), strict=True))
    return {
        "rate": float(np.mean(gaussian_kl(np, mean, np.log(std)))),
        "MIG": fmean(gap.values()),
        "MIG without shape": fmean(share for name, share in gap.items() if name != "shape"),
        "FactorVAE score": factor_vae_score(mean, data.factors),
        **gap,
    }


def floors(run: Finished, data: Dataset) -> dict[str, dict]:
    """What tells no factor apart: the run's network before training, and its encodings with each factor shuffled."""
    model, rng = load(run.out), np.random.default_rng(EVALUATION_SEED)
    shuffled = data._replace(factors={name: rng.permutation(v) for name, v in data.factors.items()})
    untrained, _ = start(run.args, model.backend, data, reader(model.backend, data.train, False))
    return {"untrained": figures_of(untrained, data), "factors shuffled": figures_of(model, shuffled)}


def study(folders: Sequence[Path], out: Path) -> str:
    """Two tables, mean ± standard error over seeds, and the pictures."""
    runs = finished_in(folders)
    data = open_data(runs[0].args)
    if data.factors is None:
        raise UsageError(f"the factors of --data {runs[0].args.data} are not known; name runs on sprites")
    found = {f"{run.out}": figures_of(load(run.out), data) for run in runs}
    rows, _ = rows_of(runs)
    groups = {row["name"]: [found[folder] for folder in row["runs"]] for row in rows}
    lowest = floors(max(runs, key=lambda run: run.summary["rate"]), data)
    draw(out / "disentanglement.png", [METHODS[row["method"]].title for row in rows], groups, lowest)
    best, median = best_and_median({folder: figures["MIG"] for folder, figures in found.items()}, rows)
    for name, folder in (("best", best), ("median", median)):
        model = load(folder)
        save(out / f"traversals-{name}.png", traversals(model, model.encode(data.test)[0]))
    groups |= {name: [figures] for name, figures in lowest.items()}
    return f"{tables(groups, [*data.factors])}\n\nbest: {best}, median of its setting: {median}"


def best_and_median(scores: dict[str, float], rows: list[dict]) -> tuple[str, str]:
    """The run of the highest score, and of the runs in its row that of the median score, the higher of two."""
    best = max(scores, key=scores.get)
    seeds = next(row["runs"] for row in rows if best in row["runs"])
    return best, sorted(seeds, key=scores.get)[len(seeds) // 2]


def tables(groups: dict[str, list[dict]], factors: list[str]) -> str:
    """A row a setting: its rate and the measures; and the gap of each factor."""

    def cells(runs: list[dict], name: str) -> str:
        return over_seeds([run[name] for run in runs], 3 if name.startswith("MIG") else 2)

    measures = ("rate", "MIG", "MIG without shape", "FactorVAE score")
    first, second = [["", "seeds", *measures]], [["gap", *factors]]
    for title, runs in groups.items():
        first.append([title, str(len(runs)), *(cells(runs, name) for name in measures)])
        second.append([title, *(cells(runs, v) for v in factors)])
    return f"{aligned(first)}\n\n{aligned(second)}"


def draw(path: Path, methods: list[str], groups: dict[str, list[dict]], lowest: dict[str, dict]) -> None:
    """Every run as a point: its MIG and its FactorVAE score against its rate, a mark a method, and the floors."""
    figure, panels = plot(12, 4.5, 2)
    for axes, measure in zip(panels, ("MIG", "FactorVAE score"), strict=True):
        for (title, runs), method in zip(groups.items(), methods, strict=True):
            mark = MARKERS[[*dict.fromkeys(methods)].index(method)]
            axes.plot([r["rate"] for r in runs], [r[measure] for r in runs], mark, label=title)
        for (name, floor), line in zip(lowest.items(), ("--", ":"), strict=True):
            axes.axhline(floor[measure], color="black", linestyle=line, linewidth=1, label=name)
        axes.set(xlabel="rate [nats]", ylabel=measure)
    panels[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save_plot(path, figure)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, study, draws=True))
