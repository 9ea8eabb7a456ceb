"""Train a VAE by one of five objectives, judge it on images it has not seen, and draw what it does.

python run.py                                                GECO on the embedded digits
python run.py --method geco --data mnist                     GECO on MNIST, downloaded once
python run.py --method iwae --data mnist --likelihood bernoulli --binarize dynamic
python run.py --resume runs/mnist-geco-0                     go on with a run that was stopped
mpiexec -n 4 python run.py --data mnist                      share the work among four processes
"""

import hashlib
import os
import platform
import shlex
import signal
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from backend import BackendError, open_backend
from backend.ranks import ALONE, Ranks, RanksError, open_ranks
from data import DataError, Dataset, binarize, load
from experiment import checkpoint
from experiment.files import FILES, claim, existing_run, held, write_json
from experiment.options import UsageError, complete, parser, resumed, stored
from experiment.pictures import draw_curves, draw_pictures
from experiment.results import summarize, table, warn
from experiment.signals import handled_by, stop
from experiment.training import build, constants, epoch_rows, fit, reader, restore, save
from ref.objectives import METHODS
from ref.train import NonFiniteError


def run(argv: list[str] | None, ranks: Ranks, folder: ExitStack) -> None:
    """One run from options to pictures, or the rest of one; its folder is held until `folder` is closed."""
    options = parser(__doc__)
    args, saved = options.parse_args(argv), None
    if args.resume:
        path = args.resume / "checkpoint.npz"
        if not path.is_file():
            raise UsageError(f"--resume {args.resume} holds no checkpoint.npz; start that run without --resume")
        if ranks.rank == 0:
            folder.enter_context(held(args.resume))
        arrays, saved = checkpoint.read(path)
        args = resumed(options, argv, path, saved["options"])
    backend = open_backend(args.backend, args.precision, args.tf32, ranks)
    data = images(args)
    args = complete(args, data)
    if ranks.size > args.batch_size:
        raise UsageError(f"--batch-size {args.batch_size} is less than the {ranks.size} processes; start fewer of them")
    args.out = args.out or Path("runs") / f"{data.name}-{args.method}-{args.seed}"
    config = describe(args, argv, backend, data)
    read, read_test = (reader(backend, pixels, args.binarize == "dynamic") for pixels in (data.train, data.test))
    if saved:
        model, state, history = restore(args, backend, *data.train.shape, path, arrays)
        config = go_on(args, saved, config, int(state["step"]))
    else:
        existing_run(args.out, args.force)
        (model, state), history = build(args, backend, data, read), []
        ranks.wait()  # until the others have seen the folder free, too
        if ranks.rank == 0:
            folder.enter_context(held(args.out))  # only now, because a network may not fit into memory
    for array in (constants(model) | state).values():
        backend.ranks.broadcast(array)
    if ranks.rank == 0:
        done = epoch_rows(history, len(data.train) // args.batch_size)
        first_checkpoint = partial(save, args, backend, model, state, history, config)
        claim(args.out, args.force or bool(saved), config, done, first_checkpoint)
    rows = fit(args, backend, model, state, read, history, config)
    summary = summarize(args, data, backend, model, state, read_test, rows)
    if ranks.rank:
        return
    write_json(args.out / "summary.json", summary)
    if METHODS[args.method].constraint and (warning := warn(args, summary, rows)):
        print(f"run.py: {warning}", file=sys.stderr)
    draw_pictures(args.out, backend, model, state["theta"], read_test, data.shape, min(10, len(data.test)))
    draw_curves(args.out / "curves.png", history, summary["kappa"])
    print(table(summary, data.test.shape[1]))
    print(f"rate, ELBO and NLL in nats, distortion in squared error per image; all in {args.out}/: {', '.join(FILES)}")


def images(args) -> Dataset:
    """The images of a run. Raises UsageError for some that teach nothing."""
    data = load(args.data, args.data_dir, args.size)
    if (data.train.max(axis=0) == data.train.min(axis=0)).all():
        raise UsageError(f"the training images of --data {args.data} are all the same; there is nothing to learn")
    if args.binarize == "static":
        data = data._replace(train=binarize(data.train, 0), test=binarize(data.test, 1))
    return data


def describe(args, argv: list[str] | None, backend, data: Dataset) -> dict:
    """config.json: what was asked for, on which images and by what it is done."""
    libraries = {name: metadata.version(name) for name in ("numpy", "pillow", "matplotlib")}
    checksum = hashlib.sha256(np.ascontiguousarray(data.train))
    checksum.update(np.ascontiguousarray(data.test))
    return {
        "command": ["run.py", *(sys.argv[1:] if argv is None else argv)],
        "options": stored(args),
        "versions": {"python": platform.python_version(), **libraries, **backend.versions},
        "processes": backend.ranks.size,
        "images": checksum.hexdigest(),
        "resumed": [],
    }


def go_on(args, saved: dict, config: dict, step: int) -> dict:
    """The config of a resumed run: its own, and who went on with it from where. Raises UsageError for other images."""
    if config["images"] != saved.get("images"):
        raise UsageError(f"the images of --data {args.data} are not those that {args.resume} was trained on")
    here = {name: config[name] for name in ("command", "versions", "processes")} | {"step": step}
    return saved | {"options": config["options"], "resumed": [*saved["resumed"], here]}


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 2 for bad input, 1 for numbers not finite, 128 + its number for a signal, each with a sentence."""
    ranks = ALONE
    try:
        # Training itself watches for numbers that are not finite.
        with handled_by(stop), np.errstate(all="ignore"), ExitStack() as folder:
            ranks = open_ranks()
            if ranks.rank:
                silence = folder.enter_context(open(os.devnull, "w"))
                folder.enter_context(redirect_stdout(silence))
                folder.enter_context(redirect_stderr(silence))
            run(argv, ranks, folder)
            return 0
    except (UsageError, DataError, BackendError, RanksError) as error:
        status, sentence = 2, f"{error}"
    except MemoryError:
        status, sentence = 2, "out of memory: lower --hidden, --latent, --samples or --batch-size"
    except OSError as error:
        status, sentence = 2, f"{error}; what was written before is kept{how_to_resume(error)}"
    except NonFiniteError as error:
        advice = "the likely cause is too large a step: lower --lr (and --multiplier-rate, if λ ran away)"
        status, sentence = 1, f"{error}; {advice}; what was written after the last whole epoch is kept"
    except KeyboardInterrupt as error:
        status, sentence = 128 + getattr(error, "number", signal.SIGINT), f"stopped{how_to_resume(error)}"
    if ranks.rank == 0:
        print(f"run.py: {sentence}", file=sys.stderr, flush=True)
    ranks.fail(status, sentence)
    return status


def how_to_resume(error: BaseException) -> str:
    """The command that goes on with the run that the error has ended, if it can."""
    out = getattr(error, "resume", None)
    return f"; to go on: python run.py --resume {shlex.quote(str(out))}" if out else ""


if __name__ == "__main__":
    sys.exit(main())
