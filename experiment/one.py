"""One run, from its options to its summary and its pictures."""

import argparse
import hashlib
import platform
import sys
from contextlib import ExitStack
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from data import Dataset, binarize, load
from experiment.checkpoint import VERSION
from experiment.files import claim, existing_run, held, write_json
from experiment.model import TrainedModel
from experiment.options import UsageError, stored
from experiment.pictures import draw_curves, draw_pictures
from experiment.results import summarize, warn
from experiment.training import build, constants, epoch_rows, fit, reader, restore, save
from ref.objectives import METHODS


def open_data(args: argparse.Namespace) -> Dataset:
    """The images of --data, binarized once with --binarize static. Raises UsageError if they are all the same."""
    data = load(args.data, args.data_dir, args.size)
    if (data.train.max(axis=0) == data.train.min(axis=0)).all():
        raise UsageError(f"the training images of --data {args.data} are all the same; there is nothing to learn")
    if args.binarize == "static":
        data = data._replace(train=binarize(data.train, 0), test=binarize(data.test, 1))
    return data


def fingerprint(data: Dataset) -> str:
    """The checksum of all the images."""
    checksum = hashlib.sha256(np.ascontiguousarray(data.train))
    checksum.update(np.ascontiguousarray(data.test))
    return checksum.hexdigest()


def describe(args: argparse.Namespace, backend, data: Dataset, command: list[str]) -> dict:
    """config.json: what was asked for, on which images and by what it is done."""
    libraries = {name: metadata.version(name) for name in ("numpy", "pillow", "matplotlib")}
    return {
        "version": VERSION,
        "command": ["run.py", *command],
        "data": data.name,
        "shape": [*data.shape],
        "options": stored(args),
        "versions": {"python": platform.python_version(), **libraries, **backend.versions},
        "processes": backend.ranks.size,
        "images": fingerprint(data),
        "resumed": [],
    }


def go_on(saved: dict, config: dict, step: int) -> dict:
    """The config of a resumed run: its own, and who went on with it from where."""
    here = {name: config[name] for name in ("command", "versions", "processes")} | {"step": step}
    now = {name: config[name] for name in ("version", "options", "data", "shape")}
    return saved | now | {"resumed": [*saved["resumed"], here]}


def run_one(
    args: argparse.Namespace,
    backend,
    data: Dataset,
    command: list[str],
    saved: tuple[Path, dict, dict] | None = None,
) -> dict:
    """Trains, judges and draws; leaves every file in args.out, which is held meanwhile. Returns the summary.

    `saved` is a checkpoint to go on from, whose folder is held already: its path, arrays and config. Of several ranks
    the first writes.
    """
    ranks, config = backend.ranks, describe(args, backend, data, command)
    read, read_test = (reader(backend, pixels, args.binarize == "dynamic") for pixels in (data.train, data.test))
    with ExitStack() as folder:
        ours = []
        if saved:
            path, arrays, before = saved
            if config["images"] != before.get("images"):
                raise UsageError(f"the images of --data {args.data} are not those that {args.resume} was trained on")
            moved = before["options"]["backend"] != args.backend
            model, state, history = restore(args, backend, *data.train.shape, path, arrays, moved)
            config = go_on(before, config, int(state["step"]))
        else:
            existing_run(args.out, args.force)
            (model, state), history = build(args, backend, data, read), []
            ranks.wait()  # until the others have seen the folder free, too
            if ranks.rank == 0:
                ours = folder.enter_context(held(args.out))  # only now, because a network may not fit into memory
        for array in (constants(model) | state).values():
            ranks.broadcast(array)
        if ranks.rank == 0:
            done = epoch_rows(history, len(data.train) // args.batch_size)
            first_checkpoint = partial(save, args, backend, model, state, history, config)
            claim(args.out, args.force or bool(saved), config, done, first_checkpoint)
            ours.append(args.out)
        rows = fit(args, backend, model, state, read, history, config)
        summary = summarize(args, data, backend, model, state, read_test, rows)
        if ranks.rank == 0:
            if METHODS[args.method].constraint and (warning := warn(args, summary, rows)):
                print(f"run.py: {warning}", file=sys.stderr)
            draw_pictures(args.out, TrainedModel(backend, model, state["theta"], data.shape, args), data)
            draw_curves(args.out / "curves.png", history, rows, summary["kappa"])
            write_json(args.out / "summary.json", summary)  # last: a folder that holds it holds a whole run
    return summary
