"""`noria up`: what dies is started again, and the end is orderly."""

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

NORIA = str(Path(sys.executable).with_name("noria"))


def answers(port: int) -> int:
    """Status of one prediction; 0 when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/predict/shop", b'[{"id": 1, "visits": 3, "minutes": 4.5}]')
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while answers(port) != 200:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)


def child(name: str, parent: int) -> int:
    """The process of ``noria up`` that runs a module."""
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
                above = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if above == parent and name.encode() in words:
                return int(place.name)
    raise AssertionError(f"no {name} under {parent}")


def test_a_killed_server_and_a_killed_controller_come_back_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    draw, count = np.random.default_rng(0), 300
    visits, minutes = draw.poisson(5, count), draw.gamma(2, 10, count)
    bought = (draw.random(count) < 1 / (1 + np.exp(5 - visits))).astype(int)
    table = pl.DataFrame({"id": range(count), "visits": visits, "minutes": minutes, "bought": bought})
    table.write_csv(tmp_path / "shop.csv")
    subprocess.run(
        [NORIA, "new", "shop", "--data", "shop.csv", "--label", "bought"],
        cwd=tmp_path, check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    process = subprocess.Popen(
        [NORIA, "up", "shop/loop.py", "--port", "0"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    port = int(process.stderr.readline().split("http://127.0.0.1:")[1].split()[0])
    wait_for(port, process)
    os.kill(child("noria.cli.server_process", process.pid), signal.SIGKILL)
    wait_for(port, process)
    os.kill(child("noria.cli.controller_process", process.pid), signal.SIGKILL)
    time.sleep(1)
    assert child("noria.cli.controller_process", process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "The server ended (status -9); starting it again." in said
    assert answers(port) == 0
