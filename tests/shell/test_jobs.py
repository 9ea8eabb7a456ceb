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
from experiment import compare, defaults, jobs, options
from ref.objectives import METHODS

TINY = ["--method", "all", "--data", "digits", "--hidden", "8", "--latent", "3", "--nll-samples", "2"]


def members(out: Path, *chosen: str) -> dict:
    """The runs of a tiny comparison on the digits, by method."""
    args = options.parsed([*TINY, "--out", str(out), *chosen])[0]
    return {method: compare.options_of(args, load("digits"), method, args.seed) for method in METHODS}


def job(member) -> tuple:
    return member, options.command_line(options.stored(member))


def summary(member) -> dict:
    return json.loads((member.out / "summary.json").read_text())


def test_a_run_beside_others_is_the_run_of_its_options(tmp_path, capfd):
    chosen = ["--epochs", "2", "--beta", "0.7", "--activation", "relu", "--precision", "float64", "--seed", "3"]
    side_by_side, alone = (members(tmp_path / name, *chosen) for name in ("a", "b"))
    jobs.run_side_by_side([job(side_by_side[name]) for name in ("vae", "beta-vae", "geco")], 3)
    assert f"run.py: {side_by_side['geco'].out}: the constraint is not met" in capfd.readouterr().err
    assert run.main(job(alone["beta-vae"])[1]) == 0
    assert summary(side_by_side["beta-vae"])["rate"] == pytest.approx(summary(alone["beta-vae"])["rate"], rel=1e-6)
    assert [compare.command_of(side_by_side[name]) for name in ("vae", "beta-vae", "geco")] == [None] * 3


def test_one_that_fails_ends_the_others_which_can_go_on(tmp_path):
    runs = members(tmp_path, "--epochs", "5000")
    long, short, fails = runs["geco"], runs["beta-vae"], runs["vae"]
    short.epochs, fails.epochs, fails.lr = 20, 3, 1e30
    with pytest.raises(jobs.RunFailed, match=r"vae-0: .*not finite at step") as failure:
        jobs.run_side_by_side([job(fails), job(long), job(short)], 2)  # the short one goes before the one that fails
    assert failure.value.status == 1
    assert (short.out / "summary.json").exists() and compare.command_of(long) == ["--resume", str(long.out)]


def test_whatever_goes_wrong_no_run_is_left_alone(tmp_path, monkeypatch):
    started, start = [], subprocess.Popen
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *a, **k: started.append(start(*a, **k)) or started[-1])
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        jobs.run_side_by_side([*map(job, members(tmp_path, "--epochs", "5000").values())], 2)
    assert len(started) == 2 and all(process.poll() for process in started)


class Ended:
    """A process that has ended; waiting for it is interrupted so many times."""

    def __init__(self, interruptions: int = 0):
        self.interruptions, self.signals, self.returncode = interruptions, 0, 0

    def poll(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        self.signals += 1

    def wait(self) -> None:
        if self.interruptions:
            self.interruptions -= 1
            raise KeyboardInterrupt


def test_a_second_signal_is_passed_on_and_the_runs_are_still_waited_for():
    a, b = Ended(1), Ended()
    jobs.end([a, b])
    assert (a.signals, b.signals, a.interruptions) == (2, 2, 0)


def test_a_run_that_was_killed_is_named_with_the_signal():
    with pytest.raises(jobs.RunFailed, match=r"^a: killed by SIGKILL; if memory ran out, use --jobs 1$") as failure:
        jobs.conclude(-signal.SIGKILL, Path("a"), io.StringIO("run.py: something"))
    assert failure.value.status == 1


def test_a_failed_run_is_named_with_its_last_sentence_and_status():
    with pytest.raises(jobs.RunFailed, match=r"^a: the last one$") as failure:
        jobs.conclude(2, Path("a"), io.StringIO("run.py: a warning\nrun.py: the last one; to go on: python run.py x\n"))
    assert failure.value.status == 2


def test_a_run_has_its_share_of_the_cores_unless_the_user_has_chosen(tmp_path, monkeypatch):
    made = []

    def record(command, env, **given):
        made.append((env["OMP_NUM_THREADS"], command[2:]))
        return Ended()

    monkeypatch.setattr(jobs.subprocess, "Popen", record)
    monkeypatch.setattr(jobs, "cores", lambda: 7)
    runs = [(member, [name]) for name, member in members(tmp_path).items()][:2]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs.run_side_by_side(runs, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    jobs.run_side_by_side(runs, 2)
    assert [threads for threads, _ in made] == ["3", "3", "5", "5"]
    assert {command[0] for _, command in made} == {"vae", "beta-vae"}


def test_a_comparison_makes_its_runs_side_by_side(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(compare, "run_side_by_side", lambda runs, count: made.append((len(runs), count)))
    assert run.main([*TINY, "--epochs", "1", "--jobs", "2", "--out", str(tmp_path)]) == 2  # nobody has made them
    assert made == [(len(METHODS), 2)] and "holds no checkpoint.npz" in capsys.readouterr().err


def test_the_sentence_of_a_refused_run_comes_through(tmp_path):
    member = members(tmp_path, "--epochs", "1")["vae"]
    member.out.mkdir()
    (member.out / "config.json").write_text("{}")
    with pytest.raises(jobs.RunFailed, match=r"vae-0: --out .* already holds a run") as failure:
        jobs.run_side_by_side([job(member)], 2)
    assert failure.value.status == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_all_of_them_and_the_same_command_goes_on(number, tmp_path):
    command = [sys.executable, "run.py", *TINY, "--epochs", "5000", "--jobs", "2", "--out", str(tmp_path)]
    heard = lambda: signal.signal(number, signal.SIG_DFL)  # noqa: E731 - also where this suite runs under nohup
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 60
    while len(begun := [*tmp_path.glob("*/metrics.csv")]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].strip()
    assert process.returncode == 128 + number and said == "run.py: stopped; to go on: the same command"
    by_folder = {member.out: member for member in members(tmp_path, "--epochs", "5000").values()}
    for folder in (path.parent for path in begun):
        assert compare.command_of(by_folder[folder]) == ["--resume", str(folder)]


def test_mpi_and_jobs_are_not_for_each_other(tmp_path):
    args = options.parsed([*TINY, "--jobs", "2", "--out", str(tmp_path / "x")])[0]
    backend = SimpleNamespace(ranks=SimpleNamespace(size=3))
    with pytest.raises(defaults.UsageError, match="--jobs 2 is for one process, and mpiexec has started 3"):
        compare.compare_methods(args, backend, load("digits"), [], run.main)
    assert open_backend("numpy").at_once == cores() >= 1
    assert open_backend("numpy", ranks=Ranks(0, 2)).at_once == 1


def test_jobs_without_all_is_refused():
    with pytest.raises(defaults.UsageError, match="--jobs is used only with --method all"):
        defaults.complete(options.parsed(["--jobs", "2"])[0], load("digits"))
