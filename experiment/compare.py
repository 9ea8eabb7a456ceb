"""--method all: every method on the same images with the same network, budget and seeds, beside the slides' numbers."""

import argparse
import copy
import json
import math
import statistics
from pathlib import Path

import numpy as np

from data.files import reason, write_whole
from experiment import checkpoint, pictures
from experiment.files import FILES, existing_run, write_json
from experiment.jobs import RunFailed, run_side_by_side
from experiment.one import run_one
from experiment.options import METHOD_OPTIONS, MULTIPLIER_OPTIONS, UsageError, complete, stored, total_variance
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
    "mnist": {"kappa": (3.0, 5.0, 6.0), "beta": (0.25, 1.0, 2.0, 4.0)},
    "cifar10": {"kappa": (2.7, 4.5, 6.0), "beta": (0.02, 0.05, 0.1)},
    "sprites": {"kappa": (1.5, 3.0, 4.0), "beta": (0.1, 2.0, 4.0)},
}
OWN_SWEEP = {"kappa": (0.75, 1.25, 1.5), "beta": (0.015, 0.06, 0.24)}  # multiples of the default κ, and of its square

ELSEWHERE = ("out", "data_dir", "checkpoint_every")  # options that do not change what a run finds
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
    if args.jobs and backend.ranks.size > 1:
        raise UsageError(f"--jobs {args.jobs} is for one process, and mpiexec has started {backend.ranks.size}")
    members, swept = planned(args, data), planned_sweep(args, data)
    missing = [run for run in [*members, *swept] if not finished(run)]  # refusals come before any training
    backend.ranks.wait()
    jobs = min(args.jobs or backend.at_once, len(missing))
    try:
        if jobs > 1:
            run_side_by_side(missing, jobs)
        else:
            for run in missing:
                run_one(run, backend, data, command)
    except (KeyboardInterrupt, OSError, RunFailed) as error:
        error.then = ", then the same comparison again"
        raise
    if backend.ranks.rank:
        return ""
    result = {"command": ["run.py", *command], **gathered(members, swept, data)}
    dynamic, shown = members[0].binarize == "dynamic", members[: len(METHODS)]  # the first seed
    read, read_test = reader(backend, data.train, dynamic), reader(backend, data.test, dynamic)
    model, _ = build(shown[0], backend, data, read)  # its constants are those of every method with this seed
    variances, rest = linear.principal_variances(
        backend, read, len(data.train), model.center, backend.noise(args.seed)
    )
    result["linear_bound"] = bound(variances)
    write_json(args.out / "comparison.json", result)
    thetas = {METHODS[run.method].title: backend.asarray(theta_of(run.out)) for run in shown}
    pictures.draw_comparison(args.out, backend, model, thetas, read_test, len(data.test), data.shape)
    pictures.draw_rate_distortion(args.out / "rate_distortion.png", result)
    text, folders = markdown(result), {METHODS[run.method].title: run.out for run in shown}
    html = page(result, tables(result), notes(result), args.out, folders)
    for name, content in (("comparison.md", text), ("report.html", html)):
        write_whole(args.out / name, lambda file, content=content: file.write(content.encode()))
    return text


def planned(args: argparse.Namespace, data) -> list[argparse.Namespace]:
    """The complete options of every method's run, seed by seed."""
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    return [options_of(args, data, method, seed, args.out / f"{method}-{seed}") for seed in seeds for method in METHODS]


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
            out = args.out / "sweep" / f"{method}-{name}-{value}-{args.seed}"
            run = options_of(args, data, method, args.seed, out, **{name: value})
            if value != getattr(options_of(args, data, method, args.seed, out), name):
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


def options_of(args: argparse.Namespace, data, name: str, seed: int, out: Path, **changes) -> argparse.Namespace:
    """The complete options of one run; a method gets those options of its own that it takes."""
    run, method = copy.copy(args), METHODS[name]
    takes = {*method.options, *(MULTIPLIER_OPTIONS if method.constraint else ())}
    for option in {*METHOD_OPTIONS, *MULTIPLIER_OPTIONS} - takes:
        setattr(run, option.replace("-", "_"), None)
    if method.samples == 1:
        run.samples = None
    run.method, run.seed, run.out, run.seeds, run.sweep, run.jobs = name, seed, out, None, None, None
    vars(run).update(changes)
    return complete(run, data)


def finished(run: argparse.Namespace) -> bool:
    """Whether run.out holds this very run. Raises UsageError, but with --force, if anything else is there."""
    existing = existing_run(run.out, force=True)
    problem = existing and wrong(run, existing)
    if problem and not run.force:
        raise UsageError(f"{run.out} holds {problem}; choose another --out or add --force to make that run anew")
    return bool(existing) and not problem


def wrong(run: argparse.Namespace, existing: list[str]) -> str | None:
    """Why the files in run.out are not those of this run, or None."""
    if missing := [name for name in FILES if name not in existing]:
        half = f"a half-finished run, without {missing[0]}"
        resumable = "checkpoint.npz" in existing
        return f"{half}: end it with --resume {run.out} and compare again" if resumable else half
    try:
        config, summary = (json.loads((run.out / name).read_text()) for name in ("config.json", "summary.json"))
        problem = difference(dict(config["options"]), json.loads(json.dumps(stored(run))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"a config.json or summary.json that cannot be read ({reason(error)})"
    lacking = {*FIGURES, *OTHERS} - {*summary}
    return problem or (f"a run of another version, without {min(lacking)}" if lacking else None)


def difference(found: dict, asked: dict) -> str | None:
    """The first option in which a run differs from what is asked for now, or None."""
    for name in sorted({*found, *asked} - {*ELSEWHERE}):
        if found.get(name) != asked.get(name):
            option = name.replace("_", "-")
            return f"a run made with --{option} {found.get(name)}, and now --{option} {asked.get(name)} is asked for"
    return None


def theta_of(out: Path) -> np.ndarray:
    """θ of a finished run. Raises DataError for a checkpoint that is none."""
    return checkpoint.read(out / "checkpoint.npz")[0]["theta"]


def gathered(members: list[argparse.Namespace], swept: list[argparse.Namespace], data) -> dict:
    """What comparison.json says of the runs: figures by method over the seeds, and along the sweeps."""
    summaries = {run.out: json.loads((run.out / "summary.json").read_text()) for run in [*members, *swept]}
    by_method = {name: [summaries[run.out] for run in members if run.method == name] for name in METHODS}
    return {
        "data": data.name,
        "test_images": len(data.test),
        "seeds": sorted({run.seed for run in members}),
        "nll_samples": members[0].nll_samples,
        "mean_image": {"rate": 0.0, "distortion": total_variance(data.test, about=data.train)},
        "methods": {name: row(name, found, members[0].data) for name, found in by_method.items()},
        "sweeps": curves([*members, *swept], summaries) if swept else {},
    }


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


def bound(variances: list[float]) -> list[tuple[float, float]]:
    """(rate, distortion) along the Gaussian rate–distortion curve of the training images."""
    total = math.fsum(variances)
    distortions = [total * share for share in np.geomspace(1, 0.01, 100)]
    return [(linear.gaussian_rate_distortion(variances, float(d)), float(d)) for d in distortions]
