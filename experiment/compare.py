"""Finished runs on the same images beside one another: `--compare` reads them, `--method all` makes them first."""

import argparse
import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import DataError, Dataset
from data.files import reason, write_whole
from experiment import options, pictures
from experiment.defaults import METHOD_OPTIONS, UsageError, complete, flag, options_not_taken, said, total_variance
from experiment.files import existing_run, write_json
from experiment.jobs import run_side_by_side
from experiment.model import load
from experiment.one import fingerprint, open_data
from experiment.report import COMPARED, SLIDES, lines_of, page
from experiment.results import aligned, figures_of
from experiment.signals import interruptible
from experiment.training import mean_image, progress, reader
from ref import linear
from ref.objectives import METHODS

ELSEWHERE = (*options.OF_A_COMMAND, "out", "data_dir", "checkpoint_every", "seeds")  # these change no figure
HIDDEN = (*ELSEWHERE, "method", "seed", "data", "size", "preset")  # told otherwise than as an option
OF_METHODS = (*METHOD_OPTIONS, "samples")
COMPARISON_FILES = ("report.html", "comparison.json", *COMPARED)


class Finished(NamedTuple):
    """A finished run, as its folder tells."""

    out: Path
    args: argparse.Namespace  # its complete options
    config: dict
    summary: dict


def compare_folders(args: argparse.Namespace, given: dict, command: list[str]) -> str:
    """--compare: the finished runs in these folders, on the images that they name. Returns the table."""
    if unused := {*given} - {"compare", "out", "force", "data", "data_dir", "backend"}:
        raise UsageError(f"{flag(min(unused))} is not used by --compare, which trains nothing")
    runs = runs_in(args.compare)
    moved = {name: given[name] for name in ("data", "data_dir") if name in given}
    data = open_data(argparse.Namespace(**vars(runs[0].args) | moved))
    out = args.out or Path("runs") / f"{data.name}-compared"
    for name, what in (("checkpoint.npz", "a run"), ("comparison.json", "another comparison")):
        if (out / name).exists() and not args.force:
            raise UsageError(f"--out {out} holds {what}; choose another folder or add --force")
    return compare(runs, out, args.backend, data, command)


def runs_in(folders: Sequence[Path]) -> list[Finished]:
    """The finished runs in these folders and below, each once. Raises UsageError where one has none, and DataError."""
    found = {}
    for folder in folders:
        inside = sorted(path.parent for path in folder.rglob("config.json"))
        if not inside:
            raise UsageError(f"{folder} holds no run; name folders that run.py has written")
        found |= {out.resolve(): out for out in inside}
    return [finished(out) for out in found.values()]


def compare_methods(args: argparse.Namespace, backend, data: Dataset, command: list[str], train: Callable) -> str:
    """--method all: makes the runs that args.out lacks, by train(argv) or side by side, and compares all of them.

    A run that was stopped goes on. Returns the table.
    """
    if (args.out / "config.json").exists():
        raise UsageError(f"--out {args.out} holds a single run; choose another folder for the comparison")
    if args.jobs and backend.ranks.size > 1:
        raise UsageError(f"--jobs {args.jobs} is for one process, and mpiexec has started {backend.ranks.size}")
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    runs = [options_of(args, data, method, seed) for seed in seeds for method in METHODS]
    missing = [(run, argv) for run in runs if (argv := command_of(run))]  # refusals come before any training
    backend.ranks.wait()
    jobs = min(args.jobs or backend.at_once, len(missing))
    if jobs > 1:
        run_side_by_side(missing, jobs)
    else:
        for _, argv in missing:
            train(argv)
    if backend.ranks.rank:
        return ""
    return compare([finished(run.out) for run in runs], args.out, args.backend, data, command)


def options_of(args: argparse.Namespace, data: Dataset, name: str, seed: int) -> argparse.Namespace:
    """The complete options of one run; a method gets those options of its own that it takes."""
    run, method = copy.copy(args), METHODS[name]
    vars(run).update(dict.fromkeys(["seeds", "jobs", *options_not_taken(method)]))
    if method.samples == 1:
        run.samples = None
    run.method, run.seed, run.out = name, seed, args.out / f"{name}-{seed}"
    return complete(run, data)


def command_of(run: argparse.Namespace) -> list[str] | None:
    """The command line that makes a run or goes on with it; None if its folder holds it whole.

    Raises UsageError, but with --force, if the folder holds something else.
    """
    command = options.command_line(options.stored(run))
    if not existing_run(run.out, force=True):
        return command
    try:
        asked = {name: value for name, value in vars(run).items() if name not in ELSEWHERE}
        options.refuse_contradiction(f"the run in {run.out}", options.opened(run.out).args, asked)
        return ["--resume", str(run.out)] if not (run.out / "summary.json").exists() else finished(run.out) and None
    except (DataError, UsageError) as error:
        if not run.force:
            raise UsageError(f"{error}, choose another --out, or add --force to make {run.out} anew") from error
        return [*command, "--force"]


def finished(out: Path) -> Finished:
    """The run in a folder. Raises UsageError for half a run or that of another version, and DataError."""
    saved = options.opened(out)
    if not (out / "summary.json").exists():
        raise UsageError(f"{out} holds a run that has not ended; go on with it by --resume {out}, and compare again")
    try:
        summary = dict(json.loads((out / "summary.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{out / 'summary.json'} cannot be read ({reason(error)})") from error
    if lacking := {"rate", "distortion", "nll", "nll_standard_error"} - {*summary}:
        raise UsageError(f"{out} holds a run of another version, without {min(lacking)}")
    return Finished(out, saved.args, saved.config, summary)


def compare(runs: list[Finished], out: Path, backend: str, data: Dataset, command: list[str]) -> str:
    """Table, pictures and report.html of finished runs on `data`. Returns the table.

    Each network has the constants of its own checkpoint. Raises UsageError for runs on other images.
    """
    first = runs[0]
    for run in runs[1:]:
        if (run.config["images"], run.args.binarize) != (first.config["images"], first.args.binarize):
            raise UsageError(f"{run.out} and {first.out} are runs on different images; compare those of one data set")
    if first.config["images"] != fingerprint(data):
        raise UsageError(f"the images of --data {first.args.data} are not those that {first.out} was trained on")
    rows, shared = rows_of(runs)
    models = {row["name"].replace(", ", "\n"): load(row["runs"][0], backend) for row in rows}
    opened = next(iter(models.values())).backend
    result = {
        "command": ["run.py", *command],
        "data": data.name,
        "test_images": len(data.test),
        "settings": shared,
        "versions": first.config["versions"],
        "mean_image": {"rate": 0.0, "distortion": total_variance(data.test, about=data.train)},
        "rows": rows,
        "linear_bound": linear_bound(opened, data, first.args.binarize == "dynamic"),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", result)
    pictures.draw_comparison(out, models, data)
    pictures.draw_rate_distortion(out / "rate_distortion.png", result)
    write_whole(out / "report.html", lambda file: file.write(page(result, out).encode()))
    return f"{aligned(lines_of(result))}\nall in {out}/: {', '.join(COMPARISON_FILES)}"


def rows_of(runs: list[Finished]) -> tuple[list[dict], str]:
    """One row for all the runs that differ in nothing but their seed, and the options that all runs share.

    A row's name tells the options of its method, and of the others those in which the runs differ.
    """
    found = [{n: v for n, v in vars(run.args).items() if n not in HIDDEN} for run in runs]
    varied = {name for name in found[0] if len({repr(args[name]) for args in found} - {"None"}) > 1} - {*OF_METHODS}
    groups: dict[str, list[Finished]] = {}
    for run, args in sorted(zip(runs, found, strict=True), key=lambda pair: pair[0].args.seed):
        groups.setdefault(f"{run.args.method} {args}", []).append(run)
    rows = [row_of(group, varied) for group in groups.values()]
    rows.sort(key=lambda row: ([*METHODS].index(row["method"]), row["figures"]["rate"]["mean"]))
    shared = {n: v for n, v in found[0].items() if n not in varied and n not in OF_METHODS}
    return rows, " ".join(options.command_line(shared))


def row_of(group: list[Finished], varied: set[str]) -> dict:
    """Name, options, folders and figures of runs that differ in their seeds, and the slides' figures."""
    args = group[0].args
    method = METHODS[args.method]
    told = varied | {*method.options} | ({"samples"} if args.samples > 1 else set())
    own = {name: value for name, value in vars(args).items() if name in told and value not in (None, False)}
    words = " ".join(said(name, value) for name, value in own.items())
    slides = dict(zip(("slides_rate", "slides_error"), SLIDES.get((args.data, args.method), ()), strict=False))
    return {
        "name": f"{method.title}, {words}" if words else method.title,
        "options": own,
        "method": args.method,
        "seeds": [run.args.seed for run in group],
        "runs": [str(run.out) for run in group],
        "figures": figures_of([run.summary | slides for run in group]),
    }


def linear_bound(backend, data: Dataset, dynamic: bool) -> list[tuple[float, float]]:
    """(rate, distortion) along the Gaussian rate–distortion curve of the training images.

    It ends at a hundredth of their variance, or where the known principal variances end.
    """
    read, center = reader(backend, data.train, dynamic), backend.asarray(mean_image(data))
    images = (backend, read, len(data.train), center, backend.noise(0), progress("linear bound"))
    variances, rest = interruptible(linear.principal_variances, *images)
    total = math.fsum(variances) + rest
    lowest = max(0.01 * total, rest + len(variances) * variances[-1] if rest else 0)
    distortions = map(float, np.geomspace(total, lowest, 100))
    return [(linear.gaussian_rate_distortion(variances, d, rest), d) for d in distortions]
