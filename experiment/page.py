"""A comparison's blocks as Markdown, and as one HTML page that needs no script and no other file."""

import base64
import re
from html import escape
from pathlib import Path

from experiment.tables import Block

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem;
  color: #111; background: #fff }
h1, h2 { line-height: 1.2 }
li, code { overflow-wrap: anywhere }
code { font-size: .85em }
.wide { overflow-x: auto }
span { white-space: nowrap }
table { border-collapse: separate; border-spacing: 0; font-size: .8rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .4rem; border-bottom: 1px solid #ccc; text-align: right; vertical-align: bottom }
td { white-space: nowrap }
th { min-width: 4rem; max-width: 10rem }
th:first-child, td:first-child { text-align: left; font-weight: bold; position: sticky; left: 0; background: #fff;
  white-space: normal; min-width: 6rem }
figure { margin: 1rem 0 2rem; break-inside: avoid }
img { max-width: 100%; height: auto }
figcaption { font-size: .9rem; color: #444 }
@media screen and (max-width: 40rem) { body { padding: .6rem } th, td { padding: .25rem .4rem }
  figure { overflow-x: auto } img { max-width: 42rem } figcaption { position: sticky; left: 0 } }
@media print { body { max-width: none; font-size: 10pt } table { font-size: 7pt } th, td { padding: .15rem .25rem }
  th { min-width: 0 } .wide { overflow: visible } h2 { break-after: avoid } }
"""


def markdown(blocks: list[Block]) -> str:
    """The blocks, but for pictures, as Markdown."""
    forms = {
        "title": lambda text: f"# {text}",
        "heading": lambda text: f"## {text}",
        "text": lambda text: text,
        "code": lambda text: f"`{text}`",
        "list": lambda items: "\n".join(f"- {item}" for item in items),
        "table": aligned,
    }
    return "\n\n".join(forms[kind](content) for kind, content in blocks) + "\n"


def aligned(rows: list[list[str]]) -> str:
    """A table whose columns are as wide as their widest cell."""
    cells = [[text.replace("|", "\\|") for text in line] for line in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * (width - 1) + ":" for width in widths])
    padded = [[text.rjust(width) for text, width in zip(line, widths, strict=True)] for line in cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def html(blocks: list[Block]) -> str:
    """The blocks as one page, pictures inside."""
    forms = {
        "title": lambda text: f"<h1>{inline(text)}</h1>",
        "heading": lambda text: f"<h2>{inline(text)}</h2>",
        "text": lambda text: f"<p>{inline(text)}</p>",
        "code": lambda text: f"<p><code>{escape(text)}</code></p>",
        "list": lambda items: "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ul>",
        "table": table,
        "picture": lambda content: figure(*content),
    }
    title = escape(next(str(content) for kind, content in blocks if kind == "title"))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    parts = [
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<title>{title}</title><style>{STYLE}</style></head><body>',
        *(forms[kind](content) for kind, content in blocks),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def inline(text: str) -> str:
    """Text whose options stay in one piece."""
    return re.sub(r"--[^\s,]+( [\d.]+)?", r"<span>\g<0></span>", escape(text))


def table(rows: list[list[str]]) -> str:
    """A table that scrolls sideways where it is wider than the page."""
    header, *body = ([inline(cell) for cell in row] for row in rows)
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def figure(path: Path, caption: str) -> str:
    """A PNG within the page; nothing for a picture that a run does not have."""
    if not path.exists():
        return ""
    data, caption = base64.b64encode(path.read_bytes()).decode(), escape(caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
