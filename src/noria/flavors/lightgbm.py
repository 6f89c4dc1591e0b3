"""LightGBM boosters, in LightGBM's own text format. Its scikit-learn classes are saved by the sklearn flavor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from noria.errors import ModelError

__all__ = ["load", "matches", "save"]

_FILE = "model.txt"


def matches(model: Any) -> bool:
    """Whether the model is a booster."""
    return isinstance(model, lightgbm.Booster)


def save(model: Any) -> dict[str, bytes]:
    """The model's file."""
    return {_FILE: model.model_to_string().encode()}


def load(files: Mapping[str, bytes]) -> _Booster:
    """The booster back.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        return _Booster(lightgbm.Booster(model_str=files[_FILE].decode()))
    except (KeyError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
        raise ModelError(f"The LightGBM model cannot be read: {str(error)[:300]}.") from error


class _Booster:
    def __init__(self, model: lightgbm.Booster) -> None:
        self._model = model
        objective = str(model.dump_model(num_iteration=1).get("objective", ""))
        self._kind = objective.split(" ")[0]
        classes = model.num_model_per_iteration()
        self._classes = 2 if self._kind.startswith(("binary", "cross_entropy")) else classes if classes > 1 else 0

    @property
    def classes(self) -> tuple[Any, ...] | None:
        return tuple(range(self._classes)) if self._classes else None

    def predict(self, x: Any) -> NDArray[Any]:
        shares = self.probabilities(x)
        return np.asarray(self._model.predict(_numbers(x))) if shares is None else shares.argmax(axis=1)

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        if not self._classes:
            return None
        found = np.asarray(self._model.predict(_numbers(x)), dtype=np.float64)
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    def unwrap(self) -> Any:
        return self._model


def _numbers(x: Any) -> Any:
    """What LightGBM takes: it does not know Polars frames."""
    return x.to_numpy() if type(x).__module__.split(".")[0] == "polars" else x
