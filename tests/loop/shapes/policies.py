import pandas as pd
from noria import (
    Approval, AtLeast, AtMost, BeatsChampion, Between, Canary, Csv, Drift, Every, Fresh, Latency, Loop,
    NoSkew, OnAlarm, OneOf, Performance, SliceGap, TimeSplit, Unique,
)

loop = Loop(  # fault: task cannot be 'binry'. Did you mean "binary"? | on_failing_rows cannot be 'skip' | quarantine_at_most must be at most 1
    "policies",
    task="binry",
    on_failing_rows="skip",
    quarantine_at_most=2,
    source=Csv("a.csv", key="id", sensitive="sex"),  # fault: sensitive must be a tuple of names | does not say which column is to be predicted
    expect=[
        Between("age", 110, 18),  # fault: low 110 is more than high 18.
        Fresh("at", within="soon"),  # fault: within: 'soon' is not a duration
        OneOf("kind", "abc"),  # fault: values must be a tuple
        AtMost("mae", 3),  # fault: expect takes expectations such as Unique("id"), not AtMost("mae", 3).
        Unique(3),  # fault: column must be a name (text), not 3.
    ],
    split=TimeSplit(test="30", gap=-1),  # fault: has no unit | is negative | TimeSplit needs the time of each row.
    gates=(
        AtLeast("roc_auc", "high"),  # fault: threshold must be a number, not 'high'.
        BeatsChampion("roc_acu"),  # fault: Did you mean "roc_auc"?
        SliceGap("sex", "recal", max_gap=0.1),  # fault: Did you mean "recall"?
        Latency(p95_ms=0),  # fault: p95_ms must be more than 0
        Drift(),  # fault: gates takes gates such as
    ),
    approval=Approval(role="", within="0d"),  # fault: role must be a name | within must be longer than zero
    deploy=Canary(steps=(25, 5), hold="x"),  # fault: steps must grow | hold: 'x' is not a duration
    monitor=(
        Performance("mea", tolerance=-1),  # fault: Did you mean "mae"? | tolerance must be at least 0
        Drift(columns="age"),  # fault: columns must be a tuple of names
    ),
    retrain=Every("7"),  # fault: has no unit
)


@loop.train
def train(x_train: pd.DataFrame) -> object:
    return object()


@loop.evaluate
def evaluate(model: object) -> dict:
    return {}
