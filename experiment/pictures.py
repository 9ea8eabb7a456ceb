"""The pictures of a run and of a comparison: sheets of pictures with named rows and columns, and plots."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.files import write_whole

SEED = 20_181_002  # of the draws that are shown: the same for every run
STEPS = 10  # along an interpolation and a traversal
REACH = 2.5  # standard deviations of the prior to either side in a traversal
SCATTERED = 5000  # posterior means in latents.png at most
MARKERS = "osDv^P*X<>"


def draw_pictures(out: Path, model, data) -> None:
    """reconstructions.png, samples.png, interpolation.png, traversals.png and latents.png of a trained model.

    `data` is the Dataset whose test images are shown; it may know their classes.
    """
    rng, count = np.random.default_rng(SEED), min(across(data.shape), len(data.test))
    images = picture(model, data.test[:count])
    mean, std = model.encode(data.test[:SCATTERED])
    names = class_names(data, len(mean))
    rows = [("original", images), ("at the mean", model.decode(mean[:count]))]
    sampled = mean[:count] + std[:count] * rng.standard_normal(mean[:count].shape)
    save(out / "reconstructions.png", sheet([*rows, ("a sample", model.decode(sampled))], names[:count]))

    draws = rng.standard_normal((5 * count, mean.shape[1]))
    chosen = np.linspace(0, len(mean) - 1, len(draws)).astype(int)
    samples = {"prior p(z)": draws, "aggregate\nposterior q(z)": mean[chosen] + std[chosen] * draws}
    rows = [(name, row) for name, z in samples.items() for row in np.split(model.decode(z), 5)]
    save(out / "samples.png", sheet(rows))

    save(out / "interpolation.png", interpolations(model, images, mean, names))
    save(out / "traversals.png", traversals(model, mean))
    draw_latents(out / "latents.png", mean, data)


def across(shape: tuple[int, int, int], most: int = 10) -> int:
    """How many pictures of that shape stand side by side so that a page shows them unscaled."""
    return max(4, min(most, 1000 // shape[1]))


def picture(model, images: np.ndarray) -> np.ndarray:
    """Images as the model sees them.   (N, D) -> (N, H, W, C)"""
    return model.pixels(images).reshape(-1, *model.shape)


def class_names(data, count: int) -> list[str]:
    """The classes of the first test images, or an empty name for each."""
    if data.labels is None:
        return [""] * count
    return [str(data.classes[label]) if data.classes else str(label) for label in data.labels[1][:count]]


def interpolations(model, images: np.ndarray, mean: np.ndarray, names: list[str]) -> Image.Image:
    """Pairs of images, and between them what lies between their means."""
    steps = min(STEPS, across(model.shape, STEPS + 2) - 2)
    share = np.linspace(0.0, 1.0, steps)[:, None]
    rows = []
    for a in range(0, len(images), 2):
        b = (a + 1) % len(images)
        between = as_bytes(model.decode(mean[a] + share * (mean[b] - mean[a])))
        ends = as_bytes(images[[a, b]])
        title = f"{names[a]} → {names[b]}" if names[a] else ""
        rows.append((title, np.concatenate([ends[:1], between, ends[1:]])))
    return sheet(rows, ["original", *(f"{s:.0%}" for s in share[:, 0]), "original"])


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
    count = min(across(data.shape, 12), len(data.test))
    images = picture(next(iter(models.values())), data.test[:count])
    latents = max(model.network.latents for model in models.values())
    draws = np.random.default_rng(SEED).standard_normal((latents, count)).T  # latent by latent
    reconstructed = [(name, model.reconstruct(data.test[:count])) for name, model in models.items()]
    save(out / "reconstructions.png", sheet([("original", images), *reconstructed], class_names(data, count)))
    generated = [(name, model.decode(draws[:, : model.network.latents])) for name, model in models.items()]
    save(out / "generations.png", sheet([("test images", images), *generated]))


def as_bytes(pictures: np.ndarray) -> np.ndarray:
    """Pictures as uint8, floats clipped to [0, 1]."""
    if pictures.dtype == np.uint8:
        return pictures
    return np.rint(np.clip(np.nan_to_num(pictures), 0, 1) * 255).astype(np.uint8)


def sheet(rows: Sequence[tuple[str, np.ndarray]], columns: Sequence[str] = (), gap: int = 3) -> Image.Image:
    """Rows of pictures, each (N, H, W, C), with the rows' names to the left and the columns' above.

    Small pictures are enlarged by a whole number, so that every pixel stays a square. Names may have several lines.
    """
    font = label_font()
    _, height, width, channels = rows[0][1].shape
    across = max(len(pictures) for _, pictures in rows)
    scale = max(1, min(96 // max(height, width), 1000 // (across * width)))
    tall, wide = height * scale + gap, width * scale + gap
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    boxes = [measure.multiline_textbbox((0, 0), name, font) for name, _ in rows]
    left = max(int(box[2]) for box in boxes) + 10 if any(name for name, _ in rows) else gap
    tall = max(tall, *(int(box[3]) + gap for box in boxes))
    top = 24 if any(columns) else gap
    size = (left + across * wide, top + len(rows) * tall)
    canvas = Image.new("L" if channels == 1 else "RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for j, name in enumerate(columns):
        draw.text((left + j * wide + (wide - gap) // 2, top - 6), clipped(name, wide, font), "black", font, "ms")
    for i, (name, pictures) in enumerate(rows):
        draw.multiline_text((left - 8, top + i * tall + (tall - gap) // 2), name, "black", font, "rm", align="right")
        for j, tile in enumerate(as_bytes(pictures).repeat(scale, axis=1).repeat(scale, axis=2)):
            tile = Image.fromarray(tile[..., 0] if channels == 1 else tile)
            canvas.paste(tile, (left + j * wide, top + i * tall + (tall - gap - tile.height) // 2))
    return canvas


def clipped(name: str, width: int, font) -> str:
    """As much of a name as fits into the width."""
    while name and font.getlength(name) > width:
        name = name.removesuffix("…")[:-1] + "…" if len(name) > 2 else ""
    return name


def label_font():
    """A font that has every symbol of the labels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 13)


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
    """The means along their two leading principal directions, and the share of the variance of each.

    (N, Z) -> (N, 2), (2,)
    """
    centred = means - means.mean(axis=0)
    scores, values, _ = np.linalg.svd(centred, full_matrices=False)
    total = max(float(np.sum(values**2)), 1e-12)
    plane = np.zeros((len(means), 2))
    plane[:, : len(values)] = (scores * values)[:, :2]
    return plane, np.pad(values**2 / total, (0, 2))[:2]


def draw_latents(path: Path, means: np.ndarray, data) -> None:
    """latents.png: the posterior means of the test images in their principal plane, coloured by class if it is known."""
    (plane, share), (figure, (axes,)) = principal_plane(means), plot(7.5, 6)
    labels = np.zeros(len(means), int) if data.labels is None else np.asarray(data.labels[1][: len(means)])
    kinds = np.unique(labels)
    for i, kind in enumerate(kinds):
        name = data.classes[kind] if data.classes else kind
        style = {"color": f"C{i % 10}", "marker": MARKERS[i // 10 % 10], "linestyle": "none", "alpha": 0.6}
        axes.plot(*plane[labels == kind].T, **style, markersize=3, markeredgewidth=0, label=name)
    if 1 < len(kinds) <= 40:
        axes.legend(fontsize=9, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(kinds) // 21)
    order = ("leading", "second")
    x, y = (f"{which} principal direction ({s:.0%} of the variance)" for which, s in zip(order, share, strict=True))
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(f"means of q(z|x), {len(means)} test images", fontsize=11)
    save_plot(path, figure)


def draw_curves(path: Path, history: list[dict], epochs: list[dict], kappa: float | None) -> None:
    """curves.png: the rate, the distortion and, under a constraint, its moving average and λ, against the step.

    Thin: each of the `history`'s reports on training batches. Thick: their mean over an epoch, at its middle. Dashed:
    test images at the end of an epoch.
    """
    panels = [("rate", "rate [nats]"), ("distortion", "distortion [squared error per image]")]
    if kappa is None:
        panels.append(("elbo", "ELBO [nats]"))
    else:
        panels += [("constraint_ma", "moving average of the constraint C"), ("lambda", "λ")]
    figure, axes = plot(3.2 * len(panels), 3.2, len(panels))
    ends = [row["step"] for row in epochs]
    middles = [(a + b) / 2 for a, b in zip([0, *ends], ends, strict=False)]
    for ax, (key, label) in zip(axes, panels, strict=True):
        means, tests = [row[key] for row in epochs], [row.get(f"test_{key}") for row in epochs]
        state = key in ("constraint_ma", "lambda")  # has no noise of a batch
        ax.plot([r["step"] for r in history], [r[key] for r in history], color="C0", alpha=1 if state else 0.3)
        if not state:
            ax.plot(middles, means, color="C0", linewidth=2, marker="." if len(ends) < 10 else "", label="training")
        if None not in tests:
            ax.plot(ends, tests, "--", color="C1", marker="." if len(ends) < 10 else "", label="test")
        ax.set(xlabel="step")
        ax.set_title(label, fontsize=9)
        ax.locator_params(axis="x", nbins=4)
        if kappa is not None and key in ("distortion", "constraint_ma"):
            level = kappa**2 if key == "distortion" else 0
            ax.axhline(level, color="black", linestyle=":", label=f"κ² = {level:.4g}" if level else None)
            low = min([*means, *(t for t in tests if t is not None)])
            ax.set_ylim(min(low, level) - 0.1 * kappa**2, max(level + kappa**2, 2 * low))
        if key in ("rate", "distortion"):
            ax.legend(fontsize=8)
        if key == "lambda" and max(means) > 10 * min(means):
            ax.set_yscale("log")
    save_plot(path, figure)


def draw_rate_distortion(path: Path, result: dict) -> None:
    """rate_distortion.png: the rows of a comparison, the linear bound and the slides' points.

    Rows of one method that differ in one option alone are joined by a line, and each point bears its value.
    """
    figure, (axes,) = plot(9, 5.6)
    axes.plot(*zip(*result["linear_bound"], strict=True), "k-", linewidth=1, label="best linear VAE (Gaussian)")
    methods, rates = list(dict.fromkeys(row["method"] for row in result["rows"])), []
    for i, method in enumerate(methods):
        style = {"color": f"C{i % 10}", "marker": MARKERS[i % len(MARKERS)], "linestyle": "none"}
        mine = sorted(
            (row for row in result["rows"] if row["method"] == method), key=lambda row: row["figures"]["rate"]["mean"]
        )
        rates += draw_method(axes, mine, style)
    if any(row["slides"] for row in result["rows"]):
        style = {"color": "black", "linestyle": "none"}
        axes.plot([], [], **style, marker="x", label="slides: (rate, error at the mean),\nnot a rate–distortion pair")
        axes.plot([], [], **style, marker="o", fillstyle="none", label="ours by that definition")
    axes.set(xlabel="rate [nats]", ylabel="distortion [squared error per image, z sampled]")
    axes.set(xlim=(-0.03 * max(rates), 1.15 * max(rates)), ylim=(0, 1.12 * result["mean_image"]["distortion"]))
    axes.set_title(f"{result['data']}: rate and distortion on the test set", fontsize=11)
    axes.legend(fontsize=9)
    save_plot(path, figure)


def draw_method(axes, rows: list[dict], style: dict) -> list[float]:
    """The rows of one method, by rate, and the slides' point of it. Returns the rates drawn."""
    rate, distortion, at_mean = (
        [row["figures"][name] for row in rows] for name in ("rate", "distortion", "distortion_at_mean")
    )
    x, y = ([figure["mean"] for figure in figures] for figures in (rate, distortion))
    for i, (row, a, b) in enumerate(zip(rows, rate, distortion, strict=True)):
        label = row["title"].partition("\n")[0] if i == 0 else None
        axes.errorbar(a["mean"], b["mean"], b["std"], a["std"], **style, label=label, markersize=7, zorder=3)
        if len(rows) > 1:
            note = row["title"].partition("\n")[2].replace("\n", " ")
            axes.annotate(
                note, (a["mean"], b["mean"]), (6, -11 if i % 2 else 5), textcoords="offset points", fontsize=7
            )
    if len({name for row in rows for name in row["differs"]}) == 1:
        axes.plot(x, y, "--", color=style["color"], linewidth=1)
    if not rows[0]["slides"]:
        return x
    axes.plot(*rows[0]["slides"], **{**style, "marker": "x"}, markersize=9, markeredgewidth=2)
    axes.plot(x, [figure["mean"] for figure in at_mean], **style, markersize=7, fillstyle="none")
    return [*x, rows[0]["slides"][0]]
