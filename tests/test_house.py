"""The rules of the house that a program can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("ref", "backend", "data", "experiment", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command):
    result = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "ref").glob("*.py")), ids=lambda path: path.name)
def test_ref_imports_the_standard_library_and_itself_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in {"ref", *sys.stdlib_module_names} for name in names), names


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "run.py"], ids=lambda path: path.name)
def test_public_functions_have_docstrings(path):
    if path.parent.name == "tests":
        assert ast.get_docstring(ast.parse(path.read_text()))
        return
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and path.parent.name == "ref":
            assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_nothing_but_the_table_of_methods_names_a_method_and_nothing_unpickles():
    for path in [*SOURCES, ROOT / "run.py"]:
        text = path.read_text()
        if path.parent.name == "ref" and path.name not in ("objectives.py", "__init__.py"):
            assert not re.search(r"[\"'](vae|beta-vae|geco|iwae|geco-iwae|numpy|cupy)[\"']", text), path
        if path.parent.name != "tests":
            assert "allow_pickle=True" not in text and "import pickle" not in text, path


def test_ci_runs_the_test_command_of_the_readme():
    command = (ROOT / ".ci/run").read_text().rstrip().splitlines()[-1]
    assert command.endswith("-m pytest") and command in (ROOT / "README.md").read_text().splitlines()
