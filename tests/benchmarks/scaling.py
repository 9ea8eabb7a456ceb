"""How a step scales with processes, and what its parts say of a network of 100 million parameters.

for n in 1 2 4; do OMP_NUM_THREADS=1 mpiexec -n $n --map-by :oversubscribe python -m tests.benchmarks.scaling; done

A rank's own work is measured in processor time and the exchange among the ranks by its least time, so that other
programs on the machine disturb neither much; "as run" is what the clock said.
"""

import argparse
import time
from functools import partial

import numpy as np

from backend import open_backend
from backend.ranks import open_ranks
from ref.adam import adam
from tests.benchmarks.benchmark import step_of
from tests.benchmarks.peers import Case

NETWORK = Case("geco", (512, 256), 200, "silu", "gaussian", 128, 1)
LARGE = 100_000_000  # parameters of the network on paper
EXCHANGE = ("all_reduce", "reduce_scatter", "all_gather")


def times(f, repeats: int) -> tuple[float, float]:
    """The least time by the clock and the median processor time of a call, in seconds."""
    clock, processor = [], []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        f()
        clock.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    return min(clock), float(np.median(processor))


def timed(f, calls: list):
    """f, which notes in `calls` itself, its arguments and its processor time."""

    def call(*sent) -> None:
        started = time.process_time()
        f(*sent)
        calls.append((f, sent, time.process_time() - started))

    return call


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch-size", nargs="+", type=int, default=[128, 1000])
    p.add_argument("--repeats", type=int, default=30)
    args = p.parse_args()
    ranks = open_ranks()
    first = ranks.rank == 0
    for batch_size in args.batch_size:
        calls = []
        timed_ranks = ranks._replace(**{name: timed(getattr(ranks, name), calls) for name in EXCHANGE})
        step = step_of(open_backend("numpy")._replace(ranks=timed_ranks), NETWORK._replace(batch_size=batch_size))
        started = time.perf_counter(), time.process_time()
        for _ in range(args.repeats):
            step()
        as_run = 1e3 * (time.perf_counter() - started[0]) / args.repeats
        spent = sum(seconds for _, _, seconds in calls)
        own = 1e3 * (time.process_time() - started[1] - spent) / args.repeats
        of_a_step = calls[: len(calls) // args.repeats]
        exchange = 1e3 * sum(times(partial(f, *sent), 200)[0] for f, sent, _ in of_a_step)
        if first:
            print(
                f"{ranks.size} ranks, batch {batch_size}: {own + exchange:.2f} ms a step, of it exchange "
                f"{exchange:.2f} ({100 * exchange / (own + exchange):.0f} %); as run {as_run:.2f}",
                flush=True,
            )
    on_paper(ranks)


def on_paper(ranks) -> None:
    """Prints what a parameter costs here, and with two ranks what a large network would cost on more of them."""
    square = np.ones((1024, 1024), np.float32)
    theta, m, v, grad = (np.ones(LARGE // 10, np.float32) for _ in range(4))
    update = open_backend("numpy").fuse(lambda xp, *arrays: adam(xp, *arrays, *np.float32([1e-3, 1e-8]), 0.9, 0.999))
    scattered = times(lambda: ranks.reduce_scatter(grad, 1 / ranks.size), 50)[0] / grad.size
    gathered = times(lambda: ranks.all_gather(theta), 50)[0] / theta.size
    updated = times(lambda: update(theta, m, v, grad), 5)[1] / theta.size
    rate = 2 * 1024**3 / times(lambda: np.matmul(square, square), 20)[1]
    if ranks.rank == 0:
        exchange = f"reduce-scatter {1e9 * scattered:.2f} ns, all-gather {1e9 * gathered:.2f} ns"
        print(f"a parameter: {exchange}, Adam {1e9 * updated:.2f} ns; {rate / 1e9:.0f} GFLOP/s")
    if ranks.rank == 0 and ranks.size == 2:
        model = "6·P·B/rate/n + Adam/n + 2(n−1)/n of what two exchange"
        print(f"on paper, {LARGE:,} parameters, batch 1000: seconds a step ({model})")
        for n in (1, 2, 4, 8, 16, 32, 64):
            parts = 6000 * LARGE / rate / n, LARGE * updated / n, LARGE * (scattered + gathered) * 2 * (n - 1) / n
            print(f"{n:>3} ranks {sum(parts):6.2f} = {parts[0]:.2f} + {parts[1]:.2f} + {parts[2]:.2f}")


if __name__ == "__main__":
    main()
