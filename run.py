"""Train a VAE, judge it on images it has not seen, and draw what it does; or use one that was trained.

python run.py                                                GECO on the embedded part of MNIST
python run.py --method geco --data mnist                     GECO on MNIST, downloaded once
python run.py --data my-pictures --size 64                   a folder of pictures, with defaults chosen from them
python run.py --method iwae --data mnist --likelihood bernoulli --binarize dynamic
python run.py --method all --data mnist                      every method, compared in runs/mnist-all/report.html
python run.py --kappa 3 4 5 6 --seeds 2                      a run for each value and seed, and their comparison
python run.py --compare runs/mnist-geco-0 runs/mnist-vae-0   finished runs on the same images, whoever made them
python run.py --resume runs/mnist-geco-0                     go on with a run that was stopped
python run.py --init-from runs/mnist-geco-0 --data digits.npz --epochs 5
python run.py --load runs/mnist-geco-0 --encode my-pictures  mean, std and log-likelihood of each of your images
python run.py --load runs/mnist-geco-0 --sample 1000         also --reconstruct PATH, --evaluate, --explore
python run.py --load runs/mnist-geco-0 --interpolate test/0 my.png
mpiexec -n 4 python run.py --data mnist                      share the work among four processes
"""

import os
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout

import numpy as np

from backend import BackendError
from backend.ranks import ALONE, RanksError, open_ranks
from data import DataError
from experiment.command_line import parsed
from experiment.commands import obey
from experiment.record import UsageError
from experiment.terminal import Stopped, handled_by, make_safe, say, stop
from ref.train import NonFiniteError


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 2 for bad input, 1 for numbers not finite, 128 + its number for a signal, each with a sentence."""
    ranks, command = ALONE, sys.argv[1:] if argv is None else argv
    make_safe()
    try:
        # Training itself watches for numbers that are not finite.
        with handled_by(stop), np.errstate(all="ignore"), ExitStack() as silence:
            ranks = open_ranks()
            if ranks.rank:
                nowhere = silence.enter_context(open(os.devnull, "w"))
                silence.enter_context(redirect_stdout(nowhere))
                silence.enter_context(redirect_stderr(nowhere))
            say(obey(parsed(command, __doc__), command, ranks))
            return 0
    except (UsageError, DataError, BackendError, RanksError) as error:
        status, sentence = 2, f"{error}"
    except MemoryError:
        status, sentence = 2, "out of memory: lower --hidden, --latent, --samples or --batch-size"
    except OSError as error:
        status, sentence = 2, f"{error}"
    except NonFiniteError as error:
        advice = "the likely cause is too large a step: lower --lr (and --multiplier-rate, if λ ran away)"
        status, sentence = 1, f"{error}; {advice}; what was written after the last whole epoch is kept"
    except Stopped as error:
        status, sentence = 128 + error.number, f"{error}"
    if ranks.rank == 0:
        say(f"run.py: {sentence}", "stderr")
    ranks.fail(status, sentence)
    return status


if __name__ == "__main__":
    sys.exit(main())
