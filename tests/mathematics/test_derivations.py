"""ref/README.md, every gradient by hand, is true to the files that it quotes."""

import ast
import re

import pytest

from tests import page
from tests.by_hand import PAIRS
from tests.page import ROOT, quotations

PAGE = page.FILE.read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = sorted((ROOT / "ref").rglob("*.py"))


@pytest.mark.parametrize("file, code", quotations(PAGE), ids=lambda text: text.split("(")[0].split()[-1])
def test_a_quotation_is_the_text_of_its_file(file, code):
    assert f"\n{code}\n" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_backward_pass_is_quoted(path):
    quoted = "\n".join(code for file, code in quotations(PAGE) if ROOT / file == path)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.endswith("backward"):
            assert f"def {node.name}(" in quoted, node.name


def test_every_pair_has_its_residual_there():
    stated = page.RESIDUAL.findall(PAGE)
    assert sorted(name for name, _ in stated) == sorted(PAIRS)
    assert all(float(residual) < 1e-15 for _, residual in stated)


def test_every_link_of_the_page_leads_somewhere():
    headings = re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(([^)]+)\)", PROSE):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / "ref" / link).exists(), link


def test_the_formulas_are_those_that_github_renders():
    assert "$" not in re.sub(r"\$`[^`\n]+`\$", "", PROSE)
    assert not re.search(r"\\(operatorname|mbox|phantom|newcommand)\b", PAGE)
