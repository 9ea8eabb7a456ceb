"""--load: the model of a finished run evaluated again, or images encoded, sampled and reconstructed with it."""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data import images_at
from data.dataset import safe_name
from data.files import write_whole
from experiment.defaults import UsageError, flag
from experiment.files import FILES, write_json
from experiment.model import TrainedModel, load
from experiment.one import open_data
from experiment.options import USES
from experiment.pictures import picture, save, seen, sheet
from experiment.results import listing, summarize

SHOWN = 100  # samples on a sheet at most
UNLIKELY = 5  # images that --encode names


def use(args: argparse.Namespace, given: dict) -> str:
    """Does what `given`, the options of the command line, ask for. Returns what there is to say about it."""
    kinds = [name for name in USES if name in given]
    if len(kinds) != 1 or args.load is None:
        raise UsageError(f"--load DIR and one of {', '.join(map(flag, USES))} go together")
    kind = kinds[0]
    if unused := sorted({*given} - {"load", kind, *USES[kind]}):
        listed = ", ".join(map(flag, USES[kind]))
        raise UsageError(f"{flag(unused[0])} is not used by --load with {flag(kind)} (it takes: {listed})")
    args.data = given.get("data")  # None for the run's own images
    model = load(args.load, args.backend, args.tf32)
    return {"evaluate": evaluate, "encode": encode, "sample": sample, "reconstruct": reconstruct}[kind](model, args)


def evaluate(model: TrainedModel, args: argparse.Namespace) -> str:
    """The figures of summary.json again, on the run's own images or on others, in a file beside it."""
    of_run = copy.copy(model.args)
    of_run.data_dir = args.data_dir or of_run.data_dir
    if args.data:
        of_run.data, of_run.size = args.data, args.size
    data, samples = open_data(of_run), args.nll_samples or of_run.nll_samples
    if data.shape != model.shape:
        raise UsageError(f"the images of --data {of_run.data} are {data.shape}, those of {args.load} {model.shape}")
    out = free(args, "-".join(["evaluation", *([data.name] if args.data else []), f"nll{samples}"]) + ".json")
    summary = summarize(model, data, samples)
    write_json(out, summary)
    return f"{listing(summary)}\nall in {out}"


def encode(model: TrainedModel, args: argparse.Namespace) -> str:
    """An .npz: mean and std (N, Z), and of each image its name, rate, squared errors and log-likelihood (N,)."""
    pixels, names = images_at(args.encode, model.shape)
    out = free(args, f"encoded-{safe_name(args.encode)}.npz")
    found = model.scores(pixels, args.nll_samples or model.args.nll_samples)
    arrays = {name: found[name] for name in ("mean", "rate", "log_likelihood")}
    arrays |= {"files": np.array(names), "std": np.exp(found["log_std"])}
    arrays |= {"squared_error": found["distortion"], "squared_error_at_mean": found["distortion_at_mean"]}
    write_whole(out, lambda file: np.savez(file, **arrays))
    last = np.argsort(found["log_likelihood"])[:UNLIKELY]
    unlikely = ", ".join(f"{names[i]} ({found['log_likelihood'][i]:.1f})" for i in last)
    return f"{len(names)} images in {out}; log p(x) in nats is least for {unlikely}"


def sample(model: TrainedModel, args: argparse.Namespace) -> str:
    """PNG files of draws from the prior, and a sheet of the first of them."""
    out = free(args, f"samples-{args.sample}-{args.seed}")
    pictures = model.sample(args.sample, args.seed)
    write_pictures(out, pictures, [f"{i:0{len(str(args.sample - 1))}}" for i in range(args.sample)])
    wide = min(10, args.sample)
    rows = [("", pictures[i : i + wide]) for i in range(0, min(SHOWN, args.sample) - wide + 1, wide)]
    save(out / "sheet.png", sheet(rows))
    return f"{args.sample} samples of the prior in {out}/, the first of them in sheet.png"


def reconstruct(model: TrainedModel, args: argparse.Namespace) -> str:
    """PNG files of images decoded at the mean of q(z|x), and a sheet of the first of them below their originals."""
    pixels, names = images_at(args.reconstruct, model.shape)
    out = free(args, f"reconstructed-{safe_name(args.reconstruct)}")
    pictures = model.reconstruct(pixels)
    write_pictures(out, pictures, names)
    save(out / "sheet.png", sheet([("original", seen(model, pixels)[:10]), ("at the mean", pictures[:10])]))
    return f"{len(names)} reconstructions in {out}/, the first of them in sheet.png"


def free(args: argparse.Namespace, name: str) -> Path:
    """--out, else `name` in the run's folder. Raises UsageError if that is there already."""
    out = args.out or args.load / name
    if out.exists() and (not args.force or out.name in FILES):
        raise UsageError(f"{out} exists; choose another --out" + " or add --force" * (out.name not in FILES))
    return out


def write_pictures(out: Path, pictures: np.ndarray, names: Sequence[str]) -> None:
    """Each picture as a PNG file of that name."""
    for name, pixels in zip(names, pictures, strict=True):
        path = out / (name if name.lower().endswith(".png") else f"{name}.png")
        save(path, picture(pixels), durable=False)
