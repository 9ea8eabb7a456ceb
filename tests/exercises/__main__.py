"""The command line of the exercises."""

import argparse
import ast
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.exercises import __doc__ as about
from tests.exercises.catalogue import EXERCISES, Exercise
from tests.exercises.diagnosis import diagnose
from tests.exercises.faults import FAULTS, copy, curves, functions, residuals, trained
from tests.page import FILE, definitions

SHAPES = re.compile(r"\([^()]*\)(, \([^()]*\))* -> .*$")


class UsageError(Exception):
    """A sentence that says what cannot be done, and what to do."""


def file_of(exercise: Exercise) -> str:
    """Its file in the learner's folder."""
    return f"{EXERCISES.index(exercise) + 1:02}_{exercise.name.removesuffix('_backward')}.py"


def sheet(exercise: Exercise) -> str:
    """The learner's file: the forward functions, and the signature of what is to be written."""
    module = exercise.function.__module__
    texts = definitions(Path(sys.modules[module].__file__).read_text("utf-8"))
    place = f"Exercise {EXERCISES.index(exercise) + 1} of {len(EXERCISES)}{', optional' * exercise.optional}"
    head = f'"""{place}: {exercise.name}.\n\nHelp: ref/README.md, "How to read" and "{section(exercise)}".\n"""'
    head += f"\n\nfrom {module} import *  # all of {module.replace('.', '/')}.py may be used"
    shown = exercise.shown or (exercise.name.removesuffix("_backward"),)
    return "\n\n\n".join([head, *(texts[name] for name in shown), blank(exercise, texts[exercise.name])])


def section(exercise: Exercise) -> str:
    """The heading of ref/README.md under which the function is derived."""
    above = FILE.read_text("utf-8").partition(f"def {exercise.name}(xp")[0]
    return re.findall(r"^#+ (.*)$", above, re.MULTILINE)[-1]


def blank(exercise: Exercise, text: str) -> str:
    """The function without its formula and its body; the shapes at the end of its docstring stay."""
    function = ast.parse(text).body[0]
    find = exercise.find or f"Find {' and '.join(f'd_{name}' for name in exercise.inputs)}."
    shapes = SHAPES.search(ast.get_docstring(function))
    docstring = f'    """{find}' + (f"\n    {shapes[0]}" if shapes else "")
    head = text.splitlines()[: function.body[0].lineno - 1]
    return "\n".join([*head, docstring, '    """', "    raise NotImplementedError\n"])


def start(folder: Path) -> tuple[str, int]:
    """Writes the exercises into a folder that is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder, and nothing is overwritten; name a new one")
    folder.mkdir(parents=True, exist_ok=True)
    for exercise in EXERCISES:
        (folder / file_of(exercise)).write_text(sheet(exercise), "utf-8")
    told = f"{len(EXERCISES)} exercises are in {folder}."
    return f"{told} Write the first, then: python -m tests.exercises check {folder}", 0


def learned(folder: Path, exercise: Exercise) -> Callable | str:
    """The learner's function, or why there is none."""
    path, names = folder / file_of(exercise), {"__name__": "learner"}
    if not path.exists():
        return f"there is no {path}"
    try:
        exec(compile(path.read_text("utf-8"), path, "exec"), names)
    except (Exception, SystemExit) as error:  # whatever a learner's file raises is an answer
        return f"{path} cannot be run: {type(error).__name__}: {error}"
    function = names.get(exercise.name, exercise.function)
    return f"{path} defines no {exercise.name}" if function is exercise.function else function


def check(folder: Path, name: str | None) -> tuple[str, int]:
    """A line for each gradient of all exercises, or of `name`; and 1 unless all are right."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder of exercises; make one: python -m tests.exercises start {folder}")
    names = [(None, str(i), e.name, e.name.removesuffix("_backward")) for i, e in enumerate(EXERCISES, 1)]
    chosen = [exercise for exercise, known in zip(EXERCISES, names, strict=True) if name in known]
    if not chosen:
        number = f"name a number up to {len(EXERCISES)}"
        raise UsageError(f"there is no exercise {name!r}: {number}, or one of its functions")
    lines, right = [], 0
    for exercise in chosen:
        function = learned(folder, exercise)
        found = {"": function} if isinstance(function, str) else diagnose(exercise, function)
        solved = all(text.startswith("right, ") for text in found.values())
        right += solved
        lines += [f"{file_of(exercise)}{' (optional)' * exercise.optional}"]
        lines += [f"    {f'{gradient}: ' if gradient else ''}{text}" for gradient, text in found.items()]
        lines += [] if solved else [f'    help: ref/README.md, "{section(exercise)}", whose code is the solution']
    return "\n".join([*lines, f"right: {right} of {len(chosen)}"]), int(right < len(chosen))


def find(folder: Path, number: int, answer: str | None) -> tuple[str, int]:
    """The course of a copy with a mistake beside the right one; or whether the answer is right."""
    if not 1 <= number <= len(FAULTS):
        raise UsageError(f"there is no fault {number}: the numbers are 1 to {len(FAULTS)}")
    fault, place = FAULTS[number - 1], folder / f"fault_{number}"
    if not place.exists():
        copy(place, fault)
    if answer and answer not in functions(place):
        raise UsageError(f"{place} has no function {answer!r}")
    if answer and answer != fault.function:
        return f"No: {answer} is as it should be.", 1
    with tempfile.TemporaryDirectory() as other:
        right = curves(trained(copy(Path(other) / "right"), fault.method))
    try:
        wrong = curves(trained(place, fault.method))
    except RuntimeError as error:
        raise UsageError(f"{place}/train.py ends with an error: {error}; delete the folder for a fresh copy") from error
    lines = [f"{place} is a copy of ref/ with one mistake. Trained by {fault.method}:", wrong]
    lines += ["and without the mistake:", right]
    if answer:
        lines[:0] = [f"Yes, {answer}. {fault.about}", f"  ref/: {fault.right}", f"  here: {fault.wrong}"]
        lines += [residuals(place)]
    else:
        lines += [f"Which function holds it? python -m tests.exercises fault {folder} {number} --answer NAME"]
    return "\n".join(lines), 0


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; 0 is right, 1 not yet, 2 a command that cannot be followed."""
    parser = argparse.ArgumentParser(prog="python -m tests.exercises", description=about)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "check", "fault"):
        commands.add_parser(name).add_argument("folder", type=Path)
    commands.choices["check"].add_argument("name", nargs="?", help="an exercise's number or function")
    commands.choices["fault"].add_argument("number", type=int)
    commands.choices["fault"].add_argument("--answer", metavar="NAME", help="the function that holds the mistake")
    told = vars(parser.parse_args(arguments))
    run = {"start": start, "check": check, "fault": find}[told.pop("command")]
    try:
        text, code = run(**told)
    except (UsageError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
