"""The process of one model version: reads requests on standard input, answers on standard output.

Run as ``python -m noria.loop.worker STORE MANIFEST [original]``. It holds no credentials, opens no port, and what the
user's code prints goes to standard error. It does not outlive the server, whatever the user's code is at.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import Any, BinaryIO

import msgspec

from noria.errors import ModelError, NoriaError, RequestError, StepError
from noria.serve.process import HEADER

_PR_SET_PDEATHSIG = 1
_log = logging.getLogger("noria.model")


def _send(out: BinaryIO, number: int, body: Any) -> None:
    data = msgspec.msgpack.encode(body)
    out.write(HEADER.pack(len(data), number) + data)
    out.flush()


def _answer(scorer: Any, body: bytes) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        found = dict(scorer.answer(msgspec.msgpack.decode(body)))
        return found | {"seconds": time.perf_counter() - started}
    except RequestError as error:
        return {"error": str(error), "kind": "request", "details": list(error.details)}
    except (ModelError, StepError) as error:
        return {"error": str(error), "kind": "model"}
    except MemoryError:
        return {"error": "The model ran out of memory on this request; send fewer rows.", "kind": "model"}
    except Exception as error:  # noqa: BLE001 - one request must not end the process that serves all others
        _log.exception("a prediction failed")
        return {"error": f"The model failed: {type(error).__name__}.", "kind": "model"}


def _end_with_server() -> None:
    """Let the system end this process with the server: a model that computes for ever does not see its pipe close."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, out of the user's code's reach, which may print, read, and fork."""
    source, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)

    def forked() -> None:
        for file in (source, out):  # else the server would wait for this process to end too
            os.dup2(nothing, file.fileno(), inheritable=False)

    os.register_at_fork(after_in_child=forked)
    return source, out


def main(store: str, digest: str, kind: str = "") -> int:
    """Serve until standard input closes; returns the exit status."""
    _end_with_server()
    source, out = pipes()
    from noria.loop.scoring import Scorer, manifest_of
    from noria.store import open_blobs

    try:
        blobs = open_blobs(store)
        scorer = Scorer(manifest_of(blobs, digest), blobs, compiled=kind != "original")
    except NoriaError as error:
        _send(out, 0, {"error": str(error)})
        return 1
    try:
        _send(out, 0, {"ready": True})
        while len(head := source.read(HEADER.size)) == HEADER.size:
            size, number = HEADER.unpack(head)
            _send(out, number, _answer(scorer, source.read(size)))
    except BrokenPipeError:
        return 0  # the server is gone
    finally:
        scorer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
