"""The files of a run: its folder is claimed before training, and each of them is written whole or not at all."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from data.files import write_whole
from experiment.options import UsageError

FILES = (
    "config.json",
    "metrics.csv",
    "checkpoint.npz",
    "summary.json",
    "reconstructions.png",
    "samples.png",
    "interpolation.png",
    "traversals.png",
    "curves.png",
)
COLUMNS = ("epoch", "step", "loss", "rate", "distortion", "constraint_ma", "lambda", "elbo", "seconds")


def existing_run(out: Path, force: bool) -> list[str]:
    """The files of a run that `out` holds already. Raises UsageError for any without `force`."""
    try:
        existing = [name for name in FILES if (out / name).exists()]
    except OSError as error:
        raise UsageError(f"--out {out} cannot be read ({error.strerror}); choose another folder") from error
    if existing and not force:
        raise UsageError(
            f"--out {out} already holds a run ({existing[0]}); choose another folder or add --force to overwrite it"
        )
    return existing


def claim(out: Path, force: bool, config: dict) -> None:
    """Makes the run's folder and writes config.json: what cannot be written is found out before training."""
    existing = existing_run(out, force)
    try:
        write_json(out / "config.json", config)
        for name in set(existing) - {"config.json"}:
            (out / name).unlink()
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written ({error.strerror}); choose another folder") from error


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_metrics(path: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def write_checkpoint(path: Path, backend, state: dict, config: dict) -> None:
    arrays = {name: backend.to_host(array) for name, array in state.items()}
    write_whole(path, lambda file: np.savez(file, config=np.array(json.dumps(config)), **arrays))
