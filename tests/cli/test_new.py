"""`noria new` on tables it has never seen: the loop it writes is sound and turns to a champion."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

NORIA = str(Path(sys.executable).with_name("noria"))


def tables() -> dict[str, tuple[str, str]]:
    return {
        "diabetes": ("diabetes.csv", "target"),
        "wine": ("wine.csv", "target"),
        "cancer": ("cancer.parquet", "target"),
        "passengers": ("passengers.csv", "Survived"),
    }


def write(folder: Path, name: str) -> None:
    draw = np.random.default_rng(1)
    if name == "passengers":  # gaps, free text, text labels, latin letters, a mostly empty column
        count = 700
        sex = draw.choice(["male", "female"], count)
        table = pl.DataFrame(
            {
                "PassengerId": range(1, count + 1),
                "Name": [f"Pérsön {row}, Mr" for row in range(count)],
                "Sex": sex,
                "Age": [None if draw.random() < 0.2 else int(draw.integers(1, 80)) for _ in range(count)],
                "Cabin": [None if draw.random() < 0.8 else f"C{row}" for row in range(count)],
                "Survived": np.where((sex == "female") & (draw.random(count) < 0.8), "yes", "no"),
            }
        )
        (folder / "passengers.csv").write_bytes(table.write_csv().encode("cp1252"))
        return
    loaded = {"diabetes": datasets.load_diabetes, "wine": datasets.load_wine, "cancer": datasets.load_breast_cancer}
    found = loaded[name](as_frame=False)
    table = pl.DataFrame(found.data, schema=[str(c).replace(" ", "_") for c in found.feature_names])
    if name == "diabetes":
        table.with_columns(target=pl.Series(found.target)).write_csv(folder / "diabetes.csv")
    elif name == "wine":
        names = pl.Series([["red", "white", "rosé"][row] for row in found.target])
        table.with_columns(target=names).write_csv(folder / "wine.csv", separator=";")
    else:
        table.with_columns(target=pl.Series(found.target == 1)).write_parquet(folder / "cancer.parquet")


@pytest.mark.parametrize("name", sorted(tables()))
def test_a_table_of_your_own_becomes_a_served_champion(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    file, label = tables()[name]
    for command in (["new", name, "--data", file, "--label", label], ["check", f"{name}/loop.py"],
                    ["turn", f"{name}/loop.py"]):  # fmt: skip
        done = subprocess.run(
            [NORIA, *command], cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "version 1 is champion" in done.stdout


def test_a_template_is_written_with_its_data(tmp_path: Path) -> None:
    done = subprocess.run([NORIA, "new", "taxi", "--template", "arrival-time"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert {path.name for path in (tmp_path / "taxi").iterdir()} == {"loop.py", "nyc_taxi.parquet"}
    assert subprocess.run([NORIA, "check", "taxi/loop.py"], cwd=tmp_path, check=False).returncode == 0
