import pandas as pd
from noria import Csv, Loop

loop = Loop("odd", source=Csv("a.csv", label="y"))


@loop.feature
def hidden(data: pd.DataFrame, *others, **more) -> pd.Series:  # fault: "*others" hides | "**more" hides
    return data["a"]


@loop.feature
async def slow(data: pd.DataFrame) -> pd.Series:  # fault: is async
    return data["a"]


@loop.feature
def lazily(data: pd.DataFrame):  # fault: is a generator
    yield data["a"]


loop.feature(lambda data: data["a"])  # fault: is a lambda


@loop.train
def train(x_train, y_train=None, *, depth, C: float = "much", how=object(), data=1):  # fault: input "y_train" has a default | knob "depth" has no default | annotated float, its default is 'much' | cannot be recorded: object | knob "data" has a name that Noria gives
    return object()


@loop.evaluate
def evaluate(model) -> None:  # fault: annotated to return nothing
    pass
