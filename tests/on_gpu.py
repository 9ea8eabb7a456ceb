"""Everything that a card should tell, in less than nine minutes; its last lines are there to be pasted into an issue.

python -m tests.on_gpu                          all stages, each in a process and with a limit of its own
python -m tests.on_gpu --stages card recorded   some of them
python -m tests.on_gpu --small --slow 8         a rehearsal: small sizes, and limits that are eight times as long

What is installed besides CuPy decides what is compared: `pip install torch jax`. Results lie in runs/on-gpu/ (--out).
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
from importlib import metadata, util
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
LIMITS = {"card": 40, "recorded": 90, "tests": 150, "steps": 110, "nodes": 40, "mnist": 90, "cifar10": 140}  # seconds
WHOLE = 530  # seconds of all stages
CASES = {  # network, method, images, samples; and the sizes of a rehearsal
    "geco 128": (("slides", "geco", 128, 1), (8, 1)),
    "geco 1000": (("slides", "geco", 1000, 1), (16, 1)),
    "iwae 20 x 50": (("burda", "iwae", 20, 50), (4, 5)),
}
IMPORTANT = ["tests/machines/test_cupy.py", "tests/machines/test_backends.py", "tests/mathematics"]
KINDS = ("KERNEL", "MEMCPY", "MEMSET", "EMPTY")


def case_of(name: str, small: bool):
    """The benchmark's case of that name."""
    from tests.benchmarks import benchmark, peers

    (network, method, images, samples), rehearsed = CASES[name]
    images, samples = rehearsed if small else (images, samples)
    return peers.Case(method, *benchmark.NETWORKS[network], images, samples)


def card(tell, args) -> None:
    """The card, the versions, and whether steps are recorded."""
    import cupy as cp

    from backend import open_backend

    backend, runtime = open_backend("cupy"), cp.cuda.runtime
    found = {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}
    properties = runtime.getDeviceProperties(0)
    memory = properties["totalGlobalMem"] / 2**30
    found["card"] = f"{properties['name'].decode()}, {properties['multiProcessorCount']} SMs, {memory:.0f} GiB"
    names = [name for name in ("numpy", "torch", "jax", "numba") if util.find_spec(name)]
    found |= {"python": platform.python_version(), "cupy": cp.__version__} | {n: metadata.version(n) for n in names}
    git = subprocess.run(["git", "log", "-1", "--format=%h"], cwd=ROOT, capture_output=True, text=True)
    found["commit"] = git.stdout.strip() or "?"
    found["steps"] = "recorded" if backend.versions["graph"] else "eager"
    tell(", ".join(f"{name} {value}" for name, value in found.items()), **found)


def state_after(backend, case, steps: int) -> dict:
    """The state on the host after so many steps of the benchmark."""
    from tests.benchmarks import benchmark

    step, state = benchmark.step_and_state(backend, case)
    for _ in range(steps):
        step()
    return {name: backend.to_host(array) for name, array in state.items()}


def nodes_of(graph) -> dict[str, int]:
    """How many nodes of each kind a CUDA graph has, by its own description."""
    nodes = re.findall(r'"graph_\d+_node_\d+"\s*\[(.*?)\];', graph.debug_dot_str(1), re.DOTALL)
    kinds = [next((kind for kind in KINDS if kind in node.upper()), "OTHER") for node in nodes]
    return {kind.lower(): kinds.count(kind) for kind in dict.fromkeys(kinds)}


def recorded(tell, args) -> None:
    """Whether a recorded step is the eager step, bit for bit, with TF32 and without; and the nodes of its graph."""
    from backend import cupy_backend, open_backend

    graphs, capture = [], cupy_backend.capture
    cupy_backend.capture = lambda *given: graphs.append(capture(*given)) or graphs[-1]
    for name in CASES:
        for tf32 in (False, True):
            backend, case = open_backend("cupy", "float32", tf32), case_of(name, args.small)
            found = state_after(backend, case, 5 if args.small else 60)
            eager = state_after(backend._replace(compile=lambda step: step), case, 5 if args.small else 60)
            different = [key for key in found if not np.array_equal(found[key], eager[key])]
            verdict = f"FAIL: other than eager: {', '.join(different)}" if different else "the eager step, bit for bit"
            if not graphs or graphs[-1] is None:
                verdict = "FAIL: nothing was recorded"
            try:
                nodes = nodes_of(graphs[-1])
            except Exception as error:  # of the runtime, of an older CuPy, or of no graph
                nodes = {"unknown": type(error).__name__}
            count = sum(n for n in nodes.values() if isinstance(n, int)) or "unknown"
            tell(f"{name}{' TF32' * tf32}: {verdict}; nodes {count}", case=name, tf32=tf32, nodes=nodes, bad=different)


def tests(tell, args) -> None:
    """The important parts of the suite."""
    report = args.out / "tests.xml"
    parts = IMPORTANT[:1] if args.small else IMPORTANT
    command = [sys.executable, "-m", "pytest", "--backend", "cupy", "-rf", f"--junitxml={report}", *parts]
    subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT)
    suites = [*xml.parse(report).getroot().iter("testsuite")]
    counts = {key: sum(int(s.get(key, 0)) for s in suites) for key in ("tests", "failures", "errors", "skipped")}
    bad = [case.get("name") for case in suites[0].iter("testcase") if case.find("failure") is not None]
    verdict = "FAIL" if counts["failures"] + counts["errors"] else "passed"
    tell(f"suite with --backend cupy: {verdict}, {counts}", bad=bad, **counts)
    for name in bad[:10]:
        tell(f"  failed: {name}")


def steps(tell, args) -> None:
    """A step beside its products alone, PyTorch and JAX; then with TF32."""
    from backend import open_backend
    from tests.benchmarks import benchmark

    names = ["step", "products", *(["torch", "compile"] if util.find_spec("torch") else [])]
    names += ["jax"] if util.find_spec("jax") else []
    for name in CASES:
        case = case_of(name, args.small)
        times, _ = benchmark.measure(names, "cupy", "float32", case, 1 if args.small else 7)
        micros = {contestant: 1e3 * statistics.median(values) for contestant, values in times.items()}
        backend = open_backend("cupy", "float32", tf32=True)
        step = benchmark.step_of(backend, case)
        benchmark.milliseconds(step, backend.synchronize, 5)
        micros["step with TF32"] = 1e3 * benchmark.milliseconds(step, backend.synchronize, 3 if args.small else 200)
        tell(f"{name}, µs: " + ", ".join(f"{n} {us:.0f}" for n, us in micros.items()), case=name, microseconds=micros)


def nodes(tell, args) -> None:
    """Microseconds of a node by kind, each in a graph of many of its kind."""
    from backend import open_backend
    from ref.adam import adam
    from ref.densities import squared_error
    from ref.mlp import silu

    backend = open_backend("cupy")
    xp, count, noise = backend.xp, 10 if args.small else 200, backend.noise(0)
    number, rows = xp.ones((), np.float32), xp.arange(128)
    small, large, weights = (xp.ones(shape, np.float32) for shape in ((128, 784), (1000, 784), (784, 512)))
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
    micros = {name: microseconds(backend, job, count, 2 if args.small else 20) for name, job in jobs.items()}
    tell("µs a node: " + ", ".join(f"{name} {us:.2f}" for name, us in micros.items()), microseconds=micros)


def microseconds(backend, job, count: int, launches: int) -> float:
    """Of one call of `job` within a recorded graph of `count` calls."""

    def many() -> None:
        for _ in range(count):
            job()

    run = backend.compile(many)
    for _ in range(4):
        run()
    backend.synchronize()
    started = time.perf_counter()
    for _ in range(launches):
        run()
    backend.synchronize()
    return 1e6 * (time.perf_counter() - started) / launches / count


def mnist(tell, args) -> None:
    """30 epochs of MNIST from start to end by run.py, and by the peers that are there."""
    names = ["cupy", *(name for name in ("jax", "torch") if util.find_spec(name))]
    data = ["--data", "mnist-10k", "--epochs", "1"] if args.small else ["--data", "mnist", "--epochs", "30"]
    command = [sys.executable, "-m", "tests.benchmarks.end_to_end", *names, *data]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    for line in lines:
        tell(line)
    if not any(line.startswith("| cupy") for line in lines):
        tell("FAIL: run.py --backend cupy did not end; see log.txt")


def cifar10(tell, args) -> None:
    """20 epochs of CIFAR-10 in principal coordinates, where its files lie on this machine."""
    from data import default_dir

    if args.small or not [*default_dir().glob("cifar*")]:
        return tell("CIFAR-10 is left out: it is not on this machine, or this is a rehearsal")
    out, started = args.out / "cifar10", time.perf_counter()
    command = [sys.executable, "run.py", "--data", "cifar10", "--backend", "cupy", "--force", "--out", str(out)]
    subprocess.run(command, cwd=ROOT)
    summary = json.loads((out / "summary.json").read_text())
    found = {name: summary[name] for name in ("rate", "error", "nll", "lambda", "steps")}
    found["seconds"] = time.perf_counter() - started
    tell("CIFAR-10: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()), **found)


STAGES = {f.__name__: f for f in (card, recorded, tests, steps, nodes, mnist, cifar10)}


def run_stage(name: str, args: argparse.Namespace) -> None:
    """What the process of a stage does: every line goes into results.jsonl with its figures."""

    def tell(line: str, **figures) -> None:
        with open(args.out / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": name, "line": line} | figures, ensure_ascii=False, default=str) + "\n")

    STAGES[name](tell, args)


def lines_in(out: Path) -> list[dict]:
    """What the stages have told so far."""
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def supervise(name: str, limit: float, args: argparse.Namespace) -> dict:
    """Runs a stage in a process group of its own, which is ended at its limit. Returns how it went."""
    command = [sys.executable, "-m", "tests.on_gpu", "--stage", name, "--out", str(args.out)]
    command += ["--small"] if args.small else []
    started = time.monotonic()
    with open(args.out / "log.txt", "ab") as log:
        log.write(f"===== {name}\n".encode())
        log.flush()
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            status = process.wait(limit)
            said = f"status {status}" if status else "done"
        except subprocess.TimeoutExpired:
            said = f"FAIL: ended at its limit of {limit:.0f} s"
        if process.poll() is None or said != "done":
            end_group(process)
    return {"stage": name, "said": said, "seconds": round(time.monotonic() - started, 1)}


def end_group(process: subprocess.Popen) -> None:
    """Ends a stage and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def main() -> int:
    """Prints what each stage told, and how it went. Status 1 if anything failed, 2 without a card."""
    from backend import BackendError, open_backend

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--stages", nargs="+", choices=STAGES, default=[*STAGES])
    p.add_argument("--small", action="store_true", help="a rehearsal of small sizes")
    p.add_argument("--slow", type=float, default=1.0, help="factor of every limit")
    p.add_argument("--out", type=Path, default=Path("runs/on-gpu"), help="where results and log go (runs/on-gpu)")
    p.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    args = p.parse_args()
    args.out = args.out.resolve()
    if args.stage:
        run_stage(args.stage, args)
        return 0
    try:
        open_backend("cupy")
    except BackendError as error:
        print(f"tests.on_gpu: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    for old in ("results.jsonl", "log.txt"):
        (args.out / old).unlink(missing_ok=True)
    end, went = time.monotonic() + WHOLE * args.slow, []
    for name in args.stages:
        limit = min(LIMITS[name] * args.slow, end - time.monotonic())
        if limit < 5:
            went.append({"stage": name, "said": "FAIL: no time was left", "seconds": 0.0})
        else:
            told = len(lines_in(args.out))
            went.append(supervise(name, limit, args))
            for row in lines_in(args.out)[told:]:
                print(row["line"], flush=True)
        print("## {stage}: {said}, {seconds} s".format(**went[-1]), flush=True)
    told = lines_in(args.out)
    (args.out / "results.json").write_text(
        json.dumps({"stages": went, "told": told}, ensure_ascii=False, indent=1), "utf-8"
    )
    failed = [row for row in went if row["said"] != "done"] + [row for row in told if "FAIL" in row["line"]]
    print(f"{len(failed)} failures; all figures in {args.out / 'results.json'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
