"""The figures of a trained model on the test set, the table of them, and the warning that it deserves."""

import argparse
import math
import statistics
from collections.abc import Callable

import numpy as np

from experiment.checkpoint import VERSION
from experiment.defaults import a_pixel, spread
from experiment.training import progress
from ref import metrics, vae
from ref.objectives import METHODS
from ref.train import NonFiniteError

EVALUATION_SEED = 20_181_001  # the same draws whatever the run, so that runs are compared on the same noise
WATCHED = 1000  # images that are watched while training; fewer where these would take more than 2 % of an epoch
# Options by which summary.json says which run it is.
IDENTITY = ("method", "likelihood", "variance", "beta", "kappa", "samples", "latent", "hidden", "lr", "batch_size")
COLUMNS = {  # of a table: key in summary.json, heading and decimals
    "rate": ("rate", 2),
    "slides_rate": ("slides", 2),
    "distortion": ("error", 3),
    "distortion_at_mean": ("error at the mean", 3),
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


def summarize(model, data, nll_samples: int) -> dict:
    """summary.json: which run it is, and its figures on the test set. `model` is a TrainedModel."""
    args, backend, method, last = model.args, model.backend, METHODS[model.args.method], model.history[-1]
    what = (model.network, model.theta, *model.readable(data.test), backend.noise(EVALUATION_SEED), nll_samples)
    how = {"samples": args.samples, "constrained": method.constrained, "progress": progress("evaluation")}
    figures = metrics.evaluate(backend, *what, **how)
    error, on_train = figures.pop("constrained"), watcher(model, spread(data.train, WATCHED))()["constrained"]
    constraint = {"constraint": error, "train_constraint": on_train}
    figures |= {name: found - args.kappa**2 if method.constrained else None for name, found in constraint.items()}
    if not all(math.isfinite(value) for value in figures.values() if value is not None):
        raise NonFiniteError("the figures on the test images are not finite")
    figures["rmse"], figures["psnr"] = a_pixel(figures["distortion"], math.prod(model.shape))
    run = {"version": VERSION, "data": data.name, **{name: getattr(args, name) for name in (*IDENTITY, "seed")}}
    run |= {"epochs": last["epoch"], "steps": last["step"], "backend": backend.name, "nll_samples": nll_samples}
    return run | figures | {"lambda": last["lambda"], "seconds": sum(report["seconds"] for report in model.history)}


def watched(data) -> np.ndarray:
    """The test images that are watched while training."""
    return spread(data.test, min(WATCHED, max(1, len(data.train) // 25)))


def watcher(model, images: np.ndarray) -> Callable[[], dict]:
    """look(): rate, distortion and ELBO on these images, by the same draws each time, and the constrained error."""
    backend, method, samples, xp = model.backend, METHODS[model.args.method], model.args.samples, model.backend.xp
    (read, count), at_once = model.readable(images), max(1, metrics.DECODED // samples)

    def look() -> dict:
        noise, sums = backend.noise(EVALUATION_SEED), 0.0
        for start in range(0, count, at_once):
            x = read(xp.arange(start, min(start + at_once, count)), noise)
            eps = backend.normal(noise, (samples, len(x), model.network.latents))
            terms, _ = vae.forward(xp, model.network, model.params, x, eps)
            error = method.constrained(xp, terms) if method.constrained else terms.err
            parts = xp.stack([xp.mean(a) for a in (terms.kl, terms.err, terms.log_px - terms.kl, error)])
            sums += backend.to_host(parts) * (len(x) / count)
        names = ("test_rate", "test_distortion", "test_elbo", "constrained")
        return {name: value if math.isfinite(value) else None for name, value in zip(names, sums.tolist(), strict=True)}

    return look


def warn(args: argparse.Namespace, summary: dict) -> str | None:
    """The sentence that a run with a constraint deserves if it ended off κ² by more than a twentieth of it."""
    if summary["constraint"] is None:
        return None
    tolerance, train, test = args.kappa**2, summary["train_constraint"], summary["constraint"]
    found = f"at the end the squared error is {tolerance + train:.4g} on training images and {tolerance + test:.4g} on "
    found += f"test images, κ² = {tolerance:.4g}, and λ = {summary['lambda']:.3g}"
    if train > 0.05 * tolerance:
        enough = f"{math.sqrt(tolerance + train) * 1.01:.3g}"
        return f"the constraint is not met: {found}; allow --kappa {enough}, or add --epochs"
    if test > 0.05 * tolerance:
        return f"the constraint is met on training images alone: {found}; more images help, or --weight-decay"
    if train < -0.05 * tolerance:
        return f"the constraint does not bind: {found}; more --epochs or a κ below {args.kappa:g} would make it"
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
