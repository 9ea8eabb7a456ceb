"""--load: a trained model evaluated again, or images encoded, sampled, reconstructed and interpolated with it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import DATASETS, images_at
from data.dataset import file_names, safe_name
from data.files import write_whole
from experiment import sources
from experiment.evaluation import listing, summarize
from experiment.pictures import STEPS, across, ends, in_rows, judged, picture, save, seen, sheet
from experiment.record import UsageError, flag
from experiment.run_folder import FILES, write_json
from experiment.trained_model import TrainedModel, load

SHOWN = 100  # samples on a sheet at most
UNLIKELY = 5  # images that --encode names
OF_TEST = re.compile("test/([0-9]{1,15})")  # a test image of the run by its number


def use(kind: str, given: dict[str, Any]) -> str:
    """Does with the model in --load what `kind` says. Returns what there is to say about it."""
    model = load(given["load"], given.get("backend", "numpy"), given.get("tf32", False))
    uses = {"evaluate": evaluate, "encode": encode, "sample": sample, "reconstruct": reconstruct}
    return (uses | {"interpolate": interpolate})[kind](model, given)


def evaluate(model: TrainedModel, given: dict[str, Any]) -> str:
    """The figures of summary.json again, on the run's own images or on others, in a file beside it."""
    before, samples = model.run.images, given.get("nll_samples", model.run.nll_samples)
    if "data" in given:
        how = {"size": given.get("size"), "split": before.split, "data_dir": given.get("data_dir")}
        data, _ = sources.opened(given["data"], before.binarize, **how)
    else:
        data, _ = sources.opened_again(model.run, given, f"the run in {given['load']}")
    if data.shape != model.shape:
        raise UsageError(
            f"the images of --data {given['data']} are {data.shape}, those of {given['load']} {model.shape}"
        )
    name = "-".join(["evaluation", *([data.name] if "data" in given else []), f"nll{samples}"])
    out = free(given, f"{name}.json")
    summary = summarize(model, data, samples)
    write_json(out, summary)
    return f"{listing(summary)}\nall in {out}"


def encode(model: TrainedModel, given: dict[str, Any]) -> str:
    """An .npz: mean and std (N, Z), and of each image its name, rate, squared errors and log-likelihood (N,)."""
    pixels, names = images_at(given["encode"], model.shape)
    out = free(given, f"encoded-{named(given['encode'])}.npz")
    found = model.scores(pixels, given.get("nll_samples", model.run.nll_samples))
    arrays = {name: found[name] for name in ("mean", "rate", "error", "error_at_mean", "log_likelihood")}
    arrays |= {"files": np.array(names), "std": np.exp(found["log_std"])}
    write_whole(out, lambda file: np.savez(file, **arrays))
    last = np.argsort(found["log_likelihood"])[:UNLIKELY]
    unlikely = ", ".join(f"{names[i]} ({found['log_likelihood'][i]:.1f})" for i in last)
    return f"{len(names)} images in {out}; log p(x) in nats is least for {unlikely}"


def sample(model: TrainedModel, given: dict[str, Any]) -> str:
    """PNG files of draws from the prior, and a sheet of them, or of the first SHOWN."""
    count, seed = given["sample"], given.get("seed", 0)
    out = free(given, f"samples-{count}-{seed}")
    pictures = model.sample(count, seed)
    write_pictures(out, pictures, [f"{i:0{len(str(count - 1))}}" for i in range(count)])
    save(out / "sheet.png", sheet(in_rows(pictures[:SHOWN], min(count, across(model.shape)))))
    return f"{count} samples of the prior in {out}/, {'all' if count <= SHOWN else f'the first {SHOWN}'} in sheet.png"


def reconstruct(model: TrainedModel, given: dict[str, Any]) -> str:
    """PNG files of images decoded at the mean of q(z|x), and a sheet of the first of them below their originals."""
    pixels, names = images_at(given["reconstruct"], model.shape)
    out = free(given, f"reconstructed-{named(given['reconstruct'])}")
    pictures = model.reconstruct(pixels)
    write_pictures(out, pictures, file_names(names))
    wide = across(model.shape)
    images = seen(model, pixels[:wide])
    save(out / "sheet.png", sheet([("original", images), judged("at the mean", pictures[:wide], images)]))
    return f"{len(names)} reconstructions in {out}/, the first of them in sheet.png"


def interpolate(model: TrainedModel, given: dict[str, Any]) -> str:
    """A sheet of two images, and between them of what is decoded on the line between their latents."""
    names = given["interpolate"]
    if any(map(OF_TEST.fullmatch, names)):
        data, _ = sources.opened_again(model.run, given, f"the run in {given['load']}")
        test = data.test
    elif unused := [name for name in ("data", "data_dir", "size") if name in given]:
        said = "is where the run's test images lie, and --interpolate names none of them, such as test/0"
        raise UsageError(f"{flag(unused[0])} {said}")
    else:
        test = None
    first, last = (end(name, test, model.shape) for name in names)
    out = free(given, f"interpolated-{'-to-'.join(file_names(names))}.png")
    between = model.interpolate(first.reshape(model.shape), last.reshape(model.shape), STEPS)
    save(out, sheet([("", np.concatenate([seen(model, first), between, seen(model, last)]))], ends(STEPS)))
    return f"from {names[0]} to {names[1]} in {out}"


def end(name: str, test: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture at a path, or the test image of a name such as test/0.   -> (1, D)"""
    match = OF_TEST.fullmatch(name)
    if match and Path(name).exists():
        raise UsageError(f"{name} is a test image of the run and a file here: give ./{name} for the file")
    pixels = images_at(name, shape)[0] if not match else test[int(match[1]) : int(match[1]) + 1]
    if match and not len(pixels):
        raise UsageError(f"{name} is none of the run's test images, which are test/0 to test/{len(test) - 1}")
    if len(pixels) > 1:
        raise UsageError(f"{name} holds {len(pixels)} images; give one picture, or a test image such as test/0")
    return pixels


def named(source: str) -> str:
    """The images at a path or of a data set in a file's name."""
    return source if source in DATASETS else safe_name(source)


def free(given: dict[str, Any], name: str) -> Path:
    """--out, else `name` in the run's folder. Raises UsageError if that is there already."""
    folder = Path(given["load"])
    out = given.get("out", folder / name if folder.is_dir() else Path("runs") / f"{folder}-{name}")
    if out.exists() and (not given.get("force") or out.name in FILES):
        raise UsageError(f"{out} exists; choose another --out" + " or add --force" * (out.name not in FILES))
    return out


def write_pictures(out: Path, pictures: np.ndarray, names: Sequence[str]) -> None:
    """Each picture as a PNG file of that name."""
    for name, pixels in zip(names, pictures, strict=True):
        save(out / f"{name}.png", picture(pixels), durable=False)
