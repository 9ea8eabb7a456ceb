"""The command line: its options, and those of a run in its checkpoint."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from backend import BACKENDS
from data import DATASETS
from data.dataset import DataError
from experiment import checkpoint
from experiment.defaults import BY_DATA, COMMON, METHOD_OPTIONS, NETWORK_OPTIONS, PRESETS, UsageError, flag, row_of
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
# Options of a command, not of a run: no checkpoint has them.
OF_A_COMMAND = ("resume", "force", "jobs", "compare", "load", *USES)


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence."""

    def error(self, message: str):
        raise UsageError(message)


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
    """read(text) for numbers with commas between."""
    return lambda text: tuple(map(kind, text.split(",")))


COUNT = checked("an integer above 0", int, lambda n: 0 < n < 2**63)
FROM_ZERO = checked("an integer at least 0", int, lambda n: 0 <= n < 2**63)
POSITIVE = checked("a finite number above 0", float, lambda x: 0 < x < math.inf)
NOT_NEGATIVE = checked("a finite number at least 0", float, lambda x: 0 <= x < math.inf)
LAYERS = checked(
    "a list of layer sizes such as 512,256, nor none",
    lambda text: () if text == "none" else several(int)(text),
    lambda sizes: all(size > 0 for size in sizes),
)
ADAM = checked(
    "β₁,β₂,ε such as 0.9,0.999,1e-8, each β between 0 and 1",
    several(float),
    lambda found: len(found) == 3 and min(found) > 0 and max(found[:2]) < 1 and found[2] < math.inf,
)
METAVARS = {"data": "NAME|PATH", "samples": "K", "adam": "β₁,β₂,ε", "encode": "PATH", "reconstruct": "PATH"}
METAVARS |= dict.fromkeys(("resume", "init_from", "compare", "load"), "DIR")
METAVARS |= dict.fromkeys(("checkpoint_every", "seeds", "jobs", "sample"), "N")


def parser(description: str) -> Parser:
    """The command line. Choices, defaults and the options of single methods come from the tables."""
    usage = {"prog": "run.py", "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    p = Parser(description=description, **usage)
    for title, rows in groups().items():
        group = p.add_argument_group(title)
        for name, kind, about, *rest in rows:
            how = {"action": "store_true"} if kind is bool else {"type": kind} if callable(kind) else {"choices": kind}
            how |= {"metavar": METAVARS[name]} if name in METAVARS else {}
            how |= {"nargs": "+"} if name == "compare" else {}
            how |= {"default": rest[0]} if rest else {}
            group.add_argument(flag(name), **how, help=f"{about} {usual(name, *rest)}".strip())
    return p


def groups() -> dict[str, list[tuple]]:
    """The options by group: name, type or choices (bool for a switch), help, and a default that no table has."""
    return {
        "objective": [
            ("method", [*METHODS, "all"], f"{listed('about', ': ', '; ')}; all: compares them", "geco"),
            *((n, NOT_NEGATIVE if default == 0 else POSITIVE, about) for n, (default, about) in METHOD_OPTIONS.items()),
            ("multiplier", MULTIPLIERS, "the rule of a constraint's λ"),
            ("multiplier_rate", POSITIVE, "η of that rule (relative: 56/steps, at most 0.01; plain: 0.001)"),
            ("samples", COUNT, f"posterior samples an image in training ({listed('samples', ' ', ', ')})"),
            ("likelihood", LIKELIHOODS, "p(x|z): in the loss, if the method has it, and in the reported ELBO and NLL"),
            ("variance", POSITIVE, "σ² of the Gaussian likelihood"),
        ],
        "data": [
            ("data", str, f"{', '.join(DATASETS)}, a folder of pictures or IDX files, .npz or .npy", "mnist-10k"),
            ("data_dir", Path, "where data sets are kept ($TAMING_VAES_DATA, else the user's cache)"),
            ("size", COUNT, "scale a folder's pictures to SIZE×SIZE"),
            (
                "binarize",
                ("none", "static", "dynamic"),
                "pixels black or white by chance, drawn once, or anew each time",
            ),
        ],
        "network and training": [
            ("hidden", LAYERS, "the encoder's hidden layers, mirrored by the decoder: 512,256 or none"),
            ("latent", COUNT, "latents"),
            ("activation", ACTIVATIONS, "of the hidden layers"),
            ("output", ("sigmoid", "linear"), "x̂ = sigmoid(l), or l in principal coordinates from the linear VAE on"),
            ("epochs", COUNT, ""),
            ("batch_size", COUNT, ""),
            ("lr", POSITIVE, "Adam's learning rate"),
            (
                "schedule",
                SCHEDULES,
                "of the learning rate; stages: eight, each 3 × as long as the last, to a tenth",
            ),
            ("adam", ADAM, "Adam's constants"),
            ("weight_decay", NOT_NEGATIVE, "decoupled; of weights, not of biases"),
        ],
        "run": [
            (
                "preset",
                PRESETS,
                "burda: the published protocol of Burda et al. 2015; burda-short: its network in 100 epochs",
            ),
            ("nll_samples", COUNT, "samples per image of the NLL; 5000 in publications"),
            ("backend", BACKENDS, "", "numpy"),
            ("precision", ("float32", "float64"), "", "float32"),
            ("tf32", bool, "let a GPU round operands of float32 products to 10 bits of mantissa: faster"),
            ("seed", FROM_ZERO, "", 0),
            ("out", Path, "the run's folder (runs/<data>-<method>-<options that are not at their default>-<seed>)"),
            ("force", bool, "overwrite what --out holds"),
            (
                "checkpoint_every",
                COUNT,
                "epochs between two checkpoints; there is one at the end and on a signal, too",
                1,
            ),
            ("resume", Path, "go on with the run in DIR, with its options; --epochs may grow, and its data move"),
            ("init_from", Path, "start a new run at the θ and λ that the run in DIR has trained, with its network"),
        ],
        "several runs": [
            ("seeds", COUNT, "with all: N seeds, from --seed on (1)"),
            ("jobs", COUNT, "with all: N runs at a time, each a process (with NumPy one a core, else 1)"),
            ("compare", Path, "trains nothing: a report on the finished runs in these folders, whoever made them"),
        ],
        "a trained model": [
            ("load", Path, "use the model of the run in DIR, for one of these:"),
            ("evaluate", bool, "its figures again, with other --nll-samples or --data, in DIR/evaluation….json"),
            ("encode", Path, "mean, std, rate, error and log-likelihood of PATH's images, in DIR/encoded-<PATH>.npz"),
            ("sample", COUNT, "N decoded draws from the prior, by --seed, and a sheet, in DIR/samples-<N>-<seed>/"),
            ("reconstruct", Path, "PATH's images at the mean of q(z|x), and a sheet, in DIR/reconstructed-<PATH>/"),
        ],
    }


def listed(field: str, between: str, after: str) -> str:
    """A field of each method, for --help."""
    return after.join(f"{name}{between}{getattr(method, field)}" for name, method in METHODS.items())


def usual(name: str, *default) -> str:
    """An option's default for --help, by data set where it differs; nothing where no table has one."""

    def text(value) -> str:
        if isinstance(value, tuple):
            return ",".join(map(text, value))
        return f"{value:g}" if isinstance(value, float) else "chosen from them" if value is None else str(value)

    of_method = METHOD_OPTIONS.get(name, (None,))[0]
    default = default or [value for value in (COMMON.get(name), of_method) if value is not None]
    values = dict.fromkeys(BY_DATA, default[0]) if default else {data: row_of(data).get(name) for data in BY_DATA}
    first, *others = dict.fromkeys(values.values())
    if not others:
        return "" if first is None else f"({text(first)})"
    return f"({'; '.join(f'{data}: {text(value)}' for data, value in values.items())})"


def given(argv: list[str] | None) -> dict:
    """The options on the command line, without the defaults of the others."""
    p = parser("")
    p.set_defaults(**dict.fromkeys(vars(p.parse_args(argv))))
    return {name: value for name, value in vars(p.parse_args(argv)).items() if value is not None}


def stored(args: argparse.Namespace) -> dict:
    """The options of a run as JSON knows them."""
    options = {name: value for name, value in vars(args).items() if name not in OF_A_COMMAND}
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def restored(path: Path, options: dict) -> argparse.Namespace:
    """The `stored` options in the checkpoint at `path`, which go through the parser as if they had been typed.

    An option that is younger than the checkpoint has its default. One that is gone since does not count unless it was
    set. Raises DataError for options that are none.
    """
    p = parser("")
    try:
        known = {*stored(p.parse_args([]))}
        if unknown := {name for name, value in options.items() if value not in (None, False)} - known:
            raise UsageError(f"{min(unknown)!r} is an option of another version")
        return p.parse_args(command_line({name: value for name, value in options.items() if name in known}))
    except UsageError as error:
        raise DataError(f"{path}: its options cannot be used: {error}") from error


def resumed(anew: dict, path: Path, options: dict) -> argparse.Namespace:
    """The options `restored`, and of those on the command line, `anew`, the ones in which a run may go on differently.

    Raises UsageError, and DataError for options that are none.
    """
    args = restored(path, options)
    epochs, backend, args.out = args.epochs, args.backend, path.parent
    refuse_contradiction(f"--resume {path.parent}", args, {n: v for n, v in anew.items() if n not in RESTATED})
    for name in RESTATED:
        setattr(args, name, anew.get(name, getattr(args, name)))
    if args.backend != backend:
        args.tf32 = "tf32" in anew
    if args.epochs < epochs:
        raise UsageError(f"--epochs {args.epochs} is less than the {epochs} of --resume {path.parent}; let it grow")
    return args


def with_network_of(folder: Path, args: argparse.Namespace, given: dict) -> argparse.Namespace:
    """The options, with the network of the run that --init-from names. Raises UsageError for another one."""
    path = checkpoint.path_in(folder)
    trained = restored(path, checkpoint.read(path)[1]["options"])
    refuse_contradiction(f"--init-from {folder}", trained, {n: given[n] for n in NETWORK_OPTIONS if n in given})
    for name in NETWORK_OPTIONS:
        setattr(args, name, getattr(trained, name))
    if args.likelihood is None:
        args.likelihood, args.variance = trained.likelihood, args.variance or trained.variance
    return args


def refuse_contradiction(source: str, args: argparse.Namespace, given: dict) -> None:
    """Raises UsageError for the first of the `given` options that is another than in `args`, those of the source."""
    for name, value in given.items():
        if value != getattr(args, name):
            there = said(name, getattr(args, name))
            raise UsageError(f"{said(name, value)} contradicts {source}, which has {there}; leave it out")


def command_line(options: dict) -> list[str]:
    """`stored` options as they would have been typed."""
    return [typed(name, value) for name, value in options.items() if value is not None and value is not False]


def typed(name: str, value) -> str:
    """An option as the command line takes it, or that there is none."""
    if value is None or value is False:
        return f"no {flag(name)}"
    if isinstance(value, list | tuple):
        return f"{flag(name)}={','.join(map(str, value)) or 'none'}"
    return flag(name) if value is True else f"{flag(name)}={value}"


def said(name: str, value) -> str:
    """An option as a sentence has it."""
    return typed(name, value).replace("=", " ", 1)
