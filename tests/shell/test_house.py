"""The rules of the house that a program can check."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {
    path.relative_to(ROOT): path.read_text()
    for folder in ("ref", "backend", "data", "experiment", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
} | {Path("run.py"): (ROOT / "run.py").read_text()}
REF = {path: text for path, text in SOURCES.items() if path.parts[0] == "ref"}


def test_ruff_is_content():
    for command in (["check"], ["format", "--check"]):
        result = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


def test_ref_imports_the_standard_library_and_itself_only():
    for path, text in REF.items():
        for node in ast.walk(ast.parse(text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            own = {"numpy"} if path.name == "one_file.py" else {"ref"}  # which is the whole by itself
            assert all(name.split(".")[0] in {*own, *sys.stdlib_module_names} for name in names), (path, names)


def test_every_module_has_a_docstring_and_in_ref_every_function():
    missing = []
    for path, text in SOURCES.items():
        tree = ast.parse(text)
        named = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and path in REF]
        missing += [f"{path}: {node}" for node in (tree, *named) if text and not ast.get_docstring(node)]
    assert not missing


def test_nothing_but_the_table_of_methods_names_a_method_and_nothing_unpickles():
    for path, text in SOURCES.items():
        if path in REF and path.name not in ("objectives.py", "__init__.py"):
            assert not re.search(r"[\"'](vae|beta-vae|geco|iwae|dreg|geco-iwae|numpy|cupy)[\"']", text), path
        if path.parts[0] != "tests":
            assert "allow_pickle=True" not in text and "import pickle" not in text, path


def test_ci_runs_the_test_command_of_the_readme():
    *_, command, optional, _, _, slow = (ROOT / ".ci/run").read_text().rstrip().splitlines()
    assert command.endswith("-m pytest")
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert optional.endswith("-r tests/optional.txt") and slow.endswith("-m pytest -m slow")


def test_without_autograd_what_needs_it_is_skipped_with_the_reason_and_the_rest_runs(tmp_path):
    (tmp_path / "autograd.py").write_text("raise ImportError('hidden')")
    tests = ["tests/mathematics/test_exercises.py", "tests/mathematics/test_gradients.py", "tests/test_budget.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-k", "every_room", *tests]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and "1 passed" in done.stdout and "2 skipped" in done.stdout
    assert "needs autograd: pip install" in done.stdout
