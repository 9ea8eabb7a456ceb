"""The figures of a trained model on the test set, the tables of them, and the warning that it deserves."""

import math
import statistics

import numpy as np

import experiment
from data import Dataset
from experiment import sources
from experiment.choices import a_pixel, fixed, spread, total_variance
from experiment.streams import progress
from ref.more import metrics
from ref.objectives import TRAVEL
from ref.train import NonFiniteError

EVALUATION_SEED = 20_181_001  # the same draws whatever the run, so that runs are compared on the same noise
# Images that are watched while training: WATCHED at most, fewer where these would take more than 2 % of an epoch.
WATCHED, FEW = 1000, 100
UNUSED = 0.1  # nats of a rate below which no latent is in use
# Options by which summary.json says which run it is.
IDENTITY = ("method", "likelihood", "variance", "beta", "kappa", "samples", "latent", "hidden", "lr", "batch_size")
FREE = ("error", "error_at_mean", "rmse", "constraint", "lambda")  # their scale is that of the images
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


def summarize(model, data: Dataset, nll_samples: int) -> dict:
    """summary.json: which run it is, and its figures on the test set. `model` is a TrainedModel."""
    run, backend, last = model.run, model.backend, model.history[-1]
    bounded = run.objective.constraint and run.objective.constraint.bounded
    draws = metrics.Draws(nll_samples, run.samples, bounded, progress("evaluation"))
    what = (
        model.network,
        model.theta,
        model.readable(sources.test_images(run, data)),
        backend.noise(EVALUATION_SEED),
        draws,
    )
    figures = metrics.evaluate(backend, *what)
    if figures["not_finite"] == len(data.test):
        raise NonFiniteError("the figures on the test images are not finite")
    found, target = figures.pop("bounded"), run.target
    on_train = look(model, spread(data.train, WATCHED))["bounded"]
    figures["constraint"] = None if target is None else found - target
    figures["train_constraint"] = None if target is None or on_train is None else on_train - target
    figures["rmse"], figures["psnr"] = a_pixel(figures["error"], run.images.pixels)
    options = run.typed
    identity = {"version": experiment.__version__, "data": data.name, **{name: options.get(name) for name in IDENTITY}}
    identity |= {"seed": run.seed, "epochs": last["epoch"], "steps": last["step"], "backend": backend.name}
    identity["nll_samples"] = nll_samples
    return identity | figures | {"lambda": last["lambda"], "seconds": sum(r["seconds"] for r in model.history)}


def watched(test: np.ndarray, train: int) -> np.ndarray:
    """The test images that are watched while training on so many: all of them where they are few."""
    return spread(test, min(WATCHED, max(FEW, train // 25)))


def look(model, images: np.ndarray) -> dict:
    """rate, error, elbo and what is bounded on these images, by the same draws each time; None if not finite."""
    run, backend = model.run, model.backend
    bounded = run.objective.constraint and run.objective.constraint.bounded
    what = (model.network, model.theta, model.readable(images), backend.noise(EVALUATION_SEED), run.samples, bounded)
    found = metrics.batch_means(backend, *what)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def warnings(model, data: Dataset, summary: dict) -> list[str]:
    """The sentences that a run deserves: a constraint that is off by more than a twentieth, latents without use."""
    run = model.run
    found = [off_target(model, data, summary)] if run.target is not None else []
    if not summary["active_units"] and summary["rate"] < UNUSED:  # of one test image no latent is active
        cure = "--kappa" if run.target else "--variance" if run.variance else "--beta of --method beta-vae"
        found.append(
            f"no latent is active: the model has learnt the mean image alone; a smaller {cure} would make it use them"
        )
    if summary["not_finite"]:
        found.append(
            f"{summary['not_finite']} test images have no finite score and are left out of the figures: "
            "they are far from all others, or the model has diverged"
        )
    return [sentence for sentence in found if sentence]


def off_target(model, data: Dataset, summary: dict) -> str | None:
    """What is to be said of a constraint that is not met, or does not bind, and what helps."""
    target, train, test = model.run.target, summary["train_constraint"], summary["constraint"]
    if train is None:
        return None
    found = f"at the end the squared error is {target + train:.4g} on training images and {target + test:.4g} on "
    found += f"test images, κ² = {target:.4g}, and λ = {summary['lambda']:.3g}"
    enough = f"{math.sqrt(target + train) * 1.01:.3g}"
    if train > 0.05 * target and model.run.multiplier == "relative" and at_guard(model.history):
        return f"the constraint is not met, and λ is at its guard: {found}; allow --kappa {enough}, or more --latent"
    if train > 0.05 * target:
        return f"the constraint is not met: {found}; allow --kappa {enough}, or add --epochs or --latent"
    if test > 0.05 * target:
        return f"the constraint is met on training images alone: {found}; more images help, or a smaller --hidden"
    if train < -0.05 * target and target >= (variance := total_variance(data.train)):
        return f"the constraint does not bind: κ² = {target:.4g} is above the variance of the images, {variance:.4g}"
    if train < -0.05 * target:
        return f"the constraint does not bind: {found}; more --epochs or a κ below {math.sqrt(target):g} would make it"
    return None


def at_guard(history: list[dict]) -> bool:
    """Whether λ has gone as far from its start as it may. Until the first report it moved by TRAVEL/steps a step."""
    first, last = history[0], history[-1]
    return math.log(last["lambda"] / first["lambda"]) >= TRAVEL * (1 - first["step"] / last["step"]) - 1e-6


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

    shown = {name: heading for name, (heading, _) in COLUMNS.items() if any(figures[name] for figures in rows.values())}
    lines = [[title, *(cell(name, figures[name]) for name in shown)] for title, figures in rows.items()]
    return [["", *shown.values()], *lines]


def cell(name: str, figure: dict | None) -> str:
    """A figure of that column: with its decimals, or with three digits where these would show none of small images."""
    if figure is None:
        return "–"
    mean, std = figure["mean"], figure["std"]
    decimals = COLUMNS[name][1] or int(std is not None)  # a mean of counts has one
    if name in FREE and mean and not 10**-decimals <= abs(mean) < 1e6:
        return f"{mean:.3g}" if std is None else f"{mean:.3g} ± {std:.2g}"
    return fixed(mean, decimals) if std is None else f"{fixed(mean, decimals)} ± {fixed(std, decimals)}"


def aligned(lines: list[list[str]]) -> str:
    """A table in Markdown, whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * (width - 1) + ":" for width in widths], *lines[1:]]
    return "\n".join(f"| {' | '.join(map(str.rjust, line, widths))} |" for line in ruled)


def upright(lines: list[list[str]]) -> list[list[str]]:
    """A table with its rows as columns."""
    return [*map(list, zip(*lines, strict=True))]


def listing(summary: dict) -> str:
    """The figures of one run, one below the other."""
    return aligned(upright(table({summary["method"]: figures_of([summary])})))
