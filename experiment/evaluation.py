"""The figures of a trained model on the test set, the tables of them, and the warning that it deserves."""

import math
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
from tqdm import tqdm

import experiment
from data import Dataset
from experiment.choices import a_pixel, spread
from experiment.record import Run
from ref.more import metrics
from ref.train import NonFiniteError

EVALUATION_SEED = 20_181_001  # the same draws whatever the run, so that runs are compared on the same noise
WATCHED = 1000  # images that are watched while training; fewer where these would take more than 2 % of an epoch
# Options by which summary.json says which run it is.
IDENTITY = ("method", "likelihood", "variance", "beta", "kappa", "samples", "latent", "hidden", "lr", "batch_size")
COLUMNS = {  # of a table: key in summary.json, heading and decimals
    "rate": ("rate", 2),
    "slides_rate": ("slides", 2),
    "error": ("error", 3),
    "error_at_mean": ("error at the mean", 3),
    "slides_error": ("slides", 2),
    "rmse": ("RMSE", 3),
    "psnr": ("PSNR [dB]", 1),
    "marginal_kl": ("marginal KL", 2),
    "mutual_information": ("I(x;z)", 2),
    "elbo": ("ELBO", 2),
    "nll": ("NLL", 2),
    "nll_standard_error": ("± images", 2),
    "active_units": ("active", 0),
    "constraint": ("C", 3),
    "lambda": ("λ", 3),
    "seconds": ("seconds", 0),
}


def progress(what: str) -> Callable:
    """A bar on the terminal for an iterable, gone when it has ended."""
    return partial(tqdm, desc=what, unit="batch", disable=None, leave=False)


def summarize(model, data: Dataset, nll_samples: int) -> dict:
    """summary.json: which run it is, and its figures on the test set. `model` is a TrainedModel."""
    run, backend, last = model.run, model.backend, model.history[-1]
    bounded = run.objective.constraint and run.objective.constraint.bounded
    draws = metrics.Draws(nll_samples, run.samples, bounded, progress("evaluation"))
    what = (model.network, model.theta, model.readable(data.test), backend.noise(EVALUATION_SEED), draws)
    figures = metrics.evaluate(backend, *what)
    found, target = figures.pop("bounded"), run.target
    on_train = look(model, spread(data.train, WATCHED))["bounded"]
    figures["constraint"] = None if target is None else found - target
    figures["train_constraint"] = None if target is None or on_train is None else on_train - target
    if not all(math.isfinite(value) for value in figures.values() if value is not None):
        raise NonFiniteError("the figures on the test images are not finite")
    figures["rmse"], figures["psnr"] = a_pixel(figures["error"], run.images.pixels)
    options = run.typed
    identity = {"version": experiment.__version__, "data": data.name, **{name: options.get(name) for name in IDENTITY}}
    identity |= {"seed": run.seed, "epochs": last["epoch"], "steps": last["step"], "backend": backend.name}
    identity["nll_samples"] = nll_samples
    return identity | figures | {"lambda": last["lambda"], "seconds": sum(r["seconds"] for r in model.history)}


def watched(data: Dataset) -> np.ndarray:
    """The test images that are watched while training."""
    return spread(data.test, min(WATCHED, max(1, len(data.train) // 25)))


def look(model, images: np.ndarray) -> dict:
    """rate, error, elbo and what is bounded on these images, by the same draws each time; None if not finite."""
    run, backend = model.run, model.backend
    bounded = run.objective.constraint and run.objective.constraint.bounded
    what = (model.network, model.theta, model.readable(images), backend.noise(EVALUATION_SEED), run.samples, bounded)
    found = metrics.batch_means(backend, *what)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def warn(run: Run, summary: dict) -> str | None:
    """The sentence that a run with a constraint deserves if it ended off its target by more than a twentieth of it."""
    target, train, test = run.target, summary["train_constraint"], summary["constraint"]
    if target is None:
        return None
    found = f"at the end the squared error is {target + train:.4g} on training images and {target + test:.4g} on "
    found += f"test images, κ² = {target:.4g}, and λ = {summary['lambda']:.3g}"
    if train > 0.05 * target:
        enough = f"{math.sqrt(target + train) * 1.01:.3g}"
        return f"the constraint is not met: {found}; allow --kappa {enough}, or add --epochs"
    if test > 0.05 * target:
        return f"the constraint is met on training images alone: {found}; more images help, or --weight-decay"
    if train < -0.05 * target:
        kappa = run.options["kappa"]
        return f"the constraint does not bind: {found}; more --epochs or a κ below {kappa:g} would make it"
    return None


def figures_of(summaries: list[dict]) -> dict:
    """Mean and sample standard deviation (None of one value) of each column; None for one that they do not have."""
    found = {}
    for name in COLUMNS:
        values = [summary.get(name) for summary in summaries]
        std = statistics.stdev(values) if len(values) > 1 and None not in values else None
        found[name] = None if None in values else {"mean": statistics.fmean(values), "std": std}
    return found


def table(rows: dict[str, dict]) -> list[list[str]]:
    """Named rows of `figures_of` under a header, without columns that are empty; mean ± standard deviation."""

    def cell(figure: dict | None, decimals: int) -> str:
        if figure is None:
            return "–"
        if figure["std"] is None:
            return f"{figure['mean']:.{decimals}f}"
        return f"{figure['mean']:.{decimals or 1}f} ± {figure['std']:.{decimals or 1}f}"  # a mean of counts has one

    shown = {name: column for name, column in COLUMNS.items() if any(figures[name] for figures in rows.values())}
    lines = [[title, *(cell(figures[name], shown[name][1]) for name in shown)] for title, figures in rows.items()]
    return [["", *(heading for heading, _ in shown.values())], *lines]


def aligned(lines: list[list[str]]) -> str:
    """A table in Markdown, whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * (width - 1) + ":" for width in widths], *lines[1:]]
    return "\n".join(f"| {' | '.join(map(str.rjust, line, widths))} |" for line in ruled)


def listing(summary: dict) -> str:
    """The figures of one run, one below the other."""
    return aligned([*map(list, zip(*table({summary["method"]: figures_of([summary])}), strict=True))])
