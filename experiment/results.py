"""The figures of a run on the test set, its table, and the warning that it deserves."""

import argparse
import math

from tqdm import tqdm

from experiment.training import reader
from ref.information import mutual_information_gaps
from ref.metrics import encodings, evaluate
from ref.objectives import METHODS, TRAVEL
from ref.train import NonFiniteError

EVALUATION_SEED = 20_181_001  # the same draws whatever the run, so that runs are compared on the same noise


def summarize(args, data, backend, model, state: dict, read, rows: list[dict]) -> dict:
    """summary.json: the figures on the test set."""
    method, options = METHODS[args.method], {name: getattr(args, name) for name in METHODS[args.method].options}
    figures = evaluate(
        backend,
        model,
        state["theta"],
        read,
        len(data.test),
        backend.noise(EVALUATION_SEED),
        args.nll_samples,
        constrained=method.constrained,
        samples=args.samples,
        progress=lambda batches: tqdm(batches, desc="evaluation", unit="batch", disable=None, leave=False),
    )
    constrained = figures.pop("constrained")
    figures["constraint"] = None if constrained is None else constrained - args.kappa**2
    gaps = {}
    if data.factors:
        noise, factors = backend.noise(EVALUATION_SEED), {k: backend.xp.asarray(v) for k, v in data.factors.items()}
        read_all = reader(backend, data.population, args.binarize == "dynamic")
        encoded = encodings(backend, model, state["theta"], read_all, len(data.train) + len(data.test), noise)
        gaps = mutual_information_gaps(backend, *encoded, factors, noise)
    figures |= {"mig": sum(gaps.values()) / len(gaps) if gaps else None, **{f"mig_{k}": v for k, v in gaps.items()}}
    if not all(math.isfinite(value) for value in figures.values() if value is not None):
        raise NonFiniteError("the figures on the test images are not finite")
    last = rows[-1]
    return {
        "method": args.method,
        "data": data.name,
        "backend": backend.name,
        "seed": args.seed,
        "epochs": args.epochs,
        "steps": last["step"],
        **figures,
        "nll_samples": args.nll_samples,
        "lambda": last["lambda"],
        "constraint_ma": last["constraint_ma"],
        "kappa": options.get("kappa"),
        "seconds": sum(row["seconds"] for row in rows),
    }


def warn(args: argparse.Namespace, summary: dict, rows: list[dict]) -> str | None:
    """The sentence that a run deserves if it ended off κ² by more than a twentieth of it, on either side."""
    excess, tolerance = summary["constraint_ma"], args.kappa**2
    limit = f"; λ, now {summary['lambda']:.3g}, moved as fast as it may all along" if at_limit(args, rows) else ""
    if excess > 0.05 * tolerance:
        best = min(tolerance + excess, *(row["distortion"] for row in rows))
        return (
            f"the constraint is not met: squared error {tolerance + excess:.4g} at the end of training, "
            f"κ² = {tolerance:.4g}, too much by {excess:.4g}; the best so far was {best:.4g}{limit}; "
            f"allow --kappa {math.sqrt(best) * 1.01:.3g}, or give the run more --epochs, --latent or --hidden"
        )
    if excess < -0.05 * tolerance:
        found = f"squared error {tolerance + excess:.4g} at the end of training, κ² = {tolerance:.4g}"
        return f"the constraint does not bind: {found}{limit}; lower --kappa {args.kappa:g} or add --epochs"
    return None


def at_limit(args: argparse.Namespace, rows: list[dict]) -> bool:
    """Whether the relative rule moved λ by as much as it ever does, from the first epoch's end to the last's."""
    share = (len(rows) - 1) / args.epochs
    moved = abs(math.log(rows[-1]["lambda"] / rows[0]["lambda"]))
    return args.multiplier != "plain" and share > 0 and moved > 0.99 * share * TRAVEL


def table(summary: dict, pixels: int) -> str:
    """The summary as one row under its header."""
    cells = {
        "method": summary["method"],
        "rate": f"{summary['rate']:.2f}",
        "distortion": f"{summary['distortion']:.3f}",
        "at the mean": f"{summary['distortion_at_mean']:.3f}",
        "RMSE": f"{math.sqrt(summary['distortion'] / pixels):.3f}",
        "PSNR": f"{10 * math.log10(pixels / summary['distortion']):.1f} dB",
        "ELBO": f"{summary['elbo']:.2f}",
        f"NLL (K = {summary['nll_samples']})": f"{summary['nll']:.2f} ± {summary['nll_standard_error']:.2f}",
        "active": str(summary["active_units"]),
    }
    if summary["lambda"] is not None:
        cells |= {"C": f"{summary['constraint']:+.3f}", "λ": f"{summary['lambda']:.3g}"}
    cells["seconds"] = f"{summary['seconds']:.1f}"
    widths = [max(len(name), len(cell)) for name, cell in cells.items()]
    return "\n".join(
        "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)) for line in (cells, cells.values())
    )
