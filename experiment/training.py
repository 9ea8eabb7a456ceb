"""One run: images as the network reads them, the network and its first state, and the training."""

import argparse
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.dataset import DataError, white
from experiment import checkpoint
from experiment.files import write_metrics
from experiment.signals import Stopped, noted
from ref import linear, vae
from ref.mlp import size
from ref.objectives import METHODS, initial_multiplier
from ref.train import Plan, initial_state, initial_theta, make_step, train

MEANS = ("loss", "rate", "distortion", "elbo")


def reader(backend, pixels: np.ndarray, dynamic: bool):
    """read(rows, noise): those images as floats in [0, 1], binarized anew with `dynamic`.   (B,) -> (B, D)"""
    xp, images, scale = backend.xp, backend.asarray(pixels), 1 / white(pixels)

    def read(rows, noise):
        x = xp.take(images, rows, axis=0).astype(backend.dtype) * scale
        return (backend.uniform(noise, x.shape) < x).astype(backend.dtype) if dynamic else x

    return read


def network(args: argparse.Namespace, center, whiten=None, color=None) -> vae.Model:
    """The network that the options describe, about a mean image, in principal coordinates or not."""
    return vae.Model(
        hidden=args.hidden,
        latents=args.latent,
        activation=args.activation,
        sigmoid_output=args.output == "sigmoid",
        likelihood=args.likelihood,
        variance=args.variance or 0.5,
        center=center,
        whiten=whiten,
        color=color,
    )


def build(args: argparse.Namespace, backend, data, read):
    """The network, its constants from the training images, and the state before the first step."""
    method, xp = METHODS[args.method], backend.xp
    mean = data.train.mean(axis=0, dtype=np.float64) / white(data.train)
    model = network(args, backend.asarray(mean))
    noise, lam = backend.noise(args.seed), initial_multiplier(args.kappa) if method.constraint else None
    if not in_coordinates(args):
        bounded = np.clip(mean, 1e-3, 1 - 1e-3)
        bias = np.log(bounded / (1 - bounded)) if model.sigmoid_output else mean
        theta = initial_theta(backend, model, noise, backend.asarray(bias))
    else:
        target = args.kappa**2 if method.constraint else None
        components = linear.principal_components(backend, read, len(data.train), model.center, args.latent, noise)
        level = linear.level_for(*components[1:], target, model.variance * (args.beta or 1))
        model = linear.in_principal_coordinates(xp, model, *components[:2])
        theta = initial_theta(backend, model, noise, 0.0)
        linear.start_linear(xp, model, theta, components[1], level)
        lam = lam and 1 / (2 * level)
    return model, initial_state(backend, theta, noise, len(data.train), lam)


def in_coordinates(args: argparse.Namespace) -> bool:
    """Whether the network lives in principal coordinates."""
    return args.output == "linear" and bool(args.hidden)


def constants(model: vae.Model) -> dict:
    """The arrays of a network that are computed from the images, and not trained."""
    return {name: getattr(model, name) for name in ("center", "whiten", "color") if getattr(model, name) is not None}


def trained_network(args: argparse.Namespace, backend, pixels: int, path: Path, arrays: dict):
    """The network and θ in a checkpoint's arrays, and nothing else. Raises DataError for those of another network."""
    m, dtype = args.latent, backend.dtype
    shapes = [(pixels,), *([(pixels, m), (m, pixels)] if in_coordinates(args) else [])]
    model = network(args, *(np.empty(shape, dtype) for shape in shapes))
    parameters = sum(map(size, vae.param_shapes(model)))
    if "theta" not in arrays or arrays["theta"].shape != (parameters,):  # before so many are made
        raise DataError(f"{path}: expected a theta of {parameters} parameters")
    expected = {**constants(model), "theta": np.empty(parameters, dtype)}
    checkpoint.check(path, {name: arrays[name] for name in expected if name in arrays}, expected)
    model = network(args, *(backend.asarray(arrays[name]) for name in constants(model)))
    theta = backend.xp.empty(parameters, dtype)  # a copy: what was read cannot be written
    theta[...] = backend.asarray(arrays["theta"])
    return model, theta


def restore(args: argparse.Namespace, backend, images: int, pixels: int, path: Path, arrays: dict, moved: bool):
    """The network, the state and the history in a checkpoint's arrays. Raises DataError for those of another run.

    The noise of a checkpoint that has `moved` from another backend means nothing here: a new stream takes over.
    """
    constraint, saved = METHODS[args.method].constraint, dict(arrays)
    history = saved.pop("history", np.empty(0))
    model, theta = trained_network(args, backend, pixels, path, saved)
    state = initial_state(backend, theta, backend.noise(args.seed), images, 1.0 if constraint else None)
    expected = {name: backend.to_host(array) for name, array in (constants(model) | state).items()}
    if moved:
        saved["noise"] = expected["noise"]
    checkpoint.check(path, saved, expected)
    steps_per_epoch, step = images // args.batch_size, int(saved["step"])
    if not np.array_equal(np.sort(saved["order"]), np.arange(images)) or (saved["v"] < 0).any():
        raise DataError(f"{path}: its order or its second moments are not those of a run")
    if not 0 <= step <= args.epochs * steps_per_epoch:
        raise DataError(f"{path}: step {step} is not one of the {args.epochs * steps_per_epoch} of its run")
    reports = checkpoint.reports(path, history, step, steps_per_epoch, constraint is not None)
    for name, array in state.items():
        array[...] = backend.xp.asarray(saved[name])  # in its own precision: λ is in float64
    if moved:
        state["noise"][...] = backend.noise(args.seed + step)
    return model, state, reports


def epoch_row(reports: list[dict]) -> dict:
    """One row of metrics.csv: the means of an epoch's reports, and where λ and its moving average stand at the end."""
    steps = sum(r["steps"] for r in reports)
    means = {k: sum(r[k] * r["steps"] for r in reports) / steps for k in MEANS}
    return {**reports[-1], **means, "seconds": sum(r["seconds"] for r in reports)}


def epoch_rows(history: list[dict], steps_per_epoch: int) -> list[dict]:
    """The rows of the epochs that are complete."""
    epochs = [list(reports) for _, reports in groupby(history, key=lambda report: report["epoch"])]
    return [epoch_row(reports) for reports in epochs if reports[-1]["step"] % steps_per_epoch == 0]


def save(args: argparse.Namespace, backend, model, state: dict, history: list[dict], config: dict) -> None:
    """Writes checkpoint.npz."""
    arrays = {name: backend.to_host(array) for name, array in (constants(model) | state).items()}
    checkpoint.write(args.out / "checkpoint.npz", arrays, history, config)


def fit(args: argparse.Namespace, backend, model, state: dict, read, history: list[dict], config: dict) -> list[dict]:
    """Trains from `state` on; writes metrics.csv after each epoch, and checkpoint.npz. Returns the epochs' rows.

    `history`, the reports so far, grows. A signal ends the training at the next report: Stopped, once that is saved.
    """
    method, images = METHODS[args.method], int(state["order"].shape[0])
    plan = Plan(
        epochs=args.epochs,
        batch_size=args.batch_size,
        steps_per_epoch=images // args.batch_size,
        samples=args.samples,
        lr=args.lr,
        schedule=args.schedule,
        weight_decay=args.weight_decay,
        multiplier=args.multiplier or "relative",
        multiplier_rate=args.multiplier_rate or 0.0,
        options={name: getattr(args, name) for name in method.options},
        adam=args.adam,
    )
    step, writes = make_step(backend, model, method, plan, read, state), backend.ranks.rank == 0
    steps, first = plan.epochs * plan.steps_per_epoch, int(state["step"])
    bar = tqdm(total=steps, initial=first, desc=args.method, unit="step", disable=None)
    with bar, noted() as signals:
        for report in train(backend, step, state, plan):
            history.append(report)
            bar.update(report["steps"])
            live = {"rate": report["rate"], "err": report["distortion"], "λ": report["lambda"]}
            bar.set_postfix({name: f"{value:.2f}" for name, value in live.items() if value is not None})
            whole, stopped = report["step"] % plan.steps_per_epoch == 0, backend.ranks.largest(max(signals, default=0))
            if whole and writes:
                write_metrics(
                    args.out / "metrics.csv", epoch_rows(history, plan.steps_per_epoch), report["step"] == steps
                )
            due = whole and (report["epoch"] % args.checkpoint_every == 0 or report["epoch"] == plan.epochs)
            if (due or stopped) and writes:
                save(args, backend, model, state, history, config)
            if stopped:
                break
        else:
            stopped = backend.ranks.largest(max(signals, default=0))  # one may have come with the last checkpoint
        if stopped:
            backend.ranks.wait()
            raise Stopped(stopped)
    return epoch_rows(history, plan.steps_per_epoch)
