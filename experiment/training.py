"""One run, from its first state or a checkpoint to what it leaves in its folder."""

import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backend.parts import gather
from backend.ranks import ALONE, Ranks
from data import Dataset
from data.dataset import DataError, mean_of
from experiment import evaluation, explore, pictures, record, report, run_folder, sources
from experiment.choices import LOOKED_AT
from experiment.record import Run
from experiment.run_folder import Saved
from experiment.terminal import Bar, Stopped, noted, progress, say
from experiment.trained_model import TrainedModel, constants, load, model_of, network_of
from ref.more import linear
from ref.objectives import Constraint
from ref.train import Plan, initial_state, initial_theta, make_step, train

PAUSE = 10.0  # seconds between two checkpoints at least: they cost a run next to nothing
REPORTS = 10  # an epoch; more for a large K, so that a signal is heard soon


class How(NamedTuple):
    """Where and how runs are made, which is no part of them."""

    command: list[str]
    ranks: Ranks = ALONE
    backend: str | None = None
    out: Path | None = None
    force: bool = False
    checkpoint_every: int = 1


def first_state(run: Run, backend, data: Dataset, read: Callable):
    """The network and the state before the first step, from the images or the model that the run starts from."""
    noise, mean, constraint = backend.noise(run.seed), mean_of(data.train), run.objective.constraint
    lam = None
    if run.start:
        trained = load(run.start.folder)
        network = network_of(run, **{n: backend.asarray(a) for n, a in constants(trained.network).items()})
        theta = backend.xp.array(backend.asarray(trained.theta))
        lam = constraint and multiplier_after(trained, constraint)
    elif run.in_coordinates:
        network, theta, level = linear_start(run, backend, data, read, noise)
        lam = constraint and linear.multiplier_at(level, constraint)
    else:
        bounded = np.clip(mean, 1e-3, 1 - 1e-3)
        bias = np.log(bounded / (1 - bounded)) if run.output == "sigmoid" else mean
        network = network_of(run, backend.asarray(mean))
        theta = initial_theta(backend, network, noise, backend.asarray(bias))
    if constraint and not lam:
        some = sources.drawn_once(sources.spread(data.train, LOOKED_AT), run.images.binarize)
        lam = constraint.start(run.target, sources.total_variance(some), run.images.pixels)
    return network, initial_state(backend, theta, noise, len(data.train), lam)


def multiplier_after(trained: TrainedModel, constraint: Constraint) -> float | None:
    """λ at the end of a run, as the weight of what `constraint` weighs; None after a run without a constraint."""
    lam, before = trained.history[-1]["lambda"], trained.run.objective.constraint
    return lam if lam is None or before.weighs == constraint.weighs else 1 / lam


def linear_start(run: Run, backend, data: Dataset, read: Callable, noise):
    """The network in principal coordinates, θ at the best linear VAE, and that VAE's level."""
    network = network_of(run, backend.asarray(mean_of(data.train)))
    what = (backend, read, len(data.train), network.center, run.latent, noise)
    directions, variances, total = linear.principal_components(*what, progress=progress("principal components"))
    level, constraint = run.variance * run.options.get("beta", 1.0), run.objective.constraint
    if constraint:
        level = linear.level_of(constraint, run.target, variances, total, run.images.pixels)
    network = linear.in_principal_coordinates(backend.xp, network, directions, variances)
    theta = initial_theta(backend, network, noise, 0.0)
    linear.start_linear(backend.xp, network, theta, variances, level)
    return network, theta, level


def restored_state(saved: Saved, run: Run, backend, count: int):
    """The model and the state in a checkpoint, for a run that goes on with `count` images.

    With another backend a new stream of noise begins. Raises DataError for arrays of another run.
    """
    model, arrays = model_of(saved._replace(run=run), backend), dict(saved.arrays)
    lam = 1.0 if run.objective.constraint else None
    state = initial_state(backend, model.theta, backend.noise(run.seed), count, lam)
    if saved.config["backend"] != backend.name:
        arrays["noise"] = backend.to_host(backend.noise(run.seed + int(arrays["step"])))
    run_folder.check(saved.path, arrays, {name: (array.dtype, array.shape) for name, array in state.items()})
    if run.batch_size > count or not np.array_equal(np.sort(arrays["order"]), np.arange(count)):
        raise DataError(f"{saved.path}: its order or its batches are not those of {count} images")
    for name, array in state.items():
        array[...] = backend.xp.asarray(arrays[name])  # λ is in float64
    return model, state


def plan_of(run: Run, count: int) -> Plan:
    """The constants of the training on `count` images."""
    same = {name: getattr(run, name) for name in Plan._fields if getattr(run, name, None) is not None}
    own = {"options": {name: run.options[name] for name in run.objective.options}}
    if run.objective.constraint and run.objective.constraint.rule:
        own["multiplier_rate"] = run.images.pixels / 2
    return Plan(**same | own, steps_per_epoch=count // run.batch_size)


def proceed(model: TrainedModel, state: dict, data: Dataset, read: Callable, save: Callable, out, every: int) -> None:
    """Trains `model` from `state` to the end of its run. Each report is appended to its history.

    The last report of an epoch gets the figures of the test images that are watched, too.
    With `out` each epoch is a row of metrics.csv, and save() is called after `every` epochs unless it
    was called within PAUSE, and at the end. After a signal save() is called, and Stopped is raised.
    """
    backend, history, plan = model.backend, model.history, plan_of(model.run, len(data.train))
    ranks, watched = backend.ranks, evaluation.watched(sources.test_images(model.run, data), len(data.train))
    step, saved_at = make_step(backend, model.network, model.run.objective, plan, read, state), time.monotonic()
    bar = Bar(total=plan.steps, initial=int(state["step"]), desc=model.run.method, unit="steps")
    with bar, noted() as signals:
        for report in train(backend, step, state, plan, REPORTS * -(-plan.samples // 10)):
            report = dict.fromkeys(run_folder.COLUMNS) | report
            history.append(report)
            whole, due = report["step"] % plan.steps_per_epoch == 0, report["step"] == plan.steps
            if whole and ranks.rank == 0:
                found = evaluation.look(model, watched)
                report |= {f"test_{name}": found[name] for name in ("rate", "error", "elbo")}
                report["test_images"] = len(watched)
                if out:
                    run_folder.append_row(out, run_folder.row_of(run_folder.last_epoch(history)))
            bar.set_postfix(postfix(history), refresh=False)
            bar.update(report["steps"])
            stopped = ranks.largest(max(signals, default=0))
            if whole and not due and report["epoch"] % every == 0:
                due = ranks.largest(int(ranks.rank == 0 and time.monotonic() - saved_at > PAUSE))
            if out and (due or stopped):
                gather(ranks, state)
                save()
                saved_at = time.monotonic()
            if stopped:
                break
        if stopped := ranks.largest(max(signals, default=0)):  # or with the last checkpoint
            ranks.wait()
            raise Stopped(stopped)


def postfix(history: list[dict]) -> dict[str, str]:
    """What the bar says: the last report, and the last figures on test images."""
    last, seen = history[-1], next((r for r in reversed(history) if r.get("test_rate") is not None), {})
    live = {"rate": last["rate"], "error": last["error"], "λ": last["lambda"]}
    if seen:
        of = f"of {seen['test_images']} test images"
        live |= {f"rate {of}": seen["test_rate"], f"error {of}": seen["test_error"]}
    return {name: f"{value:.4g}" for name, value in live.items() if value is not None}


def describe(backend, command: list[str], saved: Saved | None) -> dict:
    """What config.json says besides the run: the program, the command, and where it began."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, **backend.versions}
    here = {"command": ["run.py", *command], "versions": versions, "processes": backend.ranks.size}
    config = {"version": record.VERSION, "backend": backend.name, "resumed": []} | here
    if saved:
        config |= {name: saved.config[name] for name in here}
        config["resumed"] = [*saved.config["resumed"], here | {"step": int(saved.arrays["step"])}]
    return config


def started(run: Run, backend, data: Dataset, read: Callable) -> tuple[TrainedModel, dict]:
    """The model and the state before the first step."""
    network, state = first_state(run, backend, data, read)
    return TrainedModel(backend, run, network, state["theta"], []), state


def make(run: Run, backend, data: Dataset, how: How, resume=False) -> tuple[TrainedModel, dict]:
    """Trains, or goes on with the run in how.out. Returns the model and its summary, which is empty without how.out.

    With how.out it also evaluates and draws the model, and writes every file.
    """
    ranks, out, saved = backend.ranks, how.out, None
    writes = bool(out) and ranks.rank == 0
    read = sources.reader(backend, data.train, run.images.binarize == "dynamic")
    if not resume:
        model, state = started(run, backend, data, read)  # before there is a folder: it may not fit into memory
    ranks.wait()  # until the others have seen the folder free, too
    with run_folder.held(out) if writes else nullcontext():
        if resume:
            saved = run_folder.read_checkpoint(out)  # now that nobody else writes it
            model, state = restored_state(saved, run, backend, len(data.train))
        elif writes:
            run_folder.refuse_existing(out, run, how.force)
        config = describe(backend, how.command, saved)
        arrays = constants(model.network) | state  # which training changes in place

        def save() -> None:
            if writes:
                content = {name: backend.to_host(array) for name, array in arrays.items()}
                run_folder.write_checkpoint(out / run_folder.CHECKPOINT, run, config, model.history, content)

        for array in arrays.values():
            ranks.broadcast(array)
        if writes:
            rows = run_folder.rows_of(model.history, len(data.train) // run.batch_size)
            run_folder.claim(out, config | {"run": record.as_json(run)}, rows, save)
        proceed(model, state, data, read, save, out, how.checkpoint_every)
        summary = evaluation.summarize(model, data, run.nll_samples) if out else {}
        if writes:
            finish(out, model, data, summary)
    return model, summary


def finish(out: Path, model: TrainedModel, data: Dataset, summary: dict) -> None:
    """Writes the summary, which calls the folder a whole run, pictures and pages; says warnings."""
    run_folder.write_json(out / "summary.json", summary)
    rows = run_folder.rows_of(model.history, len(data.train) // model.run.batch_size)
    said = evaluation.warnings(model, data, summary)
    said += pictures.drawn(pictures.draw_pictures, out, model, data)
    said += pictures.drawn(pictures.draw_curves, out, model, data, rows)
    said += pictures.drawn(report.draw_report, out, model, data, summary)
    said += pictures.drawn(explore.write, out / run_folder.EXPLORE, [(model, summary)], data)
    for warning in said:
        say(f"run.py: {warning}", "stderr")
