"""The command line: its options, and those of a run in its checkpoint."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backend import BACKENDS
from data import DATASETS
from data.dataset import DataError
from experiment import checkpoint
from experiment.defaults import FIRST, METHOD_OPTIONS, PRESETS, UsageError, flag, said, typed, usual
from ref.adam import SCHEDULES
from ref.densities import LIKELIHOODS
from ref.mlp import ACTIVATIONS
from ref.objectives import METHODS, MULTIPLIERS

# What a resumed run may be given anew.
RESTATED = ("resume", "epochs", "data", "data_dir", "checkpoint_every", "backend", "tf32")
# Uses of a trained model, one at a time, and the options that each takes.
USES = {
    "evaluate": ("data", "data_dir", "size", "nll_samples", "backend", "tf32", "out", "force"),
    "encode": ("nll_samples", "backend", "tf32", "out", "force"),
    "sample": ("seed", "backend", "tf32", "out", "force"),
    "reconstruct": ("backend", "tf32", "out", "force"),
}
NETWORK = ("hidden", "latent", "activation", "output")  # what --init-from brings
# Options of a command, not of a run: no checkpoint has them.
OF_A_COMMAND = ("resume", "force", "jobs", "compare", "load", *USES)


def checked(wanted: str, read: Callable, holds: Callable) -> Callable:
    """An argparse type: the value that read(text) gives, if it is the wanted one."""

    def parse(text: str):
        try:
            value = read(text)
            if holds(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")

    return parse


def several(kind: type) -> Callable:
    """read(text) for numbers with commas between; none for no number."""
    return lambda text: () if text == "none" else tuple(map(kind, text.split(",")))


COUNT = checked("an integer above 0", int, lambda n: 0 < n < 2**63)
FROM_ZERO = checked("an integer at least 0", int, lambda n: 0 <= n < 2**63)
POSITIVE = checked("a finite number above 0", float, lambda x: 0 < x < math.inf)
NOT_NEGATIVE = checked("a finite number at least 0", float, lambda x: 0 <= x < math.inf)
LAYERS = checked(
    "a list of layer sizes such as 512,256, nor none", several(int), lambda sizes: min(sizes, default=1) > 0
)
ADAM = checked(
    "β₁,β₂,ε such as 0.9,0.999,1e-8, each β between 0 and 1",
    several(float),
    lambda found: len(found) == 3 and min(found) > 0 and max(found[:2]) < 1 and found[2] < math.inf,
)


def listed(field: str, between: str, after: str) -> str:
    """A field of each method, for --help."""
    return after.join(f"{name}{between}{getattr(method, field)}" for name, method in METHODS.items())


# By group: each option's type, or its choices, or bool for a switch; and its help, which its default will follow.
# fmt: off
OPTIONS = {
    "objective": {
        "method": ([*METHODS, "all"], f"{listed('about', ': ', '; ')}; all: compares them"),
        **{n: (NOT_NEGATIVE if value == 0 else POSITIVE, about) for n, (value, about) in METHOD_OPTIONS.items()},
        "multiplier": (MULTIPLIERS, "the rule of a constraint's λ"),
        "multiplier_rate": (POSITIVE, "η of that rule (relative: 56/steps, at most 0.01; plain: 0.001)"),
        "samples": (COUNT, f"posterior samples an image in training ({listed('samples', ' ', ', ')})"),
        "likelihood": (LIKELIHOODS, "p(x|z): in the loss, if the method has it, and in the reported ELBO and NLL"),
        "variance": (POSITIVE, "σ² of the Gaussian likelihood"),
    },
    "data": {
        "data": (str, f"{', '.join(DATASETS)}, a folder of pictures or IDX files, .npz or .npy"),
        "data_dir": (Path, "where data sets are kept ($TAMING_VAES_DATA, else the user's cache)"),
        "size": (COUNT, "scale a folder's pictures to SIZE×SIZE"),
        "binarize": (("none", "static", "dynamic"), "pixels black or white by chance, drawn once, or anew each time"),
    },
    "network and training": {
        "hidden": (LAYERS, "the encoder's hidden layers, mirrored by the decoder: 512,256 or none"),
        "latent": (COUNT, "latents"),
        "activation": (ACTIVATIONS, "of the hidden layers"),
        "output": (("sigmoid", "linear"), "x̂ = sigmoid(l), or l in principal coordinates from the linear VAE on"),
        "epochs": (COUNT, ""),
        "batch_size": (COUNT, ""),
        "lr": (POSITIVE, "Adam's learning rate"),
        "schedule": (SCHEDULES, "of the learning rate; stages: as in Burda et al. 2015, down to a tenth"),
        "adam": (ADAM, "Adam's constants β₁,β₂,ε"),
        "weight_decay": (NOT_NEGATIVE, "decoupled; of weights, not of biases"),
    },
    "run": {
        "preset": (PRESETS, "burda: the published protocol of Burda et al. 2015; burda-short: its network, 100 epochs"),
        "nll_samples": (COUNT, "samples per image of the NLL; 5000 in publications"),
        "backend": ([*BACKENDS], ""),
        "precision": (("float32", "float64"), ""),
        "tf32": (bool, "let a GPU round operands of float32 products to 10 bits of mantissa: faster"),
        "seed": (FROM_ZERO, ""),
        "out": (Path, "the run's folder (runs/<data>-<method>-<options that are not at their default>-<seed>)"),
        "force": (bool, "overwrite what --out holds"),
        "checkpoint_every": (COUNT, "epochs between two checkpoints; there is one at the end and on a signal, too"),
        "resume": (Path, "go on with the run in a folder, with its options; --epochs may grow, and its data move"),
        "init_from": (Path, "start a new run at the θ and λ that the run in a folder has trained, with its network"),
    },
    "several runs": {
        "seeds": (COUNT, "with all: so many seeds, from --seed on (1)"),
        "jobs": (COUNT, "with all: so many runs at a time, each a process (with NumPy one a core, else 1)"),
        "compare": (Path, "trains nothing: a report on the finished runs in these folders, whoever made them"),
    },
    "a trained model": {
        "load": (Path, "use the model of the run in a folder, for one of these:"),
        "evaluate": (bool, "its figures again, with other --nll-samples or --data, in LOAD/evaluation….json"),
        "encode": (Path, "mean, std, rate, error and log-likelihood of images, in LOAD/encoded-<ENCODE>.npz"),
        "sample": (COUNT, "decoded draws from the prior, by --seed, and a sheet, in LOAD/samples-<SAMPLE>-<seed>/"),
        "reconstruct": (Path, "images at the mean of q(z|x), and a sheet, in LOAD/reconstructed-<RECONSTRUCT>/"),
    },
}
# fmt: on


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence."""

    def error(self, message: str):
        raise UsageError(message)


def parser(description: str = "") -> Parser:
    """The command line. What it gives has those options alone that were typed."""
    usage = {"prog": "run.py", "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    p = Parser(description=description, argument_default=argparse.SUPPRESS, **usage)
    for title, rows in OPTIONS.items():
        group = p.add_argument_group(title)
        for name, (kind, about) in rows.items():
            how = {"action": "store_true"} if kind is bool else {"type": kind} if callable(kind) else {"choices": kind}
            how |= {"nargs": "+"} if name == "compare" else {}
            group.add_argument(flag(name), **how, help=f"{about} {usual(name)}".strip())
    return p


def parsed(argv: list[str], description: str = "") -> tuple[argparse.Namespace, dict]:
    """The options of a command line, None where nobody has chosen yet; and apart from them those that were typed."""
    given = vars(parser(description).parse_args(argv))
    names = [name for rows in OPTIONS.values() for name in rows]
    return argparse.Namespace(**dict.fromkeys(names) | FIRST | given), given


def stored(args: argparse.Namespace) -> dict:
    """The options of a run as JSON knows them."""
    options = {name: value for name, value in vars(args).items() if name not in OF_A_COMMAND}
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def command_line(options: dict) -> list[str]:
    """`stored` options as they would have been typed."""
    return [typed(name, value) for name, value in options.items() if value is not None and value is not False]


class Saved(NamedTuple):
    """What a run's checkpoint holds."""

    path: Path
    arrays: dict[str, np.ndarray]
    config: dict
    args: argparse.Namespace  # its options


def opened(folder: Path) -> Saved:
    """The checkpoint in a run's folder. Raises UsageError without one, and DataError for one that is damaged."""
    path = Path(folder) / "checkpoint.npz"
    arrays, config = checkpoint.read(path)
    return Saved(path, arrays, config, restored(path, config["options"]))


def restored(path: Path, options: dict) -> argparse.Namespace:
    """The `stored` options in the checkpoint at `path`, which go through the parser as if they had been typed.

    An option that is younger than the checkpoint has its default. One that is gone since does not count unless it was
    set. Raises DataError for options that are none.
    """
    known = {name for rows in OPTIONS.values() for name in rows} - {*OF_A_COMMAND}
    try:
        if unknown := {name for name, value in options.items() if value not in (None, False)} - known:
            raise UsageError(f"{min(unknown)!r} is an option of another version")
        return parsed(command_line(options))[0]
    except UsageError as error:
        raise DataError(f"{path}: its options cannot be used: {error}") from error


def resumed(saved: Saved, given: dict) -> argparse.Namespace:
    """The options of a checkpoint, and of those on the command line the ones in which a run may go on differently.

    Raises UsageError for any other.
    """
    folder, before = saved.path.parent, argparse.Namespace(**vars(saved.args) | {"out": saved.path.parent})
    refuse_contradiction(f"--resume {folder}", before, {n: v for n, v in given.items() if n not in RESTATED})
    args = argparse.Namespace(**vars(before) | {name: given[name] for name in RESTATED if name in given})
    if args.backend != before.backend:
        args.tf32 = given.get("tf32")
    if args.epochs < before.epochs:
        raise UsageError(f"--epochs {args.epochs} is less than the {before.epochs} of --resume {folder}; let it grow")
    return args


def with_network_of(folder: Path, args: argparse.Namespace, given: dict) -> argparse.Namespace:
    """The options, with the network of the run that --init-from names. Raises UsageError for another one."""
    trained = opened(folder).args
    refuse_contradiction(f"--init-from {folder}", trained, {n: given[n] for n in NETWORK if n in given})
    args = argparse.Namespace(**vars(args) | {name: getattr(trained, name) for name in NETWORK})
    if args.likelihood is None:
        args.likelihood, args.variance = trained.likelihood, args.variance or trained.variance
    return args


def refuse_contradiction(source: str, args: argparse.Namespace, given: dict) -> None:
    """Raises UsageError for the first of the `given` options that is another than in `args`, those of the source."""
    for name, value in given.items():
        if value != getattr(args, name):
            there = said(name, getattr(args, name))
            raise UsageError(f"{said(name, value)} contradicts {source}, which has {there}; leave it out")
