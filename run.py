"""Train a VAE by one of five objectives, judge it on images it has not seen, and draw what it does.

python run.py                                                GECO on the embedded digits
python run.py --method geco --data mnist                     GECO on MNIST, downloaded once
python run.py --method iwae --data mnist --likelihood bernoulli --binarize dynamic
python run.py --method all --data mnist                      every method, compared in runs/mnist-all/report.html
"""

import sys
from pathlib import Path

import numpy as np

from backend import BackendError, open_backend
from data import DataError
from experiment.compare import COMPARISON_FILES, compare
from experiment.files import FILES
from experiment.one import open_data, run_one
from experiment.options import UsageError, complete, parser
from experiment.results import table
from ref.train import NonFiniteError


def run(argv: list[str] | None) -> None:
    """One run or a comparison, from options to pictures."""
    args = parser(__doc__).parse_args(argv)
    command = sys.argv[1:] if argv is None else argv
    backend = open_backend(args.backend, args.precision, args.tf32)
    data = open_data(args)
    if args.method == "all":
        args.out = args.out or Path("runs") / f"{data.name}-all"
        print(compare(args, backend, data, command))
        print(f"all in {args.out}/: {', '.join(COMPARISON_FILES)}, and a folder for each run")
        return
    args = complete(args, data)
    args.out = args.out or Path("runs") / f"{data.name}-{args.method}-{args.seed}"
    print(table(run_one(args, backend, data, command), data.test.shape[1]))
    print(f"rate, ELBO and NLL in nats, distortion in squared error per image; all in {args.out}/: {', '.join(FILES)}")


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 2 for bad input, 1 for numbers that are not finite, 130 for Ctrl-C, each with one sentence."""
    try:
        with np.errstate(all="ignore"):  # training itself watches for numbers that are not finite
            run(argv)
    except (UsageError, DataError, BackendError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("run.py: out of memory: lower --hidden, --latent, --samples or --batch-size", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"run.py: {error}; what was written before is kept", file=sys.stderr)
        return 2
    except NonFiniteError as error:
        advice = "the likely cause is too large a step: lower --lr (and --multiplier-rate, if λ ran away)"
        print(f"run.py: {error}; {advice}; what was written after the last whole epoch is kept", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: interrupted; what was written after the last whole epoch is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
