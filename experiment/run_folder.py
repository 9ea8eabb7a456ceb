"""A run's folder and its files, written whole or not at all; checkpoint.npz is read as if nobody vouched for it.

The folder is held while a run works in it. metrics.csv alone grows by a row an epoch; a run that goes on cuts the rows
beyond its checkpoint.
"""

import csv
import hashlib
import io
import json
import math
import os
import shlex
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.dataset import DataError
from data.files import lock, reason, remove_leftovers, write_whole
from data.npz import read_array
from experiment import record
from experiment.record import Run, UsageError

CHECKPOINT = "checkpoint.npz"
MODELS = Path(__file__).parent / "models"  # checkpoints that come with the program, their θ in float16
PICTURES = tuple(
    f"{name}.png" for name in ("reconstructions", "samples", "traversals", "interpolations", "latents", "curves")
)
EXPLORE = "explore.html"  # missing where it would be too large
PAGES = ("report.html", EXPLORE)
FILES = ("config.json", "metrics.csv", CHECKPOINT, "summary.json", *PICTURES, *PAGES)
# What --load writes beside them: no longer true of another θ.
OF_THE_MODEL = ("evaluation*.json", "encoded-*.npz", "interpolated-*.png")
FORMATS = (1, 2)  # of the checkpoints of version 0.2, and of this version
# The columns of the history and of metrics.csv, and how those of an epoch come from the reports in it.
COLUMNS = {
    **{"epoch": "last", "step": "last", "loss": "mean", "rate": "mean", "error": "mean", "elbo": "mean"},
    **{"constraint_ma": "last", "lambda": "last", "steps": "sum", "seconds": "sum"},
    **{"test_rate": "last", "test_error": "last", "test_elbo": "last", "test_images": "last"},
}
CONFIG = ("version", "command", "backend", "versions", "processes", "resumed")  # beside the run in config.json
BESIDE = ("format", "history", "config", "sha256")  # what a checkpoint holds beside the arrays of the run


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
    """The checkpoint in a run's folder, also of version 0.2. `check` says whether its arrays are those of its run.

    What is read takes no more memory than the file is long. Raises UsageError without a file, and DataError.
    """
    path = checkpoint_at(folder)
    if not path.is_file():
        raise UsageError(f"{folder} holds no {CHECKPOINT}; name the folder of a run")
    try:
        content = _content(path)
        run, config, history = _run_and_history(content)
        arrays = {name: array for name, array in content.items() if name not in BESIDE}
        arrays |= {name: array.astype(np.float32) for name, array in arrays.items() if array.dtype == np.float16}
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


def checkpoint_at(folder: str | Path) -> Path:
    """The checkpoint in a run's folder; or of a model that comes with the program, where a string is its name.

    Raises UsageError where the name is that of a folder, too.
    """
    model = MODELS / f"{folder}.npz"
    if not isinstance(folder, str) or Path(folder).name != folder or not model.is_file():
        return Path(folder) / CHECKPOINT
    if Path(folder).exists():
        raise UsageError(
            f"{folder} is a model that comes with this program and a folder here: write ./{folder} for that"
        )
    return model


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
    """What the file says beside the arrays."""
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
    return run, {name: config[name] for name in CONFIG}, history


def check(path: Path, arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Raises DataError unless `arrays` have the names, types and shapes of `expected`, and finite numbers alone."""
    if odd := {*arrays} ^ {*expected}:
        raise DataError(f"{path}: {min(odd)!r} is {'missing' if min(odd) in expected else 'no array of this run'}")
    for name, array in arrays.items():
        found, wanted = (f"{a.dtype} {a.shape}" for a in (array, expected[name]))
        if found != wanted:
            raise DataError(f"{path}: expected {name} to be {wanted}, found {found}")
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds numbers that are not finite")


def refuse_existing(out: Path, run: Run, force: bool = False) -> None:
    """Raises UsageError if the folder, in which `run` is to be made, cannot be written, or holds a run already.

    The sentence says which, and how to go on. With `force` another run is no obstacle.
    """
    refuse_unwritable(out)
    existing = [name for name in FILES if (out / name).exists()]
    if force or not existing:
        return
    what, on = f"a run ({existing[0]})", ""
    with suppress(DataError, UsageError):  # whatever it is, it is not overwritten
        there = read_checkpoint(out).run
        what = f"another run (--method {there.method} --data {there.images.source})"
        if there == run:
            what = "this run, which was stopped" if resumable(out) else "this run, which has ended"
        on = f"go on by {command_to_go_on(out)}, " if resumable(out) else ""
    raise UsageError(f"--out {out} already holds {what}; {on}choose another --out or --seed, or add --force")


def resumable(out: Path, run: Run | None = None) -> bool:
    """Whether the folder holds a run that can be gone on with; that `run`, if it is given, and not an older one."""
    if (out / "summary.json").exists() or not (out / CHECKPOINT).exists():
        return False
    with suppress(DataError, UsageError):
        return run is None or read_checkpoint(out).run == run
    return False


def command_to_go_on(out: Path) -> str:
    """The command that goes on with the run in `out`."""
    return f"python run.py --resume {shlex.quote(str(out))}"


def refuse_unwritable(out: Path, is_file: bool = False) -> None:
    """Raises UsageError unless `out`, a folder or a file, can be written as far as can be told. Nothing is made."""
    there = next(path for path in (out, *out.absolute().parents) if os.path.exists(path))
    wanted = "file" if is_file and there == out else "folder"
    if there.is_dir() != (wanted == "folder") or not os.access(there, os.W_OK):
        raise UsageError(f"--out {out} cannot be written: {there} is no {wanted} that can be; choose another")


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keeps other runs out of the folder, and makes it, which finds out before training whether it can be written."""

    def busy():
        raise UsageError(f"--out {out} is in use by another run; wait for it or choose another folder")

    with ExitStack() as stack:
        try:
            stack.enter_context(lock(out / ".lock", busy))
            for name in FILES:
                remove_leftovers(out, name)
        except OSError as error:
            raise UsageError(f"--out {out} cannot be written ({error.strerror}); choose another folder") from error
        yield


def claim(out: Path, config: dict, rows: list[dict], save: Callable[[], object]) -> None:
    """Writes the run's first checkpoint before any other file, config.json and metrics.csv; removes what is older."""
    (out / "summary.json").unlink(missing_ok=True)  # which would call the folder a whole run
    save()
    write_json(out / "config.json", config)
    write_whole(out / "metrics.csv", lambda file: file.write(lines_of(rows, header=True)))
    for pattern in (*PICTURES, *PAGES, *OF_THE_MODEL):
        for path in out.glob(pattern):
            path.unlink()


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # what is no UTF-8 in a name becomes an escape, which JSON has too
    write_whole(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def append_row(out: Path, row: dict) -> None:
    """One more row of metrics.csv."""
    with open(out / "metrics.csv", "ab") as file:
        file.write(lines_of([row]))


def lines_of(rows: list[dict], header: bool = False) -> bytes:
    """Rows of metrics.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
