"""The smallest embedded data: 1,797 handwritten digits of 43 people, 8×8, ink 0..16.

E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49, licence CC BY 4.0. digits.npz holds the set's test file, unchanged and in its order, as `pixels`
(1797, 64) and `labels` (1797,); scikit-learn's load_digits carries the same.
"""

from pathlib import Path

import numpy as np

from .dataset import Dataset, classified, every


def load(data_dir: Path | None, download: bool) -> Dataset:
    """Every sixth digit, 299, to test and the other 1,498 to train on, so that both hold the same writers; ink 0..255.

    Both arguments are unused.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        pixels, labels = np.rint(file["pixels"] * (255 / 16)).astype(np.uint8), file["labels"]
    test = every(len(pixels), 6)
    known = classified(labels[~test], labels[test])
    return Dataset("digits", pixels[~test], pixels[test], (8, 8, 1), "every sixth is for testing", **known)
