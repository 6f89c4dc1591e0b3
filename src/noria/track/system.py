"""What the machine does while a run goes on: processor, memory, disk, network, and NVIDIA cards where there are any."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress

from noria.errors import NoriaError

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
        with suppress(OSError, RuntimeError, psutil.Error):  # the first reading of a share is of no use
            self._processor()
        self._card = shutil.which("nvidia-smi")

    def read(self) -> dict[str, float]:
        """Readings by name: shares in percent, sizes in MiB, network and disk in MiB since the machine's start."""
        found: dict[str, float] = {}
        for part in (self._processor, self._memory, self._disk, self._traffic, self._network, self._cards):
            # A container or a sandbox may hide any of them: the others are still read.
            with suppress(OSError, RuntimeError, self._psutil.Error):
                found |= part()
        return found

    def _processor(self) -> dict[str, float]:
        return {
            "cpu_percent": self._psutil.cpu_percent(None),
            "process_cpu_percent": self._process.cpu_percent(None),
        }

    def _memory(self) -> dict[str, float]:
        memory = self._psutil.virtual_memory()
        return {
            "memory_percent": memory.percent,
            "memory_used_mib": memory.used / _MIB,
            "process_memory_mib": self._process.memory_info().rss / _MIB,
        }

    def _disk(self) -> dict[str, float]:
        return {"disk_percent": self._psutil.disk_usage("/").percent}

    def _traffic(self) -> dict[str, float]:
        disk = self._psutil.disk_io_counters()
        if disk is None:
            return {}
        return {"disk_read_mib": disk.read_bytes / _MIB, "disk_written_mib": disk.write_bytes / _MIB}

    def _network(self) -> dict[str, float]:
        network = self._psutil.net_io_counters()
        found = {"network_received_mib": network.bytes_recv, "network_sent_mib": network.bytes_sent} if network else {}
        return {name: size / _MIB for name, size in found.items()}

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
            self._read()

    def _read(self) -> None:
        # A full disk is told by what the training itself logs.
        with suppress(NoriaError):
            self._take({f"system/{name}": value for name, value in self._counters.read().items()})

    def stop(self) -> None:
        """Take a last reading and end."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._read()
