"""What a user waits for: a whole process that reads the images, trains GECO, judges the model and draws pictures.

python -m tests.benchmarks.end_to_end --data mnist --epochs 30      NumPy, Numba, and the peers that are installed
python -m tests.benchmarks.end_to_end torch-compiled jax --data mnist-10k --epochs 2
python -m tests.benchmarks.end_to_end numba torch-compiled --cold   as if nothing had been compiled before
python -m tests.benchmarks.end_to_end cupy jax                      on a GPU, where the peers go too if they find it

Each contestant has a process of its own, one after another. The functions of run.py are wrapped from here; a phase
within another counts for itself alone. The peers (`peers.py`; `pip install torch jax`) read the images through `data`,
have run.py's options, and find rate, squared error and NLL from as many draws. They leave out what only run.py
does: test images watched while training, checkpoints, mutual information, the other pictures.
"""

import argparse
import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# Name: the library that it needs.
CONTESTANTS = {"numpy": None, "numba": "numba", "cupy": "cupy"}
CONTESTANTS |= {"torch": "torch", "torch-compiled": "torch", "jax": "jax"}
# In the order of the columns. The rest is what nothing below names. The exit is seen from outside alone.
WORK = ("start", "data", "first step", "steps", "watching", "evaluation", "information", "pictures", "files")
PHASES = (*WORK, "rest", "exit")
FIGURES = ("rate", "error", "nll", "lambda")
REPORT = "end_to_end.json"
CACHES = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")  # where compiled code is kept


class Stopwatch:
    """Seconds by phase since `started`. A phase within another interrupts it."""

    def __init__(self, started: float):
        self.seconds, self.phase, self.since = defaultdict(float), "start", started

    def switch(self, phase: str) -> str:
        """From now on it is `phase`. Returns the phase until now."""
        now, before = time.time(), self.phase  # time.time, because `started` comes from another process
        self.seconds[before] += now - self.since
        self.phase, self.since = phase, now
        return before

    @contextmanager
    def during(self, phase: str):
        """Within, it is `phase`."""
        before = self.switch(phase)
        try:
            yield
        finally:
            self.switch(before)

    def wrap(self, module, name: str, phase: str) -> None:
        """From now on `module.name(…)` is timed."""
        setattr(module, name, self.timed(getattr(module, name), phase))

    def timed(self, f, phase: str):
        """f, timed."""

        @functools.wraps(f)
        def call(*args, **named):
            with self.during(phase):
                return f(*args, **named)

        return call


def waiting_is_stepping(watch: Stopwatch, open_backend):
    """open_backend; a step on a GPU is only begun by its call, so that waiting for the GPU counts as stepping."""

    def opened(*args, **named):
        backend = open_backend(*args, **named)
        return backend._replace(synchronize=watch.timed(backend.synchronize, "steps"))

    return opened


def ours(name: str, watch: Stopwatch, out: Path, options: list[str]) -> dict:
    """run.py with that backend, its functions wrapped. Returns the figures in its summary."""
    import run
    from experiment import commands, evaluation, pictures, run_folder, sources, training
    from ref.more import metrics

    def first_apart(make_step):
        """make_step, whose step is timed, the first call apart."""

        def make(*args):
            step, phases = make_step(*args), ["steps", "first step"]

            def timed_step() -> None:
                with watch.during(phases.pop() if len(phases) > 1 else phases[0]):
                    step()

            return timed_step

        return make

    training.make_step = first_apart(training.make_step)
    commands.open_backend = waiting_is_stepping(watch, commands.open_backend)
    for module, function, phase in (
        (commands, "open_backend", "start"),
        (sources, "opened", "data"),
        (evaluation, "look", "watching"),
        (evaluation, "summarize", "evaluation"),
        (metrics, "mutual_information", "information"),
        (pictures, "draw_pictures", "pictures"),
        (pictures, "draw_curves", "pictures"),
        (run_folder, "claim", "files"),
        (run_folder, "append_row", "files"),
        (run_folder, "write_checkpoint", "files"),
    ):
        watch.wrap(module, function, phase)
    watch.switch("rest")
    if status := run.main([*options, "--backend", name, "--out", str(out)]):
        sys.exit(status)
    return json.loads((out / "summary.json").read_text())


def device_of(name: str) -> str:
    """Where a peer works: on the GPU where its library finds one, else on the CPU."""
    if name == "jax":
        import jax

        return "cuda" if jax.default_backend() == "gpu" else "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def theirs(name: str, watch: Stopwatch, out: Path, options: list[str]) -> dict:
    """The same training, evaluation and pictures in PyTorch or JAX. Returns the figures."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes 75 % of a card
    importlib.import_module(CONTESTANTS[name])
    from data import DataError
    from experiment import sources
    from experiment.command_line import of_a_run, parsed
    from experiment.defaults import binarization, complete

    watch.switch("rest")
    asked = of_a_run(parsed(options))
    try:
        with watch.during("data"):
            data, images = sources.opened(asked["data"], binarization(asked))
    except DataError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    run = complete(asked, data, images).run
    with watch.during("first step"):
        peer = peer_of(name, run, data)
        peer.step()
        peer.wait()
    with watch.during("steps"):
        per_epoch = len(data.train) // run.batch_size
        for t in range(1, run.epochs * per_epoch):
            if t % per_epoch == 0:
                peer.shuffle()
            peer.step()
        peer.wait()
    with watch.during("evaluation"):
        figures = judge(peer, data.test, run.nll_samples)
    with watch.during("pictures"):
        draw(out, peer, data)
    return figures | {"lambda": peer.multiplier()}


def peer_of(name: str, run, data):
    """The peer before its first step, by the record of a run: its network, start and schedule."""
    from data.dataset import mean_of
    from ref.objectives import initial_multiplier
    from tests.benchmarks import peers

    network = run.hidden, run.latent, run.activation, run.likelihood
    case = peers.Case(run.method, *network, run.batch_size, run.samples, run.target**0.5)
    steps = run.epochs * (len(data.train) // run.batch_size)
    moved = run.lr, run.weight_decay, run.multiplier_rate, initial_multiplier(run.target)
    recipe = peers.Recipe(steps, *moved, run.seed)
    center, rng = mean_of(data.train), np.random.default_rng(run.seed)
    bounded = np.clip(center, 1e-3, 1 - 1e-3)
    theta = peers.initial(case, center.size, np.log(bounded / (1 - bounded)), rng)
    arguments = case, recipe, theta, data.train, center, device_of(name)
    return peers.jax_peer(*arguments) if name == "jax" else peers.torch_peer(*arguments, name == "torch-compiled")


def judge(peer, images: np.ndarray, nll_samples: int) -> dict:
    """Rate, squared error and NLL on these images, by as many draws as in ref/more/metrics.py."""
    from ref.more import metrics

    found, at_once = {name: [] for name in FIGURES[:3]}, metrics.DECODED // metrics.IMAGES
    for start in range(0, len(images), metrics.IMAGES):
        x = images[start : start + metrics.IMAGES].astype(np.float32) / 255
        mean, log_std = peer.encode(x)
        found["rate"].append((0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std).sum(axis=1))
        found["error"].append(peer.draw(x, mean, log_std, metrics.REPEATS)[0].mean(axis=0))
        chunks = (min(at_once, nll_samples - begin) for begin in range(0, nll_samples, at_once))
        log_w = np.concatenate([peer.draw(x, mean, log_std, count)[1] for count in chunks], dtype=np.float64)
        found["nll"].append(math.log(nll_samples) - np.logaddexp.reduce(log_w, axis=0))
    return {name: float(np.concatenate(values).mean(dtype=np.float64)) for name, values in found.items()}


def draw(out: Path, peer, data) -> None:
    """reconstructions.png and samples.png, of as many images as run.py shows."""
    from experiment.pictures import save, sheet

    images, rng = data.test[:10].astype(np.float32) / 255, np.random.default_rng(0)
    mean, log_std = peer.encode(images)
    eps = rng.standard_normal(mean.shape, dtype=np.float32)
    prior = rng.standard_normal((50, mean.shape[1]), dtype=np.float32)
    rows = [("original", images), ("at the mean", peer.decode(mean))]
    rows.append(("a sample", peer.decode(mean + np.exp(log_std) * eps)))
    save(out / "reconstructions.png", sheet([(name, row.reshape(-1, *data.shape)) for name, row in rows]))
    rows = np.split(peer.decode(prior).reshape(-1, *data.shape), 5)
    save(out / "samples.png", sheet([("prior p(z)", row) for row in rows]))


def contest(name: str, started: float, out: Path, options: list[str]) -> None:
    """What a contestant's process does: it leaves its seconds and its figures in `out`."""
    watch = Stopwatch(started)
    library = CONTESTANTS[name]
    figures = (theirs if library in ("torch", "jax") else ours)(name, watch, out, options)
    watch.switch("exit")
    device = device_of(name) if library in ("torch", "jax") else "cuda" if library == "cupy" else "cpu"
    report = {"device": device, "seconds": watch.seconds, "figures": {key: figures[key] for key in FIGURES}}
    (out / REPORT).write_text(json.dumps(report))


def race(name: str, out: Path, options: list[str], cold: bool) -> dict:
    """The report of a contestant's process, and the seconds of the whole process as seen from here."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as empty:
        caches = {variable: f"{empty}/{variable}" for variable in CACHES} if cold else {}
        started = time.time()
        command = [sys.executable, "-m", "tests.benchmarks.end_to_end", name, *options]
        command += ["--process", f"{started}", f"{out}"]
        if status := subprocess.run(command, env=os.environ | caches, stdout=subprocess.DEVNULL).returncode:
            sys.exit(status)  # it has said why
        return json.loads((out / REPORT).read_text()) | {"whole": time.time() - started}


def main() -> None:
    """Prints a line a contestant: seconds by phase, and the figures."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("contestants", nargs="*", metavar="contestant", help=", ".join(CONTESTANTS))
    p.add_argument("--data", choices=("mnist", "mnist-10k"), default="mnist")
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--cold", action="store_true", help="compile everything anew")
    p.add_argument("--out", type=Path, help="keep runs and pictures in this folder")
    p.add_argument("--process", nargs=2, help=argparse.SUPPRESS)
    args = p.parse_args()
    options = ["--data", args.data, "--epochs", str(args.epochs), "--seed", str(args.seed)]
    if args.process:
        return contest(args.contestants[0], float(args.process[0]), Path(args.process[1]), options)
    if args.epochs < 1:
        p.error(f"--epochs {args.epochs} is not an integer above 0")
    there = [name for name, library in CONTESTANTS.items() if not library or importlib.util.find_spec(library)]
    names = args.contestants or there
    for name in names:
        if name not in CONTESTANTS:
            p.error(f"{name!r} is no contestant: choose from {', '.join(CONTESTANTS)}")
        if name not in there:
            p.error(f"{name} needs {CONTESTANTS[name]}, which is not installed: pip install {CONTESTANTS[name]}")
        if args.out and (args.out / name).exists():
            p.error(f"{args.out / name} exists; choose another folder for --out")
    from tests.benchmarks.benchmark import conditions  # not in a contestant's process, whose time it would take

    print(", ".join(f"{name} {value}" for name, value in conditions().items()))
    columns = ["seconds", *PHASES, "whole", "rate", "squared error", "NLL", "λ"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            found = race(name, (args.out or Path(temporary)) / name, options, args.cold)
            seconds = found["seconds"] | {"exit": found["whole"] - sum(found["seconds"].values())}
            cells = [f"{seconds.get(phase, 0):.1f}" for phase in PHASES]
            cells += [f"{found['whole']:.1f}", *(f"{found['figures'][key]:.2f}" for key in FIGURES)]
            where = " on the GPU" if found["device"] == "cuda" else ""
            print(f"| {name}{where} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
