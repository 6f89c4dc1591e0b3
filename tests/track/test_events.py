"""Events applied to a real store: said again, in any batches, they come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.ids import new_id
from noria.errors import StoreBusy
from noria.records.tracking import Point, TrackedDataset
from noria.store import open_store
from noria.store.ports import Store
from noria.track import verbs
from noria.track.events import (
    DatasetRead,
    Event,
    ParamsSet,
    PointsLogged,
    RunEnded,
    RunStarted,
    TagsSet,
    apply,
)

KEYS = st.sampled_from(["a", "b", "c/d"])


def said_of(run: str) -> st.SearchStrategy[Event]:
    time = st.integers(0, 3)
    point = st.tuples(KEYS, st.floats(), time, st.integers(-1, 2))
    return st.one_of(
        st.builds(PointsLogged, st.just(run), st.lists(point, max_size=4)),
        st.builds(ParamsSet, st.just(run), st.dictionaries(KEYS, st.sampled_from(["1", "2"]), max_size=2)),
        st.builds(TagsSet, st.just(run), st.dictionaries(KEYS, st.sampled_from(["1", "2"]), max_size=2)),
        st.builds(
            DatasetRead,
            st.just(run),
            st.builds(TrackedDataset, KEYS, KEYS, st.just("local"), st.just("{}")),
            st.sampled_from(["training", "test"]),
        ),
        st.builds(RunEnded, st.just(run), st.sampled_from(["FINISHED", "FAILED"]), time),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


def kept(store: Store, run: str) -> Any:
    """All that the store knows of a run, but for its id."""
    with store.tracking.read() as reader:
        found = reader.run(run)
        assert found is not None
        points = {key: reader.history(run, key) for key in ("a", "b", "c/d")}
    info = msgspec.structs.replace(found.info, id="", artifacts="")
    return repr((info, found.params, found.tags, sorted(map(repr, found.inputs)), points))


@given(st.data())
def test_batches_sent_again_after_an_unknown_outcome_change_nothing(store: Store, data: st.DataObject) -> None:
    once, again = new_id(), new_id()
    said = data.draw(st.lists(said_of(once), max_size=12))

    def events(run: str) -> list[Event]:
        begun = RunStarted(run, "e", "name", "user", 1, {"t": "1"})
        return [begun, *(msgspec.structs.replace(event, run=run) for event in said)]

    told = [one.why for one in apply(store.tracking, events(once))]
    rest, told_again = events(again), set()
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        for _ in range(data.draw(st.integers(1, 3))):
            told_again |= {one.why.replace(again, once) for one in apply(store.tracking, rest[:size])}
        rest = rest[size:]
    assert kept(store, again) == kept(store, once)
    assert told_again >= set(told)


def test_a_beginning_that_comes_late_does_not_open_an_ended_run(store: Store) -> None:
    run = new_id()
    begun = RunStarted(run, "e", "name", "user", 1, {"t": "1"})
    assert apply(store.tracking, [begun, TagsSet(run, {"t": "2"}), RunEnded(run, "FINISHED", 2)]) == []
    before = kept(store, run)
    assert apply(store.tracking, [begun]) == []
    assert kept(store, run) == before


class Counted:
    """A store's tracking, whose transactions are counted."""

    def __init__(self, store: Store) -> None:
        self._tracking = store.tracking
        self.count = 0

    def write(self, change: Any) -> Any:
        self.count += 1
        return self._tracking.write(change)


def test_one_refused_event_costs_a_few_transactions_and_no_other_event(store: Store) -> None:
    run = new_id()
    apply(store.tracking, [RunStarted(run, "e", "name", "user", 1, {}), ParamsSet(run, {"p": "1"})])
    events: list[Event] = [PointsLogged(run, [("a", 1.0, step, step)]) for step in range(2_000)]
    events[1_234] = ParamsSet(run, {"p": "2"})
    counted = Counted(store)
    (refused,) = apply(counted, events)  # type: ignore[arg-type]
    assert refused.place == 1_234
    assert "cannot become '2'" in refused.why
    assert counted.count <= 2 * 11 + 1
    with store.tracking.read() as reader:
        assert [point.step for point in reader.history(run, "a")] == [step for step in range(2_000) if step != 1_234]


def test_when_the_store_is_at_fault_no_event_is_refused(store: Store) -> None:
    class Busy(Counted):
        """Is busy after some transactions."""

        def write(self, change: Any) -> Any:
            if self.count >= 3:
                raise StoreBusy("busy")
            return super().write(change)

    run = new_id()
    events: list[Event] = [
        RunStarted(run, "e", "name", "user", 1, {}),
        *(ParamsSet(run, {"p": str(n)}) for n in range(8)),
    ]
    with pytest.raises(StoreBusy):
        apply(Busy(store), events)  # type: ignore[arg-type]
    assert len(apply(store.tracking, events)) == 7
    with store.tracking.read() as reader:
        assert reader.run(run).params == {"p": "0"}  # type: ignore[union-attr]


def test_what_is_said_of_a_deleted_or_unknown_run_is_refused(store: Store) -> None:
    run = new_id()
    apply(store.tracking, [RunStarted(run, "e", "name", "user", 1, {})])
    store.tracking.write(lambda transaction: verbs.delete_run(transaction, run, 5))
    said: list[Event] = [PointsLogged(one, [("a", 1.0, 1, 1)]) for one in (run, new_id(), "../x")]
    whys = [refused.why for refused in apply(store.tracking, said)]
    assert [part in why for part, why in zip(("'active' state", "not found", "Invalid value"), whys, strict=True)] == (
        [True] * 3
    )
    with store.tracking.read() as reader:
        assert reader.history(run, "a") == list[Point]()
