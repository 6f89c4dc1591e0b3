"""A compiled graph, opened by whoever answers with it: a server, or the model's own process."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.errors import ModelError
from noria.flavors.compile.bitvectors import Bitvectors, Trees, quickest

__all__ = ["OpenGraph"]

_PIECE = 1024
"""Rows a call: what passes between a graph's operators stays in the processor's caches."""
_TRIED = 512


class OpenGraph:
    """A graph that is ready to answer, on one thread; it keeps no memory between calls.

    Args:
        graph: the ONNX file.
        trees: its trees (`noria.flavors.compile.divide`), by which many rows are answered sooner; None without any.

    Attributes:
        inputs: the inputs' names and ONNX types.
        outputs: the outputs' names.
        few: answers a few rows: the outputs' names, the feed, None. It checks nothing.
        many: from how many rows on the trees are asked by tables; None: never.

    Raises:
        ModelError: ONNX Runtime is not there or cannot read the graph.
    """

    def __init__(self, graph: bytes, trees: bytes | None = None) -> None:
        session = _session(graph)
        self.inputs = {given.name: str(given.type) for given in session.get_inputs()}
        self.outputs = [str(output.name) for output in session.get_outputs()]
        # The session's own method checks and copies for five microseconds what is known to be right here.
        self.few = getattr(session, "_sess", session).run
        self.many: int | None = None
        self._tables = None if trees is None else _Tables(trees, self.outputs)
        if self._tables is not None:
            rows = self._tables.vectors.samples(_TRIED, int(session.get_inputs()[0].shape[1]))
            self.many = quickest(lambda x: self._whole({"x": x}), self._tables, rows)

    def run(self, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of any number of rows.

        Raises:
            Exception: ONNX Runtime's own, for rows that the graph fails on.
        """
        rows = len(next(iter(feed.values())))
        if self.many is not None and self._tables is not None and rows >= self.many:
            return self._tables(feed["x"])
        return self._whole(feed) if rows <= _PIECE else self._pieces(feed, rows)

    def _whole(self, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = self.few(self.outputs, feed, None)
        return found

    def _pieces(self, feed: dict[str, NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        pieces = [
            self._whole({name: values[at : at + _PIECE] for name, values in feed.items()})
            for at in range(0, rows, _PIECE)
        ]
        return [np.concatenate(piece) for piece in zip(*pieces, strict=True)]


class _Tables:
    """The trees by tables, between what comes before them and after."""

    def __init__(self, trees: bytes, outputs: list[str]) -> None:
        held = msgspec.msgpack.decode(trees, type=Trees)
        self.vectors = Bitvectors(held)
        head, tail = None if held.head is None else _session(held.head), _session(held.tail)
        self._head = None if head is None else getattr(head, "_sess", head).run
        self._tail = getattr(tail, "_sess", tail).run
        self._asked = {given.name for given in tail.get_inputs()}
        self._outputs = outputs

    def __call__(self, x: NDArray[np.float64]) -> list[NDArray[Any]]:
        seen = x if self._head is None else self._head(["seen"], {"x": x}, None)[0]
        feed = {"sums": self.vectors(seen), "x": x}
        found: list[NDArray[Any]] = self._tail(self._outputs, {name: feed[name] for name in self._asked}, None)
        return found


def _session(graph: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("ONNX Runtime is not installed: pip install onnxruntime.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"The compiled graph cannot be read: {str(error)[:300]}") from error
