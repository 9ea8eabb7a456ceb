"""What a comparison says: a table on the terminal, and all of it on one page, report.html."""

import base64
from html import escape
from pathlib import Path
from string import Template

from experiment.evaluation import figures_of, table

COMPARED = {
    "reconstructions.png": "The same test images under every run, decoded at the mean of q(z|x).",
    "generations.png": "The same draws of z from the prior under every run; the test images above them are no targets.",
    "rate_distortion.png": "Every run as a point, beside the best linear VAE; lower left is better.",
}
SINGLE = {
    "curves.png": "Training: each report on its batches, the mean of an epoch, and test images at the end of an epoch.",
    "samples.png": "Decoded draws from the prior, and from the aggregate posterior.",
    "latents.png": "The means of q(z|x) of test images in their two leading principal directions.",
    "traversals.png": "The most active latents, one a row, from −2.5 to 2.5 about the first test image.",
}
LEGEND = """The rate is the average of KL(q(z|x)‖p(z)) over the test images. The error is ‖x − x̂(z)‖², z sampled from
q(z|x), or at its mean. The rate is the sum of the marginal KL, KL(q(z)‖p(z)) with q(z) the average of q(z|x), and the
mutual information I(x;z), which cannot exceed the logarithm of the number of images. The ELBO is at β = 1 whatever was
trained, the NLL by importance sampling, with its standard error over images. NLLs compare only under the same
likelihood, variance and binarization. C is the constraint. Rate, KL, information, ELBO and NLL are in nats an image,
errors in squared error an image, pixels in [0, 1]. The mean image of the training set needs no latents. What the slides
of Kuzina et al. call “Marginal KL” is the rate, and their error is the one at the mean of q(z|x): such a pair is no
rate–distortion point."""
PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))


def lines_of(result: dict) -> list[list[str]]:
    """The table of a comparison: every figure of every row, and the mean image's."""
    mean_image = result["mean_image"] | {"error_at_mean": result["mean_image"]["error"]}
    return table({row["name"]: row["figures"] for row in result["rows"]} | {"the mean image": figures_of([mean_image])})


def page(result: dict, out: Path) -> str:
    """The comparison as one page that needs no script and no other file; of each row the first run's pictures."""
    header, *body = ([escape(cell) for cell in line] for line in lines_of(result))
    cells = [f"<tr><th>{'</th><th>'.join(header)}</th></tr>"]
    cells += [f"<tr><td>{'</td><td>'.join(line)}</td></tr>" for line in body]
    pictures = [figure(out / name, caption) for name, caption in COMPARED.items()]
    for row in result["rows"]:
        pictures.append(f"<h2>{escape(row['name'])}, seed {row['seeds'][0]}</h2>")
        pictures += [figure(Path(row["runs"][0], name), caption) for name, caption in SINGLE.items()]
    said = {
        "title": f"Objectives for a variational autoencoder on {result['data']}",
        "command": f"python {result['command']}",
        "settings": result["settings"],
        "versions": "; ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "test_images": str(result["test_images"]),
        "legend": LEGEND,
    }
    plain = {name: escape(words) for name, words in said.items()}
    return PAGE.substitute(plain, table="\n".join(cells), pictures="\n".join(pictures))


def figure(path: Path, caption: str) -> str:
    """A PNG within the page; nothing for a picture that a run does not have."""
    if not path.exists():
        return ""
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>'
