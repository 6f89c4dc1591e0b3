"""A small loop with approval and canary (a shadow first if SHADOW says how long), for the fault tests."""

import os

import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from noria import (
    Approval,
    AtLeast,
    BeatsChampion,
    Canary,
    Every,
    Loop,
    OnAlarm,
    Parquet,
    Performance,
    RandomSplit,
)

loop = Loop(
    name="small",
    source=Parquet("rows.parquet", key="id", label="bought", served=True),
    split=RandomSplit(test=0.3),
    gates=(AtLeast("roc_auc", 0.5), BeatsChampion("roc_auc", by=-0.5)),
    approval=Approval(role="owner", within="3d"),
    deploy=Canary(steps=(20, 100), hold="1h", min_requests=5, shadow=os.environ.get("SHADOW")),
    monitor=(Performance("roc_auc", window="1d"),),
    retrain=(Every("30d"), OnAlarm(cooldown="1h")),
)


@loop.feature
def visits(data: pl.DataFrame) -> pl.Series:
    return data["visits"].cast(pl.Float64)


@loop.feature
def minutes_per_visit(data: pl.DataFrame, visits: pl.Series) -> pl.Series:
    return data["minutes"] / (visits + 1)


@loop.train
def train(x_train: pl.DataFrame, y_train: pl.Series, *, C: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=300).fit(x_train, y_train.to_numpy())


@loop.evaluate
def evaluate(model: LogisticRegression, x_test: pl.DataFrame, y_test: pl.Series) -> dict[str, float]:
    return {"roc_auc": float(roc_auc_score(y_test.to_numpy(), model.predict_proba(x_test)[:, 1]))}
