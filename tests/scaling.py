"""How a step scales with processes: times, the all-reduce's share, and what they say of a network of 100 million.

for n in 1 2 4; do OMP_NUM_THREADS=1 mpiexec -n $n --map-by :oversubscribe python -m tests.scaling; done
"""

import argparse
import time

import numpy as np

from backend import open_backend
from backend.ranks import open_ranks
from ref.adam import adam
from tests.benchmark import step_of

LARGE = 100_000_000  # parameters of the network on paper


def least(f, repeats: int) -> float:
    """The least time of a call, in seconds: what other processes on the machine take away only adds to it."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        f()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch-size", nargs="+", type=int, default=[128, 1000])
    p.add_argument("--repeats", type=int, default=200)
    args = p.parse_args()
    ranks, sums = open_ranks(), []

    def timed(array, weight) -> None:
        started = time.perf_counter()
        ranks.sum(array, weight)
        sums.append(time.perf_counter() - started)

    backend = open_backend("numpy")._replace(ranks=ranks._replace(sum=timed))
    for batch_size in args.batch_size:
        step, steps = step_of(backend, "geco", batch_size, 1), []
        for _ in range(args.repeats):
            started = time.perf_counter()
            step()
            steps.append(time.perf_counter() - started)
        own, shared = 1e3 * min(np.subtract(steps, sums)), 1e3 * min(sums)
        sums.clear()
        if ranks.rank == 0:
            print(
                f"{ranks.size} ranks, batch {batch_size}: step {own + shared:.2f} ms, of it all-reduce {shared:.2f} "
                f"({100 * shared / (own + shared):.0f} %); with the waits, median {1e3 * np.median(steps):.2f}",
                flush=True,
            )
    vector, square = np.ones(LARGE // 10, np.float32), np.ones((1024, 1024), np.float32)
    theta, m, v, grad = (np.ones(LARGE // 10, np.float32) for _ in range(4))
    update = backend.fuse(lambda *arrays: adam(np, *arrays, *np.float32([1e-3, 0.1, 0.001]), 0.0, 0.9, 0.999, 1e-8))
    reduce_ns = 1e9 * least(lambda: ranks.sum(vector, 1.0), 10) / vector.size
    update_ns = 1e9 * least(lambda: update(theta, m, v, grad), 5) / vector.size
    rate = 2 * 1024**3 / least(lambda: np.matmul(square, square), 30)
    if ranks.rank == 0:
        print(f"a parameter: all-reduce {reduce_ns:.2f} ns, Adam {update_ns:.2f} ns; {rate / 1e9:.0f} GFLOP/s a rank")


if __name__ == "__main__":
    main()
