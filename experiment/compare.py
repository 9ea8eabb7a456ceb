"""--method all: every method on the same images with the same network, budget and seeds, beside the slides' numbers."""

import argparse
import copy
import json
import math
import statistics
from pathlib import Path

import numpy as np

from data.dataset import white
from data.files import write_whole
from experiment import pictures
from experiment.files import existing_run, write_json
from experiment.one import recorded, run_one
from experiment.options import METHOD_OPTIONS, MULTIPLIER_OPTIONS, UsageError, complete
from experiment.page import page
from experiment.tables import FIGURES, OTHERS, markdown, notes, tables
from experiment.training import build, reader
from ref import linear
from ref.objectives import METHODS

# Kuzina, Prokopenko & Shumovskaia 2018: their "Marginal KL" and "Reconstruction loss".
SLIDES = {
    "mnist": {"vae": (1.5813, 55.8484), "beta-vae": (10.5938, 15.1434), "geco": (10.4975, 14.6269)}
    | {"geco-iwae": (1.3640, 12.9214)},
    "cifar10": {"vae": (31.9662, 77.6570), "beta-vae": (59.4998, 57.9653), "geco": (383.0849, 11.4413)},
}
# What --sweep trains without values: other errors to either side of the default κ², and the β that reach as far.
SWEEPS = {
    "digits": {"kappa": (1.0, 1.4, 1.7), "beta": (0.1, 0.2, 0.9)},
    "mnist": {"kappa": (3.0, 5.0, 6.0), "beta": (0.25, 2.0, 4.0)},
    "cifar10": {"kappa": (2.7, 4.5, 6.0), "beta": (0.02, 0.05, 0.1)},
    "sprites": {"kappa": (1.5, 3.0, 4.0), "beta": (0.1, 2.0, 4.0)},
}
OWN_SWEEP = {"kappa": (0.75, 1.25, 1.5), "beta": (0.015, 0.06, 0.24)}  # multiples of the default κ, and of its square

ELSEWHERE = ("out", "force", "data_dir")  # options that do not change what a run finds
COMPARISON_FILES = (
    "report.html",
    "comparison.md",
    "comparison.json",
    "reconstructions.png",
    "generations.png",
    "rate_distortion.png",
)


def compare(args: argparse.Namespace, backend, data, command: list[str]) -> str:
    """Makes the runs that args.out does not hold yet, then tables, pictures and report.html. Returns the tables."""
    if (args.out / "config.json").exists():
        raise UsageError(f"--out {args.out} holds a single run; choose another folder for the comparison")
    members, swept = planned(args, data), planned_sweep(args, data)
    missing = [run for run in [*members, *swept] if not finished(run)]  # refusals come before any training
    for run in missing:
        run_one(run, backend, data, command)
    summaries = {run.out: json.loads((run.out / "summary.json").read_text()) for run in [*members, *swept]}

    read = reader(backend, data.train, members[0].binarize == "dynamic")
    center = backend.asarray(data.train.mean(axis=0, dtype=np.float64) / white(data.train))
    variances = linear.principal_variances(backend, read, len(data.train), center, backend.noise(args.seed))
    result = {
        "command": ["run.py", *command],
        "data": data.name,
        "test_images": len(data.test),
        "seeds": sorted({run.seed for run in members}),
        "nll_samples": members[0].nll_samples,
        "mean_image": {"rate": 0.0, "distortion": mean_image_error(data)},
        "methods": {m: row(m, [summaries[r.out] for r in members if r.method == m], args.data) for m in METHODS},
        "sweeps": curves([*members, *swept], summaries) if swept else {},
        "linear_bound": bound(variances),
    }
    write_json(args.out / "comparison.json", result)
    text = markdown(result)
    write_whole(args.out / "comparison.md", lambda file: file.write(text.encode()))
    shown = members[: len(METHODS)]  # the first seed
    model, _ = build(shown[0], backend, data, read)  # its constants are those of every method with this seed
    thetas = {METHODS[run.method].title: backend.asarray(theta_of(run.out)) for run in shown}
    read_test = reader(backend, data.test, members[0].binarize == "dynamic")
    pictures.draw_comparison(args.out, backend, model, thetas, read_test, len(data.test), data.shape)
    pictures.draw_rate_distortion(args.out / "rate_distortion.png", result)
    html = page(result, tables(result), notes(result), args.out, {METHODS[r.method].title: r.out for r in shown})
    write_whole(args.out / "report.html", lambda file: file.write(html.encode()))
    return text


def planned(args: argparse.Namespace, data) -> list[argparse.Namespace]:
    """The complete options of every method's run, seed by seed."""
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    return [one(args, data, method, seed, args.out / f"{method}-{seed}") for seed in seeds for method in METHODS]


def planned_sweep(args: argparse.Namespace, data) -> list[argparse.Namespace]:
    """The complete options of the runs of --sweep: of each option, by the first method that takes it."""
    if args.sweep is None:
        return []
    if len({name for name, _ in args.sweep}) < len(args.sweep):
        raise UsageError("--sweep names an option twice; give one list for each, as in kappa=3,5,6 beta=0.25,1")
    runs = []
    for name, values in dict(args.sweep or default_sweep(args, data)).items():
        method = first_with(name)
        for value in values:
            out = args.out / "sweep" / f"{method}-{name}-{value:g}-{args.seed}"
            run = one(args, data, method, args.seed, out, **{name: value})
            if value != getattr(one(args, data, method, args.seed, out), name):
                runs.append(run)
    return runs


def first_with(option: str) -> str:
    """The first method that takes the option: β-VAE for beta, GECO for kappa."""
    return next(method for method in METHODS if option in METHODS[method].options)


def default_sweep(args: argparse.Namespace, data) -> dict[str, tuple[float, ...]]:
    """SWEEPS of this data set; of the user's own images by their default κ."""
    if args.data in SWEEPS:
        return SWEEPS[args.data]
    kappa = next(run.kappa for run in planned(args, data) if run.kappa is not None)
    scale = {"kappa": kappa, "beta": kappa**2}
    return {name: tuple(float(f"{f * scale[name]:.3g}") for f in values) for name, values in OWN_SWEEP.items()}


def one(args: argparse.Namespace, data, name: str, seed: int, out: Path, **changes) -> argparse.Namespace:
    """The complete options of one run; a method gets those options of its own that it takes."""
    run, method = copy.copy(args), METHODS[name]
    takes = {*method.options, *(MULTIPLIER_OPTIONS if method.constraint else ())}
    for option in {*METHOD_OPTIONS, *MULTIPLIER_OPTIONS} - takes:
        setattr(run, option.replace("-", "_"), None)
    if method.samples == 1:
        run.samples = None
    run.method, run.seed, run.out, run.seeds, run.sweep = name, seed, out, None, None
    vars(run).update(changes)
    return complete(run, data)


def finished(run: argparse.Namespace) -> bool:
    """Whether run.out holds this very run. Raises UsageError, but with --force, if another or half a one is there."""
    try:
        config = dict(json.loads((run.out / "config.json").read_text())["options"])
    except FileNotFoundError:
        existing_run(run.out, run.force)
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        config, problem = None, f"a config.json that cannot be read ({error})"
    else:
        problem = difference(config, recorded(run))
    if problem is None and (run.out / "summary.json").exists():
        return True
    if not run.force:
        problem = problem or "a half-finished run"
        raise UsageError(f"{run.out} holds {problem}; choose another --out or add --force to make it anew")
    return False


def difference(found: dict, asked: dict) -> str | None:
    """The first option in which a run differs from what is asked for now, or None."""
    for name in sorted({*found, *asked} - {*ELSEWHERE}):
        if found.get(name) != asked.get(name):
            option = name.replace("_", "-")
            return f"a run made with --{option} {found.get(name)}, and now --{option} {asked.get(name)} is asked for"
    return None


def theta_of(out: Path) -> np.ndarray:
    """θ of a finished run."""
    with np.load(out / "checkpoint.npz", allow_pickle=False) as checkpoint:
        return checkpoint["theta"]


def row(method: str, summaries: list[dict], data: str) -> dict:
    """A method's figures over the seeds, and the slides' two numbers."""
    return {"title": METHODS[method].title, "figures": figures(summaries), "slides": SLIDES.get(data, {}).get(method)}


def figures(summaries: list[dict]) -> dict:
    """Every figure over the runs."""
    return {name: spread([summary[name] for summary in summaries]) for name in (*FIGURES, *OTHERS)}


def spread(values: list) -> dict | None:
    """Mean and sample standard deviation (None of one value); None for a figure that a method does not have."""
    if None in values:
        return None
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def curves(runs: list[argparse.Namespace], summaries: dict) -> dict:
    """By option: its method and the figures over its sweep, the default's own run among them, by value."""
    result = {}
    for name in METHOD_OPTIONS:
        method = first_with(name)
        chosen = {getattr(r, name): summaries[r.out] for r in runs if r.method == method and r.seed == runs[0].seed}
        points = [{"value": value, "figures": figures([chosen[value]])} for value in sorted(chosen)]
        if len(points) > 1:
            result[name] = {"title": METHODS[method].title, "points": points}
    return result


def mean_image_error(data) -> float:
    """Squared error of the test images about the mean of the training images."""
    mean, blocks = data.train.mean(axis=0, dtype=np.float64), range(0, len(data.test), 250)
    total = sum(float(np.sum((data.test[i : i + 250] - mean) ** 2)) for i in blocks)
    return total / len(data.test) / white(data.train) ** 2


def bound(variances: list[float]) -> list[tuple[float, float]]:
    """(rate, distortion) along the Gaussian rate–distortion curve of the training images."""
    total = math.fsum(variances)
    distortions = [total * share for share in np.geomspace(1, 0.01, 100)]
    return [(linear.gaussian_rate_distortion(variances, float(d)), float(d)) for d in distortions]
