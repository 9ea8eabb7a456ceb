"""A batch in parts, each on a thread of its own: forward, backward and update, the same as on the whole batch.

An objective sees the joined terms of all images, so parts of different sizes need no weights. A backend says into how
many parts it wants a batch cut; most say one. Of several ranks each has its share of the batch, and its own part of θ:
there it adds up the gradient of all ranks and runs Adam. Then the ranks send each other their parts of θ.
"""

from collections.abc import Callable
from typing import NamedTuple

from ref import vae
from ref.adam import adam


class Net(NamedTuple):
    """A network at θ, which its update changes in place."""

    forward: Callable  # x (B, D), eps (K, B, Z) -> Terms of all B images, cache
    backward: Callable  # Gradient with respect to these terms, cache -> None; grad ← that of the batch of all ranks
    update: Callable  # what adam.step_sizes returns -> Σθ; θ, m, v ← Adam(θ, m, v, grad)


def cut(whole: slice, parts: int) -> list[slice]:
    """The whole in so many parts, as even as can be."""
    count = whole.stop - whole.start
    return [slice(whole.start + i * count // parts, whole.start + (i + 1) * count // parts) for i in range(parts)]


def joined(xp, parts: list[vae.Terms]) -> vae.Terms:
    """The terms of a batch from those of its parts."""
    return parts[0] if len(parts) == 1 else vae.Terms(*(xp.concatenate(t, axis=-1) for t in zip(*parts, strict=True)))


def part_of(d: vae.Gradient, part: slice) -> vae.Gradient:
    """The gradient with respect to the terms of some of the images."""
    return vae.Gradient(*(None if a is None else a[..., part] for a in d))


def gather(ranks, state: dict) -> None:
    """m and v whole on every rank, as a checkpoint needs them; training goes on with a rank's own part of them."""
    for name in ("m", "v"):
        ranks.all_gather(state[name])


def network_of(backend, model: vae.Model, state: dict, batch: int, samples: int, betas) -> Net:
    """The network at state["theta"] for batches of so many images with `samples` each; `betas` are Adam's β₁ and β₂."""
    xp, ranks, theta = backend.xp, backend.ranks, state["theta"]
    share, weight = ranks.share(batch)
    images = share.stop - share.start
    count = min(images, backend.parts(images * samples, theta.size))
    batch_parts, theta_parts = cut(slice(0, images), count), cut(slice(0, theta.size), count)
    own_parts = cut(ranks.own(theta.size), count)
    grad, *others = grads = [*xp.zeros((count, theta.size), theta.dtype)]  # one for each part of the batch
    params, d_params = vae.params_of(model, theta), [vae.params_of(model, g) for g in grads]

    @backend.fuse
    def adam_of(theta, m, v, grad, scale, floor) -> None:
        adam(xp, theta, m, v, grad, scale, floor, *betas)

    def forward(x, eps):
        passes = backend.each(lambda part: vae.forward(xp, model, params, x[part], eps[:, part]), batch_parts)
        return joined(xp, [terms for terms, _ in passes]), [cache for _, cache in passes]

    def backward(d: vae.Gradient, caches) -> None:
        def backward_part(i: int) -> None:
            vae.backward(xp, model, params, caches[i], part_of(d, batch_parts[i]), d_params[i])

        def add_up(part: slice) -> None:
            for other in others:
                grad[part] += other[part]

        backend.each(backward_part, range(count))
        backend.each(add_up, theta_parts)
        ranks.reduce_scatter(grad, weight)

    def update(sizes):
        def update_part(part: slice):
            return adam_of(*(a[part] for a in (theta, state["m"], state["v"], grad)), *sizes)

        sums = backend.each(update_part, own_parts)
        total = sum(sums[1:], sums[0]).reshape(1)
        ranks.all_reduce(total, 1.0)
        ranks.all_gather(theta)
        return total[0]

    return Net(forward, backward, update)
