"""Trains GECO with one thing changed at a time: what ablation.py reads.

python -m studies.geco_variants runs/ablation --data mnist --seeds 0 1 2

A run's folder is named DATA-VARIANT-SEED, and a run that is there is skipped. --resume would go on without the change.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import experiment.training
import ref.train
import run
from experiment.defaults import UsageError
from ref.objectives import memory, moving_average, relative_multiplier


def nu_pi(gain: float) -> AbstractContextManager:
    """νPI for log λ: the raw violation is integrated, and only the proportional part is smoothed. Sohrabi et al. 2024.

    log λ ← log λ + η·(C_t + K_P·(ξ_t − ξ_{t−1}))/κ² within the bounds of the relative rule, C_t = Ĉ − κ² of one batch,
    ξ_t its moving average. `gain` is K_P.
    """

    def follow(xp, log_lam, average, start, step, error, finite, plan, steps) -> None:
        kappa = plan.options["kappa"]
        violation = error - kappa**2
        before = xp.where(step == 0, violation, average)
        after = moving_average(xp, before, violation, step == 0, memory(steps))
        change = violation + gain * (after - before)
        moved = relative_multiplier(xp, log_lam, start, change, kappa, plan.multiplier_rate, steps)
        log_lam[...] = xp.where(finite, moved, log_lam)
        average[...] = xp.where(finite, after, average)

    return patch.object(ref.train, "follow_constraint", follow)


def late_batch(factor: int) -> AbstractContextManager:
    """Batches that are `factor` times as large in the last third of the run, for as many images."""

    def make_step(backend, model, method, plan, read, state) -> Callable[[], None]:
        if plan.steps_per_epoch % factor:
            raise UsageError(f"an epoch has {plan.steps_per_epoch} batches, which is no multiple of {factor}")
        early = ref.train.make_step(backend, model, method, plan, read, state)
        own = {"step": backend.xp.zeros_like(state["step"]), "totals": backend.xp.zeros_like(state["totals"])}
        large = plan._replace(
            batch_size=factor * plan.batch_size,
            steps_per_epoch=plan.steps_per_epoch // factor,
            multiplier_rate=factor * plan.multiplier_rate,
        )
        late = ref.train.make_step(backend, model, method, large, read, state | own)
        begin = plan.steps_per_epoch * (plan.epochs - plan.epochs // 3)

        def step() -> None:
            now = int(state["step"])
            if now < begin:
                return early()
            if now % factor == 0:
                own["step"][...] = now // factor
                late()
                state["totals"][...] += factor * own["totals"]
                own["totals"][...] = 0
            state["step"][...] += own["step"] > now // factor  # unless the step was not finite

        return step

    return patch.object(experiment.training, "make_step", make_step)


def average(epochs: int) -> AbstractContextManager:
    """θ at the end is its mean over the steps of the last epochs. Polyak & Juditsky 1992."""

    def make_step(backend, model, method, plan, read, state) -> Callable[[], None]:
        inner, theta = ref.train.make_step(backend, model, method, plan, read, state), state["theta"]
        total, last = backend.xp.zeros(theta.shape, "float64"), plan.epochs * plan.steps_per_epoch
        begin = last - epochs * plan.steps_per_epoch

        def step() -> None:
            inner()
            now = int(state["step"])
            if now > begin:
                total[...] += theta
            if now == last:
                theta[...] = total / (last - begin)

        return step

    return patch.object(experiment.training, "make_step", make_step)


def decay_all(params: dict, shrink) -> None:
    """Weight decay that does not spare the biases."""
    for part in params.values():
        for weights in part.values():
            weights *= shrink


VARIANTS = {
    "base": nullcontext,
    "nu-pi-10": partial(nu_pi, 10.0),
    "nu-pi-100": partial(nu_pi, 100.0),
    "late-batch-3": partial(late_batch, 3),
    "average-1": partial(average, 1),
    "average-5": partial(average, 5),
    "decay-biases": lambda: patch.object(ref.train, "decay", decay_all),
}


def main(argv: list[str] | None = None) -> int:
    """Trains the variants that are not there, seed by seed."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path, metavar="DIR", help="a folder for the runs")
    p.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS], metavar="V", help=f"{[*VARIANTS]}")
    p.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    p.add_argument("--data", default="mnist")
    p.add_argument("--backend", default="numpy")
    args = p.parse_args(argv)
    for seed in args.seeds:
        for name in args.variants:
            folder = args.out / f"{args.data}-{name}-{seed}"
            if (folder / "summary.json").exists():
                continue
            options = ["--data", args.data, "--backend", args.backend, "--seed", f"{seed}", "--nll-samples", "10"]
            with VARIANTS[name]():
                status = run.main([*options, "--out", f"{folder}", "--force"])
            if status:
                return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
