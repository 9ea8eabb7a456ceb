"""checkpoint.npz: every array of a run, written so that it goes on to the bit, and read as if nobody vouched for it."""

import hashlib
import json
import math
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.dataset import DataError
from data.files import reason, write_whole
from data.npz import read_array
from experiment import record
from experiment.record import Run, UsageError

NAME = "checkpoint.npz"
FORMATS = (1, 2)  # of version 0.2, and this
# The columns of the history and of metrics.csv, and how those of an epoch come from the reports in it.
COLUMNS = {
    **{"epoch": "last", "step": "last", "loss": "mean", "rate": "mean", "error": "mean", "elbo": "mean"},
    **{"constraint_ma": "last", "lambda": "last", "steps": "sum", "seconds": "sum"},
    **{"test_rate": "last", "test_error": "last", "test_elbo": "last"},
}
WHOLE = ("epoch", "step", "steps")
CONFIG = ("version", "command", "backend", "versions", "processes", "resumed")
BESIDE = ("format", "history", "config", "sha256")  # what a checkpoint holds besides the arrays of the run


class Saved(NamedTuple):
    """A checkpoint."""

    path: Path
    run: Run
    config: dict  # what else config.json says: command, versions, where the run was made
    history: list[dict]  # what training reported, by COLUMNS; None where a report has no such number
    arrays: dict[str, np.ndarray]


def write(path: Path, run: Run, config: dict, history: list[dict], arrays: dict[str, np.ndarray]) -> None:
    """The arrays of a run between two reports, its history and its config, under one checksum."""
    rows = [[report.get(name) for name in COLUMNS] for report in history]
    content = arrays | {"format": np.array(FORMATS[-1])}
    for name, value in {"history": rows, "config": config | {"run": record.as_json(run)}}.items():
        content[name] = np.frombuffer(json.dumps(value, allow_nan=False).encode(), np.uint8)
    content["sha256"] = checksum(content)
    write_whole(path, lambda file: np.savez(file, **content))


def checksum(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """SHA-256 of all names, types, shapes and contents but its own, as 32 bytes."""
    sha = hashlib.sha256()
    for name in sorted({*arrays} - {"sha256"}):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8))
    return np.frombuffer(sha.digest(), np.uint8)


def read(folder: Path) -> Saved:
    """The checkpoint in a run's folder, also one of version 0.2.

    Whether its arrays are those of its run is for `check` to say. What is read takes no more memory than the file is
    long. Raises UsageError without a file, and DataError.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise UsageError(f"{folder} holds no {NAME}; name the folder of a run")
    try:
        content = _content(path)
        run, config, history = _run_and_history(content)
        arrays = {name: array for name, array in content.items() if name not in BESIDE}
        if run.images.pixels != arrays["center"].size or sum(r["steps"] for r in history) != int(arrays["step"]):
            raise DataError("its arrays are not those of its run")
        return Saved(path, run, config, history, arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or reason(error)})") from error
    except MemoryError:
        raise
    except Exception as error:  # zipfile, the header's parser and json have many
        raise DataError(f"{path}: expected a checkpoint, found something else ({reason(error)})") from error


def _content(path: Path) -> dict[str, np.ndarray]:
    """Every array in the file, if it is what was written."""
    with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
        warnings.simplefilter("ignore")  # a hostile header makes its parser talk on stderr
        members, names = archive.infolist(), sorted({*archive.namelist()})
        if len(names) < len(members) or sum(member.file_size for member in members) > path.stat().st_size:
            raise DataError("expected arrays, each stored once and uncompressed, found something else")
        names = [name.removesuffix(".npy") for name in names]
        content = {name: read_array(name, archive, name, _check_header) for name in names}
    if int(content["format"]) not in FORMATS:
        raise DataError(f"expected format {FORMATS[-1]}, found {content['format']}: another version's checkpoint")
    if not np.array_equal(content["sha256"], checksum(content)):
        raise DataError("it is damaged: its contents do not have the checksum that they were written with")
    return content


def _check_header(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "fiu" or not dtype.isnative:
        raise DataError(f"{what} is {dtype}, expected floats or integers of this machine")


def _run_and_history(content: dict[str, np.ndarray]) -> tuple[Run, dict, list[dict]]:
    """What the file says besides arrays."""
    config = dict(json.loads(content["config"].tobytes()))
    if int(content["format"]) == 1:
        run, rows = record.of_version_0_2(config), content["history"].tolist()
        config = {name: config[name] for name in CONFIG if name in config} | {"backend": config["options"]["backend"]}
        rows = [[None if math.isnan(number) else number for number in row] for row in rows]
    else:
        run, rows = record.of_json(config.pop("run")), json.loads(content["history"].tobytes())
    if {*config} != {*CONFIG}:
        raise DataError("its config is not that of a run")
    history = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    for name in WHOLE:
        for report in history:
            report[name] = int(report[name])
    return run, config, history


def check(path: Path, arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Raises DataError unless `arrays` have the names, types and shapes of `expected`, and finite numbers alone."""
    if odd := {*arrays} ^ {*expected}:
        name = min(odd)
        raise DataError(f"{path}: {name!r} is {'missing' if name in expected else 'no array of this run'}")
    for name, array in arrays.items():
        found, wanted = (f"{a.dtype} {a.shape}" for a in (array, expected[name]))
        if found != wanted:
            raise DataError(f"{path}: expected {name} to be {wanted}, found {found}")
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds numbers that are not finite")
