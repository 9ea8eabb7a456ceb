"""How a step scales with processes: times, the all-reduce's share, and what they say of a network of 100 million.

for n in 1 2 4; do OMP_NUM_THREADS=1 mpiexec -n $n --map-by :oversubscribe python -m tests.scaling; done
"""

import argparse
import time

import numpy as np

from backend import open_backend
from backend.ranks import open_ranks
from tests.benchmark import step_of

LARGE = 100_000_000  # parameters of the network on paper


def seconds(f, repeats: int) -> float:
    """The least time of a call: what other processes on the machine take away only adds to it."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        f()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch-size", nargs="+", type=int, default=[128, 1000])
    p.add_argument("--repeats", type=int, default=60)
    args = p.parse_args()
    ranks, spent = open_ranks(), []

    def timed(array, weight) -> None:
        started = time.perf_counter()
        ranks.sum(array, weight)
        spent.append(time.perf_counter() - started)

    backend = open_backend("numpy", "float32", ranks._replace(sum=timed))
    backend = backend._replace(ranks=ranks._replace(sum=timed))
    for batch_size in args.batch_size:
        step = step_of(backend, "geco", batch_size, 1)
        step()
        spent.clear()
        whole, reduced = seconds(step, args.repeats), float(np.median(spent))
        if ranks.rank == 0:
            print(
                f"ranks {ranks.size}  batch {batch_size:>4}  step {1e3 * whole:6.2f} ms  "
                f"all-reduce (median, with the wait) {1e3 * reduced:5.2f} ms"
            )
    vector, square = np.ones(LARGE // 10, np.float32), np.ones((1024, 1024), np.float32)
    adam = [np.ones(LARGE // 10, np.float32) for _ in range(4)]
    update = backend.fuse(lambda theta, m, v, grad: theta.__isub__(1e-3 * m / (np.sqrt(v) + grad)))
    reduce_ns = 1e9 * seconds(lambda: ranks.sum(vector, 1.0), 7) / vector.size
    flop_s = 2 * 1024**3 / seconds(lambda: np.matmul(square, square), 20)
    update_ns = 1e9 * seconds(lambda: update(*adam), 5) / vector.size
    if ranks.rank == 0:
        print(f"per parameter: all-reduce {reduce_ns:.2f} ns, update {update_ns:.2f} ns; {flop_s / 1e9:.1f} GFLOP/s")


if __name__ == "__main__":
    main()
