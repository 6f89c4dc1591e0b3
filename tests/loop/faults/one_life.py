"""One life of a controller: takes the loop on until it rests, and is killed at the place named.

Run as ``python one_life.py STORE PLACE KNOB``; approves what waits and answers for the canary's traffic.
"""

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from noria.core.ids import new_id
from noria.loop.load import load
from noria.loop.turn import Engine, newest_turn, order
from noria.records import TurnState
from noria.register import decide
from noria.store import open_store
from noria.store.ports import Prediction
from noria.testing import FakeClock

folder, place, knob = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
loaded = load(folder / "small_loop.py")
store = open_store(folder / "store")
clock = FakeClock(datetime(2024, 1, 1, tzinfo=UTC))
seen = 0


def checkpoint(here: str) -> None:
    global seen
    name, _, number = place.partition("#")
    if here == name:
        seen += 1
        if seen == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)


engine = Engine(loaded, store, clock, live=lambda: True, checkpoint=checkpoint)
with store.ledger.read() as db:
    turn = newest_turn(db, "small")
if turn is None or turn.state.final:
    turn = order(store, loaded, clock.now(), trigger="test", reason="x", overrides={"train.C": knob})
for _ in range(20):
    turn = engine.run(turn)
    if turn.state.final:
        break
    if turn.state is TurnState.awaiting_approval:
        with store.ledger.read() as db:
            from noria.register import version

            waits = version(db, "small", turn.version or 0).decision is None
        if waits:
            decide(
                store.ledger,
                "small",
                turn.version or 0,
                approved=True,
                by="ann",
                role="owner",
                now=clock.now(),
            )
    elif turn.state is TurnState.canary:
        clock.advance("2h")
        store.predictions.append(
            [
                Prediction(id=new_id(), loop="small", at=clock.now(), version=v, model_digest="", role="canary",
                           record={}, value=1)
                for v in (turn.version, (turn.version or 2) - 1)
                for _ in range(10)
                if v is not None
            ]
        )  # fmt: skip
        with store.ledger.read() as db:
            turn = newest_turn(db, "small") or turn
print(turn.state.value)
store.close()
