import pandas as pd
from noria import BeatsChampion, Csv, Loop, NoSkew, Performance

loop = Loop(
    "task",
    source=Csv("a.csv", label="y", task="regression"),
    gates=(
        BeatsChampion("roc_auc"),  # fault: "roc_auc" does not fit a regression task. These do: mae,
        NoSkew,
    ),
    monitor=Performance("f1"),  # fault: does not fit a regression task
)
# faults at 4: gates takes gates such as AtLeast("roc_auc", 0.8), not NoSkew, a class and not a value.


@loop.train
def train(x_train: pd.DataFrame) -> object:
    return object()
