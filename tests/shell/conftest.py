"""What most tests of the shell start with."""

import pytest

from tests.shell.undrawn import undrawn


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own to work in, in which there are no data sets but the embedded ones; no picture is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMING_VAES_DATA", str(tmp_path / "no-data"))
    undrawn(monkeypatch)
