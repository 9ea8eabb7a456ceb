"""Train a VAE, judge it on images it has not seen, and draw what it does; or use one that was trained.

python run.py                                                GECO on the embedded part of MNIST
python run.py --method geco --data mnist                     GECO on MNIST, downloaded once
python run.py --data my-pictures --size 64                   a folder of pictures, with defaults chosen from them
python run.py --method iwae --data mnist --likelihood bernoulli --binarize dynamic
python run.py --method all --data mnist                      every method, compared in runs/mnist-all/report.html
python run.py --compare runs/mnist-geco-0 runs/mnist-vae-0   finished runs on the same images, whoever made them
python run.py --resume runs/mnist-geco-0                     go on with a run that was stopped
python run.py --init-from runs/mnist-geco-0 --data digits.npz --epochs 5
python run.py --load runs/mnist-geco-0 --encode my-pictures  mean, std and log-likelihood of each of one's images
python run.py --load runs/mnist-geco-0 --sample 1000         also --reconstruct PATH, --evaluate
mpiexec -n 4 python run.py --data mnist                      share the work among four processes
"""

import os
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from backend import BackendError, open_backend
from backend.ranks import ALONE, Ranks, RanksError, open_ranks
from data import DataError
from experiment.compare import compare_folders, compare_methods
from experiment.defaults import UsageError, chosen, complete
from experiment.files import FILES, held
from experiment.jobs import RunFailed
from experiment.one import command_to_go_on, open_data, run_one
from experiment.options import USES, opened, parsed, resumed, with_network_of
from experiment.results import listing
from experiment.signals import Stopped, handled_by, stop
from experiment.use import use
from ref.train import NonFiniteError


def run(argv: list[str] | None, ranks: Ranks, folder: ExitStack, again: list[str]) -> None:
    """What the command line asks for; the folder of a resumed run is held until `folder` is closed.

    Once there is a checkpoint, `again` holds the command that resumes the run.
    """
    command = sys.argv[1:] if argv is None else argv
    args, given = parsed(command, __doc__)
    if args.compare or args.load or {*USES} & {*given}:
        if ranks.rank == 0:
            print(compare_folders(args, given, command) if args.compare else use(args, given))
        return
    saved = None
    if args.resume:
        if ranks.rank == 0 and args.resume.is_dir():
            folder.enter_context(held(args.resume))
            again[:] = [command_to_go_on(args.resume)]
        saved = opened(args.resume)
        args = resumed(saved, given)
    elif args.init_from:
        args = with_network_of(args.init_from, args, given)
    backend, data = open_backend(args.backend, args.precision, args.tf32, ranks), open_data(args)
    if args.method == "all":
        args.out = args.out or Path("runs") / f"{data.name}-all"
        again[:] = ["the same command"]
        print(compare_methods(args, backend, data, command, lambda argv: run(argv, ranks, folder, [])))
        return
    args = complete(args, data)
    if ranks.size > args.batch_size:
        raise UsageError(f"--batch-size {args.batch_size} is less than the {ranks.size} processes; start fewer of them")
    if not saved and (sentence := chosen(args, given, data.train.shape[1])):
        print(f"{data.split}\n{sentence}")
    print(listing(run_one(args, backend, data, command, again, saved)))
    print(f"rate, ELBO and NLL in nats, errors in squared error per image; all in {args.out}/: {', '.join(FILES)}")


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 2 for bad input, 1 for numbers not finite, 128 + its number for a signal, each with a sentence."""
    ranks, again = ALONE, []
    try:
        # Training itself watches for numbers that are not finite.
        with handled_by(stop), np.errstate(all="ignore"), ExitStack() as folder:
            ranks = open_ranks()
            if ranks.rank:
                silence = folder.enter_context(open(os.devnull, "w"))
                folder.enter_context(redirect_stdout(silence))
                folder.enter_context(redirect_stderr(silence))
            run(argv, ranks, folder, again)
            return 0
    except (UsageError, DataError, BackendError, RanksError) as error:
        status, sentence = 2, f"{error}"
    except RunFailed as error:
        status, sentence = error.status, f"{error}{how_to_go_on(again)}"
    except MemoryError:
        status, sentence = 2, "out of memory: lower --hidden, --latent, --samples or --batch-size"
    except OSError as error:
        status, sentence = 2, f"{error}; what was written before is kept{how_to_go_on(again)}"
    except NonFiniteError as error:
        advice = "the likely cause is too large a step: lower --lr (and --multiplier-rate, if λ ran away)"
        status, sentence = 1, f"{error}; {advice}; what was written after the last whole epoch is kept"
    except Stopped as error:
        status, sentence = 128 + error.number, f"stopped{how_to_go_on(again)}"
    if ranks.rank == 0:
        print(f"run.py: {sentence}", file=sys.stderr, flush=True)
    ranks.fail(status, sentence)
    return status


def how_to_go_on(again: list[str]) -> str:
    """The command that goes on with what an error has ended, if there is one."""
    return f"; to go on: {again[0]}" if again else ""


if __name__ == "__main__":
    sys.exit(main())
