"""Ctrl-C, SIGTERM and a terminal that goes away end a run at a point from which it can go on."""

import contextvars
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Thread

SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([SIGHUP] if SIGHUP else []))


class Stopped(KeyboardInterrupt):
    """The run was asked to end, by the signal of this number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def handled_by(handler) -> Iterator[None]:
    """Within, SIGNALS call handler(number, frame); but not a SIGHUP that is ignored, as under nohup."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
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
    """Within, the first signal is only noted, in the list that this yields; a second one ends what is going on."""
    numbers: list[int] = []

    def note(number: int, frame) -> None:
        if numbers:
            raise Stopped(number)
        numbers.append(number)

    with handled_by(note):
        yield numbers


def interruptible(f: Callable, backend, *args, **named):
    """What f(backend, …) returns. It works on a thread of its own, so that a signal ends the wait at once.

    Python hears a signal between two calls only, and one factorization by LAPACK may take seconds.
    """
    call, outcome = backend.anywhere(partial(f, backend, *args, **named)), Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    return outcome.result()
