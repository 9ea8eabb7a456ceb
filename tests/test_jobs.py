"""Several runs of a comparison at a time: they are those made one by one, and they end together."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from data import load
from experiment import compare, jobs, options

TINY = ["--method", "all", "--hidden", "8", "--latent", "3", "--nll-samples", "2"]


def members(out: Path, *chosen: str):
    """The runs of a tiny comparison on the digits, by method."""
    args = options.parser("").parse_args([*TINY, "--out", str(out), *chosen])
    return {run.method: run for run in compare.planned(args, load("digits"))}


def summary(run) -> dict:
    return json.loads((run.out / "summary.json").read_text())


def test_a_run_beside_others_is_the_run_of_its_options(tmp_path, capfd):
    chosen = ["--epochs", "2", "--beta", "0.7", "--activation", "relu", "--precision", "float64", "--seed", "3"]
    side_by_side, alone = (members(tmp_path / name, *chosen) for name in ("a", "b"))
    jobs.run_side_by_side([*side_by_side.values()], 3)
    assert f"run.py: {side_by_side['geco'].out}: the constraint is not met" in capfd.readouterr().err
    jobs.run_side_by_side([alone["beta-vae"]], 1)
    for run in side_by_side.values():
        config = json.loads((run.out / "config.json").read_text())
        assert compare.difference(config["options"], json.loads(json.dumps(options.stored(run)))) is None
        assert summary(run)["method"] == run.method and compare.finished(run)
    assert summary(side_by_side["beta-vae"])["rate"] == pytest.approx(summary(alone["beta-vae"])["rate"], rel=1e-6)


def test_one_that_fails_ends_the_others_which_can_go_on(tmp_path):
    runs = members(tmp_path, "--epochs", "5000")
    long, fails = runs["geco"], runs["vae"]
    fails.lr, fails.epochs = 1e30, 3
    with pytest.raises(jobs.RunFailed, match=r"vae-0: .*not finite at step") as failure:
        jobs.run_side_by_side([long, fails], 2)
    assert failure.value.status == 1 and failure.value.resume in ([], [long.out])  # it may not have begun
    assert not (long.out / "summary.json").exists()


def test_the_sentence_of_a_refused_run_comes_through(tmp_path):
    run = members(tmp_path, "--epochs", "1")["vae"]
    run.out.mkdir()
    (run.out / "config.json").write_text("{}")
    with pytest.raises(jobs.RunFailed, match=r"vae-0: --out .* already holds a run") as failure:
        jobs.run_side_by_side([run], 2)
    assert (failure.value.status, failure.value.resume) == (2, [])


def test_a_signal_ends_all_of_them_with_the_commands_that_go_on(tmp_path):
    command = [sys.executable, "run.py", *TINY, "--epochs", "5000", "--jobs", "2", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    begun = [tmp_path / method / "metrics.csv" for method in ("geco-iwae-0", "iwae-0")]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in begun) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1].strip()
    assert process.returncode == 128 + signal.SIGTERM
    assert said.startswith("run.py: stopped; to go on: ") and said.endswith(", then the same comparison again")
    for path in begun:
        assert f"python run.py --resume {path.parent}" in said and (path.parent / "checkpoint.npz").exists()


def test_mpi_and_jobs_are_not_for_each_other(tmp_path):
    args = options.parser("").parse_args([*TINY, "--jobs", "2", "--out", str(tmp_path / "x")])
    backend = SimpleNamespace(ranks=SimpleNamespace(size=3))
    with pytest.raises(options.UsageError, match="--jobs 2 is for one process, and mpiexec has started 3"):
        compare.compare(args, backend, load("digits"), [])
    args.jobs = None
    assert compare.default_jobs(args, backend.ranks) == 1


def test_jobs_without_all_is_refused():
    with pytest.raises(options.UsageError, match="--jobs is used only with --method all"):
        options.complete(options.parser("").parse_args(["--jobs", "2"]), load("digits"))
