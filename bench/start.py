"""Time of `import noria` and of `noria --help`, beside a bare Python: medians of several processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15


def median_ms(command: list[str]) -> float:
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[1:])


def main() -> None:
    bare = median_ms([sys.executable, "-c", "pass"])
    found = median_ms([sys.executable, "-c", "import noria"])
    declared = median_ms([sys.executable, "-c", "from noria import Loop"])
    shown = median_ms([str(Path(sys.executable).with_name("noria")), "--help"])
    print(f"python -c pass            {bare:7.1f} ms")
    print(f"import noria              {found - bare:7.1f} ms more   (goal: at most 150)")
    print(f"from noria import Loop    {declared - bare:7.1f} ms more")
    print(f"noria --help              {shown:7.1f} ms in all (goal: at most 300)")


if __name__ == "__main__":
    main()
