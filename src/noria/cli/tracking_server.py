"""``noria server``: tracking, registry, artifacts and pages of one store, without a loop.

With several workers each is a process on the same socket, run as
``python -m noria.cli.tracking_server STORE BLOBS ADDRESS FD``.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable

from rich.console import Console

from noria.cli.child import end_with_parent
from noria.cli.up import Child, require_loopback
from noria.errors import Conflict, NoriaError
from noria.loop.clock import SystemClock
from noria.serve.address import handed_on, listen
from noria.serve.listen import run
from noria.server import create_app
from noria.store import open_store

__all__ = ["serve_store"]

_DRAIN_SECONDS = 40.0


def serve_store(store: str, blobs: str | None, host: str, port: int, workers: int) -> int:
    """Serve one store until SIGINT or SIGTERM; returns the exit status.

    Raises:
        Conflict: others could reach the address, or several workers were asked of a store in a folder.
    """
    require_loopback(host)
    if workers > 1 and "://" not in store:
        raise Conflict("Several workers need a store in PostgreSQL: a folder has one process that writes to it.")
    open_store(store, blobs=blobs).close()  # made, or refused with the reason, before anything listens
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    console = Console(stderr=True, highlight=False)

    def ready() -> None:
        console.print(f"Noria at [bold link={address}]{address}[/]  (Ctrl-C stops)")
        console.print(f"  MLflow  export MLFLOW_TRACKING_URI={address}", markup=False)

    if workers == 1:
        _serve(store, blobs, address, listening, ready)
        return 0
    return _supervise(store, blobs, address, listening, workers, ready)


def _serve(store: str, blobs: str | None, address: str, listening: socket.socket, ready: Callable[[], None]) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    kept = open_store(store, blobs=blobs)
    try:
        run(create_app(kept, SystemClock(), address=address), None, listening, ready)
    finally:
        kept.close()


def _supervise(
    store: str, blobs: str | None, address: str, listening: socket.socket, workers: int, ready: Callable[[], None]
) -> int:
    fd = listening.fileno()
    command = [sys.executable, "-m", "noria.cli.tracking_server", store, blobs or "", address, str(fd)]
    children = [Child(f"worker {number + 1}", command, (fd,)) for number in range(workers)]
    over = threading.Event()
    before = {number: signal.signal(number, lambda *_: over.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    status = 0
    try:
        for child in children:
            child.start()
        ready()
        while not over.wait(0.2):
            for child in children:
                if child.poll() is None:
                    continue
                if not child.may_restart():
                    print(f"Error: {child.name} keeps ending (status {child.poll()}).", file=sys.stderr)
                    status = 1
                    over.set()
                    break
                child.start()
    finally:
        for child in children:
            child.stop(_DRAIN_SECONDS)
        for number, handler in before.items():
            signal.signal(number, handler)
    return status


def main(store: str, blobs: str, address: str, fd: int) -> int:
    """One worker; returns the exit status."""
    end_with_parent()
    try:
        _serve(store, blobs or None, address, handed_on(fd), lambda: None)
    except NoriaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
