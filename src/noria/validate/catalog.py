"""The metrics Noria can compute row by row: names, tasks and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "MetricKind", "find_metric", "improvement", "metrics_for"]

_CLASSES = ("binary", "multiclass")


@dataclass(frozen=True, slots=True)
class MetricKind:
    """A metric by name.

    Attributes:
        better: ``higher``, ``lower``, or ``zero`` for one that is best at nought (bias).
        tasks: the tasks it fits.
    """

    name: str
    better: Literal["higher", "lower", "zero"]
    tasks: tuple[str, ...]


METRICS: dict[str, MetricKind] = {
    kind.name: kind
    for kind in (
        MetricKind("accuracy", "higher", _CLASSES),
        MetricKind("error_rate", "lower", _CLASSES),
        MetricKind("roc_auc", "higher", ("binary",)),
        MetricKind("average_precision", "higher", ("binary",)),
        MetricKind("log_loss", "lower", _CLASSES),
        MetricKind("brier", "lower", _CLASSES),
        MetricKind("f1", "higher", _CLASSES),
        MetricKind("precision", "higher", _CLASSES),
        MetricKind("recall", "higher", _CLASSES),
        MetricKind("mae", "lower", ("regression",)),
        MetricKind("rmse", "lower", ("regression",)),
        MetricKind("mape", "lower", ("regression",)),
        MetricKind("r2", "higher", ("regression",)),
        MetricKind("median_ae", "lower", ("regression",)),
        MetricKind("bias", "zero", ("regression",)),
    )
}


def find_metric(name: str) -> MetricKind | None:
    """The metric called ``name``, or None."""
    return METRICS.get(name)


def metrics_for(task: str) -> tuple[str, ...]:
    """Names of the metrics that fit ``task``."""
    return tuple(kind.name for kind in METRICS.values() if task in kind.tasks)


def improvement(name: str, challenger: float, champion: float) -> float:
    """How much better the challenger's value is; negative when it is worse."""
    better = METRICS[name].better
    if better == "higher":
        return challenger - champion
    if better == "lower":
        return champion - challenger
    return abs(champion) - abs(challenger)
