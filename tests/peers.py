"""The training step of this project in PyTorch and in JAX, as a careful user of those would write it.

`tests/benchmark.py` times these peers beside ours, and checks first that they compute the same loss on the same noise.
"""

import math
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

KAPPA, RATE, ETA, SIGMA2 = 4.0, 1e-4, 2e-3, 0.5
STEPS = 100_000  # of the cosine schedule


class Case(NamedTuple):
    """What is timed: an objective on a network at a batch size."""

    method: str
    hidden: tuple[int, ...]
    latents: int
    activation: str
    likelihood: str
    batch_size: int
    samples: int


def loss_of(ops, case: Case, encoder, decoder, x, eps, lam):
    """The method's loss and its constraint; encoder and decoder are lists of (weights, bias).   (B, D), (K, B, Z)"""
    out = mlp(ops, case, encoder, x - 0.5)
    mean, log_std = out[:, : case.latents], out[:, case.latents :]
    z = mean + ops.exp(log_std) * eps
    logits = mlp(ops, case, decoder, z)
    if case.likelihood == "bernoulli":
        log_px, err = (x * logits - ops.softplus(logits)).sum(-1), None
    else:
        err = ops.square(x - ops.sigmoid(logits)).sum(-1)
        log_px = -err / (2 * SIGMA2) - 0.5 * x.shape[-1] * math.log(2 * math.pi * SIGMA2)
    if case.method.endswith("iwae"):
        ratio = (-0.5 * ops.square(z) + 0.5 * ops.square(eps) + log_std).sum(-1)  # log p(z) − log q(z|x)
    else:
        kl = (0.5 * (ops.square(mean) + ops.exp(2 * log_std) - 1) - log_std).sum(-1).mean()
    if case.method == "iwae":
        return -(ops.logsumexp(log_px + ratio, 0) - math.log(case.samples)).mean(), None
    if case.method == "geco-iwae":
        log_w = ratio - err
        constraint = (ops.softmax(log_w, 0) * err).sum(0).mean() - KAPPA**2
        bound = (ops.logsumexp(log_w, 0) - math.log(case.samples)).mean()
        return -bound + (lam - 1) * constraint - KAPPA**2, constraint
    if case.method == "geco":
        constraint = err.mean() - KAPPA**2
        return kl + lam * constraint, constraint
    return {"vae": 1.0, "beta-vae": 0.5}[case.method] * kl - log_px.mean(), None


def mlp(ops, case: Case, layers, h):
    """Affine, activation, …, affine."""
    for weights, bias in layers[:-1]:
        h = getattr(ops, case.activation)(ops.linear(h, weights, bias))
    return ops.linear(h, *layers[-1])


def layers(part: dict) -> list[tuple[np.ndarray, np.ndarray]]:
    """Our parameters of one side, {"W0": …, "b0": …, …}, as [(weights, bias), …]."""
    return [(part[f"W{i}"], part[f"b{i}"]) for i in range(len(part) // 2)]


def torch_peer(case: Case, parts, images: np.ndarray, device: str, compiled: bool):
    """(step, loss, wait): PyTorch, its Adam fused, with `compiled` torch.compile. `parts`: our parameters by name."""
    import torch
    from torch.nn import functional as f

    names = ("exp", "sigmoid", "square", "tanh", "logsumexp", "softmax")
    ops = SimpleNamespace(linear=f.linear, silu=f.silu, softplus=f.softplus, **{n: getattr(torch, n) for n in names})

    def tensor(a):
        return torch.tensor(np.ascontiguousarray(a), device=device)

    encoder, decoder = (
        [(tensor(w.T).requires_grad_(), tensor(b).requires_grad_()) for w, b in layers(part)] for part in parts
    )
    leaves = [array for layer in (*encoder, *decoder) for array in layer]
    optimizer = torch.optim.Adam(leaves, lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    pixels, order = tensor(images), torch.randperm(len(images), device=device)
    state = {"step": 0, "log_lam": tensor(np.zeros((), np.float32)), "c_ma": None}

    def forward(x, eps, lam):
        return loss_of(ops, case, encoder, decoder, x, eps, lam)

    if compiled:
        forward = torch.compile(forward, mode="reduce-overhead" if device == "cuda" else None)

    def step() -> None:
        start = state["step"] * case.batch_size % (len(images) - case.batch_size + 1)
        x = pixels[order[start : start + case.batch_size]].float() / 255
        eps = torch.randn(case.samples, case.batch_size, case.latents, device=device)
        value, constraint = forward(x, eps, torch.exp(state["log_lam"]))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        if constraint is not None:
            c_hat = constraint.detach()
            state["c_ma"] = c_hat.clone() if state["c_ma"] is None else 0.99 * state["c_ma"] + 0.01 * c_hat
            state["log_lam"] = state["log_lam"] + torch.clip(ETA * state["c_ma"] / KAPPA**2, -4 / STEPS, 4 / STEPS)
        state["step"] += 1

    def loss(x, eps, lam) -> float:
        return forward(tensor(x), tensor(eps), tensor(np.float32(lam)))[0].item()

    return step, loss, torch.cuda.synchronize if device == "cuda" else lambda: None


def jax_peer(case: Case, parts, images: np.ndarray, device: str):
    """(step, loss, wait): JAX, the whole step under one `jit` that reuses the memory of its state."""
    import jax
    from jax import numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")  # float32, as in the others, on a GPU too
    where = jax.devices("gpu" if device == "cuda" else "cpu")[0]
    names = ("silu", "sigmoid", "softplus", "softmax")
    ops = SimpleNamespace(
        linear=lambda h, w, b: h @ w + b,
        logsumexp=jax.scipy.special.logsumexp,
        **{n: getattr(jnp, n) for n in ("exp", "square", "tanh")},
        **{n: getattr(jax.nn, n) for n in names},
    )
    theta = jax.device_put([[(np.array(w), np.array(b)) for w, b in layers(part)] for part in parts], where)

    def forward(theta, x, eps, lam):
        return loss_of(ops, case, *theta, x, eps, lam)

    def step(state, pixels, order):
        t, key = state["step"], state["key"]
        key, draw = jax.random.split(key)
        rows = jax.lax.dynamic_slice(
            order, [t * case.batch_size % (len(images) - case.batch_size + 1)], [case.batch_size]
        )
        x = pixels[rows].astype(jnp.float32) / 255
        eps = jax.random.normal(draw, (case.samples, case.batch_size, case.latents))
        gradient, constraint = jax.grad(forward, has_aux=True)(state["theta"], x, eps, jnp.exp(state["log_lam"]))
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["m"], gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["v"], gradient)
        rate = RATE * 0.5 * (1 + jnp.cos(jnp.pi * t / STEPS))
        bias1, bias2 = 1 - 0.9 ** (t + 1.0), 1 - 0.999 ** (t + 1.0)
        update = lambda p, m, v: p - rate * (m / bias1) / (jnp.sqrt(v / bias2) + 1e-8)  # noqa: E731
        new = {"theta": jax.tree.map(update, state["theta"], m, v), "m": m, "v": v, "step": t + 1, "key": key}
        log_lam, c_ma = state["log_lam"], state["c_ma"]
        if constraint is not None:
            c_ma = jnp.where(t == 0, constraint, 0.99 * c_ma + 0.01 * constraint)
            log_lam = log_lam + jnp.clip(ETA * c_ma / KAPPA**2, -4 / STEPS, 4 / STEPS)
        return {**new, "log_lam": log_lam, "c_ma": c_ma}

    zeros = [jax.tree.map(jnp.zeros_like, theta) for _ in "mv"]
    box = {"step": 0, "log_lam": 0.0, "c_ma": 0.0, "key": jax.random.key(0, impl="rbg")}
    box = {**jax.device_put(box, where), "theta": theta, "m": zeros[0], "v": zeros[1]}
    held = {"state": jax.tree.map(jnp.copy, box)}
    pixels, order = jax.device_put((images, np.random.default_rng(0).permutation(len(images))), where)
    jitted = jax.jit(step, donate_argnums=0)

    def advance() -> None:
        held["state"] = jitted(held["state"], pixels, order)

    def loss(x, eps, lam) -> float:
        return float(jax.jit(forward)(theta, *jax.device_put((x, eps, np.float32(lam)), where))[0])

    return advance, loss, lambda: jax.block_until_ready(held["state"])
