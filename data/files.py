"""Files that are written whole or not at all, and read no further than they promise."""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # not a POSIX system: there, nothing is locked
    fcntl = None

BLOCK = 1 << 20


def write_whole(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """`path` gets the bytes that write(file) writes: all of them, or on any failure none, and the old file stays.

    Missing folders are made. `write` may seek, and may read what it wrote under file.name after a flush. A file that
    is not `durable` is not waited for to reach the disk, and may be lost with the power.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within a file system; a name of its own for each writer.
    temporary = path.parent / f".{path.name[:100]}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except BaseException:  # Ctrl-C too
        with suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path, name: str) -> None:
    """Removes what write_whole had not finished for `name` when its process was killed; only for the lock's holder."""
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 12}.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, busy: Callable[[], object]) -> Iterator[None]:
    """Holds the lock file `path`, which is gone afterwards; a process that is killed holds nothing any more.

    While another process holds it, busy() is called, which raises or returns to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "ab") as file:
            if fcntl and not _locked(file):
                busy()
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _has_name(file, path):  # the last holder has removed it
                continue
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()
            return


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks: go on as if alone
        pass
    return True


def _has_name(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


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


def shown(name: object) -> str:
    """A name from a disk or a file as text of one line that UTF-8 can hold: other bytes are written as \\udcff."""
    return " ".join(str(name).encode("utf-8", "backslashreplace").decode().split())
