"""Downloads from the first mirror that sends the published file; or a sentence what to do."""

import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from itertools import product
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from .files import DataError, lock, reason, remove_leftovers, write_whole

TIMEOUT = 20.0  # seconds without a byte
PAUSES = (0.0, 1.0, 3.0)  # seconds before each round over the mirrors
# A variable, or a folder below the home.
CACHES = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}


def default_dir() -> Path:
    """$TAMING_VAES_DATA, else taming-vaes in the user's cache directory. Raises DataError."""
    if chosen := os.environ.get("TAMING_VAES_DATA"):
        return Path(chosen)
    variable, below = CACHES.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    try:
        cache = os.environ.get(variable) or Path.home() / below
    except RuntimeError as error:
        raise DataError("this user has no home folder; set TAMING_VAES_DATA or give --data-dir") from error
    return Path(cache) / "taming-vaes"


def fetch(urls: Sequence[str], target: Path, verify: Callable[[Path], object]) -> None:
    """`target` from one of `urls`, by one process, once verify(path) raises no DataError. Else DataError, no file."""
    failures: dict[str, str] = {}
    with lock(target.with_name(f".{target.name}.lock"), lambda: _wait(target)):
        remove_leftovers(target.parent, target.name)
        for pause, url in product(PAUSES, urls):
            if target.is_file():
                return
            time.sleep(pause if url == urls[0] else 0)
            try:
                write_whole(target, lambda file, url=url: _receive(url, file, target.name, verify))
            except (OSError, ValueError, HTTPException) as error:
                failures[url] = reason(error)
    if not target.is_file():
        reasons = ", ".join(f"{url}: {why}" for url, why in failures.items())
        raise absent(target, urls, f"could not be downloaded ({reasons})")


def _wait(target: Path) -> None:
    print(f"another process is downloading {target}; waiting for it", file=sys.stderr)


def absent(target: Path, urls: Sequence[str], why: str) -> DataError:
    """The error for a file that is neither here nor to be had."""
    return DataError(f"{target} is missing and {why}; get {urls[0]} by hand and save it under that name")


def _receive(url: str, file: BinaryIO, name: str, verify: Callable[[Path], object]) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "taming-vaes"})
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT) as response,
        tqdm.wrapattr(response, "read", response.length, desc=name, disable=None) as watched,
    ):
        shutil.copyfileobj(watched, file)
    file.flush()
    try:
        verify(Path(file.name))
    except DataError as error:
        raise DataError("sent something else, or a part of the published file") from error
