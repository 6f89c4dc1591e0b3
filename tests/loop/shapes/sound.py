"""The churn loop of the design: nothing is wrong with it."""
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from noria import (Approval, AtLeast, BeatsChampion, Between, Canary, Csv, Drift, Every, Latency,
                   Loop, OnAlarm, Performance, SliceGap, TimeSplit, Unique)

loop = Loop(
    name="churn",
    source=Csv("customers.csv", key="customer_id", time="as_of", label="churned", sensitive=("gender",)),
    expect=(Unique("customer_id"), Between("age", 18, 110)),
    split=TimeSplit(test="30d", gap="7d"),
    gates=(AtLeast("roc_auc", 0.80), BeatsChampion("roc_auc", by=0.002),
           SliceGap("gender", "recall", max_gap=0.05), Latency(p95_ms=20)),
    approval=Approval(role="risk-officer", within="3d"),
    deploy=Canary(steps=(5, 25, 100), hold="30m"),
    monitor=(Drift(), Performance("roc_auc", floor=0.78, labels_after="30d")),
    retrain=(Every("7d"), OnAlarm(cooldown="1d")),
)

@loop.feature
def tenure_months(data: pd.DataFrame) -> pd.Series:
    return (data["as_of"] - data["joined"]).dt.days / 30.4

@loop.feature
def spend_per_month(data: pd.DataFrame, tenure_months: pd.Series) -> pd.Series:
    return data["spend"] / tenure_months.clip(lower=1)

@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series, *, C: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=500).fit(x_train, y_train)

@loop.evaluate
def evaluate(model: LogisticRegression, x_test: pd.DataFrame, y_test: pd.Series) -> dict[str, float]:
    return {"roc_auc": float(roc_auc_score(y_test, model.predict_proba(x_test)[:, 1]))}
