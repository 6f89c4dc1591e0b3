import pandas as pd
from noria import Csv, Loop

loop = Loop("twice", source=Csv("a.csv", label="y"))


@loop.source(label="y")
def rows() -> pd.DataFrame:
    return pd.DataFrame()
# faults at 7: a second source; the first is at


@loop.feature
def age(data: pd.DataFrame) -> pd.Series:
    return data["age"]


@loop.feature
def age(data: pd.DataFrame) -> pd.Series:  # fault: two steps provide "age"; the other is at
    return data["age"]


@loop.feature
def x_train(data: pd.DataFrame) -> pd.Series:  # fault: "x_train" is a name that Noria gives
    return data["age"]


@loop.train
def fit(x_train: pd.DataFrame) -> object:
    return object()


@loop.train
def fit_again(x_train: pd.DataFrame) -> object:  # fault: fit_again is a second train step; fit at
    return object()


@loop.gate
def fit(model: object) -> bool:  # fault: two steps provide "fit"
    return True
