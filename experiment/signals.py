"""Ctrl-C and SIGTERM end a run at a point from which it can go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The run was asked to end, by the signal of this number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def handled_by(handler) -> Iterator[None]:
    """Within, SIGINT and SIGTERM call handler(number, frame)."""
    before = [signal.signal(number, handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def stop(number: int, frame) -> None:
    """A handler that ends what is going on."""
    raise Stopped(number)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Within, the first signal is only noted, in the list that this yields; a second one ends what is going on."""
    numbers: list[int] = []

    def note(number: int, frame) -> None:
        if numbers:
            raise Stopped(number)
        numbers.append(number)

    with handled_by(note):
        yield numbers
