"""The spool: what was said is there after any end of the process, in order, once."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.records.tracking import TrackedDataset
from noria.track import spool as spool_module
from noria.track.events import (
    ArtifactPut,
    DatasetRead,
    Event,
    ParamsSet,
    PointsLogged,
    RunEnded,
    RunStarted,
    TagsSet,
    frame,
    frames,
    read_events,
    write_events,
)
from noria.track.spool import Spool

words = st.text(max_size=12)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(RunStarted, words, words, words, words, st.integers(0, 2**40), st.dictionaries(words, words, max_size=2)),
    st.builds(
        PointsLogged,
        words,
        st.lists(st.tuples(words, st.floats(), st.integers(0, 2**40), st.integers(-(2**40), 2**40)), max_size=4),
    ),
    st.builds(ParamsSet, words, st.dictionaries(words, words, max_size=3)),
    st.builds(TagsSet, words, st.dictionaries(words, words, max_size=3)),
    st.builds(DatasetRead, words, st.builds(TrackedDataset, words, words, words, words), words),
    st.builds(ArtifactPut, words, words, words),
    st.builds(RunEnded, words, words, st.integers(0, 2**40)),
)


@given(st.lists(events, max_size=6))
def test_events_survive_the_wire_and_the_spool(said: list[Event]) -> None:
    assert str(read_events(write_events(said))) == str(said)
    assert str([event for event, _ in frames(b"".join(frame(event) for event in said))]) == str(said)


@given(st.lists(events, min_size=1, max_size=5), st.data())
def test_a_torn_or_damaged_tail_ends_the_reading_and_nothing_before_it_is_lost(
    said: list[Event], data: st.DataObject
) -> None:
    whole = [frame(event) for event in said]
    packed = b"".join(whole)
    cut = data.draw(st.integers(0, len(packed)))
    ends = [sum(map(len, whole[: n + 1])) for n in range(len(whole))]
    assert [end for _, end in frames(packed[:cut])] == [end for end in ends if end <= cut]
    place = data.draw(st.integers(0, len(packed) - 1))
    flipped = bytearray(packed)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    found = [end for _, end in frames(bytes(flipped))]
    assert found == [end for end in ends if end <= place]


@given(st.lists(st.lists(events, max_size=4), min_size=1, max_size=4), st.integers(1, 5))
def test_lives_of_processes_send_everything_once_and_in_order(lives: list[list[Event]], batch: int) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        sent: list[Event] = []
        spool = Spool.create("somewhere", root)
        for number, said in enumerate(lives):
            for event in said:
                spool.append(event)
            for event, place in spool.unsent(batch):
                sent.append(event)
                spool.mark_sent(place)
            if number < len(lives) - 1:
                spool.close()
                left = list(Spool.left_behind("somewhere", root))
                spool = left[0] if left else Spool.create("somewhere", root)
        while found := spool.unsent(batch):
            for event, place in found:
                sent.append(event)
                spool.mark_sent(place)
        assert spool.close() == 0
        assert list(root.iterdir()) == []
        assert str(sent) == str([event for said in lives for event in said])


def test_a_spool_in_use_is_not_taken_and_one_for_elsewhere_neither(tmp_path: Path) -> None:
    spool = Spool.create("a", tmp_path)
    spool.append(RunEnded("r", "FINISHED", 1))
    assert list(Spool.left_behind("a", tmp_path)) == []
    spool.close()
    assert list(Spool.left_behind("b", tmp_path)) == []
    (left,) = Spool.left_behind("a", tmp_path)
    assert [event for event, _ in left.unsent(9)] == [RunEnded("r", "FINISHED", 1)]
    left.close()


def test_a_long_spool_begins_anew_once_everything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_LARGE", 1_000)
    spool = Spool.create("a", tmp_path)
    for step in range(50):
        spool.append(PointsLogged("r", [("m", math.nan, 1, step)]))
    spool.compact()
    assert len(spool.unsent(100)) == 50
    spool.mark_sent(spool.unsent(100)[-1][1])
    spool.compact()
    assert (spool.written, spool.sent) == (0, 0)
    spool.append(RunEnded("r", "FINISHED", 1))
    assert len(spool.unsent(100)) == 1
    spool.mark_sent(spool.written)
    spool.close()


def test_what_cannot_be_read_is_told_and_kept(tmp_path: Path) -> None:
    spool = Spool.create("a", tmp_path)
    spool.append(RunEnded("r", "FINISHED", 1))
    with (spool.folder / "events").open("ab") as handle:
        handle.write(b"torn")
    spool.mark_sent(spool.unsent(9)[-1][1])
    assert spool.close() == 4
    assert (spool.folder / "events").exists()
    assert list(Spool.left_behind("a", tmp_path)) == []
