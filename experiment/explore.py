"""explore.html: a page on which the latents of trained models move. A single file, without a network or a framework."""

import base64
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.ranks import ALONE
from data import Dataset
from data.dataset import floats
from data.files import write_whole
from experiment import sources
from experiment.pictures import by_rate
from experiment.record import UsageError, own_options, told
from experiment.trained_model import TrainedModel
from ref.more.planes import plane

TEMPLATE, PLACE = Path(__file__).parent / "explore_template.html", "/* the content */"
SEED = 20_181_003  # of the draw of the test images on the page
SHOWN, PIXELS = 1000, 1 << 20  # test images at most, and pixels of them; of training images as many
DRAWS = 20  # samples of an image's log p(x)
LARGEST = 10_000_000  # bytes of a page
HALF = 65_504.0  # the largest float16
TOLD = ("samples", "hidden", "latent", "epochs", "seed", "target", "activation", "output")


def write(out: Path, runs: Sequence[tuple[TrainedModel, dict]], data: Dataset) -> None:
    """The page of trained models with their summaries. Raises UsageError where it would be larger than LARGEST."""
    size = 0
    for model, _ in runs:
        size += sum(array.size for array in decoder_of(model).values()) * 8 // 3  # without the images
    if size <= LARGEST:
        found = json.dumps(content(runs, data), allow_nan=False).replace("<", "\\u003c")  # no text ends the script
        text = TEMPLATE.read_text(encoding="utf-8").replace(PLACE, found).encode()
        size = len(text)
    if size > LARGEST:
        most = f"the most is {LARGEST / 1e6:g} MB: smaller pictures or a smaller network have a page"
        raise UsageError(f"{out} is not written: it would have {size / 1e6:.1f} MB or more, and {most}")
    write_whole(out, lambda file: file.write(text))


def content(runs: Sequence[tuple[TrainedModel, dict]], data: Dataset) -> dict:
    """What the page knows. The order of its test images is random; images that a model cannot encode are left out."""
    model, count = runs[0][0], min(SHOWN, max(1, PIXELS // data.test.shape[1]))
    tests = sources.test_images(model.run, data)
    finite = np.all([np.isfinite(model.encode(tests)).all(axis=(0, 2)) for model, _ in runs], axis=0)
    tests, rows = tests[finite], np.random.default_rng(SEED).permutation(int(finite.sum()))[:count]
    places = np.flatnonzero(finite)[rows]
    labels = data.labels[1][places].tolist() if data.labels else []
    return {
        "data": data.name,
        "shape": data.shape,
        "counts": {"test": len(data.test), "train": len(data.train), "draws": DRAWS},
        "test": packed(tests[rows]),
        "train": packed(model.pixels(sources.spread(data.train, count))),
        "names": [data.files[1][i] if data.files else f"test/{i}" for i in places],
        "labels": labels,
        "classes": data.classes if labels else [],
        "runs": [of_run(model, summary, tests, rows, labels) for model, summary in runs],
    }


def of_run(model: TrainedModel, summary: dict, tests: np.ndarray, rows: np.ndarray, labels: list[int]) -> dict:
    """What the page knows of a run. Its latents are in `order`: active ones, then the others, each by their rate."""
    run, (mean, std) = model.run, model.encode(tests)
    order, rates, active = by_rate(mean, std)
    used = max(active, min(2, run.latent))
    mean, std, kept = mean[:, order], std[rows][:, order[:used]], run.but(samples=1)  # K counts in training alone
    # Of several processes only the first works here.
    alone = TrainedModel(model.backend._replace(ranks=ALONE), kept, model.network, model.theta, model.history)
    scores, constraint = alone.scores(tests[rows], DRAWS), run.objective.constraint
    found = {name: getattr(run, name) for name in TOLD} | {name: summary[name] for name in ("rate", "error")}
    scores["log_likelihood"] = scores.get("calibrated_log_likelihood", scores["log_likelihood"])
    for name in ("error_at_mean", "log_likelihood"):
        found[name] = [x if np.isfinite(x) else None for x in scores[name].tolist()]
    bound = constraint and constraint.option
    return {
        **found,
        "options": told(run.options),
        "title": run.objective.title,
        "variance": model.calibrated_variance,
        "symbols": {name: option.symbol for name, option in own_options(run.objective).items()},
        # the option that says the target, and what the target is of
        "bound": constraint and constraint.name,
        "weighs": bound and {"figure": constraint.bounds, "square": constraint.power == 2},
        "decoder": {name: numbers(array) for name, array in decoder_of(model).items()},
        "order": order.tolist(),
        "active": active,
        "rates": rates[order].tolist(),
        "rest": mean[:, used:].mean(axis=0).tolist(),
        "means": numbers(mean[rows, :used]),
        "stds": numbers(std),
        "planes": planes_of(mean[rows, :used], labels),
    }


def decoder_of(model: TrainedModel) -> dict[str, np.ndarray]:
    """The decoder's parameters by name, and what it needs besides them in principal coordinates."""
    found = dict(model.params["decoder"])
    if model.network.color is not None:
        found |= {"center": model.network.center, "color": model.network.color}
    return {name: model.backend.to_host(array) for name, array in found.items()}


def planes_of(means: np.ndarray, labels: list[int]) -> list[dict]:
    """Planes of the latents: two directions each, and the share of the variance of the means (N, A) in the plane."""
    kinds = {"the plane that separates the classes best": np.array(labels)} if len({*labels}) > 1 else {}
    found = []
    for name, classes in (kinds | {"the two leading directions": np.zeros(len(means), int)}).items():
        basis, shares = plane(np, means.astype(float), classes)
        found.append({"name": name, "share": float(np.sum(shares)), "directions": basis.T.tolist()})
    return found


def packed(pixels: np.ndarray) -> str:
    """Pixels as bytes, compressed, in base64."""
    content = np.rint(floats(pixels) * 255).astype(np.uint8).tobytes()
    return base64.b64encode(zlib.compress(content, 9)).decode()


def numbers(array: np.ndarray) -> dict:
    """An array as little-endian float16 in base64, or as float32 where a number is too large for that."""
    bits = 16 if np.abs(array).max(initial=0) <= HALF else 32
    return {"bits": bits, "base64": base64.b64encode(array.astype(f"<f{bits // 8}").tobytes()).decode()}
