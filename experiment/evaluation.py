"""The figures of a trained model on the test set, tables of them, and warnings."""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from data import Dataset
from experiment import sources
from experiment.record import VERSION, Run, flag
from experiment.sources import a_pixel, spread
from experiment.terminal import progress
from ref.more import metrics
from ref.objectives import TRAVEL
from ref.train import NonFiniteError

EVALUATION_SEED = 20_181_001  # runs are compared on the same noise
# Images that are watched while training, at most; and at least, unless there are fewer.
WATCHED, FEW = 1000, 100
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
    "calibrated_elbo": ("ELBO at σ*²", 1),
    "calibrated_nll": ("NLL at σ*²", 1),
    "active_units": ("active", 0),
    "constraint": ("C", 3),
    "lambda": ("λ", 3),
    "seconds": ("seconds", 0),
}


def summarize(model, data: Dataset, nll_samples: int) -> dict:
    """summary.json: which run it is, and its figures on the test set. `model` is a TrainedModel."""
    run, last, target = model.run, model.history[-1], model.run.target
    constraint, variance, pixels = run.objective.constraint, model.calibrated_variance, run.images.pixels
    bounded = constraint and constraint.bounded
    draws = metrics.Draws(nll_samples, run.samples, bounded, variance, progress("evaluation"))
    figures = metrics.evaluate(*inputs(model, sources.test_images(run, data)), draws)
    if figures["not_finite"] == len(data.test):
        raise NonFiniteError("the figures on the test images are not finite")
    on_train = look(model, spread(data.train, WATCHED))["bounded"]
    for name, found in (("constraint", figures.pop("bounded")), ("train_constraint", on_train)):
        figures[name] = None if target is None or found is None else found - target
    figures["rmse"], figures["psnr"] = a_pixel(figures["error"], pixels)
    elbo = variance and metrics.calibrated_elbo(figures["rate"], figures["error"], variance, pixels)
    figures |= {"calibrated_variance": variance, "calibrated_elbo": elbo}
    identity = {"version": VERSION, "data": data.name}
    identity |= {name: run.typed.get(name) for name in IDENTITY}
    identity |= {"seed": run.seed, "epochs": last["epoch"], "steps": last["step"], "backend": model.backend.name}
    identity |= {"nll_samples": nll_samples, "options": run.options, "target": target}
    return identity | figures | {"lambda": last["lambda"], "seconds": sum(r["seconds"] for r in model.history)}


def inputs(model, images: np.ndarray) -> tuple:
    """What ref.more.metrics takes first: the model, these images, and the same noise."""
    noise = model.backend.noise(EVALUATION_SEED)
    return model.backend, model.network, model.theta, model.readable(images), noise


def watched(test: np.ndarray, train: int) -> np.ndarray:
    """The test images that are watched while training on so many: all of them where they are few."""
    return spread(test, min(WATCHED, max(FEW, train // 25)))


def look(model, images: np.ndarray) -> dict:
    """rate, error, elbo and what is bounded, by the same draws each time; None if not finite."""
    run, constraint = model.run, model.run.objective.constraint
    found = metrics.batch_means(*inputs(model, images), run.samples, constraint and constraint.bounded)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def warnings(model, data: Dataset, summary: dict) -> list[str]:
    """Sentences on a constraint that is off by more than a twentieth, and on unused latents."""
    run, found, lost = model.run, [], summary["not_finite"]
    if summary["train_constraint"] is not None:
        found = off_target(model, data, summary)
    if not summary["active_units"] and len(data.test) > 1:  # with a single image no latent varies
        learnt = "no latent is active: the model has learnt little but the mean image"
        found.append(f"{learnt}; {more_rate(run)} would make it use them")
    if lost:
        why = "they are far from all others, or the model has diverged"
        found.append(f"{lost} test images have no finite score and are left out of the figures: {why}")
    return found


def more_rate(run: Run) -> str:
    """The change of an option by which a run would come to a higher rate."""
    constraint = run.objective.constraint
    if constraint:
        larger = "larger" if constraint.weighs == "rate" else "smaller"
        return f"a {larger} {flag(constraint.name)}" if constraint.name else "more --epochs"
    return f"a smaller {'--variance' if run.variance else '--beta of --method beta-vae'}"


def off_target(model, data: Dataset, summary: dict) -> list[str]:
    """What is to be said of a constraint that is not met, or does not bind, and what helps."""
    run, constraint, target = model.run, model.run.objective.constraint, model.run.target
    train, tested, of_rate = summary["train_constraint"], summary["constraint"], constraint.weighs == "rate"
    option, power, slack = flag(constraint.name), constraint.power, 0.05 * target
    allowed = f"{constraint.option.symbol}{'²' * (power == 2)} = {target:.4g}"
    at_the_end = f"at the end the {constraint.bounds} is {target + train:.4g} on training images and "
    at_the_end += f"{target + tested:.4g} on test images, {allowed}, and λ = {summary['lambda']:.3g}"
    stuck = run.multiplier == "relative" and at_guard(model.history)
    guard = ", and λ is at its guard" * stuck
    if train > slack:
        cure = "add --epochs" if of_rate else "more --latent" if stuck else "add --epochs or --latent"
        enough = f"{(target + train) ** (1 / power) * 1.01:.3g}"
        return [f"the constraint is not met{guard}: {at_the_end}; allow {option} {enough}, or {cure}"]
    if tested > slack:
        advice = "more images help, or a smaller --hidden"
        return [f"the constraint is met on training images alone: {at_the_end}; {advice}"]
    if train >= -slack:
        return []
    if not of_rate:
        variance = sources.total_variance(sources.drawn_once(data.train, run.images.binarize))
        if target >= variance:
            return [f"the constraint does not bind: {allowed} is above the variance of the images, {variance:.4g}"]
    cure = "more --latent" if of_rate and stuck else "more --epochs"
    advice = f"{cure} or a {option} below {target ** (1 / power):g} would make it"
    return [f"the constraint does not bind{guard * of_rate}: {at_the_end}; {advice}"]


def at_guard(history: list[dict]) -> bool:
    """Whether λ has gone as far as it may, up or down. Before the first report it moved by TRAVEL/steps a step."""
    first, last = history[0], history[-1]
    return abs(math.log(last["lambda"] / first["lambda"])) >= TRAVEL * (1 - first["step"] / last["step"]) - 1e-6


def figures_of(summaries: list[dict]) -> dict:
    """Mean and sample standard deviation (None of a single value) of each column, or None."""
    found = {}
    for name in COLUMNS:
        values = [summary.get(name) for summary in summaries]
        std = statistics.stdev(values) if len(values) > 1 and None not in values else None
        found[name] = None if None in values else {"mean": statistics.fmean(values), "std": std}
    return found


def table(rows: dict[str, dict]) -> list[list[str]]:
    """Named rows of `figures_of` under a header, without columns that are empty."""
    shown = [name for name in COLUMNS if any(figures[name] for figures in rows.values())]
    lines = [[title, *(cell(name, figures[name]) for name in shown)] for title, figures in rows.items()]
    return [["", *(COLUMNS[name][0] for name in shown)], *lines]


def cell(name: str, figure: dict | None) -> str:
    """Mean ± standard deviation with the decimals of a column, or with three digits."""
    if figure is None:
        return "–"
    mean, std = figure["mean"], figure["std"]
    decimals = COLUMNS[name][1] or int(std is not None)  # a mean of counts has one decimal
    if name in FREE and mean and not 10**-decimals <= abs(mean) < 1e6:
        return f"{mean:.3g}" if std is None else f"{mean:.3g} ± {std:.2g}"
    return fixed(mean, decimals) if std is None else f"{fixed(mean, decimals)} ± {fixed(std, decimals)}"


def fixed(number: float, decimals: int) -> str:
    """The number with so many decimals, and never a zero with a sign."""
    return f"{round(number, decimals) + 0.0:.{decimals}f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, whose columns are as wide as their widest cell."""
    widths = [max(2, *map(len, column)) for column in zip(*lines, strict=True)]  # Markdown's rule has two letters
    ruled = [lines[0], ["-" * (width - 1) + ":" for width in widths], *lines[1:]]
    return "\n".join(f"| {' | '.join(map(str.rjust, line, widths))} |" for line in ruled)


def listing(summary: dict) -> str:
    """The figures of one run, one below the other."""
    return aligned([*zip(*table({summary["method"]: figures_of([summary])}), strict=True)])
