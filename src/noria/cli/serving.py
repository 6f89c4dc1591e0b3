"""``noria serve``: one model (or every deployed one) over HTTP and gRPC, by a supervisor and its processes."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from noria.cli.compaction import Retention
from noria.cli.places import store_folder
from noria.cli.targets import Target, parse_target, resolve
from noria.errors import Conflict
from noria.serve.address import is_loopback, listen
from noria.store import open_store
from noria.store.ports import ApiKey

__all__ = ["serve_model"]


def serve_model(
    model: str | None,
    store: Path | None,
    *,
    host: str,
    port: int,
    grpc_port: int | None,
    workers: int,
    record: str,
    grace: float,
    max_memory: int | None,
    native: bool,
    log_format: str,
    keep: Retention,
) -> None:
    """Serve until SIGINT or SIGTERM. Does not return: the supervisor takes this process's place.

    Raises:
        NotFound: there is no such model, version or alias.
        Conflict: the address is taken, or strangers could reach it without a key.
    """
    target = parse_target(model) if model is not None else Target(None)
    folder = store_folder(store).resolve()
    opened = open_store(folder, create=False)
    try:
        with opened.ledger.read() as db:
            found = resolve(db, target, datetime.now(UTC))
            keys = db.count(ApiKey)
    finally:
        opened.close()
    if not is_loopback(host) and not keys:
        raise Conflict(
            f"On {host} others can reach the models, and no key guards them. Make one first: noria keys add NAME."
        )
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    settings = {
        "store": str(folder),
        "model": model,
        "address": address,
        "host": host,
        "grpc_port": grpc_port,
        "workers": workers,
        "record": record,
        "grace": grace,
        "max_memory": max_memory,
        "native": native,
        "log_format": log_format,
        "names": sorted(found),
        "keep": keep,
    }
    os.set_inheritable(listening.fileno(), True)
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "noria.cli.supervisor", json.dumps(settings), str(listening.fileno())]
    os.execv(sys.executable, command)  # noqa: S606 - a process that holds nothing but what a supervisor needs
