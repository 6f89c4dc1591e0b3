"""What the machine does while a run goes on: processor, memory, disk, network, and NVIDIA cards where there are any."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable

__all__ = ["Sampler", "sample"]

_EVERY_SECONDS = 10.0
_CARD = "utilization.gpu,memory.used,temperature.gpu,power.draw"
_MIB = 2**20


class _Counters:
    """The last readings of what only ever grows."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        self._process.cpu_percent(None)
        psutil.cpu_percent(None)
        self._card = shutil.which("nvidia-smi")

    def read(self) -> dict[str, float]:
        """Readings by name: shares in percent, sizes in MiB, network and disk in MiB since the machine's start."""
        of = self._psutil
        memory = of.virtual_memory()
        found = {
            "cpu_percent": of.cpu_percent(None),
            "process_cpu_percent": self._process.cpu_percent(None),
            "memory_percent": memory.percent,
            "memory_used_mib": memory.used / _MIB,
            "process_memory_mib": self._process.memory_info().rss / _MIB,
            "disk_percent": of.disk_usage("/").percent,
        }
        disk, network = of.disk_io_counters(), of.net_io_counters()
        if disk is not None:
            found |= {"disk_read_mib": disk.read_bytes / _MIB, "disk_written_mib": disk.write_bytes / _MIB}
        if network is not None:
            found |= {
                "network_received_mib": network.bytes_recv / _MIB,
                "network_sent_mib": network.bytes_sent / _MIB,
            }
        return found | self._cards()

    def _cards(self) -> dict[str, float]:
        if self._card is None:
            return {}
        command = [self._card, f"--query-gpu={_CARD}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        except (OSError, subprocess.SubprocessError):
            self._card = None  # a driver that fails once is not asked again
            return {}
        found = {}
        for number, line in enumerate(done.stdout.splitlines()):
            for name, value in zip(("percent", "memory_mib", "celsius", "watts"), line.split(","), strict=False):
                try:
                    found[f"gpu_{number}_{name}"] = float(value)
                except ValueError:
                    continue  # a card that has no such reading says so in words
        return found


def sample() -> dict[str, float]:
    """One reading of the machine."""
    return _Counters().read()


class Sampler:
    """Reads the machine every ten seconds, in a thread of its own, from now until it is stopped.

    Args:
        take: called with each reading, by ``system/`` name.
        every_s: seconds between readings.
    """

    def __init__(self, take: Callable[[dict[str, float]], None], every_s: float = _EVERY_SECONDS) -> None:
        self._take, self._every = take, every_s
        self._over = threading.Event()
        self._counters = _Counters()
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._over.wait(self._every):
            self._take({f"system/{name}": value for name, value in self._counters.read().items()})

    def stop(self) -> None:
        """Take a last reading and end."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._take({f"system/{name}": value for name, value in self._counters.read().items()})
