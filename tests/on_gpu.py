"""What a card should tell, in less than nine minutes, to be pasted into an issue.

python -m tests.on_gpu                          all stages, each with a limit of its own
python -m tests.on_gpu --stages card recorded   some of them
python -m tests.on_gpu --small --slow 8         a rehearsal, with limits eight times as long

What is installed is compared: `pip install torch jax`. Results lie in runs/on-gpu/.
"""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from contextlib import suppress
from functools import partial
from importlib import metadata, util
from pathlib import Path

import numpy as np

from backend import BackendError, cupy_backend, open_backend
from data import default_dir
from ref.adam import adam
from ref.densities import squared_error
from ref.mlp import silu
from tests.benchmarks.benchmark import NETWORKS, measure, milliseconds, step_and_state, step_of
from tests.benchmarks.peers import Case

ROOT = Path(__file__).parents[1]
LIMITS = {"card": 40, "recorded": 90, "tests": 150, "steps": 110, "nodes": 40, "mnist": 90, "cifar10": 140}
WHOLE = 530  # of all stages; seconds, as these
IMPORTANT = ["tests/machines/test_cupy.py", "tests/machines/test_backends.py", "tests/mathematics"]
KINDS = ("KERNEL", "MEMCPY", "MEMSET", "EMPTY")
LIBRARIES = ("numpy", "torch", "jax", "numba")


def cases(small: bool) -> dict[str, Case]:
    """The benchmark's cases; `small` ones for a rehearsal."""
    sizes = [8, 16, 4, 5] if small else [128, 1000, 20, 50]
    return {
        "geco 128": Case("geco", *NETWORKS["slides"], sizes[0], 1),
        "geco 1000": Case("geco", *NETWORKS["slides"], sizes[1], 1),
        "iwae 20 x 50": Case("iwae", *NETWORKS["burda"], *sizes[2:]),
    }


def listed(values: dict, form: str = "") -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def card(tell, args):
    """Card, versions, and whether steps are recorded."""
    import cupy as cp

    backend, runtime = open_backend("cupy"), cp.cuda.runtime
    of_card = runtime.getDeviceProperties(0)
    memory = of_card["totalGlobalMem"] / 2**30
    git = subprocess.run(["git", "log", "-1", "--format=%h"], cwd=ROOT, capture_output=True, text=True)
    found = {
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "card": f"{of_card['name'].decode()}, {of_card['multiProcessorCount']} SMs, {memory:.0f} GiB",
        "python": platform.python_version(),
        "cupy": cp.__version__,
        **{name: metadata.version(name) for name in LIBRARIES if util.find_spec(name)},
        "commit": git.stdout.strip() or "?",
        "steps": "recorded" if backend.versions["graph"] else "eager",
    }
    tell(listed(found), **found)


def state_after(backend, case: Case, steps: int) -> dict:
    """The state on the host after so many steps of the benchmark."""
    step, state = step_and_state(backend, case)
    for _ in range(steps):
        step()
    return {name: backend.to_host(array) for name, array in state.items()}


def nodes_of(graph) -> dict[str, int]:
    """How many nodes of each kind a graph has, by its own description."""
    nodes = re.findall(r'"graph_\d+_node_\d+"\s*\[(.*?)\];', graph.debug_dot_str(1), re.DOTALL)
    kinds = [next((kind for kind in KINDS if kind in node.upper()), "OTHER") for node in nodes]
    return {kind.lower(): kinds.count(kind) for kind in dict.fromkeys(kinds)}


def recorded(tell, args):
    """Whether a recorded step is the eager step, bit for bit; and the nodes of its graph."""
    graphs, capture, steps = [], cupy_backend.capture, 5 if args.small else 60
    cupy_backend.capture = lambda *given: graphs.append(capture(*given)) or graphs[-1]
    for name, case in cases(args.small).items():
        for tf32 in (False, True):
            backend = open_backend("cupy", "float32", tf32)
            found = state_after(backend, case, steps)
            eager = state_after(backend._replace(compile=lambda step: step), case, steps)
            different = [key for key in found if not np.array_equal(found[key], eager[key])]
            verdict = "the eager step, bit for bit"
            if different:
                verdict = f"FAIL: other than eager: {', '.join(different)}"
            if not graphs or graphs[-1] is None:
                verdict = "FAIL: nothing was recorded"
            try:
                nodes = nodes_of(graphs[-1])
                count = sum(nodes.values())
            except Exception as error:  # of the runtime, of an older CuPy, or of no graph
                nodes, count = {"unknown": type(error).__name__}, "unknown"
            line = f"{name}{' TF32' * tf32}: {verdict}; nodes {count}"
            tell(line, case=name, tf32=tf32, nodes=nodes, bad=different)


def tests(tell, args):
    """The important parts of the suite."""
    report = args.out / "tests.xml"
    command = [sys.executable, "-m", "pytest", "--backend", "cupy", "-rf", f"--junitxml={report}"]
    parts = IMPORTANT[:1] if args.small else IMPORTANT
    subprocess.run([*command, "-p", "no:cacheprovider", *parts], cwd=ROOT)
    suite = next(xml.parse(report).iter("testsuite"))
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    bad = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    verdict = "FAIL" if counts["failures"] + counts["errors"] else "passed"
    tell(f"suite with --backend cupy: {verdict}, {counts}", bad=bad, **counts)
    for name in bad[:10]:
        tell(f"  failed: {name}")


def steps(tell, args):
    """A step beside its products, PyTorch and JAX; then with TF32."""
    names = ["step", "products", *(["torch", "compile"] if util.find_spec("torch") else [])]
    names += ["jax"] if util.find_spec("jax") else []
    rounds, repeats = (1, 3) if args.small else (7, 200)
    for name, case in cases(args.small).items():
        times, _ = measure(names, "cupy", "float32", case, rounds)
        micros = {contestant: 1e3 * statistics.median(values) for contestant, values in times.items()}
        backend = open_backend("cupy", "float32", tf32=True)
        step = step_of(backend, case)
        milliseconds(step, backend.synchronize, 5)
        micros["step with TF32"] = 1e3 * milliseconds(step, backend.synchronize, repeats)
        tell(f"{name}, µs: {listed(micros, '.0f')}", case=name, microseconds=micros)


def nodes(tell, args):
    """Microseconds of a node by kind, in a graph of many of its kind."""
    backend = open_backend("cupy")
    xp, noise = backend.xp, backend.noise(0)
    count, launches = (10, 2) if args.small else (200, 20)
    number, rows = xp.ones((), np.float32), xp.arange(128)
    shapes = (128, 784), (1000, 784), (784, 512)
    small, large, weights = (xp.ones(shape, np.float32) for shape in shapes)
    bias, theta = xp.ones(784, np.float32), [xp.ones(1_221_176, np.float32) for _ in range(4)]
    update = backend.fuse(lambda xp, *arrays: adam(xp, *arrays, 0.9, 0.999))
    jobs = {
        "one number": lambda: number + 1,
        "silu 128 x 784": lambda: silu(xp, small, bias),
        "silu 1000 x 784": lambda: silu(xp, large, bias),
        "squared error 128 x 784": lambda: squared_error(xp, small, small),
        "sum of 128 rows": lambda: xp.sum(small, axis=0),
        "sum of 1000 rows": lambda: xp.sum(large, axis=0),
        "take 128 rows": lambda: xp.take(large, rows, axis=0),
        "product 128 x 784 x 512": lambda: xp.matmul(small, weights),
        "product 784 x 128 x 512": lambda: xp.matmul(small.T, small[:, :512]),
        "product 1000 x 784 x 512": lambda: xp.matmul(large, weights),
        "noise 128 x 200": lambda: backend.normal(noise, (128, 200)),
        "Adam": lambda: update(*theta, number, number),
    }
    micros = {}

    def many(job) -> None:
        for _ in range(count):
            job()

    for name, job in jobs.items():
        run = backend.compile(partial(many, job))
        milliseconds(run, backend.synchronize, 4)
        micros[name] = 1e3 * milliseconds(run, backend.synchronize, launches) / count
    tell(f"µs a node: {listed(micros, '.2f')}", microseconds=micros)


def mnist(tell, args):
    """30 epochs of MNIST from start to end by run.py, and by the peers."""
    names = ["cupy", *(name for name in ("jax", "torch") if util.find_spec(name))]
    data, epochs = ("mnist-10k", "1") if args.small else ("mnist", "30")
    command = [sys.executable, "-m", "tests.benchmarks.end_to_end", *names]
    command += ["--data", data, "--epochs", epochs]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    for line in lines:
        tell(line)
    if not any(line.startswith("| cupy") for line in lines):
        tell("FAIL: run.py --backend cupy did not end; see log.txt")


def cifar10(tell, args):
    """20 epochs of CIFAR-10, where its files lie on this machine."""
    if args.small or not [*default_dir().glob("cifar*")]:
        return tell("CIFAR-10 is left out: it is not on this machine, or this is a rehearsal")
    out, started = args.out / "cifar10", time.perf_counter()
    command = [sys.executable, "run.py", "--data", "cifar10", "--backend", "cupy", "--force"]
    subprocess.run([*command, "--out", str(out)], cwd=ROOT)
    summary = json.loads((out / "summary.json").read_text())
    found = {name: summary[name] for name in ("rate", "error", "nll", "lambda", "steps")}
    found["seconds"] = time.perf_counter() - started
    tell(f"CIFAR-10: {listed(found, '.4g')}", **found)


STAGES = {f.__name__: f for f in (card, recorded, tests, steps, nodes, mnist, cifar10)}


def keep(out: Path, stage: str, line: str, **figures) -> None:
    """A line that a stage tells goes into results.jsonl with its figures."""
    with open(out / "results.jsonl", "a", encoding="utf-8") as file:
        row = {"stage": stage, "line": line} | figures
        file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def lines_in(out: Path) -> list[dict]:
    """What the stages have told so far."""
    return [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]


def supervise(name: str, limit: float, args: argparse.Namespace) -> dict:
    """Runs a stage in a process group of its own, ended at its limit: how it went."""
    command = [sys.executable, "-m", "tests.on_gpu", "--stage", name, "--out", str(args.out)]
    command += ["--small"] if args.small else []
    started = time.monotonic()
    with open(args.out / "log.txt", "ab", buffering=0) as log:
        log.write(f"===== {name}\n".encode())
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            status = process.wait(limit)
            said = f"status {status}" if status else "done"
        except subprocess.TimeoutExpired:
            said = f"FAIL: ended at its limit of {limit:.0f} s"
        if said != "done":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return {"stage": name, "said": said, "seconds": round(time.monotonic() - started, 1)}


def main() -> int:
    """Prints what each stage told. Status 1 if anything failed, 2 without a card."""
    as_it_is = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    p.add_argument("--stages", nargs="+", choices=STAGES, default=[*STAGES])
    p.add_argument("--small", action="store_true", help="a rehearsal of small sizes")
    p.add_argument("--slow", type=float, default=1.0, help="factor of every limit")
    p.add_argument("--out", type=Path, default=Path("runs/on-gpu"), help="of results and log (runs/on-gpu)")
    p.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    args = p.parse_args()
    args.out = args.out.resolve()
    if args.stage:
        STAGES[args.stage](partial(keep, args.out, args.stage), args)
        return 0
    try:
        open_backend("cupy")
    except BackendError as error:
        print(f"tests.on_gpu: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    for old in ("results.jsonl", "log.txt"):
        (args.out / old).write_text("")
    end, went = time.monotonic() + WHOLE * args.slow, []
    for name in args.stages:
        limit = min(LIMITS[name] * args.slow, end - time.monotonic())
        told = len(lines_in(args.out))
        if limit < 5:
            went.append({"stage": name, "said": "FAIL: no time was left", "seconds": 0.0})
        else:
            went.append(supervise(name, limit, args))
        for row in lines_in(args.out)[told:]:
            print(row["line"], flush=True)
        print("## {stage}: {said}, {seconds} s".format(**went[-1]), flush=True)
    told, path = lines_in(args.out), args.out / "results.json"
    path.write_text(json.dumps({"stages": went, "told": told}, ensure_ascii=False, indent=1), "utf-8")
    failed = sum(row["said"] != "done" for row in went) + sum("FAIL" in row["line"] for row in told)
    print(f"{failed} failures; all figures in {path}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
