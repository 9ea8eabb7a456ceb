"""Runs without their pictures, which take longer than a short run: small ones stand in their place."""

import numpy as np
from PIL import Image

from experiment import pictures
from experiment.run_folder import PICTURES


def undrawn(patch) -> None:
    """Until `patch`, a pytest.MonkeyPatch, is undone, each picture of a run is noise."""
    rng = np.random.default_rng(0)

    def draw(path) -> None:
        Image.fromarray(rng.integers(0, 256, (101, 101), dtype=np.uint8)).save(path)

    drawn = [name for name in PICTURES if name != "curves.png"]
    patch.setattr(pictures, "draw_pictures", lambda out, *_: [draw(out / name) for name in drawn])
    patch.setattr(pictures, "draw_curves", lambda path, *_: draw(path))
