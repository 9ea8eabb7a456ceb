"""Adam on one flat vector, Kingma & Ba 2015, algorithm 1; and weight decay."""

import math


def stages(xp, step, steps: int):
    """10^(−i/7) in stage i = 0, …, 7, each three times as long as the stage before it. Burda et al. 2015, section 5."""
    begun = (xp.where(step * (3**8 - 1) >= steps * (3**i - 1), 1.0, 0.0) for i in range(1, 8))
    return xp.exp(-math.log(10) / 7 * sum(begun, 0.0 * step))  # begins the sum in float64, also within a kernel


SCHEDULES = {  # name: the learning rate of update `step` = 0, 1, … of `steps`, as a share of the first
    "cosine": lambda xp, step, steps: 0.5 * (1 + xp.cos(math.pi * step / steps)),
    "constant": lambda xp, step, steps: 1.0 + 0.0 * step,  # an array like `step`, in float64
    "stages": stages,
}


def step_sizes(xp, step, rate, beta1: float, beta2: float, epsilon: float):
    """scale = rate·c₁/√c₂ and floor = ε/√c₂ of update t = step + 1, where m̂ = c₁m and v̂ = c₂v."""
    c1 = (1 - beta1) / -xp.expm1((step + 1) * math.log(beta1))
    root = xp.sqrt((1 - beta2) / -xp.expm1((step + 1) * math.log(beta2)))
    return rate * c1 / root, epsilon / root


def decay(params: dict[str, dict], shrink) -> None:
    """W ← shrink·W for all weights but the biases; m and v do not see it. Loshchilov & Hutter 2019."""
    for part in params.values():
        for name, weights in part.items():
            if not name.startswith("b"):
                weights *= shrink


def adam(xp, theta, m, v, grad, scale, floor, beta1: float, beta2: float) -> None:
    """m ← β₁m + g,  v ← β₂v + g²,  θ ← θ − scale·m/(√v + floor); elementwise and in place."""
    m *= beta1
    m += grad
    v *= beta2
    v += grad * grad
    theta -= scale * m / (xp.sqrt(v) + floor)
