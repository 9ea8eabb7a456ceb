"""What is chosen from the user's own images: tolerance, latents, hidden layers, batch and epochs. Pure functions."""

import math

import numpy as np

from data.dataset import floats, mean_of
from ref.more import linear

# κ² as a share of the images' variance, and images to a hidden unit: measured on MNIST, and on CIFAR-10
DRAWN, PHOTOGRAPHED = (0.3, 7), (0.06, 28)
EXTREME = 0.05  # of the way from the darkest pixel to the lightest: this near to either end it is black or white
LOOKED_AT = 2000  # images, spread over all of them, that choices are made from; fewer where they are large
NUMBERS, BLOCK = 1 << 26, 1 << 23  # pixels of them at most, and pixels in float64 at once
CHOSEN = ("kappa", "latent", "hidden")
LEAST_RATE = 0.1  # nats
STEPS, EPOCHS = 3000, 20  # of a run on the user's own images, whichever takes longer
UNITS = 8, 512  # of the first hidden layer: no fewer, no more


def choose(images: np.ndarray, kappa: float | None, latent: int | None, hidden: tuple[int, ...] | None) -> dict:
    """kappa, latent and hidden by name: what is given, and what is None chosen from the images (N, D)."""
    x = looked_at(images)
    near = EXTREME * (x.max() - x.min())
    black_or_white = np.mean((x < x.min() + near) | (x > x.max() - near))
    share, images_a_unit = DRAWN if black_or_white > 0.5 else PHOTOGRAPHED
    if kappa is None:
        kappa = rounded(math.sqrt(share * total_variance(images)))
    if latent is None:
        latent = linear.latents_in_use(linear.variances_of(np, x), kappa**2)
    if hidden is None:  # grows with the number of images, because a large network learns few by heart
        units = max(UNITS[0], len(images) // images_a_unit)
        hidden = (units,) if units < UNITS[1] else (UNITS[1], UNITS[1] // 2)
    return {"kappa": kappa, "latent": latent, "hidden": hidden}


def rate_at(images: np.ndarray, kappa: float) -> float:
    """What the best linear VAE pays for an error of κ², in nats, LEAST_RATE at least."""
    variances = linear.variances_of(np, looked_at(images))
    return rounded(max(linear.gaussian_rate_distortion(variances, kappa**2), LEAST_RATE))


def batch_size(count: int) -> int:
    """A sixteenth of the images, from 16 to 128."""
    return min(128, max(16, count // 16))


def epochs(count: int, batch: int) -> int:
    """As many epochs as STEPS steps have, and EPOCHS at least."""
    return max(EPOCHS, -(-STEPS // max(1, count // batch)))


def rounded(number: float) -> float:
    """The number with four significant digits, of a number above 1 with three decimals."""
    return round(number, max(3, 3 - math.floor(math.log10(number))))


def fixed(number: float, decimals: int) -> str:
    """The number with so many decimals, and never a zero with a sign."""
    return f"{round(number, decimals) + 0.0:.{decimals}f}"


def spread(images: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the images, evenly spread."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def looked_at(images: np.ndarray) -> np.ndarray:
    """The images that choices are made from, in [0, 1].   -> (LOOKED_AT, D) at most"""
    return floats(spread(images, max(2, min(LOOKED_AT, NUMBERS // images.shape[1]))))


def total_variance(images: np.ndarray, about: np.ndarray | None = None) -> float:
    """Squared error of the mean of these images, or of the image `about`, in [0, 1]; a block of images at a time."""
    mean = mean_of(images) if about is None else about
    total, size = 0.0, max(1, min(250, BLOCK // images.shape[1]))
    for start in range(0, len(images), size):
        block = floats(images[start : start + size], np.float64)
        block -= mean
        total += float(np.sum(np.square(block, out=block)))
    return total / len(images)


def a_pixel(error: float, pixels: int) -> tuple[float, float]:
    """A squared error an image as a root mean square a pixel, and as a peak signal-to-noise ratio in dB."""
    return math.sqrt(error / pixels), 10 * math.log10(pixels / error)
