"""Kills runs at random moments, goes on with each until it is complete, and compares it with one that was never killed.

python -m tests.kills --kills 100

Pictures and pages are only touched: drawing them takes longer than such a run, and most kills would come then. For that
reason there is also a checkpoint after every epoch, however short it was.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import run
from experiment import explore, pictures, report, training
from experiment.run_folder import FILES, PICTURES, read_checkpoint

OPTIONS = ["--data", "digits", "--hidden", "16", "--latent", "4", "--epochs", "40", "--batch-size", "64"]
OPTIONS += ["--nll-samples", "100"]
STEPS = 40 * (1498 // 64)


def touched(*names: str):
    """Stands in for what draws files of these names."""

    def draw(out: Path, *_) -> None:
        for name in names:
            (out / name).touch()

    return draw


def start(argv: list[str]) -> int:
    """A child that does one run, silently."""
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
    with open(out / "metrics.csv") as file:
        rows = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    return {
        "run": saved.run,
        "arrays": {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in saved.arrays.items()},
        "history": [report | {"seconds": 0} for report in saved.history],
        "rows": rows,
        "summary": json.loads((out / "summary.json").read_text()) | {"seconds": 0},
        "files": sorted(path.name for path in out.iterdir()),
    }


def where(out: Path, before: set[Path]) -> str:
    """What a run was doing when it was killed; `before` it, the temporary files were these."""
    unfinished = [path.name for path in {*out.glob(".*.tmp")} - before]
    if unfinished:
        return f"writing {unfinished[0].split('.tmp')[0][1:-13]}"
    if not (out / "checkpoint.npz").exists():
        return "before the first checkpoint"
    done = int(read_checkpoint(out).arrays["step"]) == STEPS
    return "complete" if done and (out / "curves.png").exists() else "evaluation" if done else "training"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=100)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    rng, moments, survived, kills, completed = random.Random(args.seed), Counter(), 0, 0, 0
    folder = Path(tempfile.mkdtemp())
    try:
        started = time.monotonic()
        os.waitpid(start([*OPTIONS, "--out", str(folder / "whole")]), 0)
        whole, duration, out = result_of(folder / "whole"), time.monotonic() - started, folder / "killed"
        assert whole["files"] == sorted(FILES) and len(whole["rows"]) == 40
        unverified = 0  # kills since a run was last compared
        while kills < args.kills:
            begun = (out / "checkpoint.npz").exists()
            before = {*out.glob(".*.tmp")}
            child = start(["--resume", str(out)] if begun else [*OPTIONS, "--out", str(out)])
            time.sleep(rng.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                print(f"a start failed with status {os.WEXITSTATUS(status)}")
                return 1
            if os.WIFSIGNALED(status):
                kills, unverified = kills + 1, unverified + 1
                moments[where(out, before)] += 1
            if rng.random() < 0.3 or kills == args.kills:
                begun = (out / "checkpoint.npz").exists()
                _, status = os.waitpid(start(["--resume", str(out)] if begun else [*OPTIONS, "--out", str(out)]), 0)
                same = result_of(out) == whole if status == 0 else False
                print(f"{kills} kills: {'the same to the bit' if same else f'another result, status {status}'}")
                survived, unverified, completed = survived + unverified * same, 0, completed + 1
                shutil.rmtree(out)
    finally:
        shutil.rmtree(folder)
    print(f"survived {survived} of {kills} kills in {completed} runs; killed while: {dict(moments)}")
    return int(survived < kills)


if __name__ == "__main__":
    sys.exit(main())
