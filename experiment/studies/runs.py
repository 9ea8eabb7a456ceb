"""What the studies share: finished runs with their options, a mean over seeds, a command line."""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from backend import BackendError, open_backend
from data import DataError, Dataset
from data.dataset import mean_of
from experiment.command_line import Parser
from experiment.comparison import Finished, runs_in
from experiment.evaluation import fixed
from experiment.record import UsageError
from experiment.sources import opened_again, reader, total_variance
from experiment.terminal import make_safe, say
from experiment.trained_model import TrainedModel, load
from experiment.training import started
from ref.more import linear

PIXELS = ("images", "binarize", "likelihood", "variance")
SETTINGS = (*PIXELS, "data", "multiplier", "latent", "hidden", "output", "epochs", "batch_size", "lr", "nll_samples")
OPTIONS = ("method", "samples", "seed", *SETTINGS)
FOLDERS = ("folders", {"nargs": "+", "type": Path, "metavar": "DIR", "help": "folders that run.py has written"})
OUT = ("--out", {"type": Path, "default": Path(__file__).parents[1] / "pictures", "help": "the folder of the pictures"})


def finished_in(folders: Sequence[Path]) -> list[Finished]:
    """The finished runs in these folders, each once. Raises UsageError where a folder holds none."""
    runs = []
    for run in runs_in(folders):
        options = run.run.typed | {"images": run.run.images.sha256}
        own = {"options": run.run.options} | {name: options.get(name) for name in OPTIONS}
        runs.append(run._replace(summary=run.summary | own))
    return runs


def like_runs_in(folders: Sequence[Path]) -> list[Finished]:
    """`finished_in`. Also raises UsageError for runs that differ in images, binarization or likelihood."""
    first, *others = runs = finished_in(folders)
    for run in others:
        if any(run.summary[name] != first.summary[name] for name in PIXELS):
            raise UsageError(f"{run.out} and {first.out} differ in images, binarization or likelihood; name like runs")
    return runs


def images_of(run: Finished) -> Dataset:
    """The images of the run, loaded anew."""
    return opened_again(run.run, {}, f"{run.out}")[0]


def untrained(run: Finished, data: Dataset) -> TrainedModel:
    """The run's network before its first step."""
    backend = load(run.out).backend
    return started(run.run, backend, data, reader(backend, data.train, False))[0]


def without_network(run: Finished) -> tuple[float, Callable[[float], float]]:
    """The error of the mean image on the test images, and a function: the rate of the best linear VAE of an error."""
    data, backend = images_of(run), open_backend("numpy")
    mean = mean_of(data.train)
    images = (reader(backend, data.train, False), len(data.train), backend.asarray(mean))
    variances, rest = linear.principal_variances(backend, *images, backend.noise(0))
    of_mean_image = total_variance(data.test, about=mean)
    return of_mean_image, lambda error: linear.gaussian_rate_distortion(variances, error, rest)


def over_seeds(values: Sequence[float], decimals: int = 2, of_mean: bool = True) -> str:
    """Mean ± the standard error of the mean, or ± the standard deviation if not `of_mean`. Of one value the value."""
    text = fixed(statistics.fmean(values), decimals).replace("-", "−")
    if len(values) == 1:
        return text
    return f"{text} ± {statistics.stdev(values) / (len(values) ** 0.5 if of_mean else 1):.{decimals}f}"


def command(about: str, study: Callable[..., str], *arguments: tuple[str, dict], argv: list[str] | None = None) -> int:
    """Prints what study(arguments) returns. The exit status is 2 for bad input, with a sentence on stderr."""
    make_safe()
    p = Parser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, how in arguments:
        p.add_argument(name, **how)
    try:
        say(study(**vars(p.parse_args(argv))))
    except (UsageError, DataError, BackendError, OSError) as error:
        say(f"{error}", "stderr")
        return 2
    return 0
