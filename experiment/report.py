"""report.html: figures, warnings and pictures on one page that needs no script and no other file."""

import base64
import json
import re
import shlex
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from PIL import Image

from data.files import write_whole
from experiment import evaluation
from experiment.evaluation import aligned, figures_of, table, upright
from experiment.pictures import parts
from experiment.record import typed

TEMPLATE = Path(__file__).parent / "report.html"
COMPARED = ("reconstructions", "generations", "rate_distortion")
SINGLE = ("curves", "reconstructions", "samples", "interpolations", "traversals", "latents")


def draw_report(out: Path, model, data, rows=()) -> None:
    """The page of a run, of what its folder holds besides."""
    config, summary = (json.loads((out / name).read_text("utf-8")) for name in ("config.json", "summary.json"))
    run, said = model.run, evaluation.warnings(model, data, summary)
    row = {"name": run.objective.title, "seeds": [run.seed], "runs": [str(out)], "warnings": said}
    about = {
        "command": shlex.join(config["command"]),
        "data": data.name,
        "test_images": len(data.test),
        "settings": shlex.join(typed(*option) for option in run.typed.items()),
        "versions": config["versions"],
        "rows": [row],
    }
    lines = upright(table({row["name"]: figures_of([summary])}))
    text = page(about, f"{row['name']} on {data.name}", lines)
    write_whole(out / "report.html", lambda file: file.write(text.encode()))


def page(about: dict, title: str, lines: list[list[str]], out: Path | None = None) -> str:
    """A page on about["rows"]: their table `lines`, and of each row its warnings and the pictures of its first run.

    Of a comparison `out` is the folder, which has pictures of its own.
    """
    before, of_comparison, of_run, after = re.split("<!-- .* -->", TEMPLATE.read_text(encoding="utf-8"))
    rows = about["rows"]
    places = {row["name"]: f"run-{i}" for i, row in enumerate(rows)}
    said = {"data": escape(about["data"]), "test_images": about["test_images"]}
    said |= {name: words(about[name].split(" ")) for name in ("command", "settings")}
    said["versions"] = escape("; ".join(f"{name} {version}" for name, version in about["versions"].items()))
    links = [("figures", "Figures"), *([("compared", "Side by side")] if out else [])]
    links += [(place, name) for name, place in places.items()]
    said["contents"] = " · ".join(f'<a href="#{place}">{unbroken(name)}</a>' for place, name in links)
    said["warnings"] = "\n".join(warned(row, places[row["name"]]) for row in rows)
    said |= {"title": escape(title), "table": cells(lines, places)}
    body = [Template(before).substitute(said)]
    body += [Template(of_comparison).substitute(said, **embedded(out, COMPARED))] if out else []
    for row in rows:
        own = {"name": escape(row["name"]), "place": places[row["name"]], "seed": row["seeds"][0]}
        body.append(Template(of_run).substitute(own, **embedded(Path(row["runs"][0]), SINGLE)))
    return "".join([*body, after])


def cells(lines: list[list[str]], places: dict[str, str]) -> str:
    """A table, whose rows link to the places of their names, and whose spreads stand below their means."""
    (_, *headings), *body = lines
    found = ["<tr><th></th>" + "".join(f"<th>{escape(name)}</th>" for name in headings) + "</tr>"]
    for name, *line in body:
        link = f'<a href="#{places[name]}">{unbroken(name)}</a>' if name in places else unbroken(name)
        line = [escape(cell).replace(" ±", "<br>±") for cell in line]
        found.append(f"<tr><td>{link}</td><td>{'</td><td>'.join(line)}</td></tr>")
    return "\n".join(found)


def warned(row: dict, place: str) -> str:
    """The warnings of a row's runs."""
    link = f'<a href="#{place}">{unbroken(row["name"])}</a>'
    return "\n".join(f'<p class="warning">{link}: {escape(sentence)}</p>' for sentence in row["warnings"])


def unbroken(name: str) -> str:
    """A name in HTML that breaks between its parts alone."""
    return words(parts(name))


def words(found: Sequence[str]) -> str:
    """Words in HTML, within which no line breaks."""
    return " ".join(f"<span>{escape(word)}</span>" for word in found)


def for_terminal(lines: list[list[str]]) -> str:
    """A table with a column for each row of `lines`, where that is no wider than the terminal, or else as it is.

    The options of a name stand below it.
    """
    names = [[part.removesuffix(",") for part in parts(line[0])] for line in lines]
    deepest = max(map(len, names))
    padded = [name + [""] * (deepest - len(name)) + line[1:] for name, line in zip(names, lines, strict=True)]
    text = aligned(upright(padded))
    return text if text.index("\n") <= shutil.get_terminal_size().columns else aligned(lines)


def embedded(folder: Path, names: Sequence[str]) -> dict[str, str | int]:
    """PNGs within a page, by name, and how wide it shows them; an empty source for one that the folder lacks."""
    found = {}
    for name in names:
        path = folder / f"{name}.png"
        content, width = path.read_bytes() if path.exists() else b"", 0
        if content:
            with Image.open(path) as image:  # of version 0.2 a sheet has 100 pixels to an inch and does not say so
                width = round(100 * image.width / image.info.get("dpi", (100, 100))[0])
        found |= {name: f"data:image/png;base64,{base64.b64encode(content).decode()}", f"{name}_width": width}
    return found
