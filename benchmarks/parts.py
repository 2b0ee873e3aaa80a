"""Rows per second and memory of `VAEImputer.transform` on Dask: one process, one worker and two, alternating.

The machine may have other work, so the ratio is taken within each round, by the clock and by the seconds that
the busier worker's processor was at work.

    python benchmarks/parts.py --rows 40000 --rounds 3
"""

import argparse
import logging
import time

import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
from dask.distributed import Client, LocalCluster

import cvae_tutorial as ct

LOADINGS = np.array([[1, 0], [0.8, 0.5], [0.3, -1], [-0.6, 0.7], [0.9, 0.9]])


def part(number, size):
    rng = np.random.default_rng([7, number])
    x = rng.normal(size=(size, 2)) @ LOADINGS.T + 0.3 * rng.normal(size=(size, 5))
    frame = pd.DataFrame(x, columns=list("abcde")).mask(rng.random(x.shape) < 0.2)
    return frame.set_axis(range(number * size, (number + 1) * size), axis=0)


def table(num_rows, size):
    count = num_rows // size
    ends = [size * i for i in range(count)] + [num_rows - 1]
    return dd.from_map(part, range(count), size=size, meta=part(0, 1).iloc[:0], divisions=ends)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--part", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", default="laplace")
    given = parser.parse_args()
    imputer = ct.VAEImputer(latent_dim=2, max_iter=300, num_draws=20, method=given.method, random_state=0)
    imputer = imputer.set_output(transform="pandas").fit(part(999, 2_000))
    quiet = {"silence_logs": logging.CRITICAL, "env": {"PYTHONWARNINGS": "ignore"}}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, **quiet) as cluster:
        client = Client(cluster)
        names = list(client.scheduler_info()["workers"])

        def spent():
            busy = client.run(lambda: sum(psutil.Process().cpu_times()[:2]))
            return np.array([busy[name] for name in names])

        def run(num_rows, workers):
            means = imputer.transform(table(num_rows, given.part)).mean()
            before, start = spent(), time.perf_counter()
            made = client.compute(means, workers=names[:workers], allow_other_workers=False).result()
            clock, busy = time.perf_counter() - start, spent() - before
            held = client.run(lambda: psutil.Process().memory_info().rss / 2**20)
            print(
                f"{num_rows:7,} rows, {workers} worker(s): {clock:5.1f} s, {num_rows / clock:5.0f} rows/s; "
                f"busy {busy.max():5.1f} s (both {busy.sum():5.1f}), {max(held.values()):5.0f} MB",
                flush=True,
            )
            return clock, busy.max(), made

        run(2 * given.part, 2)
        for num_rows in (given.rows // 4, given.rows // 2):
            run(num_rows, 1)
        for _ in range(given.rounds):
            (one, busy_one, a), (two, busy_two, b) = run(given.rows, 1), run(given.rows, 2)
            assert np.allclose(a, b, rtol=1e-12)
            print(f"        two / one: {one / two:.2f} by the clock, {busy_one / busy_two:.2f} by busy seconds")
        client.close()


if __name__ == "__main__":
    main()
