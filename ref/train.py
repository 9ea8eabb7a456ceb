"""The training loop. A step is one function of the arrays in `state`; everything else is a constant of the run.

`state`: theta, m, v (P,) · step () · noise · order (N,), the epoch's shuffled images · totals, sums since the last
report · for a method with a constraint, log_lambda (), log_lambda_start () and constraint_ma (). Each of
`backend.ranks` processes holds the same state, draws the same noise, and goes through its own part of every batch.
Of m and v it holds only its own part, until `parts.gather` makes them whole.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from ref import vae
from ref.adam import SCHEDULES, decay, step_sizes
from ref.elementwise import elementwise
from ref.mlp import size
from ref.objectives import MULTIPLIERS, Method, memory, moving_average
from ref.parts import network_of

REPORTED = ("loss", "rate", "distortion", "elbo")


class Plan(NamedTuple):
    """The constants of a training run that are no part of the network."""

    epochs: int
    batch_size: int
    steps_per_epoch: int
    samples: int  # K
    lr: float
    schedule: str  # a name in adam.SCHEDULES
    multiplier: str  # a name in objectives.MULTIPLIERS
    multiplier_rate: float  # η
    options: dict  # values of the method's own options: beta, kappa or warm_up
    weight_decay: float
    adam: tuple[float, float, float] = (0.9, 0.999, 1e-8)  # β₁, β₂, ε


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


def make_step(backend, model: vae.Model, method: Method, plan: Plan, read: Callable, state: dict) -> Callable[[], None]:
    """The function that advances `state` by one minibatch; `read(rows, noise)` gives those images as floats (B, D)."""
    xp, dtype, theta = backend.xp, backend.dtype, state["theta"]
    params = vae.params_of(model, theta)
    part, weight = backend.ranks.share(plan.batch_size)
    means = xp.zeros(len(REPORTED) + 1, dtype)
    net = network_of(backend, model, state, plan.batch_size, plan.samples, plan.adam[:2])
    batches = state["order"][: plan.steps_per_epoch * plan.batch_size].reshape(plan.steps_per_epoch, plan.batch_size)
    steps = plan.epochs * plan.steps_per_epoch
    sizes_at = elementwise(partial(sizes, plan=plan, steps=steps, dtype=dtype))
    follow = elementwise(partial(follow_constraint, plan=plan, steps=steps))
    told = {"lam": lambda: xp.exp(state["log_lambda"]), "progress": lambda: state["step"] / steps}

    def minibatch(t):
        """This rank's images of minibatch t and their noise; all ranks draw the same for the whole batch."""
        x = read(xp.take(batches, t % plan.steps_per_epoch, axis=0), state["noise"])
        eps = backend.normal(state["noise"], (plan.samples, plan.batch_size, model.latents))
        return x[part], eps[:, part]

    def step() -> None:
        """Algorithm 1 of the slides; a method without a constraint leaves out λ."""
        t, options = state["step"], plan.options | {name: told[name]().astype(dtype) for name in method.takes}
        x, eps = minibatch(t)  # (B, D), (K, B, Z)

        terms, cache = net.forward(x, eps)  # z ~ q(z|x), and what the loss is made of
        means[...] = batch_means(xp, method, terms, method.loss(xp, terms, **options))  # the last is Ĉ + κ²
        net.backward(method.backward(xp, terms, **options), cache)  # -> grad, which does not see C_ma
        backend.ranks.all_reduce(means, weight)  # now those of the whole batch, as grad is

        *scale_and_floor, shrink = sizes_at(xp, t)
        if plan.weight_decay:
            decay(params, shrink)
        sum_theta = net.update(scale_and_floor)  # θ ← Adam(θ, grad)
        state["totals"][...] += means[:-1]
        finite = xp.isfinite(state["totals"][0] + sum_theta)
        if method.constrained:
            numbers = (state[name] for name in ("log_lambda", "constraint_ma", "log_lambda_start", "step"))
            follow(xp, *numbers, means[-1], finite)  # C_ma, and log λ in proportion to it
        state["step"][...] += finite  # t ← t + 1, and never again once a step was not finite

    return backend.compile(step)


def sizes(xp, t, plan: Plan, steps: int, dtype):
    """What update t multiplies by: the scale and the floor of `adam`, and the shrink of `decay`."""
    rate = plan.lr * SCHEDULES[plan.schedule](xp, t, steps)
    return tuple(a.astype(dtype) for a in (*step_sizes(xp, t, rate, *plan.adam), 1 - rate * plan.weight_decay))


def batch_means(xp, method: Method, terms: vae.Terms, loss):
    """The means under the names in REPORTED, and that of the constrained error."""
    rate = xp.mean(terms.kl)
    error = xp.mean(method.constrained(xp, terms)) if method.constrained else xp.zeros_like(rate)
    return xp.stack([loss, rate, xp.mean(terms.err), xp.mean(terms.log_px) - rate, error])


def follow_constraint(xp, log_lam, c_ma, start, step, error, finite, plan: Plan, steps: int) -> None:
    """C_ma ← α·C_ma + (1 − α)·Ĉ, and λ moves by the plan's rule; neither moves unless the step was finite."""
    (advance, _), kappa = MULTIPLIERS[plan.multiplier], plan.options["kappa"]
    average = moving_average(xp, c_ma, error - kappa**2, step == 0, memory(steps))
    moved = advance(xp, log_lam, start, average, kappa, plan.multiplier_rate, steps)
    log_lam[...] = xp.where(finite, moved, log_lam)
    c_ma[...] = xp.where(finite, average, c_ma)


def train(backend, step: Callable, state: dict, plan: Plan, reports_per_epoch: int = 10) -> Iterator[dict]:
    """Trains from `state` to the end of the plan; yields the means since the last report, some times an epoch.

    Nothing that the caller does between two reports changes a result, and a copy of `state` made there goes on as
    `state` would have. Raises NonFiniteError.
    """
    interval = max(1, -(-plan.steps_per_epoch // reports_per_epoch))
    done = int(state["step"])
    while done < plan.epochs * plan.steps_per_epoch:
        epoch, begin = divmod(done, plan.steps_per_epoch)
        if begin == 0:
            state["order"][...] = backend.xp.argsort(backend.normal(state["noise"], state["order"].shape))
        started = time.perf_counter()
        count = min(interval, plan.steps_per_epoch - begin)
        for _ in range(count):
            step()
        backend.synchronize()
        done += count
        yield report(backend, state, epoch, done, count, started)


def report(backend, state: dict, epoch: int, expected: int, count: int, started: float) -> dict:
    """The means of the last `count` steps; raises NonFiniteError unless `expected` steps are done."""
    done = int(state["step"])
    multiplier = float(backend.xp.exp(state["log_lambda"])) if "log_lambda" in state else None
    if done != expected:
        lam = "" if multiplier is None else f", λ = {multiplier:.4g}"
        raise NonFiniteError(f"the loss, its gradient or the weights are not finite at step {done + 1}{lam}")
    means = [float(total) / count for total in state["totals"]]
    state["totals"][...] = 0
    return {
        "epoch": epoch + 1,
        "step": done,
        **dict(zip(REPORTED, means, strict=True)),
        "constraint_ma": float(state["constraint_ma"]) if "constraint_ma" in state else None,
        "lambda": multiplier,
        "steps": count,
        "seconds": time.perf_counter() - started,
    }
