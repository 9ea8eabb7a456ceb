"""The command line: every option, its default by data set and method, and what is refused."""

import argparse
import math
from pathlib import Path

import numpy as np

from backend import BACKENDS
from data import DATASETS
from data.dataset import DataError, white
from ref.adam import SCHEDULES
from ref.mlp import ACTIVATIONS
from ref.objectives import METHODS, MULTIPLIERS

METHOD_OPTIONS = {name: option for method in METHODS.values() for name, option in method.options.items()}
MULTIPLIER_OPTIONS = ("multiplier", "multiplier-rate")

# What each data set brings, and what the user's own images do; κ² is a squared error per image.
DEFAULTS = {
    "digits": {"kappa": 1.2, "epochs": 100, "latent": 16, "output": "linear", "lr": 1e-3, "nll_samples": 500}
    | {"hidden": (128, 64)},
    "mnist": {"kappa": 4.0, "epochs": 30, "latent": 200, "output": "sigmoid", "lr": 2e-3, "nll_samples": 100}
    | {"weight_decay": 0.2},
    "cifar10": {"kappa": 3.394, "epochs": 20, "latent": 384, "output": "linear", "lr": 1e-3, "nll_samples": 20},
    "sprites": {"kappa": 2.0, "epochs": 30, "latent": 10, "output": "sigmoid", "lr": 1e-3, "nll_samples": 100},
}
OWN = {"kappa": None, "epochs": 30, "latent": 64, "output": "linear", "lr": 1e-3, "nll_samples": 100}
COMMON = {"hidden": (512, 256), "batch_size": 128, "binarize": "none", "weight_decay": 0.0, "activation": "silu"} | {
    "schedule": "cosine",
    "adam": (0.9, 0.999, 1e-8),
    "likelihood": "gaussian",
}
# A published protocol: defaults that come before those of the data set.
PRESETS = {
    # Burda et al. 2015, section 5, and their code: the VAE and the IWAE with one stochastic layer
    "burda": {"hidden": (200, 200), "latent": 50, "activation": "tanh", "output": "sigmoid", "weight_decay": 0.0}
    | {"likelihood": "bernoulli", "binarize": "dynamic", "batch_size": 20, "adam": (0.99, 0.999, 1e-4)}
    | {"lr": 1e-3, "schedule": "stages", "epochs": 3280, "nll_samples": 5000},
}
OWN_KAPPA = 0.3  # of the images' variance stays unexplained by default, as on MNIST
# What a resumed run may be given anew.
RESTATED = ("resume", "epochs", "data", "data_dir", "checkpoint_every", "backend", "tf32")


class UsageError(ValueError):
    """Options that make no sense, in one sentence."""


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence."""

    def error(self, message: str):
        raise UsageError(message)


def number(kind: type, low: float, inclusive: bool = False):
    """An argparse type: a finite number above `low` (or from `low` on)."""

    def parse(text: str):
        try:
            value = kind(text)
            finite = math.isfinite(value)
        except (ValueError, OverflowError):
            value, finite = math.nan, False
        if not finite or value < low or (value == low and not inclusive):
            bound = "at least" if inclusive else "above"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {'an integer' if kind is int else 'a finite number'} {bound} {low}"
            )
        return value

    return parse


def layer_sizes(text: str) -> tuple[int, ...]:
    """An argparse type: "512,256" or "none"."""
    if text == "none":
        return ()
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layer sizes such as 512,256, nor none")
    return sizes


def adam_constants(text: str) -> tuple[float, float, float]:
    """An argparse type: "0.9,0.999,1e-8" for β₁, β₂ in [0, 1) and ε > 0."""
    try:
        beta1, beta2, epsilon = (float(part) for part in text.split(","))
        if 0 < beta1 < 1 and 0 < beta2 < 1 and 0 < epsilon < math.inf:
            return beta1, beta2, epsilon
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not β₁,β₂,ε such as 0.9,0.999,1e-8, each β between 0 and 1")


def parser(description: str) -> Parser:
    """The command line. Choices and the options of single methods come from the rows of METHODS."""
    p = Parser(
        prog="run.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_objective(p.add_argument_group("objective"))
    add_data(p.add_argument_group("data"))
    add_network_and_training(p.add_argument_group("network and training"))
    g = p.add_argument_group("run")
    about = "defaults of a published protocol; --epochs shortens it. burda: VAE and IWAE of Burda et al. 2015"
    g.add_argument("--preset", choices=PRESETS, help=about)
    g.add_argument(
        "--nll-samples", type=number(int, 0), help="samples per image of the NLL; 5000 in publications (by data set)"
    )
    g.add_argument("--backend", choices=BACKENDS, default="numpy", help="(numpy)")
    g.add_argument("--precision", choices=("float32", "float64"), default="float32", help="(float32)")
    about = "let a GPU round the operands of float32 matrix products to 10 bits of mantissa: faster (off)"
    g.add_argument("--tf32", action="store_true", help=about)
    g.add_argument("--seed", type=number(int, 0, inclusive=True), default=0, help="(0)")
    g.add_argument("--out", type=Path, help="where the run is written (runs/<data>-<method>-<seed>)")
    g.add_argument("--force", action="store_true", help="overwrite the run that --out holds")
    about = "epochs between two checkpoints; there is one at the end, and on Ctrl-C, SIGTERM and SIGHUP, too (1)"
    g.add_argument("--checkpoint-every", type=number(int, 0), default=1, metavar="N", help=about)
    about = "go on with the run in DIR, with its options; --epochs may grow, and the data be found elsewhere"
    g.add_argument("--resume", type=Path, metavar="DIR", help=about)
    return p


def given(p: Parser, argv: list[str] | None) -> dict:
    """The options on the command line, without the defaults of the others."""
    p.set_defaults(**dict.fromkeys(vars(p.parse_args(argv))))
    return {name: value for name, value in vars(p.parse_args(argv)).items() if value is not None}


def stored(args: argparse.Namespace) -> dict:
    """The options of a run as JSON knows them."""
    options = {name: value for name, value in vars(args).items() if name not in ("resume", "force", "jobs", "compare")}
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def restored(p: Parser, path: Path, options: dict) -> argparse.Namespace:
    """The `stored` options in the checkpoint at `path`, which go through the parser as if they had been typed.

    An option that is younger than the checkpoint has its default. Raises DataError for options that are none.
    """
    try:
        if unknown := {*options} - {*stored(p.parse_args([]))}:
            raise UsageError(f"{min(unknown)!r} is an option of another version")
        return p.parse_args(command_line(options))
    except UsageError as error:
        raise DataError(f"{path}: its options cannot be used: {error}") from error


def resumed(p: Parser, argv: list[str] | None, path: Path, options: dict) -> argparse.Namespace:
    """The options `restored`, and those of the command line where a run may go on differently.

    Raises UsageError, and DataError for options that are none.
    """
    args = restored(p, path, options)
    epochs, backend, args.out, anew = args.epochs, args.backend, path.parent, given(p, argv)
    for name, value in anew.items():
        if name in RESTATED:
            setattr(args, name, value)
        elif value != getattr(args, name):
            option, found = (typed(name, v).replace("=", " ", 1) for v in (value, getattr(args, name)))
            raise UsageError(f"{option} contradicts --resume {path.parent}, which has {found}; leave it out")
    if args.backend != backend:
        args.tf32 = "tf32" in anew
    if args.epochs < epochs:
        raise UsageError(
            f"--epochs {args.epochs} is less than the {epochs} of --resume {path.parent}; it may only grow"
        )
    return args


def command_line(options: dict) -> list[str]:
    """`stored` options as they would have been typed."""
    return [typed(name, value) for name, value in options.items() if value is not None and value is not False]


def typed(name: str, value) -> str:
    """An option as the command line takes it, or that there is none."""
    option = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return f"no {option}"
    if isinstance(value, list | tuple):
        return f"{option}={','.join(map(str, value)) or 'none'}"
    return option if value is True else f"{option}={value}"


def add_objective(g) -> None:
    methods = "; ".join(f"{name}: {method.about}" for name, method in METHODS.items())
    about = f"{methods}; all: compares them (geco)"
    g.add_argument("--method", choices=[*METHODS, "all"], default="geco", help=about)
    g.add_argument("--seeds", type=number(int, 0), metavar="N", help="with all: N seeds, from --seed on (1)")
    about = "with all: N runs at a time, each a process with its share of the cores (with NumPy one a core, else 1)"
    g.add_argument("--jobs", type=number(int, 0), metavar="N", help=about)
    about = "trains nothing, and compares the finished runs in these folders, whoever made them, in a report"
    g.add_argument("--compare", type=Path, nargs="+", metavar="DIR", help=about)
    for name, (default, about) in METHOD_OPTIONS.items():
        shown = "by data set" if default is None else default
        g.add_argument(f"--{name}", type=number(float, 0), help=f"{about} ({shown})")
    g.add_argument("--multiplier", choices=MULTIPLIERS, help="the rule of a constraint's λ (relative)")
    g.add_argument("--multiplier-rate", type=number(float, 0), help="η of that rule (by rule)")
    about = "posterior samples per image in training; vae, beta-vae and geco average over them (by method; with all, "
    about += "of the methods that need more than one)"
    g.add_argument("--samples", type=number(int, 0), metavar="K", help=about)
    about = "p(x|z): in the loss, where the method has it, and in the reported ELBO and NLL (gaussian)"
    g.add_argument("--likelihood", choices=("gaussian", "bernoulli"), help=about)
    g.add_argument("--variance", type=number(float, 0), help="σ² of the Gaussian likelihood (0.5)")


def add_data(g) -> None:
    about = f"{', '.join(DATASETS)}, a folder of pictures or of IDX files, or an .npz with train and test (digits)"
    g.add_argument("--data", default="digits", metavar="NAME|PATH", help=about)
    g.add_argument("--data-dir", type=Path, help="where data sets are kept ($TAMING_VAES_DATA, else the user's cache)")
    g.add_argument("--size", type=number(int, 0), help="scale a folder's pictures to SIZE×SIZE")
    about = "black-and-white pixels drawn once, or anew each time, with the grey as probability (none)"
    g.add_argument("--binarize", choices=("none", "static", "dynamic"), help=about)


def add_network_and_training(g) -> None:
    about = "the encoder's hidden layers, mirrored by the decoder: 512,256 or none (by data set)"
    g.add_argument("--hidden", type=layer_sizes, help=about)
    g.add_argument("--latent", type=number(int, 0), help="latents (by data set)")
    g.add_argument("--activation", choices=ACTIVATIONS, help="of the hidden layers (silu)")
    about = "x̂ = sigmoid(l), or x̂ = l in principal coordinates, starting at the best linear VAE (by data set)"
    g.add_argument("--output", choices=("sigmoid", "linear"), help=about)
    g.add_argument("--epochs", type=number(int, 0), help="(by data set)")
    g.add_argument("--batch-size", type=number(int, 0), help="(128)")
    g.add_argument("--lr", type=number(float, 0), help="Adam's learning rate (by data set)")
    about = "of the learning rate; stages: eight, each three times as long as the one before, down to a tenth (cosine)"
    g.add_argument("--schedule", choices=SCHEDULES, help=about)
    g.add_argument("--adam", type=adam_constants, metavar="β₁,β₂,ε", help="Adam's constants (0.9,0.999,1e-8)")
    g.add_argument("--weight-decay", type=number(float, 0, inclusive=True), help="decoupled, of all of θ (by data set)")


def complete(args: argparse.Namespace, data) -> argparse.Namespace:
    """The options with every default filled in. Raises UsageError for those that clash or are not used."""
    method = METHODS[args.method]
    refuse_unused(args, method)
    for name in ("seeds", "jobs"):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name} is used only with --method all")
    preset = PRESETS.get(args.preset, {})
    defaults = COMMON | DEFAULTS.get(args.data, OWN) | {"samples": method.samples} | preset
    if (args.likelihood or defaults["likelihood"]) == "bernoulli":
        check_bernoulli(args, data, args.binarize or preset.get("binarize"))
        defaults["output"] = "sigmoid"
    else:
        defaults["variance"] = 0.5
    if method.constraint:
        defaults["multiplier"] = args.multiplier or "relative"
    if defaults["kappa"] is None:
        defaults["kappa"] = round(math.sqrt(OWN_KAPPA * total_variance(data.train)), 3)
    defaults |= {name: default for name, (default, _) in method.options.items() if default is not None}
    for name in {*METHOD_OPTIONS} - {*method.options}:
        defaults.pop(name, None)
    pixels, images = data.train.shape[1], len(data.train)
    defaults |= {"latent": min(defaults["latent"], pixels), "batch_size": min(defaults["batch_size"], images)}
    for name, default in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.kappa is not None and not 1e-6 < args.kappa < 1e6:
        raise UsageError(f"--kappa {args.kappa:g} is not between 1e-6 and 1e6")
    if args.batch_size > images:
        raise UsageError(
            f"--batch-size {args.batch_size} is more than the {images} training images; choose a smaller one"
        )
    if args.output == "linear" and args.hidden and args.latent > pixels:
        raise UsageError(f"--latent {args.latent} is more than the {pixels} principal coordinates of these images")
    if method.constraint and args.multiplier_rate is None:
        args.multiplier_rate = MULTIPLIERS[args.multiplier][1](args.epochs * (images // args.batch_size))
    return args


def total_variance(images: np.ndarray, about: np.ndarray | None = None) -> float:
    """Squared error of the mean image, theirs or that of `about`, a block of images at a time."""
    mean = (images if about is None else about).mean(axis=0, dtype=np.float64)
    blocks = range(0, len(images), 250)
    return sum(float(np.sum((images[i : i + 250] - mean) ** 2)) for i in blocks) / len(images) / white(images) ** 2


def refuse_unused(args: argparse.Namespace, method) -> None:
    """Raises UsageError for an option of another method."""
    takes = [*method.options, *(MULTIPLIER_OPTIONS if method.constraint else ())]
    for name in {*METHOD_OPTIONS, *MULTIPLIER_OPTIONS} - {*takes}:
        if getattr(args, name.replace("-", "_")) is not None:
            listed = ", ".join(f"--{t}" for t in takes) or "none of its own"
            raise UsageError(f"--{name} is not used by --method {args.method} (it takes: {listed})")


def check_bernoulli(args: argparse.Namespace, data, binarize: str | None) -> None:
    """Bernoulli is a density of black and white pixels with a sigmoid output; anything else must be asked for."""
    for name, value in (("variance", args.variance), ("output linear", args.output == "linear" or None)):
        if value is not None:
            raise UsageError(
                f"--{name} is not used by --likelihood bernoulli; leave it out or use --likelihood gaussian"
            )
    blocks = (data.train[i : i + 1000] for i in range(0, len(data.train), 1000))
    if binarize is None and any(np.any((block > 0) & (block < white(block))) for block in blocks):
        raise UsageError(
            "--likelihood bernoulli is a density of black and white pixels and these are grey: "
            "add --binarize dynamic or static, or --binarize none to use them all the same"
        )
