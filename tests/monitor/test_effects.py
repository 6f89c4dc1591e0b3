"""Effect sizes: none where nothing moved, large where much did, whatever the rows and levels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noria.monitor.effects import (
    benjamini_hochberg,
    cramers_v,
    jensen_shannon_distance,
    missing_shift,
    population_stability_index,
    total_variation,
    unseen_mass,
)

Counts = NDArray[np.int64]
Distance = Callable[[Counts, Counts], float]

DISTANCES: list[Distance] = [population_stability_index, jensen_shannon_distance, cramers_v, total_variation]

count_pairs = st.integers(2, 30).flatmap(
    lambda k: st.tuples(
        st.lists(st.integers(0, 5_000), min_size=k, max_size=k).filter(lambda c: sum(c) > 2),
        st.lists(st.integers(0, 5_000), min_size=k, max_size=k).filter(lambda c: sum(c) > 2),
    )
)


def windows_without_change(levels: int, n: int, m: int, repeats: int = 200) -> list[tuple[Counts, Counts]]:
    draw = np.random.default_rng(7)
    shares = draw.dirichlet(np.full(levels, 5.0))
    return [(draw.multinomial(n, shares), draw.multinomial(m, shares)) for _ in range(repeats)]


@pytest.mark.parametrize("levels", [2, 11, 50])
@pytest.mark.parametrize(("n", "m"), [(20_000, 2_000), (5_000, 5_000), (100_000, 1_000)])
@pytest.mark.parametrize("distance", [population_stability_index, total_variation])
def test_the_mean_distance_is_nothing_when_nothing_moved(distance: Distance, levels: int, n: int, m: int) -> None:
    sizes = [distance(a, b) for a, b in windows_without_change(levels, n, m)]
    uncorrected = (levels - 1) * (1 / n + 1 / m)
    assert abs(np.mean(sizes)) < 3.5 * np.std(sizes) / np.sqrt(len(sizes)) + 0.15 * uncorrected


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_thousand_levels_and_two_thousand_rows_do_not_look_like_drift(distance: Distance) -> None:
    sizes = [distance(a, b) for a, b in windows_without_change(1_000, 20_000, 2_000, repeats=30)]
    assert max(sizes) < 0.1


def test_the_uncorrected_distance_would_have_cried_wolf_there() -> None:
    reference, current = windows_without_change(1_000, 20_000, 2_000, repeats=1)[0]
    p, q = reference / reference.sum(), current / current.sum()
    mixed = (p + q) / 2
    nats = sum(float(np.sum(s[s > 0] * np.log(s[s > 0] / mixed[s > 0]))) for s in (p, q)) / 2
    assert np.sqrt(nats / np.log(2)) > 0.1


@pytest.mark.parametrize("distance", DISTANCES)
@given(pair=count_pairs)
def test_a_distance_does_not_depend_on_the_order_of_the_bins_or_on_empty_ones(
    distance: Distance, pair: tuple[list[int], list[int]]
) -> None:
    reference, current = (np.array(side) for side in pair)
    once = distance(reference, current)
    assert np.isfinite(once)
    assert distance(reference[::-1], current[::-1]) == pytest.approx(once, abs=1e-9)
    padded = [np.append(side, [0, 0]) for side in (reference, current)]
    assert distance(*padded) == pytest.approx(once, abs=1e-9)


@given(pair=count_pairs)
def test_bounded_distances_stay_in_their_bounds(pair: tuple[list[int], list[int]]) -> None:
    reference, current = (np.array(side) for side in pair)
    assert 0.0 <= jensen_shannon_distance(reference, current) <= 1.0
    assert 0.0 <= cramers_v(reference, current) <= 1.0
    assert total_variation(reference, current) <= 1.0


def test_samples_without_overlap_are_as_far_apart_as_can_be() -> None:
    reference, current = np.array([100_000, 0]), np.array([0, 100_000])
    assert jensen_shannon_distance(reference, current) == pytest.approx(1.0, abs=0.001)
    assert cramers_v(reference, current) == pytest.approx(1.0, abs=0.001)
    assert total_variation(reference, current) == pytest.approx(1.0, abs=0.01)
    assert population_stability_index(reference, current) > 10


def test_known_values_are_met_when_rows_are_many() -> None:
    reference, current = np.array([500_000, 500_000]), np.array([600_000, 400_000])
    assert population_stability_index(reference, current) == pytest.approx(0.1 * np.log(1.5), abs=1e-5)
    assert total_variation(reference, current) == pytest.approx(0.1, abs=0.002)
    assert cramers_v(reference, current) == pytest.approx(0.1 / np.sqrt(0.99), rel=0.01)


def test_a_shift_of_half_a_standard_deviation_is_seen_by_all() -> None:
    draw = np.random.default_rng(1)
    edges = np.quantile(draw.normal(size=100_000), np.arange(1, 10) / 10)
    reference = np.bincount(np.searchsorted(edges, draw.normal(size=20_000)), minlength=10)
    current = np.bincount(np.searchsorted(edges, draw.normal(0.5, 1, 2_000)), minlength=10)
    for distance in DISTANCES:
        assert distance(reference, current) > 0.1


def test_a_surge_of_missing_values_is_seen_with_its_size() -> None:
    surge = missing_shift(1_000, 10_000, 240, 1_000)
    assert surge.effect == pytest.approx(0.14)
    assert surge.p_value < 1e-9
    assert missing_shift(1_000, 10_000, 100, 1_000).p_value == pytest.approx(1.0)
    assert missing_shift(0, 10_000, 0, 1_000).p_value == 1.0


def test_the_missing_test_is_wrong_as_often_as_it_says() -> None:
    draw = np.random.default_rng(3)
    p = [missing_shift(int(draw.binomial(10_000, 0.1)), 10_000, int(draw.binomial(1_000, 0.1)), 1_000).p_value
         for _ in range(2_000)]  # fmt: skip
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07


def test_a_new_level_of_two_per_cent_is_seen() -> None:
    seen = unseen_mass(np.array([4_000, 3_000, 3_000]), 40, 2_000)
    assert seen.effect == pytest.approx(0.02, abs=0.001)
    assert seen.p_value < 1e-6


def test_new_levels_are_expected_where_many_were_seen_only_once() -> None:
    draw = np.random.default_rng(5)
    shares = draw.dirichlet(np.full(3_000, 0.05))
    wrong = []
    for _ in range(200):
        reference, current = draw.multinomial(5_000, shares), draw.multinomial(1_000, shares)
        wrong.append(unseen_mass(reference, int(current[reference == 0].sum()), 1_000).p_value < 0.01)
    assert np.mean(wrong) < 0.1
    assert unseen_mass(np.array([10, 10]), 0, 100).p_value == 1.0


@settings(max_examples=50)
@given(p=st.lists(st.floats(0, 1), max_size=40), rate=st.floats(0.01, 0.5))
def test_benjamini_hochberg_is_between_bonferroni_and_no_correction(p: list[float], rate: float) -> None:
    values = np.array(p, dtype=np.float64)
    believed = benjamini_hochberg(values, rate)
    assert not np.any(believed & (values > rate))
    assert np.all(believed[values <= rate / max(len(p), 1)])
    if believed.any():
        assert np.array_equal(believed, values <= values[believed].max())


def test_benjamini_hochberg_agrees_with_the_example_of_its_paper() -> None:
    p = np.array([0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
                  0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0])  # fmt: skip
    assert benjamini_hochberg(p, 0.05).sum() == 4


def test_counts_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="same bins"):
        total_variation(np.array([1, 2]), np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="not negative"):
        total_variation(np.array([1, -2]), np.array([1, 2]))
    with pytest.raises(ValueError, match="at least one row"):
        total_variation(np.array([0, 0]), np.array([1, 2]))
    with pytest.raises(ValueError, match="not a share"):
        missing_shift(3, 2, 0, 1)
    with pytest.raises(ValueError, match="no rows"):
        unseen_mass(np.array([0]), 1, 2)
    with pytest.raises(ValueError, match="rate"):
        benjamini_hochberg(np.array([0.1]), 0.0)
