"""What ref/README.md quotes and states; `python -m tests.page` brings it up to date."""

import ast
import hashlib
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.by_hand import error_of, printed
from tests.tested import NAME

ROOT = Path(__file__).parents[1]
FILE = ROOT / "ref/README.md"
# A paragraph that begins with a link to a file of ref/, or a fenced piece of Python.
PIECE = re.compile(r"^\[`(?P<file>ref/\S+\.py)`\]|^```python\n(?P<code>.*?)\n```$", re.MULTILINE | re.DOTALL)
RESIDUAL = re.compile(r"`(?P<pair>[\w., ]+)` (?P<residual>0|\d\.\de-\d\d)\b")
ARITHMETIC = re.compile(r"(?<=<!-- residuals of arithmetic )\w+(?= -->)")
DEFINED = re.compile(r" *(?:def|class) (\w+)")


def arithmetic() -> str:
    """A name of how the backend under test rounds here: equal names have equal residuals."""
    a = np.random.default_rng(0).normal(size=(40, 40))
    found = [np.exp(a), np.log(np.abs(a)), np.tanh(a), a @ a, a[:3, :7] @ a[:7, :5], a.sum(axis=0), a.sum(axis=1)]
    versions = f"{NAME} {version('numpy')} {version('autograd')}"
    return hashlib.sha256(versions.encode() + b"".join(array.tobytes() for array in found)).hexdigest()[:12]


def quotations(page: str) -> list[tuple[str, str]]:
    """Every piece of Python on the page, behind the file that the page named last."""
    found, file = [], None
    for piece in PIECE.finditer(page):
        file = piece["file"] or file
        if piece["code"]:
            found.append((file, piece["code"]))
    return found


def definitions(text: str) -> dict[str, str]:
    """The source of each function and class by name, with its decorators."""
    found, lines = {}, text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def present(file: str, code: str) -> str:
    """The functions that a quotation begins with, as they now stand in the file."""
    sources = definitions((ROOT / file).read_text("utf-8"))
    indent = re.match(" *", code)[0]
    found = [DEFINED.match(line) for line in code.splitlines() if not line.startswith(f"{indent} ")]
    return "\n\n\n".join(sources[name[1]] for name in found if name)


def main() -> None:
    page = FILE.read_text("utf-8")
    for file, code in quotations(page):
        page = page.replace(f"```python\n{code}\n```", f"```python\n{present(file, code)}\n```")
    page = RESIDUAL.sub(lambda found: f"`{found['pair']}` {printed(error_of(found['pair']))}", page)
    FILE.write_text(ARITHMETIC.sub(arithmetic(), page), "utf-8")


if __name__ == "__main__":
    main()
