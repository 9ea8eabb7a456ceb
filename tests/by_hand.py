"""Every forward pass of ref/ with its backward pass; `python -m tests.by_hand` prints how far each is from autograd.

A pair has the name of its module and of its forward pass. A likelihood or an objective is here once it has a row in
its table. What is not autograd's is marked, and then the command ends with status 1.
"""

import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

import ref
from ref import densities as de
from ref import mlp as nn
from ref import objectives as ob
from ref import vae
from ref.more import principal
from tests.gradients import TOLERANCE, Pair, gradient_of_terms, residuals
from tests.small import NOW, batch_of, model_of, options_of, theta_of

rng = np.random.default_rng(0)
K, B, Z, D = 3, 4, 5, 6
mean, log_std, eps, z = (rng.normal(size=shape) for shape in ((B, Z), (B, Z), (K, B, Z), (K, B, Z)))
x, logits, a = rng.uniform(size=(B, D)), rng.normal(size=(K, B, D)), rng.normal(size=(K, B))


def of_likelihood(row: de.Likelihood) -> Pair:
    """log p(x|z) as a function of what its backward pass returns the gradient of: the logits, or x̂."""

    def decoded(xp, out, x):
        x_hat = nn.sigmoid(xp, out) if row.of_logits else out
        return de.Decoded(out, x_hat, de.squared_error(xp, x, x_hat))

    return Pair(
        lambda xp, out, x: row.log_density(xp, x, decoded(xp, out, x), 0.3),
        lambda xp, d, out, x: row.backward(xp, d, x, decoded(xp, out, x), 0.3),
        [logits],
        (x,),
    )


def of_both_likelihoods(model: vae.Model) -> Pair:
    """err and log p(x|z) as functions of the logits."""

    def forward(xp, logits, x, model):
        return vae.likelihood(xp, model, x, nn.sigmoid(xp, logits), logits)

    return Pair(
        lambda xp, *args: xp.stack(forward(xp, *args)[:2]),
        lambda xp, d, logits, x, model: vae.likelihood_backward(
            xp, model, vae.Gradient(err=d[0], log_px=d[1]), x, forward(xp, logits, x, model)[2]
        ),
        [logits],
        (x, model),
    )


def of_parameters(model: vae.Model, forward, backward, inputs=(), constants=()) -> Pair:
    """A part of a network as a function of all parameters.

    forward(xp, model, params, *inputs, *constants) -> out, cache;
    backward(xp, model, params, cache, d_out, d_params) -> the gradients of the inputs, a tuple.
    """

    def run(xp, theta, *rest):
        *args, model = rest
        return forward(xp, model, vae.params_of(model, theta), *args)

    def gradients(xp, d, theta, *rest):
        model, (_, cache), gradient = rest[-1], run(xp, theta, *rest), xp.zeros_like(theta)
        params, d_params = vae.params_of(model, theta), vae.params_of(model, gradient)
        return gradient, *backward(xp, model, params, cache, d, d_params)

    return Pair(lambda xp, *args: run(xp, *args)[0], gradients, [theta_of(model), *inputs], (*constants, model))


def of_network(network, model: vae.Model) -> dict[str, Pair]:
    """Encoder and decoder of one of the networks."""

    def encode(xp, model, p, x):
        mean, log_std, cache = network.encode(xp, model, p["encoder"], x)
        return xp.concatenate([mean, log_std], axis=1), cache

    def encode_backward(xp, model, p, cache, d, d_p):
        d_mean, d_log_std = d[:, : model.latents], d[:, model.latents :]
        network.encode_backward(xp, model, p["encoder"], cache, d_mean, d_log_std, d_p["encoder"])
        return ()

    def decode(xp, model, p, z):
        return network.decode(xp, model, p["decoder"], z)

    def decode_backward(xp, model, p, cache, d, d_p):
        return (network.decode_backward(xp, model, p["decoder"], cache, d, d_p["decoder"]),)

    (x, eps), name = batch_of(model), network.__name__.removeprefix("ref.")
    return {
        f"{name}.encode": of_parameters(model, encode, encode_backward, constants=[x]),
        f"{name}.decode": of_parameters(model, decode, decode_backward, inputs=[eps[0]]),
    }


def of_terms(model: vae.Model) -> Pair:
    """All five terms as functions of all parameters."""

    def forward(xp, model, params, x, eps):
        terms, cache = vae.forward(xp, model, params, x, eps)
        return xp.concatenate([terms.kl[None], *terms[1:]]), cache  # (1 + 4K, B)

    def backward(xp, model, params, cache, d, d_params):
        parts = (d[1 + i * K : 1 + (i + 1) * K] for i in range(4))
        vae.backward(xp, model, params, cache, vae.Gradient(d[0], *parts), d_params)
        return ()

    return of_parameters(model, forward, backward, constants=batch_of(model, samples=K))


def of_objective(name: str, method) -> Pair:
    """The loss as a function of the terms; d.log_qz_of_z counts as a gradient by log_qz."""

    def backward(xp, d_loss, *terms):
        d = gradient_of_terms(name, xp, vae.Terms(*terms))
        ways = [(d.kl,), (d.err,), (d.log_px,), (d.log_pz,), (d.log_qz, d.log_qz_of_z)]
        return tuple(
            d_loss * sum((way for way in both if way is not None), xp.zeros_like(term))
            for both, term in zip(ways, terms, strict=True)
        )

    rng = np.random.default_rng(1)  # one more objective leaves the others' numbers as they are
    return Pair(
        lambda xp, *terms: method.loss(xp, vae.Terms(*terms), NOW, **options_of(name)),
        backward,
        [rng.uniform(size=B), *(rng.normal(size=(K, B)) for _ in range(4))],
    )


def gated_backward(xp, d, linear, shift, gate_logit):
    _, gate = principal.gated(xp, linear, shift, gate_logit)
    d_linear, d_gate_logit = principal.gated_backward(xp, d, linear, gate)
    return d_linear, d, d_gate_logit


PAIRS = {
    "densities.gaussian_kl": Pair(
        de.gaussian_kl,
        lambda xp, d, mean, log_std: de.gaussian_kl_backward(xp, d[:, None], mean, log_std),
        [mean, log_std],
    ),
    "densities.normal_log_density": Pair(
        de.normal_log_density, lambda xp, d, z: de.normal_log_density_backward(d, z), [z]
    ),
    "densities.posterior_log_density": Pair(
        lambda xp, log_std, eps: de.posterior_log_density(xp, eps, log_std),
        lambda xp, d, log_std, eps: de.posterior_log_density_backward(xp, d, log_std),
        [log_std],
        (eps,),
    ),
    "densities.log_density_of_sample": Pair(
        lambda xp, z, mean, log_std: de.posterior_log_density(xp, (z - mean) / xp.exp(log_std), log_std),
        lambda xp, d, z, mean, log_std: de.log_density_of_sample_backward(xp, d, (z - mean) / xp.exp(log_std), log_std),
        [z],
        (mean, log_std),
    ),
    "densities.squared_error": Pair(
        lambda xp, x_hat, x: de.squared_error(xp, x, x_hat),
        lambda xp, d, x_hat, x: de.squared_error_backward(xp, d[..., None], x, x_hat),
        [logits],
        (x,),
    ),
    **{f"densities.{row.log_density.__name__}": of_likelihood(row) for row in de.LIKELIHOODS.values()},
    "densities.log_mean_exp": Pair(de.log_mean_exp, de.log_mean_exp_backward, [a]),
    "mlp.sigmoid": Pair(nn.sigmoid, lambda xp, d, a: nn.sigmoid_backward(xp, d, nn.sigmoid(xp, a)), [a]),
    **{
        f"mlp.{name}": Pair(lambda xp, a, f=f: f(xp, a, 0.0)[0], lambda xp, d, a, f=f: d * f(xp, a, 0.0)[1], [a])
        for name, f in nn.ACTIVATIONS.items()
    },
    "mlp.mlp": of_parameters(
        model_of(),
        lambda xp, model, p, z: nn.mlp(xp, p["decoder"], "silu", z),
        lambda xp, model, p, cache, d, d_p: (nn.mlp_backward(xp, d, p["decoder"], cache, d_p["decoder"]),),
        inputs=[rng.normal(size=(B, 3))],
    ),
    **of_network(nn, model_of()),
    **of_network(principal, model_of(coordinates=5)),
    "more.principal.gated": Pair(
        lambda xp, *args: principal.gated(xp, *args)[0], gated_backward, [mean, log_std, mean + log_std]
    ),
    "vae.reparameterize": Pair(
        vae.reparameterize,
        lambda xp, d, mean, log_std, eps: vae.reparameterize_backward(xp, d, log_std, eps),
        [mean, log_std],
        (eps,),
    ),
    "vae.decode": of_parameters(
        model_of(),
        lambda xp, model, p, z: vae.decode(xp, model, p, z)[1:],
        lambda xp, model, p, cache, d, d_p: (vae.decode_backward(xp, model, p, cache, d, d_p),),
        inputs=[rng.normal(size=(K, B, 3))],
    ),
    **{f"vae.likelihood, {name}": of_both_likelihoods(model_of(pixels=D, likelihood=name)) for name in de.LIKELIHOODS},
    "vae.forward": of_terms(model_of()),
    "objectives.mean": Pair(lambda xp, a: xp.mean(a), lambda xp, d, a: d * ob.mean_backward(xp, a), [a]),
    **{
        f"objectives.{method.backward.__name__.removesuffix('_backward')}": of_objective(name, method)
        for name, method in ob.METHODS.items()
    },
}


def file_of(name: str) -> str:
    """The file of ref/ that holds the pair."""
    return f"ref/{name.rpartition('.')[0].replace('.', '/')}.py"


def functions_of(name: str) -> tuple[str, str]:
    """The forward and the backward function of a pair; an activation holds its slope itself."""
    forward = name.partition(",")[0].rpartition(".")[2]
    if name in (f"mlp.{activation}" for activation in nn.ACTIVATIONS):
        return forward, forward
    return forward, "backward" if forward == "forward" else f"{forward}_backward"


def called_by(pair: Pair) -> set[tuple[str, str]]:
    """File and name of each function of ref/ that its backward pass runs through."""
    found, root = set(), Path(ref.__path__[0])

    def note(frame, event, arg) -> None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(root):
            found.add((path.relative_to(root.parent).as_posix(), frame.f_code.co_name))

    _, d_out = pair.output()
    sys.setprofile(note)
    with suppress(Exception):  # a wrong function may also break off
        pair.backward(np, d_out, *pair.inputs, *pair.constants)
    sys.setprofile(None)
    return found


@cache
def error_of(name: str) -> float:
    """The largest relative error of a gradient of the pair, infinite where its functions break off."""
    try:
        return float(np.max(residuals(PAIRS[name])))
    except Exception:
        return np.inf


@cache
def culprits() -> dict[str, str]:
    """The pairs that are wrong by themselves, each with a sentence."""
    wrong = {name: (file_of(name), functions_of(name)[1]) for name in PAIRS if not error_of(name) <= TOLERANCE}
    found = {}
    for name, own in wrong.items():
        if not (called_by(PAIRS[name]) - {own}) & {*wrong.values()}:
            file, backward = own
            found[name] = f"{file}: {backward} is not the derivative of {functions_of(name)[0]}"
    return found


def printed(error: float) -> str:
    """Two digits, and 0 where every bit is autograd's."""
    return f"{error:.1e}" if error else "0"


def mark(name: str) -> str:
    """What the table says of a pair beside its residual: nothing, unless it is wrong."""
    if error_of(name) <= TOLERANCE:
        return ""
    return "← not autograd's" if name in culprits() else f"← by way of {', '.join(culprits())}"


def table() -> str:
    """A row for each pair: name, file, the largest error of a gradient, a mark if it is wrong."""
    rows = [(name.rpartition(".")[2], file_of(name), printed(error_of(name)), mark(name)) for name in PAIRS]
    rows = [("pair", "file", "residual", ""), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


if __name__ == "__main__":
    print(table())
    sys.exit(bool(culprits()))
