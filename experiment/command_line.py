"""The command line: its options, their help, and what was typed."""

import argparse
import difflib
import math
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from backend import BACKENDS
from data import DATASETS
from experiment import __version__
from experiment.defaults import BY_DATA, COLUMNS, COMMON, FIRST, METHOD_OPTIONS, PRESETS, row_of
from experiment.record import CHOICES, Options, UsageError, as_text, flag
from ref.objectives import METHODS

# Uses of a trained model, and the options that each takes.
USES = {
    "evaluate": ("data", "data_dir", "size", "nll_samples", "backend", "tf32", "out", "force"),
    "encode": ("data_dir", "nll_samples", "backend", "tf32", "out", "force"),
    "sample": ("seed", "backend", "tf32", "out", "force"),
    "reconstruct": ("data_dir", "backend", "tf32", "out", "force"),
    "interpolate": ("data", "data_dir", "size", "backend", "tf32", "out", "force"),
    "explore": ("data", "data_dir", "size", "backend", "tf32", "out", "force"),
}


def checked(wanted: str, read: Callable, holds: Callable) -> Callable:
    """An argparse type: the value that read(text) gives, if it is the wanted kind."""

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
    """read(text) for numbers with commas between them; the word none stands for an empty list."""
    return lambda text: () if text == "none" else tuple(map(kind, text.split(",")))


def within(interval: str) -> Callable:
    """The argparse type of the finite numbers in an interval such as "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))
    ends = {low: interval[0] == "[", high: interval[-1] == "]"}  # whether each belongs to it; that at infinity does not
    return checked(
        f"a finite number in {interval}", float, lambda number: low <= number <= high and ends.get(number, True)
    )


COUNT = checked("an integer above 0", int, lambda n: 0 < n < 2**63)
FROM_ZERO = checked("an integer at least 0", int, lambda n: 0 <= n < 2**63)
POSITIVE, NOT_NEGATIVE = within("(0, inf)"), within("[0, inf)")
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
OF_A_RUN = {
    "objective": {
        "method": ([*METHODS, "all"], f"{listed('about', ': ', '; ')}; all: compares them"),
        **{name: (within(o.interval), f"{o.symbol}: {o.about}") for name, o in METHOD_OPTIONS.items()},
        "multiplier": (CHOICES["multiplier"], "the rule of a constraint's λ"),
        "multiplier_rate": (POSITIVE, "η of that rule (relative: 56/steps, at most 0.01; plain: 0.001)"),
        "samples": (COUNT, f"posterior samples an image in training ({listed('samples', ' ', ', ')})"),
        "likelihood": (CHOICES["likelihood"], "p(x|z), in the loss if the method has it, in the ELBO and the NLL"),
        "variance": (POSITIVE, "σ² of the Gaussian likelihood; with a constraint, of the reported ELBO and NLL alone"),
    },
    "data": {
        "data": (str, f"{', '.join(DATASETS)}, a folder of pictures or IDX files, .npz or .npy"),
        "size": (COUNT, "scale a folder's pictures to SIZE×SIZE"),
        "skip_broken": (bool, "leave out a folder's pictures that cannot be read, and name them"),
        "validation": (COUNT, "hold out so many training images and report on them, not on the test images"),
        "binarize": (CHOICES["binarize"], "pixels black or white by chance, drawn once, or anew each time"),
    },
    "network and training": {
        "hidden": (LAYERS, "the encoder's hidden layers, mirrored by the decoder: 512,256 or none"),
        "latent": (COUNT, "latents"),
        "activation": (CHOICES["activation"], "of the hidden layers"),
        "output": (CHOICES["output"], "x̂ = sigmoid(l), or l in principal coordinates from the linear VAE on"),
        "epochs": (COUNT, ""),
        "batch_size": (COUNT, ""),
        "lr": (POSITIVE, "Adam's learning rate"),
        "schedule": (CHOICES["schedule"], "of the learning rate; stages: as in Burda et al. 2015, down to a tenth"),
        "adam": (ADAM, "Adam's constants β₁,β₂,ε"),
        "weight_decay": (NOT_NEGATIVE, "decoupled; of weights, not of biases"),
        "preset": (PRESETS, "burda: the published protocol of Burda et al. 2015; burda-short: its network, 100 epochs"),
        "precision": (("float32", "float64"), ""),
        "tf32": (bool, "let a GPU round operands of float32 products to 10 bits of mantissa: faster"),
        "seed": (FROM_ZERO, ""),
        "nll_samples": (COUNT, "samples per image of the NLL; 5000 in publications"),
    },
}
OF_A_COMMAND = {
    "where and how": {
        "backend": ([*BACKENDS], "numpy is the reference; numba and cupy are faster"),
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
OPTIONS = OF_A_RUN | OF_A_COMMAND
NAMES = tuple(chain(*OF_A_RUN.values()))  # of the options that describe a run
SWEPT = (*METHOD_OPTIONS, "samples")  # options of which several values make as many runs
SEVERAL = {"compare": "+", "interpolate": 2, **dict.fromkeys(SWEPT, "+")}  # options with several values, and how many


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence, and a mistyped option is told the nearest name."""

    def error(self, message: str):
        words = message.split("unrecognized arguments: ")
        if len(words) == 2:
            known = map(flag, ["help", "version", *chain(*OPTIONS.values())])
            odd = next((word for word in words[1].split() if word.startswith("--")), "")
            near = difflib.get_close_matches(odd.partition("=")[0], known, 1)
            message += f"; did you mean {near[0]}?" if near else "; --help lists the options"
        raise UsageError(message)


def parser(description: str = "") -> Parser:
    """The command line. What it gives has the options alone that were typed."""
    usage = {"prog": "run.py", "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    p = Parser(description=description, argument_default=argparse.SUPPRESS, **usage)
    p.add_argument("--version", action="version", version=__version__)
    for title, rows in OPTIONS.items():
        group = p.add_argument_group(title)
        for name, (kind, about) in rows.items():
            how = {"action": "store_true"} if kind is bool else {"type": kind} if callable(kind) else {"choices": kind}
            how |= {"nargs": SEVERAL[name]} if name in SEVERAL else {}
            group.add_argument(flag(name), **how, help=f"{about} {usual(name)}".strip())
    return p


def parsed(argv: list[str], description: str = "") -> Options:
    """The options that were typed, by name. An option in SWEPT with several values is a tuple. Raises UsageError."""
    given = vars(parser(description).parse_args(argv))
    swept = {name: tuple(given[name]) for name in SWEPT if name in given}
    return given | {name: values if len(values) > 1 else values[0] for name, values in swept.items()}


def of_a_run(given: Options) -> Options:
    """The options of `given` that describe a run, with the defaults that are known before there are images."""
    asked = FIRST | {name: given[name] for name in NAMES if name in given}
    if asked.pop("tf32", False):
        if asked["precision"] != "float32":
            raise UsageError(f"--tf32 is for --precision float32, not {asked['precision']}")
        asked["precision"] = "tf32"
    return asked


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
