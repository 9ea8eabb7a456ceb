"""The files of a run: its folder is held and claimed before training, and each file written whole or not at all."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data.files import lock, remove_leftovers, write_whole
from experiment.checkpoint import COLUMNS
from experiment.defaults import UsageError

PICTURES = ("reconstructions.png", "samples.png", "traversals.png", "latents.png", "curves.png")
FILES = ("config.json", "metrics.csv", "checkpoint.npz", "summary.json", *PICTURES)
OF_THE_MODEL = ("evaluation*.json", "encoded-*.npz")  # what --load writes beside them: no longer true of another θ


def existing_run(out: Path, force: bool) -> list[str]:
    """The files of a run that `out` holds already. Raises UsageError for any without `force`."""
    existing = [name for name in FILES if (out / name).exists()]
    if existing and not force:
        raise UsageError(f"--out {out} already holds a run ({existing[0]}); choose another folder or add --force")
    return existing


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keeps other runs out of the folder, and makes it: one that cannot be written is found out before training."""

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


def claim(out: Path, force: bool, config: dict, rows: list[dict], save: Callable[[], object]) -> None:
    """Writes the run's first checkpoint, so that a folder that holds anything holds one. Writes config.json and
    metrics.csv. Removes what an older run has left besides.
    """
    existing_run(out, force)
    (out / "summary.json").unlink(missing_ok=True)  # which would call the folder a whole run
    save()
    write_json(out / "config.json", config)
    write_metrics(out / "metrics.csv", rows)
    for pattern in (*PICTURES, *OF_THE_MODEL):
        for path in out.glob(pattern):
            path.unlink()


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_metrics(path: Path, rows: list[dict], durable: bool = False) -> None:
    """metrics.csv; until training ends it need not survive a power cut, because a resumed run writes it anew."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()), durable)
