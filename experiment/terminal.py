"""What a run says, on streams that may be closed, be no terminal or lack letters; and signals that end it."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import current_thread, main_thread

from tqdm import tqdm

EVERY = 10.0  # seconds between two lines where there is no terminal
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} to go{postfix}"
SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([SIGHUP] if SIGHUP else []))


def make_safe() -> None:
    """Streams replace what they cannot show, such as κ on an old console; a closed stream becomes os.devnull."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lasts as long as we do
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def on_terminal() -> bool:
    """Whether stderr is a terminal. It may be closed, or missing as in a Python without a console."""
    with suppress(AttributeError, ValueError):
        return sys.stderr.isatty()
    return False


def say(sentence: str, name: str = "stdout") -> None:
    """Prints at once. If nobody listens any more, as after `| head -1`, the work goes on unheard."""
    stream = getattr(sys, name)
    try:
        print(sentence, file=stream or io.StringIO(), flush=True)
    except (OSError, ValueError):  # ValueError: the stream is closed
        with suppress(ValueError), open(os.devnull, "w") as nowhere:  # where all that follows goes, too
            os.dup2(nowhere.fileno(), stream.fileno())


class Bar(tqdm):
    """tqdm's bar on a terminal; elsewhere a line on stderr every EVERY seconds."""

    def __init__(self, *args, **how):
        self.in_lines = not on_terminal()
        if self.in_lines:
            how |= {"delay": EVERY, "mininterval": EVERY, "miniters": 1, "bar_format": LINE}
        super().__init__(*args, **how)

    def display(self, msg=None, pos=None):
        if not self.in_lines:
            super().display(msg, pos)
        elif msg is None:
            say(f"{self}", "stderr")

    def close(self):
        self.disable |= self.in_lines  # there is no bar to take away
        super().close()


def progress(what: str) -> Callable:
    """An iterable as it is, while a Bar that is gone at its end says how far it has come."""
    return partial(Bar, desc=what, unit="batches", leave=False)


class Stopped(KeyboardInterrupt):
    """The run was asked to end, by the signal of this number; `advice` says how to go on."""

    def __init__(self, number: int, advice: str = ""):
        super().__init__(f"stopped{advice}")
        self.number = number


@contextmanager
def handled_by(handler) -> Iterator[None]:
    """While it is open, SIGNALS call handler(number, frame) on the main thread; but no SIGHUP ignored by nohup."""
    before = {number: signal.getsignal(number) for number in SIGNALS if current_thread() is main_thread()}
    if before.get(SIGHUP) == signal.SIG_IGN:
        del before[SIGHUP]
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def stop(number: int, frame) -> None:
    """A handler that ends what is going on."""
    raise Stopped(number)


@contextmanager
def noted() -> Iterator[list[int]]:
    """While it is open, the first signal is only noted, in the list that this yields; a second signal ends the work."""
    numbers: list[int] = []

    def note(number: int, frame) -> None:
        if numbers:
            raise Stopped(number)
        numbers.append(number)

    with handled_by(note):
        yield numbers
