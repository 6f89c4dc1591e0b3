"""What a model was like when it was validated: the signature, the profile and the loss serving is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.errors import StepError
from noria.frames.parquet import schema_of
from noria.frames.profile import profile_frame
from noria.loop.backtest import Judged, backtest
from noria.loop.calling import compute_features
from noria.loop.wire import order_features
from noria.monitor.losses import ENOUGH_BLOCKS, block_rows_for, loss_reference, row_losses
from noria.monitor.performance import error_cap
from noria.monitor.rules import Performance
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
    champion: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], Profile]:
    """Losses on rows not trained on with the level monitoring holds them to, and the profile of what went in and out.

    Args:
        work: the training at hand.
        task: the task.
        classes: class labels in the order of the probabilities.
        values: predictions of the held-out rows.
        probabilities: their class probabilities, if any.
        metrics: what evaluate returned.
        champion: the champion's reference, None without one.
    """
    import polars as pl

    performance = next((p for p in work.loop.monitor if isinstance(p, Performance)), Performance("loss"))
    test = Judged(work.sides.test, values, probabilities)
    rows_per_day = _rows_per_day(work)
    few = test.rows.height < ENOUGH_BLOCKS * block_rows_for(rows_per_day)
    kept = champion if few else None
    judged = [test]
    if few and champion is None and performance.backtest:
        judged = [*backtest(work, performance.backtest), test]
    cap = _cap(work, task, judged, kept)
    losses, times = _losses(work, task, classes, judged, cap)
    loss = loss_reference(
        losses,
        times,
        tolerance=performance.tolerance,
        rows_per_day=rows_per_day,
        champion=kept["loss"] if kept else None,
    )
    reference: dict[str, Any] = {
        "task": task,
        "metrics": dict(metrics),
        "rows": int(losses.size),
        "cap": cap,
        "loss": loss,
        "rows_per_day": kept["rows_per_day"] if kept else rows_per_day,
    }
    inputs = work.sides.train.drop(work.label)
    profile = profile_frame(inputs, time=work.source.time)
    spread = [value for one in judged for value in one.values.tolist()]
    output = profile_frame(pl.DataFrame({"prediction": spread}))
    return reference, Profile(rows=profile.rows, columns=(*profile.columns, *output.columns))


def _cap(work: Work, task: str, judged: Sequence[Judged], champion: Mapping[str, Any] | None) -> float | None:
    """The error that counts as 1: the champion's, so that losses compare; else what 1 row in 100 exceeds."""
    if task != "regression":
        return None
    if champion is not None and champion.get("cap"):
        return float(champion["cap"])
    predicted = np.concatenate([np.asarray(one.values, dtype=np.float64) for one in judged])
    truth = np.concatenate([one.rows[work.label].cast(float).to_numpy() for one in judged])
    return error_cap(predicted, truth)


def _losses(
    work: Work, task: str, classes: Sequence[Any], judged: Sequence[Judged], cap: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses and times (seconds since 1970) of all judged rows, in order of time."""
    losses, times = [], []
    for one in judged:
        labels = one.rows[work.label].to_list()
        losses.append(row_losses(task, classes, labels, one.values, one.probabilities, cap))
        if work.source.time is None:
            times.append(np.zeros(one.rows.height))
        else:
            times.append(one.rows[work.source.time].dt.epoch("us").to_numpy() / 1e6)
    together, moments = np.concatenate(losses), np.concatenate(times)
    order = np.argsort(moments, kind="stable")
    return together[order], moments[order]


def _rows_per_day(work: Work) -> float | None:
    """How many rows a day the data hold; None without a time."""
    time = work.source.time
    if time is None:
        return None
    times = work.sides.test[time].dt.epoch("us").to_numpy()
    days = float(times.max() - times.min()) / 86_400e6
    return work.sides.test.height / days if days > 0 else None
