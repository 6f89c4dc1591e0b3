"""Rows become a dataset version, or a sentence says why not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.data.rules import Between, Unique
from noria.data.snapshot import guess_task, snapshot
from noria.data.sources import Csv
from noria.errors import DataError
from noria.frames.parquet import read_parquet
from noria.records import DatasetVersion
from noria.store.files import FolderBlobs

NOW = datetime(2024, 6, 1, tzinfo=UTC)
SOURCE = Csv("data.csv", key="id", time="at", label="y")
Take = Callable[..., tuple[DatasetVersion, pl.DataFrame]]


def rows(count: int = 20, **columns: Any) -> pl.DataFrame:
    made = {
        "id": list(range(count)),
        "at": [datetime(2024, 1, 1) + timedelta(days=n) for n in range(count)],
        "x": [float(n) for n in range(count)],
        "y": [n % 2 for n in range(count)],
    }
    return pl.DataFrame(made | columns, strict=False)


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def take(blobs: FolderBlobs) -> Take:
    def make(frame: pl.DataFrame, source: Csv = SOURCE, **options: Any) -> tuple[DatasetVersion, pl.DataFrame]:
        return snapshot(frame, source, blobs, loop="churn", now=NOW, **options)

    return make


def test_a_version_holds_the_rows_it_was_made_of(take: Take, blobs: FolderBlobs) -> None:
    version, kept = take(rows())
    assert version.rows == kept.height == 20
    assert read_parquet(blobs.get(version.blob)).equals(kept)
    assert dict(version.schema)["y"] == "Int64"
    assert version.first_time == datetime(2024, 1, 1, tzinfo=UTC)
    assert version.last_time == datetime(2024, 1, 20, tzinfo=UTC)
    assert version.profile.rows == 20
    assert version.size_bytes == len(blobs.get(version.blob))


def test_equal_rows_have_equal_ids(take: Take) -> None:
    first, second = take(rows())[0], take(pl.concat([rows()[:7], rows()[7:]], rechunk=False))[0]
    assert (first.id, first.blob) == (second.id, second.blob)
    assert take(rows().reverse())[0].id != first.id
    assert take(rows(x=[0.0] * 20))[0].id != first.id


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": [0, 0, *range(2, 20)]}, r'key "id" repeats in 1 rows \(0\)'),
        ({"id": [None, *range(1, 20)]}, r'key "id" is missing in 1 rows \(rows 0\)'),
        ({"y": [None] * 20}, 'label "y" is missing in every row'),
        ({"y": [float("nan")] * 20}, 'label "y" is missing in every row'),
        ({"y": [1] * 20}, 'label "y" is 1 in all 20 rows'),
        ({"y": [1, *[None] * 19]}, 'label "y" is 1 in all 1 rows'),
        ({"y": [float("inf"), *range(19)]}, r"infinite in 1 rows \(row 0 first\)"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(
    take: Take, blobs: FolderBlobs, columns: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        take(rows(**columns))


def test_a_source_without_a_label_is_refused(take: Take) -> None:
    with pytest.raises(DataError, match="declares no label"):
        take(rows(), Csv("data.csv", key="id"))


def test_rows_without_a_label_wait(take: Take) -> None:
    version, kept = take(rows(y=[None, *[n % 2 for n in range(19)]]))
    assert version.rows == 19
    assert kept["id"][0] == 1


def test_failing_rows_are_set_aside_and_can_be_looked_at(take: Take, blobs: FolderBlobs) -> None:
    frame = rows(x=[-1.0, *[float(n) for n in range(19)]])
    version, kept = take(frame, expect=(Between("x", 0, 100),))
    assert version.rows == kept.height == 19
    assert version.expectations.quarantined == 1
    assert version.expectations.quarantine is not None
    assert read_parquet(blobs.get(version.expectations.quarantine))["id"].to_list() == [0]
    (result,) = version.expectations.results
    assert (result.passed, result.failing, result.rows, result.keys) == (False, 1, (0,), ("0",))


def test_failing_rows_stop_the_turn_when_asked(take: Take) -> None:
    frame = rows(x=[-1.0, *[float(n) for n in range(19)]])
    with pytest.raises(DataError):
        take(frame, expect=(Between("x", 0, 100),), on_failing_rows="stop")
    with pytest.raises(DataError):
        take(rows(x=[-1.0] * 15 + [1.0] * 5), expect=(Between("x", 0, 100),))


def test_repeats_of_the_key_can_be_set_aside(take: Take) -> None:
    version, kept = take(rows(id=[0, 0, *range(2, 20)]), expect=(Unique("id"),))
    assert version.expectations.quarantined >= 1
    assert kept["id"].is_unique().all()


def test_a_column_that_vanished_is_named_with_the_nearest(take: Take) -> None:
    before, _ = take(rows())
    with pytest.raises(DataError, match=r'"x" \(Float64\) is gone. Did you mean "X"'):
        take(rows().rename({"x": "X"}), previous=before)


def test_a_column_that_changed_its_type_is_named_with_an_example(take: Take) -> None:
    before, _ = take(rows())
    frame = rows(x=[*["1.5"] * 19, "unknown"])
    with pytest.raises(DataError, match=r"was Float64 and is now String, e.g. 'unknown'") as refused:
        take(frame, previous=before)
    assert "--accept-schema" in str(refused.value)
    assert take(frame)[0].rows == 20


def test_numbers_may_widen_and_empty_columns_get_a_type(take: Take) -> None:
    whole, _ = take(rows(x=list(range(20)), note=pl.Series([None] * 20, dtype=pl.String)))
    assert take(rows(note=list(range(20))), previous=whole)[0].rows == 20
    assert take(rows(x=pl.Series([None] * 20, dtype=pl.String), note=["a"] * 20), previous=whole)[0].rows == 20


def test_served_rows_join_without_repeats(take: Take) -> None:
    served = rows(3, id=[18, 19, 20], x=[-5.0, -6.0, -7.0]).select("id", "at", "x", "y")
    version, kept = take(rows(), Csv("d.csv", key="id", time="at", label="y", served=True), served=served)
    assert version.served_rows == 1
    assert version.rows == 21
    assert kept.filter(pl.col("id") == 20)["x"].to_list() == [-7.0]
    assert kept.filter(pl.col("id") == 19)["x"].to_list() == [19.0]


@pytest.mark.parametrize(
    ("label", "task"),
    [
        ([0, 1, 1], "binary"),
        ([True, False], "binary"),
        (["a", "b"], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([0, 1, 2], "multiclass"),
        (list(range(50)), "regression"),
        ([0.0, 1.0], "binary"),
        ([0.0, 1.0, 2.0], "multiclass"),
        ([0.5, 1.5, 2.5], "regression"),
        ([float(n) for n in range(15)], "regression"),
    ],
)
def test_the_task_is_guessed_from_the_label(label: list[Any], task: str) -> None:
    assert guess_task(pl.Series("y", label)) == task
    assert guess_task(pl.Series("y", label), "regression") == "regression"


def test_a_time_is_no_label() -> None:
    with pytest.raises(DataError, match="predict a number or a class"):
        guess_task(pl.Series("y", [datetime(2024, 1, day) for day in (1, 2, 3)]))
