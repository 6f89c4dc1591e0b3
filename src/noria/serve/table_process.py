"""Arrow and Parquet are read in a process of their own: a few damaged bytes end Polars, or have it ask for any memory.

A request is two lengths, what is asked in MessagePack and the body; the
answer is a length and MessagePack. It holds no credentials and no more memory than it is let have.
"""

from __future__ import annotations

import atexit
import resource
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from typing import Any

import msgspec
import numpy as np

from noria.errors import ModelError, RequestError
from noria.serve.batch import Column
from noria.serve.process import environment
from noria.serve.refusals import TooLargeError

__all__ = ["Columns", "TableProcess"]

_ASKED, _ANSWERED = Struct(">IQ"), Struct(">Q")
_SECONDS = 60.0
_MOST_MEMORY = 4 * 2**30
_MOST_BYTES = 512 * 2**20  # of an answer: a body of the largest size in JSON becomes half of that
_pack, _unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode

Columns = tuple[dict[str, Column], int]
"""Columns by name, those that nobody asked for empty, and the number of rows."""


class TableProcess:
    """The process, started when the first table comes and again when it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def read(self, body: bytes, kind: str, most: int, names: Sequence[str]) -> Columns:
        """The columns of a table.

        Args:
            body: the table.
            kind: its content type.
            most: rows that it may have.
            names: the columns wanted.

        Raises:
            RequestError: it cannot be read, or is too large.
            ModelError: the process cannot be started.
        """
        with self._lock:
            answer = self._ask(_pack((kind, most, list(names))), body)
        with suppress(ValueError, TypeError, msgspec.MsgspecError):
            found = _unpack(answer)
            if "error" in found:
                raise (TooLargeError if found["large"] else RequestError)(found["error"])
            columns = {name: _received(*one) for name, one in found["columns"].items()}
            if all(len(columns[name]) == found["rows"] for name in names if name in columns):
                return columns, found["rows"]
        raise RequestError("The body cannot be read: it is damaged, or takes too much memory.")

    def _ask(self, asked: bytes, body: bytes) -> bytes:
        """The answer; nothing if the process ended over the question."""
        process = self._process
        if process is None or process.poll() is not None:
            self.close()
            process = self._process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        try:
            process.stdin.write(_ASKED.pack(len(asked), len(body)) + asked)
            process.stdin.write(body)
            process.stdin.flush()
            (length,) = _ANSWERED.unpack(process.stdout.read(_ANSWERED.size).ljust(_ANSWERED.size, b"\0"))
            answer = process.stdout.read(length)
        except OSError:
            answer = b""
        finally:
            timer.cancel()
        if not answer or len(answer) < length:
            self.close()
            return b""
        return answer

    @staticmethod
    def _started() -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(),
                pipesize=2**20,
                start_new_session=True,
            )
        except OSError as error:
            raise ModelError(f"The process that reads tables cannot be started: {error.strerror}.") from error

    def close(self) -> None:
        """End the process. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def _sent(values: Column) -> tuple[str, Any]:
    """A column in MessagePack, which has no whole numbers of more than 64 bits."""
    if isinstance(values, np.ndarray):
        return values.dtype.str, np.ascontiguousarray(values).tobytes()
    if any(type(value) is int and not -(2**63) <= value < 2**64 for value in values):
        return "whole", [None if value is None else str(value) for value in values]
    return "", values


def _received(kind: str, values: Any) -> Column:
    if not kind:
        return list(values)
    if kind == "whole":
        return [None if value is None else int(value) for value in values]
    found: np.ndarray[Any, Any] = np.frombuffer(values, dtype=kind)
    return found


def _answer(body: bytes, kind: str, most: int, names: Sequence[str]) -> dict[str, Any]:
    from noria.serve.tables import columns_of

    try:
        columns, rows = columns_of(body, kind, most, frozenset(names), _MOST_BYTES)
    except RequestError as error:
        return {"error": str(error), "large": isinstance(error, TooLargeError)}
    return {"columns": {name: _sent(values) for name, values in columns.items()}, "rows": rows}


def main() -> None:
    """Read tables until there are no more."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    with suppress(OSError, ValueError):  # not every system has it
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    with suppress(BrokenPipeError):
        while len(head := source.read(_ASKED.size)) == _ASKED.size:
            asked, size = _ASKED.unpack(head)
            kind, most, names = _unpack(source.read(asked))
            answer = _pack(_answer(source.read(size), kind, most, names))
            out.write(_ANSWERED.pack(len(answer)))
            out.write(answer)
            out.flush()
