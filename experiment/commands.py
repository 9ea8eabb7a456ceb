"""What the command line asks for, and `fit`, a run on images in memory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product, starmap
from pathlib import Path

import numpy as np

from backend import Backend, open_backend
from backend.ranks import Ranks
from data import DATASETS, Dataset, npz
from data.files import shown
from experiment import record, run_folder, sources
from experiment.command_line import NAMES, SWEPT, of_a_run, option_of
from experiment.comparison import compare, compare_folders, finished
from experiment.defaults import BROUGHT, NETWORK, binarization, complete, listed, part_of_name, shared_by_all
from experiment.evaluation import listing
from experiment.record import IN_MEMORY, OF_METHODS, Options, Run, UsageError, options_of, said, typed
from experiment.run_folder import FILES, Saved, command_to_go_on, read_checkpoint, refuse_existing
from experiment.terminal import Stopped, on_terminal, say
from experiment.trained_model import TrainedModel, load
from experiment.training import How, make
from experiment.use_model import USES, use
from ref.objectives import METHODS

# What a resumed run may be given anew, and what it does not store.
RESTATED = ("resume", "epochs", "data", "data_dir", "size", "checkpoint_every", "backend", "precision")


def obey(given: Options, command: list[str], ranks: Ranks) -> str:
    """Does what was typed. Returns what there is to say. Raises UsageError, DataError, BackendError."""
    if "compare" in given:
        return compare_folders(given, command) if ranks.rank == 0 else ""
    if given.keys() & {"load", *USES}:
        return use(given, ranks)
    where = {name: given[name] for name in ("backend", "out", "force", "checkpoint_every") if name in given}
    how = How(command, ranks, **where)
    return (go_on if "resume" in given else begin)(given, how)


@contextmanager
def advised(command: Callable[[], str]) -> Iterator[None]:
    """An error of the system or a signal in this block gets a sentence with the command() that goes on, if any."""
    try:
        yield
    except (OSError, Stopped) as error:
        advice = f"; to go on: {command()}" if command() else ""
        if isinstance(error, Stopped):
            raise Stopped(error.number, advice) from error
        raise OSError(f"{error}; what was written before is kept{advice}") from error


def opened(run: Run, how: How) -> Backend:
    """The backend of a run. Raises UsageError for more processes than images of a batch."""
    if how.ranks.size > (batch := run.batch_size):
        raise UsageError(f"--batch-size {batch} is less than the {how.ranks.size} processes; start fewer of them")
    return open_backend(how.backend or "numpy", run.dtype, run.precision == "tf32", how.ranks)


def begin(given: Options, how: How) -> str:
    """A new run, or several."""
    asked, model = of_a_run(given), None
    if "init_from" in given:
        model = load(given["init_from"])
        asked = with_network_of(model, given["init_from"], asked)
    on_images = {name: given[name] for name in (*sources.HOW, "validation") if name in given}
    data, images = sources.opened(asked["data"], binarization(asked), **on_images)
    start = begin_at(model, given["init_from"], images) if model else None
    if asked["method"] == "all" or "seeds" in given or values_of(asked):
        return several_runs(asked, given.get("seeds", 1), start, data, images, how)
    run, name, chosen = complete(asked, data, images, start)
    how = how._replace(out=how.out or Path("runs") / name)
    backend = opened(run, how)
    refuse_existing(how.out, run, how.force)
    say(start_of(run, data, how.out) + chosen)
    with advised(lambda: command_to_go_on(how.out) if run_folder.state_of(how.out, run) == "stopped" else ""):
        return train(run, backend, data, how)


def train(run: Run, backend: Backend, data: Dataset, how: How, resume=False) -> str:
    """Makes the run in how.out, or goes on with the stopped run there. Returns what there is to say."""
    _, summary = make(run, backend, data, how, resume)
    there = [name for name in FILES if (how.out / name).exists()]
    units = "rate, ELBO and NLL in nats, errors in squared error per image"
    if summary["calibrated_variance"]:
        units += ", σ*² = (training error)/D"
    if run.target is not None:
        units += f", C = what is bounded − {run.target:.4g}"
    return f"{listing(summary)}\n{units}; all in {how.out}/: {', '.join(there)}"


def start_of(run: Run, data: Dataset, out: str | Path | None) -> str:
    """What is said before a run: its method, its epochs, its folder, and on which images it trains."""
    source, where = run.images.source, "" if out is None else f" in {out}/"
    if source in DATASETS:
        source = f"the data set {source}"
    elif source != IN_MEMORY:
        source = shown(str(Path(source).resolve()))
    return f"{run.objective.title} for {run.epochs:,} epoch{'s' * (run.epochs > 1)}{where}, on {source}: {data.split}"


def go_on(given: Options, how: How) -> str:
    """A run that was stopped, or that is to have more epochs."""
    out = given["resume"]
    before = read_checkpoint(out)
    run = resumed(before, given)
    data, images = sources.opened_again(run, given, f"the run in {out}")
    run, how = run.but(images=images), how._replace(out=out, backend=how.backend or before.config["backend"])
    backend = opened(run, how)
    say(start_of(run, data, out))

    def again() -> str:
        more = "" if run_folder.state_of(out, run) == "stopped" else f" --epochs {run.epochs}"  # no checkpoint has them
        return "" if (out / "summary.json").exists() else command_to_go_on(out) + more

    with advised(again):
        return train(run, backend, data, how, resume=True)


def resumed(saved: Saved, given: Options) -> Run:
    """The run of a checkpoint with what RESTATED lets change. Raises UsageError for any other option."""
    folder, run, backend = saved.path.parent, saved.run, saved.config["backend"]
    fixed = [name for name in given if name not in RESTATED]
    moved = given.get("backend", backend) != backend
    now = run.but(precision=given.get("precision", run.dtype if moved else run.precision))  # TF32 is a backend's own
    if now.dtype != run.dtype:
        fixed.append("precision")
    refuse_contradiction(f"--resume {folder}", run.typed | {"out": folder}, fixed, given)
    epochs = given.get("epochs", run.epochs)
    if epochs < run.epochs:
        raise UsageError(f"--epochs {epochs} is less than the {run.epochs} of --resume {folder}; let it grow")
    return now.but(epochs=epochs)


def refuse_contradiction(source: str, there: Options, names: Iterable[str], given: Options) -> None:
    """Raises UsageError for the first of the names whose option in `given` differs from `there`, the source's."""
    for name in names:
        if name in given and given[name] != there.get(name):
            found = said(name, there.get(name))
            raise UsageError(f"{said(name, given[name])} contradicts {source}, which has {found}; leave it out")


def with_network_of(model: TrainedModel, folder: Path, asked: Options) -> Options:
    """The options, with the network of the model of --init-from. Raises UsageError for another network."""
    typed = model.run.typed
    refuse_contradiction(f"--init-from {folder}", typed, NETWORK, asked)
    brought = NETWORK if "likelihood" in asked else BROUGHT
    return {name: typed[name] for name in brought if name in typed} | asked | {"init_from": folder}


def begin_at(model: TrainedModel, folder: Path, images: record.Images) -> record.Start:
    """The start at that model of a run on these images. Raises UsageError for images of another shape, or seen."""
    source, before = f"--init-from {folder}", model.run.images
    if before.shape != images.shape:
        found = f"the images of --data {images.source} are {images.shape}"
        raise UsageError(f"{found}, those of {source} {before.shape}")
    if before.source == images.source and before.validation < images.validation:
        seen = f"has seen images that --validation {images.validation} holds out"
        raise UsageError(f"the run in {source} {seen}; start from one with that --validation")
    return record.Start(str(folder), hashlib.sha256(np.ascontiguousarray(model.theta)).hexdigest())


def values_of(asked: Options) -> dict[str, tuple]:
    """The options of which several values are asked for."""
    return {name: asked[name] for name in SWEPT if isinstance(asked.get(name), tuple)}


def each_run(asked: Options, seeds: int) -> dict[str, Options]:
    """The options of each run by the name of its folder: methods × values × seeds.

    With --method all each method has the asked options that it takes.
    """
    found, last = {}, asked["seed"] + seeds - 1
    if not record.FROM_ZERO.holds(last):
        raise UsageError(f"--seeds {seeds} from --seed {asked['seed']} would end at {last}; begin at a smaller --seed")
    methods = METHODS if asked["method"] == "all" else [asked["method"]]
    for seed, method in product(range(asked["seed"], asked["seed"] + seeds), methods):
        own = asked | {"method": method, "seed": seed}
        if asked["method"] == "all":
            lacks = OF_METHODS - {*options_of(METHODS[method])}
            if METHODS[method].samples == 1:
                lacks.add("samples")
            own = {name: value for name, value in own.items() if name not in lacks}
        values = values_of(own)
        for chosen in product(*values.values()):
            which = dict(zip(values, chosen, strict=True))
            found["-".join([method, *starmap(part_of_name, which.items()), f"{seed}"])] = own | which
    return found


def several_runs(asked: Options, seeds: int, start, data: Dataset, images: record.Images, how: How) -> str:
    """Makes the runs that the folder lacks, goes on with stopped runs, compares all. Refuses before any training."""
    name = "-".join([data.name, asked["method"], *starmap(part_of_name, values_of(asked).items())])
    out = how.out or Path("runs") / name
    if (out / "config.json").exists():
        raise UsageError(f"--out {out} holds a single run; choose another folder for the comparison")
    chosen = shared_by_all(asked, data)
    each = each_run(asked | chosen, seeds)
    runs = {out / folder: complete(own, data, images, start) for folder, own in each.items()}
    run_folder.refuse_unwritable(out)
    standing = {folder: standing_of(completed.run, folder, how.force) for folder, completed in runs.items()}
    backend = opened(next(iter(runs.values())).run, how)
    if chosen:
        say(f"chosen from the images, for all runs: {listed(chosen)}")
    with advised(lambda: "the same command"):
        how.ranks.wait()  # until all have seen what is missing
        for number, (folder, (run, _, from_images)) in enumerate(runs.items(), 1):
            whole = standing[folder] == "whole"
            what = f"{folder}/ is whole" if whole else start_of(run, data, folder) + from_images
            say(f"run {number} of {len(runs)}: {what}")
            if not whole:
                say(train(run, backend, data, how._replace(out=folder), standing[folder] == "stopped"))
        if how.ranks.rank:
            return ""
        return compare([finished(folder) for folder in runs], out, backend.name, data, how.command)


def standing_of(run: Run, folder: Path, force: bool) -> str:
    """The run in the folder is "whole", "stopped" or "missing". Raises UsageError for another run without --force."""
    state, found = run_folder.state_of(folder, run), ""
    if state == "other":
        found = f"{folder} holds {run_folder.what_lies_in(folder, run)}"
    if state == "whole":
        try:
            finished(folder)
        except UsageError as error:
            found = f"{error}"
    if found and not force:
        raise UsageError(f"{found}; choose another --out, or add --force to make {folder} anew")
    return "missing" if found else state


def fit(images, method: str = "geco", test=None, shape=None, out=None, backend="numpy", **chosen) -> TrainedModel:
    """Trains a model on images and returns it. `out`, a folder, keeps the run and its pictures there.

    images, test  (N, H, W, C), (N, H, W) or (N, D), uint8 or floats in [0, 1]; without `test` a tenth of the images is
                  held out. Rows of a square number D are square pictures, others strips, unless `shape` is (H, W, C).
    chosen        the options of a run on the command line: kappa=4.0, epochs=20, hidden=(256, 128), nll_samples=500, …

    Raises a ValueError for other images and for options that there are not.
    """
    known = [name for name in NAMES if name not in ("data", "size", "skip_broken")]
    if odd := sorted({*chosen} - {*known}):
        raise UsageError(f"fit has no option {odd[0]}; it takes {', '.join(known)}")
    if not isinstance(method, str) or method not in METHODS:
        found = repr(method) if isinstance(method, str) else f"a method that is a {type(method).__name__}"
        raise UsageError(f"fit trains one of {', '.join(METHODS)}, not {found}")
    chosen = {"method": method} | {name: value for name, value in chosen.items() if value is not None}
    told = {name: option_of(name, value) for name, value in chosen.items()}
    if test is not None and "validation" in told:
        raise UsageError("fit reports on test or on held-out images; give test or validation")
    asked = of_a_run(told) | {"data": IN_MEMORY}
    arrays = {"images": images} | ({} if test is None else {"test": test})
    given = npz.dataset("fit", "fit", arrays, shape=shape)
    data, found = sources.opened(IN_MEMORY, binarization(asked), given=given, validation=asked.get("validation", 0))
    run, _, chosen_from_images = complete(asked, data, found)
    # run.py will ask for a file in place of the data
    command = [typed(name, value) for name, value in ({"data": IN_MEMORY} | told).items()]
    how = How(command, backend=backend, out=None if out is None else Path(out))
    if how.out:
        refuse_existing(how.out, run)
    if not on_terminal():  # where there is no bar
        say(start_of(run, data, out) + chosen_from_images, "stderr")
    return make(run, opened(run, how), data, how)[0]
