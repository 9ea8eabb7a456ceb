"""A run's folder: files that are written whole, and a checkpoint that is read as if nobody vouched for it."""

import hashlib
import json
import math
import os
import shlex
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.dataset import DataError
from data.files import lock, reason, remove_leftovers, write_whole
from data.npz import read_array
from experiment import record
from experiment.record import Run, UsageError

CHECKPOINT = "checkpoint.npz"
MODELS = Path(__file__).parent / "models"  # that come along, θ in float16
PICTURES = tuple(
    f"{name}.png" for name in ("reconstructions", "samples", "traversals", "interpolations", "latents", "curves")
)
EXPLORE = "explore.html"  # missing where it would be too large
PAGES = ("report.html", EXPLORE)
FILES = ("config.json", "metrics.csv", CHECKPOINT, "summary.json", *PICTURES, *PAGES)
# What --load writes. A new θ makes these files out of date.
OF_THE_MODEL = ("evaluation*.json", "encoded-*.npz", "interpolated-*.png")
OF_IMAGES = ("data", "size", "skip_broken", "init_from")  # options in which equal runs may differ
DERIVED = ("variance", "multiplier_rate")  # options that may follow from others, and tell little
FORMATS = (1, 2)  # of the checkpoints of version 0.2, and of this version
# The columns of the history and of metrics.csv.
COLUMNS = ("epoch", "step", "loss", "rate", "error", "elbo", "constraint_ma", "lambda", "steps", "seconds")
COLUMNS += ("test_rate", "test_error", "test_elbo", "test_images")
MEANS = ("loss", "rate", "error", "elbo")  # over the steps of an epoch
CONFIG = ("version", "command", "backend", "versions", "processes", "resumed")
BESIDE = ("format", "history", "config", "sha256")  # no arrays of the run


class Saved(NamedTuple):
    """A checkpoint."""

    path: Path
    run: Run
    config: dict  # CONFIG
    history: list[dict]  # what training reported, by COLUMNS; None where a report has no such number
    arrays: dict[str, np.ndarray]


def write_checkpoint(path: Path, run: Run, config: dict, history: list[dict], arrays: dict[str, np.ndarray]) -> None:
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


def read_checkpoint(folder: str | Path) -> Saved:
    """The checkpoint in a run's folder, also of version 0.2, or of a model that comes along, by its name.

    Raises UsageError where there is none, and for a name of both, DataError.
    """
    path, model = Path(folder) / CHECKPOINT, MODELS / f"{folder}.npz"
    if isinstance(folder, str) and Path(folder).name == folder and model.is_file():
        if Path(folder).exists():
            raise UsageError(f"{folder} is a model and a folder here: write ./{folder} for the folder")
        path = model
    if not path.is_file():
        raise UsageError(f"{folder} holds no {CHECKPOINT}; name the folder of a run")
    try:
        return _saved(path, _content(path))
    except MemoryError:
        raise
    except Exception as error:  # zipfile, the header's parser and json have many
        raise DataError(f"{path}: expected a checkpoint, found none that is whole ({reason(error)})") from error


def _content(path: Path) -> dict[str, np.ndarray]:
    """Every array in the file, if it is what was written. `check` compares types and shapes."""
    with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
        warnings.simplefilter("ignore")  # a hostile header makes its parser talk on stderr
        members, names = archive.infolist(), {name.removesuffix(".npy") for name in archive.namelist()}
        if len(names) < len(members) or sum(member.file_size for member in members) > path.stat().st_size:
            raise DataError("its arrays are not each stored once and uncompressed")
        content = {name: read_array(name, archive, name, lambda *header: None) for name in names}
    if int(content["format"]) not in FORMATS:
        raise DataError(f"expected format {FORMATS[-1]}, found {content['format']}, another version's")
    if not np.array_equal(content["sha256"], checksum(content)):
        raise DataError("it is damaged: its contents do not have their checksum")
    return content


def _saved(path: Path, content: dict[str, np.ndarray]) -> Saved:
    """What the file says: its arrays, and beside them the run, its config and its history."""
    config = dict(json.loads(content["config"].tobytes()))
    if int(content["format"]) == 1:
        run, rows = record.of_version_0_2(config), content["history"].tolist()
        config["backend"] = config["options"]["backend"]
        rows = [[None if math.isnan(number) else number for number in row] for row in rows]
    else:
        config["run"]["images"].setdefault("data_dir", None)  # which is younger than some files
        run, rows = record.of_json(config["run"]), json.loads(content["history"].tobytes())
    # a column that is younger than the file is empty
    history = [dict.fromkeys(COLUMNS) | dict(zip(COLUMNS, row, strict=False)) for row in rows]
    for report in history:
        report |= {name: int(report[name]) for name in ("epoch", "step", "steps")}
    arrays = {name: content[name] for name in content if name not in BESIDE}
    arrays |= {name: array.astype(np.float32) for name, array in arrays.items() if array.dtype == np.float16}
    if sum(report["steps"] for report in history) != int(arrays["step"]):
        raise DataError("its arrays are not those of its run")
    return Saved(path, run, {name: config[name] for name in CONFIG}, history, arrays)


def check(path: Path, arrays: dict[str, np.ndarray], expected: dict[str, tuple]) -> None:
    """Raises DataError unless the arrays have the types and shapes `expected`, and are finite."""
    for name, (dtype, shape) in expected.items():
        array, wanted = arrays.get(name), f"{dtype} {shape}"
        found = "nothing" if array is None else f"{array.dtype} {array.shape}"
        if found != wanted:
            raise DataError(f"{path}: expected {name} to be {wanted}, found {found}")
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds numbers that are not finite")


def state_of(out: Path, run: Run) -> str:
    """What the folder holds: "missing", "stopped" or "whole" for `run`, "other" for another run."""
    if not any((out / name).exists() for name in FILES):
        return "missing"
    with suppress(DataError, UsageError):
        if read_checkpoint(out).run == run:
            return "whole" if (out / "summary.json").exists() else "stopped"
    return "other"


def what_lies_in(out: Path, run: Run) -> str:
    """What the folder holds, in words; of another run something in which it differs from `run`."""
    try:
        there = read_checkpoint(out).run
    except (DataError, UsageError) as error:
        return f"a run that cannot be read: {error}"
    if there == run:
        return f"this run, which {'has ended' if state_of(out, run) == 'whole' else 'was stopped'}"
    before, now = there.typed, run.typed
    if there.images != run.images:
        alike = before["data"] == now["data"]
        return f"another run, of {'other images' if alike else record.said('data', before['data'])}"
    names = [name for name in ("method", *record.METHOD_OPTIONS, *before, *now) if name not in DERIVED + OF_IMAGES]
    differs = [name for name in (*names, *DERIVED) if before.get(name) != now.get(name)]
    return f"another run, which has {record.said(differs[0], before.get(differs[0])) if differs else 'another start'}"


def refuse_existing(out: Path, run: Run, force: bool = False) -> None:
    """Raises UsageError if `out` cannot be written, or holds a run and no `force` is used."""
    refuse_unwritable(out)
    state = state_of(out, run)
    if state != "missing" and not force:
        on = f"go on by {command_to_go_on(out)}, " if state == "stopped" else ""
        what = what_lies_in(out, run)
        raise UsageError(f"--out {out} already holds {what}; {on}choose another --out or --seed, or add --force")


def command_to_go_on(out: Path) -> str:
    """The command that goes on with the run in `out`."""
    return f"python run.py --resume {shlex.quote(str(out))}"


def refuse_unwritable(out: Path, is_file: bool = False) -> None:
    """Raises UsageError unless the folder or file can be written."""
    there = next(path for path in (out, *out.absolute().parents) if os.path.exists(path))
    wanted = "file" if is_file and there == out else "folder"
    if there.is_dir() != (wanted == "folder") or not os.access(there, os.W_OK):
        raise UsageError(f"--out {out} cannot be written: {there} is no {wanted} that can be; choose another")


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Makes the folder, and keeps other runs out. Raises UsageError."""

    def busy():
        raise UsageError(f"--out {out} is in use by another run; wait for it or choose another folder")

    with lock(out / ".lock", busy):
        for name in FILES:
            remove_leftovers(out, name)
        yield


def claim(out: Path, config: dict, rows: list[dict], save: Callable[[], object]) -> None:
    """Writes the first checkpoint, then config.json and metrics.csv; removes what is older."""
    (out / "summary.json").unlink(missing_ok=True)  # which would call the folder a whole run
    save()
    write_json(out / "config.json", config)
    header = dict(zip(COLUMNS, COLUMNS, strict=True))
    lines = [line_of(row) for row in (header, *rows)]
    write_whole(out / "metrics.csv", lambda file: file.writelines(lines))
    for pattern in (*PICTURES, *PAGES, *OF_THE_MODEL):
        for path in out.glob(pattern):
            path.unlink()


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # what is no UTF-8 in a name becomes an escape, which JSON has too
    write_whole(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def row_of(reports: list[dict]) -> dict:
    """An epoch's row of metrics.csv: means over its steps, sums, and how it ended."""
    row, steps = dict(reports[-1]), [report["steps"] for report in reports]
    for name in MEANS:
        row[name] = float(np.average([report[name] for report in reports], weights=steps))
    return row | {"steps": sum(steps), "seconds": sum(report["seconds"] for report in reports)}


def rows_of(history: list[dict], steps_per_epoch: int) -> list[dict]:
    """A row for each complete epoch."""
    epochs = [[*reports] for _, reports in groupby(history, key=lambda report: report["epoch"])]
    return [row_of(reports) for reports in epochs if reports[-1]["step"] % steps_per_epoch == 0]


def last_epoch(history: list[dict]) -> list[dict]:
    """The reports of the last epoch, whole or not."""
    return [*takewhile(lambda report: report["epoch"] == history[-1]["epoch"], reversed(history))][::-1]


def append_row(out: Path, row: dict) -> None:
    """One more row of metrics.csv."""
    with open(out / "metrics.csv", "ab") as file:
        file.write(line_of(row))


def line_of(row: dict) -> bytes:
    """A row of metrics.csv: numbers, and nothing where there are none."""
    values = [row.get(name) for name in COLUMNS]
    return (",".join("" if value is None else f"{value}" for value in values) + "\n").encode()
