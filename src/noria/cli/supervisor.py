"""The supervisor of ``noria serve``: starts the processes that answer, starts them again when they die, stops them.

Run as ``python -m noria.cli.supervisor SETTINGS FD``. It imports next to nothing: what it holds is held all the time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from noria.cli.compaction import Compaction, Retention

_DRAIN_SECONDS = 45.0
_DEATHS, _DEATHS_SECONDS = 5, 60.0


class _Worker:
    """One process that answers."""

    def __init__(self, settings: dict[str, object], number: int, fd: int, folder: str) -> None:
        given = json.dumps({**settings, "number": number, "control": folder})
        self._command = [sys.executable, "-m", "noria.cli.model_server", given, str(fd)]
        self._fd = fd
        self.deaths: list[float] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Its standard input is a pipe from here: when this process is gone, it ends, and the worker with it.
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, pass_fds=(self._fd,), start_new_session=True
        )

    def keeps_dying(self) -> bool:
        now = time.monotonic()
        self.deaths = [death for death in self.deaths if now - death < _DEATHS_SECONDS] + [now]
        return len(self.deaths) >= _DEATHS


class _Supervisor:
    def __init__(self, settings: dict[str, object], fd: int) -> None:
        self._settings = settings
        self._fd = fd
        self._folder = tempfile.mkdtemp(prefix="noria-serve-")
        count = int(str(settings["workers"]))
        self._workers = [_Worker(settings, number, fd, self._folder) for number in range(count)]
        self._compaction = Compaction(str(settings["store"]), Retention(*settings["keep"]))  # type: ignore[misc]
        self._began = time.monotonic()
        self._told = 0

    def _signalled(self, number: int, frame: object) -> None:
        self._told += 1

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        status = 0
        try:
            for worker in self._workers:
                worker.start()
            while not self._told and status == 0:
                time.sleep(0.1)
                status = self._look()
        finally:
            self._stop()
            shutil.rmtree(self._folder, ignore_errors=True)
        return status

    def _look(self) -> int:
        """Start again what died; returns the status to end with, 0 to go on."""
        for worker in self._workers:
            code = worker.process.poll() if worker.process is not None else None
            if code is None:
                continue
            if code == 1 and not worker.deaths and time.monotonic() - self._began < 20:
                return 1  # it said why it cannot begin
            if worker.keeps_dying():
                self._say(f"Error: a process keeps dying (status {code}); stopping.", "ERROR")
                return 1
            self._say(f"A process ended (status {code}); starting it again.", "WARNING")
            worker.start()
        self._compaction.tick()
        return 0

    def _say(self, text: str, level: str) -> None:
        import logging

        from noria.cli.logs import say

        say(str(self._settings["log_format"]), text, getattr(logging, level))

    def _stop(self) -> None:
        """Let each finish what it has; from now on only they take connections, and soon they do not either."""
        os.close(self._fd)
        alive = [worker.process for worker in self._workers if worker.process is not None]
        for process in alive:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end, told = time.monotonic() + _DRAIN_SECONDS, self._told
        while (
            any(process.poll() is None for process in alive) and time.monotonic() < end and self._told <= max(told, 1)
        ):
            time.sleep(0.02)
        for process in alive:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._compaction.stop()


if __name__ == "__main__":
    sys.exit(_Supervisor(json.loads(sys.argv[1]), int(sys.argv[2])).run())
