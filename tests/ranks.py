"""What each rank of test_ranks.py does: mpiexec -n N python -m tests.ranks FOLDER WHAT…"""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np

from backend import open_backend
from backend.parts import gather
from backend.ranks import ALONE, Ranks, open_ranks
from ref.more.metrics import Draws, Images, evaluate
from ref.objectives import METHODS
from ref.train import initial_state, initial_theta, make_step, train
from tests.small import model_of, plan_of, reader

QUICK = ["--data", "digits", "--epochs", "3", "--hidden", "8", "--latent", "2", "--nll-samples", "2"]
QUICK += ["--batch-size", "300", "--precision", "float64"]
IMAGES = np.random.default_rng(0).uniform(size=(23, 7))


def trained(ranks: Ranks, method: str, backend: str = "numpy") -> dict:
    """The state after 50 steps of small batches in float64, and the figures, of one rank."""
    backend, row = open_backend(backend, "float64", ranks=ranks), METHODS[method]
    model, noise = model_of(), backend.noise(0)
    theta = initial_theta(backend, model, noise, 0.0)
    state = initial_state(backend, theta, noise, len(IMAGES), 20.0 if row.constraint else None)
    plan = plan_of(method, 13, 5, len(IMAGES), 3, weight_decay=0.01)
    images = reader(IMAGES)

    def read(rows, noise):
        """Black and white pixels drawn anew, as with --binarize dynamic."""
        return (backend.uniform(noise, (len(rows), 7)) < images(rows, noise)) * 1.0

    for report in train(backend, make_step(backend, model, row, plan, read, state), state, plan):
        if report["step"] == 50:
            break
    gather(backend.ranks, state)
    figures = {}
    for samples in (1, 1200):  # in batches of all images, and of two: fewer than the ranks
        draws = Draws(7, samples, row.constraint.bounded if row.constraint else None)
        found = evaluate(backend, model, state["theta"], Images(read, len(IMAGES)), backend.noise(4), draws)
        figures |= {f"{name} {samples}": np.array(value, float) for name, value in found.items() if value}
    return state | figures


def steps(folder: Path, backend: str, *methods: str) -> None:
    """These methods, each into a file of this rank."""
    ranks = open_ranks()
    for method in methods:
        np.savez(folder / f"{method}-{ranks.size}-{ranks.rank}.npz", **trained(ranks, method, backend))


def run_in(folder: Path, trouble=lambda: None, start=lambda model, state: (model, state)) -> int:
    """A run of four steps an epoch; the second rank meets `trouble` in the second epoch.

    `start` changes the network and the first state.
    """
    import run
    from experiment import training

    first_state, loop, rank = training.first_state, training.train, open_ranks().rank

    def troubled(*args):
        for count, report in enumerate(loop(*args), 1):
            if rank == 1 and count == 6:
                trouble()
            yield report

    training.PAUSE, training.train = 0, troubled  # a checkpoint after each epoch
    training.first_state = lambda *args: start(*first_state(*args))
    return run.main([*QUICK, "--out", str(folder)])


def infinite(model, state):
    """A state of which the last rank alone makes a weight infinite."""
    state["m"][-1] = np.inf
    return model, state


def apart(model, state):
    """Another start than that of the first rank, which must not be used."""
    state["theta"] += open_ranks().rank
    return model._replace(center=model.center + open_ranks().rank), state


def unforeseen(model, state):
    """A start that ends the second rank by an error, before the others are there."""
    return None if open_ranks().rank == 1 else (model, state)


one_fails = partial(run_in, trouble=Mock(side_effect=OSError("the disk of this machine is on fire")))
one_is_stopped = partial(run_in, trouble=partial(signal.raise_signal, signal.SIGINT))
one_dies = partial(run_in, trouble=lambda: os.kill(os.getpid(), signal.SIGKILL), start=apart)
one_overflows = partial(run_in, start=infinite)
one_breaks = partial(run_in, start=unforeseen)

if __name__ == "__main__":
    assert open_ranks() is not ALONE
    sys.exit(globals()[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:]))
