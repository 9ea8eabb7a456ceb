"""Kills runs at random moments, goes on with each until it is complete, and compares it with one that was never killed.

python -m tests.kills --kills 100

Pictures and pages are only touched: drawing them takes longer than such a run, and most kills would come then. For that
reason there is also a checkpoint after every epoch, however short it was.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import run
from experiment import explore, pictures, report, training
from experiment.run_folder import FILES, PICTURES, read_checkpoint
from tests.shell.runs import json_of, metrics_of

OPTIONS = ["--data", "digits", "--hidden", "16", "--latent", "4", "--epochs", "40", "--batch-size", "64"]
OPTIONS += ["--nll-samples", "100"]


def touched(*names: str):
    """Stands in for what draws files of these names."""
    return lambda out, *_: [(out / name).touch() for name in names]


def start(out: Path) -> int:
    """A child that begins the run in the folder `out`, or goes on with it, silently."""
    argv = ["--resume", str(out)] if (out / "checkpoint.npz").exists() else [*OPTIONS, "--out", str(out)]
    child = os.fork()
    if child:
        return child
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    pictures.draw_pictures, pictures.draw_curves = touched(*PICTURES[:-1]), touched(PICTURES[-1])
    report.draw_report, explore.write = touched("report.html"), lambda path, *_: path.touch()
    training.PAUSE = 0
    os._exit(run.main(argv))


def result_of(out: Path) -> dict:
    """All that a run leaves behind but its times, pictures and history of starts."""
    saved = read_checkpoint(out)
    return {
        "run": saved.run,
        "arrays": {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in saved.arrays.items()},
        "history": [report | {"seconds": 0} for report in saved.history],
        "rows": [row | {"seconds": ""} for row in metrics_of(out)],
        "summary": json_of(out, "summary.json") | {"seconds": 0},
        "files": sorted(path.name for path in out.iterdir()),
    }


def survived(kills: int, rng: random.Random, folder: Path) -> int:
    """How many of so many kills were in runs that ended as an undisturbed run did; says it of each run."""
    started, out = time.monotonic(), folder / "killed"
    os.waitpid(start(folder / "whole"), 0)
    whole, duration = result_of(folder / "whole"), time.monotonic() - started
    assert whole["files"] == sorted(FILES) and len(whole["rows"]) == 40
    harmless, done, compared = 0, 0, 0
    while done < kills:
        child = start(out)
        time.sleep(rng.uniform(0, duration))
        os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code <= 0, f"a start failed with status {code}"
        done += code < 0
        if rng.random() < 0.3 or done == kills:
            _, status = os.waitpid(start(out), 0)
            same = status == 0 and result_of(out) == whole
            print(f"{done} kills: {'the same to the bit' if same else f'another result, status {status}'}")
            harmless, compared = harmless + same * (done - compared), done
            shutil.rmtree(out)
    print(f"survived {harmless} of {kills} kills")
    return harmless


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=100)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return int(survived(args.kills, random.Random(args.seed), Path(folder)) < args.kills)


if __name__ == "__main__":
    sys.exit(main())
