"""Several runs of a comparison at a time: they are those made one by one, and they end together."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import run
from backend import cores, open_backend
from backend.ranks import Ranks
from data import load
from experiment import compare, jobs, options

TINY = ["--method", "all", "--hidden", "8", "--latent", "3", "--nll-samples", "2"]


def members(out: Path, *chosen: str):
    """The runs of a tiny comparison on the digits, by method."""
    args = options.parser("").parse_args([*TINY, "--out", str(out), *chosen])
    return {member.method: member for member in compare.planned(args, load("digits"))}


def summary(member) -> dict:
    return json.loads((member.out / "summary.json").read_text())


def test_a_run_beside_others_is_the_run_of_its_options(tmp_path, capfd):
    chosen = ["--epochs", "2", "--beta", "0.7", "--activation", "relu", "--precision", "float64", "--seed", "3"]
    side_by_side, alone = (members(tmp_path / name, *chosen) for name in ("a", "b"))
    jobs.run_side_by_side([*side_by_side.values()], 3)
    assert f"run.py: {side_by_side['geco'].out}: the constraint is not met" in capfd.readouterr().err
    jobs.run_side_by_side([alone["beta-vae"]], 1)
    for member in side_by_side.values():
        config = json.loads((member.out / "config.json").read_text())
        assert compare.difference(config["options"], json.loads(json.dumps(options.stored(member)))) is None
        assert summary(member)["method"] == member.method and compare.finished(member)
    assert summary(side_by_side["beta-vae"])["rate"] == pytest.approx(summary(alone["beta-vae"])["rate"], rel=1e-6)


def test_one_that_fails_ends_the_others_which_can_go_on(tmp_path):
    runs = members(tmp_path, "--epochs", "5000")
    long, short, fails = runs["geco"], runs["beta-vae"], runs["vae"]
    short.epochs, fails.epochs, fails.lr = 20, 3, 1e30
    with pytest.raises(jobs.RunFailed, match=r"vae-0: .*not finite at step") as failure:
        jobs.run_side_by_side([fails, long, short], 2)  # the short one goes before the one that fails
    assert (failure.value.status, failure.value.resume) == (1, [long.out])
    assert (short.out / "summary.json").exists() and not (long.out / "summary.json").exists()


def test_whatever_goes_wrong_no_run_is_left_alone(tmp_path, monkeypatch):
    started, start = [], jobs.start
    monkeypatch.setattr(jobs, "start", lambda *args: started.append(start(*args)) or started[-1])
    monkeypatch.setattr(jobs, "epochs_of", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        jobs.run_side_by_side([*members(tmp_path, "--epochs", "5000").values()], 2)
    assert len(started) == 2 and all(job.process.poll() for job in started)


class Ended:
    """A process that has ended with a status; waiting for it is interrupted so many times."""

    def __init__(self, status: int, interruptions: int = 0):
        self.returncode, self.interruptions, self.signals = status, interruptions, 0

    def terminate(self) -> None:
        self.signals += 1

    def wait(self) -> None:
        if self.interruptions:
            self.interruptions -= 1
            raise KeyboardInterrupt


def job(out: Path, process: Ended, said: str = "") -> jobs.Job:
    """What is left of a run in that folder, with a checkpoint."""
    out.mkdir()
    (out / "checkpoint.npz").write_text("")
    return jobs.Job(SimpleNamespace(out=out), process, io.StringIO(said))


def test_a_second_signal_is_passed_on_and_the_runs_are_still_waited_for(tmp_path):
    stopped = "run.py: stopped; to go on: python run.py --resume x"
    a, b = job(tmp_path / "a", Ended(143, 1), stopped), job(tmp_path / "b", Ended(143), "run.py: stopped")
    assert jobs.stop([a, b]) == [tmp_path / "a"]  # b has not made the checkpoint that lies there
    assert a.process.signals == b.process.signals == 2


def test_a_run_that_was_killed_can_go_on_from_its_checkpoint(tmp_path):
    with pytest.raises(jobs.RunFailed, match=r"a: killed by SIGKILL; if memory ran out, use --jobs 1") as failure:
        jobs.conclude(job(tmp_path / "a", Ended(-signal.SIGKILL)))
    assert (failure.value.status, failure.value.resume) == (1, [tmp_path / "a"])
    whole = job(tmp_path / "b", Ended(-signal.SIGKILL))
    (tmp_path / "b" / "summary.json").write_text("{}")
    assert not jobs.can_go_on(whole)


def test_a_run_has_its_share_of_the_cores_and_is_forced_like_its_comparison(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda command, **given: made.append((command, given["env"])))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs.start(members(tmp_path)["vae"], 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    jobs.start(members(tmp_path, "--force")["vae"], 3)
    assert [env["OMP_NUM_THREADS"] for _, env in made] == ["3", "5"]
    assert ["--force" in command for command, _ in made] == [False, True]


def test_a_comparison_makes_its_runs_side_by_side(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "run_one", None)  # for those of --jobs 1
    assert run.main([*TINY, "--epochs", "1", "--jobs", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").exists() and "By the slides' definitions" in capsys.readouterr().out


def test_the_sentence_of_a_refused_run_comes_through(tmp_path):
    member = members(tmp_path, "--epochs", "1")["vae"]
    member.out.mkdir()
    (member.out / "config.json").write_text("{}")
    with pytest.raises(jobs.RunFailed, match=r"vae-0: --out .* already holds a run") as failure:
        jobs.run_side_by_side([member], 2)
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
    assert open_backend("numpy").at_once == cores() >= 1
    assert open_backend("numpy", ranks=Ranks(0, 2)).at_once == 1


def test_jobs_without_all_is_refused():
    with pytest.raises(options.UsageError, match="--jobs is used only with --method all"):
        options.complete(options.parser("").parse_args(["--jobs", "2"]), load("digits"))
