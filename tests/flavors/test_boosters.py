from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xgboost

from noria.errors import ModelError
from noria.flavors import flavor_for
from noria.flavors import lightgbm as of_lightgbm
from noria.flavors import xgboost as of_xgboost

NAMES = ["a", "b", "c"]


def light(objective: str, numbers: Any, y: Any, **options: Any) -> lightgbm.Booster:
    options |= {"objective": objective, "verbose": -1, "num_threads": 1}
    return lightgbm.train(options, lightgbm.Dataset(numbers, y, feature_name=NAMES), num_boost_round=4)


def extreme(objective: str, numbers: Any, y: Any, **options: Any) -> xgboost.Booster:
    options |= {"objective": objective, "nthread": 1}
    return xgboost.train(options, xgboost.DMatrix(numbers, y, feature_names=NAMES), num_boost_round=4)


def frames(numbers: Any) -> list[Any]:
    columns = {name: numbers[:, place] for place, name in enumerate(NAMES)}
    return [numbers, pd.DataFrame(columns), pl.DataFrame(columns), pl.DataFrame(columns).to_arrow()]


def test_a_regression_comes_back_the_same_on_every_kind_of_frame(numbers: Any, price: Any) -> None:
    for model in (light("regression", numbers, price), extreme("reg:squarederror", numbers, price)):
        name, module = flavor_for(model)
        loaded = module.load(module.save(model))
        assert name == type(model).__module__.split(".")[0]
        assert type(loaded.unwrap()) is type(model)
        assert loaded.classes is None
        expected = loaded.unwrap().predict(
            numbers if name == "lightgbm" else xgboost.DMatrix(numbers, feature_names=NAMES)
        )
        for x in frames(numbers):
            assert np.allclose(loaded.predict(x), expected)
            assert loaded.probabilities(x) is None


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classification_gives_classes_and_probabilities(
    classes: int, numbers: Any, labels: Callable[..., Any]
) -> None:
    y = labels("number", classes) - 5
    count = {} if classes == 2 else {"num_class": classes}
    for model in (
        light("binary" if classes == 2 else "multiclass", numbers, y, **count),
        extreme("binary:logistic" if classes == 2 else "multi:softprob", numbers, y, **count),
    ):
        _, module = flavor_for(model)
        loaded = module.load(module.save(model))
        assert loaded.classes == tuple(range(classes))
        for x in frames(numbers):
            shares = loaded.probabilities(x)
            assert shares is not None
            assert shares.shape == (len(y), classes)
            assert np.allclose(shares.sum(axis=1), 1)
            assert loaded.predict(x).tolist() == shares.argmax(axis=1).tolist()


def test_xgboost_objectives_that_give_labels_or_margins_are_understood(
    numbers: Any, labels: Callable[..., Any]
) -> None:
    y = labels("number") - 5
    softmax = of_xgboost.load(of_xgboost.save(extreme("multi:softmax", numbers, y, num_class=2)))
    assert softmax.classes == (0, 1)
    assert softmax.probabilities(numbers) is None
    assert set(softmax.predict(numbers)) <= {0, 1}
    model = extreme("binary:logitraw", numbers, y)
    margins = of_xgboost.load(of_xgboost.save(model))
    raw = model.predict(xgboost.DMatrix(numbers, feature_names=NAMES))
    shares = margins.probabilities(numbers)
    assert shares is not None
    assert np.allclose(shares[:, 1], 1 / (1 + np.exp(-raw)))
    assert margins.predict(numbers).tolist() == (raw > 0).astype(int).tolist()


def test_pandas_categories_are_known_after_loading(numbers: Any, price: Any) -> None:
    frame = pd.DataFrame({"a": numbers[:, 0], "kind": pd.Categorical(["p", "q"] * (len(price) // 2))})
    data = lightgbm.Dataset(frame, price)
    model = lightgbm.train({"verbose": -1, "num_threads": 1, "min_data_per_group": 1}, data, num_boost_round=4)
    loaded = of_lightgbm.load(of_lightgbm.save(model))
    assert np.array_equal(loaded.predict(frame), model.predict(frame))
    tree = xgboost.train({"nthread": 1}, xgboost.DMatrix(frame, price, enable_categorical=True), 4)
    found = of_xgboost.load(of_xgboost.save(tree))
    assert np.array_equal(found.predict(frame), tree.predict(xgboost.DMatrix(frame, enable_categorical=True)))


def test_equal_boosters_give_equal_bytes(numbers: Any, price: Any) -> None:
    assert of_lightgbm.save(light("l2", numbers, price)) == of_lightgbm.save(light("l2", numbers, price))
    trees = [of_xgboost.save(extreme("reg:squarederror", numbers, price)) for _ in range(2)]
    assert trees[0] == trees[1]


@pytest.mark.parametrize("data", [b"", b"nothing", b"\xff\xfe", b"tree\nversion=v4\n", b"{"])
def test_a_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        of_lightgbm.load({"model.txt": data})
    with pytest.raises(ModelError, match="cannot be read"):
        of_xgboost.load({"model.ubj": data})


def test_a_missing_file_is_named() -> None:
    for module in (of_lightgbm, of_xgboost):
        with pytest.raises(ModelError, match="it has: no files"):
            module.load({})


def test_what_no_flavor_saves_is_refused_with_what_can_be() -> None:
    for model in ({"weights": [1]}, "model", object(), lambda x: x):
        with pytest.raises(ModelError, match="Return a scikit-learn estimator or pipeline"):
            flavor_for(model)
