"""What a run is: a frozen record that is complete when it is made, stored as JSON, and compared with ==.

What merely changes where or how fast a run is made (backend, processes, threads, folders) is no part of it.
"""

import dataclasses
import math
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from data import DataError
from data.dataset import SPLITS
from ref.adam import SCHEDULES
from ref.densities import LIKELIHOODS
from ref.mlp import ACTIVATIONS
from ref.objectives import METHODS, MULTIPLIERS, Method, Option

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


OF_FIT = "images of fit()"  # as version 0.2 called them


class UsageError(ValueError):
    """Options or arguments that make no sense, in one sentence."""


@dataclass(frozen=True)
class Images:
    """The images of a run. Two records of the same images are equal, wherever these lie."""

    source: str = field(compare=False)  # a name in data.DATASETS, a path, or IN_MEMORY
    data_dir: str | None = field(compare=False)  # where a named data set lay, if that was said
    name: str = field(compare=False)  # for titles and folders
    size: int | None = field(compare=False)  # to which pictures were scaled
    split: str = field(compare=False)  # the rule, where the images bring no split of their own
    skip_broken: bool = field(compare=False)  # whether pictures that cannot be read were left out
    shape: tuple[int, int, int]  # (H, W, C)
    sha256: str  # of all images, those to train on before those to test
    binarize: str

    @property
    def pixels(self) -> int:
        """D = H·W·C."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Start:
    """The run whose θ and λ a run starts from."""

    folder: str = field(compare=False)
    sha256: str  # of that θ


@dataclass(frozen=True)
class Run:
    """A run. Two that are equal end with the same figures, but for rounding."""

    images: Images
    method: str
    options: dict[str, float]  # of the method's loss and of its constraint, by name
    multiplier: str | None  # the rule of λ; None without a constraint
    multiplier_rate: float | None  # η
    samples: int  # K
    likelihood: str
    variance: float | None  # σ², if the likelihood has it
    hidden: tuple[int, ...]
    latent: int
    activation: str | None  # None without a hidden layer
    output: str
    epochs: int
    batch_size: int
    lr: float
    schedule: str
    adam: tuple[float, float, float]  # β₁, β₂, ε
    weight_decay: float
    start: Start | None
    precision: str
    seed: int
    nll_samples: int

    @property
    def objective(self) -> Method:
        """The row of METHODS."""
        return METHODS[self.method]

    @property
    def target(self) -> float | None:
        """What the constraint allows, for GECO κ²; None without a constraint."""
        constraint = self.objective.constraint
        return constraint.target(self.options[constraint.name]) if constraint else None

    @property
    def in_coordinates(self) -> bool:
        """Whether the network lives in principal coordinates."""
        return self.output == "linear" and bool(self.hidden)

    @property
    def dtype(self) -> str:
        """The type of the numbers. With tf32 the operands of products alone have fewer bits."""
        return "float32" if self.precision == "tf32" else self.precision

    @property
    def typed(self) -> dict[str, Any]:
        """The run as options of the command line, by name, without those that it does not have."""
        own = {name: value for name, value in vars(self).items() if name not in ("images", "options", "start")}
        own |= {"data": self.images.source, "size": self.images.size, "binarize": self.images.binarize}
        own |= {"init_from": Path(self.start.folder) if self.start else None, "precision": self.dtype, **self.options}
        own |= {"tf32": True if self.precision == "tf32" else None, "skip_broken": self.images.skip_broken or None}
        return {name: value for name, value in own.items() if value is not None}

    def but(self, **changes) -> "Run":
        """The run with other fields."""
        return dataclasses.replace(self, **changes)


def as_json(run: Run) -> dict:
    """The run as JSON knows it."""
    return dataclasses.asdict(run)


def of_json(content: dict) -> Run:
    """The run that `as_json` was made of. Raises DataError for anything else."""
    run = _built(Run, content, "run")
    likelihood, constraint = LIKELIHOODS[run.likelihood], run.objective.constraint
    needed = {"multiplier": constraint, "multiplier_rate": constraint}
    needed |= {"variance": likelihood.has_variance, "activation": run.hidden}
    odd = sorted({*run.options} ^ {*own_options(run.objective)})
    odd += [name for name, need in needed.items() if bool(need) == (getattr(run, name) is None)]
    odd += ["output"] if likelihood.of_logits and run.output != "sigmoid" else []
    if odd:
        raise DataError(f"{odd[0]} of a run cannot be {run.typed.get(odd[0])!r} beside its others: it is damaged")
    return run


def own_options(method: Method) -> dict[str, Option]:
    """The options of a method's loss, and the option of its constraint."""
    return method.options | ({method.constraint.name: method.constraint.option} if method.constraint else {})


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
    elif kind is not float and type(value) is kind and _allowed(value, what):
        return value
    raise DataError(f"{what} of a run cannot be {value!r}: it is another version's, or damaged")


def _allowed(value: int | str, what: str) -> bool:
    """Whether a number or a name is within the range of its option; a truth always is."""
    if type(value) is int:
        return (what != "seed") <= value < 2**63
    return value in CHOICES.get(what, [value])


def of_version_0_2(config: dict) -> Run:
    """The run that a config of version 0.2 describes by its options. Raises DataError.

    An option that is younger than the file has the value that it stood for.
    """
    o = {"schedule": "cosine", "adam": [0.9, 0.999, 1e-8], "init_from": None, "tf32": None} | config["options"]
    try:
        method = METHODS[o["method"]]
        options = {name: o.get(name) or 0.0 for name in own_options(method)}
        source = IN_MEMORY if o["data"] == OF_FIT else o["data"]
        images = {"source": source, "name": config["data"], "size": o["size"], "split": "every-tenth"}
        images |= {"skip_broken": False, "data_dir": o.get("data_dir")}
        images |= {"shape": config["shape"], "sha256": config["images"], "binarize": o["binarize"]}
        others = {"images": images, "options": options, "precision": "tf32" if o["tf32"] else o["precision"]}
        others["start"] = o["init_from"] and {"folder": o["init_from"], "sha256": f"of {o['init_from']}"}
        others["activation"] = o["activation"] if o["hidden"] else None
        if not method.constraint:
            others |= {"multiplier": None, "multiplier_rate": None}
        return of_json({f.name: others[f.name] if f.name in others else o[f.name] for f in dataclasses.fields(Run)})
    except (KeyError, TypeError) as error:
        raise DataError(f"its options are not those of a run of version 0.2 ({error})") from error


def flag(name: str) -> str:
    """An option's name as it is typed."""
    return f"--{name.replace('_', '-')}"


def as_text(value) -> str:
    """An option's value as it is typed."""
    return (",".join(map(str, value)) or "none") if np.ndim(value) else str(value)


def typed(name: str, value) -> str:
    """An option as the command line takes it, or that there is none."""
    if value is None or value is False:
        return f"no {flag(name)}"
    return flag(name) if value is True else f"{flag(name)}={as_text(value)}"


def said(name: str, value) -> str:
    """An option as a sentence has it."""
    return typed(name, value).replace("=", " ", 1)
