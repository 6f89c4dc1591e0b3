"""Minutes to arrival of a New York taxi, from what is known at pick-up: zones and clock.

Distance, fare and drop-off time are known only afterwards: none of them is a feature.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder

UNKNOWN_ZONES = (264, 265)
PLACES = ["pickup", "dropoff", "route", "route_by_time", "pickup_by_hour", "dropoff_by_hour"]
CLOCK = ["hour", "hour_of_week", "weekday", "pickup", "dropoff"]


def clean(trips: pl.DataFrame) -> pl.DataFrame:
    """Trips that can have happened, with their minutes; meters left running and typing errors go."""
    minutes = (pl.col("dropoff_at") - pl.col("pickup_at")).dt.total_seconds() / 60
    trips = trips.with_columns(minutes=minutes)
    return trips.filter(
        pl.col("minutes").is_between(1, 180),
        pl.col("trip_distance").is_between(0.1, 60),
        pl.col("trip_distance") * 60 / pl.col("minutes") < 70,
        ~pl.col("pickup_location_id").is_in(UNKNOWN_ZONES),
        ~pl.col("dropoff_location_id").is_in(UNKNOWN_ZONES),
    ).sort("pickup_at")


def pickup(data: pl.DataFrame) -> pl.Series:
    """Zone where the trip begins."""
    return data["pickup_location_id"].cast(pl.Int64)


def dropoff(data: pl.DataFrame) -> pl.Series:
    """Zone where it will end."""
    return data["dropoff_location_id"].cast(pl.Int64)


def route(pickup: pl.Series, dropoff: pl.Series) -> pl.Series:
    """The pair of zones, as one number."""
    return pickup * 1_000 + dropoff


def hour(data: pl.DataFrame) -> pl.Series:
    """Hour of the day, minutes as a fraction."""
    return data["pickup_at"].dt.hour() + data["pickup_at"].dt.minute() / 60


def weekday(data: pl.DataFrame) -> pl.Series:
    """Day of the week; Monday is 1."""
    return data["pickup_at"].dt.weekday().cast(pl.Int64)


def hour_of_week(weekday: pl.Series, hour: pl.Series) -> pl.Series:
    """Hours since Monday began."""
    return (weekday - 1) * 24 + hour


def month(data: pl.DataFrame) -> pl.Series:
    """Month of the year: the seasons, as they were in earlier years."""
    return data["pickup_at"].dt.month().cast(pl.Int64)


def day(data: pl.DataFrame) -> pl.Series:
    """Running day: lets a model follow a world that has changed."""
    return data["pickup_at"].dt.epoch("d").cast(pl.Int64)


def route_by_time(route: pl.Series, weekday: pl.Series, hour: pl.Series) -> pl.Series:
    """The route, apart for each four hours of working days and of weekends."""
    return route * 100 + (weekday >= 6).cast(pl.Int64) * 10 + hour.cast(pl.Int64) // 4


def pickup_by_hour(pickup: pl.Series, weekday: pl.Series, hour: pl.Series) -> pl.Series:
    """The first zone, apart for each hour of working days and of weekends."""
    return pickup * 100 + (weekday >= 6).cast(pl.Int64) * 24 + hour.cast(pl.Int64)


def dropoff_by_hour(dropoff: pl.Series, weekday: pl.Series, hour: pl.Series) -> pl.Series:
    """The last zone, likewise."""
    return dropoff * 100 + (weekday >= 6).cast(pl.Int64) * 24 + hour.cast(pl.Int64)


def train(
    x_train: pl.DataFrame,
    y_train: pl.Series,
    *,
    follow: bool = False,
    half_life_days: float = float("inf"),
    trees: int = 200,
) -> TransformedTargetRegressor:
    """The usual minutes of each place and time, refined by boosted trees on the logarithm.

    Args:
        x_train: the features above, by name.
        y_train: minutes.
        follow: False: the seasons return (month is an input). True: the world has changed, and the
            latest days are the best guess of the next ones (the running day is, month is not).
        half_life_days: age at which a trip counts half; infinite: all count alike.
        trees: how many; more of them gain little and cost time.
    """
    usual = TargetEncoder(target_type="continuous", cv=KFold(5, shuffle=True, random_state=0))
    inputs = ColumnTransformer(
        [("usual", usual, PLACES), ("as_is", "passthrough", [*CLOCK, "day" if follow else "month"])]
    )
    boosted = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=trees, max_leaf_nodes=63, early_stopping=False, random_state=0
    )
    model = TransformedTargetRegressor(make_pipeline(inputs, boosted), func=np.log, inverse_func=np.exp)
    if np.isinf(half_life_days):  # unweighted is the same and three times as fast
        return model.fit(x_train, y_train.to_numpy())
    days = x_train["day"].to_numpy()
    weights = 0.5 ** ((days.max() - days) / half_life_days)
    return model.fit(x_train, y_train.to_numpy(), histgradientboostingregressor__sample_weight=weights)
