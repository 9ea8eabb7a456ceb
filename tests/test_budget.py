"""Small is a promise: how many lines of Python a room may have, and how dense they may be.

A budget may be raised by a commit that says what the lines bought. No line gets longer to save another.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READ_FIRST = ("densities", "mlp", "vae", "objectives", "adam", "train")
# Room: its files, those of them that belong to another room, and how many lines it may have. The aims were 800 for the
# reading path, 1,380 for ref/, 1,200 for backend/, 1,850 for experiment/ and 9,000 for tests/. What the lines bought:
# the reading path: three objectives, and constraints that are not κ (26);
# ref/: Fisher's plane, means that leave out images without a finite score, blocks that follow pixels, a rate's level;
# backend/: cuBLAS without a further package, a step of 60 kernels in place of 86, no cache for Numba, products whose
# bits know no number of threads, and a busy machine by them (180), gradients on a second stream (65);
# experiment/: the record (200), explore.html (120), a page a run (100), pictures (130), old runs (60),
# closed streams, images without a score, models that pickle, calibrated figures, validation, targets on the rate (110),
# one table of what values an option may have, for the command line, fit() and checkpoints (90), words for the run that
# a folder holds (25);
# tests/: exercises and faults (700), a script for a card (290), people's files and habits (850), a browser (200),
# products in blocks and a second stream (400), options in Python (50).
ROOMS = {
    "the reading path": ([f"ref/{name}.py" for name in READ_FIRST], [], 826),
    "ref/": (["ref/**/*.py"], [], 1457),
    "backend/": (["backend/**/*.py"], [], 1516),
    "data/": (["data/**/*.py"], [], 1250),
    "experiment/": (["experiment/**/*.py"], ["experiment/studies/**/*.py"], 3080),
    "experiment/studies/": (["experiment/studies/**/*.py"], [], 500),
    "tests/": (["tests/**/*.py"], ["tests/benchmarks/**/*.py"], 11275),
}
# Characters of a line that is not empty, on average.
WIDTHS = {"ref/": 62.3, "backend/": 52.8, "data/": 56.4, "experiment/": 61.0, "tests/": 59.0}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def found(patterns: list[str]) -> set[Path]:
    return {path for pattern in patterns for path in ROOT.glob(pattern)}


def lines_of(room: str) -> list[str]:
    files, others, _ = ROOMS[room]
    return [line for path in found(files) - found(others) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_keeps_to_its_budget_of_lines(room):
    count, budget = len(lines_of(room)), ROOMS[room][2]
    assert count <= budget, f"{room} has {count} lines, {count - budget} above its budget of {budget}"


@pytest.mark.parametrize("room", WIDTHS)
def test_the_lines_of_a_room_do_not_get_denser(room):
    widths = [len(line.rstrip()) for line in lines_of(room) if line.strip()]
    mean, most = sum(widths) / len(widths), WIDTHS[room]
    assert mean <= most, f"{room} has lines of {mean:.2f} characters on average, {mean - most:.2f} above {most}"


def test_a_comprehension_outside_of_tests_has_one_for_and_at_most_one_if():
    files = found(["*.py", *(f"{room}**/*.py" for room in WIDTHS if room != "tests/")])
    nodes = [(path, node) for path in sorted(files) for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    dense = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in nodes
        if isinstance(node, COMPREHENSIONS) and (len(node.generators) > 1 or len(node.generators[0].ifs) > 1)
    ]
    assert not dense, f"write loops in place of these comprehensions: {', '.join(dense)}"


def test_every_room_is_there():
    assert all(lines_of(room) for room in ROOMS if room != "experiment/studies/")
