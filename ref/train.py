"""The training loop. A step is one function of the arrays in `state`; everything else is a constant of the run.

`state`: theta, m, v (P,) · step () · noise · order (N,), the epoch's shuffled images · totals since the last report ·
with a constraint log_lambda (), log_lambda_start (), constraint_ma (). Several processes hold the same state and draw
the same noise; each goes through its own part of a batch: see backend/parts.py.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from ref import vae
from ref.adam import SCHEDULES, adam, decay, step_sizes
from ref.elementwise import averaged, elementwise
from ref.mlp import size
from ref.objectives import MULTIPLIERS, Method, Now, memory, moving_average

REPORTED = ("loss", "rate", "error", "elbo")


class Plan(NamedTuple):
    """The constants of a training run that are no part of the network."""

    epochs: int
    batch_size: int
    steps_per_epoch: int
    samples: int  # K
    options: dict  # the numbers of the method's own options
    lr: float
    schedule: str  # a name in adam.SCHEDULES
    adam: tuple[float, float, float]  # β₁, β₂, ε
    weight_decay: float
    target: float = 0.0  # of the method's constraint
    multiplier: str = "relative"  # a name in objectives.MULTIPLIERS
    multiplier_rate: float = 1.0  # η; D/2 of a rule that is no choice

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


class NonFiniteError(ArithmeticError):
    """The loss or its gradient is no longer a finite number."""


def initial_theta(backend, model: vae.Model, noise, output_bias):
    """Uniform weights (Glorot & Bengio 2010, equation 16) and zero biases, but for the output's."""
    theta = backend.xp.zeros(sum(map(size, model.network.shapes(model))), backend.dtype)
    for part in vae.params_of(model, theta).values():
        for name, weights in part.items():
            if name.startswith("W"):
                limit = math.sqrt(6 / sum(weights.shape))
                weights[...] = (2 * backend.uniform(noise, weights.shape) - 1) * limit
    vae.params_of(model, theta)["decoder"][f"b{len(model.hidden)}"][...] = output_bias
    return theta


def initial_state(backend, theta, noise, images: int, lam: float | None) -> dict:
    """The arrays of a run before its first step; `lam` starts the multiplier, None without a constraint."""
    xp = backend.xp
    state = {"theta": theta, "m": xp.zeros_like(theta), "v": xp.zeros_like(theta), "noise": noise}
    state |= {"step": xp.zeros((), xp.int64), "order": xp.arange(images), "totals": xp.zeros(len(REPORTED), xp.float64)}
    if lam is not None:
        state |= {name: xp.full((), math.log(lam), xp.float64) for name in ("log_lambda", "log_lambda_start")}
        state |= {"constraint_ma": xp.zeros((), xp.float64)}
    return state


def make_step(backend, model: vae.Model, method: Method, plan: Plan, read: Callable, state: dict) -> Callable:
    """The function that advances `state` by one minibatch; read(rows, noise) -> floats (B, D)."""
    xp, theta, m, v, t = backend.xp, *(state[name] for name in ("theta", "m", "v", "step"))
    grad, noise, totals = xp.zeros_like(theta), state["noise"], state["totals"]
    params, d_params = vae.params_of(model, theta), vae.params_of(model, grad)
    log_lam = state["log_lambda"] if method.constraint else xp.zeros((), xp.float64)
    # The backend may cut these three calls into parts, and share them among processes.
    shared = backend.shared(plan.batch_size, plan.samples, grad)
    forward, backward, update = shared.forward(vae.forward), shared.backward(vae.backward), shared.update(adam)
    numbers_at = elementwise(partial(numbers, plan=plan, dtype=backend.dtype))
    means_of = averaged(partial(batch_means, method=method, plan=plan))
    end = elementwise(partial(end_of_step, method=method, plan=plan))
    constraint = [state[name] for name in ("log_lambda", "constraint_ma", "log_lambda_start") if method.constraint]
    batches = state["order"][: plan.steps_per_epoch * plan.batch_size].reshape(plan.steps_per_epoch, plan.batch_size)

    def step() -> None:
        """Algorithm 1 of the slides; a method without a constraint leaves out λ."""
        row, lam, done, scale, floor, shrink = numbers_at(xp, t, log_lam)
        x = read(xp.take(batches, row, axis=0), noise)[shared.images]  # (B, D)
        eps = backend.normal(noise, (plan.samples, plan.batch_size, model.latents))[:, shared.images]  # (K, B, Z)
        now = Now(lam, plan.target, done, model.center.shape[0])

        terms, cache = forward(xp, model, params, x, eps)  # z ~ q(z|x), and what the loss is made of
        means = means_of(xp, terms, now)
        d_terms = method.backward(xp, terms, now, **plan.options)  # does not see C_ma
        backward(xp, model, params, cache, d_terms, d_params)  # -> grad
        shared.mean(means)  # now those of the whole batch, as grad is

        if plan.weight_decay:
            decay(params, shrink)
        sum_theta = update(xp, theta, m, v, grad, scale, floor, *plan.adam[:2])  # θ ← Adam(θ, grad)
        totals[...] += means[: len(totals)]
        end(xp, t, totals[0], sum_theta, means[-1], *constraint)  # C_ma, λ, t ← t + 1

    return backend.compile(step)


def numbers(xp, t, log_lam, plan: Plan, dtype):
    """The minibatch of update t, λ, the share of the run that is done, `adam`'s scale and floor, weights' shrink."""
    rate = plan.lr * SCHEDULES[plan.schedule](xp, t, plan.steps)
    found = xp.exp(log_lam), t / plan.steps, *step_sizes(xp, t, rate, *plan.adam), 1 - rate * plan.weight_decay
    return t % plan.steps_per_epoch, *(a.astype(dtype) for a in found)


def batch_means(xp, terms: vae.Terms, now: Now, method: Method, plan: Plan):
    """The means of REPORTED, and last that of what the constraint bounds: Ĉ + target."""
    loss, rate = method.loss(xp, terms, now, **plan.options), xp.mean(terms.kl)
    found = [loss, rate, xp.mean(terms.err), xp.mean(terms.log_px) - rate]
    if method.constraint:
        found.append(xp.mean(method.constraint.bounded(xp, terms)))
    return xp.stack(found)


def end_of_step(xp, t, total, sum_theta, bounded, *constraint, method: Method, plan: Plan) -> None:
    """C_ma ← α·C_ma + (1 − α)·Ĉ, λ by its rule, t ← t + 1; none of them once a step was not finite."""
    finite = xp.isfinite(total + sum_theta)
    if constraint:
        log_lam, c_ma, start = constraint
        advance = method.constraint.rule or MULTIPLIERS[plan.multiplier][0]
        average = moving_average(xp, c_ma, bounded - plan.target, t == 0, memory(plan.steps))
        moved = advance(xp, log_lam, start, average, plan.target, plan.multiplier_rate, plan.steps)
        log_lam[...] = xp.where(finite, moved, log_lam)
        c_ma[...] = xp.where(finite, average, c_ma)
    t += finite


def train(backend, step: Callable, state: dict, plan: Plan, reports_per_epoch: int = 10) -> Iterator[dict]:
    """Trains from `state` to the end of the plan; yields the means since the last report. Raises NonFiniteError.

    Nothing that the caller does between two reports changes a result; a copy of `state` made there goes on alike.
    """
    interval = -(-plan.steps_per_epoch // reports_per_epoch)
    done = int(state["step"])
    while done < plan.steps:
        epoch, begin = divmod(done, plan.steps_per_epoch)
        if begin == 0:
            state["order"][...] = backend.xp.argsort(backend.normal(state["noise"], state["order"].shape))
        started, count = time.perf_counter(), min(interval, plan.steps_per_epoch - begin)
        for _ in range(count):
            step()
        backend.synchronize()
        done += count
        yield report(backend, state, epoch, done, count, started)


def report(backend, state: dict, epoch: int, expected: int, count: int, started: float) -> dict:
    """The means of the last `count` steps; raises NonFiniteError unless `expected` steps are done."""
    done, lam, c_ma, told = int(state["step"]), None, None, ""
    if "log_lambda" in state:
        lam, c_ma = float(backend.xp.exp(state["log_lambda"])), float(state["constraint_ma"])
        told = f", λ = {lam:.4g}"
    if done != expected:
        raise NonFiniteError(f"the loss, its gradient or the weights are not finite at step {done + 1}{told}")
    means = dict(zip(REPORTED, (float(total) / count for total in state["totals"]), strict=True))
    state["totals"][...] = 0
    found = {"epoch": epoch + 1, "step": done, **means, "constraint_ma": c_ma, "lambda": lam}
    return found | {"steps": count, "seconds": time.perf_counter() - started}
