"""The training loop. A step is one function of the arrays in `state`; everything else is a constant of the run.

`state`: theta, m, v (P,) · step () · noise · order (N,), the epoch's shuffled images · totals, sums since the last
report · for a method with a constraint, log_lambda () and constraint_ma (). Each of `backend.ranks` processes holds the
same state, draws the same noise, and goes through its own share of every batch, in `backend.parts` parts at once.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ref import vae
from ref.adam import SCHEDULES, adam, step_sizes
from ref.mlp import size
from ref.objectives import MULTIPLIERS, Method, moving_average

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
    options: dict  # what the method's loss takes: beta or kappa
    weight_decay: float
    adam: tuple[float, float, float] = (0.9, 0.999, 1e-8)  # β₁, β₂, ε


class NonFiniteError(ArithmeticError):
    """The loss or its gradient is no longer a finite number."""


def initial_theta(backend, model: vae.Model, noise, output_bias):
    """Uniform weights (Glorot & Bengio 2010, equation 16) and zero biases, but for the output's."""
    encoder, decoder = vae.param_shapes(model)
    theta = backend.xp.zeros(size(encoder) + size(decoder), backend.dtype)
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
        state |= {"log_lambda": xp.full((), math.log(lam), xp.float64), "constraint_ma": xp.zeros((), xp.float64)}
    return state


def make_step(backend, model: vae.Model, method: Method, plan: Plan, read: Callable, state: dict) -> Callable[[], None]:
    """The function that advances `state` by one minibatch; `read(rows, noise)` gives those images as floats (B, D)."""
    xp = backend.xp
    mine, weight = backend.ranks.share(plan.batch_size)
    theta, images = state["theta"], mine.stop - mine.start
    count = min(images, backend.parts(images * plan.samples))
    parts, pieces = cut(images, count), cut(theta.size, count)
    # The gradient, the reported means and the constraint: one vector, which is summed over the ranks once a step.
    shared = xp.zeros(theta.size + len(REPORTED) + 1, backend.dtype)
    grad, means = shared[: theta.size], shared[theta.size :]
    grads = [grad, *xp.zeros((count - 1, theta.size), backend.dtype)]  # of each part of the batch
    params, d_params = vae.params_of(model, theta), [vae.params_of(model, g) for g in grads]
    offsets = xp.arange(plan.batch_size)
    advance, _ = MULTIPLIERS[plan.multiplier]
    steps = plan.epochs * plan.steps_per_epoch
    beta1, beta2, _ = plan.adam

    @backend.fuse
    def update(theta, m, v, grad, scale, floor, shrink) -> None:
        adam(xp, theta, m, v, grad, scale, floor, shrink, beta1, beta2)

    def add_up(piece: slice) -> None:
        """grad ← Σ grads"""
        for other in grads[1:]:
            grad[piece] += other[piece]

    def update_piece(piece: slice, sizes):
        """Adam on a piece of θ; returns the squared norm of its gradient."""
        update(*(a[piece] for a in (theta, state["m"], state["v"], grad)), *sizes)
        return xp.matmul(grad[piece], grad[piece])

    def step() -> None:
        t = state["step"]
        rows = xp.take(state["order"], t % plan.steps_per_epoch * plan.batch_size + offsets)
        x = read(rows, state["noise"])[mine]
        eps = backend.normal(state["noise"], (plan.samples, plan.batch_size, model.latents))[:, mine]
        passes = backend.each(lambda part: vae.forward(xp, model, params, x[part], eps[:, part]), parts)
        terms = vae.joined(xp, [terms for terms, _ in passes])  # an objective sees them all

        options = dict(plan.options)
        if method.constraint:
            options["lam"] = xp.exp(state["log_lambda"]).astype(backend.dtype)
        loss = method.loss(xp, terms, **options)
        d_terms = method.backward(xp, terms, **options)

        def backward(i: int) -> None:
            vae.backward(xp, model, params, passes[i][1], vae.part_of(d_terms, parts[i]), d_params[i])

        backend.each(backward, range(count))
        rate_, log_px = xp.mean(terms.kl), xp.mean(terms.log_px)
        c_hat = method.constraint(xp, terms, **plan.options) if method.constraint else xp.zeros_like(loss)
        means[...] = xp.stack([loss, rate_, xp.mean(terms.err), log_px - rate_, c_hat])
        backend.each(add_up, pieces)
        backend.ranks.sum(shared, weight)

        rate = plan.lr * SCHEDULES[plan.schedule](xp, t, steps)
        sizes = [s.astype(backend.dtype) for s in step_sizes(xp, t, rate, plan.weight_decay, *plan.adam)]
        squares = backend.each(lambda piece: update_piece(piece, sizes), pieces)
        finite = xp.isfinite(means[0]) & xp.isfinite(sum(squares[1:], squares[0]))
        if method.constraint:
            c_ma = moving_average(xp, state["constraint_ma"], means[-1], t == 0)
            log_lam = advance(xp, state["log_lambda"], c_ma, plan.options["kappa"], plan.multiplier_rate, steps)
            state["constraint_ma"][...] = xp.where(finite, c_ma, state["constraint_ma"])
            state["log_lambda"][...] = xp.where(finite, log_lam, state["log_lambda"])
        state["totals"][...] += means[:-1]
        state["step"][...] += finite  # a step that is not finite is not counted: the count says where it went wrong

    return backend.compile(step)


def cut(count: int, parts: int) -> list[slice]:
    """The first `count` numbers in so many slices, as even as can be."""
    return [slice(i * count // parts, (i + 1) * count // parts) for i in range(parts)]


def train(backend, step: Callable, state: dict, plan: Plan, reports_per_epoch: int = 10) -> Iterator[dict]:
    """Trains from `state` to the end of the plan; yields the means since the last report, some times an epoch.

    Nothing that the caller does between two reports changes a result, and a copy of `state` made there goes on as
    `state` would have. Raises NonFiniteError.
    """
    xp = backend.xp
    interval = max(1, -(-plan.steps_per_epoch // reports_per_epoch))
    done = int(state["step"])
    while done < plan.epochs * plan.steps_per_epoch:
        epoch, begin = divmod(done, plan.steps_per_epoch)
        if begin == 0:
            state["order"][...] = xp.argsort(backend.normal(state["noise"], state["order"].shape))
        started = time.perf_counter()
        count = min(interval, plan.steps_per_epoch - begin)
        for _ in range(count):
            step()
        backend.synchronize()
        done += count
        yield report(backend, state, epoch, done, count, started)


def report(backend, state: dict, epoch: int, expected: int, count: int, started: float) -> dict:
    """The means of the last `count` steps; raises NonFiniteError unless `expected` steps are done and θ is finite."""
    done = int(state["step"])
    multiplier = float(backend.xp.exp(state["log_lambda"])) if "log_lambda" in state else None
    if done != expected or not bool(backend.xp.isfinite(backend.xp.sum(backend.xp.abs(state["theta"])))):
        lam = "" if multiplier is None else f", λ = {multiplier:.4g}"
        raise NonFiniteError(
            f"the loss, its gradient or the weights are not finite at step {min(done + 1, expected)}{lam}"
        )
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
