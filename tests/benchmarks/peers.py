"""Training in PyTorch and in JAX, as a careful user of those would write it, with the objectives of this project.

`benchmark.py` times a step beside ours, and checks first that the losses are equal on equal noise. `end_to_end.py`
trains and judges a model beside ours.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

SIGMA2 = 0.5
METHODS = ("vae", "beta-vae", "geco", "iwae", "geco-iwae")


class Case(NamedTuple):
    """What is timed: an objective on a network at a batch size."""

    method: str
    hidden: tuple[int, ...]
    latents: int
    activation: str
    likelihood: str
    batch_size: int
    samples: int
    kappa: float = 4.0


class Recipe(NamedTuple):
    """What moves the weights and λ. The defaults are the benchmark's: a long run, of which it times the beginning."""

    steps: int = 100_000  # of the cosine schedule
    lr: float = 1e-4
    weight_decay: float = 0.0  # of weights, not of biases
    eta: float = 2e-3  # of the relative rule for λ
    lam: float = 1.0  # λ of the first step
    seed: int = 0  # of the order of the images and of all noise

    @property
    def memory(self) -> float:
        """What the constraint's moving average keeps of itself in a step."""
        return 1 - 1 / min(100, self.steps / 10)

    @property
    def travel(self) -> float:
        """How far log λ moves in a step at most."""
        return 4 / self.steps


class Peer(NamedTuple):
    """A model, its training and its use. Arrays that go in and out are NumPy's."""

    step: Callable  # () -> None: the next minibatch
    wait: Callable  # () -> None: until the device has finished
    shuffle: Callable  # () -> None: the images in a new order
    loss: Callable  # (x, eps, λ) -> float
    multiplier: Callable  # () -> λ
    encode: Callable  # x (B, D) -> mean, log_std (B, Z)
    draw: Callable  # (x, mean, log_std, K) -> squared error, log w (K, B) of K draws from q(z|x)
    decode: Callable  # z (N, Z) -> x̂ (N, D)


def initial(case: Case, pixels: int, output_bias, rng) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Encoder and decoder as lists of (weights, bias): uniform weights (Glorot & Bengio 2010), zero biases but one."""
    encoder = (pixels, *case.hidden, 2 * case.latents)
    theta = [
        [
            (math.sqrt(6 / (m + n)) * rng.uniform(-1, 1, (m, n)).astype(np.float32), np.zeros(n, np.float32))
            for m, n in pairwise(sizes)
        ]
        for sizes in (encoder, (case.latents, *reversed(encoder[:-1])))
    ]
    theta[1][-1][1][...] = output_bias
    return theta


def layers(part: dict) -> list[tuple[np.ndarray, np.ndarray]]:
    """Our parameters of one side, {"W0": …, "b0": …, …}, as [(weights, bias), …]."""
    return [(part[f"W{i}"], part[f"b{i}"]) for i in range(len(part) // 2)]


def mlp(ops, case: Case, layers, h):
    """Affine, activation, …, affine."""
    for weights, bias in layers[:-1]:
        h = getattr(ops, case.activation)(ops.linear(h, weights, bias))
    return ops.linear(h, *layers[-1])


def encode(ops, case: Case, encoder, x):
    """Centred images -> mean, log_std of q(z|x).   (B, D) -> (B, Z), (B, Z)"""
    out = mlp(ops, case, encoder, x)
    return out[:, : case.latents], out[:, case.latents :]


def likelihood(ops, case: Case, x, logits):
    """log p(x|z), and ‖x − x̂‖², None where nobody asks for it.   (B, D), (K, B, D) -> (K, B), (K, B)"""
    gaussian, err = case.likelihood == "gaussian", None
    if gaussian or case.method.startswith("geco"):
        err = ops.square(x - ops.sigmoid(logits)).sum(-1)
    if gaussian:
        return -err / (2 * SIGMA2) - 0.5 * x.shape[-1] * math.log(2 * math.pi * SIGMA2), err
    return (x * logits - ops.softplus(logits)).sum(-1), err


def log_ratio(ops, z, eps, log_std):
    """log p(z) − log q(z|x).   (K, B)"""
    return (-0.5 * ops.square(z) + 0.5 * ops.square(eps) + log_std).sum(-1)


def loss_of(ops, case: Case, center, theta, x, eps, lam):
    """The method's loss and its constraint; theta is encoder and decoder.   (B, D), (K, B, Z) -> (), () or None"""
    mean, log_std = encode(ops, case, theta[0], x - center)
    z = mean + ops.exp(log_std) * eps
    log_px, err = likelihood(ops, case, x, mlp(ops, case, theta[1], z))
    if case.method.endswith("iwae"):
        ratio = log_ratio(ops, z, eps, log_std)
    else:
        kl = (0.5 * (ops.square(mean) + ops.exp(2 * log_std) - 1) - log_std).sum(-1).mean()
    if case.method == "iwae":
        return -(ops.logsumexp(log_px + ratio, 0) - math.log(case.samples)).mean(), None
    if case.method == "geco-iwae":
        log_w = ratio - err
        constraint = (ops.softmax(log_w, 0) * err).sum(0).mean() - case.kappa**2
        bound = (ops.logsumexp(log_w, 0) - math.log(case.samples)).mean()
        return -bound + (lam - 1) * constraint - case.kappa**2, constraint
    if case.method == "geco":
        constraint = err.mean() - case.kappa**2
        return kl + lam * constraint, constraint
    return {"vae": 1.0, "beta-vae": 0.5}[case.method] * kl - log_px.mean(), None


def draw_of(ops, case: Case, decoder, x, mean, log_std, eps):
    """Squared error and log w of draws from q(z|x).   (B, D), (B, Z), (B, Z), (K, B, Z) -> (K, B), (K, B)"""
    z = mean + ops.exp(log_std) * eps
    log_px, err = likelihood(ops, case, x, mlp(ops, case, decoder, z))
    return err, log_px + log_ratio(ops, z, eps, log_std)


def torch_peer(case: Case, recipe: Recipe, theta, images, center, device: str, compiled: bool = False) -> Peer:
    """PyTorch, its Adam fused, with `compiled` torch.compile. `images` (N, D) uint8; `theta` as `initial` gives it."""
    import torch

    ops, tensor = torch_ops(), partial(torch_tensor, device)
    torch.manual_seed(recipe.seed)
    theta = [[(tensor(w.T).requires_grad_(), tensor(b).requires_grad_()) for w, b in part] for part in theta]
    optimizer = torch.optim.AdamW(torch_groups(theta, recipe.weight_decay), lr=recipe.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    pixels, center, per_epoch = tensor(images), tensor(np.float32(center)), len(images) // case.batch_size
    state = {"step": 0, "log_lam": tensor(np.float32(math.log(recipe.lam))), "c_ma": None}

    def forward(x, eps, lam):
        return loss_of(ops, case, center, theta, x, eps, lam)

    if compiled:
        forward = torch.compile(forward, mode="reduce-overhead" if device == "cuda" else None)

    def shuffle() -> None:
        state["order"] = torch.randperm(len(images), device=device)

    def step() -> None:
        start = state["step"] % per_epoch * case.batch_size
        x = pixels[state["order"][start : start + case.batch_size]].float() / 255
        eps = torch.randn(case.samples, case.batch_size, case.latents, device=device)
        value, constraint = forward(x, eps, torch.exp(state["log_lam"]))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        if constraint is not None:
            c_hat, keep = constraint.detach(), recipe.memory
            state["c_ma"] = c_hat.clone() if state["c_ma"] is None else keep * state["c_ma"] + (1 - keep) * c_hat
            moved = recipe.eta * state["c_ma"] / case.kappa**2
            state["log_lam"] = state["log_lam"] + torch.clip(moved, -recipe.travel, recipe.travel)
        state["step"] += 1

    def loss(x, eps, lam) -> float:
        return forward(tensor(x), tensor(eps), tensor(np.float32(lam)))[0].item()

    def multiplier() -> float:
        return math.exp(state["log_lam"].item())

    shuffle()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return Peer(step, wait, shuffle, loss, multiplier, *torch_use(ops, case, theta, center, device, compiled))


def torch_groups(theta, weight_decay: float) -> list[dict]:
    """What AdamW takes: the weights decay and the biases do not; one group where nothing decays."""
    groups = {weight_decay: [], 0.0: []}
    for weights, bias in (*theta[0], *theta[1]):
        groups[weight_decay].append(weights)
        groups[0.0].append(bias)
    return [{"params": leaves, "weight_decay": decay} for decay, leaves in groups.items()]


def torch_ops() -> SimpleNamespace:
    """What the objectives are written against."""
    import torch
    from torch.nn import functional as f

    names = ("exp", "sigmoid", "square", "tanh", "logsumexp", "softmax")
    return SimpleNamespace(linear=f.linear, silu=f.silu, softplus=f.softplus, **{n: getattr(torch, n) for n in names})


def torch_tensor(device: str, a):
    """A copy of NumPy's array."""
    import torch

    return torch.tensor(np.ascontiguousarray(a), device=device)


def torch_use(ops, case: Case, theta, center, device: str, compiled: bool) -> tuple[Callable, Callable, Callable]:
    """`encode`, `draw` and `decode` of a Peer."""
    import torch

    tensor, drawn = partial(torch_tensor, device), partial(draw_of, ops, case)
    if compiled:
        drawn = torch.compile(drawn)

    @torch.no_grad()
    def encoded(x):
        return tuple(a.cpu().numpy() for a in encode(ops, case, theta[0], tensor(x) - center))

    @torch.no_grad()
    def draw(x, mean, log_std, samples: int):
        eps = torch.randn(samples, *mean.shape, device=device)
        return tuple(a.cpu().numpy() for a in drawn(theta[1], *map(tensor, (x, mean, log_std)), eps))

    @torch.no_grad()
    def decode(z):
        return torch.sigmoid(mlp(ops, case, theta[1], tensor(z))).cpu().numpy()

    return encoded, draw, decode


def jax_peer(case: Case, recipe: Recipe, theta, images, center, device: str) -> Peer:
    """JAX, the whole step under one `jit` that reuses the memory of its state. The arguments are torch_peer's."""
    import jax
    from jax import numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")  # float32, as in the others, on a GPU too
    where, ops, center = jax.devices("gpu" if device == "cuda" else "cpu")[0], jax_ops(), np.float32(center)

    def forward(theta, x, eps, lam):
        return loss_of(ops, case, center, theta, x, eps, lam)

    zeros = [jax.tree.map(np.zeros_like, theta) for _ in "mv"]
    start = {"step": 0, "log_lam": math.log(recipe.lam), "c_ma": 0.0, "key": jax.random.key(recipe.seed, impl="rbg")}
    start = jax.device_put({**start, "theta": theta, "m": zeros[0], "v": zeros[1]}, where)
    held = {"state": jax.tree.map(jnp.copy, start)}  # a copy, because it is donated
    rng = np.random.default_rng(recipe.seed)
    pixels = jax.device_put(images, where)
    jitted = jax.jit(jax_step(forward, case, recipe, len(images) // case.batch_size), donate_argnums=0)

    def step() -> None:
        held["state"] = jitted(held["state"], pixels, held["order"])

    def shuffle() -> None:
        held["order"] = jax.device_put(rng.permutation(len(images)), where)

    def loss(x, eps, lam) -> float:
        arrays = jax.device_put((x, eps, np.float32(lam)), where)
        return float(jax.jit(forward)(held["state"]["theta"], *arrays)[0])

    def multiplier() -> float:
        return math.exp(held["state"]["log_lam"])

    def wait() -> None:
        jax.block_until_ready(held["state"])

    shuffle()
    return Peer(step, wait, shuffle, loss, multiplier, *jax_use(ops, case, held, center))


def jax_step(forward, case: Case, recipe: Recipe, per_epoch: int) -> Callable:
    """The step as a function of its state, to be compiled; `forward` gives the loss and the constraint."""
    import jax
    from jax import numpy as jnp

    travel, keep = recipe.travel, recipe.memory

    def step(state, pixels, order):
        t, key = state["step"], state["key"]
        key, draw = jax.random.split(key)
        rows = jax.lax.dynamic_slice(order, [t % per_epoch * case.batch_size], [case.batch_size])
        x = pixels[rows].astype(jnp.float32) / 255
        eps = jax.random.normal(draw, (case.samples, case.batch_size, case.latents))
        gradient, constraint = jax.grad(forward, has_aux=True)(state["theta"], x, eps, jnp.exp(state["log_lam"]))
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["m"], gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["v"], gradient)
        lr = recipe.lr * 0.5 * (1 + jnp.cos(jnp.pi * t / recipe.steps))
        bias1, bias2 = 1 - 0.9 ** (t + 1.0), 1 - 0.999 ** (t + 1.0)

        def update(p, m, v):
            shrunk = p * (1 - lr * recipe.weight_decay) if p.ndim == 2 and recipe.weight_decay else p
            return shrunk - lr * (m / bias1) / (jnp.sqrt(v / bias2) + 1e-8)

        new = {"theta": jax.tree.map(update, state["theta"], m, v), "m": m, "v": v, "step": t + 1, "key": key}
        log_lam, c_ma = state["log_lam"], state["c_ma"]
        if constraint is not None:
            c_ma = jnp.where(t == 0, constraint, keep * c_ma + (1 - keep) * constraint)
            log_lam = log_lam + jnp.clip(recipe.eta * c_ma / case.kappa**2, -travel, travel)
        return {**new, "log_lam": log_lam, "c_ma": c_ma}

    return step


def jax_ops() -> SimpleNamespace:
    """What the objectives are written against."""
    import jax
    from jax import numpy as jnp

    return SimpleNamespace(
        linear=lambda h, w, b: h @ w + b,
        logsumexp=jax.scipy.special.logsumexp,
        **{name: getattr(jnp, name) for name in ("exp", "square", "tanh")},
        **{name: getattr(jax.nn, name) for name in ("silu", "sigmoid", "softplus", "softmax")},
    )


def jax_use(ops, case: Case, held: dict, center) -> tuple[Callable, Callable, Callable]:
    """`encode`, `draw` and `decode` of a Peer, at the weights that `held` has when they are called."""
    import jax

    keys = map(partial(jax.random.fold_in, jax.random.key(1, impl="rbg")), count())
    encoded = jax.jit(lambda encoder, x: encode(ops, case, encoder, x - center))
    decoded = jax.jit(lambda decoder, z: ops.sigmoid(mlp(ops, case, decoder, z)))

    @partial(jax.jit, static_argnums=5)
    def drawn(key, decoder, x, mean, log_std, samples):
        return draw_of(ops, case, decoder, x, mean, log_std, jax.random.normal(key, (samples, *mean.shape)))

    def side(i: int):
        return held["state"]["theta"][i]

    return (
        lambda x: tuple(map(np.asarray, encoded(side(0), x))),
        lambda x, *arrays: tuple(map(np.asarray, drawn(next(keys), side(1), x, *arrays))),
        lambda z: np.asarray(decoded(side(1), z)),
    )
