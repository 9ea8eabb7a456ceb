"""What most tests of the shell start with."""

from pathlib import Path

import pytest


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own to work in, in which there are no data sets but the embedded ones; no picture is drawn."""
    from tests.shell.undrawn import undrawn  # only now: what it imports asks for the names of the backends

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMING_VAES_DATA", str(tmp_path / "no-data"))
    undrawn(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on the digits."""
    from tests.shell.runs import made
    from tests.shell.undrawn import undrawn

    out = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        made(out)
    return out
