"""A trained model in use: encode, decode, reconstruct, sample, and score images by their likelihood."""

import math
from pathlib import Path

import numpy as np

from backend import open_backend
from data import binarize
from experiment import checkpoint, options, training
from experiment.options import UsageError
from experiment.results import EVALUATION_SEED
from ref import metrics, vae

TEST_SEED = 1  # of the one draw that makes grey images black and white, the run's own test images too


class TrainedModel:
    """A trained VAE. Nothing that it does changes it, and the same call gives the same answer.

    images  (N, H, W, C), (N, H, W) for one channel, or (N, D) with D = H·W·C: uint8 in 0..255, or floats in [0, 1].
            Vectors that are no pictures are such rows (N, D). A model of black and white pixels draws grey ones once,
            with the grey as probability, by the seed that its own test images were drawn with.
    mean, std, z  (N, Z), Z latents

    Every method raises UsageError, a ValueError, for other images or latents. Memory grows with the result alone.
    """

    def __init__(self, backend, network: vae.Model, theta, shape: tuple[int, int, int], args):
        self.backend, self.network, self.theta, self.shape, self.args = backend, network, theta, shape, args
        self.params = vae.params_of(network, theta)

    def encode(self, images) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x).   images -> (N, Z), (N, Z)"""
        xp, to_host = self.backend.xp, self.backend.to_host
        parts = [vae.encode(xp, self.network, self.params, x)[:2] for x in self._batches(images)]
        mean, log_std = (np.concatenate([*map(to_host, column)]) for column in zip(*parts, strict=True))
        return mean, np.exp(log_std)

    def decode(self, z) -> np.ndarray:
        """Pictures at z, clipped to [0, 1].   (N, Z) -> (N, H, W, C) floats"""
        z, size = self._latents(z), metrics.IMAGES
        parts = [self._decoded(self.backend.asarray(z[i : i + size])) for i in range(0, len(z), size)]
        return np.concatenate(parts).clip(0, 1).reshape(-1, *self.shape)

    def reconstruct(self, images) -> np.ndarray:
        """Images decoded at the mean of q(z|x).   images -> (N, H, W, C) floats"""
        return self.decode(self.encode(images)[0])

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Pictures at draws of z from the prior N(0, I).   -> (count, H, W, C) floats"""
        noise = self.backend.noise(seed)
        return self.decode(self.backend.to_host(self.backend.normal(noise, (count, self.network.latents))))

    def log_likelihood(self, images, samples: int = 5000) -> np.ndarray:
        """log p(x) of each image, importance-weighted with so many samples of q(z|x): a lower bound in expectation.

        images -> (N,) nats, float64
        """
        xp, noise, z = self.backend.xp, self.backend.noise(EVALUATION_SEED), self.network.latents
        found = []
        for x in self._batches(images):
            mean, log_std, _ = vae.encode(xp, self.network, self.params, x)

            def draw(k: int, x=x):
                return self.backend.normal(noise, (k, len(x), z))

            at_once = max(1, metrics.DECODED // len(x))
            weights = metrics.log_weights(
                self.backend, self.network, self.params, x, mean, log_std, draw, samples, at_once
            )
            found.append(self.backend.to_host(metrics.streamed_log_mean_exp(xp, weights)))
        return np.concatenate(found)

    def _decoded(self, z) -> np.ndarray:
        return self.backend.to_host(vae.decode(self.backend.xp, self.network, self.params, z)[0])

    def _batches(self, images):
        """The images as the network reads them, a few at a time.   -> arrays (B, D)"""
        pixels, size = self.pixels(images), metrics.IMAGES
        for i in range(0, len(pixels), size):
            read = training.reader(self.backend, pixels[i : i + size], False)
            yield read(self.backend.xp.arange(len(pixels[i : i + size])), None)

    def pixels(self, images) -> np.ndarray:
        """Images in rows, checked.   images -> (N, D), uint8 or floats in [0, 1]"""
        images = np.asarray(images)
        h, w, c = self.shape
        accepted = [self.shape, (h * w * c,)] + ([(h, w)] if c == 1 else [])
        if images.ndim < 2 or images.shape[1:] not in accepted or not len(images):
            wanted = " or ".join(f"(N, {', '.join(map(str, shape))})" for shape in accepted)
            raise UsageError(f"images have shape {images.shape}, expected {wanted}")
        pixels = images.reshape(len(images), -1)
        if pixels.dtype != np.uint8 and pixels.dtype.kind != "f":
            raise UsageError(f"images are {pixels.dtype}, expected uint8 in 0..255 or floats in [0, 1]")
        if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN too
            raise UsageError(f"images must lie in [0, 1], found {pixels.min():g} to {pixels.max():g}")
        return pixels if self.args.binarize == "none" else binarize(pixels, TEST_SEED)

    def _latents(self, z) -> np.ndarray:
        z = np.asarray(z)
        if z.ndim != 2 or z.shape[1] != self.network.latents or not len(z):
            raise UsageError(f"z has shape {z.shape}, expected (N, {self.network.latents})")
        if z.dtype.kind not in "fiu" or not np.isfinite(z).all():
            raise UsageError("z must hold finite numbers")
        return z.astype(self.backend.dtype)


def load(folder: str | Path, backend: str = "numpy") -> TrainedModel:
    """The trained model in a run's folder, in its own precision; its checkpoint.npz is all that is read.

    Raises UsageError for a folder without one, DataError for a file that is none, BackendError.
    """
    path = Path(folder) / "checkpoint.npz"
    if not path.is_file():
        raise UsageError(f"{folder} holds no checkpoint.npz; name the folder of a run")
    arrays, config = checkpoint.read(path)
    shape = checkpoint.shape_of(path, arrays, config)
    args = options.restored(options.parser(""), path, config["options"])
    backend = open_backend(backend, args.precision)
    network, theta = training.trained_network(args, backend, math.prod(shape), path, arrays)
    return TrainedModel(backend, network, theta, shape, args)
