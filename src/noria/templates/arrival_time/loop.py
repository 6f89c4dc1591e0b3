"""Minutes to arrival of a New York taxi, from what is known at pick-up: the zones and the clock.

The distance, the fare and the drop-off time are known only afterwards: none of them is a feature.
The trips are a sample of 10,000 a month of the public TLC trip records, 2018-01 to 2020-08.
"""

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder

from noria import AtMost, BeatsChampion, Canary, Drift, Loop, NoSkew, OnAlarm, Performance, TimeSplit, Unique

loop = Loop(
    name="arrival-time",
    expect=(Unique("trip"),),
    split=TimeSplit(test="3d"),
    gates=(AtMost("mae", 8.0), BeatsChampion("mae"), NoSkew()),
    deploy=Canary(steps=(50, 100), hold="6h", min_requests=20),
    monitor=(Drift(window="7d"), Performance("mae", window="7d", backtest=4)),
    retrain=(OnAlarm(cooldown="1d"),),
)

UNKNOWN_ZONES = (264, 265)
PLACES = ["pickup", "dropoff", "route", "route_by_time", "pickup_by_hour", "dropoff_by_hour"]
CLOCK = ["hour", "hour_of_week", "weekday", "pickup", "dropoff"]


@loop.source(key="trip", time="pickup_at", label="minutes", served=True)
def trips(*, until: str = "2019-10-01") -> pl.DataFrame:
    """Trips that ended before ``until``; meters left running and typing errors go."""
    raw = pl.read_parquet(Path(__file__).with_name("nyc_taxi.parquet")).with_row_index("trip")
    minutes = (pl.col("dropoff_at") - pl.col("pickup_at")).dt.total_seconds() / 60
    miles = pl.col("trip_distance")
    sound = raw.with_columns(minutes=minutes).filter(
        pl.col("minutes").is_between(1, 180),
        miles.is_between(0.1, 60),
        miles * 60 / pl.col("minutes") < 70,
        ~pl.col("pickup_location_id").is_in(UNKNOWN_ZONES),
        ~pl.col("dropoff_location_id").is_in(UNKNOWN_ZONES),
        pl.col("dropoff_at") < datetime.fromisoformat(until),
    )
    return sound.select("trip", "pickup_at", "pickup_location_id", "dropoff_location_id", "minutes")


@loop.feature
def pickup(data: pl.DataFrame) -> pl.Series:
    return data["pickup_location_id"].cast(pl.Int64)


@loop.feature
def dropoff(data: pl.DataFrame) -> pl.Series:
    return data["dropoff_location_id"].cast(pl.Int64)


@loop.feature
def route(pickup: pl.Series, dropoff: pl.Series) -> pl.Series:
    return pickup * 1_000 + dropoff


@loop.feature
def hour(data: pl.DataFrame) -> pl.Series:
    return data["pickup_at"].dt.hour() + data["pickup_at"].dt.minute() / 60


@loop.feature
def weekday(data: pl.DataFrame) -> pl.Series:
    return data["pickup_at"].dt.weekday().cast(pl.Int64)


@loop.feature
def hour_of_week(weekday: pl.Series, hour: pl.Series) -> pl.Series:
    return (weekday - 1) * 24 + hour


@loop.feature
def month(data: pl.DataFrame) -> pl.Series:
    """The seasons, as they were in earlier years."""
    return data["pickup_at"].dt.month().cast(pl.Int64)


@loop.feature
def day(data: pl.DataFrame) -> pl.Series:
    """The running day: lets a model follow a world that has changed."""
    return data["pickup_at"].dt.epoch("d").cast(pl.Int64)


@loop.feature
def route_by_time(route: pl.Series, weekday: pl.Series, hour: pl.Series) -> pl.Series:
    """The route, apart for each four hours of working days and of weekends."""
    return route * 100 + (weekday >= 6).cast(pl.Int64) * 10 + hour.cast(pl.Int64) // 4


@loop.feature
def pickup_by_hour(pickup: pl.Series, weekday: pl.Series, hour: pl.Series) -> pl.Series:
    return pickup * 100 + (weekday >= 6).cast(pl.Int64) * 24 + hour.cast(pl.Int64)


@loop.feature
def dropoff_by_hour(dropoff: pl.Series, weekday: pl.Series, hour: pl.Series) -> pl.Series:
    return dropoff * 100 + (weekday >= 6).cast(pl.Int64) * 24 + hour.cast(pl.Int64)


def regressor(trend: str, trees: int) -> TransformedTargetRegressor:
    """The usual minutes of each place and time, refined by boosted trees on the logarithm."""
    usual = TargetEncoder(target_type="continuous", cv=KFold(5, shuffle=True, random_state=0))
    inputs = ColumnTransformer([("usual", usual, PLACES), ("as_is", "passthrough", [*CLOCK, trend])])
    boosted = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=trees, max_leaf_nodes=63, early_stopping=False, random_state=0
    )
    return TransformedTargetRegressor(make_pipeline(inputs, boosted), func=np.log, inverse_func=np.exp)


@loop.train
def train(
    x_train: pl.DataFrame,
    y_train: pl.Series,
    *,
    trees: int = 200,
    newest_days: int = 7,
    newest_rows: int = 300,
) -> TransformedTargetRegressor:
    """Do the seasons return, or has the world changed? The newest days of the training rows decide.

    The seasons (``month``) are the better guess while the world stays as it was; the running ``day`` is once
    it has changed. Two small models without the newest days say which, and must say so clearly.
    """
    days, minutes = x_train["day"].to_numpy(), y_train.to_numpy()
    held = min(days.max() - newest_days, np.sort(days)[-min(newest_rows, len(days) // 2)])
    newest = days > held
    errors = {}
    for trend in ("month", "day"):
        small = regressor(trend, 60).fit(x_train.filter(~newest), minutes[~newest])
        errors[trend] = np.abs(small.predict(x_train.filter(newest)) - minutes[newest])
    gain = errors["month"] - errors["day"]
    changed = gain.mean() > 2 * gain.std() / np.sqrt(len(gain))
    return regressor("day" if changed else "month", trees).fit(x_train, minutes)


@loop.evaluate
def evaluate(model: TransformedTargetRegressor, x_test: pl.DataFrame, y_test: pl.Series) -> dict[str, float]:
    error = model.predict(x_test) - y_test.to_numpy()
    return {"mae": float(np.abs(error).mean()), "bias": float(error.mean())}
