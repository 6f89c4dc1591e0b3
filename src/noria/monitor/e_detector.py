"""Is the model doing more harm than it was approved with? An alarm that may be looked at all the time.

A p-value looked at each hour cries wolf within days. The e-detector (Shin, Ramdas and Rinaldo,
"E-detectors: a nonparametric framework for sequential change detection", 2022) does not: while the
expected loss of the next row, given the past, is at most the reference bound ``U``, the average
number of rows until a false alarm is at least ``limit``, whatever the distribution and however the
rows depend on each other.

For losses x in [0, 1] and a stake lambda in (0, 1/U), betting that the loss is above U multiplies
the stake's money by 1 + lambda (x - U), fair or losing while the mean is at most U. Starting one
such bet afresh at each row and adding them all up gives the Shiryaev-Roberts recursion

    M_t = (M_{t-1} + 1) (1 + lambda (x_t - U)),

averaged over a grid of stakes, since the best one depends on the unknown size of the shift. Alarm
when the average reaches ``limit``. The bet that won most tells where the change began.

"Given the past" is the catch: the rows of a holiday share their harm, and within that one day the
next row's loss *is* above U. Where rows come in such clusters, feed blocks instead of rows, e.g.
`noria.monitor.performance.excess` of each day's mean: then one odd day is one bet, and only harm
that lasts raises the alarm. ``limit``, ``seen`` and the change point then count blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, log, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["EDetector", "reference_bound", "start_detector"]

Floats = NDArray[np.float64]

_NOTHING = -1e300  # ln 0 for all purposes, but a number that JSON can hold
_NEVER = 1e-6  # a bound of exactly 0 or 1 would leave nothing to bet on
_CHUNK = 1 << 15  # rows at a time: bounds memory to a few megabytes whatever the batch


@dataclass(frozen=True, slots=True)
class EDetector:
    """The state of one detector: plain numbers, so it can be kept as JSON and taken up again.

    Make one with `start_detector`. After an alarm it goes on counting, but the alarm stays as it
    was raised; whoever has reacted to it starts a new detector.

    Attributes:
        bound: U, the mean loss up to which the model is as good as approved.
        limit: rows to a false alarm, on average, at least.
        stakes: the grid of lambdas.
        seen: rows so far.
        log_evidence: ln M of each stake.
        log_best_run: ln of the largest single bet of each stake.
        best_run_since: row (counted from 0) at which that bet was started, for each stake.
        alarm_at: number of rows seen when the alarm was raised; None while there is none.
        alarm_since: row at which, by then, the change seemed to have begun.

    Example:
        >>> detector = start_detector(bound=0.2, limit=10_000)
        >>> detector = detector.update(np.full(50, 0.1)).update(np.full(100, 0.6))
        >>> detector.alarm_at is not None, detector.alarm_since
        (True, 50)
    """

    bound: float
    limit: float
    stakes: tuple[float, ...]
    seen: int
    log_evidence: tuple[float, ...]
    log_best_run: tuple[float, ...]
    best_run_since: tuple[int, ...]
    alarm_at: int | None = None
    alarm_since: int | None = None

    @property
    def alarmed(self) -> bool:
        """Whether the alarm has been raised."""
        return self.alarm_at is not None

    @property
    def evidence(self) -> float:
        """The detector's value now: alarm at ``limit``; may exceed it later."""
        top = max(self.log_evidence)
        return inf if top > 700 else float(np.mean(np.exp(self.log_evidence)))

    @property
    def change_point(self) -> int | None:
        """Row at which the loss seems to have risen, by the bet that has won most; None if none won."""
        best = int(np.argmax(self.log_best_run))
        return self.best_run_since[best] if self.log_best_run[best] > 0 else None

    def update(self, losses: Floats) -> EDetector:
        """The detector after these rows, in their order of time.

        How the rows are cut into batches makes no difference but for rounding.

        Raises:
            ValueError: a loss is not a number in [0, 1]; the guarantee would not hold.
        """
        x = np.asarray(losses, dtype=np.float64).ravel()
        if not bool(np.all((x >= 0) & (x <= 1))):
            raise ValueError("losses must be numbers in [0, 1]; bound them first")
        state = self
        for start in range(0, x.size, _CHUNK):
            state = _take_chunk(state, x[start : start + _CHUNK])
        return state


def start_detector(*, bound: float, limit: float, stakes: int = 8) -> EDetector:
    """A fresh detector of a mean loss above ``bound``.

    Args:
        bound: U in (0, 1): see `reference_bound`.
        limit: rows to a false alarm, e.g. 20 times the rows between two planned reviews.
        stakes: size of the grid. It is geometric, from half of the largest stake allowed downwards
            by halves: a large one sees a large shift within few rows, a small one a small shift ever.
    """
    if not 0 < bound < 1:
        raise ValueError(f"bound must lie between 0 and 1, not {bound}")
    if limit <= 1 or stakes < 1:
        raise ValueError(f"limit must exceed 1 and stakes be at least 1, not {limit} and {stakes}")
    grid = tuple(0.5 ** (k + 1) / bound for k in range(stakes))
    nothing = (_NOTHING,) * stakes
    return EDetector(bound, limit, grid, 0, nothing, nothing, (0,) * stakes)


def reference_bound(
    block_losses: Floats, *, tolerance: float = 0.05, alpha: float = 0.05, usual_spread: float = 0.0
) -> float:
    """U: the mean loss that a healthy block of rows exceeds with chance ``alpha``, plus a tolerance.

    Rows of one day resemble each other, and weeks differ with season and weather though the model
    is as good as ever. So the unit is the *block*: the mean loss of, say, each week of rows the
    model was not trained on. U is the one-sided prediction limit for one more block,
    mean + t(1 - alpha, B - 1) * spread * sqrt(1 + 1/B), times 1 + ``tolerance``.

    Args:
        block_losses: mean bounded loss of each reference block, equal in length, at least one.
        tolerance: relative harm that is not worth an alarm.
        alpha: chance of one healthy block's mean lying above U before the tolerance.
        usual_spread: spread between blocks known from earlier, for when there are few blocks, as
            after a retraining on a few days. The larger of it and the blocks' own is then taken,
            with the normal quantile in t's place: it is not an estimate from these few.
    """
    from scipy.special import ndtri, stdtrit  # scipy ships no types

    blocks = np.asarray(block_losses, dtype=np.float64).ravel()
    if blocks.size == 0 or not bool(np.all((blocks >= 0) & (blocks <= 1))):
        raise ValueError("needs at least one block, each a mean of losses in [0, 1]")
    if tolerance < 0 or usual_spread < 0 or not 0 < alpha < 0.5:
        raise ValueError("tolerance and usual_spread must not be negative, alpha in (0, 0.5)")
    own = float(np.std(blocks, ddof=1)) if blocks.size > 1 else 0.0
    if usual_spread > 0:
        width = float(ndtri(1 - alpha)) * max(own, usual_spread)
    elif blocks.size > 1:
        width = float(stdtrit(blocks.size - 1, 1 - alpha)) * own
    else:
        raise ValueError("one block has no spread of its own: give usual_spread")
    healthy = float(np.mean(blocks)) + width * sqrt(1 + 1 / blocks.size)
    return min(max(healthy * (1 + tolerance), _NEVER), 1 - _NEVER)


def _take_chunk(state: EDetector, x: Floats) -> EDetector:
    gains = np.cumsum(np.log1p(np.outer(x - state.bound, state.stakes)), axis=0)
    before = np.vstack([np.zeros((1, gains.shape[1])), gains[:-1]])
    # M_t = P_t (M_0 + sum of 1 / P_{j-1}), P the running product: in logarithms it cannot overflow.
    started = np.vstack([np.asarray(state.log_evidence)[None, :], -before])
    evidence = gains + np.logaddexp.accumulate(started, axis=0)[1:]
    if not state.alarmed:
        mixed = np.logaddexp.reduce(evidence, axis=1) - log(len(state.stakes))
        crossed = np.flatnonzero(mixed >= log(state.limit))
        if crossed.size:
            return _raise_alarm(state, x, int(crossed[0]) + 1)
    return _advance(state, gains, before, evidence[-1])


def _raise_alarm(state: EDetector, x: Floats, rows: int) -> EDetector:
    """The state with the alarm after ``rows`` of the chunk, and the rest of it taken as well."""
    quiet = replace(state, alarm_at=state.seen + rows)
    at_alarm = _take_chunk(quiet, x[:rows])
    at_alarm = replace(at_alarm, alarm_since=at_alarm.change_point)
    return _take_chunk(at_alarm, x[rows:]) if rows < x.size else at_alarm


def _advance(state: EDetector, gains: Floats, before: Floats, evidence: Floats) -> EDetector:
    """The state after a chunk, given its running log gains up to and before each row."""
    columns = np.arange(gains.shape[1])
    start = np.argmin(before, axis=0)  # a bet begun where the running product was lowest won most
    fresh = gains[-1] - before[start, columns]
    carried = np.asarray(state.log_best_run) + gains[-1]
    keep = carried >= fresh
    return replace(
        state,
        seen=state.seen + gains.shape[0],
        log_evidence=tuple(evidence.tolist()),
        log_best_run=tuple(np.where(keep, carried, fresh).tolist()),
        best_run_since=tuple(np.where(keep, np.asarray(state.best_run_since), state.seen + start).tolist()),
    )
