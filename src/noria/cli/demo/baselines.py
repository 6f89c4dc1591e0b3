"""What the same stream costs without Noria: a model left alone, and one retrained every month."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.cli.demo.stream import months
from noria.loop.build import load_model
from noria.loop.calling import call, compute_features, knobs_of
from noria.loop.steps import Declaration
from noria.loop.wire import order_features
from noria.store.ports import Store

__all__ = ["left_alone", "monthly"]

Floats = NDArray[np.float64]


def left_alone(store: Store, loop: Declaration, bundle: str, stream: pl.DataFrame) -> Floats:
    """Predictions of the first model for the whole stream."""
    model: Any = load_model(store, bundle)
    features = compute_features(loop, order_features(loop), stream.drop("minutes"), {})
    return np.asarray(model.predict(features), dtype=np.float64)


def monthly(
    loop: Declaration,
    history: pl.DataFrame,
    stream: pl.DataFrame,
    first: Floats,
    start: datetime,
    stop: datetime,
    progress: Callable[[str], None],
) -> tuple[Floats, int]:
    """Predictions with a model trained anew at the start of each month on every trip that had ended by then.

    The same train function as Noria's, on all rows, put into service at once; the first month is served by the
    first model.

    Returns:
        The predictions and the number of retrainings.
    """
    train = loop.step("train")
    assert train is not None
    order = order_features(loop)
    rows = pl.concat([history, stream], how="vertical_relaxed")
    features = compute_features(loop, order, rows.drop("minutes"), {})
    picked = rows["pickup_at"].dt.replace_time_zone("UTC")
    ended = rows.select(pl.col("pickup_at").dt.replace_time_zone("UTC") + pl.duration(
        microseconds=(pl.col("minutes") * 6e7).cast(pl.Int64)
    )).to_series()  # fmt: skip
    predictions = np.concatenate([np.full(history.height, np.nan), first])
    starts = months(start, stop)[1:]
    for place, month in enumerate(starts):
        progress(f"retraining for {month:%Y-%m}")
        known = ended < month
        until = starts[place + 1] if place + 1 < len(starts) else stop
        mine = (picked >= month) & (picked < until)
        model = call(train, features.filter(known), rows.filter(known)["minutes"], **knobs_of(train, {}))
        predictions[mine.to_numpy()] = model.predict(features.filter(mine))
    return predictions[history.height :], len(starts)
