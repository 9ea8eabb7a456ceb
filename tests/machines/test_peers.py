"""The tools that time this project: what they report is what they have seen."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from backend import open_backend
from tests import on_gpu
from tests.benchmarks import benchmark, end_to_end, growth
from tests.benchmarks.peers import Case


def test_phases_share_all_seconds_and_an_inner_phase_interrupts_the_outer(monkeypatch):
    now = iter([13.0, 15.0, 16.0, 20.0, 21.0])
    monkeypatch.setattr(end_to_end.time, "time", lambda: next(now))
    watch = end_to_end.Stopwatch(10.0)
    with watch.during("evaluation"):
        assert watch.timed(lambda: "done", "information")() == "done"
    watch.switch("exit")
    assert watch.seconds == {"start": 3 + 1, "evaluation": 2 + 4, "information": 1}


def test_a_slope_is_the_exponent_of_a_power_law():
    assert growth.slope({size: 3 * size**0.75 for size in (32, 64, 1024)}) == pytest.approx(0.75)


def test_a_point_that_was_kept_is_read_as_it_was(tmp_path):
    rows = [dict(zip(growth.COLUMNS, ("batch", 32, "numpy", 1 / 3, 54.4, 80.25), strict=True))]
    growth.keep(tmp_path / "points", rows)
    assert growth.known(tmp_path / "points") == rows and growth.known(tmp_path / "none") == []


@pytest.mark.slow
def test_the_seconds_of_a_whole_run_are_those_of_its_phases(tmp_path):
    command = [sys.executable, "-m", "tests.benchmarks.end_to_end", "numpy", "--data", "mnist-10k"]
    command += ["--epochs", "1", "--out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    *_, header, _, line = result.stdout.splitlines()
    names, cells = ([cell.strip() for cell in row.split("|")] for row in (header, line))
    cells = dict(zip(names, cells, strict=True))
    seconds = {phase: float(cells[phase]) for phase in end_to_end.PHASES}
    assert abs(sum(seconds.values()) - float(cells["whole"])) < 0.05 * (len(seconds) + 1)  # each is rounded
    phases = ("start", "data", "steps", "evaluation", "information", "pictures")
    assert min(seconds[phase] for phase in phases) > 0
    assert (tmp_path / "numpy" / "summary.json").exists()


def dying_contestant(pipe, name, *others):
    """`serve`, where "jax" dies before it is ready, and "torch" in the second round."""
    if name == "jax":
        return
    pipe.send(3)
    for answers in range(5):  # four times, and then its memory
        repeats = pipe.recv()
        if name == "torch" and answers == 1:
            return
        pipe.send(0.5 * repeats if repeats else (1.0, 2.0))


def test_a_contestant_that_dies_is_left_out_and_the_others_go_on(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "serve", dying_contestant)
    case = Case("geco", (8,), 4, "silu", "gaussian", 4, 1)
    times, memory = benchmark.measure(["step", "jax", "torch", "products"], "numpy", "float32", case, 4)
    assert times == {"step": [1.5] * 4, "products": [1.5] * 4} and [*memory] == ["step", "products"]
    said = capsys.readouterr().err
    assert "jax has died" in said and "torch has died" in said
    row = benchmark.line_of(case, times)
    assert row["step_ms"] == 1.5 and row["step/products"] == 1 and "jax_ms" not in row
    assert "step_ms" not in benchmark.line_of(case, {"products": [1.0]})


def test_the_seconds_in_which_a_gpu_is_waited_for_are_those_of_the_steps():
    watch = end_to_end.Stopwatch(end_to_end.time.time())
    slow = open_backend("numpy")._replace(synchronize=lambda: end_to_end.time.sleep(0.05))
    backend = end_to_end.waiting_is_stepping(watch, lambda name: slow)("numpy")
    watch.switch("rest")
    backend.synchronize()
    assert watch.seconds["steps"] >= 0.05 and watch.phase == "rest"


@pytest.mark.skipif(os.name != "posix", reason="needs sh and ps")
def test_a_stage_that_hangs_is_ended_with_all_that_it_started_and_what_it_told_before_is_kept(tmp_path, monkeypatch):
    python, line = tmp_path / "python", """'{"line": "a card"}'"""
    lines = ["#!/bin/sh", f"cd {tmp_path}", f"echo {line} > results.jsonl"]
    python.write_text("\n".join([*lines, "sleep 60 &", "echo $! > child", "wait"]))
    python.chmod(0o755)
    monkeypatch.setattr(on_gpu.sys, "executable", python)
    found = on_gpu.supervise("card", 1.0, SimpleNamespace(out=tmp_path, small=True))
    assert found["said"] == "FAIL: ended at its limit of 1 s" and found["seconds"] < 20
    assert on_gpu.lines_in(tmp_path) == [{"line": "a card"}]
    child = (tmp_path / "child").read_text()
    state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True).stdout
    assert state in (b"", b"Z\n")


def test_the_nodes_of_a_graph_are_counted_by_kind():
    node = '"graph_1_node_{i}"[style="solid" shape="record" label="{{{kind}|{{ID|{i}}}}}"];'
    kinds = ["KERNEL", "KERNEL", "MEMCPY", "??"]
    text = "\n".join(node.format(i=i, kind=kind) for i, kind in enumerate(kinds))
    graph = SimpleNamespace(debug_dot_str=lambda flags: f"digraph dot {{\n{text}\n}}")
    assert on_gpu.nodes_of(graph) == {"kernel": 2, "memcpy": 1, "other": 1}


def test_without_a_card_one_sentence_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(sys, "argv", ["on_gpu"])
    assert on_gpu.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("tests.on_gpu: --backend cupy needs CuPy") and said.count("\n") == 1
