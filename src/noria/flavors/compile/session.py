"""A compiled graph in the process of its model: it answers in the model's place where it is known to be equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noria.flavors.compile.opening import OpenGraph
from noria.flavors.compile.rows import as_feed
from noria.records import MISSING_TEXT, Compiled, Signature

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Graph"]


class Graph:
    """A graph, asked with feature rows.

    Args:
        graph: the ONNX file.
        trees: see `OpenGraph`.
        compiled: what was found out about it.
        signature: of the model it stands for.

    Raises:
        ModelError: ONNX Runtime is not there or cannot read the graph.
    """

    def __init__(self, graph: bytes, trees: bytes | None, compiled: Compiled, signature: Signature) -> None:
        self._graph = OpenGraph(graph, trees)
        self._compiled = compiled
        names = [name for name, _ in signature.features]
        self._texts = [self._graph.inputs.get(name) == "tensor(string)" for name in names]
        self._filled = [place for place, name in enumerate(names) if name not in compiled.nulls]
        self._names = names
        self._labels = np.empty(len(signature.classes), dtype=object)
        self._labels[:] = signature.classes

    def answer(self, rows: pl.DataFrame) -> tuple[NDArray[Any], NDArray[np.float64] | None] | None:
        """Predictions and probabilities of feature rows; None where the model itself must be asked.

        Args:
            rows: the model's columns, in order.
        """
        try:
            feed = as_feed(rows, self._texts, matrix=self._compiled.matrix)
            if self._gap(feed):
                return None
            outputs = self._graph.run(feed)
        except Exception:  # noqa: BLE001 - a row that the model refuses; the model says it better
            return None
        found = dict(zip(self._graph.outputs, outputs, strict=True))
        shares, values = found.get("probabilities"), found.get("prediction")
        if shares is not None and not np.isfinite(shares).all():
            return None
        if values is None:
            assert shares is not None
            values = self._labels[shares.argmax(axis=1)]
        values = values.reshape(rows.height)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return None
        return values, shares

    def _gap(self, feed: dict[str, NDArray[Any]]) -> bool:
        """Whether a value is missing where the model takes none."""
        if "x" in feed and self._compiled.matrix:
            return bool(np.isnan(feed["x"][:, self._filled]).any())
        for place in self._filled:
            values = feed[self._names[place]]
            if (values == MISSING_TEXT).any() if self._texts[place] else np.isnan(values).any():
                return True
        return False
