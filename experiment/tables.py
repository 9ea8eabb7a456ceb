"""What a comparison says: a list of blocks, each a kind and its content, that page.py lays out."""

from pathlib import Path

from experiment.options import said

FIGURES = {  # key in summary.json: heading and decimals
    "rate": ("rate", 2),
    "distortion": ("distortion, z sampled", 3),
    "distortion_at_mean": ("distortion, z at the mean", 3),
    "marginal_kl": ("marginal KL, KL(q(z)‖p(z))", 3),
    "mutual_information": ("mutual information", 3),
    "elbo": ("ELBO", 2),
    "nll": ("NLL", 2),
    "active_units": ("active units", 0),
    "mig": ("MIG", 3),
    "lambda": ("λ", 3),
    "seconds": ("seconds", 0),
}
# Of summary.json but in no column.
OTHERS = ("constraint", "nll_standard_error", "information_standard_error", "mutual_information_ceiling")
# Kuzina, Prokopenko & Shumovskaia 2018: their "Marginal KL" and "Reconstruction loss".
SLIDES = {
    "mnist": {"vae": (1.5813, 55.8484), "beta-vae": (10.5938, 15.1434), "geco": (10.4975, 14.6269)}
    | {"geco-iwae": (1.3640, 12.9214)},
    "cifar10": {"vae": (31.9662, 77.6570), "beta-vae": (59.4998, 57.9653), "geco": (383.0849, 11.4413)},
}
COMPARED = {
    "reconstructions.png": "The same test images under every run, decoded at the mean of q(z|x).",
    "generations.png": "The same draws of z from the prior under every run. The images of the test set above them "
    "are no targets: they show what a draw should look like.",
    "rate_distortion.png": "Every run as a point, beside the best linear VAE; lower left is better.",
}
SINGLE = {
    "curves.png": "Training: each report on its batches, the mean of an epoch, and test images at the end of an epoch.",
    "samples.png": "Decoded draws from the prior, and from the aggregate posterior: where only these look like images, "
    "the two do not agree.",
    "latents.png": "The means of q(z|x) of test images in their two leading principal directions.",
    "interpolation.png": "From one test image to another along a straight line of z; originals at either end.",
    "traversals.png": "The most active latents, one a row, from −2.5 to 2.5 about the first test image.",
}
KEPT = 0.05  # of κ²: the constraint counts as held on the test images up to so much beyond

Block = tuple[str, object]


def report(result: dict) -> list[Block]:
    """The verdict, how the runs were made, the tables, and what their columns mean."""
    versions = "; ".join(f"{name} {version}" for name, version in result["versions"].items())
    blocks: list[Block] = [
        ("title", f"Objectives for a variational autoencoder on {result['data']}"),
        ("text", " ".join(verdict(result["rows"]))),
        ("code", f"python {' '.join(result['command'])}"),
        ("text", f"All of them: {result['settings']}. {versions}."),
        ("heading", "Rate, distortion and likelihood"),
        ("table", figures_table(result)),
    ]
    if any(row["slides"] for row in result["rows"]):
        blocks += [("heading", "By the slides' definitions"), ("table", slides_table(result))]
    return [*blocks, ("list", notes(result))]


def appendix(result: dict, out: Path) -> list[Block]:
    """The pictures: of all the runs, and then of each, the first seed's."""
    blocks: list[Block] = [("heading", "Side by side")]
    blocks += [("picture", (out / name, caption)) for name, caption in COMPARED.items()]
    for row in result["rows"]:
        blocks.append(("heading", f"{named(row)}, seed {row['seeds'][0]}"))
        blocks += [("picture", (Path(row["runs"][0], file), caption)) for file, caption in SINGLE.items()]
    return blocks


def named(row: dict, between: str = ", ") -> str:
    """The title of a row's method and the options that tell it from others."""
    told = " ".join(said(name, value) for name, value in row["options"].items())
    return f"{row['title']}{between}{told}" if told else row["title"]


def mean(row: dict, name: str) -> float:
    return row["figures"][name]["mean"]


def verdict(rows: list[dict]) -> list[str]:
    """What the figures decide, in a sentence each: likelihood, rate and distortion, the constraint."""
    sentences = []
    density = [name for row in rows for name in row["options"] if name in ("likelihood", "variance", "binarize")]
    if density:
        sentences.append(f"The likelihoods are not comparable: the runs differ in --{density[0]}.")
    elif len(rows) > 1:
        best, second = sorted(rows, key=lambda row: mean(row, "nll"))[:2]
        gap, error = mean(second, "nll") - mean(best, "nll"), mean(best, "nll_standard_error")
        within = ", within that error" if gap < error else ""
        sentences.append(
            f"{named(best)} has the lowest NLL, {mean(best, 'nll'):.2f} ± {error:.2f} nats an image; {named(second)} "
            f"follows at {gap:.2f} nats{within}."
        )
    beaten = [f"{named(row)} (by {named(by[0])})" for row in rows if (by := [o for o in rows if dominates(o, row)])]
    if beaten:
        sentences.append(f"Beaten in both rate and distortion: {', '.join(beaten)}.")
    elif len(rows) > 1:
        sentences.append("No run beats another in both rate and distortion: each is another trade-off.")
    excess = {named(row): mean(row, "constraint") / row["kappa"] ** 2 for row in rows if row["kappa"] is not None}
    for word, kept in (("holds", True), ("is broken", False)):
        if found := [f"{name} ({share:+.1%})" for name, share in excess.items() if (share <= KEPT) == kept]:
            sentences.append(f"On test images the constraint {word}, as a share of κ²: {', '.join(found)}.")
    return sentences


def dominates(a: dict, b: dict) -> bool:
    """Whether one row has both the lower rate and the lower distortion."""
    return all(mean(a, name) < mean(b, name) for name in ("rate", "distortion"))


def figures_table(result: dict) -> list[list[str]]:
    """Every figure of every row, and the mean image's."""
    rows = result["rows"]
    shown = [key for key in FIGURES if any(row["figures"][key] for row in rows)]
    lines = [["", "seeds", *(FIGURES[key][0] for key in shown)]]
    for row in rows:
        cells = [cell(row["figures"][key], FIGURES[key][1]) for key in shown]
        lines.append([named(row), ", ".join(map(str, sorted(row["seeds"]))), *cells])
    error = f"{result['mean_image']['distortion']:.3f}"
    mean_image = {"rate": "0", "distortion": error, "distortion_at_mean": error}
    return [*lines, ["the mean image", "–", *(mean_image.get(key, "–") for key in shown)]]


def slides_table(result: dict) -> list[list[str]]:
    """Their two columns by their definitions, each beside their numbers."""
    kl, err = "KL(q(z|x)‖p(z)), the slides' “Marginal KL”", "squared error at the mean, the slides' “Reconstruction”"
    lines = [["", kl, "the slides", err, "the slides"]]
    for row in result["rows"]:
        theirs = [f"{number:.4f}" for number in row["slides"] or ()] or ["–", "–"]
        ours = [cell(row["figures"][key], 4) for key in ("rate", "distortion_at_mean")]
        lines.append([named(row), ours[0], theirs[0], ours[1], theirs[1]])
    return lines


def cell(figure: dict | None, decimals: int) -> str:
    """Mean ± standard deviation; a mean over several counts has a decimal."""
    if figure is None:
        return "–"
    if figure["std"] is None:
        return f"{figure['mean']:.{decimals}f}"
    return f"{figure['mean']:.{decimals or 1}f} ± {figure['std']:.{decimals or 1}f}"


def notes(result: dict) -> list[str]:
    """What the columns mean, sentence by sentence."""
    rows = result["rows"]

    def largest(name: str) -> float:
        return max(mean(row, name) for row in rows)

    repeated = "; mean ± standard deviation over the seeds" if any(len(row["seeds"]) > 1 for row in rows) else ""
    found = [
        f"{result['test_images']} test images{repeated}. Rate, KL, information, ELBO and NLL in nats an image, errors "
        "in squared error an image, pixels in [0, 1].",
        "The rate is the average of KL(q(z|x)‖p(z)) over images. The marginal KL is KL(q(z)‖p(z)), q(z) the average of "
        "q(z|x) over the test images. The rate is the sum of the marginal KL and the mutual information I(x;z), which "
        f"cannot exceed log N = {largest('mutual_information_ceiling'):.2f}. "
        f"Monte Carlo standard error of both: at most {largest('information_standard_error'):.1g}.",
        "The mean image of the training set needs no latents: 0 nats.",
        "ELBO at β = 1 whatever was trained; NLL by importance sampling (standard error over images at most "
        f"{largest('nll_standard_error'):.2g}). A constraint under the importance-weighted posterior is no constraint "
        "on the distortion here, which is under q(z|x).",
        "Seconds are those of training, beside other runs on the same machine unless made with --jobs 1.",
    ]
    if any(row["slides"] for row in rows):
        found.append(
            "What the slides call “Marginal KL” is the rate, and their error is the one at the mean of q(z|x). Their "
            "rate pays for samples of q(z|x), so their pair is no rate–distortion point."
        )
    return found
