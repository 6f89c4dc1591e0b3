"""Bounded losses and the intervals of their means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.monitor.performance import (
    bias,
    binary_losses,
    block_means,
    bootstrap_interval,
    empirical_bernstein_interval,
    error_cap,
    excess,
    multiclass_losses,
    regression_losses,
)

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)
shares = st.lists(st.floats(0, 1), min_size=1, max_size=50)


def test_binary_loss_is_the_squared_error_of_the_probability() -> None:
    assert binary_losses(np.array([0.9, 0.9, 0.0]), np.array([1, 0, 0])) == pytest.approx([0.01, 0.81, 0.0])


def test_multiclass_loss_is_what_the_true_class_was_not_given() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    assert multiclass_losses(probabilities, np.array([0, 2, -1])) == pytest.approx([0.3, 0.9, 1.0])


def test_regression_loss_is_the_error_as_a_share_of_the_cap() -> None:
    losses = regression_losses(np.array([10.0, 10.0, 10.0]), np.array([10.0, 15.0, 99.0]), cap=20.0)
    assert losses == pytest.approx([0.0, 0.25, 1.0])


def test_one_row_in_a_hundred_lies_above_the_cap() -> None:
    error = np.random.default_rng(0).exponential(4, 10_000)
    cap = error_cap(error, np.zeros(10_000))
    assert np.mean(error > cap) == pytest.approx(0.01, abs=0.001)
    assert regression_losses(np.ones(3), np.ones(3), cap=error_cap(np.ones(3), np.ones(3))).max() == 0.0


@given(prediction=numbers, cap=st.floats(1e-3, 1e6))
def test_losses_are_always_bounded(prediction: list[float], cap: float) -> None:
    p = np.array(prediction)
    losses = regression_losses(p, p[::-1], cap=cap)
    assert np.all((losses >= 0) & (losses <= 1))


@given(shares)
def test_a_better_probability_never_costs_more(probability: list[float]) -> None:
    p = np.array(probability)
    y = (p > 0.5).astype(np.int64)
    assert np.all(binary_losses(p, y) <= binary_losses(1 - p, y))


@given(shares, st.integers(1, 10), st.integers(0, 50))
def test_blocks_taken_as_they_fill_are_those_taken_at_once(values: list[float], rows: int, cut: int) -> None:
    x = np.array(values)
    early = block_means(x[:cut], rows)
    late = block_means(x[early.size * rows :], rows)
    assert np.concatenate([early, late]) == pytest.approx(block_means(x, rows))
    assert early.size + late.size == x.size // rows


def test_excess_is_nothing_up_to_the_level_and_whole_at_its_double() -> None:
    assert excess(np.array([0.1, 0.2, 0.3, 0.4, 0.9]), level=0.2) == pytest.approx([0, 0, 0.5, 1, 1])


@given(numbers)
def test_bias_has_the_sign_of_saying_too_much(label: list[float]) -> None:
    y = np.array(label)
    assert bias(y + 2.0, y) == pytest.approx(2.0, abs=1e-6)
    assert bias(y, y) == 0.0


@given(shares, st.integers(0, 99))
def test_an_interval_holds_its_own_value(values: list[float], seed: int) -> None:
    x = np.array(values)
    for interval in (empirical_bernstein_interval(x), bootstrap_interval(x, seed=seed, resamples=200)):
        assert interval.low <= interval.high
        assert interval.value == pytest.approx(x.mean())
    bounded = empirical_bernstein_interval(x)
    assert 0 <= bounded.low <= bounded.value <= bounded.high <= 1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(4)
    held_bernstein, held_bootstrap = [], []
    for seed in range(300):
        x = draw.beta(1, 4, 400)
        exact, resampled = empirical_bernstein_interval(x), bootstrap_interval(x, seed=seed, resamples=400)
        held_bernstein.append(exact.low <= 0.2 <= exact.high)
        held_bootstrap.append(resampled.low <= 0.2 <= resampled.high)
    assert np.mean(held_bernstein) >= 0.95
    assert 0.91 <= np.mean(held_bootstrap) <= 0.985


def test_the_same_seed_gives_the_same_interval() -> None:
    x = np.random.default_rng(0).normal(size=100)
    assert bootstrap_interval(x, seed=1) == bootstrap_interval(x, seed=1)
    assert bootstrap_interval(x, seed=1) != bootstrap_interval(x, seed=2)


def test_more_rows_give_a_narrower_interval() -> None:
    x = np.random.default_rng(0).beta(1, 4, 10_000)
    few, many = empirical_bernstein_interval(x[:100]), empirical_bernstein_interval(x)
    assert many.high - many.low < (few.high - few.low) / 5
    assert empirical_bernstein_interval(x[:1]).low == 0.0


def test_values_that_have_no_loss_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        binary_losses(np.array([1.2]), np.array([1]))
    with pytest.raises(ValueError, match="0 or 1"):
        binary_losses(np.array([0.2]), np.array([3]))
    with pytest.raises(ValueError, match="columns"):
        multiclass_losses(np.array([[0.5, 0.5]]), np.array([2]))
    with pytest.raises(ValueError, match="label for each row"):
        multiclass_losses(np.array([[0.5, 0.5]]), np.array([0, 1]))
    with pytest.raises(ValueError, match="cap"):
        regression_losses(np.ones(1), np.ones(1), cap=0.0)
    with pytest.raises(ValueError, match="at least one row"):
        block_means(np.ones(3), 0)
    with pytest.raises(ValueError, match="level"):
        excess(np.ones(3), level=0.0)
    with pytest.raises(ValueError, match="finite"):
        bias(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="differ"):
        bias(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="losses"):
        empirical_bernstein_interval(np.array([2.0]))
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(np.ones(2), seed=0, confidence=0.1)
