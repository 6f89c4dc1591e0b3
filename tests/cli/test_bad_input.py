"""A user's mistake is one clear message and a non-zero exit status; no stack trace, nothing half-written."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from noria.govern import verify
from noria.records import ModelVersion
from noria.store import open_store

NORIA = str(Path(sys.executable).with_name("noria"))
LOOP = """
import os
import polars as pl
from sklearn.linear_model import LogisticRegression
from noria import Csv, Loop, RandomSplit

loop = Loop(name="b", source=Csv(os.environ.get("FILE", "ok.csv"), key="id", time="t", label="y"),
            split=RandomSplit(test=0.3))

@loop.feature
def x(data: pl.DataFrame) -> pl.Series:
    if os.environ.get("BOOM"):
        return pl.Series([1 / (value - 5) for value in data["id"]])
    return data["x"].cast(pl.Float64)

class Mine(LogisticRegression):
    pass

@loop.train
def train(x_train: pl.DataFrame, y_train: pl.Series) -> LogisticRegression:
    return (Mine() if os.environ.get("MINE") else LogisticRegression()).fit(x_train, y_train.to_numpy())
"""


def rows() -> pl.DataFrame:
    draw, count = np.random.default_rng(0), 300
    days = [f"2024-01-{1 + row % 28:02d}" for row in range(count)]
    return pl.DataFrame({"id": range(count), "t": days, "x": draw.normal(size=count), "y": draw.integers(0, 2, count)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loop.py").write_text(LOOP)
    table, place = rows(), pl.int_range(300)
    table.write_csv(tmp_path / "ok.csv")
    (tmp_path / "empty.csv").touch()
    table.head(0).write_csv(tmp_path / "header.csv")
    table.with_columns(id=pl.lit(1)).write_csv(tmp_path / "repeated.csv")
    table.drop("id").write_csv(tmp_path / "keyless.csv")
    table.with_columns(t=pl.when(place == 7).then(pl.lit("soon")).otherwise("t")).write_csv(tmp_path / "timeless.csv")
    table.with_columns(y=pl.lit(1)).write_csv(tmp_path / "constant.csv")
    table.drop("y").write_csv(tmp_path / "unlabelled.csv")
    table.drop("x").write_csv(tmp_path / "vanished.csv")
    text = pl.when(place == 3).then(pl.lit("oops")).otherwise(pl.col("x").cast(pl.String))
    table.with_columns(x=text).write_csv(tmp_path / "retyped.csv")
    return tmp_path


def noria(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [NORIA, *arguments],
        cwd=folder,
        env=os.environ | environment | {"COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in said
    return done.returncode, said


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("absent.csv", "does not exist"),
        ("empty.csv", "is empty"),
        ("header.csv", "no rows"),
        ("repeated.csv", 'key "id" repeats in 299 rows'),
        ("keyless.csv", 'key column "id" is not in the data'),
        ("timeless.csv", "row 7: 'soon'"),
        ("constant.csv", "is 1 in all 300 rows"),
        ("unlabelled.csv", 'label column "y" is not in the data'),
    ],
)
def test_data_that_cannot_be_used_are_said_so(folder: Path, file: str, said: str) -> None:
    status, told = noria(folder, "turn", "loop.py", FILE=file)
    assert status == 1
    assert said in told


def test_a_column_that_vanishes_or_changes_type_is_named_and_the_champion_stays(folder: Path) -> None:
    assert noria(folder, "turn", "loop.py")[0] == 0
    status, told = noria(folder, "turn", "loop.py", FILE="vanished.csv")
    assert (status, 'column "x" (Float64) is gone' in told) == (1, True)
    status, told = noria(folder, "turn", "loop.py", FILE="retyped.csv")
    assert (status, "e.g. 'oops'" in told) == (1, True)
    store = open_store(folder / ".noria")
    with store.ledger.read() as db:
        assert [version.version for version in db.list(ModelVersion)] == [1]
        assert verify(db).problems == ()
    store.close()


def test_a_feature_that_raises_is_named_with_its_line_and_row(folder: Path) -> None:
    status, told = noria(folder, "turn", "loop.py", BOOM="1")
    assert status == 1
    assert "feature 'x' failed at" in told
    assert "loop.py:13: ZeroDivisionError" in told
    assert "on the row with id=5" in told


def test_a_model_of_the_users_own_class_is_refused_with_what_to_do(folder: Path) -> None:
    status, told = noria(folder, "turn", "loop.py", MINE="1")
    assert status == 1
    assert "holds loop.Mine" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "absent.py"), "no such file"),
        (("turn", "loop.py", "--set", "train.C=1"), "is not a knob"),
        (("report", "7"), "no version 7"),
        (("explain", "nothing"), "no prediction 'nothing'"),
        (("approve", "1"), "awaits no decision"),
        (("rollback",), "no former champion to go back to"),
        (("rollback", "--to", "7"), "no version 7"),
        (("rollback", "--loop", "bb"), "there is no loop 'bb'"),
        (("why", "nothing"), "no run of 'b' has a step"),
        (("status", "--store", "elsewhere"), "There is no store"),
        (("up", "loop.py", "--host", "0.0.0.0"), "loopback only"),
        (("new", "../evil", "--data", "ok.csv", "--label", "y"), "cannot name a loop"),
        (("new", "mine", "--data", "ok.csv"), "--label is missing"),
        (("new", "mine", "--data", "ok.csv", "--label", "yy"), 'Did you mean "y"?'),
        (("new", "mine", "--template", "arrival"), 'Did you mean "arrival-time"?'),
    ],
)
def test_a_wrong_argument_is_answered_with_what_there_is(made: Path, arguments: tuple[str, ...], said: str) -> None:
    status, told = noria(made, *arguments)
    assert status == 1
    assert said.lower() in told.lower()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    (place / "loop.py").write_text(LOOP)
    rows().write_csv(place / "ok.csv")
    assert noria(place, "turn", "loop.py")[0] == 0
    return place


def test_a_port_in_use_is_said_before_anything_starts(made: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, told = noria(made, "up", "loop.py", "--port", str(port))
    assert (status, f"Port {port} on 127.0.0.1 is in use" in told) == (1, True)
