"""A run's folder: held while a run works in it, and claimed before training. Its files are written whole or not at all.

metrics.csv alone grows by a row an epoch; a run that goes on cuts the rows beyond its checkpoint.
"""

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data import DataError
from data.files import lock, remove_leftovers, write_whole
from experiment import checkpoint
from experiment.record import Run, UsageError

PICTURES = ("reconstructions.png", "samples.png", "traversals.png", "latents.png", "curves.png")
FILES = ("config.json", "metrics.csv", checkpoint.NAME, "summary.json", *PICTURES)
OF_THE_MODEL = ("evaluation*.json", "encoded-*.npz")  # what --load writes beside them: no longer true of another θ


def refuse_existing(out: Path, run: Run | None = None) -> None:
    """Raises UsageError if the folder holds a run already: which, and how to go on. `run` would be made there."""
    existing = [name for name in FILES if (out / name).exists()]
    if not existing:
        return
    whole, what = (out / "summary.json").exists(), f"already holds a run ({existing[0]})"
    try:
        if run and checkpoint.read(out).run == run:
            what = "already holds this run, which has ended" if whole else "already holds this run, which was stopped"
    except (DataError, UsageError):
        pass  # whatever it is, it is not overwritten
    on = "" if whole or not resumable(out) else f"go on by {command_to_go_on(out)}, "
    raise UsageError(f"--out {out} {what}; {on}choose another --out or --seed, or add --force")


def resumable(out: Path) -> bool:
    """Whether the folder holds a run that can be gone on with."""
    return (out / checkpoint.NAME).exists() and not (out / "summary.json").exists()


def command_to_go_on(out: Path) -> str:
    """The command that goes on with the run in `out`."""
    return f"python run.py --resume {shlex.quote(str(out))}"


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
    for pattern in (*PICTURES, *OF_THE_MODEL):
        for path in out.glob(pattern):
            path.unlink()


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def append_row(out: Path, row: dict) -> None:
    """One more row of metrics.csv."""
    with open(out / "metrics.csv", "ab") as file:
        file.write(lines_of([row]))


def lines_of(rows: list[dict], header: bool = False) -> bytes:
    """Rows of metrics.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, checkpoint.COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
