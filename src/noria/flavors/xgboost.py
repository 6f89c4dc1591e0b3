"""XGBoost boosters, in XGBoost's own binary JSON. Its scikit-learn classes are of the sklearn flavor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from noria.errors import ModelError

__all__ = ["load", "matches", "save"]

_FILE = "model.ubj"


def matches(model: Any) -> bool:
    """Whether the model is a booster."""
    return isinstance(model, xgboost.Booster)


def save(model: Any) -> dict[str, bytes]:
    """The model's file."""
    return {_FILE: bytes(model.save_raw("ubj"))}


def load(files: Mapping[str, bytes]) -> _Booster:
    """The booster back.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if _FILE not in files:
        raise ModelError(f"The model has no {_FILE}; it has: {', '.join(files) or 'no files'}.")
    model = xgboost.Booster()
    try:
        if not files[_FILE].startswith(b"{"):
            raise ValueError("it is not an XGBoost model file")  # its parser ends the process on an empty one
        model.load_model(bytearray(files[_FILE]))
    except ValueError as error:  # XGBoostError is one
        raise ModelError(f"{_FILE} cannot be read: {str(error)[:300]}") from error
    return _Booster(model)


class _Booster:
    def __init__(self, model: xgboost.Booster) -> None:
        self._model = model
        learner = json.loads(model.save_config())["learner"]
        self._objective = str(learner["objective"]["name"])
        count = int(learner["learner_model_param"]["num_class"])
        self._count = 2 if self._objective.startswith("binary:") else count

    @property
    def classes(self) -> tuple[Any, ...] | None:
        return tuple(range(self._count)) if self._count else None

    def predict(self, x: Any) -> NDArray[Any]:
        if self._objective in ("multi:softmax", "binary:hinge"):
            return self._raw(x).astype(np.int64)  # already labels
        shares = self.probabilities(x)
        return self._raw(x) if shares is None else shares.argmax(axis=1)

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        if not self._count or self._objective in ("multi:softmax", "binary:hinge"):
            return None
        found = self._raw(x)
        if self._objective == "binary:logitraw":
            found = 1 / (1 + np.exp(-found))
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    def _raw(self, x: Any) -> NDArray[np.float64]:
        data = x if isinstance(x, np.ndarray) else xgboost.DMatrix(x, enable_categorical=True)
        if isinstance(data, np.ndarray):
            data = xgboost.DMatrix(data, feature_names=self._model.feature_names)
        return np.asarray(self._model.predict(data), dtype=np.float64)

    def unwrap(self) -> Any:
        return self._model
