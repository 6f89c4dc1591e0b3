"""``noria server``: tracking, registry, artifacts and pages of one store, without a loop."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console

from noria.cli.up import require_loopback
from noria.loop.clock import SystemClock
from noria.serve.listen import listen, run
from noria.server import create_app
from noria.store import open_store

__all__ = ["serve_store"]


def serve_store(store: Path, host: str, port: int) -> int:
    """Serve one store until SIGINT or SIGTERM; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    require_loopback(host)
    kept = open_store(store)
    console = Console(stderr=True, highlight=False)
    try:
        listening = listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        app = create_app(kept, SystemClock(), address=address)

        def ready() -> None:
            console.print(f"Store [bold]{store}[/bold] at [bold link={address}]{address}[/]  (Ctrl-C stops)")
            console.print(f"  MLflow  export MLFLOW_TRACKING_URI={address}", markup=False)

        run(app, None, listening, ready)
    finally:
        kept.close()
    return 0
