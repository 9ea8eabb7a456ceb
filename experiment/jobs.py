"""Several runs at a time, each in a process of its own with its share of the cores."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from experiment.options import stored, typed

RUN = Path(__file__).parents[1] / "run.py"


class RunFailed(Exception):
    """One of several runs has ended with this status and this sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Job(NamedTuple):
    """A run under way."""

    run: argparse.Namespace
    process: subprocess.Popen
    errors: IO[str]  # what it says on stderr


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_side_by_side(runs: list[argparse.Namespace], jobs: int) -> None:
    """Makes the runs, `jobs` at a time, those with most samples first because they take longest.

    If one fails, or a signal comes, the others end at a point from which they can go on: the exception's `resume` has
    the folders of those that can. Raises RunFailed and KeyboardInterrupt.
    """
    waiting, started = sorted(runs, key=lambda run: run.samples * run.epochs), []
    total = sum(run.epochs for run in runs)
    with tqdm(total=total, desc=f"{len(runs)} runs", unit="epoch", disable=None) as bar:
        try:
            while waiting or started:
                while waiting and len(started) < jobs:
                    started.append(start(waiting.pop(), max(1, cores() // jobs)))
                time.sleep(0.1)
                bar.update(sum(map(epochs_of, runs)) - bar.n)
                for job in [job for job in started if job.process.poll() is not None]:
                    started.remove(job)
                    conclude(job)
        except (KeyboardInterrupt, RunFailed) as error:
            error.resume = stop(started)
            raise


def start(run: argparse.Namespace, threads: int) -> Job:
    """Starts the run, in a session of its own: the terminal's Ctrl-C reaches it through us."""
    given = {name: value for name, value in stored(run).items() if value is not None and value is not False}
    options = [typed(name, value) for name, value in given.items()] + ["--force"] * run.force
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
    job.errors.seek(0)
    said, status = job.errors.read().strip(), job.process.returncode
    if status:
        sentence = said.rpartition("\n")[2].removeprefix("run.py: ") or f"it ended with status {status}"
        raise RunFailed(max(1, status), f"{job.run.out}: {sentence}")
    if said:
        tqdm.write(said.replace("run.py:", f"run.py: {job.run.out}:"), file=sys.stderr)


def stop(jobs: list[Job]) -> list[Path]:
    """Has the runs end. Returns the folders of those that can go on."""
    for job in jobs:
        job.process.terminate()
    for job in jobs:
        job.process.wait()
    folders = [job.run.out for job in jobs]
    return [out for out in folders if (out / "checkpoint.npz").exists() and not (out / "summary.json").exists()]
