"""Adam on one flat vector, with decoupled weight decay. Kingma & Ba 2015, algorithm 1."""

import math


def learning_rate(xp, step, base: float, steps: int, cosine: bool):
    """The rate of update number `step` = 0, 1, …: `base`, or with `cosine` base·½(1 + cos(π·step/steps))."""
    if not cosine:
        return base + 0.0 * step
    return base * 0.5 * (1 + xp.cos(math.pi * step / steps))


def adam(xp, theta, m, v, grad, rate, bias1, bias2, decay: float, beta1: float, beta2: float, epsilon: float) -> None:
    """m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  θ ← θ − rate·(m̂/(√v̂ + ε) + decay·θ),  m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).

    Elementwise and in place. `rate`, `bias1` = 1−β₁ᵗ and `bias2` = 1−β₂ᵗ are arrays of one number and enter as the
    paper's section 2 ends: m̂/(√v̂ + ε) = (√bias2/bias1)·m/(√v + ε√bias2). The decay is decoupled: Loshchilov & Hutter
    2019, algorithm 2.
    """
    m *= beta1
    m += (1 - beta1) * grad
    v *= beta2
    v += (1 - beta2) * (grad * grad)
    root = xp.sqrt(bias2)
    theta *= 1 - rate * decay
    theta -= (rate * root / bias1) * m / (xp.sqrt(v) + epsilon * root)
