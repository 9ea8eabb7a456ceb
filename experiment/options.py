"""The command line: its options, and those of a run in its checkpoint."""

import argparse
import math
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
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layer sizes such as 512,256, nor none")
    return sizes


def adam_constants(text: str) -> tuple[float, float, float]:
    """An argparse type: "0.9,0.999,1e-8" for β₁, β₂ in [0, 1) and ε > 0."""
    try:
        beta1, beta2, epsilon = (float(constant) for constant in text.split(","))
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
    add_run(p.add_argument_group("run"))
    add_comparison(p.add_argument_group("several runs"))
    add_use(p.add_argument_group("a trained model"))
    return p


def default(name: str) -> str:
    """An option's default for --help, by data set where it differs."""
    values = {data: COMMON.get(name) or row_of(data)[name] for data in BY_DATA}

    def text(value) -> str:
        if isinstance(value, tuple):
            return ",".join(map(text, value))
        return f"{value:g}" if isinstance(value, float) else str(value or "chosen from them")

    first, *others = dict.fromkeys(values.values())
    return f"({'; '.join(f'{data}: {text(value)}' for data, value in values.items()) if others else text(first)})"


def add_objective(g) -> None:
    methods = "; ".join(f"{name}: {method.about}" for name, method in METHODS.items())
    g.add_argument("--method", choices=[*METHODS, "all"], default="geco", help=f"{methods}; all: compares them (geco)")
    for name, (usual, about) in METHOD_OPTIONS.items():
        shown = f"({usual:g})" if usual is not None else default(name)
        g.add_argument(flag(name), type=number(float, 0), help=f"{about} {shown}")
    g.add_argument("--multiplier", choices=MULTIPLIERS, help="the rule of a constraint's λ (relative)")
    about = "η of that rule (relative: 56/steps, at most 0.01; plain: 0.001)"
    g.add_argument("--multiplier-rate", type=number(float, 0), help=about)
    usual = ", ".join(f"{name} {method.samples}" for name, method in METHODS.items())
    about = f"posterior samples per image in training; vae, beta-vae and geco average over them ({usual})"
    g.add_argument("--samples", type=number(int, 0), metavar="K", help=about)
    about = f"p(x|z): in the loss, where the method has it, and in the reported ELBO and NLL {default('likelihood')}"
    g.add_argument("--likelihood", choices=LIKELIHOODS, help=about)
    g.add_argument("--variance", type=number(float, 0), help="σ² of the Gaussian likelihood (0.5)")


def add_data(g) -> None:
    about = f"{', '.join(DATASETS)}, a folder of pictures or of IDX files, an .npz or an .npy (mnist-10k)"
    g.add_argument("--data", default="mnist-10k", metavar="NAME|PATH", help=about)
    g.add_argument("--data-dir", type=Path, help="where data sets are kept ($TAMING_VAES_DATA, else the user's cache)")
    g.add_argument("--size", type=number(int, 0), help="scale a folder's pictures to SIZE×SIZE")
    about = "black-and-white pixels drawn once, or anew each time, with the grey as probability (none)"
    g.add_argument("--binarize", choices=("none", "static", "dynamic"), help=about)


def add_network_and_training(g) -> None:
    about = f"the encoder's hidden layers, mirrored by the decoder: 512,256 or none {default('hidden')}"
    g.add_argument("--hidden", type=layer_sizes, help=about)
    g.add_argument("--latent", type=number(int, 0), help=f"latents {default('latent')}")
    g.add_argument("--activation", choices=ACTIVATIONS, help="of the hidden layers (silu)")
    about = f"x̂ = sigmoid(l), or x̂ = l in principal coordinates, starting at the best linear VAE {default('output')}"
    g.add_argument("--output", choices=("sigmoid", "linear"), help=about)
    g.add_argument("--epochs", type=number(int, 0), help=default("epochs"))
    g.add_argument("--batch-size", type=number(int, 0), help=default("batch_size"))
    g.add_argument("--lr", type=number(float, 0), help=f"Adam's learning rate {default('lr')}")
    about = "of the learning rate; stages: eight, each three times as long as the one before, down to a tenth (cosine)"
    g.add_argument("--schedule", choices=SCHEDULES, help=about)
    g.add_argument("--adam", type=adam_constants, metavar="β₁,β₂,ε", help="Adam's constants (0.9,0.999,1e-8)")
    about = f"decoupled, of all of θ {default('weight_decay')}"
    g.add_argument("--weight-decay", type=number(float, 0, inclusive=True), help=about)


def add_run(g) -> None:
    about = "defaults of a published protocol; --epochs shortens it. burda: VAE and IWAE of Burda et al. 2015"
    g.add_argument("--preset", choices=PRESETS, help=about)
    about = f"samples per image of the NLL; 5000 in publications {default('nll_samples')}"
    g.add_argument("--nll-samples", type=number(int, 0), help=about)
    g.add_argument("--backend", choices=BACKENDS, default="numpy", help="(numpy)")
    g.add_argument("--precision", choices=("float32", "float64"), default="float32", help="(float32)")
    about = "let a GPU round the operands of float32 matrix products to 10 bits of mantissa: faster (off)"
    g.add_argument("--tf32", action="store_true", help=about)
    g.add_argument("--seed", type=number(int, 0, inclusive=True), default=0, help="(0)")
    about = "where the run is written (runs/<data>-<method>-<options that are not at their default>-<seed>)"
    g.add_argument("--out", type=Path, help=about)
    g.add_argument("--force", action="store_true", help="overwrite what --out holds")
    about = "epochs between two checkpoints; there is one at the end, and on Ctrl-C, SIGTERM and SIGHUP, too (1)"
    g.add_argument("--checkpoint-every", type=number(int, 0), default=1, metavar="N", help=about)
    about = "go on with the run in DIR, with its options; --epochs may grow, and the data be found elsewhere"
    g.add_argument("--resume", type=Path, metavar="DIR", help=about)
    about = "start a new run at the θ and λ that the run in DIR has trained, with its network"
    g.add_argument("--init-from", type=Path, metavar="DIR", help=about)


def add_comparison(g) -> None:
    g.add_argument("--seeds", type=number(int, 0), metavar="N", help="with all: N seeds, from --seed on (1)")
    about = "with all: N runs at a time, each a process with its share of the cores (with NumPy one a core, else 1)"
    g.add_argument("--jobs", type=number(int, 0), metavar="N", help=about)
    about = "trains nothing, and compares the finished runs in these folders, whoever made them, in a report"
    g.add_argument("--compare", type=Path, nargs="+", metavar="DIR", help=about)


def add_use(g) -> None:
    g.add_argument("--load", type=Path, metavar="DIR", help="use the model of the run in DIR, for one of these:")
    about = "its figures again, with another --nll-samples, --data or --backend, in DIR/evaluation….json"
    g.add_argument("--evaluate", action="store_true", help=about)
    about = "mean, std, rate, squared error and log-likelihood of each image of PATH, in DIR/encoded-<PATH>.npz"
    g.add_argument("--encode", type=Path, metavar="PATH", help=about)
    about = "N decoded draws from the prior, by --seed, as PNG files and a sheet in DIR/samples-<N>-<seed>/"
    g.add_argument("--sample", type=number(int, 0), metavar="N", help=about)
    about = "the images of PATH at the mean of q(z|x), as PNG files and a sheet in DIR/reconstructed-<PATH>/"
    g.add_argument("--reconstruct", type=Path, metavar="PATH", help=about)


def given(argv: list[str] | None) -> dict:
    """The options on the command line, without the defaults of the others."""
    p = parser("")
    p.set_defaults(**dict.fromkeys(vars(p.parse_args(argv))))
    return {name: value for name, value in vars(p.parse_args(argv)).items() if value is not None}


def stored(args: argparse.Namespace) -> dict:
    """The options of a run as JSON knows them."""
    options = {name: value for name, value in vars(args).items() if name not in OF_A_COMMAND}
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def restored(p: Parser, path: Path, options: dict) -> argparse.Namespace:
    """The `stored` options in the checkpoint at `path`, which go through the parser as if they had been typed.

    An option that is younger than the checkpoint has its default. One that is gone since does not count unless it was
    set. Raises DataError for options that are none.
    """
    try:
        known = {*stored(p.parse_args([]))}
        if unknown := {name for name, value in options.items() if value not in (None, False)} - known:
            raise UsageError(f"{min(unknown)!r} is an option of another version")
        return p.parse_args(command_line({name: value for name, value in options.items() if name in known}))
    except UsageError as error:
        raise DataError(f"{path}: its options cannot be used: {error}") from error


def resumed(p: Parser, argv: list[str] | None, path: Path, options: dict) -> argparse.Namespace:
    """The options `restored`, and those of the command line where a run may go on differently.

    Raises UsageError, and DataError for options that are none.
    """
    args = restored(p, path, options)
    epochs, backend, args.out, anew = args.epochs, args.backend, path.parent, given(argv)
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


def with_network_of(folder: Path, args: argparse.Namespace, given: dict) -> argparse.Namespace:
    """The options, with the network of the run that --init-from names. Raises UsageError for another one."""
    path = folder / "checkpoint.npz"
    if not path.is_file():
        raise UsageError(f"--init-from {folder} holds no checkpoint.npz; name the folder of a run")
    trained = restored(parser(""), path, checkpoint.read(path)[1]["options"])
    for name in NETWORK_OPTIONS:
        found = getattr(trained, name)
        if name in given and given[name] != found:
            option = typed(name, given[name]).replace("=", " ", 1)
            raise UsageError(f"{option} contradicts --init-from {folder}, whose network has {found}; leave it out")
        setattr(args, name, found)
    if args.likelihood is None:
        args.likelihood, args.variance = trained.likelihood, args.variance or trained.variance
    return args


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
