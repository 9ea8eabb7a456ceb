"""The IWAE ladder: a row a run, by the number K of samples, the estimator and the epochs.

python -m experiment.studies.ladder runs/ladder

The NLL is that of the evaluation with the most samples: python run.py --load DIR --evaluate --nll-samples 5000
"""

import json
from collections.abc import Sequence
from pathlib import Path

from experiment.evaluation import aligned, fixed
from experiment.studies.runs import FOLDERS, command, like_runs_in
from ref.objectives import METHODS


def ladder(folders: Sequence[Path]) -> str:
    """A row a run. −ELBO − NLL is the gap between the ELBO and the log-likelihood, which q(z|x) leaves open."""
    rows = [["K", "estimator", "epochs", "NLL [nats]", "samples", "ELBO", "−ELBO − NLL", "active", "seconds", "run"]]
    order = ("samples", "method", "epochs", "seed")
    for run in sorted(like_runs_in(folders), key=lambda run: [run.summary[name] for name in order]):
        later = [json.loads(path.read_text("utf-8")) for path in run.out.glob("evaluation-nll*.json")]
        own = run.summary
        figures = max([own, *later], key=lambda figures: figures["nll_samples"])
        row = [own["samples"], METHODS[own["method"]].title, own["epochs"]]
        row += [f"{figures['nll']:.2f} ± {figures['nll_standard_error']:.2f}", figures["nll_samples"]]
        row += [fixed(figures["elbo"], 2).replace("-", "−"), fixed(-figures["elbo"] - figures["nll"], 2)]
        row += [figures["active_units"], f"{own['seconds']:.0f}", run.out.name]
        rows.append([*map(str, row)])
    return aligned(rows)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, ladder, FOLDERS))
