"""The pictures of a run and of a comparison: sheets of images with named rows and columns, and plots."""

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.dataset import floats
from data.files import reason, write_whole
from experiment.choices import spread
from experiment.record import UsageError
from ref.densities import gaussian_kl
from ref.more.metrics import ACTIVE, at_once
from ref.more.planes import plane

SEED = 20_181_002  # of the draws that are shown: the same for every run
ACROSS = 10  # images side by side on a sheet, where they are small
STEPS = 8  # of an interpolation
REACH = 2.5  # standard deviations of the prior to either side in a traversal
SCATTERED = 2000  # posterior means in latents.png at most
MARKERS = "osDv^P*X<>"
SYMBOLS = {"beta": "β", "kappa": "κ", "samples": "K"}  # of the options that name a row beside its method
FINE = 2  # pixels of a picture to one of the page that shows it
DPI = 100 * FINE  # what its file says of that
WIDEST = 1300 * FINE  # pixels of a sheet at most, as long as its images are enlarged
GAP, BAR = 3 * FINE, 24 * FINE  # pixels between the images of a sheet, and of the height of an image of one line


def draw_pictures(out: Path, model, data, rows=()) -> None:
    """The sheets of a trained model, and latents.png: all of PICTURES but the curves.

    `data` is the Dataset whose test images are shown. Of those that the model cannot encode z = 0 is shown.
    """
    rng, wide = np.random.default_rng(SEED), across(data.shape)
    found = model.encode(data.test)
    odd = ~np.isfinite(found).all(axis=(0, 2))
    means, stds = (np.where(odd[:, None], of_prior, a) for of_prior, a in zip((0, 1), found, strict=True))
    usual, worst = chosen(data, wide), np.argsort(-errors_at_mean(model, data.test, means), kind="stable")[:wide]
    latents = {"at the mean": means[usual]}
    latents["a sample"] = means[usual] + stds[usual] * rng.standard_normal(means[usual].shape)
    first = reconstructions(model, data, usual, latents, "test images; below each its squared error")
    last = reconstructions(model, data, worst, {"at the mean": means[worst]}, "test images with the largest errors")
    save(out / "reconstructions.png", above(first, last))

    draws = rng.standard_normal((5 * wide, means.shape[1]))
    drawn = rng.permutation(np.linspace(0, len(means) - 1, len(draws)).astype(int))  # whatever order a file has
    samples = {"prior p(z)": draws, "aggregate\nposterior q(z)": means[drawn] + stds[drawn] * draws}
    rows = [(name, row) for name, z in samples.items() for row in np.split(model.decode(z), 5)]
    save(out / "samples.png", sheet(rows))
    order, rates, active = by_rate(means, stds)
    save(out / "traversals.png", traversals(model, order, rates, active))
    save(out / "interpolations.png", interpolations(model, data, means))
    draw_latents(out / "latents.png", means[:, order[: max(2, active)]], data)


def across(shape: tuple[int, int, int]) -> int:
    """How many images of that shape stand side by side so that a page shows them at their own size."""
    return max(4, min(ACROSS, 1000 // shape[1]))


def chosen(data, count: int) -> np.ndarray:
    """The places of `count` test images: as many of each class as can be, in the order of the classes.

    Of more classes than that, classes evenly spread. Where none are known, images evenly spread.
    """
    if not data.labels:
        return spread(np.arange(len(data.test)), count)
    kinds, places = np.unique(data.labels[1], return_inverse=True)
    turn = np.zeros(len(places), int)  # of an image among those of its class
    for kind in range(len(kinds)):
        turn[places == kind] = np.arange(np.sum(places == kind))
    order = np.lexsort((places, turn))
    order = order[np.isin(places[order], spread(np.arange(len(kinds)), count))][:count]
    return order[np.argsort(places[order], kind="stable")]


def named(data, places: np.ndarray) -> list[str]:
    """The names of test images, as --interpolate takes them, below those of their classes if they are known."""
    classes = [f"{data.classes[data.labels[1][i]]}\n" if data.labels else "" for i in places]
    return [f"{name}test/{i}" for name, i in zip(classes, places, strict=True)]


def seen(model, images: np.ndarray) -> np.ndarray:
    """Images as the model sees them.   (N, D) -> (N, H, W, C) in [0, 1]"""
    return floats(model.pixels(images)).reshape(-1, *model.shape)


def squared_errors(images: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """‖x − x̂‖² of pixels as they are shown, in [0, 1].   (N, H, W, C) twice -> (N,)"""
    return np.sum((images - decoded) ** 2, axis=(1, 2, 3))


def judged(name: str, decoded: np.ndarray, images: np.ndarray) -> tuple[str, np.ndarray, list[str]]:
    """A row of a sheet: decoded images, and below each its squared error."""
    return name, decoded, [f"{error:.3g}" for error in squared_errors(images, decoded)]


def reconstructions(model, data, places: np.ndarray, latents: dict[str, np.ndarray], title: str) -> Image.Image:
    """The test images at these places, and what is decoded at their latents (N, Z), which have names."""
    images = seen(model, data.test[places])
    rows = [judged(name, model.decode(z), images) for name, z in latents.items()]
    return sheet([("original", images), *rows], named(data, places), title)


def errors_at_mean(model, test: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The error of each test image at the mean of q(z|x), a few of them at a time.   (N, D), (N, Z) -> (N,)"""
    size = at_once(test.shape[1])
    parts = [slice(start, start + size) for start in range(0, len(test), size)]
    errors = [squared_errors(seen(model, test[part]), model.decode(means[part])) for part in parts]
    return np.nan_to_num(np.concatenate(errors), nan=np.inf)


def by_rate(means: np.ndarray, stds: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The latents, active ones first and each kind by its rate; all rates in nats; how many are active.

    (N, Z) twice -> (Z,), (Z,), number
    """
    rates = np.mean(gaussian_kl(np, means[..., None], np.log(stds)[..., None]), axis=0)
    active = means.var(axis=0) > ACTIVE
    return np.lexsort((-rates, ~active)), rates, int(active.sum())


def traversals(model, order: np.ndarray, rates: np.ndarray, active: int) -> Image.Image:
    """One latent a row, from −REACH to REACH about z = 0, as `by_rate` has them: the first ten active ones at most.

    z = 0 is the mean of the prior: it prefers no image, it is the same in every run, and pixels change there by about
    three quarters or more of what they do about the best of ten test images (MNIST, CIFAR-10, sprites, digits).
    Without an active latent the first latent is shown.
    """
    reach, rows = np.linspace(-REACH, REACH, across(model.shape)), []
    for latent in order[: max(1, min(10, active))]:
        z = np.zeros((len(reach), len(order)))
        z[:, latent] = reach
        rows.append((f"latent {latent}\n{rates[latent]:.2f} nats", model.decode(z)))
    title = f"one latent at a time, the others at 0: {len(rows)} of {active} active latents, by their rate"
    title = title if active else "no latent is active; the latent of the highest rate, the others at 0"
    return sheet(rows, [f"{r:.1f}".replace("-", "−") for r in reach], title)


def interpolations(model, data, means: np.ndarray) -> Image.Image:
    """From one test image to another, of another class if classes are known, a pair a row."""
    usual = chosen(data, ACROSS)
    half = max(1, len(usual) // 2)
    pairs = np.stack([usual[:half], usual[-half:]], axis=1)
    if data.labels:
        unlike = np.diff(data.labels[1][pairs], axis=1)[:, 0] != 0
        pairs = pairs[unlike] if unlike.any() else pairs
    rows = []
    for pair in pairs:
        (first, last), between = seen(model, data.test[pair]), model.decode(np.linspace(*means[pair], STEPS))
        rows.append((f"test/{pair[0]}\nto test/{pair[1]}", np.stack([first, *between, last])))
    return sheet(rows, ends(STEPS), "from the mean of q(z|x) of one test image to that of another")


def ends(steps: int) -> list[str]:
    """The names of the columns of an interpolation between two originals."""
    return ["original", *(f"{share:.2g}" for share in np.linspace(0, 1, steps)), "original"]


def draw_comparison(out: Path, models: dict, data) -> None:
    """reconstructions.png and generations.png: the same test images and the same draws from the prior, a row a model.

    `models` are trained models by name. Where two differ in their latents the draws agree in those that both have.
    """
    places = chosen(data, across(data.shape))
    images = data.test[places]
    originals = seen(next(iter(models.values())), images)
    latents = max(model.network.latents for model in models.values())
    draws = np.random.default_rng(SEED).standard_normal((latents, len(images))).T  # latent by latent
    rows = [judged(name, model.reconstruct(images), originals) for name, model in models.items()]
    save(out / "reconstructions.png", sheet([("original", originals), *rows], named(data, places)))
    rows = [(name, model.decode(draws[:, : model.network.latents])) for name, model in models.items()]
    save(out / "generations.png", sheet([("test images", originals), *rows]))


def picture(pixels: np.ndarray) -> Image.Image:
    """Pixels (H, W, C), clipped to [0, 1], as a picture, grey if C = 1."""
    array = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def in_rows(images: np.ndarray, wide: int) -> list[tuple[str, np.ndarray]]:
    """Images as rows of a sheet that have no names; white images fill the last row."""
    lacking = np.ones((-len(images) % wide, *images.shape[1:]))
    return [("", row) for row in np.split(np.concatenate([images, lacking]), -(-len(images) // wide))]


def sheet(rows: Sequence[tuple], columns: Sequence[str] = (), title: str = "") -> Image.Image:
    """Rows of as many images each, (N, H, W, C) in [0, 1], the rows' names to the left and the columns' above.

    A row is its name, its images and, if it has any, what stands below each of them. Small images are enlarged by a
    whole number, so that every pixel stays a square; but images of one line become bars. Names may have several lines;
    those of columns are broken into lines as wide as an image.
    """
    import matplotlib  # for its font, which has every symbol of the names

    path = str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    font, small = (ImageFont.truetype(path, size * FINE) for size in (13, 10))
    count, height, width, _ = rows[0][1].shape
    scale = FINE * max(1, min(96 // max(height, width), 1000 // (count * width)))
    scale = scale if count * width * scale < WIDEST else 1
    high = scale if height > 1 else max(scale, BAR)
    tall, wide = height * high, width * scale + GAP
    columns = [broken(name, wide // (6 * FINE)) for name in columns]
    left = 10 * FINE + max(int(font.getlength(line)) for row in rows for line in row[0].split("\n"))
    tops = [FINE * (20 * bool(title) + 5 + 13 * max((1 + name.count("\n") for name in columns if name), default=0))]
    for name, _, *below in rows:
        tops.append(tops[-1] + max(tall + GAP + 14 * FINE * len(below), 17 * FINE * (1 + name.count("\n"))))
    strips = [picture(strip(images, high, scale)) for _, images, *_ in rows]
    across = max(left + count * wide, 2 * GAP + int(font.getlength(title)))
    canvas = Image.new(strips[0].mode, (across, tops[-1]), "white")
    draw, middles = ImageDraw.Draw(canvas), [left + int((j + 0.5) * wide) for j in range(count)]
    how = {"fill": "black", "spacing": FINE, "align": "center"}
    draw.text((GAP, FINE), title, "black", font)
    for x, name in zip(middles, columns, strict=False):
        draw.multiline_text((x, tops[0] - GAP), name, font=small, anchor="md", **how)
    for (name, _, *below), body, y in zip(rows, strips, tops, strict=False):
        canvas.paste(body, (left, y))
        draw.multiline_text((left - 5 * FINE, y + tall // 2), name, "black", font, "rm", align="right")
        for x, text in zip(middles, below[0] if below else (), strict=False):
            draw.text((x, y + tall + FINE), text, "black", small, "ma")
    return canvas


def strip(images: np.ndarray, high: int, wide: int) -> np.ndarray:
    """Images side by side, each pixel so high and wide, with white between them.   (N, H, W, C) -> (high·H, …, C)"""
    large = images.repeat(high, axis=1).repeat(wide, axis=2)
    large = np.pad(large, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=1)
    return large.swapaxes(0, 1).reshape(large.shape[1], -1, large.shape[3])


def broken(name: str, letters: int) -> str:
    """A name in lines of so many letters at most."""
    return "\n".join(textwrap.fill(line.replace("_", " "), max(1, letters)) for line in name.split("\n"))


def above(first: Image.Image, second: Image.Image) -> Image.Image:
    """A sheet above another."""
    canvas = Image.new(first.mode, (max(first.width, second.width), first.height + second.height), "white")
    canvas.paste(first, (0, 0))
    canvas.paste(second, (0, first.height))
    return canvas


def save(path: Path, image: Image.Image, durable: bool = True) -> None:
    """Writes a picture, whole or not at all."""
    write_whole(path, lambda file: image.save(file, "PNG", optimize=True, dpi=(DPI, DPI)), durable)


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
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=DPI))


def draw_latents(path: Path, means: np.ndarray, data) -> None:
    """latents.png: the posterior means of test images in the plane that separates their classes best, if known.

    Otherwise it is that of the two leading principal directions. `means` are those of the active latents.
    """
    means = spread(means, SCATTERED)
    labels = spread(data.labels[1], SCATTERED) if data.labels else np.zeros(len(means), int)
    (basis, share), kinds, (figure, (axes,)) = plane(np, means.astype(float), labels), np.unique(labels), plot(7.5, 6)
    points = (means - means.mean(axis=0)) @ basis
    for i, kind in enumerate(kinds):
        name = data.classes[kind] if data.labels else None
        style = {"color": f"C{i % 10}", "marker": MARKERS[i // 10 % 10], "alpha": 0.6, "linewidth": 0}
        axes.scatter(*points[labels == kind].T, s=16, label=name, **style)
    if data.labels and len(kinds) <= 40:
        axes.legend(fontsize=9, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(kinds) // 21)
    which = "that separates the classes best" if len(kinds) > 1 else "of the two leading directions"
    axes.set_xlabel(f"{share[0]:.0%} of the variance")
    axes.set_ylabel(f"{share[1]:.0%} of the variance")
    used = "active latents" if np.any(means.var(axis=0) > ACTIVE) else "no active latent"
    title = f"means of q(z|x) of test images ({len(means)}), {used},\nin the plane {which}: {share.sum():.0%} of"
    axes.set_title(f"{title} the variance", fontsize=11)
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
            ax.ticklabel_format(useOffset=False)
        else:
            decimal(ax)
            step, last = history[-1]["step"], history[-1][key]
            ax.annotate(f"{last:.3g}", (step, last), (4, 0), textcoords="offset points", va="center")
            ax.set_xlim(right=1.25 * step)  # room for it where no curve is
        ax.set_xlabel("step")
        ax.set_title(title, fontsize=9)
        ax.locator_params(axis="x", nbins=4)
    save_plot(out / "curves.png", figure)


def decimal(axes) -> None:
    """A logarithmic axis upwards that reads in decimals."""
    from matplotlib import ticker

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)) if high > 8 * low else ticker.MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def draw_rate_distortion(path: Path, result: dict) -> None:
    """rate_distortion.png: the rows of a comparison, those of one method joined, and the linear bound.

    The legend names each method, with what all its rows share. Beside a point stands what tells its row from them.
    """
    figure, (axes,) = plot(9, 5.6)
    axes.plot(*zip(*result["linear_bound"], strict=True), "k-", linewidth=1, label="best linear VAE (Gaussian)")
    methods = [*dict.fromkeys(row["method"] for row in result["rows"])]
    for i, method in enumerate(methods):
        rows = [row for row in result["rows"] if row["method"] == method]
        rate, error = ([row["figures"][name] for row in rows] for name in ("rate", "error"))
        x, y = ([figure["mean"] for figure in figures] for figures in (rate, error))
        spreads = ([figure["std"] or 0.0 for figure in figures] for figures in (rate, error))
        names = [[*map(symbols, parts(row["name"]))] for row in rows]
        label = ", ".join(part for part in names[0] if all(part in name for name in names))
        how = {"fmt": f"C{i % 10}{MARKERS[i % 10]}--", "linewidth": 1, "elinewidth": 1.5, "label": label}
        axes.errorbar(x, y, **dict(zip(("xerr", "yerr"), spreads, strict=True)), **how)
        for j, (name, *point) in enumerate(zip(names, x, y, strict=True)):
            own = ", ".join(part for part in name if any(part not in other for other in names))
            aside = (6, -11 if (i + j) % 2 else 4)  # neighbours do not cover each other
            axes.annotate(own, point, aside, textcoords="offset points", fontsize=9, color=f"C{i % 10}")
    largest = max(row["figures"]["rate"]["mean"] for row in result["rows"])
    axes.set(xlabel="rate [nats]", ylabel="error [squared error per image, z sampled]")
    axes.set(xlim=(-0.03 * largest, 1.15 * largest), ylim=(0, 1.12 * result["mean_image"]["error"]))
    axes.set_title(f"{result['data']}: rate and error on the test set", fontsize=11)
    axes.legend(fontsize=8)
    save_plot(path, figure)


def parts(name: str) -> list[str]:
    """The parts of a row's name, within which no line breaks: the method and each option."""
    return re.split(r"(?<=,) |(?<!\bno) (?=--|no --)", name)


def symbols(part: str) -> str:
    """A part of a row's name with the symbol of its option, κ = 4, and without a comma."""
    for option, symbol in SYMBOLS.items():
        part = re.sub(rf"^--{option} (.*?)(\.0)?(?=,?$)", rf"{symbol} = \1", part)
    return part.removesuffix(",")
