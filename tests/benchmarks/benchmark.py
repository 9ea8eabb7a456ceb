"""How fast a training step is: against its matrix products alone and, where they are installed, PyTorch and JAX.

python -m tests.benchmarks.benchmark               every method on the slides' MNIST network, batch 128
python -m tests.benchmarks.benchmark --method geco --batch-size 128 1000
python -m tests.benchmarks.benchmark --network burda --method iwae --batch-size 20 --samples 50
python -m tests.benchmarks.benchmark --method geco --busy 1           beside another program, and with one thread, too
python -m tests.benchmarks.benchmark --method iwae --batch-size 32 128 512 4096 --samples 1 8 64 --no-peers --json

All take turns in one run; times are medians over rounds, ratios medians of each round's ratio. PyTorch and JAX come
with `pip install torch jax`. OMP_NUM_THREADS sets the threads of NumPy and PyTorch; JAX takes every core.
"""

import argparse
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from importlib import metadata
from types import SimpleNamespace

import numpy as np

from backend import BACKENDS, open_backend
from backend.openblas import openblas
from ref import mlp, vae
from ref.objectives import METHODS, Now
from ref.train import Plan, initial_state, initial_theta, make_step
from tests.benchmarks import peers

try:
    import resource
except ImportError:  # not a POSIX system: there, memory is not measured
    resource = None

NETWORKS = {"slides": ((512, 256), 200, "silu", "gaussian"), "burda": ((200, 200), 50, "tanh", "bernoulli")}
OURS = ("step", "products", "numpy", "one thread")
RECIPE = peers.Recipe()
IMAGES = np.random.default_rng(0).integers(0, 256, (8192, 784), dtype=np.uint8)


def setup(backend, case: peers.Case):
    """The network of `case` and a first state on random images."""
    hidden, latents, activation, likelihood = case[1:5]
    center = backend.asarray(np.full(784, 0.5))
    model = vae.Model(mlp, hidden, latents, activation, True, likelihood, peers.SIGMA2, center)
    noise, constraint = backend.noise(0), METHODS[case.method].constraint
    theta = initial_theta(backend, model, noise, 0.0)
    return model, initial_state(backend, theta, noise, len(IMAGES), 1.0 if constraint else None)


def options_of(case: peers.Case) -> dict[str, float]:
    """The defaults of the method's own options."""
    return {name: option.default for name, option in METHODS[case.method].options.items()}


def step_of(backend, case: peers.Case):
    """Our step: gathering, noise, forward, backward, Adam, multiplier."""
    return step_and_state(backend, case)[0]


def step_and_state(backend, case: peers.Case):
    """The step, and the state that it advances."""
    model, state = setup(backend, case)
    steps = len(IMAGES) // case.batch_size
    plan = Plan(
        epochs=RECIPE.steps // steps,
        batch_size=case.batch_size,
        steps_per_epoch=steps,
        samples=case.samples,
        options=options_of(case),
        lr=RECIPE.lr,
        schedule="cosine",
        adam=(0.9, 0.999, 1e-8),
        weight_decay=RECIPE.weight_decay,
        target=case.kappa**2,
        multiplier_rate=RECIPE.eta,
    )
    images = backend.asarray(IMAGES)
    read = lambda rows, noise: backend.xp.take(images, rows, axis=0).astype(backend.dtype) * (1 / 255)  # noqa: E731
    return make_step(backend, model, METHODS[case.method], plan, read, state), state


def products_of(backend, case: peers.Case):
    """The step's matrix products and nothing else, on the step's own operands."""
    xp, calls = backend.xp, []

    def matmul(a, b, out=None):
        out = xp.matmul(a, b, out=out)
        if a.ndim == b.ndim == 2:
            calls.append((a, b, out))
        return out

    recording = SimpleNamespace(**{name: getattr(xp, name) for name in dir(xp)} | {"matmul": matmul})
    step_of(backend._replace(xp=recording, compile=lambda step: step, parts=lambda rows, weights: 1), case)()

    def products() -> None:
        for a, b, out in calls:
            xp.matmul(a, b, out=out)

    return backend.compile(products)


def same_loss(backend, case: peers.Case, loss) -> None:
    """Raises AssertionError unless a peer's `loss(x, eps, λ)` is ours on the same weights and noise."""
    model, state = setup(backend, case)
    rng = np.random.default_rng(1)
    x = rng.random((case.batch_size, 784), dtype=np.float32)
    eps = rng.standard_normal((case.samples, case.batch_size, case.latents), dtype=np.float32)
    params = vae.params_of(model, state["theta"])
    terms, _ = vae.forward(backend.xp, model, params, backend.asarray(x), backend.asarray(eps))
    now = Now(1.3, case.kappa**2)
    ours, theirs = float(METHODS[case.method].loss(backend.xp, terms, now, **options_of(case))), loss(x, eps, now.lam)
    assert abs(theirs - ours) <= 1e-4 * abs(ours), f"{case}: the losses differ: ours {ours}, theirs {theirs}"


def contestant(name: str, backend, case: peers.Case, check: bool):
    """(step, wait for the device) of what is timed under that name; with `check` a peer's loss must be ours."""
    if name in ("step", "products", "one thread"):
        return (products_of if name == "products" else step_of)(backend, case), backend.synchronize
    if name == "numpy":
        return step_of(open_backend("numpy", backend.dtype.name), case), backend.synchronize
    device = "cuda" if backend.name == "cupy" else "cpu"
    model, state = setup(backend, case)
    sides = vae.params_of(model, state["theta"]).values()
    theta = [peers.layers({key: backend.to_host(weights) for key, weights in side.items()}) for side in sides]
    arguments = case, RECIPE, theta, IMAGES, 0.5, device
    peer = peers.jax_peer(*arguments) if name == "jax" else peers.torch_peer(*arguments, compiled=name == "compile")
    if check:
        same_loss(backend, case, peer.loss)
    return peer.step, peer.wait


def serve(pipe, name: str, library: str, precision: str, case: peers.Case, check: bool) -> None:
    """A process of its own for each contestant, whose threads do not spin in another's way.

    Answers with times, and at the end with the process's memory in MB: before the network was there, and at its peak.
    """
    if name == "one thread":
        _, threads = openblas()
        threads.limit(1)  # as with OMP_NUM_THREADS=1
        threads.count = 1
    own = name in ("step", "products", "one thread") or library == "cupy"
    backend = open_backend(library if own else "numpy", precision)  # no process holds a library that it does not need
    if name == "jax":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it takes 75 % of a card for itself
    if name not in OURS:
        importlib.import_module("jax" if name == "jax" else "torch")
    before = peak_memory()
    step, wait = contestant(name, backend, case, check)
    milliseconds(step, wait, 3)
    pipe.send(max(1, int(100 / milliseconds(step, wait, 3))))
    while repeats := pipe.recv():
        time.sleep(0.2)  # the threads of the one before go on spinning for a while
        milliseconds(step, wait, 2)
        pipe.send(milliseconds(step, wait, repeats))
    pipe.send((before, peak_memory()))


def peak_memory() -> float:
    """The most memory that this process has held, in MB; not a number where the system does not say."""
    if resource is None:
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def milliseconds(step, wait, repeats: int) -> float:
    """The mean time of `repeats` steps."""
    started = time.perf_counter()
    for _ in range(repeats):
        step()
    wait()
    return 1e3 * (time.perf_counter() - started) / repeats


def measure(names: list[str], library: str, precision: str, case: peers.Case, rounds: int, check: bool = True):
    """Milliseconds of each contestant in each round, and its memory: {name: [ms, …]}, {name: (MB before, MB at most)}.

    In a round all take turns, each for about a tenth of a second. One that dies, having said why, is left out.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes, processes, repeats, times, memory = {}, {}, {}, {}, {}

    def answer(name: str):
        """What the contestant sends next; None where it has died."""
        try:
            return pipes[name].recv()
        except EOFError:
            print(f"{name} has died: it is left out", file=sys.stderr, flush=True)
            del pipes[name]
            return None

    def ask(name: str, question: int):
        with suppress(BrokenPipeError):  # the answer will tell
            pipes[name].send(question)
        return answer(name)

    for name in names:
        pipes[name], far_end = spawn.Pipe()
        arguments = far_end, name, library, precision, case, check
        processes[name] = spawn.Process(target=serve, args=arguments, daemon=True)
        processes[name].start()
        far_end.close()
        repeats[name], times[name] = answer(name), []
    for _ in range(rounds):
        for name in [*pipes]:
            times[name].append(ask(name, repeats[name]))
    for name in [*pipes]:
        memory[name] = ask(name, 0)
        processes[name].join()
    return {name: times[name] for name in pipes}, {name: memory[name] for name in pipes}


@contextmanager
def beside(count: int):
    """Within, so many other processes compute without a pause, as on a machine that others use, too."""
    others = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def line_of(case: peers.Case, times: dict[str, list[float]]) -> dict:
    """Medians: milliseconds of each contestant, microseconds an image and sample, and our step over each other."""
    images = case.batch_size * case.samples
    row = {"method": case.method, "batch_size": case.batch_size, "samples": case.samples}
    row |= {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    if "step" not in times:
        return row
    row |= {"µs_per_sample": 1e3 * row["step_ms"] / images}
    for name, values in times.items():
        if name != "step":
            row[f"step/{name}"] = statistics.median(a / b for a, b in zip(times["step"], values, strict=True))
    return row


def conditions() -> dict:
    """The machine, and the versions of the libraries that are there."""
    libraries = [name for name in ("numpy", "numba", "torch", "jax") if importlib.util.find_spec(name)]
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": threads}
    return machine | {name: metadata.version(name) for name in libraries}


def main() -> None:
    """Prints a line a case."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--network", choices=NETWORKS, default="slides")
    p.add_argument("--batch-size", nargs="+", type=int, default=[128])
    p.add_argument("--samples", nargs="+", type=int, help="(by method)")
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--backend", choices=BACKENDS, default="numpy")
    p.add_argument("--precision", choices=("float32", "float64"), default="float32")
    p.add_argument("--busy", type=int, default=0, metavar="N", help="beside N other programs that never wait")
    p.add_argument("--no-peers", action="store_true", help="leave PyTorch and JAX out")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    names = ["step", "products"] + (["numpy"] if args.backend == "numba" else [])
    names += ["one thread"] if args.busy else []
    if not args.no_peers:
        names += ["torch", "compile"] if importlib.util.find_spec("torch") else []
        names += ["jax"] if importlib.util.find_spec("jax") else []
    where = (
        conditions()
        | {"busy": args.busy}
        | open_backend(args.backend, args.precision).versions
        | {"precision": args.precision}
    )
    if not args.json:
        print(", ".join(f"{name} {value}" for name, value in where.items()))
    cases = itertools.product(args.method, args.batch_size, args.samples or [None])
    for method, batch_size, samples in cases:
        case = peers.Case(method, *NETWORKS[args.network], batch_size, samples or METHODS[method].samples)
        racing = [name for name in names if name in OURS or method in peers.METHODS]
        with beside(args.busy):
            row = line_of(case, measure(racing, args.backend, args.precision, case, args.rounds)[0])
        if args.json:
            line = json.dumps(row | where, ensure_ascii=False)
        else:
            line = "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(line, flush=True)


if __name__ == "__main__":
    main()
