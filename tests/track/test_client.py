"""The tracking client as a training script uses it: against a store, a real server, and servers that fail."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.records.tracking import ACTIVE, Point, TrackedRun
from noria.store import open_store

SCRIPT = Path(__file__).with_name("training.py")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "NORIA_SPOOL": str(tmp_path / "spool"), "NORIA_FLUSH_SECONDS": "60"}


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(environment: dict[str, str], *arguments: str) -> str:
    process = start(environment, *arguments)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    return out + errors


def runs_of(store: Path, experiment: str = "e") -> list[TrackedRun]:
    opened = open_store(store)
    try:
        with opened.tracking.read() as reader:
            found = reader.experiment(name=experiment)
            return reader.search([found.id], stages=[ACTIVE], limit=100)[0] if found else []
    finally:
        opened.close()


def points_of(store: Path, run: str, key: str) -> list[Point]:
    opened = open_store(store)
    try:
        with opened.tracking.read() as reader:
            return reader.history(run, key)
    finally:
        opened.close()


class Server:
    """``noria server`` on one port, started again at will."""

    def __init__(self, store: Path) -> None:
        self.store = store
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "noria.cli", "server", "--store", str(self.store), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "store")
    found.start()
    yield found
    found.stop()


def wait(until: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@pytest.mark.parametrize("over_http", [False, True])
def test_everything_a_run_says_is_in_the_store(
    tmp_path: Path, environment: dict[str, str], server: Server, over_http: bool
) -> None:
    train(environment, "all", server.address if over_http else str(server.store))
    child, run = runs_of(server.store)
    assert (run.info.status, child.info.status) == ("FINISHED", "FAILED")
    assert run.params == {"depth": "8", "name": "x"}
    assert run.tags["colour"] == "blue"
    assert run.tags["mlflow.source.name"].endswith("training.py")
    assert child.tags["mlflow.parentRunId"] == run.info.id
    assert "ZeroDivisionError" in child.tags["noria.failure"]
    latest = {point.key: point for point in run.metrics}
    assert (latest["loss"].value, latest["loss"].step) == (0.25, 3)
    assert math.isnan(latest["odd"].value)
    assert latest["own"].step == 7
    assert latest["own"].time == 1_700_000_000_500
    assert latest["system/memory_percent"].value > 0
    (read,) = run.inputs
    assert (read.dataset.name, read.tags) == ("rows", {"mlflow.data.context": "training"})
    opened = open_store(server.store)
    with opened.tracking.read() as reader:
        root = run.info.artifacts.removeprefix("mlflow-artifacts:/")
        names = [one.path.removeprefix(f"{root}/") for one in reader.under(root)]
        note = reader.artifact(f"{root}/notes/a.txt")
        assert note is not None
        assert opened.blobs.get(note.digest) == b"hello"
    opened.close()
    assert {"environment.lock", "notes/a.txt", "folder/one.txt", "folder/deep/two.txt"} <= set(names)
    assert not list((tmp_path / "spool").iterdir())


def test_a_run_is_resumed(environment: dict[str, str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    train(environment, "count", str(store), "3")
    (run,) = runs_of(store)
    train(environment, "resume", str(store), run.info.id)
    (run,) = runs_of(store)
    assert run.info.status == "FINISHED"
    assert run.params == {"again": "yes"}


def test_a_server_killed_while_a_process_logs_costs_nothing(environment: dict[str, str], server: Server) -> None:
    count = 20_000
    process = start(environment, "count", server.address, str(count))
    for _ in range(3):
        time.sleep(0.3)
        server.stop(signal.SIGKILL)
        time.sleep(0.2)
        server.start()
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    (run,) = runs_of(server.store)
    found = points_of(server.store, run.info.id, "m")
    assert [point.step for point in found] == list(range(count))
    assert [point.value for point in found] == [step / 2 for step in range(count)]
    assert run.info.status == "FINISHED"


def test_what_a_killed_process_had_said_is_sent_by_the_next(environment: dict[str, str], tmp_path: Path) -> None:
    server = Server(tmp_path / "store")  # not started: it is away
    process = start(environment, "said", server.address, "500")
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "said"
    process.kill()
    process.communicate()
    server.start()
    try:
        train(environment, "flush", server.address)
        (run,) = runs_of(server.store)
        assert [point.step for point in points_of(server.store, run.info.id, "m")] == list(range(500))
        assert run.info.status == "RUNNING"
        assert not list((tmp_path / "spool").iterdir())
    finally:
        server.stop()


def test_a_server_that_never_answers_does_not_hold_up_training(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said = train({**environment, "NORIA_FLUSH_SECONDS": "0"}, "count", address, "2000")
    assert "not everything has reached" in said
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_what_the_store_refuses_is_told_once_and_set_aside(environment: dict[str, str], server: Server) -> None:
    said = train(environment, "refused", server.address)
    assert said.count("refused") == 1
    assert "is '1' already and cannot become '2'" in said
    (run,) = runs_of(server.store)
    assert run.params == {"p": "1"}
    assert run.metrics[0].key == "after"


def test_what_is_wrong_is_said_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    said = json.loads(train(environment, "wrong", str(tmp_path / "store")).splitlines()[0])
    assert "This name would resolve to '../x'" in said.pop(1)
    assert said == [
        "Metric 'm' must be a number, not str.",
        "There is no file nowhere.txt.",
        "Bytes need a name: run.artifact(data, name='report.txt').",
        "Invalid path '../up': it holds '.' or '..'.",
        "'ftp://x' is not a store: give a folder, http://HOST:PORT or postgresql://…",
    ]


def test_threads_and_forked_children_may_log(tmp_path: Path, environment: dict[str, str]) -> None:
    train(environment, "threads", str(tmp_path / "store"))
    runs = {run.info.name: run for run in runs_of(tmp_path / "store")}
    for thread in range(4):
        found = points_of(tmp_path / "store", runs["parent"].info.id, f"t{thread}")
        assert [point.step for point in found] == list(range(200))
    assert [point.value for point in points_of(tmp_path / "store", runs["child"].info.id, "m")] == [1.0]


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "sklearn"])
def test_callbacks_log_real_trainings(tmp_path: Path, environment: dict[str, str], library: str) -> None:
    pytest.importorskip(library)
    train(environment, "callback", str(tmp_path / "store"), library)
    (run,) = runs_of(tmp_path / "store")
    assert len(run.params) > 1
    key = {"lightgbm": "valid_0-l2", "xgboost": "test-rmse", "sklearn": "test-score"}[library]
    found = points_of(tmp_path / "store", run.info.id, key)
    assert [point.step for point in found] == list(range(1 if library == "sklearn" else 5))
