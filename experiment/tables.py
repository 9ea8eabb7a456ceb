"""The tables of a comparison and what their columns mean."""

FIGURES = {  # key in summary.json: heading and decimals
    "rate": ("rate", 2),
    "distortion": ("distortion, z sampled", 3),
    "marginal_kl": ("marginal KL, KL(q(z)‖p(z))", 3),
    "mutual_information": ("mutual information", 3),
    "elbo": ("ELBO", 2),
    "nll": ("NLL", 2),
    "active_units": ("active units", 1),
    "mig": ("MIG", 3),
    "lambda": ("λ", 3),
    "seconds": ("seconds", 1),
}
# Of summary.json but in no column of comparison.md.
OTHERS = ("distortion_at_mean", "nll_standard_error", "information_standard_error", "mutual_information_ceiling")


def tables(result: dict) -> list[tuple[str, list[list[str]]]]:
    """The tables, each a heading and its rows of cells, the first of which names the columns."""
    rows = list(result["methods"].values())
    shown = [key for key in FIGURES if any(row["figures"][key] for row in rows)]
    columns = ["", *(FIGURES[key][0] for key in shown)]
    honest = [[row["title"], *cells(row, shown)] for row in rows]
    swept = [
        [f"{curve['title']}, --{name} {point['value']:g}", *cells(point, shown)]
        for name, curve in result["sweeps"].items()
        for point in curve["points"]
    ]
    named = [("By the slides' definitions", by_the_slides(result)), ("As rate and distortion", [columns, *honest])]
    return named + ([(f"Sweeps, seed {result['seeds'][0]}", [columns, *swept])] if swept else [])


def by_the_slides(result: dict) -> list[list[str]]:
    """Their two columns by their definitions, each beside their numbers."""
    kl, err = "KL(q(z|x)‖p(z)), the slides' “Marginal KL”", "squared error at the mean, the slides' “Reconstruction”"
    lines = [["", kl, "the slides", err, "the slides"]]
    for row in result["methods"].values():
        theirs = [f"{number:.4f}" for number in row["slides"] or ()] or ["–", "–"]
        ours = [cell(row["figures"][key], 4) for key in ("rate", "distortion_at_mean")]
        lines.append([row["title"], ours[0], theirs[0], ours[1], theirs[1]])
    return [*lines, ["the mean image", "0", "–", f"{result['mean_image']['distortion']:.4f}", "–"]]


def cells(row: dict, shown: list[str]) -> list[str]:
    return [cell(row["figures"][key], FIGURES[key][1]) for key in shown]


def cell(figure: dict | None, decimals: int) -> str:
    """Mean ± standard deviation."""
    if figure is None:
        return "–"
    error = "" if figure["std"] is None else f" ± {figure['std']:.{decimals}f}"
    return f"{figure['mean']:.{decimals}f}{error}"


def notes(result: dict) -> list[str]:
    """What the columns mean, sentence by sentence."""

    def largest(name: str) -> float:
        return max(r["figures"][name]["mean"] for r in result["methods"].values())

    seeds = ", ".join(map(str, result["seeds"]))
    over = f"mean ± standard deviation over the seeds {seeds}" if len(result["seeds"]) > 1 else f"seed {seeds}"
    return [
        f"{result['test_images']} test images; {over}. Rate, KL, information, ELBO and NLL in nats an image, errors in "
        "squared error an image, pixels in [0, 1].",
        "What the slides call “Marginal KL” is the rate, the average of KL(q(z|x)‖p(z)) over images. The marginal KL "
        "is KL(q(z)‖p(z)), q(z) the average of q(z|x) over the test images; the rate is the sum of it and of the "
        f"mutual information I(x;z), which cannot exceed log N = {largest('mutual_information_ceiling'):.2f}. "
        f"Monte Carlo standard error of both: at most {largest('information_standard_error'):.1g}.",
        "The slides' error is the one at the mean of q(z|x), but their rate pays for samples of q(z|x): the pair is no "
        "rate–distortion point. Rate and distortion with z sampled are.",
        "The mean image of the training set needs no latents: 0 nats.",
        f"ELBO at β = 1 whatever was trained; NLL by importance sampling with {result['nll_samples']} samples "
        f"(standard error over images at most {largest('nll_standard_error'):.2g}). GECO + IWAE holds its constraint "
        "under the importance-weighted posterior; its distortion here is under q(z|x).",
        "Seconds are those of training, beside other runs on the same machine unless made with --jobs 1.",
    ]


def markdown(result: dict) -> str:
    """comparison.md"""
    lines = [
        f"# Objectives for a variational autoencoder on {result['data']}",
        "",
        f"`python {' '.join(result['command'])}`",
    ]
    for heading, rows in tables(result):
        cells = [[text.replace("|", "\\|") for text in line] for line in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ["-" * (width - 1) + ":" for width in widths])
        padded = [[text.rjust(width) for text, width in zip(line, widths, strict=True)] for line in cells]
        lines += ["", f"## {heading}", "", *("| " + " | ".join(line) + " |" for line in padded)]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(result)), ""])
