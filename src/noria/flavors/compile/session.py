"""A compiled graph in the process of its model: it answers in the model's place where it is known to be equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noria.flavors.compile.opening import open_graph
from noria.flavors.compile.rows import as_feed
from noria.records import MISSING_TEXT, Compiled, Signature

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Graph"]

_PIECE = 1024


class Graph:
    """A graph, asked with feature rows.

    Args:
        graph: the ONNX file.
        compiled: what was found out about it.
        signature: of the model it stands for.

    Raises:
        ModelError: ONNX Runtime is not there or cannot read the graph.
    """

    def __init__(self, graph: bytes, compiled: Compiled, signature: Signature) -> None:
        self._session = open_graph(graph)
        self._compiled = compiled
        names = [name for name, _ in signature.features]
        kinds = {given.name: given.type for given in self._session.get_inputs()}
        self._texts = [kinds.get(name) == "tensor(string)" for name in names]
        self._filled = [place for place, name in enumerate(names) if name not in compiled.nulls]
        self._names = names
        self._outputs = [output.name for output in self._session.get_outputs()]
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
            pieces = [
                self._session.run(self._outputs, {name: values[at : at + _PIECE] for name, values in feed.items()})
                for at in range(0, rows.height, _PIECE)
            ]
        except Exception:  # noqa: BLE001 - a row that the model refuses; the model says it better
            return None
        found = dict(zip(self._outputs, map(np.concatenate, zip(*pieces, strict=True)), strict=True))
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
