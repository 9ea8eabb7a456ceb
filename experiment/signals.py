"""Ctrl-C, SIGTERM and a terminal that goes away end a run at a point from which it can go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([SIGHUP] if SIGHUP else []))


class Stopped(KeyboardInterrupt):
    """The run was asked to end, by the signal of this number."""

    def __init__(self, number: int):
        super().__init__(number)
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
