"""A trained model in use: encode, decode, reconstruct, sample, and score images by their likelihood."""

import copy
import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from backend import open_backend
from data import npz
from experiment import run_folder, sources
from experiment.record import Run, UsageError
from experiment.streams import progress
from ref import mlp, vae
from ref.more import metrics, principal


def network_of(run: Run, center, whiten=None, color=None) -> vae.Model:
    """The network that a run describes, about a mean image, in principal coordinates or not."""
    return vae.Model(
        network=mlp if whiten is None else principal,
        hidden=run.hidden,
        latents=run.latent,
        activation=run.activation,
        sigmoid_output=run.output == "sigmoid",
        likelihood=run.likelihood,
        variance=run.variance,
        center=center,
        whiten=whiten,
        color=color,
    )


def constants(network: vae.Model) -> dict:
    """The arrays of a network that are computed from the images, and not trained."""
    return {
        name: getattr(network, name) for name in ("center", "whiten", "color") if getattr(network, name) is not None
    }


def trained_network(saved: run_folder.Saved, backend) -> tuple[vae.Model, object]:
    """The network and θ in a checkpoint. Raises DataError for those of another network."""
    run, arrays, pixels = saved.run, saved.arrays, saved.run.images.pixels

    def unwritten(*shape: int) -> SimpleNamespace:
        """What an array has that takes no memory, for the checkpoint's to be compared with."""
        return SimpleNamespace(dtype=np.dtype(backend.dtype), shape=shape)

    latent = run.latent
    coordinates = (unwritten(pixels, latent), unwritten(latent, pixels)) if run.in_coordinates else ()
    described = network_of(run, unwritten(pixels), *coordinates)
    expected = constants(described) | {"theta": unwritten(sum(map(mlp.size, described.network.shapes(described))))}
    run_folder.check(saved.path, {name: arrays[name] for name in expected if name in arrays}, expected)
    network = described._replace(**{name: backend.asarray(arrays[name]) for name in constants(described)})
    return network, backend.xp.array(backend.asarray(arrays["theta"]))  # a copy: what was read cannot be written


class TrainedModel:
    """A trained VAE. Nothing that it does but `set_output` changes it, and the same call gives the same answer.

    images  (N, H, W, C), (N, H, W) for one channel, or (N, D) with D = H·W·C: uint8 in 0..255, or floats in [0, 1].
            Vectors that are no pictures are such rows (N, D). A model of black and white pixels draws grey ones with
            the grey as probability, by a seed that follows from the image.
    mean, std, z  (N, Z), Z latents

    Other images or latents raise a ValueError. Images are worked on a few at a time, so memory holds what goes in, what
    comes out and little else. `history` is what training reported.
    """

    def __init__(self, backend, run: Run, network: vae.Model, theta, history: list[dict]):
        self.backend, self.run, self.network, self.theta, self.history = backend, run, network, theta, history
        self.shape, self.params, self.output = run.images.shape, vae.params_of(network, theta), "default"

    def encode(self, images) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x).   images -> (N, Z), (N, Z)"""
        found = metrics.encodings(self.backend, self.network, self.theta, self.readable(images), None)
        mean, log_std = map(self.backend.to_host, found)
        return mean, np.exp(log_std)

    def decode(self, z) -> np.ndarray:
        """Pictures at z, clipped to [0, 1].   (N, Z) -> (N, H, W, C) floats"""
        z, pixels = np.asarray(z), self.run.images.pixels
        if z.ndim != 2 or z.shape[1] != self.network.latents or not len(z):
            raise UsageError(f"z has shape {z.shape}, expected (N, {self.network.latents})")
        if z.dtype.kind not in "fiu" or not np.isfinite(z).all():
            raise UsageError("z must hold finite numbers")
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

        a and b are each an image, whose latents are the mean of q(z|x), or latents z (Z,). Where an image has as many
        pixels as there are latents, a row of them could be either: images are (H, W, C) there, and latents (1, Z).
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
        """log p(x) of each image, importance-weighted: log (1/K) Σ_k w_k with K = `samples` draws from q(z|x).

        In expectation at most log p(x), the closer the larger K. Of grey pixels it is the log of a density.
        images -> (N,) nats
        """
        return self.scores(images, samples)["log_likelihood"]

    def scores(self, images, samples: int = 5000) -> dict[str, np.ndarray]:
        """All that is known of each image, by name: what ref.more.metrics.scores finds.

        The noise of an image follows from its pixels, so that no other image changes its scores. An image so far from
        all others that its likelihood is no number has the log-likelihood −∞.
        images -> rate, log_px, log_likelihood (N,), nats; error, error_at_mean (N,), squared error; mean and log_std
        (N, Z)
        """
        if not isinstance(samples, int | np.integer) or samples < 1:
            raise UsageError(f"samples must be an integer above 0, found {samples!r}")
        pixels = self.pixels(images)
        draws = metrics.Draws(int(samples), self.run.samples, None, progress("scores"), self.own_noise(pixels))
        with np.errstate(all="ignore"):  # of images far from all others
            found = metrics.scores(self.backend, self.network, self.theta, self.read(pixels), None, draws)
        found = {name: self.backend.to_host(a) for name, a in found.items()}
        found["log_likelihood"] = np.nan_to_num(found["log_likelihood"], nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
        return found

    def own_noise(self, pixels: np.ndarray):
        """normal(start, count, k): noise that belongs to each image, by its content, in whatever company it comes."""
        streams, latents, dtype = {}, self.network.latents, self.backend.dtype

        def normal(start: int, count: int, k: int):
            for old in [i for i in streams if i < start]:
                del streams[old]
            for i in range(start, start + count):
                streams.setdefault(i, sources.stream_of(pixels[i]))
            drawn = [streams[i].standard_normal((k, latents), dtype) for i in range(start, start + count)]
            return self.backend.asarray(np.stack(drawn, axis=1))

        return normal

    def transform(self, images) -> np.ndarray:
        """scikit-learn's name for the mean of q(z|x).   images -> (N, Z), an array or what `set_output` has chosen"""
        mean, names = self.encode(images)[0], self.get_feature_names_out().tolist()
        if self.output == "default":
            return mean
        frame = importlib.import_module(self.output).DataFrame
        if self.output == "polars":
            return frame(mean, schema=names)
        return frame(mean, images.index if hasattr(images, "columns") else None, names)

    def set_output(self, *, transform: str | None = None) -> "TrainedModel":
        """scikit-learn's choice of what `transform` returns: an array ("default"), or a frame of pandas or polars."""
        if transform not in (None, "default", "pandas", "polars"):
            raise UsageError(f"transform must be default, pandas or polars, found {transform!r}")
        self.output = transform or self.output
        return self

    def inverse_transform(self, z) -> np.ndarray:
        """scikit-learn's name for `decode`, in rows.   (N, Z) -> (N, D)"""
        return self.decode(z).reshape(len(z), -1)

    def score_samples(self, images) -> np.ndarray:
        """scikit-learn's name for `log_likelihood`, by as many draws as in the run's own NLL.   images -> (N,) nats"""
        return self.log_likelihood(images, self.run.nll_samples)

    def fit(self, images, y=None) -> "TrainedModel":
        """For a Pipeline, whose steps are fitted: this one is trained already, so that the images are only checked."""
        self.pixels(images)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> "TrainedModel":
        return copy.copy(self)

    def __getstate__(self) -> dict:
        """The arrays and the record: what pickle, joblib and copy take along. The backend is opened anew."""
        arrays = {name: self.backend.to_host(array) for name, array in constants(self.network).items()}
        arrays["theta"] = self.backend.to_host(self.theta)
        how = {"name": self.backend.name, "precision": self.run.dtype}
        return {"run": self.run, "arrays": arrays, "history": self.history, "backend": how, "output": self.output}

    def __setstate__(self, state: dict) -> None:
        backend, arrays, run = open_backend(**state["backend"]), dict(state["arrays"]), state["run"]
        theta = backend.xp.array(backend.asarray(arrays.pop("theta")))
        network = network_of(run, **{name: backend.asarray(array) for name, array in arrays.items()})
        self.__init__(backend, run, network, theta, state["history"])
        self.output = state["output"]

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """scikit-learn's names of what `transform` returns: latent0, latent1, …"""
        return np.array([f"latent{i}" for i in range(self.network.latents)], dtype=object)

    def __sklearn_tags__(self):
        from sklearn.utils import Tags, TargetTags, TransformerTags  # which calls this, and so is there

        return Tags(estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=TransformerTags())

    def pixels(self, images) -> np.ndarray:
        """Images in rows, checked, black and white if the model's are.   images -> (N, D), uint8 or floats in [0, 1]"""
        pixels = npz.rows("the array of images", images, self.shape)
        return pixels if self.run.images.binarize == "none" else sources.black_and_white(pixels)

    def readable(self, images) -> metrics.Images:
        """The images as ref.more.metrics takes them."""
        return self.read(self.pixels(images))

    def read(self, pixels: np.ndarray) -> metrics.Images:
        return metrics.Images(sources.reader(self.backend, pixels, False), len(pixels))


def load(folder: str | Path, backend: str = "numpy", tf32: bool = False) -> TrainedModel:
    """The trained model in a run's folder, in its own precision; its checkpoint.npz is all that is read.

    "mnist-10k" is the name of a model that comes with the program.

    With glibc the process then keeps up to a gigabyte of the memory that it frees, which makes its steps faster.
    Raises UsageError for a folder without a checkpoint, DataError for a file that is none, BackendError.
    """
    saved = run_folder.read_checkpoint(folder)
    opened = open_backend(backend, saved.run.dtype, tf32)
    return TrainedModel(opened, saved.run, *trained_network(saved, opened), saved.history)


def ship(folder: str | Path, name: str) -> None:
    """Keeps the model of a finished run under experiment/models/: what `load` needs, θ in half precision."""
    saved = run_folder.read_checkpoint(folder)
    arrays = {"center": saved.arrays["center"], "theta": saved.arrays["theta"].astype(np.float16)}
    last = saved.history[-1] | {"steps": int(saved.arrays["step"])}
    path = run_folder.MODELS / f"{name}.npz"
    run_folder.write_checkpoint(path, saved.run, saved.config, [last], arrays | {"step": saved.arrays["step"]})
