"""The demo's figures against their goals, with time and peak memory of the whole process tree."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def mean(months: list[dict[str, dict[str, float]]], way: str, first: str, last: str) -> float:
    found = [row[way]["mae"] for row in months if first <= str(row["month"]) <= last]
    return sum(found) / len(found)


def main() -> None:
    noria = str(Path(sys.executable).with_name("noria"))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "demo.json"
        started = time.perf_counter()
        subprocess.run([noria, "demo", "--no-wait", "--port", "0", "--json", str(path)], check=True)
        seconds = time.perf_counter() - started
        found = json.loads(path.read_text())
    months = found["months"]
    calm = {way: mean(months, way, "2019-10", "2020-02") for way in ("static", "monthly", "noria")}
    after = {way: mean(months, way, "2020-04", "2020-08") for way in ("static", "monthly", "noria")}
    early = [alarm for alarm in found["alarms"] if alarm < "2020-03"]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"\nfirst model, 2019-10..2020-02     {calm['static']:.2f} min     (goal: at most 3.80)")
    print(f"Noria against left alone, 04..08  {after['noria'] / after['static'] - 1:+.1%}      (goal: -6 % or better)")
    print(f"Noria against monthly, 04..08     {after['noria'] / after['monthly'] - 1:+.1%}      (goal: at most +1 %)")
    kept = found["retrainings"]
    print(f"retrainings                       {kept['noria']} to {kept['monthly']}      (goal: fewer than monthly)")
    print(f"alarms before 2020-03             {len(early)}           (goal: none)")
    print(f"time in all                       {seconds:.0f} s       (goal: at most 480)")
    print(f"peak memory, largest process      {memory:.0f} MB      (goal: at most 2000)")


if __name__ == "__main__":
    main()
