"""--load: a trained model evaluated again, on a page, or images encoded, sampled, reconstructed and interpolated."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import DATASETS, KEPT, images_at
from data.dataset import file_names, safe_name
from data.files import write_whole
from experiment import explore, sources
from experiment.choices import fixed
from experiment.comparison import finished
from experiment.evaluation import listing, summarize
from experiment.pictures import STEPS, across, ends, in_rows, judged, picture, save, seen, sheet
from experiment.record import UsageError, flag
from experiment.run_folder import EXPLORE, FILES, refuse_unwritable, write_json
from experiment.trained_model import TrainedModel, load

SHOWN = 100  # samples on a sheet at most
UNLIKELY = 5  # images that --encode names
OF_TEST = re.compile("test/([0-9]{1,15})")  # a test image of the run by its number


def use(kind: str, given: dict[str, Any]) -> str:
    """Does with the model in --load what `kind` says. Returns what there is to say about it."""
    model = load(given["load"], given.get("backend", "numpy"), given.get("tf32", False))
    uses = {"evaluate": evaluate, "encode": encode, "sample": sample, "reconstruct": reconstruct}
    return (uses | {"interpolate": interpolate, "explore": to_explore})[kind](model, given)


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
    out = free(given, f"{name}.json", is_file=True)
    summary = summarize(model, data, samples)
    write_json(out, summary)
    return f"{listing(summary)}\nall in {out}"


def encode(model: TrainedModel, given: dict[str, Any]) -> str:
    """An .npz: mean and std (N, Z), and of each image its name, rate, squared errors and log-likelihood (N,)."""
    out = free(given, f"encoded-{named(given['encode'])}.npz", is_file=True)
    pixels, names = images_of(model, "encode", given)
    found = model.scores(pixels, given.get("nll_samples", model.run.nll_samples))
    arrays = {name: found[name] for name in ("mean", "rate", "error", "error_at_mean", "log_likelihood")}
    arrays |= {"files": np.array(names), "std": np.exp(found["log_std"])}
    write_whole(out, lambda file: np.savez(file, **arrays))
    last = np.argsort(found["log_likelihood"])[:UNLIKELY]
    unlikely = ", ".join(f"{names[i]} ({fixed(found['log_likelihood'][i], 1)})" for i in last)
    return f"{len(names)} images in {out}; log p(x) in nats is least for {unlikely}"


def sample(model: TrainedModel, given: dict[str, Any]) -> str:
    """PNG files of draws from the prior, and a sheet of them, or of the first SHOWN."""
    count, seed = given["sample"], given.get("seed", 0)
    out = free(given, f"samples-{count}-{seed}")
    pictures, names = model.sample(count, seed), [f"{i:0{len(str(count - 1))}}" for i in range(count)]
    write_pictures(out, pictures, names, {"model": str(given["load"]), "seed": seed})
    save(out / "sheet.png", sheet(in_rows(pictures[:SHOWN], min(count, across(model.shape)))))
    return f"{count} samples of the prior in {out}/, {'all' if count <= SHOWN else f'the first {SHOWN}'} in sheet.png"


def reconstruct(model: TrainedModel, given: dict[str, Any]) -> str:
    """PNG files of images decoded at the mean of q(z|x), and a sheet of the first of them below their originals."""
    out = free(given, f"reconstructed-{named(given['reconstruct'])}")
    pixels, names = images_of(model, "reconstruct", given)
    pictures, stems = model.reconstruct(pixels), file_names(names)
    write_pictures(out, pictures, stems, {"model": str(given["load"]), "of": dict(zip(stems, names, strict=True))})
    wide = across(model.shape)
    images = seen(model, pixels[:wide])
    save(out / "sheet.png", sheet([("original", images), judged("at the mean", pictures[:wide], images)]))
    return f"{len(names)} reconstructions in {out}/, the first of them in sheet.png"


def to_explore(model: TrainedModel, given: dict[str, Any]) -> str:
    """The page of a run, on its own images."""
    folder, out = Path(given["load"]), free(given, EXPLORE, is_file=True)
    data, _ = sources.opened_again(model.run, given, f"the run in {given['load']}")
    if (folder / "summary.json").exists():
        summary = finished(folder).summary
    else:  # of a run that was stopped, or of a model that came along
        summary = summarize(model, data, model.run.nll_samples)
    explore.write(out, [(model, summary)], data)
    return f"{out}: open it in a browser"


def images_of(model: TrainedModel, use: str, given: dict[str, Any]) -> tuple[np.ndarray, list[str]]:
    """The images to use the model on, and their names: those of a data set from where the run's data lay."""
    source, lay = given[use], model.run.images.data_dir if given[use] in KEPT else None
    return images_at(source, model.shape, sources.folder_of(source, given.get("data_dir", lay), flag(use)))


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
    out = free(given, f"interpolated-{'-to-'.join(file_names(names))}.png", is_file=True)
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


def free(given: dict[str, Any], name: str, is_file: bool = False) -> Path:
    """--out, else `name` in the run's folder. Raises UsageError if that is there already, or cannot be written."""
    folder = Path(given["load"])
    out = given.get("out", folder / name if folder.is_dir() else Path("runs") / f"{folder}-{name}")
    refuse_unwritable(out, is_file)
    kept = out.name in FILES and out.name != name
    if out.exists() and (kept or not given.get("force")):
        raise UsageError(f"{out} exists; choose another --out" + " or add --force" * (not kept))
    return out


def write_pictures(out: Path, pictures: np.ndarray, names: Sequence[str], about: dict[str, Any]) -> None:
    """Each picture as a PNG file of that name, and pictures.json, by which no run takes the folder for its images."""
    write_json(out / "pictures.json", about)
    for name, pixels in zip(names, pictures, strict=True):
        save(out / f"{name}.png", picture(pixels), durable=False)
