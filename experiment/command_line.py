"""The command line: its options, their help, and what was typed."""

import argparse
import difflib
import textwrap
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from backend import BACKENDS
from data import DATASETS
from experiment import record
from experiment.defaults import BY_DATA, COLUMNS, COMMON, FIRST, METHOD_OPTIONS, PRESETS, row_of
from experiment.record import COUNT, KINDS, SIZES, Kind, Options, UsageError, as_text, flag, one_of
from ref.objectives import METHODS

ABOUT = "; ".join(f"{name}: {method.about}" for name, method in METHODS.items())
SAMPLES = ", ".join(f"{name} {method.samples}" for name, method in METHODS.items())
# Kinds of options that a record has not, or has not like this.
TYPED = KINDS | {"method": one_of((*METHODS, "all")), "preset": one_of(PRESETS), "validation": COUNT}
TYPED |= {"data": str, "skip_broken": bool}
# By group: each option's help, which its default will follow.
# fmt: off
OF_A_RUN = {
    "objective": {
        "method": f"{ABOUT}; all: compares them",
        **{name: f"{o.symbol}: {o.about}" for name, o in METHOD_OPTIONS.items()},
        "multiplier": "the rule of a constraint's λ",
        "multiplier_rate": "η of that rule (relative: 56/steps, at most 0.01; plain: 0.001)",
        "samples": f"posterior samples an image in training ({SAMPLES})",
        "likelihood": "p(x|z), in the loss if the method has it, in the ELBO and the NLL",
        "variance": "σ² of the Gaussian likelihood; with a constraint, of the reported ELBO and NLL alone",
    },
    "data": {
        "data": f"{', '.join(DATASETS)}, a folder of pictures or IDX files, .npz or .npy",
        "size": "scale a folder's pictures to SIZE×SIZE",
        "skip_broken": "leave out a folder's pictures that cannot be read, and name them",
        "validation": "hold out so many training images and report on them, not on the test images",
        "binarize": "pixels black or white by chance, drawn once, or anew each time",
    },
    "network and training": {
        "hidden": "the encoder's hidden layers, mirrored by the decoder: 512,256 or none",
        "latent": "latents",
        "activation": "of the hidden layers",
        "output": "x̂ = sigmoid(l), or l in principal coordinates from the linear VAE on",
        "epochs": "",
        "batch_size": "",
        "lr": "Adam's learning rate",
        "schedule": "of the learning rate; stages: as in Burda et al. 2015, down to a tenth",
        "adam": "Adam's constants β₁,β₂,ε",
        "weight_decay": "decoupled; of weights, not of biases",
        "preset": "burda: the published protocol of Burda et al. 2015; burda-short: its network, 100 epochs",
        "precision": "tf32: float32, but a GPU rounds operands of products to 10 bits of mantissa, which is faster",
        "seed": "",
        "nll_samples": "samples per image of the NLL; 5000 in publications",
    },
}
# By group: each option's kind, its type, or bool for a switch; and its help.
OF_A_COMMAND = {
    "where and how": {
        "backend": (one_of(BACKENDS), "numpy is the reference; numba and cupy are faster"),
        "data_dir": (Path, "where data sets are kept ($TAMING_VAES_DATA, else the user's cache)"),
        "out": (Path, "the run's folder (runs/<data>-<method>-<options that are not at their default>-<seed>)"),
        "force": (bool, "overwrite what --out holds"),
        "checkpoint_every": (COUNT, "epochs between checkpoints, which are ten seconds apart at least (1)"),
        "resume": (Path, "go on with the run in a folder, with its options; --epochs may grow, and its data move"),
        "init_from": (Path, "start a new run at the θ and λ that the run in a folder has trained, with its network"),
    },
    "several runs": {
        "seeds": (COUNT, "so many runs by each method and value, from --seed on, and a comparison"),
        "compare": (Path, "trains nothing: a report on the finished runs in these folders, whoever made them"),
    },
    "a trained model": {
        "load": (str, "use the model of the run in a folder, or mnist-10k, which comes along, for one of these:"),
        "evaluate": (bool, "its figures again, with other --nll-samples or --data, in LOAD/evaluation….json"),
        "encode": (str, "mean, std, rate, error and log-likelihood of images, in LOAD/encoded-<ENCODE>.npz"),
        "sample": (COUNT, "decoded draws from the prior, by --seed, and a sheet, in LOAD/samples-<SAMPLE>-<seed>/"),
        "reconstruct": (str, "images at the mean of q(z|x), and a sheet, in LOAD/reconstructed-<RECONSTRUCT>/"),
        "explore": (bool, "the page on which its latents move, LOAD/explore.html; with --compare one of all runs"),
        "interpolate": (str, "from one picture to another, each a path or test/0, test/1, … for the run's test images"),
    },
}
# fmt: on
OPTIONS = {group: {name: (TYPED[name], about) for name, about in rows.items()} for group, rows in OF_A_RUN.items()}
OPTIONS |= OF_A_COMMAND
NAMES = tuple(chain(*OF_A_RUN.values()))  # of the options that describe a run
SWEPT = (*METHOD_OPTIONS, "samples")  # options of which several values make as many runs
SEVERAL = {"compare": "+", "interpolate": 2, **dict.fromkeys(SWEPT, "+")}  # options with several values, and how many


def read_as(kind: Kind, text: str):
    """The value of a text, for argparse."""
    try:
        return kind.read(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {kind.wanted}") from None


def option_of(name: str, value):
    """The value of an option that describes a run, said in Python. Raises UsageError."""
    kind, given = TYPED[name], plain(value)
    try:
        if isinstance(given, str):
            return kind.read(given)
        return kind.checked((given,) if kind is SIZES and isinstance(given, int) else given)
    except (ArithmeticError, TypeError, ValueError):
        hint = "; fit trains one run: call it for each value" if name in SWEPT and isinstance(given, tuple) else ""
        hint += "; in Python (512, 256), and () for no layer" if kind is SIZES else ""
        large = isinstance(value, int) and abs(value) > 10**60  # Python refuses to print more than 4300 digits
        shown = "the integer" if large else textwrap.shorten(repr(value), 60, placeholder=" …")
        raise UsageError(f"{name}={shown} is not {kind.wanted}{hint}") from None


def plain(value):
    """Python's own numbers and tuples in the place of NumPy's, and of lists. A float32 is the number that it prints."""
    if isinstance(value, np.generic | np.ndarray) and not value.ndim:
        return float(str(value)) if value.dtype.kind == "f" else value.item()
    return tuple(map(plain, value)) if isinstance(value, list | tuple | np.ndarray | range) else value


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence, and a mistyped option is told the nearest name."""

    def error(self, message: str):
        words = message.split("unrecognized arguments: ")
        if len(words) == 2:
            odd = next((word for word in words[1].split() if word.startswith("--")), "")
            near = difflib.get_close_matches(odd.partition("=")[0], [*self._option_string_actions], 1)
            message += f"; did you mean {near[0]}?" if near else "; --help lists the options"
        raise UsageError(message)


def parser(description: str = "") -> Parser:
    """The command line. What it gives has the options alone that were typed."""
    usage = {"prog": "run.py", "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    p = Parser(description=description, argument_default=argparse.SUPPRESS, **usage)
    p.add_argument("--version", action="version", version=record.VERSION)
    for title, rows in OPTIONS.items():
        group = p.add_argument_group(title)
        for name, (kind, about) in rows.items():
            how = {"nargs": SEVERAL[name]} if name in SEVERAL else {}
            if kind is bool:
                how["action"] = "store_true"
            elif isinstance(kind, Kind) and kind.names:
                how["choices"] = kind.names
            else:
                how["type"] = partial(read_as, kind) if isinstance(kind, Kind) else kind
            group.add_argument(flag(name), **how, help=f"{about} {usual(name)}".strip())
    return p


def parsed(argv: list[str], description: str = "") -> Options:
    """The options that were typed, by name. An option in SWEPT with several values is a tuple. Raises UsageError."""
    given = vars(parser(description).parse_args(argv))
    swept = {name: tuple(given[name]) for name in SWEPT if name in given}
    return given | {name: values if len(values) > 1 else values[0] for name, values in swept.items()}


def of_a_run(given: Options) -> Options:
    """The options of `given` that describe a run, with the defaults that are known before there are images."""
    return FIRST | {name: given[name] for name in NAMES if name in given}


def usual(name: str) -> str:
    """An option's default for --help, by data set where a column has it; nothing where no table has it."""
    fixed = {n: option.default for n, option in METHOD_OPTIONS.items()} | FIRST | COMMON | {"backend": "numpy"}
    if fixed.get(name) is not None:
        return f"({as_text(fixed[name])})"
    if name not in COLUMNS:
        return ""
    told = []
    for data in BY_DATA:
        value = row_of(data)[name]
        told.append(f"{data}: {'chosen from them' if value is None else as_text(value)}")
    return f"({'; '.join(told)})"
