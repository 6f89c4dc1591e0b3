"""Identifiers: 32 hexadecimal characters that sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time

__all__ = ["new_id"]

_lock = threading.Lock()
_last = 0


def _renew() -> None:
    """In a forked child: another thread of the parent's may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    """A new identifier: 48 bits of milliseconds, 16 bits of order within them, 64 random bits.

    Identifiers made by one process sort in the order they were made, even when the clock steps back.
    """
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1_000_000 << 16)
        ticket = _last
    return f"{ticket:016x}{os.urandom(8).hex()}"
