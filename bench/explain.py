"""A million predictions on record: what they take on disk, what compaction costs, how soon one is explained.

    python -m bench.explain [--predictions 1000000] [--asked 500]

Of 30 numbers each, written one a block as single requests are: rows like a real table's, four significant digits; and
the worst case, where every digit of every number is random.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench.serving import COLUMNS, NAMES, like_real, make_store, table
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from noria.govern.explain import explain
from noria.records import ModelVersion
from noria.store import Store, open_store
from noria.store.segments.writer import Block

PIECE = 50_000


def drawn(kind: str, count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows, and the probabilities the model would give (its own; random ones in the worst case)."""
    if kind == "random":
        draw = np.random.default_rng(seed)
        share = draw.random(count)
        return draw.standard_normal((count, COLUMNS)), np.column_stack([1 - share, share])
    rows = like_real(count, seed)
    found: NDArray[np.float64] = _model().predict_proba(rows)
    return rows, found


def _model() -> Any:
    data, label = table()
    return HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(data[:388], label[:388])


def write(store: Store, kind: str, count: int, chosen: set[int]) -> tuple[list[str], float]:
    """Append them; returns the ids at the chosen places and seconds spent appending."""
    with store.ledger.read() as db:
        version = db.find(ModelVersion, loop="m")
    assert version is not None
    writer = store.predictions.writer("m")
    draw = random.Random(0)
    names, ids, spent, at = tuple(NAMES), list[str](), 0.0, int((time.time() - 3600) * 1e6)
    for start in range(0, count, PIECE):
        size = min(PIECE, count - start)
        rows, shares = drawn(kind, size, seed=start)
        values = shares.argmax(axis=1).tolist()
        delays = [draw.randrange(80, 400) for _ in range(size)]
        began = time.perf_counter()
        for row in range(size):
            at += 1000 + delays[row]
            made = writer.append(
                Block(
                    at_us=at, latency_us=delays[row], version=version.version, digest=version.model_digest,
                    role="champion", rows=1, names=names, matrix=rows[row].tobytes(), columns={}, keys=None,
                    values=[values[row]], classes=(0, 1), probabilities=shares[row].tobytes(), error=None,
                    answered=None, trace=None, ids=None,
                )
            )  # fmt: skip
            if start + row in chosen:
                ids.append(made)
        spent += time.perf_counter() - began
    writer.close()
    return ids, spent


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compacted(path: Path) -> dict[str, float]:
    """Run the compactor as a server does; what it took."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "noria.cli.compactor", str(path)])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"the compactor failed: {status}")
    return {
        "seconds": time.perf_counter() - began, "cpu_s": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024
    }  # fmt: skip


def measure(kind: str, count: int, asked: int) -> dict[str, Any]:
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        path = make_store(Path(name))
        folder = path / "predictions"
        before = size_of(folder)
        store = open_store(path, create=False)
        try:
            ids, spent = write(store, kind, count, set(chance.sample(range(count), asked)))
        finally:
            store.close()
        segments = size_of(folder) - before
        took = compacted(path)
        again = compacted(path)
        tables, index = size_of(folder / "tables"), size_of(folder) - before - size_of(folder / "tables")
        store = open_store(path, create=False)
        try:
            chance.shuffle(ids)
            began = time.perf_counter()
            explain(store, ids[0])
            first = time.perf_counter() - began
            times = []
            for one in ids:
                began = time.perf_counter()
                found = explain(store, one)
                times.append(time.perf_counter() - began)
                assert found.prediction.id == one
                assert found.dataset is not None
                assert found.manifest is not None
        finally:
            store.close()
    times.sort()
    return {
        "predictions": count,
        "append_us": round(1e6 * spent / count, 2),
        "segment_bytes_each": round(segments / count, 1),
        "compaction_s": round(took["seconds"], 1),
        "compaction_cpu_us_each": round(1e6 * took["cpu_s"] / count, 2),
        "compaction_mib": round(took["mib"]),
        "compaction_again_s": round(again["seconds"], 1),
        "bytes_each": round((tables + index) / count, 1),
        "of_it_tables": round(tables / count, 1),
        "explain_first_ms": round(1e3 * first, 1),
        "explain_p50_ms": round(1e3 * times[len(times) // 2], 2),
        "explain_p99_ms": round(1e3 * times[int(0.99 * len(times))], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--asked", type=int, default=500)
    given = parser.parse_args()
    for kind in ("real", "random"):
        print(kind, json.dumps(measure(kind, given.predictions, given.asked)), flush=True)


if __name__ == "__main__":
    main()
