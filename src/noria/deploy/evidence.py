"""What was seen of a turn's canary, kept in the ledger as one window for each step it has stood at."""

from __future__ import annotations

from itertools import count

from noria.deploy.rollout import SHADOW_STEP
from noria.store.ports import Reader, Window

__all__ = ["KIND", "canary_window", "canary_windows"]

KIND = "canary"
"""`Window.kind` of these windows."""


def canary_window(turn: str, step: int) -> str:
    """The id of the window of a turn's canary step."""
    return f"{turn}.{step}"


def canary_windows(db: Reader, turn: str) -> list[Window]:
    """The windows of a turn's canary, from the shadow (if it was one) to the last step it came to."""
    found: list[Window] = []
    for step in count(SHADOW_STEP):
        window = db.find(Window, id=canary_window(turn, step))
        if window is not None:
            found.append(window)
        elif step > SHADOW_STEP:
            break
    return found
