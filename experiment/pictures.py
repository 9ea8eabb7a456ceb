"""The pictures of a run."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data.files import write_whole
from data.images import grid
from experiment.results import EVALUATION_SEED
from ref import vae


def draw_pictures(out: Path, backend, model, theta, read, shape: tuple[int, int, int], count: int) -> None:
    """reconstructions.png: originals, decoded at the mean, at a sample. samples.png: decoded draws from the prior."""
    xp, params, noise = backend.xp, vae.params_of(model, theta), backend.noise(EVALUATION_SEED)
    x = read(xp.arange(count), noise)
    mean, log_std, _ = vae.encode(xp, model, params, x)
    eps = backend.normal(noise, mean.shape)
    z = xp.stack([mean, vae.reparameterize(xp, mean, log_std, eps)])
    at_mean, sampled = vae.decode(xp, model, params, z)[0]
    write_png(out / "reconstructions.png", backend.to_host(xp.concatenate([x, at_mean, sampled])), shape, count)
    prior = vae.decode(xp, model, params, backend.normal(noise, (100, model.latents)))[0]
    write_png(out / "samples.png", backend.to_host(prior), shape, 10)


def write_png(path: Path, pixels: np.ndarray, shape: tuple[int, int, int], columns: int) -> None:
    write_whole(path, lambda file: grid(pixels, shape, columns).save(file, "PNG"))


def draw_curves(path: Path, history: list[dict], kappa: float | None) -> None:
    """curves.png: the rate and the distortion against the step and, under a constraint, its moving average and λ."""
    panels = [("rate", "rate [nats]"), ("distortion", "distortion [squared error per image]")]
    if kappa is None:
        panels.append(("elbo", "ELBO [nats]"))
    else:
        panels += [("constraint_ma", "moving average of C [squared error per image]"), ("lambda", "λ")]
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.plot([r["step"] for r in history], [r[key] for r in history])
        axes.set(xlabel="step", title=label)
        axes.title.set_fontsize(10)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        if kappa is not None and key in ("distortion", "constraint_ma"):
            level = kappa**2 if key == "distortion" else 0
            axes.axhline(level, color="black", linestyle=":", label=f"κ² = {level:.4g}" if level else None)
            low = min(r[key] for r in history)
            axes.set_ylim(min(low, level) - 0.1 * kappa**2, max(level + kappa**2, 2 * low))
        if key == "distortion" and kappa is not None:
            axes.legend()
        if key == "lambda":
            axes.set_yscale("log")
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
