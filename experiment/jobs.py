"""Several runs at a time, each `python run.py …` in a process of its own with its share of the cores.

No pool of the standard library ends well here. multiprocessing.Pool waits for ever for a worker that was killed.
ProcessPoolExecutor cannot say which run was killed. Neither lets its workers save what they have.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from backend import cores
from experiment.signals import Stopped, noted

RUN = Path(__file__).parents[1] / "run.py"


class RunFailed(Exception):
    """One of several runs has ended with this exit status and this sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def run_side_by_side(runs: list[tuple[argparse.Namespace, list[str]]], jobs: int) -> None:
    """Makes the runs, each given by its options and its command line, `jobs` at a time, the longest first.

    Whatever ends this ends the runs under way, at a point from which they can go on. Raises RunFailed, and Stopped for
    a signal.
    """
    waiting, under_way = sorted(runs, key=lambda run: run[0].samples * run[0].epochs), {}
    environment = {"OMP_NUM_THREADS": str(max(1, cores() // jobs)), **os.environ}
    with tqdm(total=len(runs), unit="run", disable=None) as bar, noted() as signals:
        try:
            while waiting or under_way:
                while waiting and len(under_way) < jobs:
                    args, command = waiting.pop()
                    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe would break if we were killed
                    # in a session of its own, so that a terminal's signals reach it only through us
                    how = {"stdout": subprocess.DEVNULL, "stderr": errors, "start_new_session": True}
                    process = subprocess.Popen([sys.executable, RUN, *command], env=environment, **how)
                    under_way[process] = args.out, errors
                time.sleep(0.1)
                if signals:  # only here, where no run is half started
                    raise Stopped(signals[0])
                for process in [process for process in under_way if process.poll() is not None]:
                    conclude(process.returncode, *under_way.pop(process))
                    bar.update()
        finally:
            end([*under_way])


def conclude(status: int, out: Path, errors) -> None:
    """Passes on what an ended run had to say. Raises RunFailed unless it went well."""
    with errors:
        errors.seek(0)
        said = errors.read().strip()
    if status < 0:
        raise RunFailed(1, f"{out}: killed by {signal.Signals(-status).name}; if memory ran out, use --jobs 1")
    if status:
        sentence = said.rpartition("run.py: ")[2].partition("; to go on:")[0]  # which is for us to say
        raise RunFailed(status, f"{out}: {sentence or f'it ended with status {status}'}")
    if said:
        tqdm.write(said.replace("run.py:", f"run.py: {out}:"), file=sys.stderr)


def end(processes: list[subprocess.Popen]) -> None:
    """Has the runs end and waits for them; a signal meanwhile has them end at once."""
    for _ in range(2):
        try:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            return
        except KeyboardInterrupt:
            continue  # the second signal that a run gets ends it at once
