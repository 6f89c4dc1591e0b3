"""The e-detector: seldom wrong however often it is asked, quick when harm is real."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noria.monitor.e_detector import EDetector, reference_bound, start_detector
from noria.monitor.performance import block_means, excess

Floats = NDArray[np.float64]


def from_json(text: str) -> EDetector:
    state: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
    return EDetector(**state)


def same(a: EDetector, b: EDetector) -> bool:
    return (
        (a.seen, a.alarm_at, a.alarm_since) == (b.seen, b.alarm_at, b.alarm_since)
        and a.best_run_since == b.best_run_since
        and np.allclose(a.log_evidence, b.log_evidence)
        and np.allclose(a.log_best_run, b.log_best_run)
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    bound=st.floats(0.05, 0.6),
    limit=st.floats(2, 1e4),
)
def test_batches_make_no_difference(seed: int, cuts: list[int], bound: float, limit: float) -> None:
    losses = np.random.default_rng(seed).beta(1, 3, 600)
    at_once = start_detector(bound=bound, limit=limit).update(losses)
    cut = start_detector(bound=bound, limit=limit)
    for batch in np.split(losses, sorted(cuts)):
        cut = cut.update(batch)
    assert same(at_once, cut)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), at=st.integers(0, 400))
def test_a_detector_taken_up_from_json_goes_on_as_if_never_put_down(seed: int, at: int) -> None:
    losses = np.random.default_rng(seed).beta(1, 3, 400)
    whole = start_detector(bound=0.2, limit=50).update(losses)
    kept = json.dumps(asdict(start_detector(bound=0.2, limit=50).update(losses[:at])), allow_nan=False)
    assert same(from_json(kept).update(losses[at:]), whole)


def test_it_follows_its_recursion_row_by_row() -> None:
    losses = np.random.default_rng(2).beta(1, 3, 300)
    detector = start_detector(bound=0.25, limit=1e9)
    money = np.zeros(len(detector.stakes))
    for x in losses:
        money = (money + 1) * (1 + np.array(detector.stakes) * (x - 0.25))
    assert np.exp(detector.update(losses).log_evidence) == pytest.approx(money)
    assert detector.update(losses).evidence == pytest.approx(money.mean())


def runs_to_alarm(draw_losses: Any, bound: float, limit: int, horizon: int, repeats: int) -> list[int]:
    at = []
    for seed in range(repeats):
        detector = start_detector(bound=bound, limit=limit)
        detector = detector.update(draw_losses(np.random.default_rng(seed), horizon))
        at.append(detector.alarm_at or horizon)
    return at


def wandering(draw: np.random.Generator, rows: int) -> Floats:
    """Losses that resemble their neighbours: a fair bet on each, given the past, and far from independent."""
    hot = np.repeat(draw.random(rows // 50 + 1) < 0.5, 50)[:rows]
    return np.where(hot, draw.beta(1, 4, rows), draw.binomial(1, 0.2, rows)).astype(np.float64)


@pytest.mark.parametrize(
    "losses",
    [
        lambda draw, rows: draw.beta(1, 4, rows),
        lambda draw, rows: draw.binomial(1, 0.2, rows).astype(np.float64),
        wandering,
    ],
    ids=["smooth", "all-or-nothing", "dependent"],
)
def test_the_mean_run_to_a_false_alarm_is_at_least_the_limit(losses: Any) -> None:
    # All have a mean of exactly the bound. Runs are cut at four limits, which only shortens their mean.
    assert np.mean(runs_to_alarm(losses, 0.2, 1_000, 4_000, 150)) >= 1_000


def test_a_healthy_model_under_its_tolerance_is_left_alone() -> None:
    at = runs_to_alarm(lambda draw, rows: draw.beta(1, 4, rows), 0.21, 200_000, 100_000, 20)
    assert at == [100_000] * 20


@pytest.mark.parametrize(("mean", "rows"), [(0.3, 500), (0.4, 150), (0.6, 50)])
def test_harm_is_seen_the_sooner_the_larger_it_is(mean: float, rows: int) -> None:
    delays = []
    for seed in range(50):
        draw = np.random.default_rng(seed)
        calm, harm = draw.beta(1, 4, 5_000), draw.beta(1, 1 / mean - 1, 5_000)
        detector = start_detector(bound=0.21, limit=200_000).update(np.concatenate([calm, harm]))
        assert detector.alarm_at is not None
        delays.append(detector.alarm_at - 5_000)
    assert min(delays) > 0
    assert np.mean(delays) < rows


def test_the_alarm_says_when_the_harm_began() -> None:
    misses = []
    for seed in range(50):
        draw = np.random.default_rng(seed)
        losses = np.concatenate([draw.beta(1, 4, 3_000), draw.beta(2, 4, 2_000)])
        since = start_detector(bound=0.21, limit=100_000).update(losses).alarm_since
        assert since is not None
        misses.append(abs(since - 3_000))
    assert np.median(misses) < 60


def test_an_alarm_stays_as_it_was_raised() -> None:
    raised = start_detector(bound=0.2, limit=100).update(np.full(200, 0.9))
    later = raised.update(np.zeros(10_000))
    assert raised.alarmed
    assert (later.alarm_at, later.alarm_since) == (raised.alarm_at, raised.alarm_since)
    assert later.seen == 10_200
    assert later.change_point is None


def test_evidence_never_overflows_nor_sinks_out_of_reach() -> None:
    assert start_detector(bound=0.1, limit=100).update(np.ones(100_000)).evidence == np.inf
    calm = start_detector(bound=0.1, limit=1e6).update(np.zeros(100_000))
    assert calm.update(np.ones(100)).alarmed


def test_nothing_seen_changes_nothing() -> None:
    fresh = start_detector(bound=0.1, limit=100)
    assert fresh.update(np.array([])) == fresh
    assert fresh.evidence == 0.0
    assert fresh.change_point is None


@given(st.lists(st.floats(0.01, 0.9), min_size=2, max_size=40))
def test_the_bound_is_above_the_reference_by_the_tolerance_at_least(blocks: list[float]) -> None:
    values = np.array(blocks)
    assert reference_bound(values, tolerance=0.05) >= min(float(values.mean()) * 1.05, 1 - 1e-6) - 1e-12
    assert reference_bound(values, tolerance=0.0) <= reference_bound(values, tolerance=0.1)
    assert reference_bound(values, alpha=0.2) <= reference_bound(values, alpha=0.01) + 1e-12


def test_a_healthy_block_exceeds_the_bound_as_seldom_as_asked() -> None:
    draw = np.random.default_rng(11)
    blocks = draw.normal(0.3, 0.02, (4_000, 13))
    over = [b[-1] > reference_bound(b[:-1], tolerance=0.0, alpha=0.05) for b in blocks]
    assert np.mean(over) == pytest.approx(0.05, abs=0.012)


def test_few_blocks_borrow_the_usual_spread() -> None:
    with pytest.raises(ValueError, match="give usual_spread"):
        reference_bound(np.array([0.3]))
    borrowed = reference_bound(np.array([0.3]), usual_spread=0.02, tolerance=0.0)
    assert borrowed == pytest.approx(0.3465, abs=1e-3)


def days(draw: np.random.Generator, count: int, *, level: float, holidays: tuple[int, ...] = ()) -> Floats:
    """Rows of days that differ, each day's rows sharing its share of trouble; holidays are twice as bad."""
    means = np.clip(draw.normal(level, 0.12 * level, count), 0.01, 0.9)
    means[list(holidays)] *= 2
    return np.concatenate([draw.beta(2, 2 / mean - 2, 100) for mean in means])


def test_one_odd_day_alarms_by_rows_but_not_by_days() -> None:
    draw = np.random.default_rng(8)
    past = block_means(days(draw, 364, level=0.2, holidays=(50, 51, 300)), 100)
    level = float(past.mean()) * 1.05
    bound = reference_bound(excess(past, level=level).reshape(-1, 7).mean(axis=1), tolerance=0.0)
    by_days = start_detector(bound=bound, limit=600)
    by_rows = start_detector(bound=reference_bound(past), limit=60_000)
    odd = days(draw, 100, level=0.2, holidays=(60,))
    assert by_rows.update(odd).alarmed
    assert not by_days.update(excess(block_means(odd, 100), level=level)).alarmed
    lasting = np.concatenate([odd, days(draw, 30, level=0.3)])
    alarm = by_days.update(excess(block_means(lasting, 100), level=level))
    assert alarm.alarm_at is not None
    assert alarm.alarm_since == pytest.approx(100, abs=2)
    assert alarm.alarm_at - 100 <= 15


def test_what_breaks_the_guarantee_is_refused() -> None:
    detector = start_detector(bound=0.2, limit=100)
    for bad in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            detector.update(np.array([0.1, bad]))
    with pytest.raises(ValueError, match="bound"):
        start_detector(bound=0.0, limit=100)
    with pytest.raises(ValueError, match="limit"):
        start_detector(bound=0.5, limit=1)
    with pytest.raises(ValueError, match="at least one block"):
        reference_bound(np.array([]))
    with pytest.raises(ValueError, match="tolerance"):
        reference_bound(np.array([0.1, 0.2]), tolerance=-1)
