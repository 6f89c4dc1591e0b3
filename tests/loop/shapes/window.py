import pandas as pd
from noria import Csv, Loop

loop = Loop("window", source=Csv("a.csv", label="y"))


@loop.feature(window="30d")
def trips_last_month(data: pd.DataFrame) -> pd.Series:  # fault: looks at other rows (window='30d')
    return data["a"]


@loop.feature(window="a month")
def odd_window(data: pd.DataFrame) -> pd.Series:  # fault: looks at other rows | is not a duration
    return data["a"]


@loop.train
def train(x_train: pd.DataFrame) -> object:
    return object()
