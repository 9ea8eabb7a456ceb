"""Several runs at a time, each in a process of its own with its share of the cores."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from backend import cores
from experiment.options import command_line, stored
from experiment.signals import Stopped, noted

RUN = Path(__file__).parents[1] / "run.py"


class RunFailed(Exception):
    """One of several runs has ended with this status and this sentence; those in `resume` can go on."""

    def __init__(self, status: int, sentence: str, resume: list[Path]):
        super().__init__(sentence)
        self.status, self.resume = status, resume


class Job(NamedTuple):
    """A run under way."""

    run: argparse.Namespace
    process: subprocess.Popen
    errors: IO[str]  # what it says on stderr


def run_side_by_side(runs: list[argparse.Namespace], jobs: int) -> None:
    """Makes the runs, `jobs` at a time, those with most samples first because they take longest.

    Whatever ends this ends the runs under way, at a point from which they can go on: the exception's `resume` has the
    folders of those that can. Raises RunFailed, and Stopped for a signal.
    """
    waiting, started = sorted(runs, key=lambda run: run.samples * run.epochs), []
    total = sum(run.epochs for run in runs)
    with tqdm(total=total, desc=f"{len(runs)} runs", unit="epoch", disable=None) as bar, noted() as signals:
        try:
            while waiting or started:
                while waiting and len(started) < jobs:
                    started.append(start(waiting.pop(), max(1, cores() // jobs)))
                time.sleep(0.1)
                if signals:  # only here, where no run is half started
                    raise Stopped(signals[0])
                bar.update(sum(map(epochs_of, runs)) - bar.n)
                for job in [job for job in started if job.process.poll() is not None]:
                    started.remove(job)
                    conclude(job)
        except BaseException as error:
            error.resume = [*getattr(error, "resume", []), *stop(started)]
            raise


def start(run: argparse.Namespace, threads: int) -> Job:
    """Starts the run, apart from the terminal, so that signals reach it only through us.

    It has so many threads, unless the user has set OMP_NUM_THREADS.
    """
    options = command_line(stored(run)) + ["--force"] * run.force
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - for as long as the job; a pipe would break if we were killed
    process = subprocess.Popen(
        [sys.executable, RUN, *options],
        env={"OMP_NUM_THREADS": str(threads)} | os.environ,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
    )
    return Job(run, process, errors)


def epochs_of(run: argparse.Namespace) -> int:
    """How many epochs of a run are done."""
    try:
        return max(0, (run.out / "metrics.csv").read_text().count("\n") - 1)
    except OSError:
        return 0


def conclude(job: Job) -> None:
    """Passes on what an ended run had to say. Raises RunFailed unless it went well."""
    said, status = said_by(job), job.process.returncode
    if status:
        sentence = said.rpartition("\n")[2].removeprefix("run.py: ").partition("; to go on:")[0]
        if status < 0:
            sentence = f"killed by {signal.Signals(-status).name}; if memory ran out, use --jobs 1"
        resume = [job.run.out] if can_go_on(job) else []
        raise RunFailed(max(1, status), f"{job.run.out}: {sentence or f'it ended with status {status}'}", resume)
    if said:
        tqdm.write(said.replace("run.py:", f"run.py: {job.run.out}:"), file=sys.stderr)


def said_by(job: Job) -> str:
    """What an ended run has said on stderr."""
    job.errors.seek(0)
    return job.errors.read().strip()


def can_go_on(job: Job) -> bool:
    """Whether an ended run says so; one that was killed can if it has left a checkpoint."""
    killed = job.process.returncode < 0 and not (job.run.out / "summary.json").exists()
    return "--resume" in said_by(job) or (killed and (job.run.out / "checkpoint.npz").exists())


def stop(jobs: list[Job]) -> list[Path]:
    """Has the runs end; a signal meanwhile has them end at once. Returns the folders of those that can go on."""
    for _ in range(2):
        try:
            for job in jobs:
                job.process.terminate()
            for job in jobs:
                job.process.wait()
            break
        except KeyboardInterrupt:
            continue  # the second signal that a run gets ends it at once
    return [job.run.out for job in jobs if can_go_on(job)]
