"""The train step at earlier points in time, judged on the rows that followed: how the error varies with the season."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.core.plugins import load_plugin
from noria.flavors import flavor_for
from noria.frames.digest import frame_digest
from noria.loop.calling import call, hand_over, hints, knobs_of
from noria.loop.scoring import scores
from noria.train.identity import code_identity

if TYPE_CHECKING:
    import polars as pl

    from noria.loop.build import Work

__all__ = ["Judged", "backtest"]

_LONGEST = timedelta(days=91)  # a season


@dataclass(frozen=True, slots=True)
class Judged:
    """Raw rows with predictions of a model that was not trained on them."""

    rows: pl.DataFrame
    values: NDArray[Any]
    probabilities: NDArray[np.float64] | None


def backtest(work: Work, origins: int) -> list[Judged]:
    """Predictions of the ``origins`` spans before the held-out rows, each by a model trained on what came before it.

    Spans are equal, at most 91 days, and together at most half of the training time. Without a time there are none.
    Fits are cached steps, so that the same data cost nothing the next time.
    """
    import polars as pl

    name = work.source.time
    if name is None:
        return []
    times = work.sides.train[name].cast(pl.Datetime("us"))
    first, last = times.min(), times.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    span = min(_LONGEST, (last - first) / (2 * origins))
    found = []
    for place in range(origins, 0, -1):
        start = last - place * span
        before, after = times <= start, (times > start) & (times <= start + span)
        if before.sum() < 2 or not after.any():
            continue
        found.append(_judge(work, f"backtest {origins - place + 1}", before, after))
    return found


def _judge(work: Work, name: str, before: pl.Series, after: pl.Series) -> Judged:
    step = work.loop.step("train")
    assert step is not None
    _, sides = work.features(lambda _: None)
    raw = work.sides.train
    identity, knobs = code_identity(step.function), knobs_of(step, work.params)
    inputs = {"rows before": frame_digest(raw.filter(before)), "rows after": frame_digest(raw.filter(after)),
              "x": frame_digest(sides().train)}  # fmt: skip

    def compute() -> dict[str, Any]:
        annotations = hints(step)
        x = sides().train
        given = {
            "data": raw.filter(before),
            "x_train": x.filter(before),
            "y_train": raw.filter(before)[work.label],
        }
        arguments = [hand_over(given[i.name], annotations.get(i.name), work.kind) for i in step.inputs]
        flavor, module = flavor_for(model := call(step, *arguments, **knobs))
        predictor = load_plugin("flavor", flavor).load(module.save(model))
        kind = "ndarray" if "ndarray" in str(annotations.get("x_train")) else work.x_kind
        values, shares, _, _ = scores(predictor, x.filter(after), kind)
        return {"blob": work.store.blobs.put(msgspec.json.encode([values, shares]))}

    kept = work.cache.run(name, identity, inputs, knobs, compute)
    values, shares = msgspec.json.decode(work.store.blobs.get(kept["blob"]))
    return Judged(raw.filter(after), np.asarray(values), None if shares is None else np.asarray(shares))
