"""The tables of defaults, and a run made complete by them: which options clash, which are not used."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import Dataset
from experiment import choices
from experiment.record import METHOD_OPTIONS, Images, Options, Run, Start, UsageError, flag, own_options, said, unused
from experiment.sources import a_pixel, drawn_once
from ref.densities import LIKELIHOODS
from ref.objectives import METHODS, MULTIPLIERS

# fmt: off
# κ² is a squared error per image, and a rate is in nats; None is chosen from the images.
COLUMNS = ("kappa", "rate", "latent", "hidden", "output", "likelihood",
           "variance", "epochs", "batch_size", "lr", "adam", "weight_decay", "nll_samples")
USUAL = (0.9, 0.999, 1e-8)
STEADY = (0.9, 0.99, 1e-8)  # where the output is linear: with β₂ = 0.999 outliers make 60 epochs of CIFAR-10 diverge
OWN = "own images"
BY_DATA = {
    "mnist-10k":  (  5.0,    6,   64, (512, 256), "sigmoid",  "gaussian",  0.5,   40,  128, 2e-3,  USUAL, 0.2, 100),
    "digits":     (  1.2,   10,   16,  (128, 64),  "linear",  "gaussian",  0.5,  100,  128, 1e-3, STEADY, 0.0, 500),
    "mnist":      (  4.0,   10,  200, (512, 256), "sigmoid",  "gaussian",  0.5,   30,  128, 2e-3,  USUAL, 0.2, 100),
    "cifar10":    (3.394,  250,  384, (512, 256),  "linear",  "gaussian",  0.5,   20,  128, 1e-3, STEADY, 0.0,  20),
    "sprites":    (  2.0,    8,   10, (256, 128), "sigmoid", "bernoulli",  0.5,  200,  128, 1e-3,  USUAL, 0.0, 100),
    OWN:          ( None, None, None,       None,  "linear",  "gaussian", None, None, None, 1e-3, STEADY, 0.0, 100),
}
FIRST = {"method": "geco", "data": "mnist-10k", "precision": "float32", "seed": 0}  # known before there are images
COMMON = {"activation": "silu", "binarize": "none", "multiplier": "relative", "schedule": "cosine"}
BURDA = {"hidden": (200, 200), "latent": 50, "output": "sigmoid", "likelihood": "bernoulli", "binarize": "dynamic",
         "nll_samples": 5000, "weight_decay": 0.0, "batch_size": 20, "lr": 1e-3}
# Defaults that replace the defaults of the data set.
PRESETS = {
    # Burda et al. 2015, section 5, and their code: the VAE and the IWAE with one stochastic layer
    "burda": BURDA | {"activation": "tanh", "epochs": 3280, "adam": (0.99, 0.999, 1e-4), "schedule": "stages"},
    # ours on the same network for budgets of 30 to 300 epochs: experiment/README.md has what was tried
    "burda-short": BURDA | {"activation": "silu", "epochs": 100, "schedule": "cosine", "warm_up": 0.1},
}
# fmt: on


# Options that a run's folder says when they are not at their default.
IN_NAME = dict.fromkeys(
    ("preset", *METHOD_OPTIONS, *COLUMNS, *COMMON, "multiplier_rate", "samples", "init_from", "size", "precision")
)
NETWORK = ("hidden", "latent", "activation", "output")  # what --init-from brings
BROUGHT = (*NETWORK, "likelihood", "variance")  # and unless a likelihood is asked for


class Completed(NamedTuple):
    """A run, and what there is to say about its options."""

    run: Run
    name: str  # of its folder: the options that are not at their default
    chosen: str  # a line about the options that were chosen from the images, where any were


def row_of(data: str) -> Options:
    """The row of BY_DATA for --data, by column."""
    return dict(zip(COLUMNS, BY_DATA.get(data, BY_DATA[OWN]), strict=True))


def binarization(asked: Options) -> str:
    """--binarize, or its default: known before there are images."""
    return asked.get("binarize") or PRESETS.get(asked.get("preset"), {}).get("binarize", COMMON["binarize"])


def defaults_of(asked: Options, count: int, pixels: int) -> Options:
    """Every default of a run by method, data set and preset. None is chosen from the (count, pixels) images."""
    method = METHODS[asked["method"]]
    own = {name: option.default for name, option in own_options(method).items()}
    found = own | row_of(asked["data"]) | COMMON | {"samples": method.samples} | PRESETS.get(asked.get("preset"), {})
    if "rate" not in own:  # kappa stays: latents and σ² follow from it
        del found["rate"]
    for name, most in (("latent", pixels), ("batch_size", count)):
        found[name] = found[name] and min(found[name], most)
    if LIKELIHOODS[asked.get("likelihood") or found["likelihood"]].of_logits:
        found["output"] = "sigmoid"
    return found


def shared_by_all(asked: Options, data: Dataset) -> Options:
    """What is chosen from own images for several runs, so that all have one network and one σ²: for the least κ."""
    kappa = {"kappa": float(np.min(asked["kappa"]))} if "kappa" in asked else {}
    first = asked | {"method": "geco"} | kappa
    defaults, found = with_defaults(first, data)
    if defaults["kappa"] is not None:
        return {}
    names = ["latent", "hidden", *(["variance"] if LIKELIHOODS[found["likelihood"]].has_variance else [])]
    return {name: found[name] for name in names if name not in asked}


def with_defaults(asked: Options, data: Dataset) -> tuple[Options, Options]:
    """The defaults, and all options. An option that is None is chosen from the images, binarized as in training."""
    defaults = FIRST | defaults_of(asked, *data.train.shape)
    o = defaults | asked
    return defaults, choices.choose(drawn_once(data.train, o["binarize"]), o) if None in o.values() else o


def refuse_clashes(asked: Options, o: Options, data: Dataset) -> None:
    """Raises UsageError for options that are not used, that clash, or that have no value."""
    row, (count, pixels) = LIKELIHOODS[o["likelihood"]], data.train.shape
    lacks = unused(o["method"], o["likelihood"], o["hidden"])
    for name in asked:
        if name in lacks:
            raise UsageError(f"{flag(name)} is not used by {lacks[name]}")
    for name in own_options(METHODS[o["method"]]):
        if o[name] is None:
            raise UsageError(f"--method {o['method']} has no default for {flag(name)}: give a number")
    if row.of_logits and o["output"] == "linear":
        raise UsageError(f"--output linear is not used by --likelihood {o['likelihood']}")
    if o["batch_size"] > count:
        raise UsageError(f"--batch-size {o['batch_size']} is more than the {count} training images; lower it")
    if o["output"] == "linear" and o["hidden"] and o["latent"] > pixels:
        raise UsageError(f"--latent {o['latent']} is more than the {pixels} principal coordinates of these images")
    meant = "binarize" in asked or "binarize" in PRESETS.get(asked.get("preset"), {})
    if row.black_and_white and not meant and row_of(o["data"])["likelihood"] != o["likelihood"]:
        x = choices.looked_at(data.train)
        if np.any((x > 0) & (x < 1)):
            grey = f"--likelihood {o['likelihood']} is a density of black and white pixels and these are grey"
            raise UsageError(f"{grey}: add --binarize dynamic or static, or --binarize none to use them all the same")


def complete(asked: Options, data: Dataset, images: Images, start: Start | None = None) -> Completed:
    """The run that the options ask for, with every default filled in. Raises UsageError for options that clash."""
    defaults, o = with_defaults(asked, data)
    o |= {"start": start, "images": images}
    refuse_clashes(asked, o, data)
    o["options"] = {name: float(o[name]) for name in own_options(METHODS[o["method"]])}
    o.setdefault("multiplier_rate", MULTIPLIERS[o["multiplier"]][1](o["epochs"] * (len(data.train) // o["batch_size"])))
    o |= dict.fromkeys(unused(o["method"], o["likelihood"], o["hidden"]))
    run = Run(**{f.name: o[f.name] for f in dataclasses.fields(Run)})
    names = IN_NAME.keys() - {*(BROUGHT if start else ())}
    unusual = [name for name in IN_NAME if name in names and asked.get(name) not in (None, defaults.get(name))]
    parts = [data.name, run.method, *(part_of_name(name, asked[name]) for name in unusual), str(run.seed)]
    return Completed(run, "-".join(parts), chosen_from_images(run, defaults, asked))


def chosen_from_images(run: Run, defaults: Options, asked: Options) -> str:
    """A line about the options that were chosen from the images; empty where none was."""
    chosen = {name for name, value in defaults.items() if value is None} & run.typed.keys() - asked.keys()
    words = listed({name: run.typed[name] for name in COLUMNS if name in chosen})
    if "kappa" in chosen:
        rmse, psnr = a_pixel(run.target, run.images.pixels)
        words += f"; κ tolerates an RMSE of {rmse:.3g} a pixel, PSNR {psnr:.1f} dB"
    return f"\nchosen from the images: {words}" if words else ""


def listed(options: Options) -> str:
    """Options as a sentence has them."""
    return ", ".join(said(name, value) for name, value in options.items())


def part_of_name(name: str, value) -> str:
    """An option as a part of a folder's name: kappa1, hidden64x32, init-from-mnist-geco-0."""
    values = value if isinstance(value, tuple) else (f"-{value.name}" if isinstance(value, Path) else value,)
    words = [str(v).removesuffix(".0") if isinstance(v, float) else str(v) for v in values]  # unlike for unlike floats
    return name.replace("_", "-") + ("x".join(words) or "none")
