"""What a run is: a frozen record that is complete when it is made, stored as JSON, and compared with ==.

What merely changes where or how fast a run is made (backend, processes, threads) is no part of it, and the folders of
its images and of its start are not compared.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from data import DataError
from data.dataset import SPLITS
from ref.adam import SCHEDULES
from ref.densities import LIKELIHOODS
from ref.mlp import ACTIVATIONS
from ref.objectives import METHODS, MULTIPLIERS, Method, Option

VERSION = "0.3.0"
IN_MEMORY = "images in memory"  # the source of images that were given to fit()
Options = dict[str, Any]  # of a command line, by name


class UsageError(ValueError):
    """Options or arguments that make no sense, in one sentence."""


@dataclass(frozen=True)
class Images:
    """The images of a run. Two records of the same images are equal, wherever the files are."""

    source: str = field(compare=False)  # a name in data.DATASETS, a path, or IN_MEMORY
    data_dir: str | None = field(compare=False)  # where a named data set lay, if that was said
    name: str = field(compare=False)  # for titles and folders
    size: int | None = field(compare=False)  # to which pictures were scaled
    split: str = field(compare=False)  # the rule, where the images bring no split of their own
    skip_broken: bool = field(compare=False)  # whether pictures that cannot be read were left out
    shape: tuple[int, int, int]  # (H, W, C)
    sha256: str  # of all images, those to train on before those to test
    binarize: str
    validation: int = 0  # training images that were held out and took the place of the test images

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
    """A run. Equal runs end with the same figures, but for rounding and for the noise of another backend."""

    images: Images
    method: str
    options: dict[str, float] = field(hash=False)  # of the method's loss and of its constraint, by name
    multiplier: str | None  # the rule of λ, where it is a choice
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
        """What the constraint allows, for GECO κ²; None where nothing is bounded."""
        constraint = self.objective.constraint
        return self.options[constraint.name] ** constraint.power if constraint and constraint.name else None

    @property
    def in_coordinates(self) -> bool:
        """Whether the network lives in principal coordinates."""
        return self.output == "linear" and bool(self.hidden)

    @property
    def dtype(self) -> str:
        """The type of the numbers. With tf32 the operands of products alone have fewer bits."""
        return "float32" if self.precision == "tf32" else self.precision

    @property
    def typed(self) -> Options:
        """The run as options of the command line, by name, without those that it does not have."""
        images, start = self.images, self.start and Path(self.start.folder)
        own = vars(self) | {"data": images.source, "size": images.size, "binarize": images.binarize} | self.options
        own |= {"validation": images.validation or None, "skip_broken": images.skip_broken or None, "init_from": start}
        return {name: own[name] for name in own if own[name] is not None and name not in ("images", "options", "start")}

    def but(self, **changes) -> "Run":
        """The run with other fields."""
        return dataclasses.replace(self, **changes)


as_json = dataclasses.asdict  # the run as JSON knows it


def of_json(content: dict) -> Run:
    """The run that `as_json` was made of. Raises DataError for anything else."""
    try:
        run = built(Run, content, "run")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"the record of a run cannot be read ({error}): it is another version's, or damaged") from error
    lacks = {name for name in unused(run.method, run.likelihood, run.hidden) if hasattr(run, name)}
    empty = {name for name, value in vars(run).items() if value is None}
    linear = LIKELIHOODS[run.likelihood].of_logits and run.output == "linear"
    if empty - {"start"} != lacks or {*run.options} != {*own_options(run.objective)} or linear:
        raise DataError("the options of a run cannot be these beside one another: its record is damaged")
    return run


def bounds(method: Method) -> bool:
    """Whether a user says a target for the method's constraint."""
    return bool(method.constraint and method.constraint.name)


def own_options(method: Method) -> dict[str, Option]:
    """The options of a method's loss, and the option of its constraint."""
    return method.options | ({method.constraint.name: method.constraint.option} if bounds(method) else {})


METHOD_OPTIONS: dict[str, Option] = {}
for row in METHODS.values():
    METHOD_OPTIONS |= own_options(row)
MULTIPLIER = ("multiplier", "multiplier_rate")
OF_METHODS = {*METHOD_OPTIONS, *MULTIPLIER}


@dataclass(frozen=True)
class Kind:
    """What values an option has: in a user's words, their type, and which of them are allowed."""

    wanted: str
    form: type  # int, float, str or bool: of the value, or of each of several
    holds: Callable[[Any], bool]
    names: tuple[str, ...] | None = None  # all values, where these are names
    several: bool = False  # whether the value is a tuple

    def read(self, text: str):
        """The value of a text. A tuple is typed with commas, and `none` is the empty tuple. Raises ValueError."""
        if not self.several:
            return self.checked(self.form(text))
        return self.checked([] if text == "none" else [*map(self.form, text.split(","))])

    def checked(self, value):
        """The value, if it is allowed; an integer may stand for a float. Raises ValueError, OverflowError."""
        if isinstance(value, list | tuple) != self.several:
            raise ValueError
        parts = value if self.several else [value]
        parts = [float(part) if type(part) is int and self.form is float else part for part in parts]
        found = tuple(parts) if self.several else parts[0]
        if any(type(part) is not self.form for part in parts) or not self.holds(found):
            raise ValueError
        return found


def one_of(names: Iterable[str]) -> Kind:
    """Some names."""
    names = tuple(names)
    return Kind(f"one of {', '.join(names)}", str, names.__contains__, names)


def within(interval: str) -> Kind:
    """The finite numbers in an interval such as "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))
    ends = {low: interval[0] == "[", high: interval[-1] == "]"}  # whether each belongs to it; an infinite end does not
    wanted = f"a finite number in {interval}"
    return Kind(wanted, float, lambda number: low <= number <= high and ends.get(number, True))


COUNT = Kind("an integer above 0", int, lambda n: 0 < n < 2**63)
FROM_ZERO = Kind("an integer at least 0", int, lambda n: 0 <= n < 2**63)
SIZES = Kind(
    "a list of layer sizes such as 512,256, or the word none",
    int,
    lambda sizes: all(map(COUNT.holds, sizes)),
    several=True,
)
KINDS = {  # of a record's fields, and of the options of its method
    **dict.fromkeys(("source", "data_dir", "name", "sha256", "folder"), Kind("a text", str, lambda text: True)),
    "skip_broken": Kind("a switch", bool, lambda switch: True),
    "method": one_of(METHODS),
    "likelihood": one_of(LIKELIHOODS),
    "multiplier": one_of(MULTIPLIERS),
    "activation": one_of(ACTIVATIONS),
    "schedule": one_of(SCHEDULES),
    "output": one_of(("sigmoid", "linear")),
    "binarize": one_of(("none", "static", "dynamic")),
    "precision": one_of(("float32", "float64", "tf32")),
    "split": one_of(SPLITS),
    **{name: within(option.interval) for name, option in METHOD_OPTIONS.items()},
    **dict.fromkeys(("samples", "size", "latent", "epochs", "batch_size", "nll_samples"), COUNT),
    **dict.fromkeys(("seed", "validation"), FROM_ZERO),
    **dict.fromkeys(("multiplier_rate", "variance", "lr"), within("(0, inf)")),
    "hidden": SIZES,
    "shape": Kind("height, width, channels", int, lambda s: len(s) == 3 and all(map(COUNT.holds, s)), several=True),
    "weight_decay": within("[0, inf)"),
    "adam": Kind(
        "β₁,β₂,ε such as 0.9,0.999,1e-8, each β between 0 and 1",
        float,
        lambda found: len(found) == 3 and all(0 < beta < 1 for beta in found[:2]) and 0 < found[2] < math.inf,
        several=True,
    ),
}


def options_of(method: Method) -> list[str]:
    """The names in OF_METHODS that a method takes."""
    return [*own_options(method), *(MULTIPLIER if bounds(method) else ())]


def told(options: dict[str, float]) -> dict[str, float]:
    """The options of a method that a row's name tells: an option that is 0 by default only if it is not 0."""
    return {name: value for name, value in options.items() if value or METHOD_OPTIONS[name].default != 0}


def unused(method: str, likelihood: str, hidden: tuple[int, ...]) -> dict[str, str]:
    """The options that a run has no use for, each with the reason."""
    takes = options_of(METHODS[method])
    listed = ", ".join(map(flag, takes)) or "none of its own"
    found = dict.fromkeys(OF_METHODS - {*takes}, f"--method {method} (it takes: {listed})")
    if not LIKELIHOODS[likelihood].has_variance:
        takers = " or ".join(name for name, row in LIKELIHOODS.items() if row.has_variance)
        found["variance"] = f"--likelihood {likelihood}; it is for --likelihood {takers}"
    if not hidden:
        found["activation"] = "--hidden none, a network without hidden layers"
    return found


def built(kind, value, name: str):
    """The value of a field, converted to its type, if its Kind allows it. Raises LookupError, TypeError, ValueError."""
    if isinstance(kind, types.UnionType):
        return None if value is None else built(get_args(kind)[0], value, name)
    if dataclasses.is_dataclass(kind):
        inside = {f.name: f.type for f in dataclasses.fields(kind)}
        return kind(**{inner: built(inside[inner], content, inner) for inner, content in value.items()})
    if kind == dict[str, float]:
        return {inner: built(float, content, inner) for inner, content in value.items()}
    try:
        return KINDS[name].checked(value)
    except (ArithmeticError, TypeError, ValueError):
        raise ValueError(f"{name} cannot be {value!r}") from None


def of_version_0_2(config: dict) -> Run:
    """The run that a config of version 0.2 describes by its options. Raises DataError, KeyError and TypeError."""
    # an option that is younger than the file has the value that it stood for
    o = {"schedule": "cosine", "adam": [0.9, 0.999, 1e-8], "init_from": None, "tf32": None} | config["options"]
    source = IN_MEMORY if o["data"] == "images of fit()" else o["data"]
    images = {"source": source, "data_dir": o.get("data_dir"), "name": config["data"], "size": o["size"]}
    images |= {"split": "every-tenth", "skip_broken": False, "binarize": o["binarize"]}
    o["images"] = images | {"shape": config["shape"], "sha256": config["images"]}
    o["options"] = {name: o.get(name) or 0.0 for name in own_options(METHODS[o["method"]])}
    o["precision"] = "tf32" if o["tf32"] else o["precision"]
    o["start"] = o["init_from"] and {"folder": o["init_from"], "sha256": f"of {o['init_from']}"}
    o |= dict.fromkeys(unused(o["method"], o["likelihood"], o["hidden"]))
    return of_json({f.name: o[f.name] for f in dataclasses.fields(Run)})


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
