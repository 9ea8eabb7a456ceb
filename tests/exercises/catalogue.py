"""The exercises in reading order: what is shown and to be found, the oracle, the classic mistakes."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

try:
    import autograd
    import autograd.numpy as anp
except ImportError as error:
    raise SystemExit("the exercises need autograd: pip install -r tests/requirements.txt") from error
import numpy as np

from ref import densities as de
from ref import mlp as nn
from ref import objectives as ob
from ref import vae
from tests.small import model_of, theta_of

K, B, Z, D = 3, 5, 7, 11  # primes: a factor that is lost says where it comes from
LAM, BETA, WARM_UP = 1.7, 0.75, 0.6
NOW = ob.Now(lam=LAM, target=0.9, done=WARM_UP * BETA)
RNG = np.random.default_rng(0)
X, EPS, ROWS = RNG.uniform(size=(B, D)), RNG.normal(size=(K, B, Z)), RNG.normal(size=(B, 4))
LAYERS = nn.layer_shapes((4, 6, 8))
NETWORK = model_of(pixels=D, hidden=(6,), latents=Z)
THETA = theta_of(NETWORK)
ENCODER = nn.size(nn.shapes(NETWORK)[0])
NONE = MappingProxyType({})


class Misuse(Exception):
    """What a learner's function does wrong that no number shows, as a sentence."""


class Exercise(NamedTuple):
    """A backward function to write: the gradients of Σ d_out·forward for each input."""

    function: Callable  # of ref/
    inputs: dict[str, np.ndarray]
    forward: Callable  # (xp, *inputs) -> an array, or the loss
    answer: Callable = lambda f, d, *inputs: f(np, d, *inputs)  # -> the gradients
    mistakes: Mapping[str, tuple[str, str]] = NONE  # hint -> a text, and what it becomes by that mistake
    find: str = ""  # what to find, where that is not the inputs' gradients
    shown: tuple[str, ...] = ()  # what stands above it; empty: its forward function
    factors: Mapping[str, float] = NONE  # that are easily lost
    optional: bool = False

    @property
    def name(self) -> str:
        """That of the function."""
        return self.function.__name__

    def d_out(self) -> np.ndarray:
        """The gradient that arrives: random, and 1 at a loss."""
        shape = np.shape(self.forward(np, *self.inputs.values()))
        return np.random.default_rng(1).normal(size=shape) if shape else np.ones(())

    def answers(self, function: Callable, d_out) -> dict:
        """What the function makes of arrays of its own, by `d_` + name."""
        found = self.answer(function, d_out.copy(), *(array.copy() for array in self.inputs.values()))
        if found is None:
            raise NotImplementedError
        if isinstance(found, dict):
            return found
        found = found if isinstance(found, tuple | list) else (found,)
        if len(found) != len(self.inputs):
            raise Misuse(f"returns {len(found)} gradients, expected {len(self.inputs)}: {', '.join(self.inputs)}")
        return {f"d_{name}": array for name, array in zip(self.inputs, found, strict=True)}

    def expected(self, d_out) -> dict[str, np.ndarray]:
        """What automatic differentiation finds."""
        inputs, found = list(self.inputs.values()), {}
        for i, name in enumerate(self.inputs):
            found[f"d_{name}"] = autograd.grad(lambda *a: anp.sum(d_out * self.forward(anp, *a)), i)(*inputs)
        return dreg(found) if self.name == "dreg_backward" else found

    def with_mistake(self, hint: str) -> Callable:
        """The function of ref/ with that mistake."""
        return changed(self.function, *self.mistakes[hint])


def changed(function: Callable, old: str, new: str) -> Callable:
    """The function with a text of its source replaced, which has to be there."""
    source, name = inspect.getsource(function), function.__name__
    assert old in source, f"{name} no longer holds {old!r}"
    namespace = dict(inspect.unwrap(function).__globals__)
    exec(source.replace(old, new), namespace)
    return namespace[name]


def mlp_of(xp, x, *params):
    return nn.mlp(xp, dict(zip(LAYERS, params, strict=True)), "silu", x)


def mlp_answer(function: Callable, d_out, x, *params) -> tuple:
    """d_x, and what is written into arrays that began as NaN."""
    arrays = {name: np.full(shape, np.nan) for name, shape in LAYERS.items()}
    given = dict(arrays)
    d_x = function(np, d_out, dict(zip(LAYERS, params, strict=True)), mlp_of(np, x, *params)[1], given)
    for name, array in arrays.items():
        if given[name] is not array:
            raise Misuse(f'd_params["{name}"] is another array now; write into the one that is there: [...] = or out=')
    if d_x is None and all(np.isnan(array).all() for array in arrays.values()):
        raise NotImplementedError
    return d_x, *arrays.values()


def all_terms(xp, encoder, decoder):
    terms, _ = vae.forward(xp, NETWORK, vae.params_of(NETWORK, xp.concatenate([encoder, decoder])), X, EPS)
    return xp.concatenate([terms.kl[None], *terms[1:]])  # (1 + 4K, B)


def backward_answer(function: Callable, d_out, encoder, decoder) -> tuple:
    """The two halves of θ's gradient from all five terms; GECO's two have to do as well."""
    params, d_theta = vae.params_of(NETWORK, np.concatenate([encoder, decoder])), np.full_like(THETA, np.nan)
    _, cache = vae.forward(np, NETWORK, params, X, EPS)
    d = vae.Gradient(d_out[0], *(d_out[1 + i * K : 1 + (i + 1) * K] for i in range(4)))
    function(np, NETWORK, params, cache, d, vae.params_of(NETWORK, d_theta))
    if np.isnan(d_theta).all():
        raise NotImplementedError
    try:
        of_geco = vae.Gradient(kl=d.kl, err=d.err)
        function(np, NETWORK, params, cache, of_geco, vae.params_of(NETWORK, np.zeros_like(THETA)))
    except TypeError as error:
        raise Misuse(f"fails for GECO, which leaves out terms: d.log_pz and others are None ({error})") from error
    return d_theta[:ENCODER], d_theta[ENCODER:]


ZERO = vae.Terms(np.zeros(B), *np.zeros((4, K, B)))


def objective(loss: Callable, shapes: dict, answers=None, **options) -> tuple:
    """Inputs, forward and answer: the loss as a function of some terms, and the fields of the Gradient."""
    fields = answers or [*shapes]

    def forward(xp, *inputs):
        return loss(xp, ZERO._replace(**dict(zip(shapes, inputs, strict=True))), NOW, **options)

    def answer(function: Callable, d_out, *inputs) -> dict:
        d = function(np, ZERO._replace(**dict(zip(shapes, inputs, strict=True))), NOW, **options)
        if d is None:
            raise NotImplementedError
        if not isinstance(d, vae.Gradient):
            raise Misuse(f"returns a {type(d).__name__}, expected Gradient({'=…, '.join(fields)}=…)")
        others = [name for name in d._fields if name not in fields and getattr(d, name) is not None]
        if others:
            raise Misuse(f"returns a gradient of {others[0]}, which has to be None")
        return {f"d_{name}": getattr(d, name) for name in fields}

    return {name: RNG.normal(size=shape) for name, shape in shapes.items()}, forward, answer


def dreg(of_iwae: dict) -> dict:
    """DReG from IWAE's gradient −w̃/B: what arrives at z counts w̃ times more in the encoder."""
    d_log_px, d_log_pz, d_log_qz = of_iwae.values()
    to_encoder = -B * d_log_px
    return {"d_log_px": d_log_px, "d_log_pz": d_log_pz, "d_log_qz_of_z": d_log_qz, "d_to_encoder": to_encoder}


POSTERIOR = {"mean": RNG.normal(size=(B, Z)), "log_std": RNG.normal(size=(B, Z))}
PARAMETERS = {name: RNG.normal(size=shape) for name, shape in LAYERS.items()}
IWAE = {"log_px": (K, B), "log_pz": (K, B), "log_qz": (K, B)}
LOG_WEIGHT = "log_weight(terms.log_px, terms, beta)"
SHARES = f"log_mean_exp_backward(xp, -1 / images, {LOG_WEIGHT})"
OVER_IMAGES = f"-1 / images * softmax(xp, {LOG_WEIGHT}.T).T"
BY_STD = "that is the gradient by std; by log std there is a factor std more"

EXERCISES = [
    Exercise(
        de.squared_error_backward,
        {"x_hat": RNG.normal(size=(K, B, D))},
        lambda xp, x_hat: de.squared_error(xp, X, x_hat),
        lambda f, d, x_hat: f(np, d[..., None], X, x_hat),
    ),
    Exercise(
        de.gaussian_kl_backward,
        POSTERIOR,
        de.gaussian_kl,
        lambda f, d, mean, log_std: f(np, d[:, None], mean, log_std),
        {
            BY_STD: ("(xp.exp(2 * log_std) - 1)", "(xp.exp(log_std) - xp.exp(-log_std))"),
            "std² alone: the part of −log std is missing": ("(xp.exp(2 * log_std) - 1)", "xp.exp(2 * log_std)"),
            "std stands where std² belongs": ("2 * log_std", "log_std"),
            "that is right for a log variance, and log_std is half of it": ("(xp.exp(2 *", "0.5 * (xp.exp(1 *"),
        },
    ),
    Exercise(
        de.posterior_log_density_backward,
        {"log_std": POSTERIOR["log_std"]},
        lambda xp, log_std: de.posterior_log_density(xp, EPS, log_std),
    ),
    Exercise(
        de.log_mean_exp_backward,
        {"a": RNG.normal(size=(K, B))},
        de.log_mean_exp,
        mistakes={
            "every a_k counts alike, as in the mean of a": ("softmax(xp, a)", "1 / len(a) * xp.ones_like(a)"),
            "exp a_k is not divided by its sum over k": ("softmax(xp, a)", "xp.exp(a)"),
            "the shares sum to one over axis 1, and have to over axis 0": ("softmax(xp, a)", "softmax(xp, a.T).T"),
        },
        shown=("log_mean_exp", "softmax"),
    ),
    Exercise(
        nn.sigmoid_backward,
        {"a": RNG.normal(size=(B, D))},
        nn.sigmoid,
        lambda f, d, a: f(np, d, nn.sigmoid(np, a)),
        {"s is sigmoid(a) already": ("(s * (1 - s))", "(sigmoid(xp, s) * (1 - sigmoid(xp, s)))")},
        "Find d_a. The argument s is the sigmoid of a.",
    ),
    Exercise(
        nn.mlp_backward,
        {"x": ROWS, **PARAMETERS},
        lambda xp, *inputs: mlp_of(xp, *inputs)[0],
        mlp_answer,
        {"the slope of the activation is missing on the way": ("d_h * slopes[i] if i < len(slopes) else d_h", "d_h")},
        "Write the gradient of each parameter into the array d_params[name], and return d_x.",
    ),
    Exercise(
        vae.reparameterize_backward,
        POSTERIOR,
        lambda xp, mean, log_std: vae.reparameterize(xp, mean, log_std, EPS),
        lambda f, d, mean, log_std: f(np, d, log_std, EPS),
        {BY_STD: (" * xp.exp(log_std)", ""), "eps is missing": ("d_z * eps", "d_z")},
    ),
    Exercise(
        vae.backward,
        {"encoder": THETA[:ENCODER], "decoder": THETA[ENCODER:]},
        all_terms,
        backward_answer,
        {
            "d_log_std lacks the KL's part": ("d_log_std + kl_log_std", "d_log_std"),
            "d_mean lacks the KL's part": ("d_mean + kl_mean", "d_mean"),
            "d_mean and d_log_std lack the KL's part": ("if d.kl is not None", "if False"),
            "d_log_std lacks the part of log q(z|x)": ("if d.log_qz is not None", "if False"),
            "d_z lacks the part of log p(z)": ("if d.log_pz is not None", "if False"),
            "only what comes through the decoder is there": ("is not None", "is False"),
        },
        "Follow each term to what it is made of, and add up what meets. A term's gradient is None where the loss has\n"
        "    none. Let decode_backward(xp, model, params, decoder_cache, d_logits, d_params) and\n"
        '    model.network.encode_backward(xp, model, params["encoder"], encoder_cache, d_mean, d_log_std,\n'
        '    d_params["encoder"]) write d_params. log_qz_of_z and to_encoder belong to DReG: leave them out here.',
        ("Terms", "Gradient", "sample_terms", "forward"),
    ),
    Exercise(
        ob.geco_backward,
        *objective(ob.geco, {"kl": (B,), "err": (K, B)}),
        {"it has the value of C in it": ("now.lam *", "now.lam * (xp.mean(terms.err) - now.target) *")},
        "Return a Gradient of kl and err.",
        factors={"λ": LAM},
    ),
    Exercise(
        ob.iwae_backward,
        *objective(ob.iwae, IWAE, warm_up=WARM_UP),
        {
            "every sample counts alike: w̃_k belongs where 1/K stands": (LOG_WEIGHT, "0 * terms.err"),
            "w̃ sums to one over the images, and has to over the samples of an image": (SHARES, OVER_IMAGES),
            "w_k stands where w̃_k belongs: Σ_k is missing": (SHARES, f"-1 / images * xp.exp({LOG_WEIGHT})"),
            "right but for the warm-up: log w has a β": ("warmed_up(xp, warm_up, now.done)", "1.0"),
            "right but for the β in w̃": (LOG_WEIGHT, "log_weight(terms.log_px, terms)"),
        },
        "Return a Gradient of log_px, log_pz and log_qz; β is warmed_up(xp, warm_up, now.done).",
        ("log_weight", "warmed_up", "iwae"),
        {"β": BETA},
    ),
    Exercise(
        ob.geco_iwae_backward,
        *objective(ob.geco_iwae, {"err": (K, B), "log_pz": (K, B), "log_qz": (K, B)}),
        {
            "right but for the way through the weights w̃": ("((now.lam - 1) * (terms.err - error) - 1)", "-1"),
            "err_k stands where err_k − Σ_j w̃_j err_j belongs": ("terms.err - error", "terms.err"),
            "λ stands where λ − 1 belongs": ("(now.lam - 1)", "now.lam"),
            "the way through log w is missing": ("directly + through_log_w", "directly"),
            "the direct way is missing": ("directly + through_log_w", "through_log_w"),
        },
        "Return a Gradient of err, log_pz and log_qz.",
        ("log_weight", "weighted_error", "geco_iwae"),
        {"λ": LAM, "(λ − 1)": LAM - 1},
        optional=True,
    ),
    Exercise(
        ob.dreg_backward,
        *objective(ob.iwae, IWAE, answers=("log_px", "log_pz", "log_qz_of_z", "to_encoder")),
        {
            "w̃² is the encoder's weight alone, and the decoder keeps w̃": ("-1 / images * w", "-1 / images * w * w"),
            "w̃² in all: what arrives at z is weighted by w̃ already": ("1 - beta + beta * w", "w * w"),
        },
        "Return a Gradient of log_px, log_pz and log_qz_of_z, and to_encoder, without a warm-up.",
        ("log_weight", "warmed_up", "iwae"),
        optional=True,
    ),
]
