"""Files as people have them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.data.read import columns_of, parse_time, read
from noria.data.sources import Csv, FunctionSource, Parquet, Source
from noria.errors import DataError


def read_it(source: Source, folder: Path) -> pl.DataFrame:
    return read(source, folder, lambda function: function())


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., pl.DataFrame]:
    def make(content: str | bytes, **options: Any) -> pl.DataFrame:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "data.csv").write_bytes(data)
        found = read_it(Csv("data.csv", **options), tmp_path)
        kinds = columns_of(Csv("data.csv", **options), tmp_path)
        assert kinds is not None
        assert list(kinds) == found.columns
        return found

    return make


Make = Callable[..., pl.DataFrame]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_any_separator_newline_and_encoding(csv: Make, separator: str, newline: str, coding: str) -> None:
    lines = ["näme|age|score", '"Åse, the 1st; of | many"|3|1.5', "José|4|"]
    text = newline.join(lines).replace("|", separator).replace(f"of {separator}", "of |") + newline
    frame = csv(text.encode(coding))
    assert frame.columns == ["näme", "age", "score"]
    assert frame["näme"].to_list() == ["Åse, the 1st; of | many", "José"]
    assert frame["age"].to_list() == [3, 4]
    assert frame["score"].to_list() == [1.5, None]


@pytest.mark.parametrize("missing", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "?", "None", "#N/A"])
def test_missing_values_as_people_write_them(csv: Make, missing: str) -> None:
    frame = csv(f"a,b,c\n1,x,2.5\n{missing},{missing},{missing}\n3,y,1\n")
    assert frame.schema == {"a": pl.Int64, "b": pl.String, "c": pl.Float64}
    assert frame.null_count().row(0) == (1, 1, 1)


def test_space_after_separators_is_no_part_of_values(csv: Make) -> None:
    frame = csv("age, work, pay\n39, State-gov, 77516\n50, ?, 83311\n")
    assert frame.rows() == [(39, "State-gov", 77516), (50, None, 83311)]


def test_decimal_commas_are_numbers(csv: Make) -> None:
    assert csv("a;b\n1,5;x\n2;y\n")["a"].to_list() == [1.5, 2.0]
    assert csv('a,b\n"1,5",x\n"2,0",y\n')["a"].to_list() == ["1,5", "2,0"]  # could be thousands: left as text


def test_quoted_newlines_and_quotes_are_kept(csv: Make) -> None:
    frame = csv('id,note\n1,"two\nlines"\n2,"a ""quote"""\n')
    assert frame["note"].to_list() == ["two\nlines", 'a "quote"']


def test_a_quoted_text_over_many_lines_does_not_disturb_the_look_ahead(csv: Make) -> None:
    text = "\n".join("line" for _ in range(3000))
    assert csv(f'id,note\n1,"{text}"\n2,b\n').height == 2


def test_very_long_numbers_keep_their_digits(csv: Make) -> None:
    frame = csv(f"id,longer\n99999999999999999999,{'9' * 60}\n1,2\n")
    assert frame["id"].to_list() == ["99999999999999999999", "1"]
    assert frame["longer"].to_list() == ["9" * 60, "2"]


def test_infinity_and_overflow_are_numbers(csv: Make) -> None:
    frame = csv("a\ninf\n1e400\n-inf\n2.5\n")
    assert frame["a"].to_list() == [float("inf"), float("inf"), float("-inf"), 2.5]


def test_truth_is_read_in_either_case(csv: Make) -> None:
    assert csv("a,b\nTrue,true\nFalse,false\n").schema == {"a": pl.Boolean, "b": pl.Boolean}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n\n", "is empty|no rows"),
        ("a,b\n", "no rows"),
        ("a,b", "no rows"),
        ("a,a\n1,2\n", "column 'a' more than once"),
        ('" a",a\n1,2\n', "column 'a' more than once"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 values, the header 2"),
        (b"\x7fELF\x00\x01\xff\xfe\x00" * 50, "not a text file"),
        (b"PK\x03\x04\x00\x00\xff\x00\xfe" * 50, "not a text file"),
        ('a,b\n1,"x\n', "not a readable CSV"),
    ],
)
def test_a_file_that_is_no_table_is_refused(csv: Make, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        csv(content)
    assert "\n" not in str(refused.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(alphabet='ab,;"\n\r\t1.5 -?\0é', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "any.csv").write_bytes(data)
    try:
        columns_of(Csv("any.csv"), tmp_path)
        assert read_it(Csv("any.csv"), tmp_path).height > 0
    except DataError:
        pass


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r'does not exist. Did you mean "customers.csv"'):
        read_it(Csv("custmers.csv"), tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_it(Csv("nowhere/x.csv"), tmp_path)
    with pytest.raises(DataError, match="folder"):
        read_it(Csv("."), tmp_path)
    with pytest.raises(DataError):
        read_it(Csv("x" * 5000), tmp_path)
    with pytest.raises(DataError):
        read_it(Csv("x\0y"), tmp_path)


def test_a_column_that_is_not_there_names_the_nearest(csv: Make) -> None:
    with pytest.raises(DataError, match=r'label column "churn" is not in the data. Did you mean "churned"'):
        csv("id,churned\n1,0\n", label="churn")


@pytest.mark.parametrize(
    ("values", "second"),
    [
        (["2024-05-30", "2024-05-31"], datetime(2024, 5, 31)),
        (["2024-05-30", "2024-05-31 14:05"], datetime(2024, 5, 31, 14, 5)),
        (["2024-05-30 00:00:00", "2024-05-31T14:05:00.25"], datetime(2024, 5, 31, 14, 5, 0, 250_000)),
        (["2024-05-30T00:00:00Z", "2024-05-31T14:05:00+02:00"], datetime(2024, 5, 31, 12, 5, tzinfo=UTC)),
        (["05/30/2024", "05/31/2024"], datetime(2024, 5, 31)),
        (["30/05/2024", "1/6/2024"], datetime(2024, 6, 1)),
        (["5/30/24 7:05", "5/31/24 14:05"], datetime(2024, 5, 31, 14, 5)),
        (["30/5/24", "31/5/24"], datetime(2024, 5, 31)),
        (["30.05.2024", "31.05.2024 14:05"], datetime(2024, 5, 31, 14, 5)),
        (["30-May-2024", "31 May 2024"], datetime(2024, 5, 31)),
        (["May 30, 2024", "May 31, 2024"], datetime(2024, 5, 31)),
        ([" 2024-05-30", "2024-05-31 "], datetime(2024, 5, 31)),
        ([20240530, 20240531], datetime(2024, 5, 31)),
        ([1717027200, 1717113600], datetime(2024, 5, 31)),
        ([1717027200000, 1717113600000], datetime(2024, 5, 31)),
        ([1717027200000000, 1717113600000000], datetime(2024, 5, 31)),
        ([1717027200000000000, 1717113600000000000], datetime(2024, 5, 31)),
        ([1717027200.5, 1717113600.25], datetime(2024, 5, 31, 0, 0, 0, 250_000)),
    ],
)
def test_times_are_read_however_they_are_written(values: list[Any], second: datetime) -> None:
    column = parse_time(pl.Series("t", [*values, None]))
    assert column[1] == second
    assert column.null_count() == 1
    assert column.name == "t"
    assert isinstance(column.dtype, pl.Datetime)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (["2024-05-30", "soon", "2024-02-30"], ["row 1: 'soon'", "row 2: '2024-02-30'"]),
        (["05/30/2024", "30/05/2024", "06/01/2024"], ["row 1: '30/05/2024'"]),
        (["30/05/2024", "05/31/2024", "29/05/2024"], ["row 1: '05/31/2024'"]),
        ([1.7e9, float("inf")], ["row 1"]),
        ([1.7e9, 1e30], ["row 1"]),
        (["x" * 1000], ["row 0: 'xxx"]),
    ],
)
def test_values_that_are_no_times_are_named_by_row(values: list[Any], named: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        parse_time(pl.Series("t", values))
    assert all(name in str(refused.value) for name in named)
    assert len(str(refused.value)) < 600


def test_a_column_of_something_else_is_no_time() -> None:
    for values in ([True, False], [[1], [2]]):
        with pytest.raises(DataError, match="not a time"):
            parse_time(pl.Series("t", values))


def test_a_time_column_of_a_file_is_parsed(csv: Make) -> None:
    frame = csv("id,when\n1,31/12/2023\n2,01/02/2024\n", time="when")
    assert frame["when"].to_list() == [datetime(2023, 12, 31), datetime(2024, 2, 1)]
    with pytest.raises(DataError, match="row 1: 'later'"):
        csv("id,when\n1,2024-01-01\n2,later\n", time="when")


def test_parquet_columns_become_what_a_request_can_carry(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "level": pl.Series(["a", "b", None], dtype=pl.Categorical),
            "listed": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
            "price": [Decimal("1.50"), Decimal("2.25"), None],
            "part": [1.0, float("nan"), None],
            "none": [None, None, None],
            "many": [[1], [2, 3], None],
        }
    )
    frame.write_parquet(tmp_path / "data [1].parquet")
    found = read_it(Parquet("data [1].parquet"), tmp_path)
    assert found.schema == {
        "level": pl.String, "listed": pl.String, "price": pl.Float64, "part": pl.Float64, "none": pl.String,
        "many": pl.List(pl.Int64),
    }  # fmt: skip
    assert found["part"].to_list() == [1.0, None, None]
    assert columns_of(Parquet("data [1].parquet"), tmp_path) == {n: str(k) for n, k in found.schema.items()}


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"PAR1" + b"x" * 100 + b"PAR1", b"PAR1", b"\0" * 1000])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.parquet").write_bytes(content)
    with pytest.raises(DataError, match="not a Parquet file"):
        read_it(Parquet("data.parquet"), tmp_path)
    with pytest.raises(DataError, match="not a Parquet file"):
        columns_of(Parquet("data.parquet"), tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"id": [1, 2], "x": [0.5, np.nan]}),
        pl.DataFrame({"id": [1, 2], "x": [0.5, float("nan")]}),
        pl.LazyFrame({"id": [1, 2], "x": [0.5, None]}),
        pa.table({"id": [1, 2], "x": [0.5, None]}),
    ],
    ids=lambda table: type(table).__module__,
)
def test_a_function_may_give_any_table(tmp_path: Path, table: object) -> None:
    source = FunctionSource(lambda: table, key="id")
    assert read_it(source, tmp_path).to_dict(as_series=False) == {"id": [1, 2], "x": [0.5, None]}
    assert columns_of(source, tmp_path) is None


@pytest.mark.parametrize("given_back", [pd.Series([1]), pl.Series([1]), [1, 2], pd.DataFrame({"id": []})])
def test_a_function_that_gives_no_table_is_refused(tmp_path: Path, given_back: object) -> None:
    with pytest.raises(DataError):
        read_it(FunctionSource(lambda: given_back), tmp_path)


def test_python_objects_in_a_table_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(DataError, match='"x" holds Python objects'):
        read_it(FunctionSource(lambda: frame), tmp_path)
