"""Predictions and labels since the last look -> windows for the timeline, and alerts.

Drift of the inputs is evidence and raises a warning. Harm, the realised loss above what the model was validated
with, raises the alarm, by an e-detector that may be looked at all the time (see `noria.monitor.e_detector`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from noria.core.units import parse_duration
from noria.frames.parquet import cast_records
from noria.frames.profile import count_into
from noria.monitor.drift import compare, merge, watched
from noria.monitor.e_detector import EDetector, start_detector
from noria.monitor.losses import Block, fill_blocks, row_losses
from noria.monitor.performance import excess
from noria.monitor.rules import Drift, Performance
from noria.records import Alert, BundleManifest, Profile
from noria.store.ports import LabelledPrediction, MonitorState, Prediction, PredictionLog, Window

__all__ = ["Observation", "watch_drift", "watch_harm", "watch_windows"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 20_000
_FEWEST = 30  # rows of a window under which its numbers are not worth showing
_TO_FALSE_ALARM = 20  # periods between reviews to a false alarm, on average, at least
_FEWEST_BLOCKS = 5.0  # a period counts as this many blocks at least

Measure = Callable[[str, list[LabelledPrediction]], tuple[float, float, float, float | None]]
"""Metric name and labelled predictions -> value, low, high, bias."""


class Observation(msgspec.Struct):
    """What one look gave: the state to take up from next time, windows closed, alerts raised."""

    state: MonitorState
    windows: list[Window]
    alerts: list[Alert]


def window_start(moment: datetime, length: timedelta) -> datetime:
    """The start of the window a moment falls in; windows are counted from 1970."""
    return _EPOCH + ((moment - _EPOCH) // length) * length


def _id(*parts: object) -> str:
    """The same window or alert gets the same id however often it is computed."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def watch_windows(
    log: PredictionLog,
    loop: str,
    state: MonitorState,
    policy: Performance,
    delay: timedelta,
    now: datetime,
    measure: Measure,
    baseline: float | None,
) -> Observation:
    """Performance windows of a loop, whichever version answered, each closed once its labels are due.

    Args:
        log: predictions and labels.
        loop: the loop's name.
        policy: window and metric.
        now: the present.
        state: its ``state["next"]`` is the start of the next window (ISO text).
        delay: how long after a prediction its label is known.
        measure: computes the metric with its interval.
        baseline: the metric when the champion was validated.
    """
    length = parse_duration(policy.window)
    following = datetime.fromisoformat(state.state.get("next") or window_start(state.since, length).isoformat())
    windows: list[Window] = []
    if following + length + delay > now:
        return Observation(state, windows, [])
    rows = log.labelled(loop, since=following, limit=None)
    latest = {one.prediction.id: one for one in rows}  # a corrected label replaces the earlier one
    while following + length + delay <= now:
        inside = [one for one in latest.values() if following <= one.prediction.at < following + length]
        if len(inside) >= _FEWEST:
            value, low, high, bias = measure(policy.metric, inside)
            facts: dict[str, Any] = {"metric": policy.metric, "value": value, "low": low, "high": high,
                                     "bias": bias, "rows": len(inside), "estimated": False,
                                     "baseline": baseline, "floor": policy.floor}  # fmt: skip
            windows.append(
                Window(
                    _id(loop, "performance", following),
                    loop,
                    inside[-1].prediction.version,
                    "performance",
                    following,
                    following + length,
                    len(inside),
                    facts,
                )
            )
        following += length
    return Observation(msgspec.structs.replace(state, state={"next": following.isoformat()}), windows, [])


def watch_harm(
    log: PredictionLog,
    manifest: BundleManifest,
    version: int,
    state: MonitorState,
    policy: Performance,
    now: datetime,
) -> Observation:
    """The e-detector of one version's realised loss, fed with the labels that came since the last look."""
    reference = manifest.reference["loss"]
    kept = dict(state.state)
    detector = _detector(kept.get("detector"), manifest, policy)
    alerts: list[Alert] = []
    while rows := log.labelled(manifest.loop, after=kept.get("cursor", 0), version=version, limit=_BATCH):
        kept["cursor"] = rows[-1].label_sequence
        rows.sort(key=lambda one: one.prediction.at)
        moments = [one.prediction.at for one in rows]
        times = np.asarray([moment.timestamp() for moment in moments])
        block = msgspec.convert(kept.get("block") or {}, Block)
        means, ends, block = fill_blocks(block, _losses(manifest, rows), times, int(reference["block_rows"]))
        kept["block"] = msgspec.to_builtins(block)
        # The time and mean of each block, from the first the detector has seen.
        blocks = [
            *kept.get("blocks", []),
            *([moments[e].isoformat(), m] for m, e in zip(means, ends, strict=True)),
        ]
        was = detector.alarmed
        detector = detector.update(excess(np.asarray(means), level=float(reference["level"])))
        if detector.alarmed and not was:
            kept["alarmed"] = now.isoformat()
            alerts.append(_alarm(manifest, version, detector, blocks, now))
        kept["blocks"] = blocks
    raised = kept.get("alarmed")
    if raised and now - datetime.fromisoformat(raised) >= parse_duration(policy.reviews):
        detector, kept["alarmed"], kept["blocks"] = _detector(None, manifest, policy), None, []
    kept["detector"] = msgspec.to_builtins(detector)
    return Observation(msgspec.structs.replace(state, state=kept), [], alerts)


def _alarm(
    manifest: BundleManifest,
    version: int,
    detector: EDetector,
    blocks: Sequence[Sequence[Any]],
    now: datetime,
) -> Alert:
    reference = manifest.reference["loss"]
    begun = min(detector.alarm_since or 0, len(blocks) - 1)
    # A block is dated by its last row: the change began after the block before it ended.
    since = datetime.fromisoformat(blocks[max(begun - 1, 0)][0])
    recent = float(np.mean([mean for _, mean in blocks[begun:]]))
    cap = manifest.reference.get("cap")
    unit = f" (mean error about {recent * cap:.3g}, was {reference['mean'] * cap:.3g})" if cap else ""
    return Alert(
        id=_id(manifest.loop, version, "performance", now.isoformat()),
        loop=manifest.loop,
        version=version,
        at=now,
        kind="performance",
        severity="alarm",
        sentence=(
            f"Version {version} does worse than when it was validated: its loss is {recent:.3f} since "
            f"{since:%Y-%m-%d}{unit}; up to {reference['level']:.3f} was approved."
        ),
        since=since,
        facts={
            "loss": recent,
            "reference": dict(reference),
            "limit": detector.limit,
            "blocks": detector.seen,
        },
    )


def _detector(kept: Any, manifest: BundleManifest, policy: Performance) -> EDetector:
    if kept:
        return msgspec.convert(kept, EDetector)
    reference = manifest.reference["loss"]
    days = parse_duration(policy.reviews).total_seconds() / 86_400
    between = (manifest.reference.get("rows_per_day") or 0) * days / reference["block_rows"]
    return start_detector(bound=float(reference["bound"]), limit=_TO_FALSE_ALARM * max(between, _FEWEST_BLOCKS))


def _losses(manifest: BundleManifest, rows: Sequence[LabelledPrediction]) -> np.ndarray[Any, np.dtype[np.float64]]:
    signature = manifest.signature
    probabilities = [one.prediction.probabilities for one in rows]
    shares = np.asarray(probabilities) if all(p is not None for p in probabilities) else None
    values = np.asarray([one.prediction.value for one in rows])
    labels = [one.value for one in rows]
    return row_losses(signature.task, signature.classes, labels, values, shares, manifest.reference.get("cap"))


def watch_drift(
    log: PredictionLog,
    manifest: BundleManifest,
    version: int,
    state: MonitorState,
    policy: Drift,
    now: datetime,
) -> Observation:
    """Windows of one version's inputs against its reference profile."""
    length = parse_duration(policy.window)
    kept = dict(state.state)
    windows: list[Window] = []
    profile, signature = manifest.profile, manifest.signature
    used = {field.name for field in signature.inputs if field.required}
    names = watched(profile, policy.columns, signature.key, used)
    start = datetime.fromisoformat(kept.get("start") or window_start(state.since, length).isoformat())

    def close() -> None:
        nonlocal start
        counts = kept.get("counts") or {}
        rows = kept.get("rows", 0)
        if rows >= _FEWEST:
            facts = {
                "columns": compare(profile, counts, names, policy.min_effect),
                "counts": {name: counts[name] for name in names if name in counts},
            }
            windows.append(
                Window(
                    _id(manifest.loop, version, "drift", start),
                    manifest.loop,
                    version,
                    "drift",
                    start,
                    start + length,
                    rows,
                    facts,
                )
            )
        kept["counts"], kept["rows"] = {}, 0
        start += length

    while batch := log.predictions(manifest.loop, after=kept.get("drift_cursor", 0), version=version, limit=_BATCH):
        kept["drift_cursor"] = batch[-1][0]
        rows = [prediction for _, prediction in batch]
        while rows:
            inside = [one for one in rows if one.at < start + length]
            if inside:
                kept["counts"] = merge(kept.get("counts") or {}, _count(profile, manifest, inside))
                kept["rows"] = kept.get("rows", 0) + len(inside)
            rows = [one for one in rows if one.at >= start + length]
            if rows:
                close()
    while start + length <= now:
        close()
    kept["start"] = start.isoformat()
    warned = set(kept.get("warned") or ())
    # A window the version came into half-way holds some hours of the week only: shown, but no ground for a warning.
    whole = [window for window in windows if window.start >= state.since]
    alerts = [alert for window in whole if (alert := _warning(manifest, version, window, warned))]
    kept["warned"] = sorted(warned)
    return Observation(msgspec.structs.replace(state, state=kept), windows, alerts)


def _count(profile: Profile, manifest: BundleManifest, rows: Sequence[Prediction]) -> Any:
    import polars as pl

    inputs = [msgspec.structs.replace(field, required=False) for field in manifest.signature.inputs]
    extra = {name for row in rows[:100] for name in row.record}
    frame = cast_records([row.record for row in rows], inputs, extra=extra)
    output = pl.Series("prediction", [row.value for row in rows], strict=False)
    return count_into(profile, frame.with_columns(output))


def _warning(manifest: BundleManifest, version: int, window: Window, warned: set[str]) -> Alert | None:
    """A warning for columns that drifted and were not warned of before."""
    moved = {n: facts for n, facts in window.facts["columns"].items() if facts["drifted"] and n not in warned}
    if not moved:
        return None
    warned |= set(moved)
    listed = "; ".join(f"{name}: {', '.join(facts['reasons'])}" for name, facts in moved.items())
    return Alert(
        id=_id(manifest.loop, version, "drift alert", window.start),
        loop=manifest.loop,
        version=version,
        at=window.end,
        kind="drift",
        severity="warning",
        sentence=f"Inputs moved since version {version} was trained: {listed}.",
        since=window.start,
        facts={"columns": sorted(moved), "window": window.id},
    )
