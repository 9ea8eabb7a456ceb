"""ref/README.md, every gradient by hand, is true to the files that it quotes."""

import ast
import re

import pytest

from tests.by_hand import PAIRS, error_of, printed
from tests.gradients import fail
from tests.page import ARITHMETIC, FILE, RESIDUAL, ROOT, arithmetic, quotations

PAGE = FILE.read_text("utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = sorted((ROOT / "ref").rglob("*.py"))


@pytest.mark.parametrize("file, code", quotations(PAGE), ids=lambda text: text.split("(")[0].split()[-1])
def test_a_quotation_is_the_text_of_its_file(file, code):
    now = f"\n{code}\n" in (ROOT / file).read_text("utf-8")
    assert now, f"{file} has changed: derive it anew in ref/README.md, and quote it there by python -m tests.page"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_backward_pass_is_quoted_and_among_the_pairs(path):
    quoted = "\n".join(code for file, code in quotations(PAGE) if ROOT / file == path)
    module = ".".join(path.relative_to(ROOT / "ref").with_suffix("").parts)
    names = [node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
    for name in names:
        if name.endswith("backward"):
            there = f"def {name}(" in quoted
            assert there, f"{name} of {path.name} has no derivation: derive it and quote it in ref/README.md"
        if name.endswith("_backward"):  # that of the whole network mirrors `forward`
            pair = f"{module}.{name.removesuffix('_backward')}"
            assert pair in {known.partition(",")[0] for known in PAIRS}, f"{pair} is not in tests/by_hand.py"


@pytest.mark.parametrize("pair", PAIRS)
def test_the_residual_of_a_pair_on_the_page_is_that_which_the_command_prints(pair):
    stated = [residual for name, residual in RESIDUAL.findall(PAGE) if name == pair]
    ours = printed(error_of(pair))
    assert len(stated) == 1, f"quote it in ref/README.md: Residual: `{pair}` {ours}."
    if arithmetic() in ARITHMETIC.findall(PAGE):
        right = stated[0] == ours
    else:  # another processor rounds other operations: a residual stays within a few units of the last place
        right = max(float(stated[0]), float(ours)) < 1e-15
    if not right:
        fail(f"{stated[0]} on the page, {ours} here: python -m tests.page writes the residuals anew")


def test_the_page_states_no_residual_of_a_pair_that_is_gone():
    assert {name for name, _ in RESIDUAL.findall(PAGE)} <= {*PAIRS}


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
