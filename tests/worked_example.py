"""`python -m tests.worked_example`: one pixel, one latent, one unit; every arrow of the graph with its value.

The graph is that of ref/README.md. The objective is GECO; "–" is sent where its loss has no such term.
"""

import re

import numpy as np

from ref import densities as de
from ref import mlp, vae
from ref.objectives import Now, geco_backward
from tests.page import FILE

MODEL = vae.Model(mlp, (1,), 1, "tanh", True, "gaussian", 0.5, center=np.array([0.5]))
X, EPS, NOW = np.array([[0.9]]), np.array([[[0.5]]]), Now(lam=3.0, target=0.01)
# The encoder's W0, b0, W1 and b1 for mean and log_std; the decoder's W0, b0, W1, b1.
ENCODER = 6
THETA = np.array([1.5, 0.1, 0.8, -0.6, 0.2, -0.4, 1.2, -0.1, 0.9, 0.3])
NODE = re.compile(r'(\w+)\(?\["(.*?)(?: \(.*?)?"\]\)?')  # ENC["encode"], X(["images x (B, D)"])
EDGE = re.compile(r'(\w+) -+\.?-*>(?:\|"(.*?)(?: \(.*?)?"\|)? (\w+)')  # ENC -->|"mean, log_std (B, Z)"| KL


def values() -> dict[str, dict]:
    """Function -> what it sends, and the number."""
    d_theta = np.zeros_like(THETA)
    params, d_params = vae.params_of(MODEL, THETA), vae.params_of(MODEL, d_theta)
    terms, cache = vae.forward(np, MODEL, params, X, EPS)
    encoder_cache, x, mean, log_std, eps, z, decoded, decoder_cache = cache
    d = geco_backward(np, terms, NOW)
    d_logits = vae.likelihood_backward(np, MODEL, d, x, decoded)
    d_z = vae.decode_backward(np, MODEL, params, decoder_cache, d_logits, d_params)
    d_mean, d_log_std = vae.reparameterize_backward(np, d_z, log_std, eps)
    kl_mean, kl_log_std = de.gaussian_kl_backward(np, d.kl[:, None], mean, log_std)
    sums = d_mean + kl_mean, d_log_std + kl_log_std
    mlp.encode_backward(np, MODEL, params["encoder"], encoder_cache, *sums, d_params["encoder"])
    return {
        "images": {"x": x},
        "noise": {"eps": eps},
        "encode": {"mean": mean, "log_std": log_std},
        "reparameterize": {"z": z},
        "decode": {"x̂": decoded.x_hat, "logits l": decoded.logits},
        "likelihood": {"err": terms.err, "log_px": terms.log_px},
        "normal_log_density": {"log_pz": terms.log_pz},
        "posterior_log_density": {"log_qz": terms.log_qz},
        "gaussian_kl": {"kl": terms.kl},
        "objective": {f"d_{term}": getattr(d, term) for term in vae.Terms._fields},
        "likelihood_backward": {"d_l": d_logits},
        "decode_backward": {"d_z": d_z, "the decoder's part": d_theta[ENCODER:]},
        "normal_log_density_backward": {"d_z": None},
        "posterior_log_density_backward": {"d_log_std": None},
        "reparameterize_backward": {"d_mean": d_mean, "d_log_std": d_log_std},
        "gaussian_kl_backward": {"d_mean": kl_mean, "d_log_std": kl_log_std},
        "encode_backward": {"the encoder's part": d_theta[:ENCODER]},
    }


def arrows() -> list[tuple[str, list[str], str]]:
    """The arrows of the graph on the page: from where, what or the source's label, where to."""
    graph = re.search(r"```mermaid\n(.*?)```", FILE.read_text("utf-8"), re.DOTALL)[1].replace("<br/>", " ")
    names = {node: name.removesuffix(" and its backward") for node, name in NODE.findall(graph)}
    found = []
    for node, label, target in EDGE.findall(NODE.sub(r"\1", graph)):
        source, _, own = names[node].partition(" ")
        found.append((source, re.split(", | and ", label or own), names[target]))
    return found


def table() -> str:
    """A line for each arrow."""
    known, lines = values(), []
    width = max(len(f"{source} → {target}") for source, _, target in arrows())
    for source, sent, target in arrows():
        told = [f"{name} = {printed(known[source][name])}" for name in sent]
        lines.append(f"{f'{source} → {target}':{width}}  {', '.join(told)}")
    return "\n".join(lines)


def printed(value) -> str:
    return "–" if value is None else " ".join(f"{number:.4f}" for number in np.ravel(value))


if __name__ == "__main__":
    print(table())
