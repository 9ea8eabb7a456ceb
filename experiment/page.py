"""report.html: one page that holds everything, its pictures too, and needs no script and no other file."""

import base64
from html import escape
from pathlib import Path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem;
  color: #111; background: #fff }
h1, h2, h3 { line-height: 1.2 }
code { font-size: .85em; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: separate; border-spacing: 0; font-size: .8rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .4rem; border-bottom: 1px solid #ccc; text-align: right; vertical-align: bottom }
td { white-space: nowrap }
th { min-width: 4rem; max-width: 10rem }
th:first-child, td:first-child { text-align: left; font-weight: bold; position: sticky; left: 0; background: #fff }
figure { margin: 1rem 0 2rem; break-inside: avoid }
img { max-width: 100%; height: auto }
figcaption { font-size: .9rem; color: #444 }
@media screen and (max-width: 40rem) { body { padding: .6rem } table { font-size: .8rem }
  th, td { padding: .25rem .4rem }
  figure { overflow-x: auto } img { max-width: 42rem } figcaption { position: sticky; left: 0 } }
@media print { body { max-width: none; font-size: 10pt } table { font-size: 7pt } th, td { padding: .15rem .25rem }
  th { min-width: 0 } .wide { overflow: visible } h2, h3 { break-after: avoid } }
"""

COMPARED = {
    "reconstructions.png": "The same test images under every method, decoded at the mean of q(z|x).",
    "generations.png": "The same draws of z from the prior under every method, beside images of the test set.",
    "rate_distortion.png": "Every method as a point, sweeps and the best linear VAE as curves; lower left is better.",
}
SINGLE = {
    "samples.png": "Decoded draws from the prior, and from the aggregate posterior: where only these look like images, "
    "the two do not agree.",
    "interpolation.png": "From one test image to another along a straight line of z; originals at either end.",
    "traversals.png": "The most active latents, one a row, from −2.5 to 2.5 about the first test image.",
}


def page(result: dict, tables: list, notes: list[str], out: Path, runs: dict[str, Path]) -> str:
    """The whole page; `runs` gives each method's folder."""
    title = escape(f"Objectives for a variational autoencoder on {result['data']}")
    parts = [f"<h1>{title}</h1>", f"<p><code>python {escape(' '.join(result['command']))}</code></p>"]
    for heading, rows in tables:
        parts += [f"<h2>{escape(heading)}</h2>", table(rows)]
    parts += ["<ul>", *(f"<li>{escape(note)}</li>" for note in notes), "</ul>", "<h2>Side by side</h2>"]
    parts += [figure(out / name, caption) for name, caption in COMPARED.items()]
    parts.append("<h2>What the latents do</h2>")
    for name, folder in runs.items():
        parts.append(f"<h3>{escape(name)}</h3>")
        parts += [figure(folder / file, caption) for file, caption in SINGLE.items()]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return "\n".join(
        [
            f'<!DOCTYPE html>\n<html lang="en"><head>{head}<title>{title}</title><style>{STYLE}</style></head><body>',
            *parts,
            "</body></html>\n",
        ]
    )


def table(rows: list[list[str]]) -> str:
    header, *body = ([escape(cell) for cell in row] for row in rows)
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def figure(path: Path, caption: str) -> str:
    """A PNG within the page."""
    data, caption = base64.b64encode(path.read_bytes()).decode(), escape(caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
