"""Whether a graph answers as its model does: on real rows, on rows with gaps and on rows far outside."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noria.flavors.compile import COMPARED, spread
from noria.flavors.compile.rows import as_feed, as_frame, extremes, strange, without

if TYPE_CHECKING:
    import polars as pl

    from noria.flavors import Predictor

__all__ = ["Answers", "Both", "Differs", "Findings", "compare", "microseconds"]

PIECE = 64
"""Rows a call."""
_MOST_PROBES = 4_000


class Differs(Exception):
    """The graph does not answer as the model; says where.

    Attributes:
        labels: whether only the predicted labels differ, not the probabilities.
    """

    def __init__(self, message: str, *, labels: bool = False) -> None:
        self.labels = labels
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to rows; a row that was refused has ``answered`` false."""

    values: NDArray[Any]
    shares: NDArray[np.float64] | None
    answered: NDArray[np.bool_]


@dataclass(slots=True)
class Both:
    """A model and its graph, asked the same.

    Attributes:
        predictor: the model.
        run: the graph: feed to outputs by name.
        frame: kind of frame the model is handed.
        texts: which features are texts.
        matrix: whether the graph takes one matrix.
        classes: class labels; empty for a regression.
    """

    predictor: Predictor
    run: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]
    frame: str
    texts: list[bool]
    matrix: bool
    classes: tuple[Any, ...]
    failures: int = 0

    def ask_model(self, rows: pl.DataFrame) -> Answers:
        """The model's own answers; rows that it refuses are found by halving."""
        try:
            x = as_frame(rows, self.frame)
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                values = np.asarray(self.predictor.predict(x))
                shares = self.predictor.probabilities(x)
        except Exception:  # noqa: BLE001 - a model may refuse a row with any error
            self.failures += 1
            if rows.height == 1:
                return Answers(np.array([None], dtype=object), None, np.array([False]))
            half = rows.height // 2
            return _joined(self.ask_model(rows[:half]), self.ask_model(rows[half:]))
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        return Answers(values, shares, _is_finite(values, shares))

    def ask_graph(self, rows: pl.DataFrame) -> Answers:
        """The graph's answers, in calls of a few rows."""
        found = None
        for start in range(0, rows.height, PIECE):
            part = self._piece(as_feed(rows[start : start + PIECE], self.texts, matrix=self.matrix))
            found = part if found is None else _joined(found, part)
        assert found is not None
        return found

    def _piece(self, feed: dict[str, NDArray[Any]]) -> Answers:
        height = len(next(iter(feed.values())))
        try:
            made = self.run(feed)
        except Exception:  # noqa: BLE001 - as above
            if height == 1:
                return Answers(np.array([None], dtype=object), None, np.array([False]))
            half = height // 2
            low = self._piece({name: values[:half] for name, values in feed.items()})
            return _joined(low, self._piece({name: values[half:] for name, values in feed.items()}))
        shares = made.get("probabilities")
        if "prediction" in made:
            values = made["prediction"]
        else:
            assert shares is not None
            labels = np.empty(len(self.classes), dtype=object)
            labels[:] = self.classes
            values = labels[shares.argmax(axis=1)]
        return Answers(values, shares, _is_finite(values, shares))


def _is_finite(values: NDArray[Any], shares: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    fine = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), dtype=bool)
    return fine if shares is None else fine & np.isfinite(shares).all(axis=1)


def _joined(one: Answers, other: Answers) -> Answers:
    shares = None
    if one.shares is not None or other.shares is not None:
        parts = []
        width = next(part.shares.shape[1] for part in (one, other) if part.shares is not None)
        for part in (one, other):
            parts.append(np.full((len(part.values), width), np.nan) if part.shares is None else part.shares)
        shares = np.concatenate(parts)
    if one.values.dtype.kind == other.values.dtype.kind:
        values = np.concatenate([one.values, other.values])
    else:
        values = np.array([*one.values.tolist(), *other.values.tolist()], dtype=object)
    return Answers(values, shares, np.concatenate([one.answered, other.answered]))


@dataclass(slots=True)
class Findings:
    """What a comparison found.

    Attributes:
        rows: rows compared.
        largest: largest difference.
        nulls: features that may be missing.
        clean: some of the rows, none with a gap.
    """

    clean: pl.DataFrame
    rows: int = 0
    largest: float = 0.0
    nulls: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Judge:
    both: Both
    tolerance: float
    found: Findings
    scale: float = 0.0

    def same(self, rows: pl.DataFrame, what: str, *, gaps: bool = False) -> NDArray[np.bool_]:
        """Hold the graph to the model's answers to some rows; returns which rows the model answered.

        Args:
            rows: what is asked.
            what: how a person would name these rows.
            gaps: whether rows that only the graph answers are fine: they will be refused before it is asked.
        """
        model, graph = self.both.ask_model(rows), self.both.ask_graph(rows)
        wrong = model.answered & ~graph.answered if gaps else model.answered != graph.answered
        if wrong.any():
            who = "only the model" if model.answered[wrong.argmax()] else "only the graph"
            raise Differs(f"{who} answers {what}{self._place(rows, wrong)}")
        self._close(model, graph, rows, what)
        self.found.rows += int(model.answered.sum())
        return model.answered

    def _close(self, model: Answers, graph: Answers, rows: pl.DataFrame, what: str) -> None:
        fine = model.answered & graph.answered
        if not fine.any():
            return
        apart = np.zeros(len(fine))
        if (model.shares is None) != (graph.shares is None):
            raise Differs("only one of the two gives probabilities")
        if model.shares is not None and graph.shares is not None:
            if model.shares.shape != graph.shares.shape:
                raise Differs("the graph gives probabilities of other classes")
            apart[fine] = np.abs(model.shares[fine] - graph.shares[fine]).max(axis=1)
        numbers = not self.both.classes
        if numbers:
            if model.values.dtype.kind != "f" and not all(isinstance(one, float) for one in model.values[fine]):
                raise Differs("the model predicts labels, the graph numbers")
            expected, given = model.values[fine].astype(float), graph.values[fine].astype(float)
            self.scale = self.scale or float(np.sqrt(np.mean(np.square(expected)))) or 1.0
            apart[fine] = np.abs(expected - given) / np.maximum(np.abs(expected), self.scale)
        if (apart > self.tolerance).any():
            place = self._place(rows, apart > self.tolerance)
            raise Differs(f"the graph differs by {apart.max():.1e} on {what}{place}; {self.tolerance:.0e} is allowed")
        self.found.largest = max(self.found.largest, float(apart.max()))
        if not numbers:
            other = fine.copy()
            other[fine] = [one != two for one, two in zip(model.values[fine], graph.values[fine], strict=True)]
            if other.any():
                raise Differs(f"the graph predicts other labels on {what}{self._place(rows, other)}", labels=True)

    @staticmethod
    def _place(rows: pl.DataFrame, wrong: NDArray[np.bool_]) -> str:
        count = int(wrong.sum())
        return f" ({count} of {rows.height} such)" if rows.height > 1 else ""


def compare(both: Both, rows: pl.DataFrame, tolerance: float) -> Findings:
    """Hold a graph to its model's answers.

    Raises:
        Differs: it answers otherwise anywhere; says where.
    """
    real = spread(rows, COMPARED)
    clean = _filled(spread(real, PIECE), real)
    judge = _Judge(both, tolerance, Findings(clean))
    whole = spread(clean, max(1, min(8, _MOST_PROBES // rows.width)))
    gaps = {name: real[name].is_null().to_numpy() for name in rows.columns}
    _nulls(judge, whole)
    refused = np.zeros(real.height, dtype=bool)
    for name, missing in gaps.items():
        if name not in judge.found.nulls:
            refused |= missing
    kept = real.filter(~refused)
    judge.found.rows, judge.scale = 0, 0.0
    if kept.is_empty() or not judge.same(kept, "real rows").any():
        raise Differs("there is no row that the model answers")
    answered = judge.found.rows
    judge.same(extremes(kept), "rows of extreme values")
    for name, text in zip(rows.columns, both.texts, strict=True):
        if text and (odd := strange(whole, name)).height:
            judge.same(odd, f"texts never seen in {name!r}")
    judge.found.rows = answered
    return judge.found


def _filled(few: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without gaps: those with one take the column's first known value."""
    columns = []
    for name in few.columns:
        known = rows[name].drop_nulls()
        columns.append(few[name].fill_null(known[0]) if len(known) else few[name])
    return few.select(columns)


def _nulls(judge: _Judge, whole: pl.DataFrame) -> None:
    """Find out which features may be missing: all at once where that goes, else by halves."""
    import polars as pl

    judge.same(whole, "real rows")

    def look(names: list[str]) -> None:
        rows = pl.concat([without(whole, name) for name in names])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                judge.both.predictor.predict(as_frame(rows, judge.both.frame))
        except Exception:  # noqa: BLE001 - which of them does it refuse?
            judge.both.failures += 1
            if len(names) > 1 and judge.both.failures < 500:
                look(names[: len(names) // 2])
                look(names[len(names) // 2 :])
            return
        what = f"rows without {names[0]!r}" if len(names) == 1 else "rows with a value missing"
        answered = judge.same(rows, what, gaps=True).reshape(len(names), -1)
        for name, those in zip(names, answered, strict=True):
            if those.all():
                judge.found.nulls.append(name)
            elif those.any():
                raise Differs(f"the model answers only some rows without {name!r}")

    look(whole.columns)


def microseconds(call: Callable[[], object], rows: int) -> float:
    """Microseconds a row, the median of some calls."""
    call()
    times: list[float] = []
    end = time.perf_counter() + 0.02
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 200):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e6 / rows
