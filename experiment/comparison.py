"""Finished runs on the same images beside one another: a row for all runs that differ in nothing but their seed."""

import base64
import json
import math
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np

from data import Dataset, binarize
from data.files import reason, write_whole
from experiment import pictures, sources
from experiment.choices import total_variance
from experiment.defaults import METHOD_OPTIONS
from experiment.evaluation import aligned, figures_of, progress, table
from experiment.record import Run, UsageError, flag, said, typed
from experiment.run_folder import CHECKPOINT, command_to_go_on, read_checkpoint, write_json
from experiment.signals import interruptible
from experiment.trained_model import load
from ref.more import linear
from ref.objectives import METHODS

USED = ("compare", "out", "force", "data", "data_dir", "size", "backend")
SAID_BY_THE_ROW = (*METHOD_OPTIONS, "samples", "method", "seed", "multiplier_rate", "data", "size")
COMPARED = {
    "reconstructions.png": "The same test images under every run, decoded at the mean of q(z|x).",
    "generations.png": "The same draws of z from the prior under every run; the test images above them are no targets.",
    "rate_distortion.png": "Every run as a point, beside the best linear VAE; lower left is better.",
}
SINGLE = {
    "curves.png": "Training: each report on its batches, the mean of an epoch, and test images at the end of an epoch.",
    "samples.png": "Decoded draws from the prior, and from the aggregate posterior.",
    "latents.png": "The means of q(z|x) of test images in their two leading principal directions.",
    "traversals.png": "The most active latents, one a row, from −2.5 to 2.5 about the first test image.",
}
LEGEND = """The rate is the average of KL(q(z|x)‖p(z)) over the test images. The error is ‖x − x̂(z)‖², z sampled from
q(z|x), or at its mean. The rate is the sum of the marginal KL, KL(q(z)‖p(z)) with q(z) the average of q(z|x), and the
mutual information I(x;z), which cannot exceed the logarithm of the number of images. The ELBO is at β = 1 whatever was
trained, the NLL by importance sampling, with its standard error over images. NLLs compare only under the same
likelihood, variance and binarization. C is the constraint. Rate, KL, information, ELBO and NLL are in nats an image,
errors in squared error an image, pixels in [0, 1]. The mean image of the training set needs no latents. What the slides
of Kuzina et al. call “Marginal KL” is the rate, and their error is the one at the mean of q(z|x): such a pair is no
rate–distortion point."""
PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
FILES = ("report.html", "comparison.json", *COMPARED)
# Kuzina, Prokopenko & Shumovskaia 2018: their settings, their "Marginal KL", which is the rate, and "Reconstruction".
SLIDES = {
    ("mnist", "vae"): ({}, 1.5813, 55.8484),
    ("mnist", "beta-vae"): ({"beta": 0.5}, 10.5938, 15.1434),
    ("mnist", "geco"): ({"kappa": 4.0}, 10.4975, 14.6269),
    ("mnist", "geco-iwae"): ({"kappa": 4.0, "samples": 5}, 1.3640, 12.9214),
    ("cifar10", "vae"): ({}, 31.9662, 77.6570),
    ("cifar10", "beta-vae"): ({"beta": 0.5}, 59.4998, 57.9653),
    ("cifar10", "geco"): ({"kappa": 3.394}, 383.0849, 11.4413),
}


class Finished(NamedTuple):
    """A finished run, as its folder tells."""

    out: Path
    run: Run
    config: dict
    summary: dict


def compare_folders(given: dict[str, Any], command: list[str]) -> str:
    """--compare: the finished runs in these folders, on the images that they name. Returns the table."""
    if unused := {*given} - {*USED}:
        raise UsageError(f"{flag(min(unused))} is not used by --compare, which trains nothing")
    runs = runs_in(given["compare"])
    refuse_unlike(runs)
    data, _ = sources.opened_again(runs[0].run, given, f"{runs[0].out}")
    out = given.get("out", Path("runs") / f"{data.name}-compared")
    for name, what in ((CHECKPOINT, "a run"), ("comparison.json", "another comparison")):
        if (out / name).exists() and not given.get("force"):
            raise UsageError(f"--out {out} holds {what}; choose another folder or add --force")
    return compare(runs, out, given.get("backend", "numpy"), data, command)


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
    return Finished(out, saved.run, saved.config, summary)


def refuse_unlike(runs: list[Finished]) -> None:
    """Raises UsageError for runs on unlike images."""
    for run in runs[1:]:
        if run.run.images != runs[0].run.images:
            raise UsageError(f"{run.out} and {runs[0].out} are runs on different images; compare those of one data set")


def compare(runs: list[Finished], out: Path, backend: str, data: Dataset, command: list[str]) -> str:
    """Table, pictures and report.html of finished runs on `data`. Returns the table.

    Each network has the constants of its own checkpoint.
    """
    rows, shared = rows_of(runs)
    models = {row["name"].replace(", ", "\n"): load(row["runs"][0], backend) for row in rows}
    opened = next(iter(models.values())).backend
    test = data.test if runs[0].run.images.binarize == "none" else binarize(data.test, sources.TEST_SEED)
    result = {
        "command": shlex.join(["run.py", *command]),
        "data": data.name,
        "test_images": len(data.test),
        "settings": shlex.join(shared),
        "versions": runs[0].config["versions"],
        "mean_image": {"rate": 0.0, "error": total_variance(test, about=sources.mean_image(data))},
        "rows": rows,
        "linear_bound": linear_bound(opened, data, runs[0].run.images.binarize == "dynamic"),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", result)
    pictures.draw_comparison(out, models, data)
    pictures.draw_rate_distortion(out / "rate_distortion.png", result)
    write_whole(out / "report.html", lambda file: file.write(page(result, out).encode()))
    return f"{aligned(lines_of(result))}\nall in {out}/: {', '.join(FILES)}"


def rows_of(runs: list[Finished]) -> tuple[list[dict], list[str]]:
    """A row for all runs that differ in nothing but their seed, each run once, and the options that all runs share."""
    groups: list[list[Finished]] = []
    for run in sorted(runs, key=lambda run: run.run.seed):
        group = next((g for g in groups if g[0].run.but(seed=0) == run.run.but(seed=0)), None)
        if group is None:
            groups.append([run])
        elif all(other.run != run.run for other in group):  # a copy of a run is no second seed
            group.append(run)
    options = [group[0].run.typed for group in groups]
    told, shared = told_and_shared(options)
    rows = [row_of(group, told) for group in groups]
    names = [row["name"] for row in rows]
    for row in rows:
        if names.count(row["name"]) > 1:
            row["name"] += f", {row['runs'][0]}"
    rows.sort(key=lambda row: ([*METHODS].index(row["method"]), row["figures"]["rate"]["mean"]))
    return rows, shared


def told_and_shared(options: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The names of the options in which runs differ, and as they are typed the options that all of them share.

    A run without a multiplier does not differ in it. Without any other option it does.
    """
    told, shared = [], []
    for name in sorted({name for o in options for name in o} - {*SAID_BY_THE_ROW}):
        values = [o.get(name) for o in options if name in o or name != "multiplier"]
        if any(value != values[0] for value in values):
            told.append(name)
        elif len(values) == len(options):
            shared.append(typed(name, values[0]))
    return told, shared


def row_of(group: list[Finished], told: list[str]) -> dict:
    """Name, options, folders and figures of runs that differ in their seeds.

    The name says the options of the method, and those `told`, in which the runs of the comparison differ.
    """
    run, options = group[0].run, group[0].run.typed
    own = {name: value for name, value in options.items() if name in METHOD_OPTIONS}
    if run.samples > 1:
        own["samples"] = run.samples
    words = [said(name, value) for name, value in own.items()]
    words += [said(name, options.get(name)) for name in told if name in options or name != "multiplier"]
    return {
        "name": f"{run.objective.title}, {' '.join(words)}" if words else run.objective.title,
        "options": own,
        "method": run.method,
        "seeds": [other.run.seed for other in group],
        "runs": [str(other.out) for other in group],
        "figures": figures_of([other.summary | slides_of(run) for other in group]),
    }


def slides_of(run: Run) -> dict:
    """The slides' figures, for a run with the settings of the slides alone."""
    settings, *figures = SLIDES.get((run.images.name, run.method), ({},))
    grey = run.likelihood == "gaussian" and run.images.binarize == "none"
    if not figures or not grey or any(run.typed.get(name) != value for name, value in settings.items()):
        return {}
    return dict(zip(("slides_rate", "slides_error"), figures, strict=True))


def linear_bound(backend, data: Dataset, dynamic: bool) -> list[tuple[float, float]]:
    """(rate, error) along the Gaussian rate–distortion curve of the training images.

    It ends at a hundredth of their variance, or where the known principal variances end.
    """
    read, center = sources.reader(backend, data.train, dynamic), backend.asarray(sources.mean_image(data))
    images = (backend, read, len(data.train), center, backend.noise(0), progress("linear bound"))
    variances, rest = interruptible(linear.principal_variances, *images)
    total = math.fsum(variances) + rest
    lowest = max(0.01 * total, rest + len(variances) * variances[-1] if rest else 0)
    errors = map(float, np.geomspace(total, lowest, 100))
    return [(linear.gaussian_rate_distortion(variances, error, rest), error) for error in errors]


def lines_of(result: dict) -> list[list[str]]:
    """The table of a comparison: every figure of every row, and the mean image's."""
    mean_image = result["mean_image"] | {"error_at_mean": result["mean_image"]["error"]}
    return table({row["name"]: row["figures"] for row in result["rows"]} | {"the mean image": figures_of([mean_image])})


def page(result: dict, out: Path) -> str:
    """The comparison as one page that needs no script and no other file; of each row the first run's pictures."""
    header, *body = ([escape(cell) for cell in line] for line in lines_of(result))
    cells = [f"<tr><th>{'</th><th>'.join(header)}</th></tr>"]
    cells += [f"<tr><td>{'</td><td>'.join(line)}</td></tr>" for line in body]
    pictures = [figure(out / name, caption) for name, caption in COMPARED.items()]
    for row in result["rows"]:
        pictures.append(f"<h2>{escape(row['name'])}, seed {row['seeds'][0]}</h2>")
        pictures += [figure(Path(row["runs"][0], name), caption) for name, caption in SINGLE.items()]
    said = {
        "title": f"Objectives for a variational autoencoder on {result['data']}",
        "command": f"python {result['command']}",
        "settings": result["settings"],
        "versions": "; ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "test_images": str(result["test_images"]),
        "legend": LEGEND,
    }
    plain = {name: escape(words) for name, words in said.items()}
    return PAGE.substitute(plain, table="\n".join(cells), pictures="\n".join(pictures))


def figure(path: Path, caption: str) -> str:
    """A PNG within the page; nothing for a picture that a run does not have."""
    if not path.exists():
        return ""
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>'
