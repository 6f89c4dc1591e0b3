"""What both processes of ``noria up`` share: they end with their supervisor."""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """Send this process SIGTERM when standard input, a pipe from the supervisor, closes."""

    def wait() -> None:
        # Not sys.stdin: a thread blocked in a buffered read makes the interpreter's exit fail.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
