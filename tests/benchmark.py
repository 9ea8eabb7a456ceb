"""How fast a training step is, and how much of it are its matrix products.

python -m tests.benchmark                          every method on the MNIST network, batch 128
python -m tests.benchmark --method geco --batch-size 128 1000 --samples 1 --json
"""

import argparse
import json
import os
import platform
import statistics
import time
from types import SimpleNamespace

import numpy as np

from backend import open_backend
from ref import vae
from ref.objectives import METHODS
from ref.train import Plan, initial_state, initial_theta, make_step

CONSTANTS = {"beta": 0.5, "kappa": 4.0}
IMAGES = np.random.default_rng(0).integers(0, 256, (4096, 784), dtype=np.uint8)


def step_of(backend, method: str, batch_size: int, samples: int):
    """A step of the slides' MNIST network, 784-512-256-200, on random images."""
    center = backend.asarray(np.full(784, 0.5))
    model = vae.Model((512, 256), 200, "silu", True, "gaussian", 0.5, center)
    noise, row = backend.noise(0), METHODS[method]
    state = initial_state(
        backend, initial_theta(backend, model, noise, 0.0), noise, 4096, 1.0 if row.constraint else None
    )
    options = {name: CONSTANTS[name] for name in row.options}
    plan = Plan(1000, batch_size, 4096 // batch_size, samples, 1e-4, "cosine", "relative", 2e-3, options, 0.0)
    images = backend.asarray(IMAGES)
    read = lambda rows, noise: backend.xp.take(images, rows, axis=0).astype(backend.dtype) * (1 / 255)  # noqa: E731
    return make_step(backend, model, row, plan, read, state)


def products_of(backend, method: str, batch_size: int, samples: int):
    """A function that does the step's matrix products and nothing else, on the step's own operands."""
    calls = []

    def matmul(a, b, out=None):
        out = np.matmul(a, b, out=out)
        if a.ndim == b.ndim == 2:
            calls.append((a, b, out))
        return out

    recording = SimpleNamespace(**{name: getattr(np, name) for name in dir(np)} | {"matmul": matmul})
    step_of(backend._replace(xp=recording), method, batch_size, samples)()

    def products() -> None:
        for a, b, out in calls:
            np.matmul(a, b, out=out)

    return products


def milliseconds(f, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        f()
    return 1e3 * (time.perf_counter() - started) / repeats


def measure(backend, method: str, batch_size: int, samples: int, rounds: int) -> dict:
    """Medians over rounds in which step and products take turns, each long enough for the clock."""
    step, products = (make(backend, method, batch_size, samples) for make in (step_of, products_of))
    repeats = max(1, int(100 / milliseconds(step, 3)))
    times = [(milliseconds(step, repeats), milliseconds(products, repeats)) for _ in range(rounds)]
    return {
        "method": method,
        "batch_size": batch_size,
        "samples": samples,
        "step_ms": statistics.median(t for t, _ in times),
        "products_ms": statistics.median(p for _, p in times),
        "ratio": statistics.median(t / p for t, p in times),
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--batch-size", nargs="+", type=int, default=[128])
    p.add_argument("--samples", type=int, help="(by method)")
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--precision", choices=("float32", "float64"), default="float32")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    backend = open_backend("numpy", args.precision)
    if not args.json:
        print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, {args.precision}")
        print("method         B    K    step [ms]  products [ms]  ratio")
    for method in args.method:
        for batch_size in args.batch_size:
            row = measure(backend, method, batch_size, args.samples or METHODS[method].samples, args.rounds)
            line = "{method:<10} {batch_size:>5} {samples:>4} {step_ms:>12.2f} {products_ms:>14.2f} {ratio:>6.2f}"
            print(json.dumps(row) if args.json else line.format(**row), flush=True)


if __name__ == "__main__":
    main()
