"""One run, from its first state or a checkpoint to what it leaves in its folder."""

import hashlib
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import groupby, takewhile
from pathlib import Path

import numpy as np

import experiment
from backend.parts import gather
from data import Dataset
from data.dataset import DataError
from experiment import evaluation, explore, pictures, record, report, run_folder, sources
from experiment.record import Run, Start, UsageError
from experiment.run_folder import COLUMNS, Saved
from experiment.signals import Stopped, noted
from experiment.streams import Bar, progress, say
from experiment.trained_model import TrainedModel, constants, load, network_of, trained_network
from ref.more import linear
from ref.objectives import initial_multiplier
from ref.train import Plan, initial_state, initial_theta, make_step, train

PAUSE = 10.0  # seconds between two checkpoints at least: they cost a run next to nothing
REPORTS = 10  # an epoch; as many more as K is larger, so that a signal is heard after a second
# What becomes of an epoch's reports: their values, and the steps of each.
COMBINED = {
    "last": lambda values, steps: values[-1],
    "sum": lambda values, steps: sum(values),
    "mean": lambda values, steps: sum(v * n for v, n in zip(values, steps, strict=True)) / sum(steps),
}


def first_state(run: Run, backend, data: Dataset, read: Callable, trained: TrainedModel | None):
    """The network, its constants from the training images, and the state before the first step.

    A `trained` model, on the host, gives its network, θ and λ instead.
    """
    noise, target, mean = backend.noise(run.seed), run.target, sources.mean_image(data)
    lam = initial_multiplier(target) if target else None
    if trained:
        arrays = {name: backend.asarray(array) for name, array in constants(trained.network).items()}
        network = network_of(run, **arrays)
        theta = backend.xp.array(backend.asarray(trained.theta))
        lam = lam and (trained.history[-1]["lambda"] or lam)
    elif run.in_coordinates:
        network, theta, level = linear_start(run, backend, data, read, noise)
        lam = lam and 1 / (2 * level)
    else:
        bounded = np.clip(mean, 1e-3, 1 - 1e-3)
        bias = np.log(bounded / (1 - bounded)) if run.output == "sigmoid" else mean
        network = network_of(run, backend.asarray(mean))
        theta = initial_theta(backend, network, noise, backend.asarray(bias))
    return network, initial_state(backend, theta, noise, len(data.train), lam)


def linear_start(run: Run, backend, data: Dataset, read: Callable, noise):
    """The network in principal coordinates, θ at the best linear VAE, and that VAE's level."""
    network = network_of(run, backend.asarray(sources.mean_image(data)))
    what = (backend, read, len(data.train), network.center, run.latent, noise)
    directions, variances, total = linear.principal_components(*what, progress=progress("principal components"))
    level = linear.level_for(variances, total, run.target, run.variance * run.options.get("beta", 1.0))
    network = linear.in_principal_coordinates(backend.xp, network, directions, variances)
    theta = initial_theta(backend, network, noise, 0.0)
    linear.start_linear(backend.xp, network, theta, variances, level)
    return network, theta, level


def restored_state(saved: Saved, run: Run, backend, count: int):
    """The network and the state in a checkpoint, for a run that goes on with `count` images.

    Another backend cannot read the state of the noise, so there a new stream begins. Raises DataError for arrays of
    another run.
    """
    network, theta = trained_network(saved, backend)
    state = initial_state(backend, theta, backend.noise(run.seed), count, 1.0 if run.objective.constraint else None)
    arrays = dict(saved.arrays)
    if saved.config["backend"] != backend.name:
        arrays["noise"] = backend.to_host(backend.noise(run.seed + int(arrays["step"])))
    expected = {name: backend.to_host(array) for name, array in (constants(network) | state).items()}
    run_folder.check(saved.path, arrays, expected)
    if run.batch_size > count or not np.array_equal(np.sort(arrays["order"]), np.arange(count)):
        raise DataError(f"{saved.path}: its order or its batches are not those of {count} images")
    for name, array in state.items():
        array[...] = backend.xp.asarray(arrays[name])  # in its own precision: λ is in float64
    return network, state


def row_of(reports: list[dict]) -> dict:
    """The row of metrics.csv of an epoch: means over its steps, sums, and where things stand at its end."""
    of = {name: [report.get(name) for report in reports] for name in COLUMNS}
    return {name: COMBINED[how](of[name], of["steps"]) for name, how in COLUMNS.items()}


def rows_of(history: list[dict], steps_per_epoch: int) -> list[dict]:
    """A row for each complete epoch."""
    epochs = [[*reports] for _, reports in groupby(history, key=lambda report: report["epoch"])]
    return [row_of(reports) for reports in epochs if reports[-1]["step"] % steps_per_epoch == 0]


def plan_of(run: Run, count: int) -> Plan:
    """The constants of the training on `count` images."""
    same = {name: getattr(run, name) for name in Plan._fields if getattr(run, name, None) is not None}
    own = {name: run.options[name] for name in run.objective.options}
    return Plan(**same | {"options": own}, steps_per_epoch=count // run.batch_size)


def proceed(model: TrainedModel, state: dict, data: Dataset, read: Callable, save: Callable, out=None, every=1) -> None:
    """Trains `model` from `state` to the end of its run. Each report is appended to its history.

    The last report of an epoch has figures on test images, too. With `out` a row is appended to metrics.csv then, and
    save() writes a checkpoint after `every` epochs unless the last is younger than PAUSE, and at the end. A signal ends
    the training at the next report: Stopped is raised once that is saved.
    """
    backend, history, plan = model.backend, model.history, plan_of(model.run, len(data.train))
    ranks, watched = backend.ranks, evaluation.watched(sources.test_images(model.run, data), len(data.train))
    step, saved_at = make_step(backend, model.network, model.run.objective, plan, read, state), time.monotonic()
    often = REPORTS * -(-plan.samples // 10)
    bar = Bar(total=plan.steps, initial=int(state["step"]), desc=model.run.method, unit="steps")
    with bar, noted() as signals:
        for report in train(backend, step, state, plan, often):
            whole, last = report["step"] % plan.steps_per_epoch == 0, report["step"] == plan.steps
            if whole and ranks.rank == 0:
                found = evaluation.look(model, watched)
                report |= {f"test_{name}": found[name] for name in ("rate", "error", "elbo")}
                report["test_images"] = len(watched)
            history.append(report)
            bar.set_postfix(postfix(history), refresh=False)
            bar.update(report["steps"])
            stopped = ranks.largest(max(signals, default=0))
            due = last
            if whole and report["epoch"] % every == 0:
                due = last or ranks.largest(int(time.monotonic() - saved_at > PAUSE))
            if whole and out and ranks.rank == 0:
                run_folder.append_row(out, row_of(of_epoch(history)))
            if out and (due or stopped):
                gather(ranks, state)
                save()
                saved_at = time.monotonic()
            if stopped:
                break
        if stopped := ranks.largest(max(signals, default=0)):  # a signal may have come with the last checkpoint
            ranks.wait()
            raise Stopped(stopped)


def of_epoch(history: list[dict]) -> list[dict]:
    """The reports of the epoch that the last report belongs to."""
    epoch = history[-1]["epoch"]
    return [*takewhile(lambda report: report["epoch"] == epoch, reversed(history))][::-1]


def postfix(history: list[dict]) -> dict[str, str]:
    """What the bar says: the last report, and the last figures on test images."""
    last, seen = history[-1], next((r for r in reversed(history) if r.get("test_rate") is not None), {})
    live = {"rate": last["rate"], "error": last["error"], "λ": last["lambda"]}
    live |= {f"{name} of {seen['test_images']} test images": seen[f"test_{name}"] for name in ("rate", "error") if seen}
    return {name: f"{value:.4g}" for name, value in live.items() if value is not None}


def describe(backend, command: list[str]) -> dict:
    """What config.json says besides the run: the program, the command, and where it works."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, **backend.versions}
    here = {"backend": backend.name, "versions": versions, "processes": backend.ranks.size}
    return {"version": experiment.__version__, "command": ["run.py", *command], **here, "resumed": []}


def started(run: Run, backend, data: Dataset, read: Callable) -> tuple[TrainedModel, dict]:
    """The model and the state before the first step."""
    trained = load(run.start.folder) if run.start else None
    network, state = first_state(run, backend, data, read, trained)
    return TrainedModel(backend, run, network, state["theta"], []), state


def begin_at(folder: Path, run: Run) -> Run:
    """The run with the start of the trained run in a folder. Raises UsageError for images of another shape."""
    trained = load(folder)
    if trained.shape != run.images.shape:
        found = f"the images of --data {run.images.source} are {run.images.shape}"
        raise UsageError(f"{found}, those of --init-from {folder} {trained.shape}")
    theta = np.ascontiguousarray(trained.theta)
    return run.but(start=Start(str(folder), hashlib.sha256(theta).hexdigest()))


def make(run: Run, out: Path, backend, data: Dataset, command: list[str], every=1, force=False, saved=None) -> dict:
    """Trains, judges and draws; leaves every file in the folder `out`, which is held meanwhile. Returns the summary.

    `saved` is a checkpoint to go on from, whose folder is held already. Of several ranks the first writes.
    """
    ranks, config, first = backend.ranks, describe(backend, command), backend.ranks.rank == 0
    read = sources.reader(backend, data.train, run.images.binarize == "dynamic")
    with ExitStack() as folder:
        if saved:
            network, state = restored_state(saved, run, backend, len(data.train))
            model = TrainedModel(backend, run, network, state["theta"], saved.history)
            here = {name: config[name] for name in ("command", "versions", "processes")}
            config |= {name: saved.config[name] for name in here}  # of its beginning
            config["resumed"] = [*saved.config["resumed"], here | {"step": int(state["step"])}]
        else:
            run_folder.refuse_existing(out, run, force)
            model, state = started(run, backend, data, read)
            ranks.wait()  # until the others have seen the folder free, too
            if first:
                folder.enter_context(run_folder.held(out))  # only now, because a network may not fit into memory
                run_folder.refuse_existing(out, run, force)

        def save() -> None:
            if first:
                arrays = {name: backend.to_host(array) for name, array in (constants(model.network) | state).items()}
                run_folder.write_checkpoint(out / run_folder.CHECKPOINT, run, config, model.history, arrays)

        for array in (constants(model.network) | state).values():
            ranks.broadcast(array)
        if first:
            rows = rows_of(model.history, len(data.train) // run.batch_size)
            run_folder.claim(out, config | {"run": record.as_json(run)}, rows, save)
        proceed(model, state, data, read, save, out, every)
        summary = evaluation.summarize(model, data, run.nll_samples)
        if first:
            finish(out, model, data, summary)
    return summary


def finish(out: Path, model: TrainedModel, data: Dataset, summary: dict) -> None:
    """The summary, which calls the folder a whole run; pictures and pages; and the warnings that the run deserves."""
    run_folder.write_json(out / "summary.json", summary)
    rows = rows_of(model.history, len(data.train) // model.run.batch_size)
    said = evaluation.warnings(model, data, summary)

    def draw_explore(out: Path, *_) -> None:
        explore.write(out / run_folder.EXPLORE, [(model, summary)], data)

    for draw in (pictures.draw_pictures, pictures.draw_curves, report.draw_report, draw_explore):
        said += pictures.drawn(draw, out, model, data, rows)
    for warning in said:
        say(f"run.py: {warning}", "stderr")
