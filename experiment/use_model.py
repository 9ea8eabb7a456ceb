"""--load: the model of a finished run evaluated again, on a page, or images encoded, sampled and reconstructed."""

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
from experiment.pictures import picture, save, seen, sheet
from experiment.record import UsageError, flag
from experiment.run_folder import FILES, PAGE, refuse_unwritable, write_json
from experiment.trained_model import TrainedModel, load

SHOWN = 100  # samples on a sheet at most
UNLIKELY = 5  # images that --encode names


def use(kind: str, given: dict[str, Any]) -> str:
    """Does with the model in --load what `kind` says. Returns what there is to say about it."""
    model = load(given["load"], given.get("backend", "numpy"), given.get("tf32", False))
    uses = {"evaluate": evaluate, "encode": encode, "sample": sample, "reconstruct": reconstruct, "explore": to_explore}
    return uses[kind](model, given)


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
    """PNG files of draws from the prior, and a sheet of the first of them."""
    count, seed = given["sample"], given.get("seed", 0)
    out = free(given, f"samples-{count}-{seed}")
    pictures, names = model.sample(count, seed), [f"{i:0{len(str(count - 1))}}" for i in range(count)]
    write_pictures(out, pictures, names, {"model": str(given["load"]), "seed": seed})
    wide = min(10, count)
    rows = [("", pictures[i : i + wide]) for i in range(0, min(SHOWN, count) - wide + 1, wide)]
    save(out / "sheet.png", sheet(rows))
    return f"{count} samples of the prior in {out}/, the first of them in sheet.png"


def reconstruct(model: TrainedModel, given: dict[str, Any]) -> str:
    """PNG files of images decoded at the mean of q(z|x), and a sheet of the first of them below their originals."""
    out = free(given, f"reconstructed-{named(given['reconstruct'])}")
    pixels, names = images_of(model, "reconstruct", given)
    pictures, stems = model.reconstruct(pixels), file_names(names)
    write_pictures(out, pictures, stems, {"model": str(given["load"]), "of": dict(zip(stems, names, strict=True))})
    save(out / "sheet.png", sheet([("original", seen(model, pixels)[:10]), ("at the mean", pictures[:10])]))
    return f"{len(names)} reconstructions in {out}/, the first of them in sheet.png"


def to_explore(model: TrainedModel, given: dict[str, Any]) -> str:
    """The page of a run, on its own images."""
    folder, out = Path(given["load"]), free(given, PAGE, is_file=True)
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
