"""What a change to GECO's multiplier or training is worth: one row a setting, over its seeds.

python -m studies.ablation runs/ablation

A setting is a folder's name without its seed: mnist-geco-0 and mnist-geco-1 are two seeds of mnist-geco.
"""

from collections.abc import Sequence
from pathlib import Path

from experiment.compare import Finished
from experiment.defaults import UsageError
from experiment.model import load
from experiment.results import aligned
from ref.objectives import METHODS, mean_error
from studies.runs import command, finished_in, over_seeds


def figures_of(run: Finished) -> tuple[float, ...]:
    """Rate and error on test images, the rate at κ², λ and its overshoot.

    At the optimum dR/dD = −λ along the rate–distortion curve. A run that ends at the error D with the rate R would
    therefore pay R + λ(D − κ²) at κ², to first order. λ overshoots by its maximum over its last value.
    """
    if METHODS[run.args.method].constrained is not mean_error:  # GECO + IWAE bounds the error of q_IW, not that of q
        raise UsageError(f"{run.out} does not bound the error of q(z|x); name runs of GECO")
    lam, excess = run.summary["lambda"], run.summary["constraint"]
    highest = max(report["lambda"] for report in load(run.out).history)
    rate = run.summary["rate"]
    return rate, run.args.kappa**2 + excess, rate + lam * excess, lam, highest / lam


def ablation(folders: Sequence[Path]) -> str:
    """A row a setting: mean ± standard error over its seeds."""
    settings: dict[str, list[Finished]] = {}
    for run in finished_in(folders):
        settings.setdefault(run.out.resolve().name.removesuffix(f"-{run.args.seed}"), []).append(run)
    rows = [["setting", "seeds", "rate [nats]", "error", "rate at κ²", "λ", "overshoot of λ"]]
    for name, runs in settings.items():
        seeds = [run.args.seed for run in runs]
        if len({*seeds}) < len(seeds):
            raise UsageError(f"{name} has a seed twice among {seeds}; name each seed of a setting once")
        columns = zip(*map(figures_of, runs), strict=True)
        rows.append([name, str(len(runs)), *(over_seeds(column) for column in columns)])
    return aligned(rows)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, ablation))
