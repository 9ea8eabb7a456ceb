"""The pictures of a run and of a comparison."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from data.files import write_whole
from data.images import grid
from experiment.results import EVALUATION_SEED
from ref import vae

STEPS = 10  # along an interpolation and a traversal
REACH = 2.5  # standard deviations of the prior to either side in a traversal


def draw_pictures(out: Path, backend, model, theta, read, images: int, shape: tuple[int, int, int]) -> None:
    """reconstructions.png, samples.png, interpolation.png and traversals.png of one run."""
    xp, params, noise = backend.xp, vae.params_of(model, theta), backend.noise(EVALUATION_SEED)

    def decode(z):
        return vae.decode(xp, model, params, z)[0]

    count = min(10, images)
    x, mean, log_std = encoded(backend, model, params, read, xp.arange(count), noise)
    eps = backend.normal(noise, mean.shape)
    at_mean, sampled = decode(xp.stack([mean, vae.reparameterize(xp, mean, log_std, eps)]))
    save(out / "reconstructions.png", grid(backend.to_host(xp.concatenate([x, at_mean, sampled])), shape, count))

    prior = decode(backend.normal(noise, (100, model.latents)))
    spaced = xp.arange(100) * images // 100
    _, mean_, log_std_ = encoded(backend, model, params, read, spaced, noise)
    aggregate = decode(vae.reparameterize(xp, mean_, log_std_, backend.normal(noise, mean_.shape)))
    both = {"prior p(z)": prior, "aggregate posterior q(z)": aggregate}
    save(out / "samples.png", panels({label: backend.to_host(x) for label, x in both.items()}, shape, 10))

    pairs = [(i, (i + 1) % count) for i in range(0, count, 2)]
    share = backend.asarray(np.linspace(0.0, 1.0, STEPS))[:, None]
    rows = [
        xp.concatenate([x[a : a + 1], decode(mean[a] + share * (mean[b] - mean[a])), x[b : b + 1]]) for a, b in pairs
    ]
    save(out / "interpolation.png", grid(backend.to_host(xp.concatenate(rows)), shape, STEPS + 2))

    _, many, _ = encoded(backend, model, params, read, xp.arange(min(1000, images)), noise)
    active = backend.to_host(xp.argsort(-xp.var(many, axis=0)))[:10]
    swings = backend.asarray(np.linspace(-REACH, REACH, STEPS))
    start = xp.repeat(mean[:1], len(active) * STEPS, axis=0)
    for i, latent in enumerate(active):
        start[i * STEPS : (i + 1) * STEPS, int(latent)] = swings
    save(out / "traversals.png", grid(backend.to_host(decode(start)), shape, STEPS))


def encoded(backend, model, params, read, rows, noise):
    """Those images, and the mean and log std of their posteriors."""
    x = read(rows, noise)
    return x, *vae.encode(backend.xp, model, params, x)[:2]


def draw_comparison(out: Path, backend, model, thetas: dict, read, images: int, shape: tuple[int, int, int]) -> None:
    """reconstructions.png and generations.png: the same test images and the same prior draws for each of the models."""
    xp, noise = backend.xp, backend.noise(EVALUATION_SEED)
    x = read(xp.arange(min(24, images)), noise)
    prior = backend.normal(noise, (24, model.latents))
    truth = {"ground truth": backend.to_host(x)}
    reconstructions, generations = dict(truth), dict(truth)
    for title, theta in thetas.items():
        params = vae.params_of(model, theta)
        mean, _, _ = vae.encode(xp, model, params, x)
        reconstructions[title] = backend.to_host(vae.decode(xp, model, params, mean)[0])
        generations[title] = backend.to_host(vae.decode(xp, model, params, prior)[0])
    save(out / "reconstructions.png", panels(reconstructions, shape, 3))
    save(out / "generations.png", panels(generations, shape, 3))


def panels(pixels: dict[str, np.ndarray], shape: tuple[int, int, int], columns: int) -> Image.Image:
    """A grid for each entry, side by side, its name above it."""
    grids = [grid(images, shape, columns) for images in pixels.values()]
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 18)
    top, gap = 28, 14
    sheet = Image.new(
        grids[0].mode, (sum(g.width + gap for g in grids) - gap, top + max(g.height for g in grids)), "white"
    )
    draw, left = ImageDraw.Draw(sheet), 0
    for label, picture in zip(pixels, grids, strict=True):
        draw.text((left + picture.width // 2, 4), label, "black", font, anchor="ma")
        sheet.paste(picture, (left, top))
        left += picture.width + gap
    return sheet


def save(path: Path, picture: Image.Image) -> None:
    write_whole(path, lambda file: picture.save(file, "PNG", optimize=True))


def save_figure(path: Path, figure: Figure) -> None:
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))


def draw_rate_distortion(path: Path, result: dict) -> None:
    """rate_distortion.png: the methods, the sweeps, the linear bound and the slides' points."""
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes, rates, markers = figure.subplots(), [], "osDv^"
    axes.plot(
        *zip(*result["linear_bound"], strict=True), color="black", linewidth=1, label="best linear VAE (Gaussian)"
    )
    for style, curve in zip(("--", ":"), result["sweeps"].values(), strict=False):
        rate, distortion = ([p["figures"][name]["mean"] for p in curve["points"]] for name in ("rate", "distortion"))
        rates += rate
        axes.plot(rate, distortion, style, marker=".", color="grey", label=f"{curve['title']}, swept")
    for i, r in enumerate(result["methods"].values()):
        rate, distortion, at_mean = (r["figures"][name] for name in ("rate", "distortion", "distortion_at_mean"))
        rates.append(rate["mean"])
        errors = {"xerr": rate["std"], "yerr": distortion["std"]}
        style = {"color": f"C{i}", "marker": markers[i % len(markers)], "linestyle": "none"}
        axes.errorbar(rate["mean"], distortion["mean"], **errors, **style, label=r["title"], markersize=8, zorder=3)
        if r["slides"]:
            rates.append(r["slides"][0])
            axes.plot(*r["slides"], marker="x", markersize=9, markeredgewidth=2, color=f"C{i}", linestyle="none")
            axes.plot(rate["mean"], at_mean["mean"], **style, markersize=8, fillstyle="none")
    if any(r["slides"] for r in result["methods"].values()):
        style = {"color": "black", "linestyle": "none"}
        axes.plot([], [], **style, marker="x", label="slides: (rate, error at the mean),\nnot a rate–distortion pair")
        axes.plot([], [], **style, marker="o", fillstyle="none", label="ours by that definition")
    axes.set(xlabel="rate [nats]", ylabel="distortion [squared error per image, z sampled]")
    axes.set(xlim=(-0.03 * max(rates), 1.15 * max(rates)), ylim=(0, 1.12 * result["mean_image"]["distortion"]))
    axes.set_title(f"{result['data']}: rate and distortion on the test set", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    save_figure(path, figure)


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
    save_figure(path, figure)
