"""A loop of numbers only: its model compiles, and the server answers from the graph."""

from __future__ import annotations

import random
from pathlib import Path

from noria.store import Store, open_store

LOOP = """
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from noria import AtLeast, Csv, Loop, RandomSplit

loop = Loop(
    name="numbers",
    source=Csv("numbers.csv", label="label"),
    split=RandomSplit(test=0.3),
    gates=(AtLeast("accuracy", 0.1),),
)


@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series, *, rounds: int = 20) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=rounds, random_state=0).fit(x_train, y_train)


@loop.evaluate
def evaluate(model: HistGradientBoostingClassifier, x_test: pd.DataFrame, y_test: pd.Series) -> dict[str, float]:
    return {"accuracy": float((model.predict(x_test) == y_test).mean())}
"""


def write_numbers(path: Path) -> None:
    dice = random.Random(3)
    lines = ["a,b,c,label"]
    for _ in range(400):
        a, b, c = dice.random(), dice.randint(0, 9), dice.uniform(-1, 1)
        lines.append(f"{a:.4f},{b},{c if dice.random() > 0.1 else ''},{int(a + b / 10 + dice.random() > 1.4)}")
    path.write_text("\n".join(lines))


def train_numbers(folder: Path, versions: int = 2) -> Store:
    """A store with some versions of the loop, the last of them champion."""
    from datetime import UTC, datetime

    from serving import Clock

    from noria.loop.load import load
    from noria.loop.turn import Engine, order
    from noria.records import TurnState

    write_numbers(folder / "numbers.csv")
    (folder / "of_numbers.py").write_text(LOOP)
    loaded = load(folder / "of_numbers.py")
    store = open_store(folder / "store")
    for number in range(versions):
        overrides = {"train.rounds": 20 + number}
        turn = order(store, loaded, datetime.now(UTC), trigger="manual", reason="test", overrides=overrides)
        turn = Engine(loaded, store, Clock()).run(turn)
        assert turn.state is TurnState.promoted, turn.outcome
    return store
