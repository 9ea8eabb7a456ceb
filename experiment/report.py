"""report.html: figures, warnings and pictures on one page that needs no script and no other file."""

import base64
import json
import re
import shlex
import shutil
from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path
from string import Template

from PIL import Image

from data.files import write_whole
from experiment.evaluation import aligned, figures_of, table, warnings
from experiment.record import IN_MEMORY, typed
from experiment.run_folder import PICTURES

TEMPLATE = Path(__file__).parent / "report.html"
BREAKS = re.compile("(?<=,) | (?=--)")  # where a row's name or a command may break: between its parts
COMPARED = ("reconstructions.png", "generations.png", "rate_distortion.png")


def draw_report(out: Path, model, data, summary: dict) -> None:
    """The page of a run, made of its summary, config.json and the pictures in its folder."""
    config = json.loads((out / "config.json").read_text("utf-8"))
    run, name, said = model.run, model.run.objective.title, warnings(model, data, summary)
    about = {
        "command": shlex.join(["python", *config["command"]]),
        "data": data.name,
        "test_images": len(data.test),
        "settings": shlex.join(typed(*option) for option in run.typed.items()),
        "versions": config["versions"],
        "rows": [{"name": name, "seeds": [run.seed], "runs": [str(out)], "warnings": said}],
    }
    if f"--data={IN_MEMORY}" in config["command"]:
        about["command"] = "experiment.fit(images, …) in Python, with these settings"
    text = page(about, f"{name} on {data.name}", [*zip(*table({name: figures_of([summary])}), strict=True)])
    write_whole(out / "report.html", lambda file: file.write(text.encode()))


def page(about: dict, title: str, lines: Sequence[Sequence[str]], out: Path | None = None) -> str:
    """A page on about["rows"]: their table `lines`, warnings and first runs. A comparison has pictures in `out`."""
    before, of_comparison, of_run, after = re.split("<!-- .* -->", TEMPLATE.read_text(encoding="utf-8"))
    links, sentences, sections = {}, [], []
    for place, row in enumerate(about["rows"]):
        links[row["name"]] = link = f'<a href="#run-{place}">{unbroken(row["name"])}</a>'
        sentences += [f'<p class="warning">{link}: {escape(sentence)}</p>' for sentence in row["warnings"]]
        own = {"name": escape(row["name"]), "place": place, "seed": row["seeds"][0]}
        sections.append(Template(of_run).substitute(own, **embedded(row["runs"][0], PICTURES)))
    contents = [*links.values()]
    if out:
        contents.insert(0, '<a href="#compared">Side by side</a>')
        sections.insert(0, Template(of_comparison).substitute(embedded(out, COMPARED)))
    head = Template(before).substitute(
        title=escape(title),
        contents=" · ".join(contents),
        command=unbroken(about["command"]),
        settings=unbroken(about["settings"]),
        versions=escape("; ".join(f"{name} {version}" for name, version in about["versions"].items())),
        test_images=about["test_images"],
        data=escape(about["data"]),
        table=cells(lines, links),
        warnings="\n".join(sentences),
    )
    return "".join([head, *sections, after])


def cells(lines: Sequence[Sequence[str]], links: dict[str, str]) -> str:
    """A table. A name that has a link becomes the link; a spread stands below its mean."""
    found = []
    for name, *line in lines:
        line = [escape(cell).replace(" ±", "<br>±") for cell in line]
        found.append("</td><td>".join([links.get(name, unbroken(name)), *line]))
    head, *body = (f"<tr><td>{row}</td></tr>" for row in found)
    return "\n".join([head.replace("td>", "th>"), *body])


def unbroken(text: str) -> str:
    """A name or a command in HTML that breaks between its parts alone."""
    return " ".join(f"<span>{escape(part)}</span>" for part in BREAKS.split(text))


def for_terminal(lines: list[list[str]]) -> str:
    """A table with a column for each row of `lines`, where that is no wider than the terminal, or else as it is."""
    names = [[part.removesuffix(",") for part in BREAKS.split(line[0])] for line in lines]
    figures = zip(*(line[1:] for line in lines), strict=True)
    text = aligned([*zip_longest(*names, fillvalue=""), *figures])  # a name's options stand below it
    return text if text.index("\n") <= shutil.get_terminal_size().columns else aligned(lines)


def embedded(folder: str | Path, names: Sequence[str]) -> dict[str, str | int]:
    """PNGs within a page, by name, and how wide it shows them; an empty source for one that the folder lacks."""
    found = {}
    for name in names:
        path, content, width = Path(folder, name), b"", 0
        if path.exists():
            content = path.read_bytes()
            with Image.open(path) as image:  # a sheet of version 0.2 does not say its 100 pixels an inch
                width = round(100 * image.width / image.info.get("dpi", (100, 100))[0])
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        found |= {path.stem: source, f"{path.stem}_width": width}
    return found
