"""What the studies share: their command line, finished runs read from folders, and mean ± standard error over seeds."""

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from backend import BackendError
from data import DataError
from experiment.compare import Finished, runs_in
from experiment.defaults import UsageError
from experiment.options import Parser

PICTURES = Path(__file__).parents[1] / "experiment" / "pictures"


def command(about: str, study: Callable[..., str], draws: bool = False, argv: list[str] | None = None) -> int:
    """Prints the tables that study(folders) returns, or study(folders, out) if it draws.

    The exit status is 0, and for bad input 2, with a sentence on stderr.
    """
    p = Parser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders that run.py has written")
    if draws:
        p.add_argument("--out", type=Path, default=PICTURES, help="the folder of the pictures (%(default)s)")
    try:
        print(study(**vars(p.parse_args(argv))))
    except (UsageError, DataError, BackendError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def finished_in(folders: Sequence[Path]) -> list[Finished]:
    """The finished runs in these folders, each once. Raises UsageError where one has none, and for unlike images."""
    runs = runs_in(folders)
    images = [(run.config["images"], run.args.binarize, run.args.likelihood) for run in runs]
    for run, of in zip(runs, images, strict=True):
        if of != images[0]:
            raise UsageError(
                f"{run.out} and {runs[0].out} differ in images, binarization or likelihood; name like runs"
            )
    return runs


def over_seeds(values: Sequence[float], decimals: int = 2) -> str:
    """Mean ± the standard error of the mean; of one value the value."""
    text = f"{statistics.fmean(values):.{decimals}f}".replace("-", "−")
    if len(values) == 1:
        return text
    return f"{text} ± {statistics.stdev(values) / math.sqrt(len(values)):.{decimals}f}"
