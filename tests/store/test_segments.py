"""The prediction log in a folder: torn files, killed writers, compaction, and the table other engines read."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.errors import NotFound, StoreError, StoreFull
from noria.store.kinds import Label, Prediction
from noria.store.segments import compact as compaction
from noria.store.segments.compact import compact, retain
from noria.store.segments.delta import commit
from noria.store.segments.log import FolderPredictions, table_folder
from noria.store.segments.reader import Segment
from noria.store.segments.rows import ids_of
from noria.store.segments.writer import HEADER, Block, SegmentWriter
from noria.store.sqlite import open_predictions
from noria.testing.contracts import PredictionLogContract

AT = datetime(2026, 1, 1, tzinfo=UTC)


def block(rows: int = 1, *, seed: int = 0, version: int = 1, role: str = "champion", **more: Any) -> Block:
    dice = random.Random(seed)
    numbers = [round(dice.uniform(0, 100), 3) for _ in range(3 * rows)]
    given: dict[str, Any] = {
        "at_us": int(AT.timestamp() * 1e6) + seed,
        "latency_us": 50,
        "version": version,
        "digest": f"digest-{version}",
        "role": role,
        "rows": rows,
        "names": ("a", "b", "c"),
        "matrix": array("d", numbers).tobytes(),
        "columns": {"town": [dice.choice(["Oslo", "Rome"]) for _ in range(rows)]},
        "keys": [f"{seed}-{row}" for row in range(rows)],
        "values": [dice.randint(0, 1) for _ in range(rows)],
        "classes": (0, 1),
        "probabilities": array("d", [0.25, 0.75] * rows).tobytes(),
        "error": None,
        "answered": None,
        "trace": None,
        "ids": None,
    }
    return Block(**{**given, **more})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FolderPredictions]:
    with closing(open_predictions(tmp_path / "predictions")) as found:
        yield found


class Compacting:
    """A log that compacts before every reading."""

    def __init__(self, log: FolderPredictions) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        if name in ("find", "predictions", "rows", "labelled", "counts", "targets", "unlabelled"):
            compact(self._log)
        return getattr(self._log, name)


class TestCompactedContract(PredictionLogContract):
    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[Any]:
        with closing(open_predictions(tmp_path / "predictions")) as found:
            yield Compacting(found)

    def test_a_prediction_is_found_by_its_id(self, log: Any) -> None:
        made = Prediction("a" * 32, "churn", AT, 1, "digest", "champion", {"nested": [1, None]}, 1, [0.25, 0.75], "k")
        log.append([made])
        assert log.find(made.id) == (made, None)


def written(log: FolderPredictions, loop: str, count: int) -> list[str]:
    writer = log.writer(loop)
    ids = [writer.append(block(seed=number)) for number in range(count)]
    writer.close()
    return ids


def test_what_one_process_writes_another_finds_at_once(log: FolderPredictions, tmp_path: Path) -> None:
    writer = log.writer("churn")
    first = writer.append(block(3, seed=1, trace="ab" * 16))
    with closing(open_predictions(tmp_path / "predictions")) as other:
        found, label = other.find(first)
        assert (found.trace, found.key, label) == ("ab" * 16, "1-0", None)
        assert set(found.record) == {"a", "b", "c", "town"}
        assert other.label([Label("churn", AT, 1, key="1-2")]).matched == 1
    second = writer.append(block(2, seed=2))
    assert int(second[22:], 16) == 3
    assert [made.id for _, made in log.predictions("churn")] == [f"{first[:22]}{row:010x}" for row in range(5)]
    assert [one.prediction.key for one in log.labelled("churn")] == ["1-2"]
    writer.close()


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 40])
def test_a_torn_end_is_left_out_and_the_rest_is_there(log: FolderPredictions, cut: int) -> None:
    ids = written(log, "churn", 5)
    (path,) = log.segments.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    assert [made.id for _, made in log.predictions("churn")] == ids[:4]
    with pytest.raises(NotFound):
        log.find(ids[4])
    more = written(log, "churn", 2)
    assert [made.id for _, made in log.predictions("churn")] == ids[:4] + more


def test_zeros_at_the_end_are_no_blocks(log: FolderPredictions) -> None:
    ids = written(log, "churn", 3)
    (path,) = log.segments.iterdir()
    with path.open("ab") as file:
        file.write(bytes(5000))
    assert [made.id for _, made in log.predictions("churn")] == ids


def damage(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("which", [0, 2, 3, 5])
def test_a_damaged_block_is_left_out_and_takes_no_other_with_it(
    log: FolderPredictions, tmp_path: Path, which: int, indexed: bool
) -> None:
    writer = log.writer("churn")
    ids = [made for seed in range(6) for made in ids_of(writer.append(block(seed % 3 + 1, seed=seed)), seed % 3 + 1)]
    writer.close()
    keys = [f"{seed}-{row}" for seed in range(6) for row in range(seed % 3 + 1)]
    left = {made: key for made, key in zip(ids, keys, strict=True) if not key.startswith(f"{which}-")}
    if indexed:
        log.index()
    (path,) = log.segments.iterdir()
    damage(path, list(Segment(path).blocks())[which].stop - 3)
    with closing(open_predictions(tmp_path / "predictions")) as fresh:
        for _ in range(2):
            assert {made: fresh.find(made)[0].key for made in left} == left
            assert {one.id: one.key for _, one in fresh.predictions("churn")} == left
            assert [one.key for _, one, _ in fresh.recent("churn", limit=len(left))] == [*left.values()][::-1]
            for made in set(ids) - left.keys():
                with pytest.raises(NotFound):
                    fresh.find(made)
            assert fresh.label([Label("churn", AT, 1, key=next(reversed(left.values())))]).matched == 1
            assert fresh.labelled("churn")[-1].prediction.key == next(reversed(left.values()))
            compact(fresh)
    if which < 5:
        assert [found.suffix for found in log.segments.iterdir()] == [".damaged"]
    table = pl.read_delta(str(table_folder(tmp_path / "predictions", "churn")))
    assert table["key"].to_list() == list(left.values())


@pytest.mark.parametrize("which", [1, 3])
def test_of_a_segment_whose_frames_are_damaged_what_cannot_be_read_is_not_thrown_away(
    log: FolderPredictions, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    ids = written(log, "churn", 5)
    (path,) = log.segments.iterdir()
    damage(path, list(Segment(path).blocks())[which].start + 1)  # its length
    assert [made.id for _, made in log.predictions("churn")] == ids[:which]
    compact(log)
    assert [made.id for _, made in log.predictions("churn")] == ids[:which]
    assert [found.suffix for found in log.segments.iterdir()] == [".damaged"]
    assert f"is kept as {path.stem}.damaged" in caplog.text


def test_predictions_of_a_damaged_layout_are_left_out(log: FolderPredictions) -> None:
    writer = log.writer("churn")
    ids = [writer.append(block(seed=seed, version=1 + seed // 2)) for seed in range(4)]
    writer.close()
    (path,) = log.segments.iterdir()
    damage(path, list(Segment(path).blocks())[2].start + 20)  # the second version's layout
    assert [made.id for _, made in log.predictions("churn")] == ids[:2]


def test_a_segment_of_which_nobody_knows_whose_it_is_is_kept_and_said(
    log: FolderPredictions, caplog: pytest.LogCaptureFixture
) -> None:
    written(log, "churn", 3)
    (path,) = log.segments.iterdir()
    damage(path, HEADER.size + 2)
    ids = written(log, "churn", 2)
    for _ in range(3):
        assert [made.id for _, made in log.predictions("churn")] == ids
        compact(log)
    assert path.exists()
    said = f"segment {path.stem} of the prediction log is damaged: whose 3 predictions it holds cannot be read"
    assert [one.message for one in caplog.records] == [said]


def test_files_with_a_gap_between_them_are_not_made_one(log: FolderPredictions) -> None:
    kept: list[str] = []
    for number in range(13):
        writer = log.writer("churn")
        kept.append(writer.append(block(seed=number, at_us=int((AT + timedelta(days=number)).timestamp() * 1e6))))
        writer.close()
        compact(log)
        if number == 2:  # the clock was wrong: in the middle of the order of arrival stands the oldest
            log.database.write(lambda connection: connection.execute("UPDATE files SET latest = 0 WHERE first = 2"))
            assert retain(log, before=AT) == 1
            del kept[1]
    compact(log)
    assert [log.find(made)[0].id for made in kept] == kept
    assert [made.id for _, made, _ in log.recent("churn", limit=len(kept))] == kept[::-1]


def test_a_segment_of_a_newer_noria_is_said(log: FolderPredictions) -> None:
    written(log, "churn", 1)
    (path,) = log.segments.iterdir()
    writer = SegmentWriter(log.segments, "churn")
    newer = log.segments / f"{'f' * 22}.log"
    newer.write_bytes(writer._framed((99, "churn")))
    with pytest.raises(StoreError, match="newer Noria"):
        log.predictions("churn")
    newer.unlink()
    assert path.exists()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_segments import block
from noria.store.segments.writer import SegmentWriter
writer = SegmentWriter(Path({folder!r}), "churn", roll_bytes=20_000)
number = 0
while True:
    print(writer.append(block(1 + number % 3, seed=number)), 1 + number % 3, flush=True)
    number += 1
"""


def test_killed_writers_lose_nothing_they_acknowledged(log: FolderPredictions) -> None:
    acknowledged: dict[str, int] = {}
    for _ in range(4):
        code = WRITER.format(tests=str(Path(__file__).parent), folder=str(log.segments))
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(0.3)
        compact(log)
        log.predictions("churn", limit=10)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            out, _ = process.communicate()
            for line in out.splitlines():
                made, _, rows = line.partition(" ")
                if rows and len(made) == 32:
                    acknowledged[made] = int(rows)
    compact(log)
    listed = log.predictions("churn", limit=10_000_000)
    found = [one.id for _, one in listed]
    assert len(set(found)) == len(found)
    assert [sequence for sequence, _ in listed] == list(range(1, len(listed) + 1))
    there = set(found)
    for made, count in acknowledged.items():
        assert {f"{made[:22]}{int(made[22:], 16) + row:010x}" for row in range(count)} <= there
    assert len(acknowledged) > 100
    assert not list(log.segments.iterdir())


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["_write", "commit", "_free", "_publish", "_sweep"])
def test_compaction_that_is_cut_off_doubles_and_loses_nothing(
    log: FolderPredictions, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []
    for turn in range(3):
        ids += written(log, "churn", 20)
        real = getattr(compaction, step)
        before = turn % 2 == 0

        def cut(*given: Any, real: Any = real, before: bool = before, **named: Any) -> Any:
            if not before:
                real(*given, **named)
            raise _Killed

        with monkeypatch.context() as patch:
            patch.setattr(compaction, step, cut)
            with pytest.raises(_Killed):
                compact(log)
        assert [made.id for _, made in log.predictions("churn")] == ids
    compact(log)
    assert [made.id for _, made in log.predictions("churn")] == ids
    folder = table_folder(log.folder, "churn")
    assert pl.read_parquet(folder / "*.parquet")["id"].n_unique() == len(ids)
    deltalake = pytest.importorskip("deltalake")
    table = deltalake.DeltaTable(folder).to_pyarrow_table()
    assert sorted(table["id"].to_pylist()) == sorted(ids)


@pytest.mark.parametrize("then", ["merged", "removed"])
def test_a_commit_that_was_made_and_not_noted_is_noted_before_its_files_change(
    log: FolderPredictions, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltalake = pytest.importorskip("deltalake")
    ids: list[str] = []
    for _ in range(8):
        ids += written(log, "churn", 2)
        compact(log)
    ids += written(log, "churn", 2)

    def cut(*given: Any) -> None:
        commit(*given)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "commit", cut)
        with pytest.raises(_Killed):
            compact(log)
    if then == "merged":
        ids += written(log, "churn", 2)
        compact(log)
    else:
        new = log.writer("churn")
        made = new.append(block(seed=50, at_us=int((AT + timedelta(days=30)).timestamp() * 1e6)))
        new.close()
        assert retain(log, before=AT + timedelta(days=1)) == len(ids)
        compact(log)
        ids = [made]
    folder = table_folder(log.folder, "churn")
    table = deltalake.DeltaTable(folder)
    assert sorted(table.to_pyarrow_table()["id"].to_pylist()) == sorted(ids)


def test_a_table_of_which_everything_is_removed_can_still_be_read(log: FolderPredictions) -> None:
    deltalake = pytest.importorskip("deltalake")
    written(log, "churn", 5)
    compact(log)
    folder = table_folder(log.folder, "churn")
    before = deltalake.DeltaTable(folder).schema()
    assert retain(log, max_bytes=0) == 5
    assert deltalake.DeltaTable(folder).schema() == before
    assert deltalake.DeltaTable(folder).to_pyarrow_table().num_rows == 0
    ids = written(log, "churn", 5)
    compact(log)
    assert deltalake.DeltaTable(folder).to_pyarrow_table()["id"].to_pylist() == ids


def test_other_engines_read_the_table(log: FolderPredictions) -> None:
    deltalake = pytest.importorskip("deltalake")
    ids = written(log, "churn: a/b", 30)
    compact(log)
    writer = log.writer("churn: a/b")
    ids.append(writer.append(block(2, seed=99, columns={"town": ["x", None], "new": [True, False]}, keys=None)))
    ids.append(writer.append(block(1, seed=100, columns={"town": [5]}, error="no", values=[], probabilities=None)))
    writer.close()
    compact(log)
    folder = table_folder(log.folder, "churn: a/b")
    table = deltalake.DeltaTable(folder)
    assert table.metadata().name == "churn: a/b"
    frame = pl.from_arrow(table.to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    frame = frame.sort("sequence")
    assert frame.height == 33
    assert frame["feature_town"].to_list()[-3:] == ["x", None, None]
    assert frame["feature_town__whole"].to_list()[-1] == 5
    assert frame["feature_new"].to_list()[-3:] == [True, False, None]
    assert frame["error"].to_list()[-1] == "no"
    assert frame["probabilities"].to_list()[0] == [0.25, 0.75]
    assert log.find(ids[-1])[0].record["town"] == 5
    assert log.find(ids[-2])[0].record["new"] is True
    assert table.version() == 1
    compact(log)
    assert deltalake.DeltaTable(folder).version() == 1


def test_what_fails_for_one_loop_keeps_no_other_from_its_table(
    log: FolderPredictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loop in ("a", "b", "c"):
        written(log, loop, 3)
    write = compaction._write

    def failing(log: FolderPredictions, loop: str, frame: pl.DataFrame) -> Any:
        if loop == "b":
            raise OSError(28, "No space left on device")
        return write(log, loop, frame)

    with monkeypatch.context() as patched:
        patched.setattr(compaction, "_write", failing)
        with pytest.raises(StoreError):
            compact(log)
    assert [(table_folder(log.folder, loop) / "_delta_log").is_dir() for loop in ("a", "b", "c")] == [True, False, True]
    assert [len(log.predictions(loop)) for loop in ("a", "b", "c")] == [3, 3, 3]
    compact(log)
    assert (table_folder(log.folder, "b") / "_delta_log").is_dir()
    assert len(log.predictions("b")) == 3


def test_small_files_become_one(log: FolderPredictions) -> None:
    ids: list[str] = []
    for _ in range(12):
        ids += written(log, "churn", 5)
        compact(log)
    with log.database.read() as connection:
        files = connection.execute("SELECT name, rows FROM files").fetchall()
    assert len(files) < 12
    assert sum(rows for _, rows in files) == len(ids)
    assert [made.id for _, made in log.predictions("churn")] == ids
    for made in ids[::7]:
        assert log.find(made)[0].id == made
    assert log.counts("churn", AT)[0] == len(ids)


def test_what_is_counted_keeps_nothing_of_files_that_are_gone(log: FolderPredictions) -> None:
    for turn in range(12):
        written(log, "churn", 2)
        compact(log)
        assert log.counts("churn", AT)[0] == 2 * turn + 2
    with log.database.read() as connection:
        (files,) = connection.execute("SELECT COUNT(*) FROM files").fetchone()
    assert files == len(log._heads) < 12


def test_what_is_old_is_removed_with_its_labels(log: FolderPredictions) -> None:
    old = written(log, "churn", 10)
    log.label([Label("churn", AT, 1, key="3-0")])
    compact(log)
    writer = log.writer("churn")
    later = AT + timedelta(days=30)
    new = [writer.append(block(seed=50 + n, at_us=int(later.timestamp() * 1e6))) for n in range(10)]
    writer.close()
    log.label([Label("churn", later, 0, key="52-0")])
    compact(log)
    log.label([Label("churn", at, 1, key=key) for at, key in ((AT, "60-0"), (later, "61-0"))])
    assert retain(log, before=AT + timedelta(days=1), dry_run=True) == 10
    assert retain(log, before=AT + timedelta(days=1)) == 10
    writer = log.writer("churn")
    new += [writer.append(block(seed=seed)) for seed in (60, 61)]
    writer.close()
    assert [made.id for _, made in log.predictions("churn")] == new
    assert [made.id for _, made, _ in log.recent("churn")] == new[::-1]
    with pytest.raises(NotFound):
        log.find(old[0])
    assert [one.value for one in log.labelled("churn")] == [0, 1], "the label that waited too long is gone"
    compact(log)
    assert retain(log, max_bytes=0) == 12
    assert log.predictions("churn") == []


def test_what_is_old_is_removed_though_the_table_cannot_be_told(
    log: FolderPredictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loop in ("a", "b"):
        written(log, loop, 3)
    compact(log)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "commit", full)
        with pytest.raises(StoreFull):
            retain(log, max_bytes=0)
    assert [log.predictions(loop) for loop in ("a", "b")] == [[], []]
    compact(log)
    assert [pl.read_delta(str(table_folder(log.folder, loop))).height for loop in ("a", "b")] == [0, 0]


def test_a_shadow_takes_no_labels_and_no_place(log: FolderPredictions) -> None:
    writer = log.writer("churn")
    main = writer.append(block(2, seed=1))
    shadow = writer.append(block(2, seed=1, version=2, role="shadow", answered=[0, 1]))
    writer.close()
    receipt = log.label([Label("churn", AT, 1, key="1-0"), Label("churn", AT, 1, prediction=shadow)])
    assert receipt.matched == 1
    assert [one.prediction.id for one in log.labelled("churn")] == [main]
    for _ in range(2):
        assert {made.role for _, made in log.predictions("churn")} == {"champion"}
        assert log.counts("churn", AT) == (2, 0, 1)
        assert log.counts("churn", AT, version=2) == (2, 0, 0)
        assert log.find(shadow)[0].answered == 0
        compact(log)


def test_of_many_labels_that_wait_those_are_met_whose_prediction_came(log: FolderPredictions) -> None:
    writer = log.writer("churn")
    first = writer.append(block(2, seed=0))
    coming = f"{first[:22]}{2:010x}"
    waiting = [Label("churn", AT, 0, key=f"{seed}-0") for seed in range(1, 3000)]
    waiting += [Label("churn", AT, 5, prediction=f"{first[:22]}{number:010x}") for number in range(2, 1500)]
    assert log.label([*waiting, Label("churn", AT, 1, key="7-0")]).matched == 0
    by_id, by_key = writer.append(block(1, seed=9000)), writer.append(block(1, seed=7))
    assert by_id == coming
    found = {one.prediction.id: one.value for one in log.labelled("churn")}
    assert found == {by_id: 5, by_key: 1}, "of three labels the last"
    log.label([Label("churn", AT, 0, key="7-0")])
    assert {one.prediction.id: one.value for one in log.labelled("churn")} == {by_id: 5, by_key: 0}


def test_what_was_rolled_over_gets_to_the_disk_too(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments", "churn", roll_bytes=500)
    for number in range(10):
        writer.append(block(seed=number))
        writer.sync()
    writer.close()
    assert len(list((tmp_path / "segments").iterdir())) > 1


plain_values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=20)
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_record_comes_back_before_and_after_compaction(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any") / "predictions"
    with closing(open_predictions(folder)) as log:
        writer = log.writer("churn")
        given_rows: dict[str, tuple[dict[str, Any], str | None, str | None]] = {}
        for number in range(data.draw(st.integers(1, 6))):
            rows = data.draw(st.integers(1, 3))
            ends = st.sampled_from(["", "_", "__text", "__json", "_" * 3 + "whole", "__exact", "__number__text", "__x"])
            names = data.draw(st.lists(st.tuples(st.text(max_size=3), ends).map("n".join), max_size=3, unique=True))
            names = [f"n{name}" for name in names]
            columns = {name: data.draw(st.lists(plain_values, min_size=rows, max_size=rows)) for name in names}
            numbers = data.draw(st.lists(st.floats(allow_infinity=False), min_size=3 * rows, max_size=3 * rows))
            matrix = array("d", numbers)
            error, trace = data.draw(st.sampled_from([None, "no"])), data.draw(st.sampled_from([None, "ab" * 16]))
            more: dict[str, Any] = {"columns": columns, "matrix": matrix.tobytes(), "error": error, "trace": trace}
            if error is not None:
                more |= {"values": None, "probabilities": None}
            first = writer.append(block(rows, seed=number, **more))
            for row in range(rows):
                record: dict[str, Any] = dict(zip(("a", "b", "c"), matrix[3 * row : 3 * row + 3], strict=True))
                record |= {name: values[row] for name, values in columns.items()}
                made = f"{first[:22]}{int(first[22:], 16) + row:010x}"
                there = {
                    name: value
                    for name, value in record.items()
                    if value is not None and not (isinstance(value, float) and math.isnan(value))
                }
                given_rows[made] = (there, error, trace)
        writer.close()
        for _ in range(2):
            for made, kept in given_rows.items():
                found = log.find(made)[0]
                record = {name: value for name, value in found.record.items() if value is not None}
                assert (record, found.error, found.trace) == kept
                assert (found.value is None) == (found.error is not None)
            compact(log)


kinds = [st.integers(-5, 5), st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False), st.booleans()]


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """Any block: of any version and role, with and without matrix, columns, keys, probabilities, error, trace."""

    def each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    rows, role = draw(st.integers(1, 3)), draw(st.sampled_from(["champion", "shadow"]))
    names = draw(st.sampled_from([("a", "b"), ("b", "town"), ()]))
    numbers = draw(st.lists(st.floats(allow_infinity=False), min_size=len(names) * rows, max_size=len(names) * rows))
    beside = set(draw(st.sampled_from([(), ("town", "zip")]))) - set(names)
    error, classes = draw(st.sampled_from([None, None, "no"])), draw(st.sampled_from([(), (0, 1)]))
    values = None if error else each(draw(st.sampled_from(kinds)))
    return block(
        rows,
        version=draw(st.integers(1, 2)),
        role=role,
        names=names,
        matrix=array("d", numbers).tobytes(),
        columns={name: each(st.none() | draw(st.sampled_from(kinds))) for name in sorted(beside)},
        keys=draw(st.none() | st.just([None, "", "k"][:rows])),
        values=values or [],
        classes=classes,
        probabilities=array("d", [0.5] * len(classes) * rows).tobytes()
        if classes and values and draw(st.booleans())
        else None,
        error=error,
        answered=values[::-1] if values and role == "shadow" else None,
        trace=draw(st.sampled_from([None, "ab" * 16])),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(blocks(), min_size=1, max_size=10), min_size=1, max_size=3))
def test_whatever_was_predicted_is_the_same_after_compaction(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[Block]]
) -> None:
    def known(log: FolderPredictions) -> list[str]:
        """Text tells 1 from True and 1.0; a null field is as good as none."""
        found = [msgspec.structs.asdict(log.find(made)[0]) for made in ids]
        for one in found:
            one["record"] = sorted((name, value) for name, value in one["record"].items() if value is not None)
        order = [one.id for _, one in log.rows("churn")]
        return [*map(repr, found), *order, *(repr(log.counts("churn", AT - timedelta(1), one)) for one in (None, 1, 2))]

    ids: list[str] = []
    with closing(open_predictions(tmp_path_factory.mktemp("mixed") / "predictions")) as log:
        writer = log.writer("churn")
        for part in parts:
            for one in part:
                ids += ids_of(writer.append(one), one.rows)
            before = known(log)
            compact(log)
            assert known(log) == before
        writer.close()
        compact(log)
        assert known(log) == before


@pytest.mark.parametrize("ask", ["find", "predictions", "labelled", "counts", "targets"])
def test_what_is_read_while_it_is_compacted_is_found(
    log: FolderPredictions, tmp_path: Path, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = written(log, "churn", 3)
    label = Label("churn", AT, 1, key="1-0")
    log.label([label])
    read = log.database.read

    with closing(open_predictions(tmp_path / "predictions")) as other:

        @contextmanager
        def reading() -> Iterator[Any]:
            with read() as connection:
                connection.execute("SELECT COUNT(*) FROM chunks").fetchone()
                compact(other)
                yield connection

        monkeypatch.setattr(log.database, "read", reading)
        if ask == "find":
            assert log.find(ids[1])[0].id == ids[1]
        elif ask == "predictions":
            assert [made.id for _, made in log.predictions("churn")] == ids
        elif ask == "labelled":
            assert [one.prediction.id for one in log.labelled("churn")] == [ids[1]]
        elif ask == "counts":
            assert log.counts("churn", AT) == (3, 0, 1)
        else:
            assert [one and one.id for one in log.targets([label])] == [ids[1]]


def test_a_label_for_what_is_kept_no_more_waits_and_goes_too(log: FolderPredictions) -> None:
    writer = log.writer("churn")
    made = [writer.append(block(seed=seed, role=role)) for seed in range(3) for role in ("champion", "shadow")]
    compact(log)
    later = AT + timedelta(days=30)
    new = [
        writer.append(block(seed=9, at_us=int(later.timestamp() * 1e6), role=role)) for role in ("champion", "shadow")
    ]
    writer.close()
    compact(log)
    assert retain(log, before=AT + timedelta(days=1)) == 6
    labels = [Label("churn", AT, 1, prediction=one) for one in (*made, *new)]
    assert log.label(labels).matched == 1
    assert [one.prediction.id for one in log.labelled("churn")] == [new[0]]
    assert retain(log, before=AT + timedelta(days=1)) == 0
    with log.database.read() as connection:
        assert connection.execute("SELECT COUNT(*) FROM labels").fetchone() == (1,)
        assert connection.execute("SELECT first, rows FROM unlabelled").fetchall() == [(8, 1)]
    assert retain(log, max_bytes=0) == 2
    with log.database.read() as connection:
        assert connection.execute("SELECT COUNT(*) FROM unlabelled").fetchone() == (0,)
