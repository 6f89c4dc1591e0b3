"""What a model was like when it was validated: the signature, the profile and the loss serving is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.core.policy import Policy
from noria.errors import StepError
from noria.frames.parquet import schema_of
from noria.frames.profile import profile_frame
from noria.loop.calling import compute_features
from noria.loop.wire import order_features
from noria.monitor.losses import loss_reference, row_losses
from noria.monitor.performance import error_cap
from noria.records import Field, Profile

if TYPE_CHECKING:
    import polars as pl

    from noria.loop.build import Work

__all__ = ["as_records", "reference_of", "signature_fields"]

_SAMPLE = 20


def as_records(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as the plain JSON records a client would send."""
    found: list[dict[str, Any]] = msgspec.to_builtins(rows.to_dicts())
    return found


def signature_fields(work: Work, features: Sequence[str]) -> tuple[tuple[Field, ...], list[dict[str, Any]]]:
    """The fields of a request, and a sample of records (the first held-out rows, as a client would send them)."""
    rows = work.sides.test.drop(work.label)
    needed = _needed(work, rows.head(_SAMPLE), set(features))
    train = work.sides.train
    fields = []
    for name, kind in schema_of(rows):
        column = train[name]
        seen = column.drop_nulls().head(1).to_list()
        example = msgspec.to_builtins(seen[0]) if seen else None
        fields.append(Field(name, kind, name in needed, column.null_count() > 0, example))
    return tuple(fields), as_records(rows.head(_SAMPLE))


def _needed(work: Work, rows: pl.DataFrame, features: set[str]) -> set[str]:
    """Columns the feature functions use: those they cannot do without, or whose absence changes the outcome."""
    order = order_features(work.loop)
    if not order:
        return features
    whole = compute_features(work.loop, order, rows, work.params)
    needed = set()
    for name in rows.columns:
        try:
            if not compute_features(work.loop, order, rows.drop(name), work.params).equals(whole):
                needed.add(name)
        except StepError:
            needed.add(name)
    return needed


def reference_of(
    work: Work,
    task: str,
    classes: Sequence[Any],
    values: NDArray[Any],
    probabilities: NDArray[np.float64] | None,
    metrics: Mapping[str, float],
    usual_spread: float,
) -> tuple[dict[str, Any], Profile]:
    """Losses on the held-out rows with the bound monitoring holds them to, and the profile of what went in and out.

    Args:
        usual_spread: how much the champion's mean loss varies between blocks: known from more rows than a
            challenger trained right after a change has held out.
    """
    import polars as pl

    source = work.source
    test = work.sides.test
    labels = test[work.label].to_list()
    cap = None
    if task == "regression":
        cap = error_cap(np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.float64))
    losses = row_losses(task, classes, labels, values, probabilities, cap)
    if source.time is not None:
        losses = losses[test[source.time].arg_sort().to_numpy()]
    tolerance = next(
        (float(p.tolerance) for p in work.loop.monitor if isinstance(p, Policy) and hasattr(p, "tolerance")), 0.05
    )
    reference: dict[str, Any] = {
        "task": task,
        "metrics": dict(metrics),
        "rows": test.height,
        "cap": cap,
        "loss": loss_reference(losses, tolerance, usual_spread),
        "rows_per_day": _rows_per_day(work),
    }
    inputs = work.sides.train.drop(work.label)
    profile = profile_frame(inputs, time=source.time)
    output = profile_frame(pl.DataFrame({"prediction": values.tolist()}))
    return reference, Profile(rows=profile.rows, columns=(*profile.columns, *output.columns))


def _rows_per_day(work: Work) -> float | None:
    """How many rows a day the data hold; None without a time."""
    time = work.source.time
    if time is None:
        return None
    times = work.sides.test[time]
    span = times.max() - times.min()  # type: ignore[operator]  # of times
    days = span.total_seconds() / 86_400
    return work.sides.test.height / days if days > 0 else None
