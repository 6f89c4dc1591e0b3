"""Bounded losses of rows whatever the task, and what they were on the rows a model was validated on.

Rows of one day share its weather and its holidays, so that a row is not a fair unit of evidence: a bad Christmas
would look like harm. The unit is a *block*, about a day of rows; what the detector is fed is how far a block's mean
loss lies above the level approved (see `noria.monitor.performance.excess`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.monitor.performance import binary_losses, excess, multiclass_losses, regression_losses

__all__ = ["Block", "fill_blocks", "loss_reference", "row_losses"]

Floats = NDArray[np.float64]

_FEWEST_ROWS = 100
_MOST_ROWS = 1000
_DAY = 86_400.0
_WEEK = 7  # blocks whose mean is taken together: what a reference says of the next week
ENOUGH_BLOCKS = 28
"""Blocks from which a model's own held-out rows say how its loss varies."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block being filled: rows so far, the sum of their losses, the time of the first (seconds since 1970)."""

    rows: int = 0
    total: float = 0.0
    first: float = 0.0


def fill_blocks(
    open_block: Block, losses: Floats, times: Floats, block_rows: int
) -> tuple[list[float], list[int], Block]:
    """Mean losses of the blocks that closed, the row (of ``losses``) each closed at, and the block left open.

    A block closes when it has ``block_rows`` rows, or holds 100 and a day has passed since its first: where traffic
    thins out, evidence must not wait for a day's usual rows. How rows are cut into calls makes no difference.
    """
    rows, total, first = open_block.rows, open_block.total, open_block.first
    means: list[float] = []
    ends: list[int] = []
    for place, (loss, moment) in enumerate(zip(losses.tolist(), times.tolist(), strict=True)):
        if rows == 0:
            first = moment
        rows, total = rows + 1, total + loss
        if rows >= block_rows or (rows >= _FEWEST_ROWS and moment - first >= _DAY):
            means.append(total / rows)
            ends.append(place)
            rows, total = 0, 0.0
    return means, ends, Block(rows, total, first)


def row_losses(
    task: str,
    classes: Sequence[Any],
    labels: Sequence[Any],
    values: NDArray[Any],
    probabilities: Floats | None,
    cap: float | None,
) -> Floats:
    """Bounded loss of each row, in [0, 1]: see `noria.monitor.performance`.

    Without probabilities the loss of a class is 0 when right and 1 when wrong.
    """
    if task == "regression":
        truth = np.asarray(labels, dtype=np.float64)
        return regression_losses(np.asarray(values, dtype=np.float64), truth, cap=cap or 1.0)
    if probabilities is None or not len(classes):
        return np.asarray([float(v != y) for v, y in zip(values.tolist(), labels, strict=True)])
    place = {value: index for index, value in enumerate(classes)}
    index = np.asarray([place.get(label, -1) for label in labels], dtype=np.int64)
    shares = np.clip(np.asarray(probabilities, dtype=np.float64), 0.0, 1.0)
    if task == "binary" and len(classes) == 2 and bool((index >= 0).all()):
        return binary_losses(shares[:, 1], index)
    return multiclass_losses(shares, index)


def block_rows_for(rows_per_day: float | None) -> int:
    """How many rows a block has: a day's, within limits."""
    return int(np.clip(rows_per_day or 0, _FEWEST_ROWS, _MOST_ROWS))


def loss_reference(
    losses: Floats,
    times: Floats,
    *,
    tolerance: float,
    rows_per_day: float | None,
    champion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What monitoring holds a model to.

    Args:
        losses: bounded losses of rows the model was not trained on, in order of time.
        times: their times, seconds since 1970 (any, when there is no time).
        tolerance: relative harm not worth an alarm.
        rows_per_day: how many rows a day has, None without a time.
        champion: the champion's reference. With fewer than 28 blocks of its own, as right after a change, a model is
            held to the champion's bound, and to no better a level than was approved before.

    Returns:
        ``mean`` loss; ``level``, the mean a block may have; ``bound``, the mean excess over it of a healthy week;
        ``block_rows``; ``blocks``, how many there were.
    """
    mean = float(losses.mean())
    doubt = float(losses.std()) / np.sqrt(losses.size)
    block_rows = block_rows_for(rows_per_day)
    means, _, _ = fill_blocks(Block(), losses, times, block_rows)
    if champion is not None and len(means) < ENOUGH_BLOCKS:
        level = max(float(champion["level"]), mean * (1 + tolerance))
        return {**champion, "mean": mean, "level": min(level, 1.0), "blocks": len(means)}
    level = float(np.clip((mean + 1.64 * doubt) * (1 + tolerance), 1e-6, 1.0))
    above = excess(np.asarray(means or [mean]), level=level)
    # Few blocks say little of how they vary: by chance alone a block's mean strays this far.
    chance = float(losses.std()) / np.sqrt(block_rows) / level
    weeks = [float(part.mean()) for part in np.array_split(above, max(1, above.size // _WEEK))]
    spread = float(np.std(weeks, ddof=1)) if len(weeks) > 1 else chance
    bound = float(np.mean(above)) + 1.64 * max(spread, 0.4 * chance) * np.sqrt(1 + 1 / len(weeks))
    return {
        "mean": mean,
        "level": level,
        "bound": float(np.clip(bound, 0.02, 0.9)),
        "block_rows": block_rows,
        "blocks": len(means),
    }
