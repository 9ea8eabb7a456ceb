"""Trains a small VAE on the embedded digits by the method that is named, and prints how it goes."""

import sys

import numpy as np

from data import load
from ref import mlp, vae
from ref.adam import SCHEDULES, adam, step_sizes
from ref.objectives import METHODS, Now, initial_multiplier, memory, moving_average, relative_multiplier

X = load("digits").train / 255
MODEL = vae.Model(mlp, (64,), 8, "silu", True, "gaussian", 0.1, center=X.mean(axis=0))
STEPS, SAMPLES, BATCH, TARGET = 1000, 3, 50, 2.25


def start(rng) -> dict:
    """What a step changes."""
    theta = 0.1 * rng.normal(size=sum(map(mlp.size, mlp.shapes(MODEL))))
    log_lam = np.log(initial_multiplier(TARGET))
    return {"theta": theta, "m": 0 * theta, "v": 0 * theta, "log_lam": log_lam, "start": log_lam, "c_ma": 0.0}


def step(method, state: dict, t: int, rng) -> tuple:
    """A minibatch, forward, backward, Adam and λ."""
    batch, eps = X[rng.integers(len(X), size=BATCH)], rng.normal(size=(SAMPLES, BATCH, MODEL.latents))
    now, grad = Now(np.exp(state["log_lam"]), TARGET, t / STEPS), np.zeros_like(state["theta"])
    params, d_params = vae.params_of(MODEL, state["theta"]), vae.params_of(MODEL, grad)
    terms, cache = vae.forward(np, MODEL, params, batch, eps)
    vae.backward(np, MODEL, params, cache, method.backward(np, terms, now), d_params)
    scale_and_floor = step_sizes(np, t, 0.01 * SCHEDULES["cosine"](np, t, STEPS), 0.9, 0.999, 1e-8)
    adam(np, state["theta"], state["m"], state["v"], grad, *scale_and_floor, 0.9, 0.999)
    if method.constraint:
        follow(method, state, terms, t)
    return method.loss(np, terms, now), terms.kl.mean(), terms.err.mean(), now.lam


def follow(method, state: dict, terms, t: int) -> None:
    """C_ma and λ."""
    c_hat = method.constraint.bounded(np, terms).mean() - TARGET
    state["c_ma"] = moving_average(np, state["c_ma"], c_hat, t == 0, memory(STEPS))
    state["log_lam"] = relative_multiplier(np, state["log_lam"], state["start"], state["c_ma"], TARGET, 0.01, STEPS)


def train(method) -> None:
    """Prints the means of 40 steps at a time."""
    rng = np.random.default_rng(0)
    state, recent = start(rng), []
    for t in range(STEPS):
        recent.append(step(method, state, t, rng))
        if len(recent) == 40:
            print(*(f"{number:.6g}" for number in np.mean(recent, axis=0)))
            recent = []


if __name__ == "__main__":
    train(METHODS[sys.argv[1]])
