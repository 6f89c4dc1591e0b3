import pandas as pd
from noria import Csv, Loop

loop = Loop("missing", source=Csv("a.csv", label="y"))


@loop.feature
def tenure(dta: pd.DataFrame) -> pd.Series:  # fault: needs "dta", which nothing provides. Did you mean "data"?
    return dta["joined"]


@loop.feature
def spend(
    data: pd.DataFrame, tenur: pd.Series, model: object
) -> pd.Series:
    return data["spend"]
# faults at 13: feature spend needs "tenur", which nothing provides. Did you mean "tenure"?
# faults at 13: feature spend cannot have "model". It is given: data.


@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series, tenure: pd.Series, age: pd.Series) -> object:
    return object()
# faults at 22: It is a feature: read x_train["tenure"].
# faults at 22: If it is a column, read data["age"]; if it is a knob, put it after a *.


@loop.evaluate
def evaluate(model: object, metrics: dict) -> dict:  # fault: evaluate evaluate cannot have "metrics"
    return {}
