"""Finished runs on the same images beside one another: a row for all runs that differ only in their seed."""

import json
import shlex
from collections.abc import Sequence
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

from data import Dataset
from data.dataset import mean_of
from data.files import reason, write_whole
from experiment import explore, pictures, record, sources
from experiment.evaluation import figures_of, table, warnings
from experiment.record import METHOD_OPTIONS, Run, UsageError, as_text, flag, said, typed
from experiment.report import COMPARED, for_terminal, page
from experiment.run_folder import CHECKPOINT, EXPLORE, command_to_go_on, read_checkpoint, refuse_unwritable, write_json
from experiment.terminal import progress
from experiment.trained_model import load
from ref.more import linear
from ref.objectives import METHODS, MULTIPLIERS

USED = ("compare", "explore", "out", "force", "data", "data_dir", "size", "backend")
SAID_BY_THE_ROW = (*METHOD_OPTIONS, "samples", "method", "seed", "data", "size")
FILES = ("report.html", "comparison.json", *COMPARED)
SYMBOLS = {name: option.symbol for name, option in METHOD_OPTIONS.items()} | {"samples": "K"}
SLIDES = json.loads((Path(__file__).parent / "figures/slides.json").read_text(encoding="utf-8"))


class Finished(NamedTuple):
    """A finished run, as its folder tells."""

    out: Path
    run: Run
    config: dict
    summary: dict
    history: Sequence[dict] = ()


def compare_folders(given: dict[str, Any], command: list[str]) -> str:
    """--compare, and with --explore a page with a slider through the runs, too. Returns the table."""
    if unused := {*given} - {*USED}:
        raise UsageError(f"{flag(min(unused))} is not used by --compare, which trains nothing")
    runs = runs_in(given["compare"])
    for run in runs[1:]:
        if run.run.images != runs[0].run.images:
            raise UsageError(f"{run.out} and {runs[0].out} are runs on different images; compare those of one data set")
    out = given.get("out", Path("runs") / f"{runs[0].run.images.name}-compared")
    refuse_unwritable(out)
    for name, what in ((CHECKPOINT, "a run"), ("comparison.json", "another comparison")):
        if (out / name).exists() and not given.get("force"):
            raise UsageError(f"--out {out} holds {what}; choose another folder or add --force")
    data, _ = sources.opened_again(runs[0].run, given, f"{runs[0].out}")
    backend = given.get("backend", "numpy")
    table = compare(runs, out, backend, data, command)
    if "explore" not in given:
        return table
    explore.write(out / EXPLORE, [(load(run.out, backend), run.summary) for run in runs], data)
    return f"{table}, {EXPLORE}"


def runs_in(folders: Sequence[Path]) -> list[Finished]:
    """The finished runs in these folders and below, each once. Raises UsageError where one has none, and DataError."""
    found = {}
    for folder in folders:
        inside = sorted(path.parent for path in folder.rglob("config.json"))
        if not inside:
            raise UsageError(f"{folder} holds no run; name folders that run.py has written")
        found |= {out.resolve(): out for out in inside}
    return [finished(out) for out in found.values()]


def finished(out: Path) -> Finished:
    """The run in a folder. Raises UsageError for a run that has not ended, and DataError."""
    saved = read_checkpoint(out)
    if not (out / "summary.json").exists():
        raise UsageError(f"{out} holds a run that has not ended; go on by {command_to_go_on(out)}, and compare again")
    try:
        summary = dict(json.loads((out / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{out / 'summary.json'} cannot be read ({reason(error)})") from error
    for old, new in (("distortion", "error"), ("distortion_at_mean", "error_at_mean")):  # as version 0.2 called them
        if old in summary:
            summary[new] = summary.pop(old)
    if lacking := {"rate", "error", "nll", "nll_standard_error"} - {*summary}:
        raise UsageError(f"{out} holds a run of another version, without {min(lacking)}")
    return Finished(out, saved.run, saved.config, {"not_finite": 0} | summary, saved.history)


def compare(runs: list[Finished], out: Path, backend: str, data: Dataset, command: list[str]) -> str:
    """Table, pictures and report.html of finished runs on `data`. Returns the table."""
    rows, shared = rows_of(runs)
    by_folder, first, copies = {str(run.out): run for run in runs}, {}, []
    for one in runs:
        if first.setdefault(one.run, one) is not one:
            copies.append(f"{one.out} is left out: it is a copy of {first[one.run].out}")
    for row in rows:
        row["warnings"] = []
        for seed, folder in zip(row["seeds"], row["runs"], strict=True):
            which = f"seed {seed}: " if len(row["seeds"]) > 1 else ""
            run = by_folder[folder]
            row["warnings"] += [which + sentence for sentence in warnings(run, data, run.summary)]
    models = {"\n".join(row["parts"]): load(row["runs"][0], backend) for row in rows}
    opened = next(iter(models.values())).backend
    of_mean_image = sources.total_variance(sources.test_images(runs[0].run, data), about=mean_of(data.train))
    result = {
        "command": shlex.join(["python", "run.py", *command]),
        "data": data.name,
        "test_images": len(data.test),
        "settings": shlex.join(shared),
        "versions": runs[0].config["versions"],
        "mean_image": {"rate": 0.0, "error": of_mean_image},
        "rows": rows,
        "left_out": copies,
        "linear_bound": linear_bound(opened, data, runs[0].run.images.binarize == "dynamic"),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", result)
    failed = pictures.drawn(pictures.draw_comparison, out, models, data)
    failed += pictures.drawn(pictures.draw_rate_distortion, out / "rate_distortion.png", result)
    lines = lines_of(result)
    text = page(result, f"Objectives for a variational autoencoder on {data.name}", lines, out)
    write_whole(out / "report.html", lambda file: file.write(text.encode(errors="replace")))
    return "\n".join([for_terminal(lines), *copies, *failed, f"all in {out}/: {', '.join(FILES)}"])


def rows_of(runs: list[Finished]) -> tuple[list[dict], list[str]]:
    """A row for all runs that differ only in their seed, each run once, and the options that all runs share."""
    groups: dict[Run, dict[Run, Finished]] = {}
    for one in sorted(runs, key=lambda one: one.run.seed):
        groups.setdefault(one.run.but(seed=0), {}).setdefault(one.run, one)  # a copy of a run is no second seed
    alike = [[*group.values()] for group in groups.values()]
    differ, shared = differ_and_shared([typed_of(group[0]) for group in alike])
    rows = [row_of(group, differ) for group in alike]
    names = [row["name"] for row in rows]
    for row in rows:
        if names.count(row["name"]) > 1:
            row["name"] += f", {row['runs'][0]}"
            row["parts"].append(row["runs"][0])
    rows.sort(key=lambda row: ([*METHODS].index(row["method"]), row["figures"]["rate"]["mean"]))
    return rows, shared


def typed_of(one: Finished) -> dict[str, Any]:
    """The options of a run, without an η that follows from its number of steps."""
    typed, steps = dict(one.run.typed), one.summary.get("steps")
    if steps and "multiplier" in typed and typed["multiplier_rate"] == MULTIPLIERS[typed["multiplier"]][1](steps):
        del typed["multiplier_rate"]
    return typed


def differ_and_shared(options: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The names of the options in which runs differ, and as they are typed the options that all of them share."""
    differ, shared = [], []
    for name in sorted(set().union(*options) - {*SAID_BY_THE_ROW}):
        values = {o.get(name) for o in options}
        if len(values) == 1:
            shared.append(typed(name, *values))
        # A run without a multiplier does not differ in its rule. Without any other option it does.
        elif name != "multiplier" or len(values - {None}) > 1:
            differ.append(name)
    return differ, shared


def of_the_name(options: dict[str, float], samples: int) -> dict[str, float]:
    """The options of a method that a row's name tells, and K if there are several samples."""
    return record.told(options) | ({"samples": samples} if samples > 1 else {})


def symbols(options: dict[str, float]) -> list[str]:
    """Options with their symbols, κ = 4, for pictures and READMEs."""
    return [f"{SYMBOLS[name]} = {as_text(value).removesuffix('.0')}" for name, value in options.items()]


def row_of(group: list[Finished], differ: list[str]) -> dict:
    """What is said of runs that differ in their seeds. Their name says its own options and those in `differ`."""
    run, options = group[0].run, typed_of(group[0])
    title, own = run.objective.title, of_the_name(run.options, run.samples)
    others = [said(name, options[name]) for name in differ if name in options]
    words = [*starmap(said, own.items()), *others]
    return {
        "name": f"{title}, {' '.join(words)}" if words else title,
        "parts": [title, *symbols(own), *others],  # as pictures have the name
        "options": own,
        "method": run.method,
        "seeds": [other.run.seed for other in group],
        "runs": [str(other.out) for other in group],
        "figures": figures_of([other.summary | published(options) for other in group]),
    }


def published(options: dict[str, Any]) -> dict[str, float]:
    """The slides' figures, for a run with the settings of the slides alone: on grey pixels, with σ² = ½."""
    of_data = SLIDES["figures"].get(options.get("data"), {})
    row = of_data.get(options.get("method"))
    settings = SLIDES["settings"] | of_data.get("settings", {}) | (row["settings"] if row else {})
    if not row or any(as_text(options.get(name)) != as_text(value) for name, value in settings.items()):
        return {}
    return {"slides_rate": row["rate"], "slides_error": row["error"]}


def linear_bound(backend, data: Dataset, dynamic: bool) -> list[tuple[float, float]]:
    """(rate, error) along the Gaussian rate–distortion curve of the training images."""
    read, center = sources.reader(backend, data.train, dynamic), backend.asarray(mean_of(data.train))
    images = (backend, read, len(data.train), center, backend.noise(0), progress("linear bound"))
    return linear.rate_distortion_curve(*linear.principal_variances(*images))


def lines_of(result: dict) -> list[list[str]]:
    """The table of a comparison: every figure of every row, and the mean image's."""
    mean_image = result["mean_image"] | {"error_at_mean": result["mean_image"]["error"]}
    return table({row["name"]: row["figures"] for row in result["rows"]} | {"the mean image": figures_of([mean_image])})
