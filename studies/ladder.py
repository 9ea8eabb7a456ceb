"""The IWAE ladder: one row a run, by the number K of samples, the estimator and the epochs.

python -m studies.ladder runs/ladder

The NLL is that of the evaluation with the most samples: python run.py --load DIR --evaluate --nll-samples 5000
"""

import json
from collections.abc import Sequence
from pathlib import Path

from experiment.compare import Finished
from experiment.results import aligned
from ref.objectives import METHODS
from studies.runs import command, finished_in


def evaluated(run: Finished) -> dict:
    """The run's figures with the most NLL samples: summary.json's or those of a later --evaluate on its own images."""
    later = [json.loads(path.read_text()) for path in run.out.glob("evaluation-nll*.json")]
    return max([run.summary, *later], key=lambda figures: figures["nll_samples"])


def ladder(folders: Sequence[Path]) -> str:
    """A row a run. −ELBO − NLL is the gap between the ELBO and the likelihood: what q(z|x) lacks."""
    rows = [["K", "estimator", "epochs", "NLL [nats]", "samples", "ELBO", "−ELBO − NLL", "active", "seconds", "run"]]
    runs = sorted(finished_in(folders), key=lambda run: (run.args.samples, run.args.method, run.args.epochs, run.out))
    for run in runs:
        figures, args = evaluated(run), run.args
        row = [args.samples, METHODS[args.method].title, args.epochs]
        row += [f"{figures['nll']:.2f} ± {figures['nll_standard_error']:.2f}", figures["nll_samples"]]
        row += [f"{figures['elbo']:.2f}".replace("-", "−"), f"{-figures['elbo'] - figures['nll']:.2f}"]
        row += [figures["active_units"], f"{run.summary['seconds']:.0f}", run.out.name]
        rows.append([*map(str, row)])
    return aligned(rows)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, ladder))
