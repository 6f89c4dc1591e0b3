"""A model of any flavor as one ONNX graph in float64, used only where it answers as the model does.

ONNX Runtime answers a row in some ten microseconds, in the server's own process, and the graph holds nothing of
the user's code. `compile_model` makes it, compares the two, and says what came of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from noria.records import Compiled

if TYPE_CHECKING:
    import polars as pl

    from noria.flavors import Predictor

__all__ = ["COMPARED", "REVISION", "compile_model", "spread"]

COMPARED = 2_000
"""Real rows on which a graph is compared with its model."""

REVISION = 2
"""Counts changes to what models are compiled to; kept graphs of older ones are made anew."""


def spread(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most so many rows, spread over all of them."""
    if rows.height <= most:
        return rows
    return rows[sorted({place * (rows.height - 1) // (most - 1) for place in range(most)} if most > 1 else [0])]


def compile_model(
    flavor: str,
    predictor: Predictor,
    features: Sequence[tuple[str, str]],
    frame: str,
    rows: pl.DataFrame,
    *,
    put: Callable[[bytes], str],
    source: bytes | None = None,
) -> Compiled:
    """Compile a model and hold the graph to the model's answers. Never raises: says why there is no graph.

    Args:
        flavor: how the model is saved.
        predictor: the model.
        features: its columns, in order, as ``(name, Polars type)``.
        frame: kind of frame it is handed: ``pandas``, ``polars``, ``pyarrow`` or ``ndarray``.
        rows: feature rows to compare on.
        put: keeps the graph, gives its digest.
        source: the model's file where it is ONNX already.
    """
    try:
        from noria.flavors.compile.convert import Subject
        from noria.flavors.compile.work import compile_and_compare
    except ImportError as error:
        package = (error.name or "onnx").split(".")[0]
        return Compiled(None, f"not compiled: {package} is not installed (pip install {package})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = predictor.unwrap() if source is None else source
            subject = Subject(flavor, model, tuple(features), frame, predictor.classes)
            return compile_and_compare(subject, predictor, rows, put)
    except Exception as error:  # noqa: BLE001 - a turn does not fail for want of a graph
        text = " ".join(str(error).split())[:200].rstrip(".")
        return Compiled(None, f"not compiled: {type(error).__name__}: {text}")
