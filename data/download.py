"""Downloads: from the first mirror that sends the published file, else one sentence that says what to do by hand."""

import os
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from .dataset import DataError
from .files import lock, reason, remove_leftovers, write_whole

TIMEOUT = 20.0  # seconds without a byte
PAUSES = (0.0, 1.0, 3.0)  # seconds before each round over the mirrors
LIMIT = 256 << 20  # bytes; the largest file here, CIFAR-10's archive, has 170 million


def default_dir() -> Path:
    """$TAMING_VAES_DATA, else taming-vaes in the user's cache directory. Raises DataError for a user without a home."""
    if chosen := os.environ.get("TAMING_VAES_DATA"):
        return Path(chosen)
    variable, below = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": (None, "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    try:
        cache = (variable and os.environ.get(variable)) or Path.home() / below
    except RuntimeError as error:
        raise DataError(
            "data sets are kept in the home folder, and this user has none; set TAMING_VAES_DATA or give --data-dir"
        ) from error
    return Path(cache) / "taming-vaes"


def fetch(urls: Sequence[str], target: Path, verify: Callable[[Path], object]) -> None:
    """Download `target` from one of `urls` and move it into place once verify(path) raises no DataError.

    One process downloads, and another waits for it. Raises DataError when every mirror has failed in every round;
    nothing is left behind then.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    with lock(target.with_name(f".{target.name}.lock"), lambda: _wait(target)):
        remove_leftovers(target.parent, target.name)
        failures = {} if target.is_file() else _try(urls, target, verify)
    if failures:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        reasons = ", ".join(f"{url}: {why}" for url, why in failures.items())
        raise absent(target, urls, f"could not be downloaded ({reasons})")


def _wait(target: Path) -> None:
    print(f"another process is downloading {target}; waiting for it", file=sys.stderr)


def _try(urls: Sequence[str], target: Path, verify: Callable[[Path], object]) -> dict[str, str]:
    """Empty once `target` is there, else why each of `urls` failed."""
    failures: dict[str, str] = {}
    for pause in PAUSES:
        time.sleep(pause)
        for url in urls:
            try:
                write_whole(target, lambda file, url=url: _receive(url, file, target.name, verify))
                return {}
            except (OSError, ValueError, HTTPException, DataError) as error:
                failures[url] = reason(error)
    return failures


def absent(target: Path, urls: Sequence[str], why: str) -> DataError:
    """The error for a file that is neither here nor to be had."""
    return DataError(f"{target} is missing and {why}; get {urls[0]} by hand and save it under that name")


def _receive(url: str, file: BinaryIO, name: str, verify: Callable[[Path], object]) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "taming-vaes"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        promised = response.length
        # disable=None: a bar on a terminal only
        with tqdm(desc=name, total=promised, unit="B", unit_scale=True, disable=None) as bar:
            while block := response.read(1 << 16):
                bar.update(file.write(block))
                if file.tell() > LIMIT:
                    raise DataError(f"sent more than {LIMIT} bytes")
    # http.client takes a connection that closes early for the end of the file.
    if promised is not None and file.tell() != promised:
        raise DataError(f"the connection was cut after {file.tell()} of {promised} bytes")
    file.flush()
    try:
        verify(Path(file.name))
    except DataError as error:
        raise DataError("sent something else than the published file") from error
