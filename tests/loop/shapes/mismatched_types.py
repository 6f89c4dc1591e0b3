from __future__ import annotations

import pandas as pd
import polars as pl
from noria import Csv, Loop

loop = Loop("types", source=Csv("a.csv", label="y"))


class Tree:
    pass


class Forest:
    pass


@loop.feature
def one(data: pl.DataFrame) -> pl.Series:
    return data["one"]


@loop.feature
def converted(one: pd.Series) -> pd.Series:
    return one


@loop.feature
def two(one: pd.DataFrame) -> pl.Series:  # fault: "one" is annotated pandas.DataFrame, but one returns polars.Series.
    return one


@loop.feature
def three(data: pd.Series) -> float:  # fault: "data" is annotated pandas.Series, but data is a frame | feature three returns float.
    return 1.0


@loop.feature
def unknown(data: NotImported, one: "pl.Series | None") -> NotImportedEither:
    return data


@loop.train
def train(x_train: pl.DataFrame, y_train: pl.DataFrame) -> Tree:  # fault: y_train is one column
    return Tree()


@loop.evaluate
def evaluate(model: Forest, x_test: int, y_test: pd.Series) -> float:  # fault: but train returns | "x_test" is annotated int | It returns a dict
    return 1.0


@loop.gate
def enough(champion: Tree | None, metrics: float) -> bool:  # fault: metrics is a dict of numbers by name
    return True
