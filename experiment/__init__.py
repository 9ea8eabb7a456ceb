"""One run on the command line: its options, training, files, figures and pictures; and the comparison of several."""

from experiment.model import TrainedModel, load

__all__ = ["TrainedModel", "load"]
