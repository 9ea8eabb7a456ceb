"""checkpoint.npz: every array of a run, written so that it goes on to the bit, and read as if nobody vouched for it."""

import hashlib
import json
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np

from data.dataset import DataError
from data.files import reason, write_whole
from data.npz import read_array
from experiment.defaults import UsageError

VERSION = "0.2.0"  # of the program
FORMAT = 1  # of its checkpoints
# The columns of `history` and of metrics.csv, and how those of an epoch come from the reports in it. NaN stands for
# what a report does not have: λ without a constraint, figures on test images but at the end of an epoch.
COLUMNS = {
    **{"epoch": "last", "step": "last", "loss": "mean", "rate": "mean", "distortion": "mean", "elbo": "mean"},
    **{"constraint_ma": "last", "lambda": "last", "steps": "sum", "seconds": "sum"},
    **{"test_rate": "last", "test_distortion": "last", "test_elbo": "last"},
}
WHOLE = ("epoch", "step", "steps")
MULTIPLIER = ("constraint_ma", "lambda")
WATCHED = ("test_rate", "test_distortion", "test_elbo")
CONFIG = {"command": list, "options": dict, "resumed": list, "shape": list}  # what has to be in it


def write(path: Path, arrays: dict[str, np.ndarray], history: list[dict], config: dict) -> None:
    """The arrays of a run between two reports, its history and its config, under one checksum."""
    rows = [[np.nan if report.get(name) is None else report[name] for name in COLUMNS] for report in history]
    arrays = arrays | {
        "format": np.array(FORMAT),
        "history": np.array(rows, np.float64).reshape(-1, len(COLUMNS)),
        "config": np.frombuffer(json.dumps(config).encode(), np.uint8),
    }
    arrays["sha256"] = checksum(arrays)
    write_whole(path, lambda file: np.savez(file, **arrays))


def checksum(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """SHA-256 of all names, types, shapes and contents but its own, as 32 bytes."""
    sha = hashlib.sha256()
    for name in sorted({*arrays} - {"sha256"}):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8))
    return np.frombuffer(sha.digest(), np.uint8)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays (`history` among them) and the config of a checkpoint that is what was written.

    Whether they are those of a run is for `check` to say. What is read takes no more memory than the file is long.
    Raises UsageError without a file, and DataError.
    """
    if not path.is_file():
        raise UsageError(f"{path.parent} holds no {path.name}; name the folder of a run")
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # a hostile header makes its parser talk on stderr
            members, names = archive.infolist(), sorted({*archive.namelist()})
            if len(names) < len(members) or sum(member.file_size for member in members) > path.stat().st_size:
                raise DataError(f"{path}: expected arrays, each stored once and uncompressed, found something else")
            names = [name.removesuffix(".npy") for name in names]
            arrays = {name: read_array(f"{path}: {name}", archive, name, _check_header) for name in names}
        if int(arrays["format"]) != FORMAT:
            raise DataError(f"{path}: expected format {FORMAT}, found {arrays['format']}: another version's checkpoint")
        if not np.array_equal(arrays["sha256"], checksum(arrays)):
            raise DataError(f"{path} is damaged: its contents do not have the checksum that they were written with")
        config = json.loads(arrays["config"].tobytes())
        shape, types = config["shape"], {name: type(config.get(name)) for name in CONFIG}
        fits = types == CONFIG and [*map(type, shape)] == [int] * 3 and min(shape) > 0
        if not fits or math.prod(shape) != arrays["center"].size:
            raise DataError(f"{path}: its config is not that of a run of version {VERSION}")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or reason(error)})") from error
    except (DataError, MemoryError):
        raise
    except Exception as error:  # zipfile, the header's parser and json have many
        raise DataError(f"{path}: expected a checkpoint, found something else ({reason(error)})") from error
    return {name: array for name, array in arrays.items() if name not in ("format", "config", "sha256")}, config


def _check_header(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "fiu" or not dtype.isnative:
        raise DataError(f"{what} is {dtype}, expected floats or integers of this machine")


def check(path: Path, arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Raises DataError unless `arrays` have the names, types and shapes of `expected`, and only finite numbers."""
    if {*arrays} != {*expected}:
        odd = min({*arrays} ^ {*expected})
        raise DataError(f"{path}: {odd!r} is {'missing' if odd in expected else 'no array of this run'}")
    for name, array in arrays.items():
        found, wanted = (f"{a.dtype} {a.shape}" for a in (array, expected[name]))
        if found != wanted:
            raise DataError(f"{path}: expected {name} to be {wanted}, found {found}")
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds numbers that are not finite")


def reports(path: Path, arrays: dict[str, np.ndarray], constrained: bool) -> list[dict]:
    """The history among a checkpoint's arrays as the training loop reported it.

    Raises DataError unless it has reports on every step, with a number wherever such a run has one.
    """
    history, step = (arrays.get(name, np.empty(0)) for name in ("history", "step"))
    known = [constrained or name not in MULTIPLIER for name in COLUMNS if name not in WATCHED]  # which come last
    fits = history.dtype == np.float64 and history.shape[1:] == (len(COLUMNS),) and not np.isinf(history).any()
    if fits:
        of = dict(zip(COLUMNS, history.T, strict=True))
        fits = (np.isfinite(history[:, : len(known)]) == known).all() and (of["steps"] > 0).all()
        fits = fits and np.array_equal(np.cumsum(of["steps"]), of["step"]) and np.array_equal(of["steps"].sum(), step)
    if not fits:
        raise DataError(f"{path}: its history is not that of a run to its step")
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in history.tolist()]
    return [{n: None if math.isnan(v) else int(v) if n in WHOLE else v for n, v in row.items()} for row in rows]
