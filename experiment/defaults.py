"""Every option's default by data set, what is chosen from the user's own images, and which options clash."""

import argparse
import math
from pathlib import Path

import numpy as np

from backend import open_backend
from data.dataset import white
from experiment.signals import interruptible
from ref import linear
from ref.objectives import METHODS, MULTIPLIERS

METHOD_OPTIONS = {name: option for method in METHODS.values() for name, option in method.options.items()}
MULTIPLIER_OPTIONS = ("multiplier", "multiplier_rate")

# fmt: off
# κ² is a squared error per image; None is chosen from the images.
COLUMNS = ("kappa", "latent", "hidden", "output", "likelihood",
           "epochs", "batch_size", "lr", "adam", "weight_decay", "nll_samples")
USUAL = (0.9, 0.999, 1e-8)
STEADY = (0.9, 0.99, 1e-8)  # where the output is linear: with β₂ = 0.999 outliers make 60 epochs of CIFAR-10 diverge
BY_DATA = {
    "mnist-10k":  (  5.0,   64, (512, 256), "sigmoid",  "gaussian",   40,  128, 2e-3,  USUAL, 0.2, 100),
    "digits":     (  1.2,   16,  (128, 64),  "linear",  "gaussian",  100,  128, 1e-3, STEADY, 0.0, 500),
    "mnist":      (  4.0,  200, (512, 256), "sigmoid",  "gaussian",   30,  128, 2e-3,  USUAL, 0.2, 100),
    "cifar10":    (3.394,  384, (512, 256),  "linear",  "gaussian",   20,  128, 1e-3, STEADY, 0.0,  20),
    "sprites":    (  2.0,   10, (256, 128), "sigmoid", "bernoulli",  200,  128, 1e-3,  USUAL, 0.0, 100),
    "own images": ( None, None,       None,  "linear",  "gaussian", None, None, 1e-3, STEADY, 0.0, 100),
}
FIRST = {"method": "geco", "data": "mnist-10k", "backend": "numpy", "precision": "float32", "seed": 0,
         "checkpoint_every": 1}  # known before there are images
COMMON = {"activation": "silu", "binarize": "none", "multiplier": "relative", "schedule": "cosine", "variance": 0.5}
# Defaults that come before those of the data set.
PRESETS = {
    # Burda et al. 2015, section 5, and their code: the VAE and the IWAE with one stochastic layer
    "burda": {"hidden": (200, 200), "latent": 50, "activation": "tanh", "output": "sigmoid",
              "likelihood": "bernoulli", "binarize": "dynamic", "nll_samples": 5000, "weight_decay": 0.0,
              "epochs": 3280, "batch_size": 20, "lr": 1e-3, "adam": (0.99, 0.999, 1e-4), "schedule": "stages"},
    # ours on the same network for budgets of 30 to 300 epochs: experiment/README.md has what was tried
    "burda-short": {"hidden": (200, 200), "latent": 50, "activation": "silu", "output": "sigmoid",
                    "likelihood": "bernoulli", "binarize": "dynamic", "nll_samples": 5000, "weight_decay": 0.0,
                    "epochs": 100, "batch_size": 20, "lr": 1e-3, "schedule": "cosine", "warm_up": 0.1},
}
# fmt: on

# κ² as a share of the images' variance, and images to a hidden unit: measured on MNIST, and on CIFAR-10
DRAWN, PHOTOGRAPHED = (0.3, 7), (0.06, 28)
EXTREME = 0.05  # of the way from black to white: a pixel this near to either end is black or white
LOOKED_AT = 2000  # images, spread over all of them, that choices are made from
STEPS, EPOCHS = 3000, 20  # of a run on the user's own images, whichever takes longer
UNITS = 8, 512  # of the first hidden layer: no fewer, no more
# Options that a run's name says when they are not at their default.
OTHERS_IN_NAME = ("multiplier_rate", "samples", "init_from")
IN_NAME = tuple(dict.fromkeys(["preset", *METHOD_OPTIONS, *COLUMNS, *COMMON, *OTHERS_IN_NAME]))


def row_of(data: str) -> dict:
    """The row of BY_DATA for --data, by column."""
    return dict(zip(COLUMNS, BY_DATA.get(data, BY_DATA["own images"]), strict=True))


class UsageError(ValueError):
    """Options or arguments that make no sense, in one sentence."""


def complete(args: argparse.Namespace, data) -> argparse.Namespace:
    """The options with every default filled in. Raises UsageError for those that clash or are not used."""
    method, (images, pixels) = METHODS[args.method], data.train.shape
    refuse_unused(args, method)
    defaults = defaults_of(args, data)
    if defaults["likelihood"] == "bernoulli":
        refuse_grey(args, data)
    given = [name for name in IN_NAME if getattr(args, name) not in (None, defaults.get(name))]
    for name, default in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.kappa is not None and not 1e-6 < args.kappa < 1e6:
        raise UsageError(f"--kappa {args.kappa:g} is not between 1e-6 and 1e6")
    if args.batch_size > images:
        raise UsageError(f"--batch-size {args.batch_size} is more than the {images} training images; lower it")
    if args.output == "linear" and args.hidden and args.latent > pixels:
        raise UsageError(f"--latent {args.latent} is more than the {pixels} principal coordinates of these images")
    if method.constrained and args.multiplier_rate is None:
        args.multiplier_rate = MULTIPLIERS[args.multiplier][1](args.epochs * (images // args.batch_size))
    name = "-".join([data.name, args.method, *(part_of_name(n, getattr(args, n)) for n in given), str(args.seed)])
    args.out = args.out or Path("runs") / name
    return args


def defaults_of(args: argparse.Namespace, data) -> dict:
    """The default of each option that this run takes, by method, data set and preset, or from the images."""
    method, (images, pixels) = METHODS[args.method], data.train.shape
    found = row_of(args.data) | COMMON | {"samples": method.samples}
    found |= {name: default for name, (default, _) in method.options.items() if default is not None}
    found |= PRESETS.get(args.preset, {})
    if found["kappa"] is None and args.kappa is None:
        found["kappa"] = round(math.sqrt(kind(data.train)[0] * total_variance(data.train)), 3)
    if found["latent"] is None and args.latent is None:
        found["latent"] = latents_for(data.train, (args.kappa or found["kappa"]) ** 2)
    found["latent"] = min(pixels, found["latent"] or pixels)
    if found["hidden"] is None:
        found["hidden"] = hidden_for(data.train)
    found["batch_size"] = min(images, found["batch_size"] or min(128, max(16, images // 16)))
    if found["epochs"] is None:
        found["epochs"] = max(EPOCHS, -(-STEPS // max(1, images // (args.batch_size or found["batch_size"]))))
    found["likelihood"] = args.likelihood or found["likelihood"]
    if found["likelihood"] == "bernoulli":
        found["output"] = "sigmoid"
        del found["variance"]
    if not method.constrained:
        del found["multiplier"]
    return {name: value for name, value in found.items() if name in method.options or name not in METHOD_OPTIONS}


def kind(images: np.ndarray) -> tuple[float, int]:
    """DRAWN, where most pixels are black or white, or else PHOTOGRAPHED."""
    x = looked_at(images)
    return DRAWN if np.mean((x <= EXTREME) | (x >= 1 - EXTREME)) > 0.5 else PHOTOGRAPHED


def latents_for(images: np.ndarray, distortion: float) -> int:
    """The latents that the best linear VAE puts to use at this squared error an image, by reverse water-filling."""
    x, backend = looked_at(images), open_backend("numpy")
    found = (backend, lambda rows, noise: x[rows], len(x), x.mean(axis=0), backend.noise(0))
    variances, rest = interruptible(linear.principal_variances, *found)
    level = linear.level_for(variances, math.fsum(variances) + rest, distortion, 0.0)
    return max(1, sum(variance > level for variance in variances))


def hidden_for(images: np.ndarray) -> tuple[int, ...]:
    """One hidden layer that grows with the number of images, because a large one learns few by heart; of many, two."""
    units = max(UNITS[0], len(images) // kind(images)[1])
    return (units,) if units < UNITS[1] else (UNITS[1], UNITS[1] // 2)


def spread(images: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the images, evenly spread."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def looked_at(images: np.ndarray) -> np.ndarray:
    """The images that choices are made from, in [0, 1].   -> (LOOKED_AT, D) at most"""
    return spread(images, LOOKED_AT).astype(np.float32) / white(images)


def total_variance(images: np.ndarray, about: np.ndarray | None = None) -> float:
    """Squared error of the mean image, theirs or that of `about`, a block of images at a time."""
    mean = (images if about is None else about).mean(axis=0, dtype=np.float64)
    blocks = range(0, len(images), 250)
    return sum(float(np.sum((images[i : i + 250] - mean) ** 2)) for i in blocks) / len(images) / white(images) ** 2


def part_of_name(name: str, value) -> str:
    """An option as a part of a folder's name: kappa1, hidden64x32, init-from-mnist-geco-0."""
    values = value if isinstance(value, tuple) else (f"-{value.name}" if isinstance(value, Path) else value,)
    return name.replace("_", "-") + ("x".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values) or "none")


def chosen(args: argparse.Namespace, given: dict, pixels: int) -> str | None:
    """One sentence on what was chosen from the images, because nobody had typed it; None where nothing was."""
    names = [name for name, default in row_of(args.data).items() if default is None and name not in given]
    words = ", ".join(said(name, getattr(args, name)) for name in names if getattr(args, name) is not None)
    if args.kappa is not None and "kappa" in names:
        rmse, psnr = a_pixel(args.kappa**2, pixels)
        words += f"; κ tolerates an RMSE of {rmse:.3f} a pixel, PSNR {psnr:.1f} dB"
    return f"chosen from the images: {words}" if words else None


def a_pixel(error: float, pixels: int) -> tuple[float, float]:
    """A squared error an image as a root mean square a pixel, and as a peak signal-to-noise ratio in dB."""
    return math.sqrt(error / pixels), 10 * math.log10(pixels / error)


def usual(name: str) -> str:
    """An option's default for --help, by data set where it differs; nothing where no table has one."""
    fixed = FIRST | COMMON | {name: default for name, (default, _) in METHOD_OPTIONS.items() if default is not None}
    if name not in fixed and name not in COLUMNS:
        return ""
    values = {data: fixed.get(name, row_of(data).get(name)) for data in BY_DATA}
    told = {data: "chosen from them" if value is None else as_text(value) for data, value in values.items()}
    same = len({*told.values()}) == 1
    return f"({told['mnist'] if same else '; '.join(f'{data}: {text}' for data, text in told.items())})"


def options_not_taken(method) -> list[str]:
    """The options of other methods, and those of the multiplier unless the method has a constraint."""
    others = [name for name in METHOD_OPTIONS if name not in method.options]
    return others if method.constrained else [*others, *MULTIPLIER_OPTIONS]


def refuse_unused(args: argparse.Namespace, method) -> None:
    """Raises UsageError for an option of another method, or of another likelihood."""
    others = options_not_taken(method)
    for name in others:
        if getattr(args, name) is not None:
            takes = [name for name in (*METHOD_OPTIONS, *MULTIPLIER_OPTIONS) if name not in others]
            listed = ", ".join(map(flag, takes)) or "none of its own"
            raise UsageError(f"{flag(name)} is not used by --method {args.method} (it takes: {listed})")
    for name in ("seeds", "jobs"):
        if getattr(args, name) is not None:
            raise UsageError(f"{flag(name)} is used only with --method all")


def refuse_grey(args: argparse.Namespace, data) -> None:
    """Bernoulli is a density of black and white pixels with a sigmoid output; anything else must be asked for."""
    for name, value in (("variance", args.variance), ("output linear", args.output == "linear" or None)):
        if value is not None:
            raise UsageError(f"--{name} is not used by --likelihood bernoulli; it is for --likelihood gaussian")
    if args.binarize or row_of(args.data)["likelihood"] == "bernoulli" or "binarize" in PRESETS.get(args.preset, {}):
        return
    x = looked_at(data.train)
    if np.any((x > 0) & (x < 1)):
        grey = "--likelihood bernoulli is a density of black and white pixels and these are grey"
        raise UsageError(f"{grey}: add --binarize dynamic or static, or --binarize none to use them all the same")


def flag(name: str) -> str:
    """An option's name as it is typed."""
    return f"--{name.replace('_', '-')}"


def as_text(value) -> str:
    """An option's value as it is typed."""
    return (",".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)


def typed(name: str, value) -> str:
    """An option as the command line takes it, or that there is none."""
    if value is None or value is False:
        return f"no {flag(name)}"
    return flag(name) if value is True else f"{flag(name)}={as_text(value)}"


def said(name: str, value) -> str:
    """An option as a sentence has it."""
    return typed(name, value).replace("=", " ", 1)
