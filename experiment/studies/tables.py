"""Writes the tables of the READMEs that come from experiment/figures/, where each run has a file.

python -m experiment.studies.tables                         # writes the tables anew
python -m experiment.studies.tables --add runs/mnist-all    # first copies the figures of finished runs to figures/

A table begins with <!-- table: ROWS: COLUMNS --> and ends with <!-- end -->. A row is the name of a run's file without
the seed, as in mnist/geco-kappa4. A column is the name of a figure. The table is mean ± standard deviation over seeds.
"""

import json
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from data import DATASETS
from experiment.comparison import of_the_name, published, symbols
from experiment.evaluation import COLUMNS
from experiment.record import UsageError
from experiment.run_folder import write_json
from experiment.studies.runs import FOLDERS, SETTINGS, command, finished_in, over_seeds, without_network
from ref.objectives import METHODS

ROOT = Path(__file__).parents[2]
FIGURES, PAGES = ROOT / "experiment/figures", (ROOT / "README.md", ROOT / "experiment/README.md")
BLOCK = re.compile(r"(<!-- table: (.+?): (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
HEADINGS = {name: heading for name, (heading, _) in COLUMNS.items()} | {"linear_rate": "linear VAE"}
DECIMALS = {"active_units": 0, "lambda": 3}  # 2 for the other figures
DECIMALS |= dict.fromkeys(("elbo", "linear_rate", "calibrated_elbo", "calibrated_nll"), 1)


def add(folders: Sequence[Path]) -> None:
    """Copies the figures of the finished runs in these folders, and what is known of their images without a network."""
    known = {}  # what without_network returns, by the checksum of the images
    for run in finished_in(folders):
        own, images = run.summary, run.summary["images"]
        if own["data"] not in DATASETS or own["binarize"] == "dynamic" or run.run.images.validation:
            raise UsageError(f"{run.out}: the tables are of named data sets and test images, on pixels that stay")
        if images not in known:
            known[images] = without_network(run)
        mean_image_error, linear_rate = known[images]
        figures = {name: value for name, value in own.items() if name != "seconds"}
        figures |= {"mean_image_error": mean_image_error, "linear_rate": linear_rate(own["error"])}
        path = FIGURES / name_of(own)
        if path.exists() and json.loads(path.read_text("utf-8")) != json.loads(json.dumps(figures)):
            raise UsageError(f"{path} holds other figures than {run.out}; remove the file first")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, figures)


def name_of(run: dict) -> str:
    """The path of a run's figures within figures/."""
    words = [f"{name}{value:g}" for name, value in of_the_name(run["options"], run["samples"]).items()]
    return f"{run['data']}/{'-'.join([run['method'], *words, str(run['seed'])])}.json"


def table(rows: list[str], columns: list[str]) -> str:
    """The table in Markdown. Raises UsageError for unlike runs, and if figures/ has no run of these rows."""
    found = [[json.loads(path.read_text("utf-8")) for path in FIGURES.glob(f"{row}-[0-9]*.json")] for row in rows]
    runs = [*chain(*found)]
    if not runs:
        raise UsageError(f"no run of {' '.join(rows)} is in {FIGURES}")
    for option in SETTINGS:
        if len({str(run[option]) for run in runs} - {"None"}) > 1:
            raise UsageError(f"the runs of one table differ in {option}: {', '.join(rows)}")
    mean_image = dict.fromkeys(("error", "error_at_mean"), runs[0]["mean_image_error"]) | {"rate": 0.0}
    lines = [[runs[0]["data"], *(HEADINGS.get(name, name) for name in columns)], ["---"] * (1 + len(columns))]
    named = {title(seeds[0]): seeds for seeds in found if seeds} | {"the mean image": [mean_image]}
    for name, seeds in named.items():
        lines.append([name, *(cell(seeds, column) for column in columns)])
    source = f"{len(runs)} runs of {runs[0]['epochs']} epochs, from experiment/figures/"
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n*Mean ± standard deviation over seeds: {source}.*"


def title(run: dict) -> str:
    return ", ".join([METHODS[run["method"]].title, *symbols(of_the_name(run["options"], run["samples"]))])


def cell(runs: list[dict], name: str) -> str:
    """Mean ± standard deviation; the slides' figure, which has no seeds; or – for a figure that is not there."""
    if name.startswith("slides"):
        figures = published(runs[0])
        return f"{figures[name]:.2f}" if figures else "–"
    values = [run.get(name) for run in runs]
    return "–" if None in values else over_seeds(values, DECIMALS.get(name, 2), of_mean=False)


def written(page: str) -> str:
    """The page with its tables anew. Raises UsageError for markers that do not end, and by `table`."""
    if page.count("<!-- table") != len(BLOCK.findall(page)):
        raise UsageError("the markers of a table are <!-- table: ROWS: COLUMNS --> and <!-- end -->")

    def block(found: re.Match) -> str:
        return f"{found[1]}{table(found[2].split(), found[3].split())}\n{found[4]}"

    return BLOCK.sub(block, page)


def write(folders: Sequence[Path]) -> str:
    """Adds the figures of the runs in these folders, and writes the pages."""
    add(folders)
    for path in PAGES:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    return f"the tables are those of {FIGURES}"


if __name__ == "__main__":
    raise SystemExit(command(__doc__, write, ("--add", FOLDERS[1] | {"dest": "folders", "default": []})))
