"""--load: what the command line does with a trained model."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.ranks import Ranks
from data import KEPT, Dataset, images_at
from data.dataset import file_names
from data.files import write_whole
from experiment import explore, sources
from experiment.comparison import finished
from experiment.evaluation import fixed, listing, summarize
from experiment.pictures import STEPS, across, ends, in_rows, judged, picture, save, seen, sheet
from experiment.record import Options, UsageError, flag
from experiment.run_folder import EXPLORE, FILES, refuse_unwritable, write_json
from experiment.trained_model import TrainedModel, load

SHOWN = 100  # samples on a sheet at most
UNLIKELY = 5  # images that --encode names
OF_TEST = re.compile("test/([0-9]{1,15})")  # a test image of the run by its number


def use(given: Options, ranks: Ranks) -> str:
    """Does with the model in --load what was asked for, on the first rank. Returns what there is to say about it.

    Raises UsageError unless one use is asked for, with options that it takes.
    """
    uses = [name for name in USES if name in given]
    if len(uses) != 1 or "load" not in given:
        raise UsageError(f"--load DIR and one of {', '.join(map(flag, USES))} go together")
    act, own = USES[uses[0]]
    takes = (*own, "backend", "out", "force")
    for name in given:
        if name not in ("load", uses[0], *takes):
            listed = ", ".join(map(flag, takes))
            raise UsageError(f"{flag(name)} is not used by --load with {flag(uses[0])} (it takes: {listed})")
    return "" if ranks.rank else act(load(given["load"], given.get("backend", "numpy")), given)


def own_images(model: TrainedModel, given: Options) -> Dataset:
    """The images that the run was trained and tested on."""
    return sources.opened_again(model.run, given, f"the run in {given['load']}")[0]


def evaluate(model: TrainedModel, given: Options) -> str:
    """The figures of summary.json again, on the run's own images or on others, in a file beside it."""
    before, samples = model.run.images, given.get("nll_samples", model.run.nll_samples)
    if "data" in given:
        how = {name: given.get(name) for name in ("size", "data_dir")}
        data, _ = sources.opened(given["data"], before.binarize, split=before.split, **how)
        name = f"evaluation-{data.name}-nll{samples}.json"
    else:
        data, name = own_images(model, given), f"evaluation-nll{samples}.json"
    if data.shape != model.shape:
        found = f"the images of --data {given['data']} are {data.shape}"
        raise UsageError(f"{found}, those of {given['load']} {model.shape}")
    out = free(given, name, is_file=True)
    summary = summarize(model, data, samples)
    write_json(out, summary)
    return f"{listing(summary)}\nall in {out}"


def encode(model: TrainedModel, given: Options) -> str:
    """An .npz: mean and std (N, Z), names, rates, squared errors and log-likelihoods (N,), also at σ*²."""
    out = free(given, f"encoded-{Path(given['encode']).stem}.npz", is_file=True)
    pixels, names = images_of(model, "encode", given)
    found = model.scores(pixels, given.get("nll_samples", model.run.nll_samples))
    calibrated = "calibrated_log_likelihood" in found
    judged = "calibrated_log_likelihood" if calibrated else "log_likelihood"
    arrays = {name: found[name] for name in ("mean", "rate", "error", "error_at_mean", "log_likelihood", judged)}
    arrays |= {"files": np.array(names), "std": np.exp(found["log_std"])}
    write_whole(out, lambda file: np.savez(file, **arrays))
    last = np.argsort(found[judged])[:UNLIKELY]
    unlikely = ", ".join(f"{names[i]} ({fixed(found[judged][i], 1)})" for i in last)
    at = f", at σ² = {model.calibrated_variance:.3g}," if calibrated else ""
    return f"{len(names)} images in {out}; log p(x) in nats{at} is least for {unlikely}"


def sample(model: TrainedModel, given: Options) -> str:
    """PNG files of draws from the prior, and a sheet of them, or of the first SHOWN."""
    count, seed = given["sample"], given.get("seed", 0)
    out = free(given, f"samples-{count}-{seed}")
    pictures, names = model.sample(count, seed), [f"{i:0{len(str(count - 1))}}" for i in range(count)]
    rows = in_rows(pictures[:SHOWN], min(count, across(model.shape)))
    write_pictures(out, pictures, names, {"model": str(given["load"]), "seed": seed}, rows)
    return f"{count} samples of the prior in {out}/, {min(count, SHOWN)} of them in sheet.png"


def reconstruct(model: TrainedModel, given: Options) -> str:
    """PNG files of images decoded at the mean of q(z|x), and a sheet with originals."""
    out = free(given, f"reconstructed-{Path(given['reconstruct']).stem}")
    pixels, names = images_of(model, "reconstruct", given)
    pictures, stems, wide = model.reconstruct(pixels), file_names(names), across(model.shape)
    images = seen(model, pixels[:wide])
    rows = [("original", images), judged("at the mean", pictures[:wide], images)]
    of = dict(zip(stems, names, strict=True))
    write_pictures(out, pictures, stems, {"model": str(given["load"]), "of": of}, rows)
    return f"{len(names)} reconstructions in {out}/, the first of them in sheet.png"


def to_explore(model: TrainedModel, given: Options) -> str:
    """The page of a run, on its own images."""
    folder, out = Path(given["load"]), free(given, EXPLORE, is_file=True)
    data, whole = own_images(model, given), (folder / "summary.json").exists()
    # a run that was stopped, and a model that came along, have no summary
    summary = finished(folder).summary if whole else summarize(model, data, model.run.nll_samples)
    explore.write(out, [(model, summary)], data)
    return f"{out}: open it in a browser"


def images_of(model: TrainedModel, use: str, given: Options) -> tuple[np.ndarray, list[str]]:
    """The images to use the model on, and their names."""
    source = given[use]
    lay = model.run.images.data_dir if source in KEPT else None
    folder = sources.folder_of(source, given.get("data_dir", lay), flag(use))
    return images_at(source, model.shape, folder)


def interpolate(model: TrainedModel, given: Options) -> str:
    """A sheet of two images, and between them what is decoded on the line of latents."""
    names, test = given["interpolate"], None
    unused = [name for name in ("data", "data_dir", "size") if name in given]
    if any(map(OF_TEST.fullmatch, names)):
        test = own_images(model, given).test
    elif unused:
        said = "is where the run's test images lie, and --interpolate names none of them, such as test/0"
        raise UsageError(f"{flag(unused[0])} {said}")
    first, last = (end(name, test, model.shape) for name in names)
    out = free(given, f"interpolated-{'-to-'.join(file_names(names))}.png", is_file=True)
    between = model.interpolate(first.reshape(model.shape), last.reshape(model.shape), STEPS)
    row = np.concatenate([seen(model, first), between, seen(model, last)])
    save(out, sheet([("", row)], ends(STEPS)))
    return f"from {names[0]} to {names[1]} in {out}"


def end(name: str, test: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture at a path, or the test image of a name such as test/0.   -> (1, D)"""
    match = OF_TEST.fullmatch(name)
    if match and Path(name).exists():
        raise UsageError(f"{name} is a test image of the run and a file here: give ./{name}")
    if match and int(match[1]) >= len(test):
        raise UsageError(f"{name} is none of the run's test images, which are test/0 to test/{len(test) - 1}")
    pixels = test[[int(match[1])]] if match else images_at(name, shape)[0]
    if len(pixels) > 1:
        raise UsageError(f"{name} holds {len(pixels)} images; give one picture, or a test image such as test/0")
    return pixels


def free(given: Options, name: str, is_file: bool = False) -> Path:
    """--out, else `name` in the run's folder. Raises UsageError unless it can be written."""
    folder = Path(given["load"])
    out = given.get("out", folder / name if folder.is_dir() else Path("runs") / f"{folder}-{name}")
    refuse_unwritable(out, is_file)
    kept = out.name in FILES and out.name != name
    if out.exists() and (kept or not given.get("force")):
        raise UsageError(f"{out} exists; choose another --out" + " or add --force" * (not kept))
    return out


def write_pictures(out: Path, pictures: np.ndarray, names: Sequence[str], about: Options, rows) -> None:
    """PNG files, a sheet, and pictures.json, because of which no run reads the folder as its images."""
    write_json(out / "pictures.json", about)
    for name, pixels in zip(names, pictures, strict=True):
        save(out / f"{name}.png", picture(pixels), durable=False)
    save(out / "sheet.png", sheet(rows))


# Each use of a trained model: what does it, and the options that it takes besides --backend, --out and --force.
USES = {
    "evaluate": (evaluate, ("data", "data_dir", "size", "nll_samples")),
    "encode": (encode, ("data_dir", "nll_samples")),
    "sample": (sample, ("seed",)),
    "reconstruct": (reconstruct, ("data_dir",)),
    "interpolate": (interpolate, ("data", "data_dir", "size")),
    "explore": (to_explore, ("data", "data_dir", "size")),
}
