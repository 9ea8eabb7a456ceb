"""Several runs at a time, each `python run.py …` in a process of its own with its share of the cores."""

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
    """A run has ended with this exit status and this sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def run_side_by_side(commands: dict[Path, list[str]], jobs: int) -> None:
    """Makes the runs, each given by its folder and its command line, `jobs` at a time.

    An error and a signal end the runs under way, which save what they have. Raises RunFailed, and Stopped for a signal.
    """
    waiting, under_way = [*commands.items()], {}
    environment = {"OMP_NUM_THREADS": str(max(1, cores() // jobs)), **os.environ}
    with tqdm(total=len(commands), unit="run", disable=None) as bar, noted() as signals:
        try:
            while waiting or under_way:
                if waiting and len(under_way) < jobs:
                    out, command = waiting.pop(0)
                    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe would break if we were killed
                    # in a session of its own, so that a terminal's signals reach it only through us
                    how = {"stdout": subprocess.DEVNULL, "stderr": errors, "start_new_session": True}
                    under_way[out] = subprocess.Popen([sys.executable, RUN, *command], env=environment, **how), errors
                    continue
                time.sleep(0.1)
                if signals:
                    raise Stopped(signals[0])
                for out in [out for out, (process, _) in under_way.items() if process.poll() is not None]:
                    conclude(out, *under_way.pop(out))
                    bar.update()
        finally:
            for process, _ in under_way.values():
                process.terminate()
            for process, _ in under_way.values():
                process.wait()


def conclude(out: Path, process: subprocess.Popen, errors) -> None:
    """Passes on what an ended run had to say. Raises RunFailed unless it went well."""
    with errors:
        errors.seek(0)
        said = errors.read().strip()
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise RunFailed(1, f"{out}: killed by {name}; if memory ran out, use --jobs 1")
    if process.returncode:
        sentence = said.rpartition("run.py: ")[2].partition("; to go on:")[0]  # which is for us to say
        raise RunFailed(process.returncode, f"{out}: {sentence or f'it ended with status {process.returncode}'}")
    if said:
        tqdm.write(said.replace("run.py:", f"run.py: {out}:"), file=sys.stderr)
