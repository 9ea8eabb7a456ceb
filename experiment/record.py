"""What a run is: frozen records that are complete when they are made, stored as JSON, and compared with ==.

What merely changes where or how fast a run is made (backend, processes, threads, folders) is no part of them.
"""

import dataclasses
import math
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from data import DataError
from data.dataset import SPLITS
from ref.adam import SCHEDULES
from ref.densities import LIKELIHOODS
from ref.mlp import ACTIVATIONS
from ref.objectives import METHODS, MULTIPLIERS

IN_MEMORY = "images in memory"  # the source of images that were given to fit()
CHOICES = {  # the names that an option may have
    "method": tuple(METHODS),
    "likelihood": tuple(LIKELIHOODS),
    "multiplier": tuple(MULTIPLIERS),
    "activation": tuple(ACTIVATIONS),
    "schedule": tuple(SCHEDULES),
    "output": ("sigmoid", "linear"),
    "binarize": ("none", "static", "dynamic"),
    "precision": ("float32", "float64", "tf32"),
    "split": SPLITS,
}


class UsageError(ValueError):
    """Options or arguments that make no sense, in one sentence."""


@dataclass(frozen=True)
class Images:
    """The images of a run. Two records of the same images are equal, wherever these lie."""

    source: str = field(compare=False)  # a name in data.DATASETS, a path, or IN_MEMORY
    name: str = field(compare=False)  # for titles and folders
    size: int | None = field(compare=False)  # to which pictures were scaled
    split: str = field(compare=False)  # the rule, where the images bring no split of their own
    shape: tuple[int, int, int]  # (H, W, C)
    sha256: str  # of all images, those to train on before those to test
    binarize: str

    @property
    def pixels(self) -> int:
        """D = H·W·C."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Objective:
    """The method with the numbers of its own options, and the likelihood."""

    method: str
    samples: int  # K
    options: dict[str, float]  # those of the loss and that of the constraint, by name
    multiplier: str | None  # the rule of λ; None without a constraint
    multiplier_rate: float | None  # η
    likelihood: str
    variance: float | None  # σ², if the likelihood has it

    @property
    def target(self) -> float | None:
        """What the constraint allows, for GECO κ²; None without a constraint."""
        constraint = METHODS[self.method].constraint
        return constraint.target(self.options[constraint.name]) if constraint else None

    @property
    def of_loss(self) -> dict[str, float]:
        """The options that the loss takes."""
        return {name: self.options[name] for name in METHODS[self.method].options}


@dataclass(frozen=True)
class Network:
    """Encoder and decoder."""

    hidden: tuple[int, ...]
    latent: int
    activation: str | None  # None without a hidden layer
    output: str

    @property
    def in_coordinates(self) -> bool:
        """Whether the network lives in principal coordinates."""
        return self.output == "linear" and bool(self.hidden)


@dataclass(frozen=True)
class Start:
    """The run whose θ and λ a run starts from."""

    folder: str = field(compare=False)
    sha256: str  # of that θ


@dataclass(frozen=True)
class Training:
    """The budget and the optimiser."""

    epochs: int
    batch_size: int
    lr: float
    schedule: str
    adam: tuple[float, float, float]  # β₁, β₂, ε
    weight_decay: float
    start: Start | None


@dataclass(frozen=True)
class Run:
    """A run: two that are equal end with the same figures, but for rounding."""

    images: Images
    objective: Objective
    network: Network
    training: Training
    seed: int
    precision: str
    nll_samples: int

    @property
    def method(self):
        """The row of METHODS."""
        return METHODS[self.objective.method]

    @property
    def dtype(self) -> str:
        """The type of the numbers. With tf32 the operands of products alone have fewer bits."""
        return "float32" if self.precision == "tf32" else self.precision

    @property
    def options(self) -> dict[str, Any]:
        """The run as options of the command line, by name, without those that it does not have."""
        found = {}
        for part in PARTS:
            found |= vars(getattr(self, part))
        found |= {"data": found.pop("source"), "init_from": self.training.start and Path(self.training.start.folder)}
        found |= {"seed": self.seed, "nll_samples": self.nll_samples, "precision": self.precision} | found.pop(
            "options"
        )
        found |= {"precision": self.dtype, "tf32": True if self.precision == "tf32" else None}
        inner = ("name", "shape", "sha256", "split", "start")
        return {name: value for name, value in found.items() if value is not None and name not in inner}

    @property
    def command(self) -> list[str]:
        """The options of a command line that makes this run, each of them stated."""
        return [typed(name, value) for name, value in self.options.items()]

    def but(self, **changes) -> "Run":
        """The run with other fields; those of its parts count as its own."""
        parts = {}
        for part in PARTS:
            record = getattr(self, part)
            own = {f.name: changes.pop(f.name) for f in dataclasses.fields(record) if f.name in changes}
            parts[part] = dataclasses.replace(record, **own)
        return dataclasses.replace(self, **parts, **changes)


PARTS = ("images", "objective", "network", "training")


def as_json(run: Run) -> dict:
    """The run as JSON knows it."""
    return dataclasses.asdict(run)


def of_json(content: dict) -> Run:
    """The run that `as_json` was made of. Raises DataError for anything else."""
    return _built(Run, content, "run")


def _built(kind, value, what: str):
    """The value as one of that kind: a record, a tuple, a dict, a number or a name."""
    inside = get_args(kind)
    if isinstance(kind, types.UnionType):
        return None if value is None else _built(inside[0], value, what)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        if {*hints} == {*value}:
            return kind(**{name: _built(hint, value[name], name) for name, hint in hints.items()})
    elif get_origin(kind) is tuple and isinstance(value, list):
        kinds = [inside[0]] * len(value) if inside[-1] is ... else inside
        if len(kinds) == len(value):
            return tuple(_built(k, v, what) for k, v in zip(kinds, value, strict=True))
    elif get_origin(kind) is dict and isinstance(value, dict):
        return {name: _built(inside[1], number, name) for name, number in value.items()}
    elif kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    elif type(value) is kind and value in CHOICES.get(what, [value]):
        return value
    raise DataError(f"{what} of a run cannot be {value!r}: it is another version's, or damaged")


def _pairs(options: Iterable[str], content: dict) -> dict[str, float]:
    return {name: content[name] for name in options if content.get(name) is not None}


def of_version_0_2(config: dict) -> Run:
    """The run that a config of version 0.2 describes by its options. Raises DataError.

    An option that is younger than the file has the value that it stood for.
    """
    o = {"schedule": "cosine", "adam": (0.9, 0.999, 1e-8), "init_from": None, "tf32": None} | config["options"]
    try:
        method = METHODS[o["method"]]
        constraint = [method.constraint.name] if method.constraint else []
        start = o["init_from"] and {"folder": o["init_from"], "sha256": f"that of {o['init_from']}"}
        content = {
            "images": {
                **{"source": o["data"], "name": config["data"], "size": o["size"], "split": "every-tenth"},
                **{"shape": config["shape"], "sha256": config["images"], "binarize": o["binarize"]},
            },
            "objective": {
                "options": dict.fromkeys(method.options, 0.0) | _pairs([*method.options, *constraint], o),
                **{name: o[name] for name in ("method", "samples", "likelihood", "variance")},
                **{name: o[name] if constraint else None for name in ("multiplier", "multiplier_rate")},
            },
            "network": {name: o[name] for name in ("hidden", "latent", "activation", "output")},
            "training": {
                **{name: o[name] for name in ("epochs", "batch_size", "lr", "schedule", "weight_decay")},
                **{"adam": [*o["adam"]], "start": start},
            },
            "precision": "tf32" if o["tf32"] else o["precision"],
            "seed": o["seed"],
            "nll_samples": o["nll_samples"],
        }
    except (KeyError, TypeError) as error:
        raise DataError(f"its options are not those of a run of version 0.2 ({error})") from error
    return of_json(content)


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
