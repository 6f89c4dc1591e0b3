"""A process of ``noria serve`` that answers.

Run by the supervisor as ``python -m noria.cli.model_server SETTINGS FD``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from noria.cli.child import end_with_parent
from noria.cli.crashing import roll_back_crashed
from noria.cli.logs import configure, say
from noria.cli.targets import Target, parse_target, resolve
from noria.errors import NoriaError
from noria.loop.clock import SystemClock
from noria.loop.staging import worker_command
from noria.records import Deployment
from noria.serve import DataPlane, Plane
from noria.serve.access import Keys
from noria.serve.address import handed_on, is_loopback
from noria.serve.control import Control
from noria.serve.grpc import GrpcServer
from noria.serve.listen import run
from noria.serve.tracing import configured
from noria.store import Store, open_store
from noria.store.ports import ApiKey

_log = logging.getLogger("noria.serve")


class _Served:
    """What the ledger says is to be served, and who may ask."""

    def __init__(self, store: Store, target: Target, clock: SystemClock, keys: Keys) -> None:
        self._store = store
        self._target = target
        self._clock = clock
        self._keys = keys
        self._last: Mapping[str, Deployment] = {}
        self._said = ""

    def deployments(self) -> Mapping[str, Deployment]:
        with self._store.ledger.read() as db:
            self._keys.update(db.list(ApiKey))
            try:
                self._last = resolve(db, self._target, self._clock.now())
                self._said = ""
            except NoriaError as error:
                if not self._last:
                    raise
                if str(error) != self._said:  # it is asked several times a second
                    self._said = str(error)
                    _log.warning("what is served stays as it was: %s", error)
        return self._last

    def crashing(self, loop: str, version: int, reason: str) -> None:
        """Put the version before back in service, if this server follows the deployment."""
        if self._target.alias is None and self._target.version is None:
            roll_back_crashed(self._store, self._clock.now(), loop, version, reason)


def main(given: str, fd: int) -> int:
    """Serve until SIGTERM; returns the exit status."""
    settings: dict[str, Any] = json.loads(given)
    configure(settings["log_format"])
    end_with_parent()
    listening = handed_on(fd)
    try:
        tracing = configured()
        store = open_store(settings["store"], create=False)
    except NoriaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    clock = SystemClock()
    loopback = is_loopback(settings["host"])
    keys = Keys(needed=not loopback)
    target = parse_target(settings["model"]) if settings["model"] is not None else Target(None)
    served = _Served(store, target, clock, keys)
    control = Control(Path(settings["control"]), settings["number"])
    plane = Plane(
        store,
        clock,
        worker_command(store),
        served.deployments,
        level=settings["record"],
        crashing=served.crashing,
        max_memory=settings["max_memory"],
        native=settings["native"],
        control=control if settings["workers"] > 1 else None,
    )
    data = DataPlane(plane, keys=keys, tracing=tracing, bound=settings["host"] if loopback else None)
    first = settings["number"] == 0

    grpc: list[GrpcServer] = []

    async def begin() -> None:
        if settings["grpc_port"] is not None:
            shared = settings["workers"] > 1
            grpc.append(GrpcServer(data, settings["host"], settings["grpc_port"], shared=shared))
            settings["grpc_port"] = await grpc[0].start()

    async def end() -> None:
        for one in grpc:
            await one.stop(30.0)

    def ready() -> None:
        if settings["workers"] > 1:
            asyncio.get_running_loop().create_task(_publish(data, control))
        if first:
            _say(settings, data)

    try:
        run(None, data, listening, ready, grace=settings["grace"], beside=(begin, end))
    except NoriaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    finally:
        store.close()
        if tracing is not None:
            tracing.close()
    return 0


async def _publish(data: DataPlane, control: Control) -> None:
    while True:
        await asyncio.sleep(1)
        with suppress(OSError):  # a full disk, say: the next second will do
            control.publish(data.snapshot())


def _say(settings: Mapping[str, Any], data: DataPlane) -> None:
    kind, address = settings["log_format"], settings["address"]
    for name in data.plane.loops():
        try:
            route, served = data.plane.served(name)
        except NoriaError as error:
            say(kind, f"{name}: {error}", logging.WARNING)
            continue
        how = "compiled" if served.engine.native else "in a process of its own"
        say(kind, f"{name} version {route.version}, {how}, at {address}  (Ctrl-C stops)")
        say(kind, f"  records  POST {address}/predict/{name}")
        say(kind, f"  tensors  POST {address}/v2/models/{name}/infer")
    if settings["grpc_port"] is not None:
        say(kind, f"  gRPC     {settings['host']}:{settings['grpc_port']}")
    say(kind, f"  MLflow   POST {address}/invocations")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
