"""``noria up``: a supervisor of two processes, the server and the controller, until it is told to stop.

The supervisor holds the listening socket and the store's lease; a process that dies is started again and takes
up where it was, callers waiting in the socket's queue meanwhile.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from noria.cli.compaction import Compaction, Retention
from noria.cli.declared import load_sound
from noria.cli.places import store_folder
from noria.errors import Conflict
from noria.loop.keeper import LeaseKeeper
from noria.serve.address import is_loopback, listen
from noria.store import open_store

__all__ = ["CONTROLLER_GAVE_UP", "Child", "require_loopback", "up"]

CONTROLLER_GAVE_UP = 4
"""Exit status of a controller that has said why it cannot go on: starting it again would not help."""
_DRAIN_SECONDS = 40.0


def require_loopback(host: str) -> None:
    """Refuse to listen where others can reach: there is no authentication yet.

    Raises:
        Conflict: the host is not a loopback address.
    """
    if not is_loopback(host):
        raise Conflict(
            f"Noria listens on loopback only (127.0.0.1), not on {host}: it has no authentication yet. "
            "Put a proxy that authenticates in front to reach it from elsewhere."
        )


def up(file: Path, store: Path | None, host: str, port: int, keep: Retention) -> int:
    """Run everything for one loop; returns the exit status."""
    require_loopback(host)
    loaded = load_sound(file)
    folder = store_folder(store, file).resolve()
    kept = open_store(folder)
    console = Console(stderr=True, highlight=False)
    try:
        listening = listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        with LeaseKeeper(kept.ledger, "noria up", address) as keeper:
            console.print(f"[bold]{loaded.loop.name}[/bold] at [bold link={address}]{address}[/]  (Ctrl-C stops)")
            console.print(f"  predict  POST {address}/predict/{loaded.loop.name}", markup=False)
            console.print(f"  labels   POST {address}/labels/{loaded.loop.name}", markup=False)
            supervisor = _Supervisor(file.resolve(), folder, address, listening, keeper, console, keep)
            return supervisor.run()
    finally:
        kept.close()


class Child:
    """A process that is started again when it dies."""

    def __init__(self, name: str, command: list[str], passed: tuple[int, ...] = ()) -> None:
        self.name = name
        self._command = command
        self._passed = passed
        self._deaths: list[float] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again)."""
        # Its standard input is a pipe from here: when this process is gone, it ends, and the child with it.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, pass_fds=self._passed, start_new_session=True
        )

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll() if self._process is not None else None

    def may_restart(self) -> bool:
        """Whether it has died fewer than five times in the last minute."""
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < 60] + [now]
        return len(self._deaths) < 5

    def stop(self, seconds: float) -> None:
        """Ask it to end, then make it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Supervisor:
    def __init__(
        self,
        file: Path,
        folder: Path,
        address: str,
        listening: socket.socket,
        keeper: LeaseKeeper,
        console: Console,
        keep: Retention,
    ) -> None:
        module = [sys.executable, "-m"]
        fd = str(listening.fileno())
        self._server = Child(
            "server", [*module, "noria.cli.server_process", str(folder), address, fd], (listening.fileno(),)
        )
        lease = json.dumps({"token": keeper.lease.token, "address": address})
        self._controller = Child("controller", [*module, "noria.cli.controller_process", str(file), str(folder), lease])
        self._keeper = keeper
        self._console = console
        self._compaction = Compaction(str(folder), keep)
        self._stop = threading.Event()
        self._hurry = False

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            self._hurry = True
        self._stop.set()

    def run(self) -> int:
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._server.start()
            self._controller.start()
            status = self._watch()
        finally:
            self._console.print("Stopping: requests in flight are finished first.")
            self._controller.stop(0.1 if self._hurry else 10)
            self._server.stop(0.1 if self._hurry else _DRAIN_SECONDS)
            self._compaction.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        return status

    def _watch(self) -> int:
        """Wait for the end; returns the exit status."""
        while not self._stop.wait(0.2):
            self._compaction.tick()
            if self._keeper.lost:
                self._console.print(self._keeper.lost, style="red", markup=False)
                return 1
            for child in (self._server, self._controller):
                status = child.poll()
                if status is None:
                    continue
                if child is self._controller and status == CONTROLLER_GAVE_UP:
                    return 1
                if not child.may_restart():
                    self._console.print(f"The {child.name} keeps dying (status {status}); stopping.", style="red")
                    return 1
                self._console.print(f"The {child.name} ended (status {status}); starting it again.", style="yellow")
                child.start()
        return 0
