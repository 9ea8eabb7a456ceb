"""The noise of IWAE's gradient in the encoder and of DReG's, against the number K of samples, in trained models.

python -m studies.signal_to_noise runs/latent2 runs/ladder/iwae-5-100

Every estimator of the importance-weighted bound gets the same draws, on the first test images of the run. Draws
signal-to-noise.png. Where the weights w̃_k are even, IWAE's ratio falls as 1/√K (Rainforth et al. 2018), and DReG's
rises as √K (Tucker et al. 2019). The effective samples 1/Σ_k w̃_k² tell how even they are: K, if they all are alike.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from data.dataset import white
from experiment.model import TrainedModel, load
from experiment.one import open_data
from experiment.pictures import MARKERS, plot, save_plot
from experiment.results import aligned
from ref import vae
from ref.densities import softmax
from ref.mlp import size
from ref.objectives import METHODS, log_weight
from studies.runs import command

SAMPLES, DRAWS, IMAGES, SEED = tuple(2**i for i in range(9)), 400, 10, 20_181_003
LINES = ("-", "--", ":", "-.")  # a run each
ESTIMATORS = {name: method for name, method in METHODS.items() if method.loss is METHODS["iwae"].loss}


def encoder_gradients(model: TrainedModel, x, samples: int, draws: int) -> Iterator[dict[str, np.ndarray]]:
    """The gradient with respect to the encoder's parameters by each estimator, for each draw of the noise."""
    backend, net, noise = model.backend, model.network, model.backend.noise(SEED)
    grad = backend.xp.zeros_like(model.theta)
    encoder, d_params = grad[: size(net.network.shapes(net)[0])], vae.params_of(net, grad)
    for _ in range(draws):
        eps = backend.normal(noise, (samples, len(x), net.latents))
        terms, cache = vae.forward(backend.xp, net, model.params, x, eps)
        found = {}
        for name, method in ESTIMATORS.items():
            vae.backward(backend.xp, net, model.params, cache, method.backward(backend.xp, terms), d_params)
            found[name] = backend.to_host(encoder).astype(np.float64)
        yield found


def signal_and_noise(gradients: Iterator[dict[str, np.ndarray]]) -> dict[str, tuple[float, float]]:
    """By estimator: the mean of |mean|/std over the parameters that vary, and the sum of their variances."""
    first = next(gradients)
    count, mean, squares = 1, first, {name: np.zeros_like(g) for name, g in first.items()}
    for count, draw in enumerate(gradients, start=2):  # Welford 1962
        for name, g in draw.items():
            delta = g - mean[name]
            mean[name] = mean[name] + delta / count
            squares[name] += delta * (g - mean[name])
    found = {}
    for name, total in squares.items():
        variance, moves = total / (count - 1), total > 0
        found[name] = float(np.mean(np.abs(mean[name][moves]) / np.sqrt(variance[moves]))), float(variance.sum())
    return found


def effective_samples(model: TrainedModel, x, samples: int) -> float:
    """The mean of 1/Σ_k w̃_k² over the images, from 1 to K.   (B, D) -> a number"""
    xp, net, noise = model.backend.xp, model.network, model.backend.noise(SEED)
    terms, _ = vae.forward(xp, net, model.params, x, model.backend.normal(noise, (samples, len(x), net.latents)))
    weights = softmax(xp, log_weight(terms.log_px, terms))
    return float(xp.mean(1 / xp.sum(weights * weights, axis=0)))


def study(folders: Sequence[Path], out: Path) -> str:
    """A row for each run and K, and the picture. The last column divides the sums of the parameters' variances."""
    titles = [method.title for method in ESTIMATORS.values()]
    rows = [["run", "K", "effective", *(f"signal to noise, {title}" for title in titles)]]
    rows[0].append(f"variance, {', '.join(titles[1:])} ÷ {titles[0]}")
    figure, (axes,) = plot(7, 4.5)
    for folder, line in zip(folders, cycle(LINES)):
        model = load(folder)
        pixels = model.pixels(open_data(model.args).test[:IMAGES])
        x = model.backend.asarray(pixels / white(pixels)).astype(model.backend.dtype)
        found = [signal_and_noise(encoder_gradients(model, x, k, DRAWS)) for k in SAMPLES]
        for i, (name, title) in enumerate(zip(ESTIMATORS, titles, strict=True)):
            ratios = [of[name][0] for of in found]
            axes.loglog(SAMPLES, ratios, f"C{i}{MARKERS[i]}{line}", label=f"{title}, {folder.name}")
        for k, of in zip(SAMPLES, found, strict=True):
            ratios, variances = zip(*of.values(), strict=True)
            shares = ", ".join(f"{variance / variances[0]:.2f}" for variance in variances[1:])
            effective = f"{effective_samples(model, x, k):.1f}"
            rows.append([folder.name, str(k), effective, *(f"{ratio:.3f}" for ratio in ratios), shares])
    axes.axhline(np.sqrt(2 / (np.pi * DRAWS)), color="black", linewidth=1, label=f"{DRAWS} draws of a mean of zero")
    axes.set(xlabel="samples K", ylabel="|mean| / std, averaged over the encoder's parameters")
    axes.legend(fontsize=8)
    save_plot(out / "signal-to-noise.png", figure)
    return aligned(rows)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, study, draws=True))
