"""One run: images as the network reads them, the network and its first state, and the training."""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import groupby

import numpy as np
from tqdm import tqdm

from data.dataset import DataError, white
from experiment import checkpoint
from experiment.files import write_metrics
from experiment.signals import Stopped, interruptible, noted
from ref import linear, vae
from ref.mlp import size
from ref.networks import plain, principal
from ref.objectives import METHODS, initial_multiplier
from ref.parts import gather
from ref.train import Plan, initial_state, initial_theta, make_step, train

# What becomes of an epoch's reports: their values, and the steps of each.
COMBINED = {
    "last": lambda values, steps: values[-1],
    "sum": lambda values, steps: sum(values),
    "mean": lambda values, steps: sum(v * n for v, n in zip(values, steps, strict=True)) / sum(steps),
}


def progress(what: str) -> Callable:
    """A bar on the terminal for an iterable, gone when it has ended."""
    return partial(tqdm, desc=what, unit="batch", disable=None, leave=False)


def reader(backend, pixels: np.ndarray, dynamic: bool):
    """read(rows, noise): those images as floats in [0, 1], binarized anew with `dynamic`.   (B,) -> (B, D)"""
    xp, images, scale = backend.xp, backend.asarray(pixels), 1 / white(pixels)

    def read(rows, noise):
        x = xp.take(images, rows, axis=0).astype(backend.dtype) * scale
        return (backend.uniform(noise, x.shape) < x).astype(backend.dtype) if dynamic else x

    return read


def network(args: argparse.Namespace, center, whiten=None, color=None) -> vae.Model:
    """The network that the options describe, about a mean image, in principal coordinates or not."""
    layers = {"hidden": args.hidden, "latents": args.latent, "activation": args.activation}
    density = {"likelihood": args.likelihood, "variance": args.variance}
    arrays = {"center": center, "whiten": whiten, "color": color}
    module = plain if whiten is None else principal
    return vae.Model(network=module, **layers, sigmoid_output=args.output == "sigmoid", **density, **arrays)


def build(args: argparse.Namespace, backend, data, read, trained=None):
    """The network, its constants from the training images, and the state before the first step.

    A `trained` model, on the host, gives its network, θ and λ instead.
    """
    noise, constrained = backend.noise(args.seed), METHODS[args.method].constrained
    lam = initial_multiplier(args.kappa) if constrained else None
    if trained:
        arrays = {name: backend.asarray(array) for name, array in constants(trained.network).items()}
        model = trained.network._replace(likelihood=args.likelihood, variance=args.variance, **arrays)
        theta = backend.xp.array(backend.asarray(trained.theta))
        lam = lam and (trained.history[-1]["lambda"] or lam)
    elif in_coordinates(args):
        model, theta, level = linear_start(args, backend, data, read, noise)
        lam = lam and 1 / (2 * level)
    else:
        mean = mean_image(data)
        bounded = np.clip(mean, 1e-3, 1 - 1e-3)
        bias = np.log(bounded / (1 - bounded)) if args.output == "sigmoid" else mean
        model = network(args, backend.asarray(mean))
        theta = initial_theta(backend, model, noise, backend.asarray(bias))
    return model, initial_state(backend, theta, noise, len(data.train), lam)


def mean_image(data) -> np.ndarray:
    """The mean of the training images.   -> (D,) floats"""
    return data.train.mean(axis=0, dtype=np.float64) / white(data.train)


def linear_start(args: argparse.Namespace, backend, data, read, noise):
    """The network in principal coordinates, θ at the best linear VAE, and that VAE's level."""
    model = network(args, backend.asarray(mean_image(data)))
    target = args.kappa**2 if METHODS[args.method].constrained else None
    images = (backend, read, len(data.train), model.center, args.latent, noise)
    shown = progress("principal components")
    directions, variances, total = interruptible(linear.principal_components, *images, progress=shown)
    level = linear.level_for(variances, total, target, args.variance * (args.beta or 1.0))
    model = linear.in_principal_coordinates(backend.xp, model, directions, variances)
    theta = initial_theta(backend, model, noise, 0.0)
    linear.start_linear(backend.xp, model, theta, variances, level)
    return model, theta, level


def in_coordinates(args: argparse.Namespace) -> bool:
    """Whether the network lives in principal coordinates."""
    return args.output == "linear" and bool(args.hidden)


def constants(model: vae.Model) -> dict:
    """The arrays of a network that are computed from the images, and not trained."""
    return {name: getattr(model, name) for name in ("center", "whiten", "color") if getattr(model, name) is not None}


def trained_network(saved, backend, pixels: int):
    """The network and θ in a checkpoint, an options.Saved. Raises DataError for those of another network."""
    args, path, arrays = saved.args, saved.path, saved.arrays

    def unwritten(*shape: int) -> np.ndarray:
        """An array that takes no memory, for the checkpoint's to be compared with."""
        return np.broadcast_to(np.zeros((), backend.dtype), shape)

    coordinates = (unwritten(pixels, args.latent), unwritten(args.latent, pixels)) if in_coordinates(args) else ()
    described = network(args, unwritten(pixels), *coordinates)
    expected = constants(described) | {"theta": unwritten(sum(map(size, described.network.shapes(described))))}
    checkpoint.check(path, {name: arrays[name] for name in expected if name in arrays}, expected)
    model = described._replace(**{name: backend.asarray(arrays[name]) for name in constants(described)})
    return model, backend.xp.array(backend.asarray(arrays["theta"]))  # a copy: what was read cannot be written


def restore(saved, args: argparse.Namespace, backend, images: int, pixels: int):
    """The network, the state and the history in a checkpoint, for a run that goes on by `args`.

    Raises DataError for those of another run. The noise of another backend means nothing here: a new stream takes over.
    """
    constrained, path = METHODS[args.method].constrained is not None, saved.path
    model, theta = trained_network(saved, backend, pixels)
    history = checkpoint.reports(path, saved.arrays, constrained)
    arrays = {name: array for name, array in saved.arrays.items() if name != "history"}
    state = initial_state(backend, theta, backend.noise(args.seed), images, 1.0 if constrained else None)
    if saved.args.backend != args.backend:
        arrays["noise"] = backend.to_host(backend.noise(args.seed + int(arrays["step"])))
    checkpoint.check(path, arrays, {n: backend.to_host(array) for n, array in (constants(model) | state).items()})
    if not np.array_equal(np.sort(arrays["order"]), np.arange(images)) or (arrays["v"] < 0).any():
        raise DataError(f"{path}: its order or its second moments are not those of a run")
    for name, array in state.items():
        array[...] = backend.xp.asarray(arrays[name])  # in its own precision: λ is in float64
    return model, state, history


def epoch_rows(history: list[dict], steps_per_epoch: int) -> list[dict]:
    """The rows of metrics.csv, one for each complete epoch: means over its steps, sums, and where things stand."""
    rows = []
    for _, group in groupby(history, key=lambda report: report["epoch"]):
        reports = [*group]
        if reports[-1]["step"] % steps_per_epoch == 0:
            of = {name: [report.get(name) for report in reports] for name in checkpoint.COLUMNS}
            rows.append({name: COMBINED[how](of[name], of["steps"]) for name, how in checkpoint.COLUMNS.items()})
    return rows


def save(model, state: dict, config: dict) -> None:
    """Writes checkpoint.npz."""
    arrays = {name: model.backend.to_host(array) for name, array in (constants(model.network) | state).items()}
    checkpoint.write(model.args.out / "checkpoint.npz", arrays, model.history, config)


def proceed(model, state: dict, read, watch: Callable[[], dict], config: dict) -> list[dict]:
    """Trains `model` from `state` to the end of its options. Returns the epochs' rows.

    Each report is appended to its history. The last report of an epoch also holds what watch() returns. metrics.csv is
    written after each epoch and checkpoint.npz when it is due, both only with args.out. A signal ends the training at
    the next report: Stopped is raised once that is saved.
    """
    args, backend, history = model.args, model.backend, model.history
    ranks, method, images = backend.ranks, METHODS[args.method], int(state["order"].shape[0])
    named = {name: value for name, value in vars(args).items() if name in Plan._fields}
    own = {name: getattr(args, name) for name in method.options}
    plan = Plan(**named, steps_per_epoch=images // args.batch_size, options=own)
    step, writes = make_step(backend, model.network, method, plan, read, state), ranks.rank == 0
    steps = plan.epochs * plan.steps_per_epoch
    often = 10 * -(-args.samples // 10)  # reports an epoch: a signal is heard after a second, also where K is large
    bar = tqdm(total=steps, initial=int(state["step"]), desc=args.method, unit="step", disable=None)
    with bar, noted() as signals:
        for report in train(backend, step, state, plan, often):
            whole, last = report["step"] % plan.steps_per_epoch == 0, report["step"] == steps
            history.append(report | (watch() if whole and writes else {}))
            bar.update(report["steps"])
            bar.set_postfix(postfix(history))
            stopped = ranks.largest(max(signals, default=0))
            if whole and writes and args.out:
                write_metrics(args.out / "metrics.csv", epoch_rows(history, plan.steps_per_epoch), last)
            due = whole and (report["epoch"] % args.checkpoint_every == 0 or last)
            if (due or stopped) and args.out:
                gather(ranks, state)
                if writes:
                    save(model, state, config)
            if stopped:
                break
        if stopped := ranks.largest(max(signals, default=0)):  # one may have come with the last checkpoint
            ranks.wait()
            raise Stopped(stopped)
    return epoch_rows(history, plan.steps_per_epoch)


def postfix(history: list[dict]) -> dict[str, str]:
    """What the bar says: the last report, and the last figures on test images."""
    watched = next((r for r in reversed(history) if r.get("test_rate") is not None), {})
    live = {name: history[-1][key] for name, key in (("rate", "rate"), ("err", "distortion"), ("λ", "lambda"))}
    live |= {"test rate": watched.get("test_rate"), "test err": watched.get("test_distortion")}
    return {name: f"{value:.2f}" for name, value in live.items() if value is not None}
