"""What is chosen from the user's own images: tolerance, rate, network, batch and epochs. Pure functions."""

import math

import numpy as np

from data.dataset import floats
from experiment.sources import spread, total_variance
from ref.more import linear

# κ² as a share of the images' variance, and images to a hidden unit: measured on MNIST, and on CIFAR-10
DRAWN, PHOTOGRAPHED = (0.3, 7), (0.06, 28)
EXTREME = 0.05  # of the range of pixels: a pixel so near to the darkest or the lightest counts as black or white
LOOKED_AT = 2000  # images, spread over all of them, that choices are made from; fewer where they are large
NUMBERS = 1 << 26  # pixels of the images that are looked at, at most
LEAST_RATE = 0.1  # nats
STEPS, EPOCHS = 3000, 20  # of a run on the user's own images, whichever takes longer
UNITS, BATCHES = (8, 512), (16, 128)  # the fewest and the most: of the first hidden layer, of images in a batch


def choose(images: np.ndarray, o: dict) -> dict:
    """The options `o`, with what is None in them chosen from the training images (N, D)."""
    o, x, (count, pixels) = dict(o), looked_at(images), images.shape
    near = EXTREME * (x.max() - x.min())
    black_or_white = np.mean((x < x.min() + near) | (x > x.max() - near))
    share, images_a_unit = DRAWN if black_or_white > 0.5 else PHOTOGRAPHED
    if o["kappa"] is None:
        o["kappa"] = rounded(math.sqrt(share * total_variance(images)))
    target = o["kappa"] ** 2
    if o["latent"] is None:
        o["latent"] = linear.latents_in_use(linear.variances_of(np, x), target)
    if o.get("rate", 0) is None:  # what the best linear VAE pays for an error of κ²
        o["rate"] = rounded(max(linear.gaussian_rate_distortion(linear.variances_of(np, x), target), LEAST_RATE))
    if o["variance"] is None:
        o["variance"] = rounded(target / pixels)
    if o["hidden"] is None:  # grows with the number of images, because a large network learns few by heart
        units = max(UNITS[0], count // images_a_unit)
        o["hidden"] = (units,) if units < UNITS[1] else (UNITS[1], UNITS[1] // 2)
    if o["batch_size"] is None:
        o["batch_size"] = min(BATCHES[1], max(BATCHES[0], count // 16), count)
    if o["epochs"] is None:
        o["epochs"] = max(EPOCHS, -(-STEPS // max(1, count // o["batch_size"])))
    return o


def rounded(number: float) -> float:
    """The number with four significant digits, of a number above 1 with three decimals."""
    return round(number, max(3, 3 - math.floor(math.log10(number))))


def looked_at(images: np.ndarray) -> np.ndarray:
    """The images that choices are made from, in [0, 1].   -> (LOOKED_AT, D) at most"""
    return floats(spread(images, max(2, min(LOOKED_AT, NUMBERS // images.shape[1]))))
