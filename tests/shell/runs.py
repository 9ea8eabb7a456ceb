"""Short runs for the tests of the shell, what their folders hold, and what every refusal has in common."""

import csv
import json
import re
from pathlib import Path

import run
from experiment import choices, sources
from experiment.command_line import of_a_run, parsed
from experiment.defaults import Completed, binarization, complete, defaults_of
from tests.tested import on_command_line

QUICK = ["--data", "digits", "--epochs", "2", "--hidden", "16", "--latent", "4", "--nll-samples", "3"]


def completed(*argv: str, **changed) -> Completed:
    """The run that a command line asks for, with the options that are `changed`; nobody trains it."""
    asked = of_a_run(parsed([*argv])) | changed
    how = {name: asked[name] for name in ("size", "skip_broken", "validation") if name in asked}
    data, images = sources.opened(asked["data"], binarization(asked), **how)
    return complete(asked, data, images)


def chosen(images, method: str = "geco", **given) -> dict:
    """The options of a run on the user's own images, with what is chosen from them."""
    return choices.choose(images, defaults_of({"method": method, "data": "own"}, *images.shape) | given)


def status(*argv) -> int:
    """The exit status of a command, on the backend under test."""
    return run.main([*map(str, argv), *on_command_line()])


def made(out, *options, quick=QUICK) -> dict:
    """The summary of a short run in the folder `out`, on the backend under test."""
    assert status(*quick, *options, "--out", out) == 0
    return json_of(out, "summary.json")


def json_of(out, name: str) -> dict:
    return json.loads(Path(out, name).read_text())


def metrics_of(out) -> list[dict]:
    """The rows of metrics.csv."""
    with open(Path(out, "metrics.csv")) as file:
        return [*csv.DictReader(file)]


def contents(folder) -> dict[Path, bytes]:
    """Every file in a folder and below."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def refused(capsys, argv: list, sentence: str, folder=".") -> str:
    """What a command says that must end with status 2, one sentence on stderr, and nothing written in the folder."""
    capsys.readouterr()
    before = contents(folder)
    assert run.main([*map(str, argv)]) == 2, argv
    out, error = capsys.readouterr()
    assert "|" not in out, out  # no table of figures
    assert error.count("\n") == 1 and error.startswith("run.py: ") and re.search(sentence, error), (argv, error)
    assert contents(folder) == before, argv
    return error


def after_each(monkeypatch, module, name: str, act) -> None:
    """Calls act(*arguments) after each call of a function of the module."""
    function = getattr(module, name)

    def both(*args):
        found = function(*args)
        act(*args)
        return found

    monkeypatch.setattr(module, name, both)
