"""A turn on a table of 5,000 rows: the first, and a second with nothing changed (goal: at most 2 s in all)."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

RUNS = 5


def table(rows: int = 5000) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    age, spend = draw.integers(18, 90, rows), draw.gamma(2, 200, rows).round(2)
    churned = draw.random(rows) < 1 / (1 + np.exp(-(age - 50) / 15 + spend / 400))
    plan = draw.choice(["basic", "plus", "pro"], rows)
    return pl.DataFrame({"customer_id": range(rows), "age": age, "spend": spend, "plan": plan, "churned": churned})


def seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - started


def main() -> None:
    noria = str(Path(sys.executable).with_name("noria"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table().write_csv(folder / "customers.csv")
        seconds([noria, "new", "churn", "--data", "customers.csv", "--label", "churned"], folder)
        first = seconds([noria, "turn", "churn/loop.py"], folder)
        again = [seconds([noria, "turn", "churn/loop.py"], folder) for _ in range(RUNS)]
    print(f"first turn                     {first:6.2f} s")
    print(f"second turn, nothing changed   {statistics.median(again):6.2f} s median of {RUNS} (goal: at most 2)")


if __name__ == "__main__":
    main()
