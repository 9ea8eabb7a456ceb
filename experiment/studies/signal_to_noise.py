"""The noise of IWAE's gradient in the encoder and of DReG's, against the number K of samples, in a trained model.

python -m experiment.studies.signal_to_noise runs/mnist-iwae-preset-burda-0

Every estimator of the importance-weighted bound gets the same draws, on the first test images of the run. Draws
signal-to-noise.png, a panel a run. Rainforth et al. 2018: as √K where more samples help the encoder, as 1/√K for IWAE.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.dataset import white
from experiment.model import TrainedModel, load
from experiment.one import open_data
from experiment.page import aligned
from experiment.pictures import MARKERS, plot, save_plot
from experiment.studies.runs import command
from ref import vae
from ref.mlp import size
from ref.objectives import METHODS

SAMPLES, DRAWS, IMAGES, SEED = tuple(2**i for i in range(9)), 400, 10, 20_181_003
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


def study(folders: Sequence[Path], out: Path) -> str:
    """A row for each run and K, and the picture."""
    names, (figure, panels) = [*ESTIMATORS], plot(5 * len(folders), 4, len(folders))
    rows = [["run", "K", *(f"{ESTIMATORS[n].title}: |mean|/std" for n in names)]]
    rows[0] += [f"variance, {ESTIMATORS[n].title} / {ESTIMATORS[names[0]].title}" for n in names[1:]]
    for folder, axes in zip(folders, panels, strict=True):
        model = load(folder)
        pixels = model.pixels(open_data(model.args).test[:IMAGES])
        x = model.backend.asarray(pixels / white(pixels)).astype(model.backend.dtype)
        found = [signal_and_noise(encoder_gradients(model, x, k, DRAWS)) for k in SAMPLES]
        for name, marker in zip(names, MARKERS, strict=False):
            axes.loglog(SAMPLES, [f[name][0] for f in found], marker=marker, label=ESTIMATORS[name].title)
        axes.axhline(np.sqrt(2 / (np.pi * DRAWS)), color="black", linestyle=":", label=f"no signal, {DRAWS} draws")
        axes.set(xlabel="samples K", ylabel="|mean| / std of the encoder's gradient", title=folder.name)
        axes.legend(fontsize=8)
        for k, f in zip(SAMPLES, found, strict=True):
            ratios = [f[name][1] / f[names[0]][1] for name in names[1:]]
            rows.append([folder.name, str(k), *(f"{f[name][0]:.3f}" for name in names), *(f"{r:.3f}" for r in ratios)])
    save_plot(out / "signal-to-noise.png", figure)
    return aligned(rows)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, study, draws=True))
