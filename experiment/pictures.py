"""The pictures of a run and of a comparison: sheets of images with named rows and columns, and plots."""

import textwrap
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.dataset import floats
from data.files import reason, write_whole
from experiment.record import UsageError
from experiment.sources import spread
from ref.densities import gaussian_kl
from ref.more.metrics import ACTIVE, at_once
from ref.more.planes import plane

SEED = 20_181_002  # of the draws that are shown: the same for every run
ACROSS = 10  # images side by side on a sheet, where they are small
STEPS = 8  # of an interpolation
REACH = 2.5  # standard deviations of the prior to either side in a traversal
SCATTERED = 2000  # posterior means in latents.png at most
APART = 4  # a largest rate of so many times the median makes the axis of rates logarithmic
MARKERS = "osDv^P*X<>"
STYLE = {"text.parse_math": False, "axes.grid": True, "grid.alpha": 0.3}  # $ in a name is no formula
FINE = 2  # pixels of a picture for each pixel of the page that shows it
DPI = 100 * FINE  # the resolution that the file of a picture names
WIDEST = 1300 * FINE  # pixels of a sheet at most, as long as its images are enlarged
GAP, BAR = 3 * FINE, 24 * FINE  # pixels between the images of a sheet, and of the height of an image of one line


def draw_pictures(out: Path, model, data) -> None:
    """The sheets of a trained model, and latents.png. A test image that the model cannot encode is shown at z = 0."""
    rng, wide = np.random.default_rng(SEED), across(data.shape)
    means, stds = model.encode(data.test)
    finite = np.isfinite(means + stds).all(axis=1, keepdims=True)
    means, stds = np.where(finite, means, 0), np.where(finite, stds, 1)
    usual = chosen(data, wide)
    decoded = {"at the mean": model.decode(means[usual])}
    decoded["a sample"] = model.decode(means[usual] + stds[usual] * rng.standard_normal(means[usual].shape))
    first = reconstructions(model, data, usual, decoded, "test images; below each its squared error")
    size = at_once(data.test.shape[1])  # a few at a time
    parts = np.split(np.arange(len(means)), range(size, len(means), size))
    errors = [squared_errors(seen(model, data.test[part]), model.decode(means[part])) for part in parts]
    errors = np.nan_to_num(np.concatenate(errors), nan=np.inf)
    worst = np.argsort(-errors, kind="stable")[:wide]
    decoded = {"at the mean": model.decode(means[worst])}
    last = reconstructions(model, data, worst, decoded, "test images with the largest errors")
    save(out / "reconstructions.png", first, last)

    draws = rng.standard_normal((5 * wide, means.shape[1]))
    places = rng.permutation(np.linspace(0, len(means) - 1, len(draws)).astype(int))  # whatever order a file has
    aggregate = model.decode(means[places] + stds[places] * draws)
    rows = [("prior p(z)", row) for row in np.split(model.decode(draws), 5)]
    rows += [("aggregate\nposterior q(z)", row) for row in np.split(aggregate, 5)]
    save(out / "samples.png", sheet(rows))
    order, rates, active = by_rate(means, stds)
    save(out / "traversals.png", traversals(model, order, rates, active))
    save(out / "interpolations.png", interpolations(model, data, means))
    draw_latents(out / "latents.png", means[:, order[: max(2, active)]], data)


def across(shape: tuple[int, int, int]) -> int:
    """How many images of that shape stand side by side so that a page shows them at their own size."""
    return max(4, min(ACROSS, 1000 // shape[1]))


def chosen(data, count: int) -> np.ndarray:
    """The places of so many test images: of as many classes as can be, in the order of the classes."""
    if not data.labels:
        return spread(np.arange(len(data.test)), count)
    labels = data.labels[1]
    alike = [np.flatnonzero(labels == kind)[:count] for kind in spread(np.unique(labels), count)]
    in_turn = chain.from_iterable(zip_longest(*alike))
    found = [place for place in in_turn if place is not None][:count]
    return np.array(sorted(found, key=lambda place: labels[place]))


def seen(model, images: np.ndarray) -> np.ndarray:
    """Images as the model sees them.   (N, D) -> (N, H, W, C) in [0, 1]"""
    return floats(model.pixels(images)).reshape(-1, *model.shape)


def squared_errors(images: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """‖x − x̂‖² of pixels as they are shown, in [0, 1].   (N, H, W, C) twice -> (N,)"""
    return np.sum((images - decoded) ** 2, axis=(1, 2, 3))


def judged(name: str, decoded: np.ndarray, images: np.ndarray) -> tuple:
    """A row of a sheet: decoded images, and below each its squared error."""
    return name, decoded, [f"{error:.3g}" for error in squared_errors(images, decoded)]


def reconstructions(model, data, places: np.ndarray, decoded: dict[str, np.ndarray], title: str = "") -> Image.Image:
    """The test images at these places, and below them what is decoded from them, by name."""
    images = seen(model, data.test[places])
    names = [f"test/{place}" for place in places]  # as --interpolate takes them
    if data.labels:
        names = [f"{data.classes[data.labels[1][place]]}\ntest/{place}" for place in places]
    rows = [judged(name, found, images) for name, found in decoded.items()]
    return sheet([("original", images), *rows], names, title)


def by_rate(means: np.ndarray, stds: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The latents, active ones first, by their rates; all rates in nats; and how many are active."""
    rates = np.mean(gaussian_kl(np, means[..., None], np.log(stds)[..., None]), axis=0)
    active = means.var(axis=0) > ACTIVE
    return np.lexsort((-rates, ~active)), rates, int(active.sum())


def traversals(model, order: np.ndarray, rates: np.ndarray, active: int) -> Image.Image:
    """The first ten active latents of `by_rate` at most, one a row, from −REACH to REACH about z = 0."""
    reach, ways = np.linspace(-REACH, REACH, across(model.shape)), np.eye(len(order))
    shown = order[: max(1, min(10, active))]
    rows = [(f"latent {i}\n{rates[i]:.2f} nats", model.decode(np.outer(reach, ways[i]))) for i in shown]
    title = f"one latent at a time, the others at 0, by their rate; {active} latents are active"
    return sheet(rows, [f"{r:.1f}".replace("-", "−") for r in reach], title)


def interpolations(model, data, means: np.ndarray) -> Image.Image:
    """From one test image to another, of another class if classes are known, a pair a row."""
    usual = chosen(data, ACROSS)
    half = max(1, len(usual) // 2)
    pairs = [*zip(usual[:half], usual[-half:], strict=True)]
    if data.labels:
        pairs = [pair for pair in pairs if np.diff(data.labels[1][[*pair]])] or pairs
    rows = []
    for a, b in pairs:
        first, last = seen(model, data.test[[a, b]])
        between = model.decode(np.linspace(means[a], means[b], STEPS))
        rows.append((f"test/{a}\nto test/{b}", np.stack([first, *between, last])))
    return sheet(rows, ends(STEPS), "from the mean of q(z|x) of one test image to that of another")


def ends(steps: int) -> list[str]:
    """The names of the columns of an interpolation between two originals."""
    return ["original", *(f"{share:.2g}" for share in np.linspace(0, 1, steps)), "original"]


def draw_comparison(out: Path, models: dict, data) -> None:
    """reconstructions.png and generations.png: the same test images and draws from the prior, a row a model."""
    places = chosen(data, across(data.shape))
    images, first = data.test[places], next(iter(models.values()))
    decoded = {name: model.reconstruct(images) for name, model in models.items()}
    save(out / "reconstructions.png", reconstructions(first, data, places, decoded))
    latents = max(model.network.latents for model in models.values())
    draws = np.random.default_rng(SEED).standard_normal((latents, len(images))).T  # a smaller model has the first
    rows = [(name, model.decode(draws[:, : model.network.latents])) for name, model in models.items()]
    save(out / "generations.png", sheet([("test images", seen(first, images)), *rows]))


def picture(pixels: np.ndarray) -> Image.Image:
    """Pixels (H, W, C), clipped to [0, 1], as a picture, grey if C = 1."""
    array = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def in_rows(images: np.ndarray, wide: int) -> list[tuple[str, np.ndarray]]:
    """Images as rows of a sheet that have no names; the last row may have fewer."""
    return [("", images[start : start + wide]) for start in range(0, len(images), wide)]


def sheet(rows: Sequence[tuple], columns: Sequence[str] = (), title: str = "") -> Image.Image:
    """Rows of images, no row longer than the first, with the rows' names to the left and the columns' above.

    A row is its name, its images (N, H, W, C) in [0, 1] and, if it has any, what stands below each of them. Small
    images are enlarged by a whole number, and images of one line become bars.
    """
    import matplotlib  # for its font, which has every symbol of the names

    path = str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    font, small = (ImageFont.truetype(path, size * FINE) for size in (13, 10))
    count, height, width, channels = rows[0][1].shape
    scale = FINE * max(1, min(96 // max(height, width), 1000 // (count * width)))
    scale = scale if count * width * scale < WIDEST else 1
    tall = height * scale if height > 1 else max(scale, BAR)
    wide = width * scale + GAP
    letters = max(1, wide // (6 * FINE))
    spaced = [name.replace("_", " ").split("\n") for name in columns]
    columns = ["\n".join(textwrap.fill(line, letters) for line in lines) for lines in spaced]
    names = "\n".join(row[0] for row in rows).split("\n")
    left = 10 * FINE + int(max(map(font.getlength, names)))
    deepest = max((1 + name.count("\n") for name in columns), default=0)
    top = FINE * (20 * bool(title) + 5 + 13 * deepest)
    named = [max(tall, 17 * FINE * (1 + row[0].count("\n"))) for row in rows]  # heights of images or of their name
    heights = [max(tall + GAP + 14 * FINE * len(row[2:]), least) for row, least in zip(rows, named, strict=True)]
    size = max(left + count * wide, 2 * GAP + int(font.getlength(title))), top + sum(heights)
    canvas = Image.new("L" if channels == 1 else "RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    middles = range(left + wide // 2, left + count * wide, wide)
    draw.text((GAP, FINE), title, "black", font)
    for x, name in zip(middles, columns, strict=False):
        draw.text((x, top - GAP), name, "black", small, "md", FINE, "center")
    for (name, images, *below), least, height_of_row in zip(rows, named, heights, strict=True):
        for x, image in zip(middles, images, strict=False):
            large = picture(image).resize((wide - GAP, tall), Image.Resampling.NEAREST)
            canvas.paste(large, (x - wide // 2, top))
        draw.text((left - 5 * FINE, top + least // 2), name, "black", font, "rm", align="right")
        for x, text in zip(middles, below[0] if below else (), strict=False):
            draw.text((x, top + tall + FINE), text, "black", small, "ma")
        top += height_of_row
    return canvas


def save(path: Path, *sheets: Image.Image, durable: bool = True) -> None:
    """Writes a picture, or sheets one above another, whole or not at all."""
    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    canvas, top = Image.new(sheets[0].mode, size, "white"), 0
    for sheet in sheets:
        canvas.paste(sheet, (0, top))
        top += sheet.height
    write_whole(path, lambda file: canvas.save(file, "PNG", optimize=True, dpi=(DPI, DPI)), durable)


def drawn(draw: Callable, *what) -> list[str]:
    """Calls draw(*what) in matplotlib's own style. Returns the sentence of what cannot be drawn, or nothing."""
    try:
        from matplotlib import style

        with style.context(["default", STYLE]):
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
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def save_plot(path: Path, figure) -> None:
    """Writes a figure, whole or not at all."""
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=DPI))


def draw_latents(path: Path, means: np.ndarray, data) -> None:
    """latents.png: posterior means of active latents in the plane that separates their classes best, if known."""
    means = spread(means, SCATTERED)
    labels = spread(data.labels[1], SCATTERED) if data.labels else np.zeros(len(means), int)
    basis, share = plane(np, means.astype(float), labels)
    points, kinds = (means - means.mean(axis=0)) @ basis, np.unique(labels)
    figure, (axes,) = plot(7.5, 6)
    for i, kind in enumerate(kinds):
        name = data.classes[kind] if data.labels else None
        style = {"color": f"C{i % 10}", "marker": MARKERS[i // 10 % 10], "alpha": 0.6, "linewidth": 0}
        axes.scatter(*points[labels == kind].T, s=16, label=name, **style)
    if data.labels and len(kinds) <= 40:
        axes.legend(fontsize=9, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(kinds) // 21)
    which = "that separates the classes best" if len(kinds) > 1 else "of the two leading directions"
    title = f"means of q(z|x) of {len(means)} test images,\nin the plane {which}"
    axes.set_title(f"{title}: {share.sum():.0%} of the variance", fontsize=11)
    axes.set(xlabel=f"{share[0]:.0%} of the variance", ylabel=f"{share[1]:.0%} of the variance")
    save_plot(path, figure)


def draw_curves(out: Path, model, data, epochs: list[dict]) -> None:
    """curves.png: the rate, the error, and the ELBO or, under a constraint, λ, against the step."""
    history, constraint, target = model.history, model.run.objective.constraint, model.run.target
    seen, count = epochs[-1].get("test_images"), len(data.test)
    few = f" ({seen} of {count} images)" if seen and seen < count else ""
    titles = {"rate": "rate [nats]", "error": "error [squared error per image]"}
    titles |= {"lambda": "λ"} if constraint else {"elbo": "ELBO [nats]"}
    figure, panels = plot(9.6, 3.2, 3)
    steps = [report["step"] for report in history]
    ends = [row["step"] for row in epochs]
    middles = np.convolve([0, *ends], [0.5, 0.5], "valid")
    mark = "." if len(epochs) < 10 else ""
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=4)
        reports = [report[key] for report in history]
        if key == "lambda":
            axes.plot(steps, reports)
            axes.set_xlim(right=1.25 * steps[-1])  # room for its last value where no curve is
            last = f"{reports[-1]:.3g}"
            axes.annotate(last, (steps[-1], reports[-1]), (4, 0), textcoords="offset points", va="center")
            axes.set_yscale("log")
            decimal(axes.yaxis)
            continue
        axes.plot(steps, reports, "C0", alpha=0.3)
        axes.plot(middles, [row[key] for row in epochs], "C0", marker=mark, label="training")
        tests = [row.get(f"test_{key}") for row in epochs]
        if None not in tests:
            axes.plot(ends, tests, "C1--", marker=mark, label=f"test{few}")
        if constraint and key == constraint.bounds:
            axes.axhline(target, color="black", linestyle=":", label=f"target {target:.4g}")
            axes.set_ylim(0, max(2 * target, 2 * min(row[key] for row in epochs), 1.1 * (tests[-1] or 0)))
        axes.legend(fontsize=8)
        axes.ticklabel_format(useOffset=False)
    save_plot(out / "curves.png", figure)


def decimal(axis) -> None:
    """Lets a logarithmic axis read in decimals."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)) if high > 8 * low else ticker.MaxNLocator(5))
    axis.set_major_formatter("{x:.6g}")
    axis.set_minor_locator(ticker.NullLocator())


def draw_rate_distortion(path: Path, result: dict) -> None:
    """rate_distortion.png: the rows of a comparison, the points of each method joined, and the linear bound."""
    figure, (axes,) = plot(9, 5.6)
    axes.plot(*zip(*result["linear_bound"], strict=True), "k-", linewidth=1, label="best linear VAE (Gaussian)")
    for i, method in enumerate(dict.fromkeys(row["method"] for row in result["rows"])):
        rows = [row for row in result["rows"] if row["method"] == method]
        rates, errors = ([row["figures"][name] for row in rows] for name in ("rate", "error"))
        x, xerr = np.array([[rate["mean"], rate["std"] or 0] for rate in rates]).T
        y, yerr = np.array([[error["mean"], error["std"] or 0] for error in errors]).T
        names = [row["parts"] for row in rows]
        # The legend says what all rows of a method share, and the text beside a point what tells its row from them.
        label = ", ".join(part for part in names[0] if all(part in name for name in names))
        style = {"fmt": f"C{i % 10}{MARKERS[i % 10]}--", "linewidth": 1, "elinewidth": 1.5}
        axes.errorbar(x, y, yerr, xerr, label=label, **style)
        for j, name in enumerate(names):
            own = ", ".join(part for part in name if any(part not in other for other in names))
            # Above or below a falling curve by turns: neighbours do not cover each other.
            side = {"xytext": (-6, -11), "ha": "right"} if (i + j) % 2 else {"xytext": (6, 4)}
            axes.annotate(own, (x[j], y[j]), **side, textcoords="offset points", fontsize=9, color=f"C{i % 10}")
    axes.set(xlabel="rate [nats]", ylabel="error [squared error per image, z sampled]")
    left, right = limits([row["figures"]["rate"]["mean"] for row in result["rows"]])
    axes.set(xlim=(left, right), ylim=(0, 1.12 * result["mean_image"]["error"]))
    if left > 0:
        axes.set_xscale("log")
        decimal(axes.xaxis)
    axes.set_title(f"{result['data']}: rate and error on the test set", fontsize=11)
    axes.legend(fontsize=8)
    save_plot(path, figure)


def limits(rates: list[float]) -> tuple[float, float]:
    """The limits of an axis of rates: above zero, for a logarithmic axis, where a rate would press others together."""
    lowest, largest = max(0.1, min(rates)), max(rates)
    if largest < APART * np.median(rates):
        return -0.03 * largest, 1.15 * largest
    return lowest / 1.5, 1.5 * largest
