"""Files that are written whole or not at all, and read no further than they promise."""

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

BLOCK = 1 << 20  # bytes


class DataError(ValueError):
    """Bad input, as one sentence: what was expected, what was found, what to do."""


def write_whole(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """`path`, in a folder that is made, gets all that write(file) writes, or on any failure the old file stays."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within a file system.
    temporary = path.parent / f".{path.name[:100]}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            if durable:  # otherwise a power cut may lose it
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException:  # Ctrl-C too
        with suppress(OSError):
            temporary.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path, name: str) -> None:
    """Removes what killed processes had not finished in write_whole. The caller holds the lock."""
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 12}.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, busy: Callable[[], object]) -> Iterator[None]:
    """Holds the file `path`, gone afterwards. While another process has it, busy() raises, or returns to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "ab") as file:
            try:
                if fcntl:  # a process that is killed holds nothing any more
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy()
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # some network file systems have no locks: go on as if alone
                pass
            if not _has_name(file, path):  # the last holder has removed it
                continue
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()
            return


def _has_name(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def read_exactly(what: str, stream: BinaryIO, count: int) -> bytearray:
    """The `count` bytes that a header promises, in memory for what is there. Raises DataError for others."""
    data = bytearray()
    while len(data) <= count and (block := stream.read(min(BLOCK, count + 1 - len(data)))):
        data += block
    if len(data) != count:
        found = f"only {len(data)}" if len(data) < count else "more"
        raise DataError(f"{what}: its header promises {count} bytes of data, found {found}")
    return data


def reason(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def shown(name: object) -> str:
    """A name as one line that UTF-8 can hold: other bytes become \\udcff."""
    return " ".join(str(name).encode("utf-8", "backslashreplace").decode().split())
