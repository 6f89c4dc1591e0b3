"""Compiling, comparing and timing, with ONNX and ONNX Runtime at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnxruntime
from numpy.typing import NDArray

from noria.flavors.compile.compare import PIECE, Both, Differs, Findings, compare, microseconds
from noria.flavors.compile.convert import Subject, convert
from noria.flavors.compile.divide import divide
from noria.flavors.compile.graph import NotCompiled
from noria.flavors.compile.rows import as_feed
from noria.records import Compiled

if TYPE_CHECKING:
    import polars as pl

    from noria.flavors import Predictor

__all__ = ["compile_and_compare"]


def compile_and_compare(
    subject: Subject, predictor: Predictor, rows: pl.DataFrame, put: Callable[[bytes], str]
) -> Compiled:
    """See `noria.flavors.compile.compile_model`; may raise anything."""
    from polars import selectors

    tolerance = subject.tolerance
    try:
        rows = rows.select(subject.names).with_columns(selectors.float().fill_nan(None))
        graph, both, found = _first_equal(subject, predictor, rows)
    except NotCompiled as error:
        return Compiled(None, f"not compiled: {error}")
    except Differs as error:
        return Compiled(None, f"not used: {error}", tolerance=tolerance)
    trees = divide(graph)
    return Compiled(
        graph=put(graph),
        trees=None if trees is None else put(trees),
        reason=f"equal on {found.rows:,} rows; largest difference {found.largest:.0e}",
        rows=found.rows,
        largest=found.largest,
        tolerance=tolerance,
        matrix=subject.is_matrix,
        nulls=tuple(name for name in subject.names if name in found.nulls),
        **_times(both, found.clean),
    )


def _first_equal(subject: Subject, predictor: Predictor, rows: pl.DataFrame) -> tuple[bytes, Both, Findings]:
    """The first way of compiling it that gives the model's answers."""
    first: Differs | None = None
    for label in (False, True):
        graph = convert(subject, label=label)
        both = Both(predictor, _runner(graph), subject.frame, subject.texts, subject.is_matrix, subject.classes or ())
        try:
            return graph, both, compare(both, rows, subject.tolerance)
        except Differs as error:
            first = first or error
            if not error.labels:
                break
    assert first is not None
    raise first


def _runner(graph: bytes) -> Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it cannot run comes as an exception
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise NotCompiled(f"ONNX Runtime cannot read the graph: {text}") from error
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def _times(both: Both, rows: pl.DataFrame) -> dict[str, float]:
    """Microseconds a row, of the graph and of the model, for one row alone and for many together."""
    found = {}
    for end, part in (("row_us", rows[:1]), ("batch_row_us", rows[:PIECE])):
        feed = as_feed(part, both.texts, matrix=both.matrix)
        found[end] = round(microseconds(lambda feed=feed: both.run(feed), part.height), 2)  # type: ignore[misc]
        took = microseconds(lambda part=part: both.ask_model(part), part.height)  # type: ignore[misc]
        found[f"original_{end}"] = round(took, 2)
    return found
