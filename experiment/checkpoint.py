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
KINDS = "fiu"  # arrays of floats and of integers, and nothing else


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
    """The arrays (`history` among them) and the config of a checkpoint that is what was written. Raises DataError.

    Whether they are those of a run is for `check` to say. What is read takes no more memory than the file is long.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # a hostile header makes its parser talk on stderr
            arrays = _arrays(path, archive)
        if int(arrays["format"]) != FORMAT:
            raise DataError(f"{path}: expected format {FORMAT}, found {arrays['format']}: another version's checkpoint")
        if not np.array_equal(arrays["sha256"], checksum(arrays)):
            raise DataError(f"{path} is damaged: its contents do not have the checksum that they were written with")
        config = json.loads(arrays["config"].tobytes())
        lists = config["command"], config["resumed"]
        if not (isinstance(config["options"], dict) and all(isinstance(value, list) for value in lists)):
            raise DataError(f"{path}: its config is not that of a run")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or reason(error)})") from error
    except (DataError, MemoryError):
        raise
    except Exception as error:  # zipfile, the header's parser and json have many
        raise DataError(f"{path}: expected a checkpoint, found something else ({reason(error)})") from error
    return {name: array for name, array in arrays.items() if name not in ("format", "config", "sha256")}, config


def shape_of(path: Path, arrays: dict[str, np.ndarray], config: dict) -> tuple[int, int, int]:
    """(H, W, C) of the images that the run was trained on. Raises DataError for a config without it."""
    shape, pixels = config.get("shape"), arrays["center"].size if "center" in arrays else 0
    if shape is None:
        raise DataError(f"{path} is older than 0.2.0 and lacks the shape of its images; --resume its run once adds it")
    fits = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)
    if not fits or math.prod(shape) != pixels:
        raise DataError(f"{path}: its config has no shape (H, W, C) of {pixels} pixels")
    return tuple(shape)


def _arrays(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    members, names = archive.infolist(), {*archive.namelist()}
    if len(names) < len(members) or sum(member.file_size for member in members) > path.stat().st_size:
        raise DataError(f"{path}: expected arrays, each stored once and uncompressed, found something else")
    arrays = {}
    for name in sorted(names):
        name = name.removesuffix(".npy")
        arrays[name] = read_array(f"{path}: {name}", archive, name, _check_header)
    return arrays


def _check_header(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in KINDS or not dtype.isnative:
        raise DataError(f"{what} is {dtype}, expected floats or integers of this machine")


def check(path: Path, arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Raises DataError unless `arrays` have the names, types and shapes of `expected`, and only finite numbers."""
    if {*arrays} != {*expected}:
        odd = min({*arrays} ^ {*expected})
        raise DataError(f"{path}: {odd!r} is {'missing' if odd in expected else 'no array of this run'}")
    for name, array in arrays.items():
        wanted = expected[name]
        if (array.dtype, array.shape) != (wanted.dtype, wanted.shape):
            raise DataError(
                f"{path}: expected {name} to be {wanted.dtype} {wanted.shape}, found {array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds numbers that are not finite")


def reports(path: Path, history: np.ndarray) -> list[dict]:
    """The rows of a history as the training loop reported them. Raises DataError for anything else."""
    if history.dtype != np.float64 or history.ndim != 2 or not 0 < history.shape[1] <= len(COLUMNS):
        raise DataError(f"{path}: its history is not that of a run")
    wide = np.pad(history, ((0, 0), (0, len(COLUMNS) - history.shape[1])), constant_values=np.nan)  # of older versions
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in wide.tolist()]
    for row in rows:
        for name, value in row.items():
            if math.isnan(value):
                row[name] = None
            elif name in WHOLE and value.is_integer():
                row[name] = int(value)
    return rows


def check_reports(path: Path, rows: list[dict], step: int, steps_per_epoch: int, constrained: bool) -> None:
    """Raises DataError unless these are reports on every step up to `step`, with finite numbers where there are any."""
    absent, done, fits = () if constrained else MULTIPLIER, 0, True
    for row in rows:
        done += row["steps"] or 0
        fits &= all((row[name] is None) == (name in absent) for name in COLUMNS if name not in WATCHED)
        fits = fits and all(math.isfinite(value) for value in row.values() if value is not None)
        fits = fits and all(type(row[name]) is int for name in WHOLE) and row["steps"] > 0 and row["step"] == done
        fits = fits and row["epoch"] == (done - 1) // steps_per_epoch + 1 and (not constrained or row["lambda"] > 0)
    if not fits or done != step:
        raise DataError(f"{path}: its history is not that of {step} steps")
