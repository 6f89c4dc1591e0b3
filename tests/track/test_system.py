"""What the machine does: real readings, and readings that fail."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

import pytest

from noria.errors import StoreFull
from noria.track.system import Sampler, sample


def test_a_reading_holds_processor_memory_and_disk() -> None:
    found = sample()
    assert {"cpu_percent", "process_cpu_percent", "memory_percent", "process_memory_mib", "disk_percent"} <= set(found)
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    assert found["process_memory_mib"] > 1
    assert 0 < found["memory_percent"] <= 100


def test_readings_come_until_it_is_stopped_and_once_more_then() -> None:
    came = threading.Event()
    found: list[dict[str, float]] = []

    def take(reading: dict[str, float]) -> None:
        found.append(reading)
        if len(found) == 3:
            came.set()

    sampler = Sampler(take, every_s=0.01)
    assert came.wait(60)
    sampler.stop()
    count = len(found)
    sampler.stop()
    assert len(found) == count
    assert all(key.startswith("system/") for key in found[-1])
    assert not [thread for thread in threading.enumerate() if thread.name == "system metrics"]


def test_a_run_can_end_although_its_readings_cannot_be_kept() -> None:
    def take(reading: dict[str, float]) -> None:
        raise StoreFull("full")

    sampler = Sampler(take, every_s=60)
    sampler.stop()


def test_what_a_container_hides_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def hidden(*arguments: object) -> None:
        raise PermissionError("/proc/diskstats")

    monkeypatch.setattr(psutil, "disk_io_counters", hidden)
    found = sample()
    assert "disk_read_mib" not in found
    assert "memory_percent" in found


@pytest.mark.parametrize(
    ("says", "read"),
    [
        ("echo '37, 1024, 61, 250.50'; echo '0, 3, 40, [N/A]'", {"gpu_0_watts": 250.5, "gpu_1_memory_mib": 3.0}),
        ("exit 9", {}),
    ],
)
def test_cards_are_read_as_their_tool_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, read: dict[str, float]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{says}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = {key: value for key, value in sample().items() if key.startswith("gpu_")}
    assert len(found) == (7 if read else 0)
    assert {key: found[key] for key in read} == read
