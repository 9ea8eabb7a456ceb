"""A run on the command line or in Python, the trained model that it leaves, and the comparison of several runs."""

from experiment.commands import fit
from experiment.record import VERSION as __version__
from experiment.record import UsageError
from experiment.trained_model import TrainedModel, load

__all__ = ["TrainedModel", "UsageError", "__version__", "fit", "load"]
