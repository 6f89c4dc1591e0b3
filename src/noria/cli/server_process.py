"""The server of ``noria up``: pages and data plane on the socket the supervisor holds.

Run as ``python -m noria.cli.server_process STORE ADDRESS FD``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from noria.cli.child import end_with_parent
from noria.cli.crashing import roll_back_crashed
from noria.deploy.rollout import deployed
from noria.errors import NoriaError
from noria.loop.clock import SystemClock
from noria.loop.staging import worker_command
from noria.records import Deployment
from noria.serve import DataPlane, Plane, data_plane
from noria.serve.access import Keys
from noria.serve.address import handed_on
from noria.serve.listen import run
from noria.server import create_app
from noria.server.guard import bound_host
from noria.store import open_store
from noria.store.ports import ApiKey


def main(folder: str, address: str, fd: int) -> int:
    """Serve until SIGTERM; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    end_with_parent()
    store, clock, keys = open_store(folder), SystemClock(), Keys()

    def deployments() -> Mapping[str, Deployment]:
        with store.ledger.read() as db:
            keys.update(db.list(ApiKey))
            return deployed(db)

    def crashing(loop: str, version: int, reason: str) -> None:
        roll_back_crashed(store, clock.now(), loop, version, reason)

    plane = Plane(store, clock, worker_command(store), deployments, crashing=crashing)
    data = DataPlane(plane, keys=keys, bound=bound_host(address), alone=False)
    try:
        app = create_app(store, clock, data_plane=data_plane(data), address=address)
        run(app, data, handed_on(fd), lambda: None)
    except NoriaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
