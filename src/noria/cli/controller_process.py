"""The controller of ``noria up``: turns the loop, under the supervisor's lease.

Run as ``python -m noria.cli.controller_process FILE STORE LEASE``.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from noria.cli.child import end_with_parent
from noria.cli.progress import Steps
from noria.cli.up import CONTROLLER_GAVE_UP
from noria.errors import Conflict, DataError, NoriaError, StoreBusy, StoreFull
from noria.loop.clock import SystemClock
from noria.loop.controller import Controller
from noria.loop.lease import NAME
from noria.loop.load import load
from noria.records import TurnState
from noria.register import champion
from noria.store import Store, open_store
from noria.store.ports import Lease

_TICK_SECONDS = 1.0


class _Stop(BaseException):
    """SIGTERM: unwinds from wherever the work is; a turn is resumable at any point."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _lease(store: Store, given: dict[str, Any]) -> Lease:
    """The supervisor's lease.

    Raises:
        Conflict: it has passed to another.
    """
    with store.ledger.read() as db:
        present = db.find(Lease, name=NAME)
    if present is None or present.token != given["token"]:
        raise Conflict("Another process has taken over this store; this one stops.")
    return present


def main(file: str, folder: str, given: str) -> int:
    """Tick until told to stop; returns the exit status."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        end_with_parent()
        store = open_store(folder)
        with Steps() as steps:
            return _run(load(Path(file)), store, json.loads(given), steps)
    except _Stop:
        return 0
    except NoriaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return CONTROLLER_GAVE_UP


def _run(loaded: Any, store: Store, given: dict[str, Any], steps: Steps) -> int:
    controller = Controller(loaded, store, SystemClock(), lease=_lease(store, given), live=lambda: True, progress=steps)
    said = ""
    while True:
        try:
            turn = controller.tick()
            said = ""
        except (StoreFull, StoreBusy, DataError) as error:
            if str(error) != said:
                steps("waiting", str(error))
            said, turn = str(error), None
        if turn is not None and turn.state.final:
            steps("turn", f"{turn.number} {turn.state.value}: {turn.outcome}")
            with store.ledger.read() as db:
                serving = champion(db, loaded.loop.name)
            if serving is None and turn.state in (TurnState.failed, TurnState.rejected, TurnState.unchanged):
                print(f"Error: no model can be served: {turn.outcome}", file=sys.stderr)
                return CONTROLLER_GAVE_UP
        threading.Event().wait(_TICK_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3]))
