"""The pictures of a run and of a comparison: sheets of images with named rows and columns, and plots."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.dataset import floats
from data.files import reason, write_whole
from experiment.choices import spread
from experiment.record import UsageError

SEED = 20_181_002  # of the draws that are shown: the same for every run
STEPS = 10  # along a traversal
REACH = 2.5  # standard deviations of the prior to either side in a traversal
SCATTERED = 5000  # posterior means in latents.png at most
MARKERS = "osDv^P*X<>"


def draw_pictures(out: Path, model, data, rows=()) -> None:
    """reconstructions.png, samples.png, traversals.png and latents.png of a trained model.

    `data` is the Dataset whose test images are shown, evenly spread, with the names of their classes if it knows them.
    """
    rng, count = np.random.default_rng(SEED), across(data.shape, 10)
    images, names = shown(data, count)
    mean, std = model.encode(images)
    sampled = model.decode(mean + std * rng.standard_normal(mean.shape))
    rows = [("original", seen(model, images)), ("at the mean", model.decode(mean)), ("a sample", sampled)]
    save(out / "reconstructions.png", sheet(rows, names))

    means, stds = model.encode(spread(data.test, SCATTERED))
    draws = rng.standard_normal((5 * count, means.shape[1]))
    drawn = rng.permutation(np.linspace(0, len(means) - 1, len(draws)).astype(int))  # whatever order a file has
    samples = {"prior p(z)": draws, "aggregate\nposterior q(z)": means[drawn] + stds[drawn] * draws}
    rows = [(name, row) for name, z in samples.items() for row in np.split(model.decode(z), 5)]
    save(out / "samples.png", sheet(rows))
    save(out / "traversals.png", traversals(model, means))
    draw_latents(out / "latents.png", means, data)


def across(shape: tuple[int, int, int], most: int) -> int:
    """How many images of that shape stand side by side so that a page shows them at their own size."""
    return max(4, min(most, 1000 // shape[1]))


def shown(data, count: int) -> tuple[np.ndarray, list[str]]:
    """`count` test images (N, D), evenly spread, and the names of their classes, empty if not known."""
    images = spread(data.test, count)
    return images, [data.classes[i] for i in spread(data.labels[1], count)] if data.labels else [""] * len(images)


def seen(model, images: np.ndarray) -> np.ndarray:
    """Images as the model sees them.   (N, D) -> (N, H, W, C) in [0, 1]"""
    return floats(model.pixels(images)).reshape(-1, *model.shape)


def traversals(model, means: np.ndarray) -> Image.Image:
    """The first mean with one latent at a time from −REACH to REACH: the ten whose means vary most, a row each."""
    variances, reach = means.var(axis=0), np.linspace(-REACH, REACH, across(model.shape, STEPS))
    rows = []
    for latent in np.argsort(-variances)[:10]:
        z = np.tile(means[0], (len(reach), 1))
        z[:, latent] = reach
        rows.append((f"latent {latent}\nvariance {variances[latent]:.2f}", model.decode(z)))
    return sheet(rows, [f"{r:.1f}".replace("-", "−") for r in reach])


def draw_comparison(out: Path, models: dict, data) -> None:
    """reconstructions.png and generations.png: the same test images and the same draws from the prior, a row a model.

    `models` are trained models by name. Where two differ in their latents the draws agree in those that both have.
    """
    images, names = shown(data, across(data.shape, 10))
    originals = seen(next(iter(models.values())), images)
    latents = max(model.network.latents for model in models.values())
    draws = np.random.default_rng(SEED).standard_normal((latents, len(images))).T  # latent by latent
    rows = [(name, model.reconstruct(images)) for name, model in models.items()]
    save(out / "reconstructions.png", sheet([("original", originals), *rows], names))
    rows = [(name, model.decode(draws[:, : model.network.latents])) for name, model in models.items()]
    save(out / "generations.png", sheet([("test images", originals), *rows]))


def picture(pixels: np.ndarray) -> Image.Image:
    """Pixels (H, W, C), clipped to [0, 1], as a picture, grey if C = 1."""
    array = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def sheet(rows: Sequence[tuple[str, np.ndarray]], columns: Sequence[str] = ()) -> Image.Image:
    """Rows of as many images each, (N, H, W, C) in [0, 1], the rows' names to the left and the columns' above.

    Small images are enlarged by a whole number, so that every pixel stays a square. Names may have several lines; those
    of columns are broken into lines as wide as an image.
    """
    import matplotlib  # for its font, which has every symbol of the names

    path = str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    font, small = ImageFont.truetype(path, 13), ImageFont.truetype(path, 10)
    count, height, width, channels = rows[0][1].shape
    scale, pad = max(1, min(96 // max(height, width), 1000 // (count * width))), 3
    tiles = np.stack([images for _, images in rows]).repeat(scale, axis=2).repeat(scale, axis=3)  # (R, N, H, W, C)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, pad), (0, pad), (0, 0)), constant_values=1)
    tall, wide = tiles.shape[2:4]
    body = picture(tiles.swapaxes(1, 2).reshape(len(rows) * tall, count * wide, channels))
    columns = [textwrap.fill(name.replace("_", " "), max(1, wide // 6)) for name in columns]
    left = 10 + max(int(font.getlength(line)) for name, _ in rows for line in name.split("\n"))
    top = 5 + 13 * max((1 + name.count("\n") for name in columns if name), default=0)
    canvas = Image.new(body.mode, (left + body.width, top + body.height), "white")
    canvas.paste(body, (left, top))
    draw = ImageDraw.Draw(canvas)
    for j, name in enumerate(columns):
        draw.multiline_text((left + (j + 0.5) * wide, top - 3), name, "black", small, "md", spacing=1, align="center")
    for i, (name, _) in enumerate(rows):
        draw.multiline_text((left - 5, top + (i + 0.5) * tall), name, "black", font, "rm", align="right")
    return canvas


def save(path: Path, image: Image.Image, durable: bool = True) -> None:
    """Writes a picture, whole or not at all."""
    write_whole(path, lambda file: image.save(file, "PNG", optimize=True), durable)


def drawn(draw: Callable, *what) -> list[str]:
    """Calls draw(*what) in matplotlib's own style, whatever the user's is; $ in a text is no formula.

    Returns the sentence of a picture or page that cannot be drawn, or nothing.
    """
    try:
        from matplotlib import style

        with style.context(["default", {"text.parse_math": False}]):
            draw(*what)
    except UsageError as error:
        return [f"{error}"]
    except Exception as error:  # whatever a font or a driver of the user's has against it
        return [f"{draw.__name__} failed, and all else is whole without these pictures: {reason(error)}"]
    return []


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
    padded = np.pad(means - means.mean(axis=0), ((0, 1), (0, 1)))  # one latent has a plane, too, and one image
    scores, values, _ = np.linalg.svd(padded, full_matrices=False)
    share = values[:2] ** 2 / max(float(np.sum(values**2)), np.finfo(float).tiny)
    return scores[:-1, :2] * values[:2], share


def draw_latents(path: Path, means: np.ndarray, data) -> None:
    """latents.png: the posterior means of test images in their principal plane, coloured by class if known."""
    (plane, share), (figure, (axes,)) = principal_plane(means), plot(7.5, 6)
    labels = spread(data.labels[1], len(means)) if data.labels else np.zeros(len(means), int)
    kinds = np.unique(labels)
    for i, kind in enumerate(kinds):
        name = data.classes[kind] if data.labels else None
        style = {"color": f"C{i % 10}", "marker": MARKERS[i // 10 % 10], "alpha": 0.6, "linewidth": 0}
        axes.scatter(*plane[labels == kind].T, s=16, label=name, **style)
    if data.labels and len(kinds) <= 40:
        axes.legend(fontsize=9, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(kinds) // 21)
    axes.set_xlabel(f"leading principal direction ({share[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal direction ({share[1]:.0%})")
    axes.set_title(f"means of q(z|x) of {len(means)} test images", fontsize=11)
    save_plot(path, figure)


def draw_curves(out: Path, model, data, epochs: list[dict]) -> None:
    """curves.png: the rate, the error, and the ELBO or, under a constraint, λ, against the step.

    Pale: each of the `history`'s reports on training batches. Dark: their mean over an epoch, at its middle. Dashed:
    test images at the end of an epoch. The target of the constraint is a line, where it bounds what a panel shows.
    """
    history, constraint, target = model.history, model.run.objective.constraint, model.run.target
    seen, tests = epochs[-1].get("test_images"), len(data.test)
    few = f" ({seen} of {tests} images)" if seen and seen < tests else ""
    panels = {"rate": "rate [nats]", "error": "error [squared error per image]"}
    panels |= {"lambda": "λ"} if constraint else {"elbo": "ELBO [nats]"}
    figure, axes = plot(3.2 * len(panels), 3.2, len(panels))
    ends, mark = [row["step"] for row in epochs], "." if len(epochs) < 10 else ""
    middles = np.convolve([0, *ends], [0.5, 0.5], "valid")
    for ax, (key, title) in zip(axes, panels.items(), strict=True):
        noisy = key != "lambda"
        ax.plot([r["step"] for r in history], [r[key] for r in history], "C0", alpha=0.3 if noisy else 1)
        if noisy:
            ax.plot(middles, [row[key] for row in epochs], "C0", marker=mark, label="training")
        tests = [row.get(f"test_{key}") for row in epochs]
        if None not in tests:
            ax.plot(ends, tests, "C1--", marker=mark, label=f"test{few}")
        if constraint and key == constraint.bounds:
            ax.axhline(target, color="black", linestyle=":", label=f"target {target:.4g}")
            ax.set_ylim(0, max(2 * target, 2 * min(row[key] for row in epochs), 1.1 * (tests[-1] or 0)))
        if noisy:
            ax.legend(fontsize=8)
        else:
            ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_title(title, fontsize=9)
        ax.locator_params(axis="x", nbins=4)
    save_plot(out / "curves.png", figure)


def draw_rate_distortion(path: Path, result: dict) -> None:
    """rate_distortion.png: the rows of a comparison, those of one method joined, and the linear bound."""
    figure, (axes,) = plot(9, 5.6)
    axes.plot(*zip(*result["linear_bound"], strict=True), "k-", linewidth=1, label="best linear VAE (Gaussian)")
    methods, curves = [*dict.fromkeys(row["method"] for row in result["rows"])], {}
    for row in result["rows"]:
        i, (rate, error) = methods.index(row["method"]), (row["figures"][name] for name in ("rate", "error"))
        spreads = {"xerr": rate["std"], "yerr": error["std"]}
        axes.errorbar(rate["mean"], error["mean"], **spreads, fmt=f"C{i % 10}{MARKERS[i % 10]}", label=row["name"])
        curves.setdefault(f"C{i % 10}--", []).append((rate["mean"], error["mean"]))
    for style, points in curves.items():
        axes.plot(*zip(*points, strict=True), style, linewidth=1)
    largest = max(rate for points in curves.values() for rate, _ in points)
    axes.set(xlabel="rate [nats]", ylabel="error [squared error per image, z sampled]")
    axes.set(xlim=(-0.03 * largest, 1.15 * largest), ylim=(0, 1.12 * result["mean_image"]["error"]))
    axes.set_title(f"{result['data']}: rate and error on the test set", fontsize=11)
    axes.legend(fontsize=8)
    save_plot(path, figure)
