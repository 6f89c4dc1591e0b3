"""Arrow and Parquet bodies: what a few bytes of them can do to the server."""

from __future__ import annotations

import io
import struct
from typing import Any

import polars as pl
import pytest
from fakes import layout_of

from noria.errors import RequestError
from noria.records import Field
from noria.serve import tables
from noria.serve.batch import Batch
from noria.serve.refusals import TooLargeError

LAYOUT = layout_of(Field("a", "Float64", nullable=True), Field("town", "String", required=False, nullable=True))
GOOD = pl.DataFrame({"a": [1.5, None] * 10, "town": ["Oslo", None] * 10})


def body(frame: pl.DataFrame, write: str = "write_ipc_stream", **how: Any) -> bytes:
    out = io.BytesIO()
    getattr(frame, write)(out, **how)
    return out.getvalue()


def read(data: bytes, kind: str = tables.ARROW, most: int = 1_000_000, layout: Any = LAYOUT) -> Batch:
    return tables.from_table(data, kind, layout, most)


def test_a_body_that_asks_for_any_memory_is_refused_and_the_next_is_read() -> None:
    whole = body(GOOD, compression="zstd")
    at = whole.index(struct.pack("<QI", len(GOOD) // 8 + 1, 0xFD2FB528))  # how long a zstd frame is unpacked
    for size in (2**62, 2**45):
        with pytest.raises(RequestError, match="is damaged, or takes too much memory"):
            read(whole[:at] + struct.pack("<Q", size) + whole[at + 8 :])
        assert read(whole).columns["town"] == GOOD["town"].to_list()


def test_a_text_that_stands_in_every_row_is_counted_in_every_row() -> None:
    towns = pl.Series("town", ["x" * 90_000]).cast(pl.Categorical).new_from_index(0, 20_000)
    data = body(pl.DataFrame({"a": pl.Series([0.0]).new_from_index(0, 20_000), "town": towns}))
    assert len(data) < 2**20
    with pytest.raises(TooLargeError):
        read(data)


@pytest.mark.parametrize("write", ["write_ipc_stream", "write_ipc", "write_parquet"])
def test_columns_come_as_they_are(write: str) -> None:
    kind = {"write_ipc_stream": tables.ARROW, "write_ipc": tables.ARROW_FILE, "write_parquet": tables.PARQUET}[write]
    layout = layout_of(
        *(Field(name, "Float64", nullable=True) for name in ("a", "b")),
        *(Field(name, "Int64", required=False, nullable=True) for name in ("c", "d")),
        Field("e", "Boolean", nullable=True),
        Field("f", "Datetime(time_unit='us', time_zone=None)", nullable=True),
        Field("g", "UInt64"),
    )
    frame = pl.DataFrame(
        {
            "g": pl.Series([2**64 - 1, 0], dtype=pl.UInt64), "a": [1.5, None], "b": [3, 4], "c": [2**53 + 1, None],
            "d": [5, -(2**63)], "e": [True, None], "f": pl.Series([0, None], dtype=pl.Datetime),
        }
    )  # fmt: skip
    found = read(body(frame, write), kind, layout=layout)
    assert found.matrix.tolist()[1][1:] == [4.0, 0.0]
    assert found.matrix.tolist()[0][:2] == [1.5, 3.0]
    assert found.columns == {
        "c": [2**53 + 1, None], "d": [5, -(2**63)], "e": [True, None], "f": ["1970-01-01 00:00:00.000000", None],
        "g": [2**64 - 1, 0],
    }  # fmt: skip


def test_whole_numbers_of_128_bits_come_as_they_are() -> None:
    layout = layout_of(Field("a", "Int128", nullable=True))
    data = body(pl.DataFrame({"a": [2**100, None]}, schema={"a": pl.Int128}))
    assert read(data, layout=layout).columns == {"a": [2**100, None]}


@pytest.mark.parametrize("write", ["write_ipc_stream", "write_parquet"])
def test_unknown_columns_are_named(write: str) -> None:
    data = body(GOOD.with_columns(twon="town", b=1), write)
    with pytest.raises(RequestError) as refused:
        read(data, tables.PARQUET if write == "write_parquet" else tables.ARROW)
    assert [(one["record"], one["field"]) for one in refused.value.details] == [(0, "b"), (0, "twon")]


def test_a_column_that_is_there_twice_is_said() -> None:
    arrow = pytest.importorskip("pyarrow")
    out = io.BytesIO()
    table = arrow.table([arrow.array([1.0]), arrow.array([2.0])], names=["a", "a"])
    with arrow.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(RequestError, match="names a column twice"):
        read(out.getvalue())


def test_a_process_that_is_gone_is_started_again() -> None:
    for _ in range(2):
        assert read(body(GOOD)).rows == 20
        process = tables._PROCESS._process
        assert process is not None
        process.kill()
        process.wait()
