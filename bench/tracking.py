"""Tracking beside MLflow's server: the same requests to both, one after the other, median of several runs.

    python bench/tracking.py                                   Noria alone
    python bench/tracking.py --mlflow /env/bin/python          beside the MLflow installed there
    python bench/tracking.py --only log_metric_8,search        some figures

Requests are those of MLflow's own client, over kept-alive connections. Noria answers after the commit is on disk.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SECONDS = 5.0
RUNS, POINTS, MIB = 10_000, 100_000, 256


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Connection:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self.http.connect()
        assert self.http.sock is not None
        self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        self.http.request(method, f"/api/2.0/mlflow/{path}", data, {"Content-Type": "application/json"} if data else {})
        answer = self.http.getresponse()
        found = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {found[:300]!r}")
        return json.loads(found)


@dataclass
class Server:
    """A running server under test."""

    port: int
    pid: int
    start_s: float
    sizes: dict[str, float] = field(default_factory=dict)

    def open(self) -> Connection:
        return Connection(self.port)

    def memory(self) -> float:
        """Resident MiB of the whole process tree."""
        root = psutil.Process(self.pid)
        return float(sum(p.memory_info().rss for p in [root, *root.children(recursive=True)]) / 2**20)

    def experiment(self) -> str:
        name = f"bench-{os.urandom(6).hex()}"
        return str(self.open().call("POST", "experiments/create", {"name": name})["experiment_id"])

    def run(self, connection: Connection, experiment: str) -> str:
        body = {"experiment_id": experiment, "start_time": now()}
        return str(connection.call("POST", "runs/create", body)["run"]["info"]["run_id"])


def now() -> int:
    return int(time.time() * 1000)


@contextmanager
def serving(command: str) -> Iterator[Server]:
    """The server of a command, up; ``{port}`` and ``{folder}`` are filled in."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        filled = shlex.split(command.format(port=port, folder=folder))
        began = time.perf_counter()
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(filled, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            while True:
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                    connection.request("GET", "/health")
                    if connection.getresponse().status == 200:
                        break
                except OSError:
                    pass
                if process.poll() is not None or time.perf_counter() - began > 180:
                    sys.exit((Path(folder) / "log").read_text()[-3000:])
                time.sleep(0.01)
            yield Server(port, process.pid, time.perf_counter() - began)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def rate(
    server: Server, clients: int, make: Callable[[Connection], Callable[[], object]]
) -> tuple[float, float, float]:
    """Calls a second of several clients at once, and the median and 99th percentile of a call in ms."""
    times: list[float] = []
    calls = [make(server.open()) for _ in range(clients)]
    go, lock = threading.Event(), threading.Lock()

    def work(call: Callable[[], object]) -> None:
        mine = []
        go.wait()
        end = time.perf_counter() + SECONDS
        while (began := time.perf_counter()) < end:
            call()
            mine.append(time.perf_counter() - began)
        with lock:
            times.extend(mine)

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    go.set()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    times.sort()
    return len(times) / took, 1000 * statistics.median(times), 1000 * times[int(0.99 * (len(times) - 1))]


def log_metric(server: Server, clients: int) -> dict[str, float]:
    experiment = server.experiment()

    def make(connection: Connection) -> Callable[[], object]:
        run, steps = server.run(connection, experiment), iter(range(10**9))
        return lambda: connection.call(
            "POST",
            "runs/log-metric",
            {"run_id": run, "key": "loss", "value": random.random(), "timestamp": now(), "step": next(steps)},
        )

    calls, median, high = rate(server, clients, make)
    return {f"single metric, {clients} client{'s' * (clients > 1)}: calls/s": calls, f"  p50 ms ({clients})": median,
            f"  p99 ms ({clients})": high}  # fmt: skip


def batch(run: str, first: int, keys: int) -> dict[str, Any]:
    at = now()
    return {"run_id": run, "metrics": [
        {"key": f"m{(first + i) % keys}", "value": random.random(), "timestamp": at, "step": (first + i) // keys}
        for i in range(1000)]}  # fmt: skip


def log_batch(server: Server) -> dict[str, float]:
    connection = server.open()
    run, sent = server.run(connection, server.experiment()), 0
    spent, end = 0.0, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        body = batch(run, sent, 10)
        began = time.perf_counter()
        connection.call("POST", "runs/log-batch", body)
        spent += time.perf_counter() - began
        sent += 1000
    return {"batches of 1,000: metrics/s": sent / spent}


def small_runs(server: Server) -> dict[str, float]:
    experiment = server.experiment()

    def make(connection: Connection) -> Callable[[], object]:
        def one() -> None:
            run = server.run(connection, experiment)
            params = [{"key": f"p{k}", "value": str(k)} for k in range(5)]
            metrics = [{"key": f"k{k}", "value": random.random(), "timestamp": now(), "step": 0} for k in range(5)]
            connection.call("POST", "runs/log-batch", {"run_id": run, "params": params})
            connection.call("POST", "runs/log-batch", {"run_id": run, "metrics": metrics})
            connection.call("POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": now()})

        return one

    return {"small runs, 8 clients: runs/s": rate(server, 8, make)[0]}


def fill(server: Server, experiment: str, count: int) -> None:
    left, lock = [count], threading.Lock()

    def work() -> None:
        connection, chance = server.open(), random.Random()
        while True:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
                i = left[0]
            run = server.run(connection, experiment)
            params = {"p0": "x" if i % 2 else "y", **{f"p{k}": str(i % (k + 7)) for k in range(1, 5)}}
            metrics = {"acc": chance.random(), **{f"k{k}": chance.random() for k in range(1, 5)}}
            connection.call("POST", "runs/log-batch", {
                "run_id": run,
                "params": [{"key": key, "value": value} for key, value in params.items()],
                "metrics": [{"key": key, "value": value, "timestamp": now(), "step": 0}
                            for key, value in metrics.items()]})  # fmt: skip

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def search_ms(server: Server, experiment: str, repeat: int = 15) -> float:
    body = {
        "experiment_ids": [experiment],
        "filter": "metrics.acc > 0.5 and params.p0 = 'x'",
        "order_by": ["metrics.acc DESC"],
        "max_results": 100,
    }
    connection, times = server.open(), []
    for _ in range(repeat):
        began = time.perf_counter()
        found = connection.call("POST", "runs/search", body)
        times.append(time.perf_counter() - began)
    accuracy = [next(m["value"] for m in run["data"]["metrics"] if m["key"] == "acc") for run in found["runs"]]
    assert len(accuracy) == 100
    assert accuracy == sorted(accuracy, reverse=True)
    return 1000 * statistics.median(times)


def search(server: Server) -> dict[str, float]:
    experiment = server.experiment()
    fill(server, experiment, RUNS)
    return {f"search {RUNS:,} runs: ms": search_ms(server, experiment)}


def history(server: Server) -> dict[str, float]:
    connection = server.open()
    run = server.run(connection, server.experiment())
    for first in range(0, POINTS, 1000):
        connection.call("POST", "runs/log-batch", batch(run, first, 1))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        found = connection.call("GET", f"metrics/get-history?run_id={run}&metric_key=m0")
        times.append(time.perf_counter() - began)
    assert len(found["metrics"]) == POINTS
    return {f"history of {POINTS:,} points: s": statistics.median(times)}


def artifact(server: Server) -> dict[str, float]:
    base, peak, over = server.memory(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            peak[0] = max(peak[0], server.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    path = f"/api/2.0/mlflow-artifacts/artifacts/bench-{os.urandom(4).hex()}/blob.bin"
    with tempfile.NamedTemporaryFile() as file:
        block = os.urandom(2**20)
        for _ in range(MIB):
            file.write(block)
        file.flush()
        file.seek(0)
        http_ = server.open().http
        began = time.perf_counter()
        http_.request("PUT", path, file, {"Content-Length": str(MIB * 2**20)})
        answer = http_.getresponse()
        answer.read()
        up = time.perf_counter() - began
        assert answer.status == 200, answer.status
        began, size = time.perf_counter(), 0
        http_.request("GET", path)
        answer = http_.getresponse()
        while part := answer.read(2**20):
            size += len(part)
        down = time.perf_counter() - began
    over.set()
    watcher.join()
    assert size == MIB * 2**20
    return {f"upload of {MIB} MB: MB/s": MIB * 1.048576 / up, f"download of {MIB} MB: MB/s": MIB * 1.048576 / down,
            "  memory growth MiB": max(0.0, peak[0] - base)}  # fmt: skip


def standing(server: Server) -> dict[str, float]:
    time.sleep(3)
    return {"start to /health: s": server.start_s, "idle memory: MiB": server.memory()}


FIGURES: dict[str, Callable[[Server], dict[str, float]]] = {
    "standing": standing,
    "log_metric_1": lambda server: log_metric(server, 1),
    "log_metric_8": lambda server: log_metric(server, 8),
    "log_batch": log_batch,
    "small_runs": small_runs,
    "search": search,
    "history": history,
    "artifact": artifact,
}


def measure(command: str, names: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    with serving(command) as server:
        for name in names:
            found.update(FIGURES[name](server))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mlflow", help="a Python with MLflow installed, to measure beside")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(FIGURES))
    given = parser.parse_args()
    names = given.only.split(",")
    commands = {"noria": f"{Path(sys.executable).with_name('noria')} server --store {{folder}}/store --port {{port}}"}
    if given.mlflow:
        commands["mlflow"] = (
            f"{given.mlflow} -m mlflow server --host 127.0.0.1 --port {{port}} "
            "--backend-store-uri sqlite:///{folder}/m.db --artifacts-destination {folder}/artifacts"
        )
    rows: dict[str, dict[str, list[float]]] = {}
    for repeat in range(given.repeats):
        for name, command in commands.items():
            print(f"{name}, {repeat + 1} of {given.repeats} ...", file=sys.stderr)
            for figure, value in measure(command, names).items():
                rows.setdefault(figure, {}).setdefault(name, []).append(value)
    print(f"{'':44}" + "".join(f"{name:>14}" for name in commands) + ("         ratio" if given.mlflow else ""))
    for figure, values in rows.items():
        medians = [statistics.median(values[name]) for name in commands]
        line = f"{figure:44}" + "".join(f"{value:14,.2f}" for value in medians)
        if given.mlflow:
            better = medians[0] / medians[1] if "/s" in figure else medians[1] / max(medians[0], 1e-9)
            line += f"{better:13,.1f}x"
        print(line)


if __name__ == "__main__":
    main()
