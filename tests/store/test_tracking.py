"""The tracking store on SQLite: the shipped suite, and random searches against a look at every run."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.records.tracking import ACTIVE, DELETED, Clause, Order, Point, TrackedRun
from noria.store.sqlite import open_tracking
from noria.store.tracking import Tracking
from noria.testing.tracking import TrackingContract, a_run, brute_force


class TestSqliteTracking(TrackingContract):
    @pytest.fixture
    def open(self, tmp_path: Path) -> Callable[[], Tracking]:
        return lambda: open_tracking(tmp_path / "tracking.db")


KEYS = st.sampled_from(["a", "b", "é"])
WORDS = st.sampled_from(["", "a", "A", "ab", "é", "%", "_", "*", "[a]", "b" * 70, "b" * 70 + "c"])
NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, math.inf, -math.inf, math.nan])
BOUNDS = st.sampled_from([0.0, 1.0, -1.0, 0.25])
PATTERNS = st.text(st.sampled_from("aAbé%_*[]"), max_size=4)
RUN = st.fixed_dictionaries(
    {
        "experiment": st.integers(0, 1),
        "started": st.integers(0, 2),
        "ended": st.none() | st.integers(0, 2),
        "name": st.sampled_from(["x", "y"]),
        "stage": st.sampled_from([ACTIVE, ACTIVE, DELETED]),
        "metrics": st.dictionaries(KEYS, NUMBERS, max_size=3),
        "params": st.dictionaries(KEYS, WORDS, max_size=3),
        "tags": st.dictionaries(KEYS, WORDS, max_size=2),
    }
)
COMPARE = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
CLAUSE = st.one_of(
    st.builds(Clause, st.just("metric"), KEYS, COMPARE, BOUNDS),
    st.builds(Clause, st.sampled_from(["param", "tag"]), KEYS, st.sampled_from(["=", "!="]), WORDS),
    st.builds(Clause, st.sampled_from(["param", "tag"]), KEYS, st.just("LIKE"), PATTERNS),
    st.builds(Clause, st.sampled_from(["param", "tag"]), KEYS, st.sampled_from(["IS NULL", "IS NOT NULL"]), st.none()),
    st.builds(Clause, st.just("attribute"), st.sampled_from(["start_time", "end_time"]), COMPARE, st.integers(0, 2)),
)
ORDER = st.one_of(
    st.builds(Order, st.sampled_from(["metric", "param", "tag"]), KEYS, st.booleans()),
    st.builds(Order, st.just("attribute"), st.sampled_from(["start_time", "end_time", "run_name"]), st.booleans()),
)


def fill(store: Tracking, runs: list[dict[str, Any]]) -> list[TrackedRun]:
    made = []
    store.write(lambda t: t.add_experiment("other", "place", 1, {}))
    for number, one in enumerate(runs):
        info = a_run(
            one["experiment"],
            run=f"{number:032x}",
            **{name: one[name] for name in ("started", "ended", "name", "stage")},
        )
        points = tuple(Point(key, value, 1, 0) for key, value in one["metrics"].items())
        made.append(TrackedRun(info, points, one["params"], one["tags"]))

    def change(t: Any) -> None:
        for run in made:
            t.add_run(run.info, run.tags)
            t.log(run.info.id, points=run.metrics, params=run.params)

    store.write(change)
    return made


@settings(max_examples=60)
@given(
    st.lists(RUN, max_size=12),
    st.lists(st.tuples(st.lists(CLAUSE, max_size=3), st.lists(ORDER, max_size=3)), min_size=1, max_size=8),
    st.sampled_from([(0,), (1,), (0, 1)]),
    st.sampled_from([(ACTIVE,), (ACTIVE, DELETED)]),
    st.integers(1, 5),
)
def test_search_agrees_with_a_look_at_every_run(
    runs: list[dict[str, Any]],
    searches: list[tuple[list[Clause], list[Order]]],
    experiments: tuple[int, ...],
    stages: tuple[str, ...],
    limit: int,
) -> None:
    with TemporaryDirectory() as folder, closing(open_tracking(Path(folder) / "tracking.db")) as store:
        made = fill(store, runs)
        for clauses, order in searches:
            wanted = [run.info.id for run in brute_force(experiments, made, clauses, order, stages)]
            found: list[str] = []
            place = None
            with store.read() as reader:
                while True:
                    page, place = reader.search(experiments, clauses, order, stages=stages, limit=limit, after=place)
                    found += [run.info.id for run in page]
                    if place is None:
                        break
            assert found == wanted
