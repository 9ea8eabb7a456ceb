"""Finished runs on the same images beside one another: `--compare` reads them, `--method all` makes them first."""

import argparse
import copy
import json
import math
import statistics
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data import DataError, Dataset
from data.dataset import white
from data.files import reason, write_whole
from experiment import checkpoint, pictures
from experiment.files import existing_run, write_json
from experiment.jobs import Job, run_side_by_side
from experiment.model import load
from experiment.one import fingerprint, open_data
from experiment.options import (
    METHOD_OPTIONS,
    MULTIPLIER_OPTIONS,
    UsageError,
    command_line,
    complete,
    parser,
    restored,
    stored,
    total_variance,
    typed,
)
from experiment.page import html, markdown
from experiment.tables import FIGURES, OTHERS, SLIDES, appendix, report
from experiment.training import reader
from ref import linear
from ref.objectives import METHODS

# Options that do not change what a run finds, or that say by another path which images it is about.
ELSEWHERE = ("out", "data_dir", "checkpoint_every", "force", "resume", "jobs", "seeds", "sweep", "compare")
IMAGES = ("data", "size", "preset")
OF_A_METHOD = {name.replace("-", "_") for name in (*METHOD_OPTIONS, *MULTIPLIER_OPTIONS, "samples")}
COMPARISON_FILES = (
    "report.html",
    "comparison.md",
    "comparison.json",
    "reconstructions.png",
    "generations.png",
    "rate_distortion.png",
)


class Finished(NamedTuple):
    """A finished run, as its folder tells."""

    out: Path
    args: argparse.Namespace  # its complete options
    config: dict
    summary: dict


def compare_folders(args: argparse.Namespace, given: dict, command: list[str]) -> str:
    """--compare: the finished runs in these folders, on the images that they name. Returns the tables."""
    if unused := {*given} - {"compare", "out", "force", "data", "data_dir", "backend"}:
        raise UsageError(f"--{min(unused).replace('_', '-')} is not used by --compare, which trains nothing")
    runs = [finished(out) for out in folders_of(args.compare)]
    images = copy.copy(runs[0].args)
    images.data, images.data_dir = given.get("data", images.data), given.get("data_dir", images.data_dir)
    data = open_data(images)
    args.out = args.out or Path("runs") / f"{data.name}-compared"
    if (args.out / "checkpoint.npz").exists():
        raise UsageError(f"--out {args.out} holds a run; choose another folder for the comparison")
    if (args.out / "comparison.json").exists() and not args.force:
        raise UsageError(f"--out {args.out} holds a comparison; choose another folder or add --force to replace it")
    return compare(runs, args.out, args.backend, data, command)


def compare_methods(args: argparse.Namespace, backend, data: Dataset, command: list[str], train: Callable) -> str:
    """--method all: makes the runs that args.out lacks, with train(argv) or side by side, and compares them.

    A run that was stopped goes on. Returns the tables.
    """
    if (args.out / "config.json").exists():
        raise UsageError(f"--out {args.out} holds a single run; choose another folder for the comparison")
    if args.jobs and backend.ranks.size > 1:
        raise UsageError(f"--jobs {args.jobs} is for one process, and mpiexec has started {backend.ranks.size}")
    runs = planned(args, data)
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


def compare(runs: list[Finished], out: Path, backend: str, data: Dataset, command: list[str]) -> str:
    """Tables, pictures and report.html of finished runs on `data`. Returns the tables. Raises UsageError for others."""
    refuse_other_images(runs, data)
    rows = rows_of(runs)
    models = {row["title"]: load(row["runs"][0], backend) for row in rows}  # each with the constants of its checkpoint
    dynamic = runs[0].args.binarize == "dynamic"
    curve = heard(lambda: linear_bound(next(iter(models.values())).backend, data, dynamic))
    versions = [run.config["versions"] for run in runs]
    result = {
        "command": ["run.py", *command],
        "data": data.name,
        "test_images": len(data.test),
        "settings": settings_of(runs),
        "versions": [v for i, v in enumerate(versions) if v not in versions[:i]],
        "mean_image": {"rate": 0.0, "distortion": total_variance(data.test, about=data.train)},
        "rows": rows,
        "linear_bound": curve,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", result)
    pictures.draw_comparison(out, models, data)
    pictures.draw_rate_distortion(out / "rate_distortion.png", result)
    text, blocks = markdown(report(result)), [*report(result), *appendix(result, out)]
    for name, content in (("comparison.md", text), ("report.html", html(blocks))):
        write_whole(out / name, lambda file, content=content: file.write(content.encode()))
    return text


def planned(args: argparse.Namespace, data: Dataset) -> list[argparse.Namespace]:
    """The complete options of every run of --method all: each method and seed, and each value of --sweep."""
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    plan = [(method, seed, {}) for seed in seeds for method in METHODS]
    for name, values in args.sweep or ():
        method = next(method for method in METHODS if name in METHODS[method].options)
        plan += [(method, seed, {name: value}) for value in values for seed in seeds]
    runs = {}
    for method, seed, changes in plan:
        run = options_of(args, data, method, seed, changes)
        runs.setdefault(
            repr(sorted((k, v) for k, v in vars(run).items() if k != "out")), run
        )  # a default is swept once
    return [*runs.values()]


def options_of(args: argparse.Namespace, data, name: str, seed: int, changes: dict) -> argparse.Namespace:
    """The complete options of one run; a method gets those options of its own that it takes."""
    run, method = copy.copy(args), METHODS[name]
    takes = {*method.options, *(MULTIPLIER_OPTIONS if method.constraint else ())}
    for option in {*METHOD_OPTIONS, *MULTIPLIER_OPTIONS} - takes:
        setattr(run, option.replace("-", "_"), None)
    if method.samples == 1:
        run.samples = None
    run.method, run.seed, run.seeds, run.sweep, run.jobs = name, seed, None, None, None
    run.out = args.out / "-".join([name, *(f"{option}{value:g}" for option, value in changes.items()), str(seed)])
    vars(run).update({option.replace("-", "_"): value for option, value in changes.items()})
    return complete(run, data)


def command_of(run: argparse.Namespace) -> list[str] | None:
    """The command line that makes a run or goes on with it; None if its folder holds it whole.

    Raises UsageError, but with --force, if the folder holds something else.
    """
    if not existing_run(run.out, force=True):
        return command_line(stored(run))
    try:
        path = run.out / "checkpoint.npz"
        problem = difference(restored(parser(""), path, checkpoint.read(path)[1]["options"]), run)
        if not problem and not (run.out / "summary.json").exists():
            return ["--resume", str(run.out)]
        if not problem:
            finished(run.out)
    except (DataError, UsageError) as error:
        problem = str(error)
    if problem and not run.force:
        raise UsageError(f"{problem}; choose another --out or add --force to make that run anew")
    return [*command_line(stored(run)), "--force"] if problem else None


def difference(found: argparse.Namespace, asked: argparse.Namespace) -> str | None:
    """A sentence on the first option in which a run differs from what is asked for now, or None."""
    for name in sorted({*vars(asked)} - {*ELSEWHERE}):
        there, here = getattr(found, name, None), getattr(asked, name)
        if there != here:
            there, here = (typed(name, value).replace("=", " ", 1) for value in (there, here))
            return f"{asked.out} holds a run made with {there}, and now {here} is asked for"
    return None


def folders_of(named: list[Path]) -> list[Path]:
    """The folders of runs among those named, and inside those that hold several, each once."""
    found: dict[Path, Path] = {}
    for folder in named:
        inside = sorted(path.parent for path in folder.rglob("config.json"))
        if not inside:
            raise UsageError(f"--compare {folder} holds no run; name folders that run.py has written")
        for out in inside:
            found.setdefault(out.resolve(), out)
    return [*found.values()]


def finished(out: Path) -> Finished:
    """The run in a folder. Raises UsageError for half a run or that of another version, and DataError."""
    if not (out / "summary.json").exists():
        raise UsageError(f"{out} holds a run that has not ended; go on with it by --resume {out}, and compare again")
    path = out / "checkpoint.npz"
    config = checkpoint.read(path)[1]
    try:
        summary = dict(json.loads((out / "summary.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{out / 'summary.json'} cannot be read ({reason(error)})") from error
    if lacking := {*FIGURES, *OTHERS} - {*summary}:
        raise UsageError(f"{out} holds a run of another version, without {min(lacking)}")
    return Finished(out, restored(parser(""), path, config["options"]), config, summary)


def refuse_other_images(runs: list[Finished], data: Dataset) -> None:
    """Raises UsageError unless all runs were trained and tested on these very images."""
    first = runs[0]
    for run in runs[1:]:
        if (run.config["images"], run.args.binarize) != (first.config["images"], first.args.binarize):
            raise UsageError(f"{run.out} and {first.out} are runs on different images; compare those of one data set")
    if first.config["images"] != fingerprint(data):
        raise UsageError(f"the images of --data {first.args.data} are not those that {first.out} was trained on")


def rows_of(runs: list[Finished]) -> list[dict]:
    """One row for all the runs that differ in nothing but their seed: its name, its folders and its figures."""
    groups: dict[str, list[Finished]] = {}
    for run in runs:
        groups.setdefault(repr(settings(run.args)), []).append(run)
    of = [settings(group[0].args) for group in groups.values()]
    rows = []
    for group, mine in zip(groups.values(), of, strict=True):
        differs = {name: value for name, value in mine.items() if name in varying(mine, of)}
        shown = [typed(name, value).replace("=", " ", 1) for name, value in differs.items()]
        title = METHODS[mine["method"]].title
        rows.append(
            {
                "title": "\n".join([title, *shown]),
                "method": mine["method"],
                "differs": differs,
                "kappa": mine.get("kappa"),
                "seeds": [run.args.seed for run in group],
                "runs": [str(run.out) for run in group],
                "figures": {name: spread([run.summary[name] for run in group]) for name in (*FIGURES, *OTHERS)},
                "slides": SLIDES.get(runs[0].args.data, {}).get(mine["method"]),
            }
        )
    return sorted(rows, key=lambda row: ([*METHODS].index(row["method"]), row["figures"]["rate"]["mean"]))


def settings(args: argparse.Namespace) -> dict:
    """The options of a run that change what it finds, but for its seed and its images."""
    return {name: value for name, value in vars(args).items() if name not in (*ELSEWHERE, *IMAGES, "seed")}


def varying(mine: dict, of: list[dict]) -> list[str]:
    """The options that tell a row from others: one of a method's own from those of its method, any other from all."""

    def values(name: str) -> set[str]:
        peers = [other for other in of if name not in OF_A_METHOD or other["method"] == mine["method"]]
        return {repr(other.get(name)) for other in peers}

    return [name for name in mine if name != "method" and len(values(name)) > 1]


def settings_of(runs: list[Finished]) -> dict[str, str]:
    """What all runs have in common, and what all of a method have, as on the command line."""
    of = [settings(run.args) for run in runs]
    fixed: dict[str, dict] = {"all": {}}
    for mine in of:
        for name, value in mine.items():
            if value not in (None, False) and name != "method" and name not in varying(mine, of):
                who = METHODS[mine["method"]].title if name in OF_A_METHOD else "all"
                fixed.setdefault(who, {})[name] = typed(name, value).replace("=", " ", 1)
    return {who: " ".join(options.values()) for who, options in fixed.items()}


def spread(values: list) -> dict | None:
    """Mean and sample standard deviation (None of one value); None for a figure that a method does not have."""
    if None in values:
        return None
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def linear_bound(backend, data: Dataset, dynamic: bool) -> list[tuple[float, float]]:
    """(rate, distortion) along the Gaussian rate–distortion curve of the training images.

    It ends at a hundredth of their variance, or where the known principal variances end.
    """

    def progress(blocks):
        return tqdm(blocks, desc="linear bound", unit="block", disable=None, leave=False)

    read = reader(backend, data.train, dynamic)
    center = backend.asarray(data.train.mean(axis=0, dtype=np.float64) / white(data.train))
    noise = backend.noise(0)
    variances, rest = linear.principal_variances(backend, read, len(data.train), center, noise, progress)
    total = math.fsum(variances) + rest
    lowest = max(0.01 * total, rest + len(variances) * variances[-1] if rest else 0)
    distortions = map(float, np.geomspace(total, lowest, 100))
    return [(linear.gaussian_rate_distortion(variances, d, rest), d) for d in distortions]


def heard(work: Callable):
    """work(), in a thread of its own: so a signal is heard also while one call into a library takes long."""
    result: Future = Future()

    def do() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # raised below, in the thread that waits
            result.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return result.result()
