"""What one request costs as the store grows: 10^2 to 10^6 runs, 10^4 to 10^8 points of metrics.

    python bench/tracking_curves.py [--runs 6] [--points 8]

Stores are filled directly (the points by SQL, which takes a few minutes and about 4 GB for 10^8); then each request is
made through the store's own port, as the server makes it. The last column says how often the cost doubles while the
store grows tenfold: 0 is constant, about 3.3 would be linear.
"""

from __future__ import annotations

import argparse
import math
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from noria.records.tracking import ACTIVE, Clause, Order, Point, RunInfo
from noria.store.sqlite import open_tracking
from noria.store.tracking import Tracking

REPEAT = 15


def info(number: int) -> RunInfo:
    return RunInfo(f"{number:032x}", 0, f"run {number}", "bench", "FINISHED", ACTIVE, number, number + 5, "place")


def fill_runs(store: Tracking, first: int, last: int) -> None:
    chance = random.Random(first)
    for start in range(first, last, 5_000):

        def change(t: Any, start: int = start) -> None:
            for number in range(start, min(start + 5_000, last)):
                run = info(number)
                t.add_run(run, {"mlflow.runName": run.name})
                points = [Point(key, chance.random(), 1, 0) for key in ("acc", "k1", "k2", "k3", "k4")]
                params = {"p0": "x" if number % 2 else "y", **{f"p{k}": str(number % (k + 7)) for k in range(1, 5)}}
                t.log(run.id, points=points, params=params)

        store.write(change)


def cost(call: Callable[[], object]) -> float:
    """Median ms of a call."""
    times = []
    for _ in range(REPEAT):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def runs_costs(store: Tracking, count: int) -> dict[str, float]:
    clauses = [Clause("metric", "acc", ">", 0.5), Clause("param", "p0", "=", "x")]
    order = [Order("metric", "acc", True)]
    chance = random.Random(count)
    steps = iter(range(10**9))
    made = iter(range(10**7 + count, 2 * 10**7))  # beyond what was filled, and not the same at each size

    def search(**more: Any) -> Callable[[], object]:
        def call() -> object:
            with store.read() as reader:
                return reader.search([0], stages=[ACTIVE], limit=100, **more)

        return call

    def deep() -> object:
        place = [0, 0.75, count // 2, "0"]
        with store.read() as reader:
            return reader.search([0], clauses, order, stages=[ACTIVE], limit=100, after=place)

    def one() -> object:
        with store.read() as reader:
            return reader.run(info(chance.randrange(count)).id)

    def log() -> object:
        run = info(chance.randrange(count)).id
        return store.write(lambda t: t.log(run, points=[Point("acc", chance.random(), 2, next(steps) + 1)]))

    def create() -> object:
        return store.write(lambda t: t.add_run(info(next(made)), {"a": "b"}))

    return {
        "search, filtered and ordered": cost(search(clauses=clauses, order=order)),
        "search, a page from the middle": cost(deep),
        "search, rare param value": cost(search(clauses=[Clause("tag", "mlflow.runName", "=", f"run {count // 2}")])),
        "newest 100 runs": cost(search()),
        "one run": cost(one),
        "log a metric": cost(log),
        "create a run": cost(create),
    }


def fill_points(path: Path, first: int, last: int) -> None:
    """Points of 100 runs and one key, in turn, by SQL."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        per_run = (last - first) // 100
        begin = first // 100
        for run in range(1, 101):
            connection.execute(
                "WITH RECURSIVE s(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM s WHERE i + 1 < ?) "
                "INSERT INTO metrics (run, key, time, step, value, nan) "
                "SELECT ?, 'loss', 1000 + i, i, i * 0.5, 0 FROM s",
                [begin, begin + per_run, run],
            )
        connection.commit()


def points_costs(store: Tracking, count: int) -> dict[str, float]:
    chance, steps = random.Random(count), iter(range(10**9))

    def log() -> object:
        run = info(chance.randrange(100)).id
        step = 10**10 + next(steps)
        return store.write(lambda t: t.log(run, points=[Point("loss", 1.0, step, step)]))

    def batch() -> object:
        run = info(chance.randrange(100)).id
        base = 10**10 + next(steps) * 1000
        return store.write(lambda t: t.log(run, points=[Point("loss", 1.0, base + i, base + i) for i in range(1000)]))

    def page() -> object:
        run, middle = info(chance.randrange(100)).id, count // 200
        with store.read() as reader:
            return reader.history(run, "loss", limit=100, after=Point("loss", 0.0, 1000 + middle, middle))

    return {"log a metric": cost(log), "log 1,000 metrics": cost(batch), "a page of history": cost(page)}


def show(title: str, columns: list[int], rows: dict[str, list[float]]) -> None:
    print(f"\n{title:34}" + "".join(f"{f'10^{round(math.log10(c))}':>10}" for c in columns) + "   doublings per x10")
    for name, values in rows.items():
        growth = math.log2(values[-1] / values[0]) / max(1, len(values) - 1)
        print(f"{name:34}" + "".join(f"{value:10.2f}" for value in values) + f"{growth:20.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=6, help="power of ten")
    parser.add_argument("--points", type=int, default=8, help="power of ten")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows: dict[str, list[float]] = {}
        columns = [10**power for power in range(2, given.runs + 1)]
        with closing(open_tracking(Path(folder) / "runs.db")) as store:
            held = 0
            for count in columns:
                fill_runs(store, held, count)
                held = count
                for name, value in runs_costs(store, count).items():
                    rows.setdefault(name, []).append(value)
        show("ms per request, by runs", columns, rows)
        rows = {}
        columns = [10**power for power in range(4, given.points + 1)]
        path, held = Path(folder) / "points.db", 0
        for count in columns:
            with closing(open_tracking(path)) as store:
                if not held:
                    fill_runs(store, 0, 100)
            fill_points(path, held, count)
            held = count
            with closing(open_tracking(path)) as store:
                for name, value in points_costs(store, count).items():
                    rows.setdefault(name, []).append(value)
        show("ms per request, by points", columns, rows)


if __name__ == "__main__":
    main()
