"""--load: the model of a finished run evaluated again, or images encoded, sampled and reconstructed with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import images_at
from data.dataset import file_names, safe_name
from data.files import write_whole
from experiment import sources
from experiment.evaluation import listing, summarize
from experiment.pictures import picture, save, seen, sheet
from experiment.record import UsageError
from experiment.run_folder import FILES, write_json
from experiment.trained_model import TrainedModel, load

SHOWN = 100  # samples on a sheet at most
UNLIKELY = 5  # images that --encode names


def use(kind: str, given: dict[str, Any]) -> str:
    """Does with the model in --load what `kind` says. Returns what there is to say about it."""
    model = load(given["load"], given.get("backend", "numpy"), given.get("tf32", False))
    return {"evaluate": evaluate, "encode": encode, "sample": sample, "reconstruct": reconstruct}[kind](model, given)


def evaluate(model: TrainedModel, given: dict[str, Any]) -> str:
    """The figures of summary.json again, on the run's own images or on others, in a file beside it."""
    before, samples = model.run.images, given.get("nll_samples", model.run.nll_samples)
    if "data" in given:
        size = given.get("size")
        data, _ = sources.opened(given["data"], given.get("data_dir"), size, before.split, before.binarize)
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
    out = free(given, f"encoded-{safe_name(given['encode'])}.npz")
    found = model.scores(pixels, given.get("nll_samples", model.run.nll_samples))
    arrays = {name: found[name] for name in ("mean", "rate", "error", "error_at_mean", "log_likelihood")}
    arrays |= {"files": np.array(names), "std": np.exp(found["log_std"])}
    write_whole(out, lambda file: np.savez(file, **arrays))
    last = np.argsort(found["log_likelihood"])[:UNLIKELY]
    unlikely = ", ".join(f"{names[i]} ({found['log_likelihood'][i]:.1f})" for i in last)
    return f"{len(names)} images in {out}; log p(x) in nats is least for {unlikely}"


def sample(model: TrainedModel, given: dict[str, Any]) -> str:
    """PNG files of draws from the prior, and a sheet of the first of them."""
    count, seed = given["sample"], given.get("seed", 0)
    out = free(given, f"samples-{count}-{seed}")
    pictures = model.sample(count, seed)
    write_pictures(out, pictures, [f"{i:0{len(str(count - 1))}}" for i in range(count)])
    wide = min(10, count)
    rows = [("", pictures[i : i + wide]) for i in range(0, min(SHOWN, count) - wide + 1, wide)]
    save(out / "sheet.png", sheet(rows))
    return f"{count} samples of the prior in {out}/, the first of them in sheet.png"


def reconstruct(model: TrainedModel, given: dict[str, Any]) -> str:
    """PNG files of images decoded at the mean of q(z|x), and a sheet of the first of them below their originals."""
    pixels, names = images_at(given["reconstruct"], model.shape)
    out = free(given, f"reconstructed-{safe_name(given['reconstruct'])}")
    pictures = model.reconstruct(pixels)
    write_pictures(out, pictures, file_names(names))
    save(out / "sheet.png", sheet([("original", seen(model, pixels)[:10]), ("at the mean", pictures[:10])]))
    return f"{len(names)} reconstructions in {out}/, the first of them in sheet.png"


def free(given: dict[str, Any], name: str) -> Path:
    """--out, else `name` in the run's folder. Raises UsageError if that is there already."""
    out = given.get("out", given["load"] / name)
    if out.exists() and (not given.get("force") or out.name in FILES):
        raise UsageError(f"{out} exists; choose another --out" + " or add --force" * (out.name not in FILES))
    return out


def write_pictures(out: Path, pictures: np.ndarray, names: Sequence[str]) -> None:
    """Each picture as a PNG file of that name."""
    for name, pixels in zip(names, pictures, strict=True):
        save(out / f"{name}.png", picture(pixels), durable=False)
