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

    def tiles(pixels, columns: int) -> Image.Image:
        return grid(backend.to_host(pixels), shape, columns)

    count = min(10, images)
    x, mean, log_std = encoded(backend, model, params, read, xp.arange(count), noise)
    sampled = vae.reparameterize(xp, mean, log_std, backend.normal(noise, mean.shape))
    save(out / "reconstructions.png", tiles(xp.concatenate([x, decode(mean), decode(sampled)]), count))

    prior = backend.normal(noise, (100, model.latents))
    _, *posterior = encoded(backend, model, params, read, xp.arange(100) * images // 100, noise)
    aggregate = vae.reparameterize(xp, *posterior, backend.normal(noise, prior.shape))
    drawn = {"prior p(z)": prior, "aggregate posterior q(z)": aggregate}
    save(out / "samples.png", panels({label: tiles(decode(z), 10) for label, z in drawn.items()}))

    save(out / "interpolation.png", tiles(interpolations(backend, decode, x, mean), STEPS + 2))
    _, means, _ = encoded(backend, model, params, read, xp.arange(min(1000, images)), noise)
    save(out / "traversals.png", tiles(decode(traversals(backend, means)), STEPS))


def interpolations(backend, decode, x, mean):
    """Pairs of images, and between them what lies between their means: a row of STEPS + 2 images a pair."""
    share = backend.asarray(np.linspace(0.0, 1.0, STEPS))[:, None]
    rows = []
    for a in range(0, len(x), 2):
        b = (a + 1) % len(x)
        rows += [x[a : a + 1], decode(mean[a] + share * (mean[b] - mean[a])), x[b : b + 1]]
    return backend.xp.concatenate(rows)


def traversals(backend, means):
    """The first mean with one latent at a time from −REACH to REACH: the ten whose means vary most, STEPS rows each."""
    active = backend.to_host(backend.xp.argsort(-backend.xp.var(means, axis=0)))[:10]
    z = backend.xp.repeat(means[:1], len(active) * STEPS, axis=0)
    for i, latent in enumerate(active):
        z[i * STEPS : (i + 1) * STEPS, int(latent)] = backend.asarray(np.linspace(-REACH, REACH, STEPS))
    return z


def encoded(backend, model, params, read, rows, noise):
    """Those images, and the mean and log std of their posteriors."""
    x = read(rows, noise)
    return x, *vae.encode(backend.xp, model, params, x)[:2]


def draw_comparison(out: Path, backend, model, thetas: dict, read, images: int, shape: tuple[int, int, int]) -> None:
    """reconstructions.png and generations.png: the same test images and the same prior draws for each of the models."""
    xp, noise = backend.xp, backend.noise(EVALUATION_SEED)
    x = read(xp.arange(min(24, images)), noise)
    prior = backend.normal(noise, (24, model.latents))
    reconstructions, generations = {"ground truth": x}, {"ground truth": x}
    for title, theta in thetas.items():
        params = vae.params_of(model, theta)
        mean, _, _ = vae.encode(xp, model, params, x)
        reconstructions[title] = vae.decode(xp, model, params, mean)[0]
        generations[title] = vae.decode(xp, model, params, prior)[0]
    for name, pictures in (("reconstructions.png", reconstructions), ("generations.png", generations)):
        grids = {title: grid(backend.to_host(pixels), shape, 3) for title, pixels in pictures.items()}
        save(out / name, panels(grids))


def panels(grids: dict[str, Image.Image]) -> Image.Image:
    """Pictures side by side, each below its name."""
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 18)
    pictures, top, gap = list(grids.values()), 28, 14
    size = (sum(p.width + gap for p in pictures) - gap, top + max(p.height for p in pictures))
    sheet, left = Image.new(pictures[0].mode, size, "white"), 0
    draw = ImageDraw.Draw(sheet)
    for label, picture in grids.items():
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
    colors = {r["title"]: f"C{i}" for i, r in enumerate(result["methods"].values())}
    for style, curve in zip(("--", ":"), result["sweeps"].values(), strict=False):
        rate, distortion = ([p["figures"][name]["mean"] for p in curve["points"]] for name in ("rate", "distortion"))
        rates += rate
        axes.plot(rate, distortion, style, marker=".", color=colors[curve["title"]], label=f"{curve['title']}, swept")
    for i, r in enumerate(result["methods"].values()):
        rate, distortion, at_mean = (r["figures"][name] for name in ("rate", "distortion", "distortion_at_mean"))
        rates.append(rate["mean"])
        errors = {"xerr": rate["std"], "yerr": distortion["std"]}
        style = {"color": colors[r["title"]], "marker": markers[i % len(markers)], "linestyle": "none"}
        axes.errorbar(rate["mean"], distortion["mean"], **errors, **style, label=r["title"], markersize=8, zorder=3)
        if r["slides"]:
            rates.append(r["slides"][0])
            theirs = {"color": colors[r["title"]], "marker": "x", "linestyle": "none"}
            axes.plot(*r["slides"], **theirs, markersize=9, markeredgewidth=2)
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
