"""The three calls of a step in parts, each on a thread of its own, with the result of the whole; and over processes.

A backend says how many parts it wants. An objective sees the joined terms of all images, so parts of unlike sizes need
no weights. Each of several processes (ranks) has its share of the batch, and its own part of the parameters, where it
adds up the gradient of all ranks and runs the update. Then the ranks exchange their parts of the parameters.
"""

from functools import cache


def cut(whole: slice, parts: int) -> list[slice]:
    """The whole in so many parts, as even as can be."""
    count = whole.stop - whole.start
    edges = [whole.start + i * count // parts for i in range(parts + 1)]
    return [*map(slice, edges, edges[1:])]


def views_like(params: dict[str, dict], flat) -> dict[str, dict]:
    """The `flat` vector cut into the shapes of `params`."""
    found, start = {}, 0
    for part, views in params.items():
        found[part] = {}
        for name, view in views.items():
            found[part][name] = flat[start : start + view.size].reshape(view.shape)
            start += view.size
    return found


def gather(ranks, state: dict) -> None:
    """m and v whole on every rank, as a checkpoint needs them: a rank updates its own part of them alone."""
    ranks.all_gather(state["m"])
    ranks.all_gather(state["v"])


class Shared:
    """How a step's work on one batch is cut and shared: it wraps forward, backward and update from outside.

    A wrapped function takes the same arguments. `grad` is the flat gradient of the whole batch.
    """

    def __init__(self, backend, batch: int, samples: int, grad):
        self.backend, self.grad = backend, grad
        self.images, self.weight = backend.ranks.share(batch)  # of this rank
        images = self.images.stop - self.images.start
        count = min(images, backend.parts(images * samples, grad.size))
        self.batch_parts, self.grad_parts = cut(slice(0, images), count), cut(slice(0, grad.size), count)
        self.own_parts = cut(backend.ranks.own(grad.size), count)
        self.other_grads = [*backend.xp.zeros((count - 1, grad.size), grad.dtype)]

    def forward(self, f):
        """f(xp, model, params, x (B, D), eps (K, B, Z)) -> terms, and a tuple with a cache for each part."""

        def forward(xp, model, params, x, eps):
            def forward_part(part: slice):
                return f(xp, model, params, x[part], eps[:, part])

            passes = self.backend.each(forward_part, self.batch_parts)
            terms, caches = zip(*passes, strict=True)
            if len(terms) == 1:
                return terms[0], caches
            joined = (xp.concatenate(arrays, axis=-1) for arrays in zip(*terms, strict=True))
            return type(terms[0])(*joined), caches

        return forward

    def backward(self, f):
        """f(xp, model, params, cache, d_terms, d_params); `d_params` are views of `grad`."""
        views = []

        def backward(xp, model, params, caches, d_terms, d_params) -> None:
            if not views:  # at the first call
                views.extend([d_params, *(views_like(d_params, other) for other in self.other_grads)])

            def backward_part(i: int) -> None:
                part = self.batch_parts[i]
                d = (None if a is None else a[..., part] for a in d_terms)
                f(xp, model, params, caches[i], type(d_terms)(*d), views[i])

            self.backend.each(backward_part, range(len(self.batch_parts)))
            if self.backend.ranks.size > 1:
                self.backend.each(self.add_up, self.grad_parts)
            self.backend.ranks.reduce_scatter(self.grad, self.weight)

        return backward

    def add_up(self, part: slice) -> None:
        """Adds the gradients of the other parts to that of the first, in a part of the parameters."""
        for other in self.other_grads:
            self.grad[part] += other[part]

    def update(self, f):
        """f(xp, theta, m, v, grad, scale, floor, beta1, beta2), in place; returns a number that is finite as θ is."""

        @cache
        def fused(*betas):
            return self.backend.fuse(lambda xp, *arrays: f(xp, *arrays, *betas))

        def update(xp, theta, m, v, grad, scale, floor, *betas):
            adam = fused(*betas)

            def update_part(part: slice):
                if self.backend.ranks.size == 1:
                    self.add_up(part)  # here the part stays in the cache; several ranks added up before they met
                return adam(theta[part], m[part], v[part], grad[part], scale, floor)

            sums = self.backend.each(update_part, self.own_parts)
            total = sum(sums[1:], sums[0]).reshape(1)
            self.backend.ranks.all_reduce(total, 1.0)
            self.backend.ranks.all_gather(theta)
            return total[0]

        return update

    def mean(self, means) -> None:
        """The means over this rank's share of the batch, replaced in place by the means over the whole batch."""
        self.backend.ranks.all_reduce(means, self.weight)
