"""Bounded losses of rows whatever the task, and what they were on the rows a model was validated on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.monitor.e_detector import reference_bound
from noria.monitor.performance import binary_losses, multiclass_losses, regression_losses

__all__ = ["loss_reference", "row_losses"]

_BLOCK_ROWS = 100
_BLOCKS = 12


def row_losses(
    task: str,
    classes: Sequence[Any],
    labels: Sequence[Any],
    values: NDArray[Any],
    probabilities: NDArray[np.float64] | None,
    cap: float | None,
) -> NDArray[np.float64]:
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
    if task == "binary" and len(classes) == 2 and (index >= 0).all():
        return binary_losses(shares[:, 1], index)
    return multiclass_losses(shares, index)


def loss_reference(losses: NDArray[np.float64], tolerance: float, usual_spread: float = 0.0) -> dict[str, Any]:
    """What monitoring holds a model to, from its held-out losses in order of time.

    Args:
        losses: bounded losses.
        tolerance: relative harm not worth an alarm.
        usual_spread: spread of the mean between blocks as known from an earlier model; 0 if unknown.

    Returns:
        ``mean`` of the losses, their ``bound`` (see `reference_bound`), the ``spread`` between ``blocks``.
    """
    blocks = int(np.clip(losses.size // _BLOCK_ROWS, 1, _BLOCKS))
    means = np.asarray([part.mean() for part in np.array_split(losses, blocks)])
    own = float(means.std(ddof=1)) if blocks > 1 else 0.0
    # Few rows say little of how far a mean strays: at least as far as independent rows would.
    by_chance = float(losses.std() / np.sqrt(max(1, losses.size / blocks)))
    spread = max(own, usual_spread, by_chance, 1e-9)
    bound = reference_bound(means, tolerance=tolerance, usual_spread=spread)
    return {"mean": float(losses.mean()), "bound": bound, "spread": spread, "blocks": blocks}
