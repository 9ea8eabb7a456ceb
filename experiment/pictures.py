"""The pictures of a run and of a comparison: sheets of images with named rows and columns, and plots."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.dataset import white
from data.files import write_whole
from data.images import grid
from experiment.tables import named

SEED = 20_181_002  # of the draws that are shown: the same for every run
STEPS = 10  # along a traversal, and of an interpolation with its two ends
REACH = 2.5  # standard deviations of the prior to either side in a traversal
SCATTERED = 5000  # posterior means in latents.png at most
MARKERS = "osDv^P*X<>"


def draw_pictures(out: Path, model, data) -> None:
    """reconstructions.png, samples.png, interpolation.png, traversals.png and latents.png of a trained model.

    `data` is the Dataset whose test images are shown, with the names of their classes if it knows them.
    """
    rng, count = np.random.default_rng(SEED), min(across(data.shape, 10), len(data.test))
    mean, std = model.encode(data.test[:SCATTERED])
    images, names = shown(model, data, count)
    at_mean, draws = model.decode(mean[:count]), rng.standard_normal(mean.shape)
    sampled = model.decode((mean + std * draws)[:count])
    rows = [("original", images), ("at the mean", at_mean), ("a sample", sampled)]
    save(out / "reconstructions.png", sheet(rows, names))

    spread = np.linspace(0, len(mean) - 1, 5 * count).astype(int)
    prior = rng.standard_normal((5 * count, mean.shape[1]))
    samples = {"prior p(z)": prior, "aggregate\nposterior q(z)": mean[spread] + std[spread] * prior}
    rows = [(name, row) for name, z in samples.items() for row in np.split(model.decode(z), 5)]
    save(out / "samples.png", sheet(rows))
    save(out / "interpolation.png", interpolations(model, images, mean, names))
    save(out / "traversals.png", traversals(model, mean))
    draw_latents(out / "latents.png", mean, data)


def across(shape: tuple[int, int, int], most: int) -> int:
    """How many images of that shape stand side by side so that a page shows them at their own size."""
    return max(4, min(most, 1000 // shape[1]))


def shown(model, data, count: int) -> tuple[np.ndarray, list[str]]:
    """The first test images (N, H, W, C) as the model sees them, in [0, 1], and their classes, empty if not known."""
    pixels = model.pixels(data.test[:count])
    classes = [data.classes[label] for label in data.labels[1][:count]] if data.labels else [""] * count
    return pixels.reshape(-1, *model.shape) / white(pixels), classes


def interpolations(model, images: np.ndarray, mean: np.ndarray, names: list[str]) -> Image.Image:
    """Pairs of images, and between them what lies between their means."""
    share = np.linspace(0.0, 1.0, across(model.shape, STEPS) - 2)
    rows = []
    for a in range(0, len(images), 2):
        b = (a + 1) % len(images)
        between = model.decode(mean[a] + share[:, None] * (mean[b] - mean[a]))
        rows.append((f"{names[a]} → {names[b]}".strip(" →"), np.concatenate([images[[a]], between, images[[b]]])))
    return sheet(rows, ["original", *(f"{s:.0%}" for s in share), "original"])


def traversals(model, means: np.ndarray) -> Image.Image:
    """The first mean with one latent at a time from −REACH to REACH: the ten whose means vary most, a row each."""
    variances, reach = means.var(axis=0), np.linspace(-REACH, REACH, across(model.shape, STEPS))
    rows = []
    for latent in np.argsort(-variances)[:10]:
        z = means[:1].repeat(len(reach), axis=0)
        z[:, latent] = reach
        rows.append((f"latent {latent}\nvariance {variances[latent]:.2f}", model.decode(z)))
    return sheet(rows, [f"{r:.1f}".replace("-", "−") for r in reach])


def draw_comparison(out: Path, models: dict, data) -> None:
    """reconstructions.png and generations.png: the same test images and the same draws from the prior, a row a model.

    `models` are trained models by name. Where two differ in their latents the draws agree in those that both have.
    """
    count = min(across(data.shape, 10), len(data.test))
    images, names = shown(next(iter(models.values())), data, count)
    latents = max(model.network.latents for model in models.values())
    draws = np.random.default_rng(SEED).standard_normal((latents, count)).T  # latent by latent
    rows = [(name, model.reconstruct(data.test[:count])) for name, model in models.items()]
    save(out / "reconstructions.png", sheet([("original", images), *rows], names))
    rows = [(name, model.decode(draws[:, : model.network.latents])) for name, model in models.items()]
    save(out / "generations.png", sheet([("test images", images), *rows]))


def sheet(rows: Sequence[tuple[str, np.ndarray]], columns: Sequence[str] = ()) -> Image.Image:
    """Rows of as many images each, (N, H, W, C) in [0, 1], the rows' names to the left and the columns' above.

    Small images are enlarged by a whole number, so that every pixel stays a square. Names may have several lines.
    """
    import matplotlib  # for its font, which has every symbol of the names

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 13)
    count, *shape = rows[0][1].shape
    scale, pad = max(1, min(96 // max(shape[:2]), 1000 // (count * shape[1]))), 3
    pixels = np.concatenate([images.reshape(count, -1) for _, images in rows])
    body = grid(pixels, tuple(shape), count, pad, scale)
    tall, wide = shape[0] * scale + pad, shape[1] * scale + pad
    left = 10 + max(int(font.getlength(line)) for name, _ in rows for line in name.split("\n"))
    top = 20 if any(columns) else 0
    canvas = Image.new(body.mode, (left + body.width, top + body.height), "white")
    canvas.paste(body, (left, top))
    draw = ImageDraw.Draw(canvas)
    for j, name in enumerate(columns):
        while font.getlength(name) > wide:
            name = name[:-2] + "…"
        draw.text((left + (j + 0.5) * wide, top - 2), name, "black", font, "ms")
    for i, (name, _) in enumerate(rows):
        draw.multiline_text((left - 5, top + (i + 0.5) * tall), name, "black", font, "rm", align="right")
    return canvas


def save(path: Path, picture: Image.Image) -> None:
    """Writes a picture, whole or not at all."""
    write_whole(path, lambda file: picture.save(file, "PNG", optimize=True))


def plot(width: float, height: float, panels: int = 1):
    """An empty figure in inches, and its axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for a in axes:
        a.grid(alpha=0.3)
    return figure, axes


def save_plot(path: Path, figure) -> None:
    """Writes a figure, whole or not at all."""
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=100))


def principal_plane(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means along their two leading principal directions, and each one's share of the variance.

    (N, Z) -> (N, 2), (2,)
    """
    padded = np.pad(means - means.mean(axis=0), ((0, 0), (0, 1)))  # one latent has a plane, too
    scores, values, _ = np.linalg.svd(padded, full_matrices=False)
    return scores[:, :2] * values[:2], values[:2] ** 2 / max(float(np.sum(values**2)), 1e-12)


def draw_latents(path: Path, means: np.ndarray, data) -> None:
    """latents.png: the posterior means of the test images in their principal plane, coloured by class if known."""
    (plane, share), (figure, (axes,)) = principal_plane(means), plot(7.5, 6)
    labels = data.labels[1][: len(means)] if data.labels else np.zeros(len(means), int)
    kinds = np.unique(labels)
    for i, kind in enumerate(kinds):
        style = {"color": f"C{i % 10}", "marker": MARKERS[i // 10 % 10], "linestyle": "none", "alpha": 0.6}
        name = data.classes[kind] if data.labels else None
        axes.plot(*plane[labels == kind].T, **style, markersize=4, markeredgewidth=0, label=name)
    if data.labels and len(kinds) <= 40:
        axes.legend(fontsize=9, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(kinds) // 21)
    axes.set_xlabel(f"leading principal direction ({share[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal direction ({share[1]:.0%})")
    axes.set_title(f"means of q(z|x) of {len(means)} test images", fontsize=11)
    save_plot(path, figure)


def draw_curves(path: Path, history: list[dict], epochs: list[dict], kappa: float | None) -> None:
    """curves.png: the rate, the distortion and, under a constraint, its moving average and λ, against the step.

    Pale: each of the `history`'s reports on training batches. Dark: their mean over an epoch, at its middle. Dashed:
    test images at the end of an epoch.
    """
    panels = {"rate": "rate [nats]", "distortion": "distortion [squared error per image]"}
    panels |= {"elbo": "ELBO [nats]"} if kappa is None else {"constraint_ma": "constraint C, averaged", "lambda": "λ"}
    figure, axes = plot(3.2 * len(panels), 3.2, len(panels))
    ends, mark = [row["step"] for row in epochs], "." if len(epochs) < 10 else ""
    middles = [(a + b) / 2 for a, b in zip([0, *ends], ends, strict=False)]
    for ax, (key, title) in zip(axes, panels.items(), strict=True):
        noisy = key not in ("constraint_ma", "lambda")
        ax.plot([r["step"] for r in history], [r[key] for r in history], "C0", alpha=0.3 if noisy else 1)
        means, tests = ([row.get(name) for row in epochs] for name in (key, f"test_{key}"))
        if noisy:
            ax.plot(middles, means, "C0", marker=mark, label="training")
        if None not in tests:
            ax.plot(ends, tests, "C1--", marker=mark, label="test")
        if key == "distortion" and kappa is not None:
            ax.axhline(kappa**2, color="black", linestyle=":", label=f"κ² = {kappa**2:.4g}")
            ax.set_ylim(0, max(2 * kappa**2, 2 * min(means), 1.1 * (tests[-1] or 0)))
        if noisy:
            ax.legend(fontsize=8)
        elif key == "lambda" and max(means) > 10 * min(means):
            ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_title(title, fontsize=9)
        ax.locator_params(axis="x", nbins=4)
    save_plot(path, figure)


def draw_rate_distortion(path: Path, result: dict) -> None:
    """rate_distortion.png: the rows of a comparison, those of one method joined, the linear bound and the slides."""
    (figure, (axes,)), rates = plot(9, 5.6), []
    axes.plot(*zip(*result["linear_bound"], strict=True), "k-", linewidth=1, label="best linear VAE (Gaussian)")
    methods = list(dict.fromkeys(row["method"] for row in result["rows"]))
    for row in result["rows"]:
        i = methods.index(row["method"])
        style = {"color": f"C{i % 10}", "marker": MARKERS[i % 10], "linestyle": "none", "markersize": 7}
        rate, distortion, at_mean = (row["figures"][k] for k in ("rate", "distortion", "distortion_at_mean"))
        errors = {"xerr": rate["std"], "yerr": distortion["std"]}
        axes.errorbar(rate["mean"], distortion["mean"], **errors, **style, label=named(row), zorder=3)
        rates.append(rate["mean"])
        if row["slides"]:
            axes.plot(*row["slides"], **style | {"marker": "x"}, markeredgewidth=2)
            axes.plot(rate["mean"], at_mean["mean"], **style, fillstyle="none")
            rates.append(row["slides"][0])
    for i, method in enumerate(methods):
        mine = [row["figures"] for row in result["rows"] if row["method"] == method]
        curve = ([figures[k]["mean"] for figures in mine] for k in ("rate", "distortion"))
        axes.plot(*curve, f"C{i % 10}--", linewidth=1)
    if any(row["slides"] for row in result["rows"]):
        axes.plot([], [], "kx", label="slides: (rate, error at the mean),\nnot a rate–distortion pair")
        axes.plot([], [], "ko", fillstyle="none", label="ours by that definition")
    axes.set(xlabel="rate [nats]", ylabel="distortion [squared error per image, z sampled]")
    axes.set(xlim=(-0.03 * max(rates), 1.15 * max(rates)), ylim=(0, 1.12 * result["mean_image"]["distortion"]))
    axes.set_title(f"{result['data']}: rate and distortion on the test set", fontsize=11)
    axes.legend(fontsize=8)
    save_plot(path, figure)
