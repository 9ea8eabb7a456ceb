"""One run, from its options to its summary and its pictures."""

import argparse
import platform
import sys
from importlib import metadata
from pathlib import Path

from data import binarize, load
from experiment.files import claim, existing_run, write_json
from experiment.options import UsageError
from experiment.pictures import draw_curves, draw_pictures
from experiment.results import summarize, warn
from experiment.training import build, fit, reader
from ref.objectives import METHODS


def open_data(args: argparse.Namespace):
    """The images of --data, binarized once with --binarize static. Raises UsageError if they are all the same."""
    data = load(args.data, args.data_dir, args.size)
    if (data.train.max(axis=0) == data.train.min(axis=0)).all():
        raise UsageError(f"the training images of --data {args.data} are all the same; there is nothing to learn")
    if args.binarize == "static":
        data = data._replace(train=binarize(data.train, 0), test=binarize(data.test, 1))
    return data


def recorded(args: argparse.Namespace) -> dict:
    """The options as config.json holds them."""
    options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def run_one(args: argparse.Namespace, backend, data, command: list[str]) -> dict:
    """Trains, judges and draws; leaves every file in args.out. Returns the summary."""
    libraries = {name: metadata.version(name) for name in ("numpy", "pillow", "matplotlib")}
    versions = {"python": platform.python_version(), **libraries, **backend.versions}
    config = {"command": ["run.py", *command], "options": recorded(args), "versions": versions}
    dynamic = args.binarize == "dynamic"
    read = reader(backend, data.train, dynamic)
    existing_run(args.out, args.force)
    model, state = build(args, backend, data, read)
    claim(args.out, args.force, config)  # only now, because a network may not fit into memory
    rows, history = fit(args, backend, model, state, read, config)
    read_test = reader(backend, data.test, dynamic)
    summary = summarize(args, data, backend, model, state, read_test, rows)
    if METHODS[args.method].constraint and (warning := warn(args, summary, rows)):
        print(f"run.py: {warning}", file=sys.stderr)
    draw_pictures(args.out, backend, model, state["theta"], read_test, len(data.test), data.shape)
    draw_curves(args.out / "curves.png", history, summary["kappa"])
    write_json(args.out / "summary.json", summary)  # last: a folder that holds it holds a whole run
    return summary
