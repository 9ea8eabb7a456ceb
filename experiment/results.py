"""The figures of a trained model on the test set, its table, and the warning that it deserves."""

import argparse
import math
from collections.abc import Callable

import numpy as np

from experiment.checkpoint import VERSION
from experiment.defaults import a_pixel, spread
from experiment.training import progress, reader
from ref import metrics, vae
from ref.information import mutual_information_gaps
from ref.objectives import METHODS, TRAVEL
from ref.train import NonFiniteError

EVALUATION_SEED = 20_181_001  # the same draws whatever the run, so that runs are compared on the same noise
WATCHED = 1000  # images that are watched while training; fewer where these would take more than 2 % of an epoch
# Options by which summary.json says which run it is.
IDENTITY = (
    "method",
    "likelihood",
    "variance",
    "beta",
    "kappa",
    "samples",
    "latent",
    "hidden",
    "lr",
    "batch_size",
    "seed",
)


def summarize(model, data, seconds: float, nll_samples: int) -> dict:
    """summary.json: which run it is, and its figures on the test set. `model` is a TrainedModel."""
    args, backend, method, last = model.args, model.backend, METHODS[model.args.method], model.history[-1]
    images = (reader(backend, model.pixels(data.test), False), len(data.test), backend.noise(EVALUATION_SEED))
    how = {"samples": args.samples, "constrained": method.constrained, "progress": progress("evaluation")}
    figures = metrics.evaluate(backend, model.network, model.theta, *images, nll_samples, **how)
    error, on_train = figures.pop("constrained"), watcher(model, spread(data.train, WATCHED))()["constrained"]
    constraint = {"constraint": error, "train_constraint": on_train}
    figures |= {name: found - args.kappa**2 if method.constrained else None for name, found in constraint.items()}
    figures |= gaps(model, data)
    if not all(math.isfinite(value) for value in figures.values() if value is not None):
        raise NonFiniteError("the figures on the test images are not finite")
    run = {"version": VERSION, "data": data.name, **{name: getattr(args, name) for name in IDENTITY}}
    run |= {"epochs": last["epoch"], "steps": last["step"], "backend": backend.name}
    return run | figures | {"nll_samples": nll_samples, "lambda": last["lambda"], "seconds": seconds}


def gaps(model, data) -> dict:
    """The mutual-information gap of each factor that all images were drawn from, and their mean; None without any."""
    backend, found = model.backend, {}
    if data.factors:
        images, noise = model.pixels(data.population), backend.noise(EVALUATION_SEED)
        factors = {name: backend.xp.asarray(values) for name, values in data.factors.items()}
        read = reader(backend, images, False)
        encoded = metrics.encodings(backend, model.network, model.theta, read, len(images), noise)
        found = mutual_information_gaps(backend, *encoded, factors, noise, progress=progress("factors"))
    return {"mig": sum(found.values()) / len(found) if found else None} | {f"mig_{k}": v for k, v in found.items()}


def watched(data) -> np.ndarray:
    """The test images that are watched while training."""
    return spread(data.test, min(WATCHED, max(1, len(data.train) // 25)))


def watcher(model, images: np.ndarray) -> Callable[[], dict]:
    """look(): rate, distortion and ELBO on these images, by the same draws each time, and the constrained error."""
    backend, method, samples = model.backend, METHODS[model.args.method], model.args.samples
    xp, count, read = backend.xp, len(images), reader(backend, model.pixels(images), False)
    at_once = max(1, metrics.DECODED // samples)

    def look() -> dict:
        noise, sums = backend.noise(EVALUATION_SEED), 0.0
        for start in range(0, count, at_once):
            x = read(xp.arange(start, min(start + at_once, count)), noise)
            eps = backend.normal(noise, (samples, len(x), model.network.latents))
            terms, _ = vae.forward(xp, model.network, model.params, x, eps)
            error = method.constrained(xp, terms) if method.constrained else terms.err
            parts = xp.stack([xp.mean(a) for a in (terms.kl, terms.err, terms.log_px, error)])
            sums += backend.to_host(parts) * (len(x) / count)
        rate, distortion, log_px, error = (float(value) if math.isfinite(value) else None for value in sums)
        elbo = None if None in (rate, log_px) else log_px - rate
        return {"test_rate": rate, "test_distortion": distortion, "test_elbo": elbo, "constrained": error}

    return look


def best_epoch(args: argparse.Namespace, rows: list[dict]) -> str | None:
    """One sentence: the epoch after which the objective was best on the watched test images.

    With a constraint the objective is rate + λ·error at the last λ, else the ELBO with its rate weighed by β.
    """
    rows = [row for row in rows if None not in (row["test_rate"], row["test_elbo"])]
    if not rows:
        return None
    lam, weight = rows[-1]["lambda"], args.beta or 1.0

    def loss(row: dict) -> float:
        if lam is not None:
            return row["test_rate"] + lam * row["test_distortion"]
        return (weight - 1) * row["test_rate"] - row["test_elbo"]

    best = min(rows, key=loss)
    found = f"rate {best['test_rate']:.2f}, squared error {best['test_distortion']:.3f}"
    return f"watched test images were best after epoch {best['epoch']} of {args.epochs}: {found}"


def warn(args: argparse.Namespace, summary: dict, at_limit: bool) -> str | None:
    """The sentence that a run deserves if it ended off κ² by more than a twentieth of it."""
    tolerance, train, test = args.kappa**2, summary["train_constraint"], summary["constraint"]
    found = f"at the end the squared error is {tolerance + train:.4g} on training images and {tolerance + test:.4g} on "
    found += f"test images, and κ² = {tolerance:.4g}"
    limit = f"; λ, now {summary['lambda']:.3g}, went as far as it may" if at_limit else ""
    if train > 0.05 * tolerance:
        enough = f"{math.sqrt(tolerance + train) * 1.01:.3g}"
        return f"the constraint is not met: {found}{limit}; allow --kappa {enough}, or add --epochs"
    if test > 0.05 * tolerance:
        return f"the constraint is met on training images alone: {found}; more images or a smaller --hidden help"
    if train < -0.05 * tolerance:
        return f"the constraint does not bind: {found}{limit}; more --epochs or a κ below {args.kappa:g} would make it"
    return None


def at_limit(args: argparse.Namespace, state: dict) -> bool:
    """Whether the relative rule has moved λ to its guard."""
    if "log_lambda" not in state or args.multiplier == "plain":
        return False
    return abs(float(state["log_lambda"] - state["log_lambda_start"])) > 0.99 * TRAVEL


def table(summary: dict, pixels: int) -> str:
    """The summary as one row under its header."""
    rmse, psnr = a_pixel(summary["distortion"], pixels)
    cells = {
        "method": summary["method"],
        "rate": f"{summary['rate']:.2f}",
        "distortion": f"{summary['distortion']:.3f}",
        "at the mean": f"{summary['distortion_at_mean']:.3f}",
        "RMSE": f"{rmse:.3f}",
        "PSNR": f"{psnr:.1f} dB",
        "ELBO": f"{summary['elbo']:.2f}",
        f"NLL (K = {summary['nll_samples']})": f"{summary['nll']:.2f} ± {summary['nll_standard_error']:.2f}",
        "active": str(summary["active_units"]),
    }
    if summary["lambda"] is not None:
        cells |= {"C": f"{summary['constraint']:+.3f}", "λ": f"{summary['lambda']:.3g}"}
    cells["seconds"] = f"{summary['seconds']:.1f}"
    columns = [(name.rjust(len(cell)), cell.rjust(len(name))) for name, cell in cells.items()]
    return "\n".join(map("  ".join, zip(*columns, strict=True)))
