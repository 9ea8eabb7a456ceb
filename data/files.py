"""Files that are written whole or not at all, and read no further than they promise."""

import hashlib
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """`path` gets the bytes that write(file) writes: all of them, or on any failure none, and the old file stays.

    Missing folders are made. `write` may seek, and may read what it wrote under file.name after a flush.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within a file system; a name of its own for each writer.
    temporary = path.parent / f".{path.name[:100]}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        with suppress(OSError):
            temporary.unlink()
        raise


def read_at_most(stream: BinaryIO, count: int) -> bytearray:
    """The next `count` bytes, fewer at the end; memory grows with what is there, never with what a header claims."""
    data = bytearray()
    while len(data) < count and (block := stream.read(min(BLOCK, count - len(data)))):
        data += block
    return data


def digest(path: Path, algorithm: str) -> str:
    """The checksum of a file, in hexadecimal."""
    checksum = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            checksum.update(block)
    return checksum.hexdigest()


def reason(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
