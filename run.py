"""Train a VAE by one of five objectives, judge it on images it has not seen, and draw what it does.

python run.py                                                GECO on the embedded digits
python run.py --method geco --data mnist                     GECO on MNIST, downloaded once
python run.py --method iwae --data mnist --likelihood bernoulli --binarize dynamic
"""

import platform
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from backend import BackendError, open_backend
from data import DataError, binarize, load
from experiment.files import FILES, claim, existing_run, write_json
from experiment.options import UsageError, complete, parser
from experiment.pictures import draw_curves, draw_pictures
from experiment.results import summarize, table, warn
from experiment.training import build, fit, reader
from ref.objectives import METHODS
from ref.train import NonFiniteError


def run(argv: list[str] | None) -> None:
    """One run from options to pictures."""
    args = parser(__doc__).parse_args(argv)
    backend = open_backend(args.backend, args.precision, args.tf32)
    data = load(args.data, args.data_dir, args.size)
    if (data.train.max(axis=0) == data.train.min(axis=0)).all():
        raise UsageError(f"the training images of --data {args.data} are all the same; there is nothing to learn")
    if args.binarize == "static":
        data = data._replace(train=binarize(data.train, 0), test=binarize(data.test, 1))
    args = complete(args, data)
    args.out = args.out or Path("runs") / f"{data.name}-{args.method}-{args.seed}"
    options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    libraries = {name: metadata.version(name) for name in ("numpy", "pillow", "matplotlib")}
    versions = {"python": platform.python_version(), **libraries, **backend.versions}
    config = {
        "command": ["run.py", *(sys.argv[1:] if argv is None else argv)],
        "options": options,
        "versions": versions,
    }
    dynamic = args.binarize == "dynamic"
    read = reader(backend, data.train, dynamic)
    existing_run(args.out, args.force)
    model, state = build(args, backend, data, read)
    claim(args.out, args.force, config)  # only now, because a network may not fit into memory
    rows, history = fit(args, backend, model, state, read, config)
    read_test = reader(backend, data.test, dynamic)
    summary = summarize(args, data, backend, model, state, read_test, rows)
    write_json(args.out / "summary.json", summary)
    if METHODS[args.method].constraint and (warning := warn(args, summary, rows)):
        print(f"run.py: {warning}", file=sys.stderr)
    draw_pictures(args.out, backend, model, state["theta"], read_test, data.shape, min(10, len(data.test)))
    draw_curves(args.out / "curves.png", history, summary["kappa"])
    print(table(summary, data.test.shape[1]))
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
