"""Runs that are stopped, killed, starved of disk, handed a broken checkpoint, or begun by version 0.2.

python -m pytest -m slow tests/shell/test_survive.py killed runs, 2,000 hostile checkpoints
"""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

import ref.train
import run
from backend import open_backend
from data import DataError, download, files
from experiment import UsageError, commands, run_folder, training
from experiment import load as load_model
from experiment.run_folder import FILES, held, read_checkpoint, state_of
from experiment.terminal import noted
from ref.adam import SCHEDULES
from ref.objectives import METHODS
from tests.hostile import CASES, for_all, mutations
from tests.kills import result_of
from tests.shell.runs import after_each, completed, contents, json_of, made, metrics_of, refused, status
from tests.tested import on_command_line

resource = pytest.importorskip("resource", reason="signals and limits of a process as Unix has them")
ROOT, PAUSE = Path(run.__file__).parent, training.PAUSE
QUICK = ["--data", "digits", "--epochs", "3", "--hidden", "8", "--latent", "2", "--nll-samples", "2"]
QUICK += ["--batch-size", "300"]


@pytest.fixture(autouse=True)
def quick_runs(elsewhere, monkeypatch):
    """Runs of less than a second write a checkpoint after every epoch; SIGHUP does what it does without nohup."""
    monkeypatch.setattr(training, "PAUSE", 0)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def whole(*options: str, out="whole") -> dict:
    made(out, *options, quick=QUICK)
    return result_of(Path(out))


def gone_on(out="stopped", *options: str) -> dict:
    assert run.main(["--resume", str(out), *options]) == 0
    return result_of(Path(out))


def steps_of(out) -> int:
    return int(read_checkpoint(Path(out)).arrays["step"])


def at_report(monkeypatch, number: int, action) -> None:
    """Does something after that many of a run's reports, once: the training loop does not know."""
    train = ref.train.train

    def interrupted(*args):
        for count, report in enumerate(train(*args), 1):
            if count == number:
                monkeypatch.setattr(training, "train", train)
                action()
            yield report

    monkeypatch.setattr(training, "train", interrupted)


def stopped(monkeypatch, *options: str, after: int, out="stopped", number=signal.SIGTERM) -> None:
    at_report(monkeypatch, after, lambda: signal.raise_signal(number))
    assert status(*QUICK, *options, "--out", out) == 128 + number


OPTIONS = """
--method iwae --likelihood bernoulli --binarize dynamic
--method vae --likelihood bernoulli --binarize static
--method vae --likelihood bernoulli --binarize none --samples 3
--hidden none --precision float64
--hidden none --output sigmoid
--output sigmoid --multiplier plain --multiplier-rate 0.003 --weight-decay 0.1 --activation tanh
--method beta-vae --beta 0.3 --lr 0.00123 --schedule constant --variance 0.1
--method iwae --samples 2 --warm-up 0.5 --preset burda --epochs 3 --batch-size 300 --nll-samples 2
--precision float64 --batch-size 1498 --checkpoint-every 2 --epochs 5
"""


RUNS = [(after, f"--method {method}") for method in METHODS for after in (2, 4)]
RUNS += [(3 if "1498" in options else 5, options) for options in OPTIONS.strip().splitlines()]


@pytest.mark.parametrize(("after", "options"), RUNS)
def test_a_run_that_was_stopped_goes_on_to_the_same_result(after, options, monkeypatch):
    options = options.split()
    stopped(monkeypatch, *options, after=after)
    run_there, expected = read_checkpoint(Path("stopped")).run, completed(*QUICK, *options).run
    assert steps_of("stopped") == after and run_there == expected
    assert repr(run_there) == repr(expected)
    typed = [] if "--preset" in options else [*QUICK, *on_command_line(), *options, "--out", "stopped"]
    result = gone_on("stopped", *typed)  # the same options once more contradict nothing
    assert result == whole(*options) and np.isfinite(result["summary"]["elbo"])


def test_a_checkpoint_moves_to_another_backend_with_all_but_its_noise(monkeypatch):
    stopped(monkeypatch, after=4)
    path, before, config, history, arrays = read_checkpoint(Path("stopped"))
    arrays["noise"] = np.zeros(2048, np.int8)  # as CuPy's
    run_folder.write_checkpoint(path, before.but(precision="tf32"), config | {"backend": "cupy"}, history, arrays)
    moved = read_checkpoint(Path("stopped"))
    assert commands.resumed(moved, {}).precision == commands.resumed(moved, {"precision": "tf32"}).precision == "tf32"
    with pytest.raises(UsageError, match="contradicts --resume stopped, which has --precision float64"):
        commands.resumed(moved._replace(run=before.but(precision="float64")), {"precision": "tf32"})
    after, undisturbed = gone_on("stopped", "--backend", "numpy"), whole(out="other")
    assert after["summary"]["backend"] == "numpy"
    assert after["run"] == before == undisturbed["run"]
    assert after["rows"][0] == undisturbed["rows"][0]
    assert after["summary"]["steps"] == undisturbed["summary"]["steps"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_with_the_command_that_goes_on(number, monkeypatch, capsys):
    stopped(monkeypatch, after=3, out="a b", number=number)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith("python run.py --resume 'a b'\n")
    assert gone_on("a b") == whole()


def test_under_nohup_a_closed_terminal_ends_nothing():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with noted() as numbers:
        signal.raise_signal(signal.SIGHUP)
        assert numbers == []
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def after_checkpoints(monkeypatch, act) -> None:
    """Calls act(epoch) after each checkpoint."""
    epoch_of = lambda history: history[-1]["epoch"] if history else 0  # noqa: E731
    after_each(monkeypatch, run_folder, "write_checkpoint", lambda *args: act(epoch_of(args[3])))


def test_a_signal_during_the_last_checkpoint_is_not_lost(monkeypatch):
    with monkeypatch.context() as patch:
        after_checkpoints(patch, lambda epoch: epoch == 3 and signal.raise_signal(signal.SIGTERM))
        assert status(*QUICK, "--out", "out") == 143
        assert state_of(Path("out"), read_checkpoint("out").run) == "stopped"
    assert gone_on("out") == whole()


@pytest.mark.parametrize("moment", ["first_state", "held", "write_checkpoint"])
@pytest.mark.parametrize("overwritten", [False, True])
def test_before_the_first_checkpoint_a_signal_promises_nothing(moment, overwritten, monkeypatch, capsys):
    if overwritten:
        stopped(monkeypatch, after=2, out="out")
    capsys.readouterr()
    module = training if moment == "first_state" else run_folder
    monkeypatch.setattr(module, moment, lambda *_: signal.raise_signal(signal.SIGTERM))
    assert status(*QUICK, "--method", "vae", "--force", "--out", "out") == 143
    assert capsys.readouterr().err == "run.py: stopped\n"
    assert overwritten or not [*Path().glob("out/*")]


def test_before_a_checkpoint_has_more_epochs_the_command_that_goes_on_says_them(monkeypatch, capsys):
    stopped(monkeypatch, after=2)
    capsys.readouterr()
    monkeypatch.setattr(training, "restored_state", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert status("--resume", "stopped", "--epochs", "5") == 143
    error = capsys.readouterr().err
    assert error == "run.py: stopped; to go on: python run.py --resume stopped --epochs 5\n"


def test_a_second_signal_does_not_wait_for_a_report(monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    at_report(monkeypatch, 6, twice)
    assert status(*QUICK, "--out", "out") == 130
    assert steps_of("out") == 4  # of the last whole epoch
    assert gone_on("out") == whole()


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3]), (2, [0, 2, 3]), (5, [0, 3])])
def test_checkpoints_are_written_every_so_many_epochs_and_at_the_end(every, expected, monkeypatch):
    written = []
    after_checkpoints(monkeypatch, written.append)
    whole("--checkpoint-every", str(every))
    assert written == expected


@pytest.mark.parametrize(("seconds_an_epoch", "checkpoints"), [(0, 2), (1, 20), (6, 101)])
def test_the_bookkeeping_of_200_epochs_costs_next_to_nothing(seconds_an_epoch, checkpoints, monkeypatch):
    """Ten seconds lie between two checkpoints; metrics.csv is begun once, and grows by one row of one epoch's reports.

    The clock that says so stands still, or goes on with each row: of the first, the last and every eleventh epoch, or
    every other, there is a checkpoint.
    """
    written, appended, looked_at = Counter(), [], []
    clock = SimpleNamespace(monotonic=lambda: len(appended) * seconds_an_epoch)
    monkeypatch.setattr(training, "PAUSE", PAUSE)
    monkeypatch.setattr(training, "time", clock)
    after_each(monkeypatch, run_folder, "write_whole", lambda path, _: written.update([path.name]))
    after_each(monkeypatch, run_folder, "append_row", lambda _, row: appended.append(row["epoch"]))
    after_each(monkeypatch, run_folder, "row_of", looked_at.extend)
    whole("--epochs", "200", "--batch-size", "700")
    assert written == {"checkpoint.npz": checkpoints, "metrics.csv": 1, "config.json": 1, "summary.json": 1}
    assert appended == [*range(1, 201)]
    assert len(looked_at) < 2 * 2 * 200 + 20  # once as they come, once for the curves, and the last for σ*²


def test_a_complete_run_is_kept_until_there_is_more_and_not_trained_again(monkeypatch):
    before = whole()
    with monkeypatch.context() as broken:
        broken.setattr(run_folder, "write_checkpoint", lambda *_: os.stat("a disk that is gone"))
        assert run.main(["--resume", "whole", "--epochs", "5"]) == 2
    assert gone_on("whole") == before
    for name in FILES[3:]:
        Path("whole", name).unlink()  # as if its evaluation had been killed
    monkeypatch.setattr(training, "make_step", lambda *_: None)
    assert gone_on("whole") == before


@pytest.mark.parametrize("torn", ["4,16" + 11 * ",1" + "\n", "3,12,0.5", ""], ids=["ahead", "torn", "not begun"])
def test_rows_of_metrics_are_those_of_an_undisturbed_run_whatever_a_kill_has_left(torn, monkeypatch):
    stopped(monkeypatch, after=6)
    path, spent = Path("stopped/metrics.csv"), sum(r["seconds"] for r in read_checkpoint(Path("stopped")).history)
    path.write_text(path.read_text() + torn if torn else "")
    assert gone_on()["rows"] == whole()["rows"]
    seconds = json_of("stopped", "summary.json")["seconds"]
    assert seconds > spent > 0
    assert seconds == pytest.approx(sum(float(row["seconds"]) for row in metrics_of("stopped")))


def test_more_epochs_go_on_with_the_schedule_of_the_longer_run(monkeypatch):
    whole("--backend", "numpy")  # no recorded step calls the schedule anew
    rates, cosine = [], SCHEDULES["cosine"]
    monkeypatch.setitem(SCHEDULES, "cosine", lambda xp, t, steps: rates.append((int(t), steps)) or cosine(xp, t, steps))
    result = gone_on("whole", "--epochs", "5")
    assert rates == [(step, 20) for step in range(12, 20)]
    assert [row["epoch"] for row in result["rows"]] == list("12345")
    assert result["summary"]["epochs"] == 5
    config = json_of("whole", "config.json")
    assert config["run"]["epochs"] == 5 and config["run"]["multiplier_rate"] == 0.01
    assert config["command"][1:3] == ["--data", "digits"] and config["resumed"][0]["step"] == 12
    assert config["resumed"][0]["command"][1:3] == ["--resume", "whole"]


CONTRADICTIONS = {
    "--seed 1": "--seed 1 contradicts --resume whole, which has --seed 0",
    "--method vae": "--method vae contradicts .* geco",
    "--hidden 9": "--hidden 9 contradicts .* 8;",
    "--batch-size 128": "--batch-size 128 contradicts .* 300",
    "--precision float64": "--precision float64 contradicts .* float32",
    "--out elsewhere": "--out elsewhere contradicts .* whole",
    "--force": "--force contradicts .*which has no --force",
    "--beta 2": "--beta 2.0 contradicts .*which has no --beta",
    "--epochs 2": "--epochs 2 is less than the 3",
    "--data mine.npz": "images of --data mine.npz are not those",
}


def test_an_option_that_contradicts_the_checkpoint_is_refused_by_name(capsys):
    np.savez("mine.npz", train=np.eye(1400, 9), test=np.eye(4, 9))
    whole()
    for options, sentence in CONTRADICTIONS.items():
        refused(capsys, ["--resume", "whole", *options.split()], sentence)


def test_images_that_vanish_are_missed_by_name_and_go_on_where_they_lie_now(monkeypatch, capsys):
    np.savez("mine.npz", train=np.random.default_rng(0).random((600, 9)), test=np.ones((9, 9)))
    stopped(monkeypatch, "--data", "mine.npz", after=1)
    Path("mine.npz").rename("moved.npz")
    refused(capsys, ["--resume", "stopped"], "mine.npz")
    refused(capsys, ["--resume", "nowhere"], "nowhere holds no checkpoint.npz")
    assert gone_on("stopped", "--data", "moved.npz")["run"].images.source == "moved.npz"


def test_a_checkpoint_that_was_cut_or_has_a_flipped_bit_is_refused_or_unharmed():
    options = "--data sprites --hidden none --batch-size 4000 --binarize none --epochs 1"
    result = whole(*options.split())
    path, unharmed = Path("whole/checkpoint.npz"), 0
    content = path.read_bytes()
    for at in range(0, len(content), len(content) // 150):
        path.write_bytes(content[:at])
        with pytest.raises(DataError, match=r"\A[^\n]*checkpoint\.npz[^\n]*\Z"):
            read_checkpoint(path.parent)
    moments = range(0, len(content), len(content) // 500)
    for at in moments:
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        try:
            assert result_of(path.parent) == result
            unharmed += 1  # a date, say
        except DataError as error:
            assert "checkpoint.npz" in str(error) and "\n" not in str(error)
    assert unharmed < len(moments) / 5


LYING, BOMB, TWICE = (99, 1, "only 99"), (10**7, 1, "each stored once"), (99, 2, "each stored once")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("size", "times", "sentence"), [LYING, BOMB, TWICE], ids=["a lie", "a bomb", "a name twice"])
def test_a_checkpoint_costs_no_more_memory_than_its_file_is_long(size, times, sentence):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2147483648,)}".ljust(117) + b"\n"
    with zipfile.ZipFile("checkpoint.npz", "w", zipfile.ZIP_DEFLATED if size > 99 else zipfile.ZIP_STORED) as archive:
        for _ in range(times):
            archive.writestr("theta.npy", b"\x93NUMPY\1\0\x76\0" + header + bytes(size))
    tracemalloc.start()
    with pytest.raises(DataError, match=sentence):
        read_checkpoint(Path())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def signed(changes: dict) -> bytes:
    """The checkpoint in whole/ with other arrays (None: without them) under a valid checksum, as bad intent makes it.

    What is given for `run` goes into the record.
    """
    content, fields = dict(np.load("whole/checkpoint.npz")), changes.pop("run", None)
    if fields:
        config = json.loads(content["config"].tobytes())
        changes["config"] = np.frombuffer(json.dumps(config | {"run": config["run"] | fields}).encode(), np.uint8)
    content = {name: array for name, array in (content | changes).items() if array is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **content | {"sha256": run_folder.checksum(content)})
    return buffer.getvalue()


JSON = st.none() | st.integers(-9, 2**65) | st.floats() | st.text(max_size=5) | st.lists(st.integers(-9, 9), max_size=4)


@CASES
def test_any_bytes_are_a_checkpoint_of_the_run_or_are_refused(cases):
    whole("--backend", "numpy")
    path, backend = Path("fuzzed/checkpoint.npz"), open_backend("numpy")
    shutil.copytree("whole", "fuzzed")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            saved = read_checkpoint(path.parent)
            run = commands.resumed(saved, {})
            _, state = training.restored_state(saved, run, backend, 1498)
            assert all(np.isfinite(array).all() for array in state.values())
            run_folder.rows_of(saved.history, training.plan_of(run, 1498).steps_per_epoch)
        except (DataError, UsageError) as error:
            assert "\n" not in str(error)

    def forge(name, shape, dtype, fill) -> bytes:
        return signed({name: np.resize(np.frombuffer(fill + bytes(-len(fill) % 16), dtype), shape)})

    arrays = dict(np.load("whole/checkpoint.npz"))
    config, names = arrays["config"].tobytes(), st.sampled_from(sorted(arrays))
    shapes = st.sampled_from([array.shape for array in arrays.values()]) | st.tuples(st.integers(0, 9))
    types = st.sampled_from(["f4", "f8", "i8", "u1", "u8"])
    forged = st.builds(forge, names, shapes, types, st.binary(min_size=16, max_size=48))
    configs = mutations(config).map(lambda new: signed({"config": np.frombuffer(new, "u1")}))
    fields = st.sampled_from(sorted(json.loads(config)["run"]))
    records = st.builds(lambda name, value: signed({"run": {name: value}}), fields, JSON)
    for_all(cases, mutations(path.read_bytes()) | forged | configs | records, read)


ALTERED = {
    "another version": ({"format": np.array(3)}, "expected format 2, found 3"),
    "a missing array": ({"m": None}, r"expected m to be float32 \(\d+,\), found nothing"),
    "no history": ({"history": None}, "history"),
    "another network": ({"theta": lambda theta: theta[:-1]}, r"expected theta to be float32 \(\d+,\), found"),
    "a big-endian array": ({"theta": lambda theta: theta.astype(">f4")}, "theta to be float32 .* found >f4"),
    "strings": ({"theta": np.array(["a"])}, "theta to be float32 .* found <U1"),
    "NaN": ({"theta": lambda theta: theta * np.nan}, "theta holds numbers that are not finite"),
    "an infinite λ": ({"log_lambda": np.array(np.inf)}, "log_lambda holds"),
    "an order with a repetition": ({"order": lambda order: order // 2}, "its order"),
    "a step between": ({"step": np.array(7)}, "its arrays are not those of its run"),
    "a history of another form": ({"history": np.zeros((3, 3))}, "expected a checkpoint"),
    "a config that is no JSON": ({"config": np.zeros(3, np.uint8)}, "expected a checkpoint"),
    "no method": ({"run": {"method": "gecko"}}, "method cannot be 'gecko'"),
    "another latent": ({"run": {"latent": 3}}, "whiten|theta"),
    "a batch of more than all images": ({"run": {"batch_size": 1499}}, "batches"),
    "another method": ({"run": {"method": "vae", "options": {}}}, "options of a run cannot be these"),
}


def test_an_altered_checkpoint_is_refused_with_a_sentence(capsys):
    whole()
    path, arrays, forged = Path("whole/checkpoint.npz"), dict(np.load("whole/checkpoint.npz")), []
    for changes, sentence in ALTERED.values():
        changed = {name: change(arrays[name]) if callable(change) else change for name, change in changes.items()}
        forged.append((signed(changed), sentence))
    for content, sentence in forged:
        path.write_bytes(content)
        refused(capsys, ["--resume", "whole"], sentence)
    np.savez(path, **arrays | {"theta": arrays["theta"] + 1})
    refused(capsys, ["--resume", "whole"], "damaged.*checksum")


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(monkeypatch, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_report(monkeypatch, 6, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard)))
    try:
        assert status(*QUICK, "--out", "out") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "too large" in error
    assert "kept" in error and "--resume out" in error
    assert steps_of("out") == 4
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(FILES[:3])
    assert gone_on("out") == whole()


def test_a_folder_is_used_by_one_run_at_a_time(capsys):
    Path("out").mkdir()
    for name in (".lock", ".checkpoint.npz.0123456789ab.tmp"):
        Path("out", name).touch()
    assert whole(out="out")["files"] == sorted(FILES)
    for out, *command in (["out", "--resume", "out"], ["new", *QUICK, "--out", "new"]):
        with held(Path(out)):
            refused(capsys, command, f"--out {out} is in use by another run")


def test_of_two_runs_that_start_in_one_folder_one_wins():
    command = [sys.executable, str(ROOT / "run.py"), *QUICK, "--out", "out"]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in runs]
    assert sorted(process.returncode for process in runs) == [0, 2]
    loser = errors[[process.returncode for process in runs].index(2)]
    assert re.fullmatch("run.py: --out out (is in use by another run|already holds this run).*\n", loser)


def test_a_second_process_waits_for_the_download_of_the_first(monkeypatch, capsys):
    target, receiving, go_on, asked = Path("data/file"), threading.Event(), threading.Event(), []

    def receive(url, file, name, verify):
        asked.append(url)
        receiving.set()
        go_on.wait(10)
        file.write(b"whole")

    target.parent.mkdir()
    Path("data/.file.0123456789ab.tmp").write_bytes(b"half, by a process that was killed")
    monkeypatch.setattr(download, "_receive", receive)
    fetch = [threading.Thread(target=download.fetch, args=(["url"], target, None)) for _ in range(2)]
    fetch[0].start()
    receiving.wait(10)
    after_each(monkeypatch, download, "_wait", lambda _: go_on.set())
    fetch[1].start()
    for thread in fetch:
        thread.join(10)
    assert asked == ["url"] and target.read_bytes() == b"whole"
    assert os.listdir("data") == ["file"]
    assert capsys.readouterr().err == f"another process is downloading {target}; waiting for it\n"


def test_a_lock_whose_holder_removes_it_is_not_shared():
    """The second waits for a file that the first removes: it must make a new one, which a third would find."""
    order, path, entered = [], Path("lock"), threading.Event()

    def second():
        with files.lock(path, entered.set):
            order.append("second" if path.exists() else "second, of a file that is gone")

    waiting = threading.Thread(target=second)
    with files.lock(path, entered.set):
        waiting.start()
        entered.wait(10)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"] and not path.exists()


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_like_one_that_was_not():
    result = subprocess.run([sys.executable, "-m", "tests.kills"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "survived 100 of 100 kills" in result.stdout, result.stdout


OLD = Path(__file__).parent / "version-0.2"  # runs that version 0.2 has left, theta.npz its θ at their ends
OLD_THETA = "9b3905ffdc509ecafaeff43d81ae1f007cef88ed8441941d9a4bac3a815233a5"
ARITHMETIC = "8ec7d3ba6344278ec0142e65cf9b217667ee7c9b787765b24b93e0e82e4982fd"  # of the machine where they were made


@pytest.mark.parametrize("name", ["digits-geco", "own-geco", "own-vae"])
def test_a_run_of_version_0_2_goes_on_to_the_theta_of_version_0_2(name):
    """To the bit where products and exponentials round as where it began: another BLAS adds in another order."""
    shutil.copytree(OLD, Path.cwd(), dirs_exist_ok=True)
    before = read_checkpoint(Path(name))
    assert before.run.images.split == "every-tenth" and before.config["version"] == "0.2.0"
    after = gone_on(name, *(["--epochs", "8"] if name == "own-vae" else []))
    assert before.arrays["step"] < after["history"][-1]["step"]
    assert hashlib.sha256(Path("theta.npz").read_bytes()).hexdigest() == OLD_THETA
    theta, expected = load_model(name).theta, np.load("theta.npz")[name]
    np.testing.assert_allclose(theta, expected, rtol=1e-4, atol=1e-6)
    a = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    here = hashlib.sha256(np.exp(a @ a / 100)).hexdigest()
    assert here != ARITHMETIC or (theta == expected).all()


def test_runs_of_version_0_2_are_compared_with_new_ones_of_the_same_options():
    shutil.copytree(OLD, Path.cwd(), dirs_exist_ok=True)
    own, tenth = np.load("own.npz")["images"], np.arange(40) % 10 == 9
    np.savez("split.npz", train=own[~tenth], test=own[tenth])
    options = ["--data", "split.npz", "--method", "vae", "--hidden", "8", "--epochs", "5", "--batch-size", "9"]
    options += ["--variance", "0.5"]  # which version 0.2 took for all images
    made("new", *options, "--seed", "1", quick=["--latent", "2", "--nll-samples", "2"])
    assert run.main(["--compare", "own-vae", "new", "--out", "out"]) == 0
    (row,) = json_of("out", "comparison.json")["rows"]
    assert row["seeds"] == [0, 1]
    assert row["figures"]["error"]["mean"] == pytest.approx(0.327, abs=0.01)
    assert not {*contents("own-vae")} ^ {path.relative_to(OLD) for path in contents(OLD / "own-vae")}
