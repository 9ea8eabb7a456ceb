"""A run on the command line or in Python, the trained model that it leaves, and the comparison of several runs."""

from experiment.checkpoint import VERSION as __version__
from experiment.defaults import UsageError
from experiment.model import TrainedModel, load
from experiment.one import fit

__all__ = ["TrainedModel", "UsageError", "__version__", "fit", "load"]
