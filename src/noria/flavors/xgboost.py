"""XGBoost boosters, in XGBoost's own binary JSON. Its scikit-learn classes are saved by the sklearn flavor."""

from __future__ import annotations

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
        ModelError: the file is damaged.
    """
    model = xgboost.Booster()
    try:
        model.load_model(bytearray(files[_FILE]))
    except (KeyError, xgboost.core.XGBoostError) as error:
        raise ModelError(f"The XGBoost model cannot be read: {str(error)[:300]}.") from error
    return _Booster(model)


class _Booster:
    def __init__(self, model: xgboost.Booster) -> None:
        import json

        self._model = model
        learner = json.loads(model.save_config())["learner"]
        objective = learner["objective"]["name"]
        classes = int(learner["learner_model_param"]["num_class"])
        self._classes = 2 if objective.startswith("binary:") else classes

    @property
    def classes(self) -> tuple[Any, ...] | None:
        return tuple(range(self._classes)) if self._classes else None

    def _raw(self, x: Any) -> NDArray[np.float64]:
        data = x.to_pandas() if type(x).__module__.split(".")[0] == "pyarrow" else x
        return np.asarray(self._model.predict(xgboost.DMatrix(data)), dtype=np.float64)

    def predict(self, x: Any) -> NDArray[Any]:
        shares = self.probabilities(x)
        return self._raw(x) if shares is None else shares.argmax(axis=1)

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        if not self._classes:
            return None
        found = self._raw(x)
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    def unwrap(self) -> Any:
        return self._model
