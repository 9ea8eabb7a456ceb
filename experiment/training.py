"""One run: images as the network reads them, the network and its first state, and the training."""

import argparse

import numpy as np
from tqdm import tqdm

from data.dataset import white
from experiment.files import write_checkpoint, write_metrics
from ref import linear, vae
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


def build(args: argparse.Namespace, backend, data, read):
    """The network, its constants from the training images, and the state before the first step."""
    method, xp = METHODS[args.method], backend.xp
    mean = data.train.mean(axis=0, dtype=np.float64) / white(data.train)
    model = vae.Model(
        hidden=args.hidden,
        latents=args.latent,
        activation=args.activation,
        sigmoid_output=args.output == "sigmoid",
        likelihood=args.likelihood,
        variance=args.variance or 0.5,
        center=backend.asarray(mean),
    )
    noise, lam = backend.noise(args.seed), initial_multiplier(args.kappa) if method.constraint else None
    if model.sigmoid_output or not model.hidden:
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


def epoch_row(reports: list[dict]) -> dict:
    """One row of metrics.csv: the means of an epoch's reports, and where λ and its moving average stand at the end."""
    steps = sum(r["steps"] for r in reports)
    means = {k: sum(r[k] * r["steps"] for r in reports) / steps for k in MEANS}
    return {**reports[-1], **means, "seconds": sum(r["seconds"] for r in reports)}


def fit(args: argparse.Namespace, backend, model, state: dict, read, config: dict) -> tuple[list[dict], list[dict]]:
    """Trains; writes metrics.csv and checkpoint.npz after each epoch. Returns the epochs' rows and all reports."""
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
    step = make_step(backend, model, method, plan, read, state)
    rows, history, reports = [], [], []
    with tqdm(total=plan.epochs * plan.steps_per_epoch, desc=args.method, unit="step", disable=None) as bar:
        for report in train(backend, step, state, plan):
            reports.append(report)
            bar.update(report["steps"])
            live = {"rate": report["rate"], "err": report["distortion"], "λ": report["lambda"]}
            bar.set_postfix({name: f"{value:.2f}" for name, value in live.items() if value is not None})
            if report["step"] % plan.steps_per_epoch == 0:
                rows.append(epoch_row(reports))
                history, reports = history + reports, []
                write_metrics(args.out / "metrics.csv", rows)
                write_checkpoint(args.out / "checkpoint.npz", backend, state, config)
    return rows, history
