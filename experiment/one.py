"""One run, from its options to its summary and its pictures; and `fit`, a run on images in memory."""

import argparse
import hashlib
import platform
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from backend import open_backend
from data import Dataset, binarize, npz
from data import load as load_data
from experiment import options
from experiment.checkpoint import VERSION
from experiment.defaults import UsageError, complete
from experiment.files import claim, existing_run, held, write_json
from experiment.model import TrainedModel, load
from experiment.pictures import draw_curves, draw_pictures
from experiment.results import summarize, warn, watched, watcher
from experiment.training import build, constants, epoch_rows, proceed, reader, restore, save
from ref.objectives import METHODS


def open_data(args: argparse.Namespace, data: Dataset | None = None) -> Dataset:
    """The images of --data, or those given, binarized once with --binarize static. Raises UsageError for one image."""
    data = data or load_data(args.data, args.data_dir, args.size)
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
    """config.json: what was asked for, on which images, and the versions of the programs."""
    asked = {"version": VERSION, "command": ["run.py", *command], "options": options.stored(args)}
    images = {"data": data.name, "shape": [*data.shape], "images": fingerprint(data)}
    versions = {"python": platform.python_version(), "numpy": np.__version__, **backend.versions}
    return asked | images | {"versions": versions, "processes": backend.ranks.size, "resumed": []}


def command_to_go_on(out: Path) -> str:
    """The command that goes on with the run in `out`."""
    return f"python run.py --resume {shlex.quote(str(out))}"


def start(args: argparse.Namespace, backend, data: Dataset, read) -> tuple[TrainedModel, dict]:
    """The model and the state before the first step."""
    trained = load(args.init_from) if args.init_from else None
    if trained and trained.shape != data.shape:
        found = f"the images of --data {args.data} are {data.shape}"
        raise UsageError(f"{found}, those of --init-from {args.init_from} {trained.shape}")
    network, state = build(args, backend, data, read, trained)
    return TrainedModel(backend, network, state["theta"], data.shape, args, []), state


def go_on_from(saved: options.Saved, args: argparse.Namespace, backend, data: Dataset, config: dict):
    """The model and the state in a checkpoint, and the config of the resumed run."""
    before = saved.config
    if config["images"] != before.get("images"):
        raise UsageError(f"the images of --data {args.data} are not those that {args.resume} was trained on")
    network, state, history = restore(saved, args, backend, *data.train.shape)
    model = TrainedModel(backend, network, state["theta"], data.shape, args, history)
    here = {name: config[name] for name in ("command", "versions", "processes")} | {"step": int(state["step"])}
    now = {name: config[name] for name in ("version", "options")}
    return model, state, before | now | {"resumed": [*before["resumed"], here]}


def run_one(args: argparse.Namespace, backend, data: Dataset, command: list[str], again: list[str], saved=None) -> dict:
    """Trains, judges and draws; leaves every file in args.out, which is held meanwhile. Returns the summary.

    `saved` is a checkpoint to go on from, whose folder is held already. Once the run's own checkpoint is there, the
    command that goes on with it is in `again`. Of several ranks the first writes.
    """
    ranks, config = backend.ranks, describe(args, backend, data, command)
    read = reader(backend, data.train, args.binarize == "dynamic")
    with ExitStack() as folder:
        if saved:
            model, state, config = go_on_from(saved, args, backend, data, config)
        else:
            existing_run(args.out, args.force)
            model, state = start(args, backend, data, read)
            ranks.wait()  # until the others have seen the folder free, too
            if ranks.rank == 0:
                folder.enter_context(held(args.out))  # only now, because a network may not fit into memory
        for array in (constants(model.network) | state).values():
            ranks.broadcast(array)
        if ranks.rank == 0:
            done = epoch_rows(model.history, len(data.train) // args.batch_size)
            claim(args.out, args.force or bool(saved), config, done, lambda: save(model, state, config))
            again[:] = [command_to_go_on(args.out)]
        rows = proceed(model, state, read, watcher(model, watched(data)), config)
        summary = summarize(model, data, args.nll_samples)
        if ranks.rank == 0:
            if warning := warn(args, summary):
                print(f"run.py: {warning}", file=sys.stderr)
            draw_pictures(args.out, model, data)
            draw_curves(args.out / "curves.png", model.history, rows, args.kappa)
            write_json(args.out / "summary.json", summary)  # last: a folder that holds it holds a whole run
            again.clear()
    return summary


def fit(images, method: str = "geco", test=None, shape=None, out=None, backend: str = "numpy", **chosen):
    """Trains a model on images and returns it, a TrainedModel. `out`, a folder, keeps the run and its pictures there.

    images, test  (N, H, W, C), (N, H, W) or (N, D), uint8 or floats in [0, 1]; without `test` every tenth image is
                  held out. Rows of a square number D are square pictures, others strips, unless `shape` is (H, W, C).
    chosen        the options of the command line: kappa=4.0, epochs=20, hidden=(256, 128), nll_samples=500, …

    Raises a ValueError for other images and for options that there are not.
    """
    argv = options.command_line({"method": method, "backend": backend, "data": "images of fit()", **chosen})
    args, _ = options.parsed(argv)
    if args.method not in METHODS:
        raise UsageError(f"fit trains one of {', '.join(METHODS)}, not {args.method}")
    arrays = {name: np.asarray(a) for name, a in (("images", images), ("test", test)) if a is not None}
    data = open_data(args, npz.dataset("fit", "fit", arrays, shape=shape))
    args, backend = complete(args, data), open_backend(args.backend, args.precision, args.tf32)
    args.out = out and Path(out)
    if args.out:
        run_one(args, backend, data, argv, [])
        return load(args.out, backend.name)
    read = reader(backend, data.train, args.binarize == "dynamic")
    model, state = start(args, backend, data, read)
    proceed(model, state, read, watcher(model, watched(data)), {})
    return model
