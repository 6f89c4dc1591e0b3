from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from noria.errors import ModelError
from noria.flavors import flavor_for, onnx

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("kind", ["text", "number"])
def test_a_classifier_gives_labels_and_probabilities(
    kind: str, zipmap: bool, numbers: Any, labels: Callable[..., Any]
) -> None:
    model = LogisticRegression().fit(numbers, labels(kind, 3))
    proto = to_onnx(model, numbers.astype(np.float32)[:1], options={id(model): {"zipmap": zipmap}})
    name, module = flavor_for(proto)
    loaded = module.load(module.save(proto))
    assert name == "onnx"
    assert loaded.classes == tuple(model.classes_.tolist())
    names = ["a", "b", "c"]
    for x in (numbers, pd.DataFrame(numbers, columns=names), pl.DataFrame(numbers, schema=names)):
        assert loaded.predict(x).tolist() == model.predict(numbers).tolist()
        assert np.allclose(loaded.probabilities(x), model.predict_proba(numbers), atol=1e-4)  # type: ignore[arg-type]


def test_a_regression_gives_numbers_from_bytes(numbers: Any, price: Any) -> None:
    model = LinearRegression().fit(numbers, price)
    data = to_onnx(model, numbers.astype(np.float32)[:1]).SerializeToString()
    name, module = flavor_for(data)
    loaded = module.load(module.save(data))
    assert name == "onnx"
    assert loaded.classes is None
    assert loaded.probabilities(numbers) is None
    assert np.allclose(loaded.predict(numbers).ravel(), model.predict(numbers), atol=1e-3)
    assert loaded.unwrap().get_inputs()[0].shape[1] == 3


def test_a_model_of_one_input_a_column_takes_frames(x: Any, price: Any) -> None:
    columns = ColumnTransformer([("text", OneHotEncoder(sparse_output=False), ["kind"])], remainder="passthrough")
    frame = x if isinstance(x, pd.DataFrame) else pd.DataFrame(x.to_dict(as_series=False))
    model = make_pipeline(columns, LinearRegression()).fit(frame, price)
    kinds = [(name, FloatTensorType([None, 1])) for name in ("size", "age")] + [("kind", StringTensorType([None, 1]))]
    loaded = onnx.load(onnx.save(to_onnx(model, initial_types=kinds)))
    assert np.allclose(loaded.predict(x).ravel(), model.predict(frame), atol=1e-3)


def test_damaged_and_missing_files_are_refused() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        onnx.load({"model.onnx": b"nothing"})
    with pytest.raises(ModelError, match="cannot be read"):
        onnx.save(b"nothing")
    with pytest.raises(ModelError, match=r"no model\.onnx"):
        onnx.load({})
