"""A trained model in use: it encodes, decodes, samples, and scores images."""

import copy
import importlib
from pathlib import Path

import numpy as np

from backend import open_backend
from data import npz
from experiment import run_folder, sources
from experiment.record import Run, UsageError
from experiment.terminal import progress
from ref import mlp, vae
from ref.densities import LIKELIHOODS
from ref.more import metrics, principal


def network_of(run: Run, center, whiten=None, color=None) -> vae.Model:
    """The network that a run describes, about a mean image, in principal coordinates or not."""
    same = {name: getattr(run, name) for name in ("hidden", "activation", "likelihood", "variance")}
    same |= {"latents": run.latent, "sigmoid_output": run.output == "sigmoid"}
    network = mlp if whiten is None else principal
    return vae.Model(network=network, center=center, whiten=whiten, color=color, **same)


def constants(network: vae.Model) -> dict:
    """The arrays of a network that are computed from the images, and not trained."""
    arrays = {"center": network.center, "whiten": network.whiten, "color": network.color}
    return {name: array for name, array in arrays.items() if array is not None}


class TrainedModel:
    """A trained VAE. Nothing but `set_output` changes it; the same call gives the same answer.

    images  (N, H, W, C), (N, H, W) for one channel, or (N, D) with D = H·W·C: uint8 in 0..255, or floats in [0, 1].
            Vectors that are no pictures are rows (N, D), too. A model of black and white pixels draws grey ones with
            the grey as probability, by a seed that follows from the image.
    mean, std, z  (N, Z), Z latents

    Other images or latents raise a ValueError. Images are worked on a few at a time.
    """

    def __init__(self, backend, run: Run, network: vae.Model, theta, history: list[dict]):
        self.backend, self.run, self.history = backend, run, history
        self.network, self.theta, self.params = network, theta, vae.params_of(network, theta)
        self.shape, self.output = run.images.shape, "default"

    @property
    def calibrated_variance(self) -> float | None:
        """σ*² = E[err]/D of the last epoch of training, the best. None without a Gaussian p(x|z) or a report."""
        if not self.history or not LIKELIHOODS[self.run.likelihood].calibrated:
            return None
        error = run_folder.row_of(run_folder.last_epoch(self.history))["error"]
        return error / self.run.images.pixels or None

    def encode(self, images) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x).   images -> (N, Z), (N, Z)"""
        found = metrics.encodings(self.backend, self.network, self.theta, self.readable(images), None)
        mean, log_std = map(self.backend.to_host, found)
        return mean, np.exp(log_std)

    def decode(self, z) -> np.ndarray:
        """Pictures at z, clipped to [0, 1].   (N, Z) -> (N, H, W, C) floats"""
        z, pixels, latents = np.asarray(z), self.run.images.pixels, self.network.latents
        numbers = z.dtype.kind in "fiu" and np.isfinite(z).all()
        if not numbers or z.ndim != 2 or z.shape[1] != latents or not len(z):
            raise UsageError(f"z must be finite numbers (N, {latents}), found {z.dtype} {z.shape}")
        z, size = z.astype(self.backend.dtype), metrics.at_once(pixels)
        found = np.empty((len(z), pixels), self.backend.dtype)
        for start in range(0, len(z), size):
            part = self.backend.asarray(z[start : start + size])
            decoded = vae.decode(self.backend.xp, self.network, self.params, part)[0]
            np.clip(self.backend.to_host(decoded), 0, 1, out=found[start : start + size])
        return found.reshape(-1, *self.shape)

    def reconstruct(self, images) -> np.ndarray:
        """Images decoded at the mean of q(z|x).   images -> (N, H, W, C) floats"""
        return self.decode(self.encode(images)[0])

    def interpolate(self, a, b, steps: int = 10) -> np.ndarray:
        """Pictures on the straight line between two latents, from a to b.   -> (steps, H, W, C) floats

        a and b are each an image, whose latents are the mean of q(z|x), or latents z (Z,) or (1, Z).
        """
        if not isinstance(steps, int | np.integer) or steps < 2:
            raise UsageError(f"steps must be an integer above 1, found {steps!r}")
        return self.decode(np.linspace(self._latents_of(a), self._latents_of(b), steps))

    def _latents_of(self, end) -> np.ndarray:
        """The latents of an end of `interpolate`.   -> (Z,)"""
        end, latents = np.asarray(end), self.network.latents
        if end.shape == (latents,) == (self.run.images.pixels,):
            how = f"give an image as {self.shape}, and latents as (1, {latents})"
            raise UsageError(f"a row of {latents} numbers may be an image or latents; {how}")
        return end.reshape(-1) if end.shape in ((latents,), (1, latents)) else self.encode(end[None])[0][0]

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Pictures at draws of z from the prior N(0, I).   -> (count, H, W, C) floats"""
        noise = self.backend.noise(seed)
        return self.decode(self.backend.to_host(self.backend.normal(noise, (count, self.network.latents))))

    def log_likelihood(self, images, samples: int = 5000) -> np.ndarray:
        """log (1/K) Σ_k w_k, K = `samples`: in expectation at most log p(x).   images -> (N,) nats"""
        return self.scores(images, samples)["log_likelihood"]

    def scores(self, images, samples: int = 5000) -> dict[str, np.ndarray]:
        """The scores of each image, by name: what ref.more.metrics.scores finds.

        Noise follows from an image's pixels. A likelihood that is no number has the log −∞. With a Gaussian likelihood
        there is calibrated_log_likelihood, too, with σ*² in the place of σ².

        images -> rate, log_px, log_likelihood (N,), nats; error, error_at_mean (N,); mean, log_std (N, Z)
        """
        if not isinstance(samples, int | np.integer) or samples < 1:
            raise UsageError(f"samples must be an integer above 0, found {samples!r}")
        pixels = self.pixels(images)
        how = {"progress": progress("scores"), "normal": self.own_noise(pixels)}
        draws = metrics.Draws(int(samples), self.run.samples, variance=self.calibrated_variance, **how)
        with np.errstate(all="ignore"):  # of images far from all others
            found = metrics.scores(self.backend, self.network, self.theta, self.readable(pixels), None, draws)
        found = {name: self.backend.to_host(a) for name, a in found.items()}
        for name in {"log_likelihood", "calibrated_log_likelihood"} & {*found}:
            found[name] = np.nan_to_num(found[name], nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
        return found

    def own_noise(self, pixels: np.ndarray):
        """normal(start, count, k): noise of images by their content.   -> (k, count, Z)"""
        streams, latents, dtype = {}, self.network.latents, self.backend.dtype

        def normal(start: int, count: int, k: int):
            if start not in streams:
                streams.clear()  # of the images before
                streams[start] = [sources.stream_of(image) for image in pixels[start : start + count]]
            drawn = [stream.standard_normal((k, latents), dtype) for stream in streams[start]]
            return self.backend.asarray(np.stack(drawn, axis=1))

        return normal

    def transform(self, images) -> np.ndarray:
        """scikit-learn's name for the mean of q(z|x).   images -> (N, Z), see `set_output`"""
        mean, names = self.encode(images)[0], self.get_feature_names_out().tolist()
        if self.output == "default":
            return mean
        frame = importlib.import_module(self.output).DataFrame
        if self.output == "polars":
            return frame(mean, schema=names)
        return frame(mean, images.index if hasattr(images, "columns") else None, names)

    def set_output(self, *, transform: str | None = None) -> "TrainedModel":
        """scikit-learn's choice of what `transform` returns: an array ("default"), or a frame."""
        if transform not in (None, "default", "pandas", "polars"):
            raise UsageError(f"transform must be default, pandas or polars, found {transform!r}")
        self.output = transform or self.output
        return self

    def inverse_transform(self, z) -> np.ndarray:
        """scikit-learn's name for `decode`, in rows.   (N, Z) -> (N, D)"""
        return self.decode(z).reshape(len(z), -1)

    def score_samples(self, images) -> np.ndarray:
        """scikit-learn's name for the log-likelihood, at σ*² if it is Gaussian, by the draws of the NLL.   -> (N,)"""
        found = self.scores(images, self.run.nll_samples)
        return found.get("calibrated_log_likelihood", found["log_likelihood"])

    def fit(self, images, y=None) -> "TrainedModel":
        """For a Pipeline: this model is trained already, so that the images are only checked."""
        self.pixels(images)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> "TrainedModel":
        return copy.copy(self)

    def __getstate__(self) -> dict:
        """What pickle, joblib and copy take along. The backend is opened anew."""
        arrays = constants(self.network) | {"theta": self.theta}
        arrays = {name: self.backend.to_host(array) for name, array in arrays.items()}
        saved = run_folder.Saved(Path(), self.run, {}, self.history, arrays)
        return {"saved": saved, "backend": self.backend.name, "output": self.output}

    def __setstate__(self, state: dict) -> None:
        model = model_of(state["saved"], open_backend(state["backend"], state["saved"].run.dtype))
        vars(self).update(vars(model), output=state["output"])

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """scikit-learn's names of what `transform` returns: latent0, latent1, …"""
        return np.array([f"latent{i}" for i in range(self.network.latents)], dtype=object)

    def __sklearn_tags__(self):
        from sklearn.utils import Tags, TargetTags, TransformerTags  # it calls this

        return Tags(estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=TransformerTags())

    def pixels(self, images) -> np.ndarray:
        """Images in rows, checked, black and white if the model's are.   images -> (N, D)"""
        pixels = npz.rows("the array of images", images, self.shape)
        return pixels if self.run.images.binarize == "none" else sources.black_and_white(pixels)

    def readable(self, images) -> metrics.Images:
        """The images as ref.more.metrics takes them."""
        pixels = self.pixels(images)
        return metrics.Images(sources.reader(self.backend, pixels, False), len(pixels))


def model_of(saved: run_folder.Saved, backend) -> TrainedModel:
    """The trained model in a checkpoint. Raises DataError for arrays of another network."""
    run, arrays, pixels = saved.run, saved.arrays, saved.run.images.pixels
    shapes = {"center": (pixels,)}
    if run.in_coordinates:
        shapes |= {"whiten": (pixels, run.latent), "color": (run.latent, pixels)}
    run_folder.check(saved.path, arrays, {name: (backend.dtype, shape) for name, shape in shapes.items()})
    network = network_of(run, **{name: backend.asarray(arrays[name]) for name in shapes})
    size = sum(map(mlp.size, network.network.shapes(network)))
    run_folder.check(saved.path, arrays, {"theta": (backend.dtype, (size,))})
    theta = backend.xp.array(backend.asarray(arrays["theta"]))  # a copy that can be written
    return TrainedModel(backend, run, network, theta, saved.history)


def load(folder: str | Path, backend: str = "numpy") -> TrainedModel:
    """The trained model in a run's folder, or of a name such as "mnist-10k", in its own precision.

    With glibc the process then keeps up to a gigabyte of the memory that it frees.
    Raises UsageError for a folder without a checkpoint, DataError for a file that is none, BackendError.
    """
    saved = run_folder.read_checkpoint(folder)
    return model_of(saved, open_backend(backend, saved.run.dtype))


def ship(folder: str | Path, name: str) -> None:
    """Keeps the model of a finished run under experiment/models/: what `load` needs, θ in half precision."""
    saved = run_folder.read_checkpoint(folder)
    arrays = {"center": saved.arrays["center"], "theta": saved.arrays["theta"].astype(np.float16)}
    last = saved.history[-1] | {"steps": int(saved.arrays["step"])}
    path = run_folder.MODELS / f"{name}.npz"
    run_folder.write_checkpoint(path, saved.run, saved.config, [last], arrays | {"step": saved.arrays["step"]})
