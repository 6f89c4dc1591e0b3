import pandas as pd
from noria import Csv, Loop

loop = Loop("cycle", source=Csv("a.csv", label="y"))


@loop.feature
def a(data: pd.DataFrame, c: pd.Series) -> pd.Series:  # fault: features need each other: a -> c -> b -> a.
    return c


@loop.feature
def b(a: pd.Series) -> pd.Series:
    return a


@loop.feature
def c(b: pd.Series) -> pd.Series:
    return b


@loop.feature
def narcissus(narcissus: pd.Series) -> pd.Series:  # fault: narcissus -> narcissus
    return narcissus


@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series) -> object:
    return object()
