"""Reloads, rollbacks, stops and overload of `noria serve` while callers are at it: nothing may be lost.

    python -m bench.serving_stop [--seconds 60] [--rounds 5] [--overload-seconds 6]

Three things: 20 reloads and 5 changes of version under 200 requests a second; SIGTERM under 12 callers, some of whom
ask without a pause and some with; three times more requests than can be answered, by callers who wait a second.
*Bad* is an answer other than 200. *Lost* is a request that was sent whole, or in part, and got no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import uvloop
from bench.serving import INFER, Server, ask, body_of, by_python, by_wrk, like_real, make_store, noria

from noria.deploy.rollout import serve_only
from noria.loop.clock import SystemClock
from noria.records import ModelVersion
from noria.store import open_store
from noria.store.ports import Transaction

CALLERS, RATE = 12, 200
RELOADS, CHANGES = 20, 5
WAITS = 1.0


def message(port: int, rows: int = 1, path: str = INFER, more: str = "") -> bytes:
    """A whole request."""
    body, headers = body_of("v2", like_real(rows))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n{lines}{more}\r\n".encode()
        + body
    )


class Caller(threading.Thread):
    """Asks again and again on one connection, until told to stop or nobody takes connections any more.

    Attributes:
        answered: good answers, by the version that gave them.
    """

    def __init__(self, port: int, pause: float) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._pause = pause
        self._message = message(port)
        self.over = threading.Event()
        self.answered: Counter[str] = Counter()
        self.bad: list[str] = []
        self.lost: list[str] = []
        self.times: list[float] = []

    def run(self) -> None:
        due = time.monotonic()
        while not self.over.is_set():
            due = self._sleep(due)
            try:
                with socket.create_connection(("127.0.0.1", self._port), 10) as connection:
                    asked = 0
                    while self._ask(connection, asked) and not self.over.is_set():
                        asked += 1
                        due = self._sleep(due)
                        if select.select([connection], [], [], 0)[0]:
                            break  # closed while nothing was asked: a client sees that before it sends
            except OSError:
                return  # nobody takes connections: the server is gone

    def _sleep(self, due: float) -> float:
        due = max(due + self._pause, time.monotonic() - self._pause)
        time.sleep(max(0.0, due - time.monotonic()))
        return due

    def _ask(self, connection: socket.socket, before: int) -> bool:
        """One request; whether the connection is kept."""
        began = time.perf_counter()
        try:
            connection.settimeout(30)
            connection.sendall(self._message)
            data = b""
            while b"\r\n\r\n" not in data:
                data += self._more(connection)
            head, _, body = data.partition(b"\r\n\r\n")
            head = head.lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += self._more(connection)
        except OSError as error:
            age = "a new connection" if before == 0 else "a kept connection"
            self.lost.append(f"{age}, pause {self._pause:g} s: {error!r}")
            return False
        self.times.append(time.perf_counter() - began)
        if head.split(b" ", 2)[1] == b"200":
            self.answered[json.loads(body)["model_version"]] += 1
        else:
            self.bad.append(head.split(b"\r\n")[0].decode() + " " + body[:200].decode(errors="replace"))
        return b"connection: close" not in head

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("closed without an answer")
        return data


def start_callers(port: int, pauses: list[float]) -> list[Caller]:
    callers = [Caller(port, pause) for pause in pauses]
    for caller in callers:
        caller.start()
    return callers


def summary(callers: list[Caller]) -> dict[str, Any]:
    times = sorted(spent for caller in callers for spent in caller.times) or [0.0]
    return {
        "answered": sum(sum(caller.answered.values()) for caller in callers),
        "bad": sum(len(caller.bad) for caller in callers),
        "lost": sum(len(caller.lost) for caller in callers),
        "p99_ms": round(1e3 * times[int(0.99 * len(times))], 2),
        "slowest_ms": round(1e3 * times[-1], 1),
        "said": [said for caller in callers for said in caller.bad + caller.lost][:20],
    }


def port_of(server: Server) -> int:
    return int(server.url.split(":")[2].split("/")[0])


def change(store: Path, number: int) -> None:
    """Put another version in service, as a rollback does."""
    opened = open_store(store, create=False)

    def to(tx: Transaction) -> None:
        version = tx.find(ModelVersion, loop="m", version=number)
        assert version is not None
        serve_only(tx, version, SystemClock().now(), None)

    try:
        opened.ledger.write(to)
    finally:
        opened.close()


def reloads(place: Path, seconds: float, options: list[str]) -> dict[str, Any]:
    """Reloads and changes of version, spread over the time."""
    with noria(place, *options) as server:
        port = port_of(server)
        callers = start_callers(port, [CALLERS / RATE] * CALLERS)
        took, began, now = list[float](), time.monotonic(), 2
        every = (RELOADS + CHANGES) // CHANGES
        for number in range(1, RELOADS + CHANGES + 1):
            time.sleep(max(0.0, began + number * seconds / (RELOADS + CHANGES + 1) - time.monotonic()))
            if number % every == 0:
                now = 3 - now
                change(place / ".noria", now)
                continue
            asked = time.perf_counter()
            ask(f"http://127.0.0.1:{port}/v2/repository/models/m/load", b"{}", {"Content-Type": "application/json"})
            took.append(time.perf_counter() - asked)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        for caller in callers:
            caller.over.set()
        for caller in callers:
            caller.join(40)
        by_version = sum((caller.answered for caller in callers), Counter[str]())
        found = summary(callers)
    change(place / ".noria", 2)
    return {
        **found, "reloads": len(took), "changes": CHANGES, "reload_s_max": round(max(took), 2),
        "by_version": dict(by_version),
    }  # fmt: skip


def stops(place: Path, rounds: int, options: list[str]) -> dict[str, Any]:
    """SIGTERM under callers; half of them ask without a pause."""
    found: list[dict[str, Any]] = []
    ends: list[float] = []
    codes: set[int | None] = set()
    for _ in range(rounds):
        with noria(place, *options) as server:
            callers = start_callers(port_of(server), [0.0] * (CALLERS // 2) + [0.02, 0.05, 0.1, 0.2, 0.4, 0.9])
            time.sleep(1.5)
            told = time.perf_counter()
            server.signal(signal.SIGTERM)
            codes.add(server.wait(60))
            ends.append(time.perf_counter() - told)
            for caller in callers:
                caller.join(40)
            found.append(summary(callers))
    return {
        "rounds": rounds, **{key: sum(one[key] for one in found) for key in ("answered", "bad", "lost")},
        "exit_s_max": round(max(ends), 2), "exit_status": sorted(map(str, codes)),
        "said": dict(Counter(said for one in found for said in one["said"])),
    }  # fmt: skip


# overload


class _Client(asyncio.Protocol):
    """One connection of the overload: one request at a time."""

    def __init__(self, crowd: _Crowd) -> None:
        self.crowd = crowd
        self.due = 0.0
        self.data = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.crowd.opened(self)

    def send(self, due: float) -> None:
        assert self.transport is not None
        self.due, self.data = due, b""
        self.transport.write(self.crowd.message)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            self.crowd.answered(head[9:12].decode(), time.monotonic() - self.due)
            self.due = 0.0
            self.crowd.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.crowd.gone(self.due > 0)


class _Crowd:
    """Sends at a rate, whatever comes back; counts what comes back in time."""

    def __init__(self, port: int, message: bytes, rate: float, seconds: float, connections: int) -> None:
        self.message = message
        self._connections = connections
        self._port = port
        self._rate = rate
        self._seconds = seconds
        self._idle: list[_Client] = []
        self._waiting: deque[float] = deque()
        self._open = 0
        self._opening: set[asyncio.Task[Any]] = set()
        self.sent = self.unsent = self.lost = 0
        self.statuses: Counter[str] = Counter()
        self.good: list[float] = []
        self.late = 0

    def free(self, client: _Client) -> None:
        self._idle.append(client)

    def opened(self, client: _Client) -> None:
        """The connection that an arrival had to wait for."""
        self._send(client, self._waiting.popleft())

    def _send(self, client: _Client, due: float) -> None:
        self.sent += 1
        client.send(due)

    def answered(self, status: str, spent: float) -> None:
        self.statuses[status] += 1
        if status == "200":
            if spent <= WAITS:
                self.good.append(spent)
            else:
                self.late += 1

    def gone(self, asked: bool) -> None:
        self._open -= 1
        self.lost += asked

    def _arrive(self, due: float) -> None:
        while self._idle:
            client = self._idle.pop()
            if client.transport is not None and not client.transport.is_closing():
                self._send(client, due)
                return
        if self._open == self._connections:
            self.unsent += 1
        else:
            self._open += 1
            self._waiting.append(due)
            loop = asyncio.get_running_loop()
            task = loop.create_task(loop.create_connection(lambda: _Client(self), "127.0.0.1", self._port))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def run(self) -> None:
        began, count = time.monotonic(), 0
        while (now := time.monotonic()) < began + self._seconds:
            while count < (now - began) * self._rate:
                self._arrive(began + count / self._rate)
                count += 1
            await asyncio.sleep(0.001)
        await asyncio.sleep(WAITS + 0.5)


def overload(place: Path, rows: int, connections: int, seconds: int, options: list[str]) -> dict[str, Any]:
    """Three times the peak, by callers who wait a second and say so.

    The peak is wrk's, in C, on its best of a few connections; ``goodput_at_peak`` is what the same callers get who then
    ask for three times as much, on as many connections.
    """
    with noria(place, *options) as server:
        port = port_of(server)
        load = by_wrk if shutil.which("wrk") else by_python
        body = body_of("v2", like_real(rows))
        peak = max(load(server.url, *body, clients, 3).requests / 3 for clients in (4, 16, 64))
        asked = message(port, rows, more=f"X-Request-Timeout-Ms: {int(1e3 * WAITS)}\r\n")
        alone = _crowd(port, asked, peak, seconds, connections)
        crowd = _crowd(port, asked, 3 * peak, seconds, connections)
        time.sleep(1)
        after = load(server.url, *body, 16, 3)
    times = sorted(crowd.good) or [0.0]
    return {
        "peak_rps": round(peak), "goodput_at_peak": round(len(alone.good) / seconds),
        "offered_rps": round((crowd.sent + crowd.unsent) / seconds), "goodput_rps": round(len(crowd.good) / seconds),
        "share_of_peak": round(len(crowd.good) / seconds / peak, 3),
        "share_of_goodput_at_peak": round(len(crowd.good) / max(1, len(alone.good)), 3),
        "p50_ms": round(1e3 * times[len(times) // 2], 1),
        "late": crowd.late, "never_sent": crowd.unsent, "lost": crowd.lost, "statuses": dict(crowd.statuses),
        "afterwards_rps": round(after.requests / after.seconds), "afterwards_errors": after.errors,
    }  # fmt: skip


def _crowd(port: int, asked: bytes, rate: float, seconds: float, connections: int) -> _Crowd:
    crowd = _Crowd(port, asked, rate, seconds, connections)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(crowd.run())
    return crowd


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of the reloads")
    parser.add_argument("--rounds", type=int, default=5, help="of SIGTERM, for each kind of server")
    parser.add_argument("--overload-seconds", type=int, default=6)
    parser.add_argument("--only", default="", help="reloads, stops or overload")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_store(place, versions=2)
        for options in ([], ["--workers", "2"], ["--original"]):
            said = " ".join(options)
            if given.only in "reloads":
                found = reloads(place, given.seconds, options)
                print("reloads", said, json.dumps(found), flush=True)
                wrong += found["bad"] + found["lost"]
            if given.only in "stops":
                found = stops(place, given.rounds, options)
                print("stops", said, json.dumps(found), flush=True)
                wrong += found["bad"] + found["lost"]
        for rows, connections, options in (
            (1, 250, []), (1, 2000, []), (1000, 2000, []), (1, 2000, ["--original"]), (1000, 2000, ["--original"]),
        ):  # fmt: skip
            if given.only in "overload":
                found = overload(place, rows, connections, given.overload_seconds, options)
                print(f"overload, {rows} rows, {connections} connections", *options, json.dumps(found), flush=True)
                wrong += found["lost"] + found["statuses"].get("500", 0)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
