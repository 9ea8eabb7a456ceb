"""The noise of IWAE's gradient and of DReG's in the encoder of trained models, against the number K of samples.

python -m experiment.studies.signal_to_noise runs/latent2 runs/ladder/iwae-5-100

IWAE and DReG get equal draws, on the first test images. Where the weights w̃_k are even, IWAE's ratio of signal to
noise falls as 1/√K (Rainforth et al. 2018), and DReG's rises as √K (Tucker et al. 2019).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiment.evaluation import aligned
from experiment.studies.runs import FOLDERS, command, images_of, like_runs_in
from experiment.trained_model import TrainedModel, load
from ref import vae
from ref.densities import softmax
from ref.mlp import size
from ref.objectives import METHODS, Now, log_weight

SAMPLES, DRAWS, IMAGES, SEED = tuple(2**i for i in range(9)), 400, 10, 20_181_003
ESTIMATORS = [method for method in METHODS.values() if method.loss is METHODS["iwae"].loss]  # E of them


def encoder_gradients(model: TrainedModel, x, samples: int, draws: int) -> Iterator[np.ndarray]:
    """For each draw of the noise the gradient with respect to the encoder's P parameters by each estimator.   (E, P)"""
    backend, net, noise = model.backend, model.network, model.backend.noise(SEED)
    grad = backend.xp.zeros_like(model.theta)
    encoder, d_params = grad[: size(net.network.shapes(net)[0])], vae.params_of(net, grad)
    for _ in range(draws):
        eps = backend.normal(noise, (samples, len(x), net.latents))
        terms, cache = vae.forward(backend.xp, net, model.params, x, eps)
        found = []
        for method in ESTIMATORS:
            vae.backward(backend.xp, net, model.params, cache, method.backward(backend.xp, terms, Now()), d_params)
            found.append(backend.to_host(encoder).astype(np.float64))
        yield np.stack(found)


def signal_and_noise(gradients: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of |mean|/std over the parameters that vary, and the sum of their variances.   (E, P)… -> (E,)"""
    count, mean, squares = 0, 0.0, 0.0
    for count, gradient in enumerate(gradients, start=1):  # Welford 1962
        delta = gradient - mean
        mean = mean + delta / count
        squares = squares + delta * (gradient - mean)
    variance = squares / (count - 1)
    std = np.where(variance > 0, np.sqrt(variance), np.nan)
    return np.nanmean(np.abs(mean) / std, axis=1), variance.sum(axis=1)


def effective_samples(model: TrainedModel, x, samples: int) -> float:
    """The mean of 1/Σ_k w̃_k² over the images: from 1 to K, and K where the weights are even.   (B, D) -> a number"""
    xp, net, noise = model.backend.xp, model.network, model.backend.noise(SEED)
    terms, _ = vae.forward(xp, net, model.params, x, model.backend.normal(noise, (samples, len(x), net.latents)))
    weights = softmax(xp, log_weight(terms.log_px, terms))
    return float(xp.mean(1 / xp.sum(weights * weights, axis=0)))


def study(folders: Sequence[Path]) -> str:
    """A row for each run and K. A variance is summed over the parameters, and is a share of the first estimator's."""
    first, *others = titles = [method.title for method in ESTIMATORS]
    rows = [["run", "K", "effective", *(f"signal to noise, {title}" for title in titles)]]
    rows[0] += [f"variance, {title} ÷ {first}" for title in others]
    for run in like_runs_in(folders):
        model = load(run.out)
        images = model.readable(images_of(run).test[:IMAGES])
        x = images.read(model.backend.xp.arange(images.count), None)
        for k in SAMPLES:
            ratios, variances = signal_and_noise(encoder_gradients(model, x, k, DRAWS))
            row = [run.out.name, str(k), f"{effective_samples(model, x, k):.1f}", *(f"{ratio:.3f}" for ratio in ratios)]
            rows.append(row + [f"{share:.2f}" for share in variances[1:] / variances[0]])
    return aligned(rows)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, study, FOLDERS))
