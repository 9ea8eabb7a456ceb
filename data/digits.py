"""The embedded digits.npz: the published test file, ink 0..16, 8×8 (Alpaydin, Kaynak 1998)."""

from pathlib import Path

import numpy as np

from .dataset import Dataset, divided, every


def load(data_dir: Path | None, download: bool) -> Dataset:
    """Every sixth digit to test, so that both parts have the same writers. No argument is used."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        pixels, labels = np.rint(file["pixels"] * (255 / 16)).astype(np.uint8), file["labels"]
    test, rule = every(len(pixels), 6), "every sixth is for testing"
    return divided("digits", pixels, test, (8, 8, 1), rule, labels)
