"""How a step scales with processes, and what its parts say of a network of 100 million parameters.

for n in 1 2 4; do OMP_NUM_THREADS=1 mpiexec -n $n --map-by :oversubscribe python -m tests.scaling; done

A rank's own work is measured in processor time and the all-reduce by its least time, so that other programs on the
machine disturb neither much; "as run" is what the clock said.
"""

import argparse
import time

import numpy as np

from backend import open_backend
from backend.ranks import open_ranks
from ref.adam import adam
from tests.benchmark import step_of
from tests.peers import Case

NETWORK = Case("geco", (512, 256), 200, "silu", "gaussian", 128, 1)
LARGE = 100_000_000  # parameters of the network on paper


def times(f, repeats: int) -> tuple[float, float]:
    """The least time by the clock and the median processor time of a call, in seconds."""
    clock, processor = [], []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        f()
        clock.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    return min(clock), float(np.median(processor))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch-size", nargs="+", type=int, default=[128, 1000])
    p.add_argument("--repeats", type=int, default=30)
    args = p.parse_args()
    ranks = open_ranks()
    first = ranks.rank == 0
    for batch_size in args.batch_size:
        sums, spent = [], [0.0]

        def timed(array, weight, sums=sums, spent=spent) -> None:
            started = time.process_time()
            ranks.all_reduce(array, weight)
            sums[:] = [array]
            spent[0] += time.process_time() - started

        backend = open_backend("numpy")._replace(ranks=ranks._replace(all_reduce=timed))
        step = step_of(backend, NETWORK._replace(batch_size=batch_size))
        started = time.perf_counter(), time.process_time()
        for _ in range(args.repeats):
            step()
        as_run = 1e3 * (time.perf_counter() - started[0]) / args.repeats
        own = 1e3 * (time.process_time() - started[1] - spent[0]) / args.repeats
        shared = 1e3 * times(lambda array=sums[0]: ranks.all_reduce(array, 1.0), 200)[0]
        if first:
            print(
                f"{ranks.size} ranks, batch {batch_size}: {own + shared:.2f} ms a step, of it all-reduce {shared:.2f} "
                f"({100 * shared / (own + shared):.0f} %); as run {as_run:.2f}",
                flush=True,
            )
    vector, square = np.ones(LARGE // 10, np.float32), np.ones((1024, 1024), np.float32)
    theta, m, v, grad = (np.ones(LARGE // 10, np.float32) for _ in range(4))
    update = open_backend("numpy").fuse(lambda *arrays: adam(np, *arrays, *np.float32([1e-3, 1e-8]), 0.9, 0.999))
    reduced = times(lambda: ranks.all_reduce(vector, 1.0), 50)[0] / vector.size
    updated = times(lambda: update(theta, m, v, grad), 5)[1] / vector.size
    rate = 2 * 1024**3 / times(lambda: np.matmul(square, square), 20)[1]
    if first:
        print(f"a parameter: all-reduce {1e9 * reduced:.2f} ns, Adam {1e9 * updated:.2f} ns; {rate / 1e9:.0f} GFLOP/s")
    if first and ranks.size == 2:
        print(
            f"on paper, {LARGE:,} parameters, batch 1000: seconds a step (6·P·B/rate/n + Adam + 2(n−1)/n all-reduces)"
        )
        for n in (1, 2, 4, 8, 16, 32, 64):
            parts = 6 * LARGE * 1000 / rate / n, LARGE * updated, LARGE * reduced * 2 * (n - 1) / n
            print(f"{n:>3} ranks {sum(parts):6.2f} = {parts[0]:.2f} + {parts[1]:.2f} + {parts[2]:.2f}")


if __name__ == "__main__":
    main()
