"""Kill the tracking server with -9 while it takes metrics, again and again: what was acknowledged must be there, once.

    python bench/tracking_kill.py [--rounds 200] [--metrics 1000000] [--clients 8]

Each client sends batches to a run of its own, and sends a batch again when it does not know what became of it. At the
end every acknowledged batch must be there, no point twice, and no batch in part.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

BATCH = 500


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, f"/api/2.0/mlflow/{path}", json.dumps(body) if body is not None else None)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {data[:200]!r}")
    return json.loads(data)


class Server:
    """The server, started again after each kill on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.ready: list[float] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "noria"), "server", "--store", str(self.folder), "--port"]
        began = time.perf_counter()
        with (self.folder.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.port)], stdout=log, stderr=log)
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    call(self.port, "GET", "experiments/get?experiment_id=0")
                    break
            except (OSError, http.client.HTTPException):
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    raise RuntimeError("the server does not come up") from None
                time.sleep(0.005)
        self.ready.append(time.perf_counter() - began)

    def stop(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()


class Client(threading.Thread):
    """Sends batches, each until it is acknowledged."""

    def __init__(self, port: int, run: str) -> None:
        super().__init__(daemon=True)
        self.port, self.run_id = port, run
        self.acknowledged = self.again = 0
        self.over = threading.Event()
        self.failed = ""

    def run(self) -> None:
        while not self.over.is_set():
            first = self.acknowledged * BATCH
            metrics = [{"key": f"m{i % 5}", "value": i / 7, "timestamp": 1_700_000_000_000 + i, "step": i}
                       for i in range(first, first + BATCH)]  # fmt: skip
            body = {"run_id": self.run_id, "metrics": metrics}
            while True:
                try:
                    call(self.port, "POST", "runs/log-batch", body)
                    self.acknowledged += 1
                    break
                except (OSError, http.client.HTTPException):
                    self.again += 1
                    time.sleep(0.02)
                except RuntimeError as error:
                    self.failed = str(error)
                    return


def check(port: int, client: Client) -> tuple[int, int, int]:
    """Points lost, doubled, and batches in part."""
    steps: list[int] = []
    for key in range(5):
        found = call(port, "GET", f"metrics/get-history?run_id={client.run_id}&metric_key=m{key}")
        steps += [int(point["step"]) for point in found.get("metrics", [])]
    held = set(steps)
    lost = sum(step not in held for step in range(client.acknowledged * BATCH))
    batches: dict[int, int] = {}
    for step in held:
        batches[step // BATCH] = batches.get(step // BATCH, 0) + 1
    return lost, len(steps) - len(held), sum(count != BATCH for count in batches.values())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--metrics", type=int, default=1_000_000, help="go on until so many were acknowledged")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as place:
        server = Server(Path(place) / "store")
        server.start()
        runs = [call(server.port, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
                for _ in range(given.clients)]  # fmt: skip
        clients = [Client(server.port, run) for run in runs]
        for client in clients:
            client.start()
        rounds = 0
        while rounds < given.rounds or sum(c.acknowledged for c in clients) * BATCH < given.metrics:
            time.sleep(chance.uniform(0.01, 0.4))
            server.stop(signal.SIGKILL)
            server.start()
            rounds += 1
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(60)
        found = [check(server.port, client) for client in clients]
        server.stop(signal.SIGTERM)
    lost, doubled, parts = (sum(row[i] for row in found) for i in range(3))
    failed = [client.failed for client in clients if client.failed]
    print(json.dumps({
        "rounds": rounds, "acknowledged": sum(c.acknowledged for c in clients) * BATCH,
        "sent_again": sum(c.again for c in clients), "lost": lost, "doubled": doubled, "half_batches": parts,
        "ready_s_median": round(statistics.median(server.ready), 3), "ready_s_max": round(max(server.ready), 3),
        "refused": failed,
    }))  # fmt: skip
    return 1 if lost or doubled or parts or failed else 0


if __name__ == "__main__":
    sys.exit(main())
