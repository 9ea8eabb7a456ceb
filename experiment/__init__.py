"""A run on the command line or in Python, the trained model that it leaves, and the comparison of several runs."""

__version__ = "0.3.0"

from experiment.commands import fit
from experiment.record import UsageError
from experiment.trained_model import TrainedModel, load

__all__ = ["TrainedModel", "UsageError", "__version__", "fit", "load"]
