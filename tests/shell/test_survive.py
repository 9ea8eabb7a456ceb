"""Runs that are stopped, killed, starved of disk or handed a broken checkpoint.

python -m pytest -m slow tests/shell/test_survive.py killed runs, 2,000 hostile checkpoints
"""

import csv
import hashlib
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

import ref.train
import run
from backend import open_backend
from data import DataError, download, files, images, load
from experiment import checkpoint, defaults, one, options, training
from experiment import load as load_model
from experiment.defaults import complete
from experiment.files import FILES, held
from experiment.signals import noted
from ref.adam import SCHEDULES
from ref.objectives import METHODS
from tests.hostile import CASES, for_all, mutations
from tests.kills import result_of
from tests.shell.undrawn import undrawn
from tests.tested import on_command_line

ROOT = Path(run.__file__).parent
QUICK = ["--data", "digits", "--epochs", "3", "--hidden", "8", "--latent", "2", "--nll-samples", "2"]
QUICK += ["--batch-size", "300"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    undrawn(monkeypatch)


def quick() -> list[str]:
    """The options of a short run on the backend under test."""
    return [*QUICK, *on_command_line()]


def whole(*options: str, out="whole") -> dict:
    assert run.main([*quick(), *options, "--out", out]) == 0
    return result_of(Path(out))


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
    assert run.main([*quick(), *options, "--out", out]) == 128 + number


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("after", [2, 4])
def test_a_run_that_was_stopped_goes_on_to_the_same_result(method, after, monkeypatch):
    stopped(monkeypatch, "--method", method, after=after)
    assert int(np.load("stopped/checkpoint.npz")["step"]) == after
    assert run.main(["--resume", "stopped"]) == 0
    assert result_of(Path("stopped")) == whole("--method", method)


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "iwae", "--likelihood", "bernoulli", "--binarize", "dynamic"],
        ["--method", "vae", "--likelihood", "bernoulli", "--binarize", "static"],
        ["--hidden", "none", "--precision", "float64"],
        ["--output", "sigmoid", "--multiplier", "plain", "--multiplier-rate", "0.003", "--weight-decay", "0.1"],
        ["--method", "beta-vae", "--beta", "0.3", "--lr", "0.00123", "--schedule", "constant", "--variance", "0.1"],
        ["--checkpoint-every", "2"],
    ],
    ids=" ".join,
)
def test_every_option_survives_the_checkpoint(options, monkeypatch):
    stopped(monkeypatch, *options, after=5)
    stopped_again = [*quick(), *options, "--out", "stopped"]  # the same options once more contradict nothing
    assert run.main(["--resume", "stopped", *stopped_again]) == 0
    assert result_of(Path("stopped")) == whole(*options)


def test_an_option_of_zero_survives_where_the_default_is_another():
    args, _ = options.parsed(["--data", "mnist", "--epochs", "3", "--weight-decay", "0"])
    assert options.restored(Path("run/checkpoint.npz"), options.stored(args)).weight_decay == 0


def test_another_backend_does_not_inherit_what_was_for_a_gpu():
    args, _ = options.parsed(["--data", "digits", "--epochs", "3", "--backend", "cupy", "--tf32"])
    saved = options.Saved(Path("run/checkpoint.npz"), {}, {}, args)
    assert options.resumed(saved, {}).tf32 and not options.resumed(saved, {"backend": "numpy"}).tf32


def test_a_checkpoint_moves_to_another_backend_with_all_but_its_noise(monkeypatch, capsys):
    stopped(monkeypatch, after=4)
    path = Path("stopped/checkpoint.npz")
    arrays, config = checkpoint.read(path)
    reports = checkpoint.reports(path, arrays, constrained=True)
    del arrays["history"]
    arrays["noise"] = np.zeros(2048, np.int8)  # as CuPy's
    checkpoint.write(path, arrays, reports, config | {"options": config["options"] | {"backend": "cupy"}})
    assert run.main(["--resume", "stopped", "--backend", "numpy"]) == 0
    after = result_of(Path("stopped"))
    assert after["summary"]["backend"] == "numpy" and after["rows"][0] == whole()["rows"][0]
    assert after["summary"]["steps"] == whole(out="other")["summary"]["steps"]


@pytest.fixture
def hangups():
    """What a closed terminal does to this process, whatever it did before."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_run_with_the_command_that_goes_on(number, status, hangups, monkeypatch, capsys):
    at_report(monkeypatch, 3, lambda: signal.raise_signal(number))
    assert run.main([*quick(), "--out", "a b"]) == status
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith("python run.py --resume 'a b'\n")
    assert run.main(["--resume", "a b"]) == 0 and result_of(Path("a b")) == whole()


def test_under_nohup_a_closed_terminal_ends_nothing(hangups):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with noted() as numbers:
        signal.raise_signal(signal.SIGHUP)
        assert numbers == []
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_signal_during_the_last_checkpoint_is_not_lost(monkeypatch):
    save = training.save

    def signalled(*args):
        save(*args)
        if args[0].history[-1]["epoch"] == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training, "save", signalled)
    assert run.main([*quick(), "--out", "out"]) == 143 and not Path("out/summary.json").exists()
    monkeypatch.setattr(training, "save", save)
    assert run.main(["--resume", "out"]) == 0 and result_of(Path("out")) == whole()


def test_an_overwritten_run_is_not_offered_for_going_on(monkeypatch, capsys):
    whole()
    capsys.readouterr()
    with monkeypatch.context() as broken:
        broken.setattr(one, "save", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert run.main([*quick(), "--method", "vae", "--force", "--out", "whole"]) == 143
    assert "--resume" not in capsys.readouterr().err


def test_a_second_signal_does_not_wait_for_a_report(monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    at_report(monkeypatch, 6, twice)
    assert run.main([*quick(), "--out", "out"]) == 130
    assert int(np.load("out/checkpoint.npz")["step"]) == 4  # of the last whole epoch
    assert run.main(["--resume", "out"]) == 0 and result_of(Path("out")) == whole()


def test_a_signal_before_the_first_checkpoint_promises_nothing(monkeypatch, capsys):
    monkeypatch.setattr(one, "build", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert run.main([*quick(), "--out", "out"]) == 143
    assert "--resume" not in capsys.readouterr().err and not Path("out").exists()


def test_a_signal_is_heard_while_one_long_call_finds_the_principal_components(monkeypatch):
    begun = []

    def components(*_, **named):
        begun.append(time.monotonic())
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        hashlib.pbkdf2_hmac("sha512", b"", b"", 8_000_000)  # seconds in which Python hears nothing

    monkeypatch.setattr(training.linear, "principal_components", components)
    assert run.main([*quick(), "--out", "out"]) == 143
    assert time.monotonic() - begun[0] < 1 and not Path("out").exists()


@pytest.mark.parametrize("every", [1, 2, 5])
def test_checkpoints_are_written_every_so_many_epochs_and_at_the_end(every, monkeypatch):
    written, save = [], training.save
    monkeypatch.setattr(training, "save", lambda *args: written.append(args[0].history[-1]["epoch"]) or save(*args))
    whole("--checkpoint-every", str(every))
    assert written == {1: [1, 2, 3], 2: [2, 3], 5: [3]}[every]


def test_a_complete_run_is_evaluated_again_and_not_trained(monkeypatch):
    before = whole()
    for name in FILES[3:]:
        Path("whole", name).unlink()  # as if its evaluation had been killed
    monkeypatch.setattr(training, "make_step", lambda *_: None)
    assert run.main(["--resume", "whole"]) == 0 and result_of(Path("whole")) == before


def test_what_a_resumed_run_starts_from_is_kept_until_there_is_more(monkeypatch):
    before = whole()

    def full(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(one, "save", full)
        assert run.main(["--resume", "whole", "--epochs", "5"]) == 2
    assert run.main(["--resume", "whole"]) == 0 and result_of(Path("whole")) == before


def test_metrics_agree_with_the_checkpoint_also_when_they_were_ahead_of_it():
    before = whole()
    Path("whole/metrics.csv").write_text(Path("whole/metrics.csv").read_text() + "4,16" + 11 * ",1" + "\n")
    assert run.main(["--resume", "whole"]) == 0 and result_of(Path("whole")) == before


def test_seconds_add_up_over_starts(monkeypatch):
    stopped(monkeypatch, after=6)
    spent = np.load("stopped/checkpoint.npz")["history"][:, [*checkpoint.COLUMNS].index("seconds")].sum()
    assert run.main(["--resume", "stopped"]) == 0
    seconds = json.loads(Path("stopped/summary.json").read_text())["seconds"]
    with open("stopped/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert seconds > spent > 0 and seconds == pytest.approx(sum(float(row["seconds"]) for row in rows))


def test_more_epochs_go_on_with_the_schedule_of_the_longer_run(monkeypatch):
    whole("--backend", "numpy")  # no recorded step calls the schedule anew
    rates, cosine = [], SCHEDULES["cosine"]
    monkeypatch.setitem(SCHEDULES, "cosine", lambda xp, t, steps: rates.append((int(t), steps)) or cosine(xp, t, steps))
    assert run.main(["--resume", "whole", "--epochs", "5"]) == 0
    assert rates == [(step, 20) for step in range(12, 20)]
    result = result_of(Path("whole"))
    assert [row["epoch"] for row in result["rows"]] == list("12345") and result["summary"]["epochs"] == 5
    config = json.loads(Path("whole/config.json").read_text())
    assert config["options"]["epochs"] == 5 and config["options"]["multiplier_rate"] == 0.01
    assert config["resumed"][0]["step"] == 12 and config["resumed"][0]["command"][1:3] == ["--resume", "whole"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seed", "1"], "--seed 1 contradicts --resume whole, which has --seed 0"),
        (["--method", "vae"], "--method vae contradicts .* geco"),
        (["--hidden", "9"], "--hidden 9 contradicts .* 8;"),
        (["--batch-size", "128"], "--batch-size 128 contradicts .* 300"),
        (["--precision", "float64"], "--precision float64 contradicts .* float32"),
        (["--out", "elsewhere"], "--out elsewhere contradicts .* whole"),
        (["--force"], "--force contradicts .*which has no --force"),
        (["--epochs", "2"], "--epochs 2 is less than the 3"),
        (["--data", "mine.npz"], "images of --data mine.npz are not those"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_contradicts_the_checkpoint_is_refused_by_name(options, sentence, capsys):
    np.savez("mine.npz", train=np.eye(1400, 9), test=np.eye(4, 9))
    before = whole()
    capsys.readouterr()
    assert run.main(["--resume", "whole", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(sentence, error), error
    assert result_of(Path("whole")) == before


def test_a_folder_without_a_checkpoint_cannot_be_resumed(capsys):
    assert run.main(["--resume", "nowhere"]) == 2
    assert "nowhere holds no checkpoint.npz" in capsys.readouterr().err and not Path("nowhere").exists()


def test_images_that_vanish_are_missed_by_name(monkeypatch, capsys):
    np.savez("mine.npz", train=np.random.default_rng(0).random((600, 9)), test=np.ones((9, 9)))
    stopped(monkeypatch, "--data", "mine.npz", after=1)
    capsys.readouterr()
    Path("mine.npz").rename("moved.npz")
    assert run.main(["--resume", "stopped"]) == 2 and "mine.npz" in capsys.readouterr().err
    assert run.main(["--resume", "stopped", "--data", "moved.npz"]) == 0


@pytest.mark.parametrize("folder", [False, True])
def test_pictures_that_vanish_or_cannot_be_read_while_they_are_loaded_are_named(folder, monkeypatch):
    Path("pictures").mkdir()
    (Path("pictures/b.png").mkdir if folder else Path("pictures/a.txt").touch)()
    monkeypatch.setattr(images, "find", lambda _: ["a.png", "b.png"])
    with pytest.raises(DataError, match=r"pictures: 2 of 2 .*a\.png .*b\.png"):
        images.load_folder(Path("pictures"))


ARRAYS = {"step": np.array(4), "theta": np.arange(500, dtype=np.float32), "center": np.zeros(4)}
HISTORY = [dict.fromkeys(checkpoint.COLUMNS, 1.0)]
CONFIG = {"command": ["run.py"], "options": {"seed": 0}, "resumed": [], "shape": [2, 2, 1]}


def written(path="checkpoint.npz", **changes) -> bytes:
    checkpoint.write(Path(path), ARRAYS | changes, HISTORY, CONFIG)
    return Path(path).read_bytes()


def same_as_written(path: Path) -> bool:
    """Whether a checkpoint is read as what was written; a DataError of one line that names it is raised otherwise."""
    arrays, config = checkpoint.read(path)
    return config == CONFIG and all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_a_checkpoint_that_was_cut_anywhere_or_has_a_flipped_bit_is_refused_or_unharmed():
    content, path, unharmed = written(), Path("altered.npz"), 0
    assert same_as_written(Path("checkpoint.npz"))
    for at in range(0, len(content), 50):
        path.write_bytes(content[:at])
        with pytest.raises(DataError, match=r"\A[^\n]*altered\.npz[^\n]*\Z"):
            checkpoint.read(path)
    for at in range(0, len(content), 11):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        try:
            assert same_as_written(path)
            unharmed += 1  # a date, say
        except DataError as error:
            assert "altered.npz" in str(error) and "\n" not in str(error)
    assert unharmed < len(content) / 11 / 5


@pytest.mark.parametrize("kind", ["a lying header", "a bomb", "a name twice"])
def test_a_checkpoint_costs_no_more_memory_than_its_file_is_long(kind):
    header = (
        b"\x93NUMPY\1\0\x76\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (2147483648,)}".ljust(117) + b"\n"
    )
    bodies = {"a lying header": bytes(99), "a bomb": bytes(10**7), "a name twice": bytes(99)}
    method = zipfile.ZIP_DEFLATED if kind == "a bomb" else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile("checkpoint.npz", "w", method) as archive:
        warnings.simplefilter("ignore")
        for _ in range(2 if kind == "a name twice" else 1):
            archive.writestr("theta.npy", header + bodies[kind])
    tracemalloc.start()
    with pytest.raises(DataError, match=r"only 99" if kind == "a lying header" else "each stored once"):
        checkpoint.read(Path("checkpoint.npz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def rewritten(change) -> None:
    """Alters the arrays in whole/checkpoint.npz and gives them a valid checksum, as somebody with bad intent can."""
    path = Path("whole/checkpoint.npz")
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays | {"sha256": checkpoint.checksum(arrays)})


def with_options(changes: dict):
    def change(arrays: dict) -> None:
        config = json.loads(arrays["config"].tobytes())
        arrays["config"] = np.frombuffer(json.dumps(config | {"options": config["options"] | changes}).encode(), "u1")

    return change


def put(name, value):
    return lambda arrays: arrays.update({name: value(arrays[name]) if callable(value) else value})


def poked(value):
    def poke(array):
        array = array.copy()
        array.flat[0] = value
        return array

    return poke


def signed(name: str, shape: tuple[int, ...], dtype: str, fill: bytes) -> bytes:
    """The checkpoint in whole/ with another array of that name, under a valid checksum."""
    array = np.resize(np.frombuffer(fill + bytes(-len(fill) % 16), dtype), shape)
    with np.load("whole/checkpoint.npz") as file:
        arrays = dict(file) | {name: array}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | {"sha256": checkpoint.checksum(arrays)})
    return buffer.getvalue()


@CASES
def test_any_bytes_are_a_checkpoint_of_the_run_or_are_refused(cases):
    whole("--backend", "numpy")
    path, content, digits = Path("fuzzed/checkpoint.npz"), Path("whole/checkpoint.npz").read_bytes(), load("digits")
    path.parent.mkdir()
    backend = open_backend("numpy")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            saved = options.opened(path.parent)
            args = complete(options.resumed(saved, {}), digits)
            _, state, _ = training.restore(saved, args, backend, *digits.train.shape)
            assert all(np.isfinite(array).all() for array in state.values())
        except (DataError, options.UsageError) as error:
            assert "\n" not in str(error)

    with np.load("whole/checkpoint.npz") as file:
        arrays = {name: file[name] for name in file}
    shapes = st.sampled_from([array.shape for array in arrays.values()]) | st.tuples(st.integers(0, 9))
    types = st.sampled_from(["f4", "f8", "i8", "u1", "u8"])
    forged = st.builds(signed, st.sampled_from(sorted(arrays)), shapes, types, st.binary(min_size=16, max_size=48))
    text = arrays["config"].tobytes()
    configs = mutations(text).map(lambda new: signed("config", (len(new),), "u1", new))
    for_all(cases, mutations(content) | forged | configs, read)


ALTERED = {
    "another version": (put("format", np.array(2)), "format 1, found 2"),
    "a missing array": (lambda arrays: arrays.pop("m"), "'m' is missing"),
    "a missing theta": (lambda arrays: arrays.pop("theta"), "theta"),
    "no history": (lambda arrays: arrays.pop("history"), "history"),
    "an extra array": (put("extra", np.zeros(3)), "'extra' is no array of this run"),
    "another shape": (put("v", lambda v: v[:-1]), "expected v to be float32"),
    "another network": (put("theta", lambda theta: theta[:-1]), r"expected theta to be float32 \(\d+,\), found"),
    "another type": (put("theta", lambda theta: theta.astype(np.float64)), "expected theta to be float32"),
    "a big-endian array": (put("theta", lambda theta: theta.astype(">f4")), "theta is >f4"),
    "strings": (put("theta", np.array(["a"])), "theta is <U1"),
    "NaN": (put("theta", poked(np.nan)), "theta holds numbers that are not finite"),
    "an infinite moment": (put("v", poked(np.inf)), "v holds numbers that are not finite"),
    "an infinite λ": (put("log_lambda", np.array(np.inf)), "log_lambda holds"),
    "a negative second moment": (put("v", poked(-1)), "second moments"),
    "an order with a repetition": (put("order", lambda order: order // 2), "its order"),
    "an order beyond the images": (put("order", poked(10**9)), "its order"),
    "a negative step": (put("step", np.array(-4)), "history is not that of a run to its step"),
    "a step beyond the end": (put("step", np.array(400)), "history is not that of a run to its step"),
    "a step between": (put("step", np.array(7)), "history is not that of a run to its step"),
    "NaN in the history": (put("history", poked(np.nan)), "history"),
    "a history of another form": (put("history", np.zeros((3, 3))), "history"),
    "a config that is no JSON": (put("config", np.zeros(3, np.uint8)), "expected a checkpoint"),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_checkpoint_is_refused_with_a_sentence(kind, capsys):
    change, sentence = ALTERED[kind]
    whole()
    capsys.readouterr()
    rewritten(change)
    refused(sentence, capsys)


def test_contents_that_do_not_have_their_checksum_are_refused(capsys):
    whole()
    capsys.readouterr()
    with np.load("whole/checkpoint.npz") as file:
        arrays = dict(file)
    np.savez("whole/checkpoint.npz", **arrays | {"theta": poked(0.5)(arrays["theta"])})
    refused("damaged.*checksum", capsys)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden": "wide"}, "options cannot be used.*'wide' is not a list"),
        ({"help": ""}, "another version"),
        ({"method": "gecko"}, "gecko"),
        ({"latent": 3}, "whiten|theta"),
        ({"hidden": [10**9]}, "expected theta to be"),
        ({"data": "nonesuch"}, "nonesuch"),
        ({"method": "geco"}, "history"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_altered_options_are_refused_with_a_sentence(changes, sentence, capsys):
    whole("--method", "vae")
    capsys.readouterr()
    rewritten(with_options(changes))
    refused(sentence, capsys)


def refused(sentence: str, capsys) -> None:
    before = {path.name: path.read_bytes() for path in Path("whole").iterdir()}
    assert run.main(["--resume", "whole"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(sentence, error), error
    assert {path.name: path.read_bytes() for path in Path("whole").iterdir()} == before


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(monkeypatch, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_report(monkeypatch, 6, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard)))
    try:
        assert run.main([*quick(), "--out", "out"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "too large" in error and "kept" in error and "--resume out" in error
    assert int(checkpoint.read(Path("out/checkpoint.npz"))[0]["step"]) == 4
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(FILES[:3])
    assert run.main(["--resume", "out"]) == 0 and result_of(Path("out")) == whole()


def test_a_folder_is_used_by_one_run_at_a_time(capsys):
    with held(Path("out")):
        assert run.main([*quick(), "--out", "out"]) == 2
    assert "--out out is in use by another run" in capsys.readouterr().err
    whole(out="out")
    capsys.readouterr()
    with held(Path("out")):
        assert run.main(["--resume", "out"]) == 2
    assert "is in use by another run" in capsys.readouterr().err


def test_what_a_killed_run_left_does_not_stand_in_the_way():
    Path("out").mkdir()
    for name in (".lock", ".checkpoint.npz.0123456789ab.tmp"):
        Path("out", name).touch()
    assert whole(out="out")["files"] == sorted(FILES)


def test_of_two_runs_that_start_in_one_folder_one_wins():
    command = [sys.executable, str(ROOT / "run.py"), *QUICK, "--out", "out"]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in runs]
    assert sorted(process.returncode for process in runs) == [0, 2]
    loser = errors[[process.returncode for process in runs].index(2)]
    assert re.fullmatch("run.py: --out out (is in use by another run|already holds a run).*\n", loser)


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
    monkeypatch.setattr(download, "_wait", lambda target, wait=download._wait: (wait(target), go_on.set()))
    fetch[1].start()
    for thread in fetch:
        thread.join(10)
    assert asked == ["url"] and target.read_bytes() == b"whole" and os.listdir("data") == ["file"]
    assert capsys.readouterr().err == f"another process is downloading {target}; waiting for it\n"


def test_a_lock_whose_holder_removes_it_is_not_shared():
    """The second waits for a file that the first removes: it must make a new one, which a third would find."""
    order, path = [], Path("lock")
    entered = threading.Event()

    def second():
        with files.lock(path, entered.set):
            order.append("second" if path.exists() else "second, of a file that is gone")

    with files.lock(path, entered.set):
        waiting = threading.Thread(target=second)
        waiting.start()
        entered.wait(10)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"] and not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, 100])
def test_runs_killed_at_random_moments_end_like_one_that_was_not(kills):
    command = [sys.executable, "-m", "tests.kills", "--kills", str(kills)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and f"survived {kills} of {kills} kills" in result.stdout, result.stdout


def test_a_checkpoint_older_than_an_option_goes_on_with_what_the_option_stood_for(monkeypatch):
    def older(arrays: dict) -> None:
        config = json.loads(arrays["config"].tobytes())
        del config["options"]["init_from"], config["options"]["schedule"]
        config["options"]["sweep"] = None  # an option that is gone, and was not set
        arrays["config"] = np.frombuffer(json.dumps(config).encode(), "u1")

    whole()
    rewritten(older)
    theta = np.load("whole/checkpoint.npz")["theta"]
    assert run.main(["--resume", "whole"]) == 0
    assert (load_model("whole").theta == theta).all() and load_model("whole").args.schedule == "cosine"


def test_an_option_of_two_words_trains_resumes_and_is_stored(monkeypatch):
    """As an objective to come may have one: β under another name."""
    row = METHODS["beta-vae"]

    def loss(xp, terms, mix_share):
        return row.loss(xp, terms, beta=mix_share)

    def backward(xp, terms, mix_share):
        return row.backward(xp, terms, beta=mix_share)

    mixed = row._replace(loss=loss, backward=backward, options={"mix_share": (0.5, "a weight")})
    monkeypatch.setitem(METHODS, "mixed", mixed)
    monkeypatch.setitem(defaults.METHOD_OPTIONS, "mix_share", mixed.options["mix_share"])
    monkeypatch.setitem(options.OPTIONS["objective"], "mix_share", (options.POSITIVE, "a weight"))
    monkeypatch.setitem(options.OPTIONS["objective"], "method", (METHODS, ""))
    monkeypatch.setattr(defaults, "IN_NAME", (*defaults.IN_NAME, "mix_share"))
    stopped(monkeypatch, "--method", "mixed", "--mix-share", "0.3", after=4)
    assert run.main(["--resume", "stopped"]) == 0
    assert result_of(Path("stopped")) == whole("--method", "mixed", "--mix-share", "0.3")
    assert json.loads(Path("stopped/config.json").read_text())["options"]["mix_share"] == 0.3
