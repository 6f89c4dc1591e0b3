"""Kill `noria serve` outright, again and again, under load: every prediction that a caller was given must be on record.

    python -m bench.serving_kill [--rounds 50] [--callers 8] [--seed 1]

Each request asks about another row, so that a record under a wrong id would be seen too. Rounds alternate between one
process and two; in every fifth the compactor runs, and is killed with them.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.serving import INFER, NAMES, free_port, like_real, make_store, noria

from noria.store import Store, open_store
from noria.store.segments.compact import compact
from noria.store.segments.log import FolderPredictions

PAGE = 20_000


class Caller(threading.Thread):
    """Asks without a pause, and keeps what it was told; when the server is gone it tries again."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._next = 1_000_000_000 * (number + 1)
        self._rest = like_real(1, seed=number)[0, 1:].tolist()
        self.over = threading.Event()
        self.told: dict[str, float] = {}
        self.sent = self.again = 0
        self.bad: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                    connection.settimeout(10)
                    while not self.over.is_set():
                        self._ask(connection)
            except OSError:
                self.again += 1
                time.sleep(0.01)

    def _ask(self, connection: socket.socket) -> None:
        self._next += 1
        tensor = {"name": "x", "shape": [1, len(NAMES)], "datatype": "FP64", "data": [float(self._next), *self._rest]}
        body = json.dumps({"inputs": [tensor]}).encode()
        head = f"POST {INFER} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.sent += 1
        connection.sendall(head.encode() + body)
        data = b""
        while True:
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("closed")
            data += more
            head_found, found, reply = data.partition(b"\r\n\r\n")
            if found and len(reply) >= int(head_found.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
                break
        if head_found.split(b" ", 2)[1] != b"200":
            self.bad.append(reply[:200].decode(errors="replace"))
            return
        self.told[json.loads(reply)["parameters"]["prediction_ids"]] = float(self._next)


def on_record(store: Store) -> tuple[dict[str, float], int]:
    """The first field of every prediction by its id, and how many ids are there twice."""
    found: dict[str, float] = {}
    after = total = 0
    while True:
        page = store.predictions.predictions("m", after=after, limit=PAGE)
        if not page:
            return found, total - len(found)
        total += len(page)
        for after, one in page:  # noqa: B007 - the last sequence is where the next page begins
            found[one.id] = one.record[NAMES[0]]


def check(store: Store, told: dict[str, float], chance: random.Random) -> dict[str, Any]:
    held, doubled = on_record(store)
    lost = sum(one not in held for one in told)
    wrong = sum(held.get(one, value) != value for one, value in told.items())
    chosen = chance.sample(sorted(told), min(300, len(told)))
    sought = sum(store.predictions.find(one)[0].record[NAMES[0]] != told[one] for one in chosen)
    return {"on_record": len(held), "lost": lost, "doubled": doubled, "wrong": wrong, "wrong_by_id": sought}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    ready: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        place, port = Path(name), free_port()
        path = make_store(place)
        callers = [Caller(port, number) for number in range(given.callers)]
        for caller in callers:
            caller.start()
        for number in range(given.rounds):
            with noria(place, "--record", "os", "--workers", str(1 + number % 2), port=port) as server:
                ready.append(server.start_s)
                time.sleep(chance.uniform(0.05, 1.0))
                compactor = None
                if number % 5 == 4:
                    compactor = subprocess.Popen([sys.executable, "-m", "noria.cli.compactor", str(path)])
                    time.sleep(chance.uniform(0.2, 1.5))
                server.kill()
                if compactor is not None:
                    compactor.kill()
                    compactor.wait()
        for caller in callers:
            caller.over.set()
        for caller in callers:
            caller.join(30)
        told = {one: value for caller in callers for one, value in caller.told.items()}
        store = open_store(path, create=False)
        try:
            found = check(store, told, chance)
            assert isinstance(store.predictions, FolderPredictions)
            moved = compact(store.predictions)
            after = check(store, told, chance)
        finally:
            store.close()
    bad = [said for caller in callers for said in caller.bad]
    print(json.dumps({
        "rounds": given.rounds, "sent": sum(caller.sent for caller in callers), "acknowledged": len(told), **found,
        "after_compaction": {**after, "segments_freed": moved.segments}, "bad_answers": len(bad), "said": bad[:3],
        "ready_s_median": round(statistics.median(ready), 2), "ready_s_max": round(max(ready), 2),
    }))  # fmt: skip
    return (
        1
        if bad or any(one[key] for one in (found, after) for key in ("lost", "doubled", "wrong", "wrong_by_id"))
        else 0
    )


if __name__ == "__main__":
    sys.exit(main())
