from __future__ import annotations

import time

import numpy as np
import pytest

from noria.validate.bootstrap import BUCKETS, RANKED_ROWS, compare, interval, slice_gap
from noria.validate.metrics import Scored


def noisy(y: np.ndarray, spread: float, seed: int) -> Scored:
    return Scored(y, y + np.random.default_rng(seed).normal(0, spread, len(y)))


def classified(rows: int, lift: float, seed: int, truth: int = 0) -> Scored:
    y = np.random.default_rng(truth).integers(0, 2, rows)
    score = np.clip(lift * y + (1 - lift) * np.random.default_rng(seed).random(rows), 0, 1)
    return Scored(y, (score > 0.5).astype(int), np.column_stack([1 - score, score]), (0, 1))


def test_a_better_model_is_seen_as_better_and_the_same_seed_says_the_same() -> None:
    y = np.random.default_rng(0).normal(size=2000)
    good, bad = noisy(y, 1.0, 1), noisy(y, 1.3, 2)
    found = compare("mae", good, bad)
    assert 0 < found["low"] < found["improvement"] < found["high"]
    assert found == compare("mae", good, bad)
    assert compare("mae", bad, good)["high"] < 0


def test_a_model_compared_with_itself_is_no_better_at_all() -> None:
    scored = classified(500, 0.3, 1)
    for metric in ("roc_auc", "log_loss", "f1"):
        found = compare(metric, scored, scored)
        assert (found["low"], found["improvement"], found["high"]) == (0, 0, 0)


def test_pairing_makes_the_interval_narrower_than_two_separate_ones() -> None:
    y = np.random.default_rng(0).normal(size=3000)
    model = noisy(y, 1.0, 1)
    close = Scored(y, model.prediction + np.random.default_rng(5).normal(0, 0.05, 3000))
    paired = compare("mae", close, model)
    low, high = interval("mae", model)
    assert paired["high"] - paired["low"] < (high - low) / 3


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["mae", "median_ae"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(metric: str) -> None:
    misses = 0
    for seed in range(200):
        y = np.zeros(300)
        a, b = noisy(y, 1.0, 2 * seed), noisy(y, 1.0, 2 * seed + 1)
        misses += compare(metric, a, b, resamples=300, seed=seed)["low"] > 0
    assert 2 <= misses <= 22  # 5 % of 200 expected


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc"])
def test_many_rows_cost_little_and_give_the_spread_of_all_of_them(metric: str) -> None:
    rows = 3 * max(BUCKETS, RANKED_ROWS)
    many = classified(rows, 0.3, 1)
    started = time.perf_counter()
    low, high = interval(metric, many, resamples=400)
    assert time.perf_counter() - started < 10
    part = many.take(np.arange(rows // 12))
    few_low, few_high = interval(metric, part, resamples=400)
    assert (high - low) / (few_high - few_low) == pytest.approx(12**-0.5, rel=0.3)


def test_equal_slices_have_no_sure_gap_and_unequal_ones_have() -> None:
    scored = classified(4000, 0.3, 1)
    groups = np.array([f"g{n % 10}" for n in range(4000)])
    fair = slice_gap("recall", scored, groups)
    assert fair["low"] == 0
    hurt = scored.prediction.copy()
    hurt[(groups == "g3") & (np.arange(4000) % 3 > 0)] = 0
    unfair = slice_gap("recall", Scored(scored.y, hurt, scored.probability, (0, 1)), groups)
    assert 0.1 < unfair["low"] < unfair["gap"] < unfair["high"]


def test_small_and_undefined_slices_are_listed_but_not_judged() -> None:
    scored = classified(400, 0.3, 1)
    groups = np.where(np.arange(400) < 10, "tiny", np.where(scored.y == 0, "all negative", "all positive"))
    found = slice_gap("recall", scored, groups)
    assert {row["slice"]: row["judged"] for row in found["slices"]} == {
        "all negative": False,
        "all positive": True,
        "tiny": False,
    }
    assert found["gap"] is None


def test_models_must_have_answered_the_same_rows() -> None:
    with pytest.raises(ValueError, match="not the same rows"):
        compare("mae", noisy(np.zeros(5), 1, 1), noisy(np.zeros(6), 1, 1))
