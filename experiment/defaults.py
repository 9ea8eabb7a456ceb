"""The tables of defaults, and a run made complete by them: which options clash, which are not used."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data import Dataset
from experiment import choices
from experiment.record import Images, Run, UsageError, flag, own_options, said
from ref.densities import LIKELIHOODS
from ref.objectives import METHODS, MULTIPLIERS, Method

# fmt: off
# κ² is a squared error per image; None is chosen from the images.
COLUMNS = ("kappa", "latent", "hidden", "output", "likelihood",
           "variance", "epochs", "batch_size", "lr", "adam", "weight_decay", "nll_samples")
USUAL = (0.9, 0.999, 1e-8)
STEADY = (0.9, 0.99, 1e-8)  # where the output is linear: with β₂ = 0.999 outliers make 60 epochs of CIFAR-10 diverge
OWN = "own images"
BY_DATA = {
    "mnist-10k":  (  5.0,   64, (512, 256), "sigmoid",  "gaussian",  0.5,   40,  128, 2e-3,  USUAL, 0.2, 100),
    "digits":     (  1.2,   16,  (128, 64),  "linear",  "gaussian",  0.5,  100,  128, 1e-3, STEADY, 0.0, 500),
    "mnist":      (  4.0,  200, (512, 256), "sigmoid",  "gaussian",  0.5,   30,  128, 2e-3,  USUAL, 0.2, 100),
    "cifar10":    (3.394,  384, (512, 256),  "linear",  "gaussian",  0.5,   20,  128, 1e-3, STEADY, 0.0,  20),
    "sprites":    (  2.0,   10, (256, 128), "sigmoid", "bernoulli",  0.5,  200,  128, 1e-3,  USUAL, 0.0, 100),
    OWN:          ( None, None,       None,  "linear",  "gaussian", None, None, None, 1e-3, STEADY, 0.0, 100),
}
FIRST = {"method": "geco", "data": "mnist-10k", "precision": "float32", "seed": 0}  # known before there are images
COMMON = {"activation": "silu", "binarize": "none", "multiplier": "relative", "schedule": "cosine"}
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


METHOD_OPTIONS = {name: option for method in METHODS.values() for name, option in own_options(method).items()}
MULTIPLIER = ("multiplier", "multiplier_rate")
# Options that a run's folder says when they are not at their default.
IN_NAME = tuple(
    dict.fromkeys(["preset", *METHOD_OPTIONS, *COLUMNS, *COMMON, "multiplier_rate", "samples", "init_from"])
)


class Completed(NamedTuple):
    """A run, and what there is to say about its options."""

    run: Run
    chosen: list[str]  # the options that were chosen from the images
    name: str  # of its folder: the options that are not at their default

    @property
    def sentence(self) -> str | None:
        """What was chosen from the images; None where nothing was."""
        words = ", ".join(said(name, self.run.typed[name]) for name in self.chosen)
        if "kappa" in self.chosen:
            rmse, psnr = choices.a_pixel(self.run.target, self.run.images.pixels)
            words += f"; κ tolerates an RMSE of {rmse:.3g} a pixel, PSNR {psnr:.1f} dB"
        return f"chosen from the images: {words}" if words else None


def row_of(data: str) -> dict[str, Any]:
    """The row of BY_DATA for --data, by column."""
    return dict(zip(COLUMNS, BY_DATA.get(data, BY_DATA[OWN]), strict=True))


def binarization(asked: dict[str, Any]) -> str:
    """--binarize, or its default: known before there are images."""
    return asked.get("binarize") or PRESETS.get(asked.get("preset"), {}).get("binarize", COMMON["binarize"])


def defaults_of(asked: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """Every default of this run that a table or the images tell, by method, data set and preset."""
    method, (count, pixels) = METHODS[asked["method"]], data.train.shape
    found = row_of(asked["data"]) | COMMON | {"samples": method.samples}
    found |= {name: option.default for name, option in method.options.items()} | PRESETS.get(asked.get("preset"), {})
    if any(found[name] is None and name not in asked for name in choices.CHOSEN):
        found |= choices.choose(data.train, **{name: asked.get(name, found[name]) for name in choices.CHOSEN})
    found["variance"] = found["variance"] or choices.rounded((asked.get("kappa") or found["kappa"]) ** 2 / pixels)
    found["latent"] = min(pixels, found["latent"] or pixels)
    found["batch_size"] = min(count, found["batch_size"] or choices.batch_size(count))
    found["epochs"] = found["epochs"] or choices.epochs(count, asked.get("batch_size") or found["batch_size"])
    if LIKELIHOODS[asked.get("likelihood") or found["likelihood"]].of_logits:
        found["output"] = "sigmoid"
    return found


def complete(asked: dict[str, Any], data: Dataset, images: Images) -> Completed:
    """The run that the options ask for, with every default filled in. Raises UsageError for options that clash."""
    method, (count, pixels) = METHODS[asked["method"]], data.train.shape
    refuse_unused(asked, method)
    defaults = defaults_of(asked, data)
    o = defaults | {"start": None} | asked
    refuse_of_likelihood(asked, o["likelihood"], data)
    if o["batch_size"] > count:
        raise UsageError(f"--batch-size {o['batch_size']} is more than the {count} training images; lower it")
    o |= {"images": images, "options": {name: float(o[name]) for name in own_options(method)}}
    o.setdefault("multiplier_rate", MULTIPLIERS[o["multiplier"]][1](o["epochs"] * (count // o["batch_size"])))
    unused = dict.fromkeys(() if method.constraint else MULTIPLIER)
    unused |= dict.fromkeys([] if LIKELIHOODS[o["likelihood"]].has_variance else ["variance"])
    unused |= dict.fromkeys([] if o["hidden"] else ["activation"])
    run = Run(**{f.name: (o | unused)[f.name] for f in dataclasses.fields(Run)})
    if run.in_coordinates and run.latent > pixels:
        raise UsageError(f"--latent {run.latent} is more than the {pixels} principal coordinates of these images")
    unusual = [name for name in IN_NAME if asked.get(name) not in (None, defaults.get(name))]
    parts = [data.name, run.method, *(part_of_name(name, asked[name]) for name in unusual), str(run.seed)]
    by_images = [n for n, default in row_of(asked["data"]).items() if default is None and n not in asked]
    return Completed(run, [name for name in by_images if name in run.typed], "-".join(parts))


def part_of_name(name: str, value) -> str:
    """An option as a part of a folder's name: kappa1, hidden64x32, init-from-mnist-geco-0."""
    values = value if isinstance(value, tuple) else (f"-{value.name}" if isinstance(value, Path) else value,)
    words = [str(v).removesuffix(".0") if isinstance(v, float) else str(v) for v in values]  # no two floats are one
    return name.replace("_", "-") + ("x".join(words) or "none")


def refuse_unused(asked: dict[str, Any], method: Method) -> None:
    """Raises UsageError for an option of another method, or of a part that this run does not have."""
    takes = [*own_options(method), *(MULTIPLIER if method.constraint else ())]
    for name in (*METHOD_OPTIONS, *MULTIPLIER):
        if name in asked and name not in takes:
            listed = ", ".join(map(flag, takes)) or "none of its own"
            raise UsageError(f"{flag(name)} is not used by --method {asked['method']} (it takes: {listed})")
    if asked.get("hidden") == () and "activation" in asked:
        raise UsageError("--activation is not used by --hidden none, a network without hidden layers")


def refuse_of_likelihood(asked: dict[str, Any], name: str, data: Dataset) -> None:
    """Raises UsageError for an option that the likelihood does not use, and for grey pixels that it does not fit.

    Grey pixels under a density of black and white pixels must be asked for.
    """
    row = LIKELIHOODS[name]
    unused = {"variance": "variance" in asked and not row.has_variance}
    unused["output linear"] = asked.get("output") == "linear" and row.of_logits
    for option, refused in unused.items():
        if refused:
            raise UsageError(f"--{option} is not used by --likelihood {name}; it is for --likelihood gaussian")
    asked_for = "binarize" in asked or "binarize" in PRESETS.get(asked.get("preset"), {})
    if not row.black_and_white or asked_for or row_of(asked["data"])["likelihood"] == name:
        return
    x = choices.looked_at(data.train)
    if np.any((x > 0) & (x < 1)):
        grey = f"--likelihood {name} is a density of black and white pixels and these are grey"
        raise UsageError(f"{grey}: add --binarize dynamic or static, or --binarize none to use them all the same")
