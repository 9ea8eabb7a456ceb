"""The tools that time this project beside others: what they report is what they have seen."""

import subprocess
import sys

import pytest

from tests.benchmarks import end_to_end, growth


def test_phases_share_all_seconds_and_an_inner_phase_interrupts_the_outer(monkeypatch):
    now = iter([13.0, 15.0, 16.0, 20.0, 21.0])
    monkeypatch.setattr(end_to_end.time, "time", lambda: next(now))
    watch = end_to_end.Stopwatch(10.0)
    inner = watch.timed(lambda: "done", "information")
    with watch.during("evaluation"):
        assert inner() == "done"
    watch.switch("exit")
    assert watch.seconds == {"start": 3 + 1, "evaluation": 2 + 4, "information": 1}


def test_a_slope_is_the_exponent_of_a_power_law():
    assert growth.slope({size: 3 * size**0.75 for size in (32, 64, 1024)}) == pytest.approx(0.75)


def test_a_point_that_was_kept_is_read_as_it_was(tmp_path):
    rows = [dict(zip(growth.COLUMNS, ("batch", 32, "numpy", 1 / 3, 54.4, 80.25), strict=True))]
    growth.keep(tmp_path / "points.csv", rows)
    assert growth.known(tmp_path / "points.csv") == rows and growth.known(tmp_path / "none.csv") == []


@pytest.mark.slow
def test_the_seconds_of_a_whole_run_are_those_of_its_phases(tmp_path):
    command = [sys.executable, "-m", "tests.benchmarks.end_to_end", "numpy", "--data", "mnist-10k", "--epochs", "1"]
    result = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True)
    *_, header, _, line = result.stdout.splitlines()
    cells = dict(zip(*([c.strip() for c in row.split("|")[1:-1]] for row in (header, line)), strict=True))
    seconds = {phase: float(cells[phase]) for phase in end_to_end.PHASES}
    assert abs(sum(seconds.values()) - float(cells["whole"])) < 0.05 * (len(seconds) + 1)  # each is rounded
    assert min(seconds[phase] for phase in ("start", "data", "steps", "evaluation", "information", "pictures")) > 0
    assert (tmp_path / "numpy" / "summary.json").exists()
