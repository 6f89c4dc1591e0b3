"""LightGBM boosters, in LightGBM's own text format. Its scikit-learn classes are of the sklearn flavor."""

from __future__ import annotations

import re
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
    """The model's file, up to its best iteration if training stopped early."""
    return {_FILE: model.model_to_string().encode()}


def load(files: Mapping[str, bytes]) -> _Booster:
    """The booster back.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if _FILE not in files:
        raise ModelError(f"The model has no {_FILE}; it has: {', '.join(files) or 'no files'}.")
    try:
        text = files[_FILE].decode()
        if not text.startswith("tree\n") or "\nend of trees\n" not in text:
            raise ValueError("it is not a whole LightGBM model file")  # its parser may end the process on others
        return _Booster(lightgbm.Booster(model_str=text), text)
    except (ValueError, lightgbm.basic.LightGBMError) as error:
        raise ModelError(f"{_FILE} cannot be read: {str(error)[:300]}") from error


class _Booster:
    def __init__(self, model: lightgbm.Booster, text: str) -> None:
        self._model = model
        found = re.search(r"^objective=(\w+)(?: num_class:(\d+))?", text, re.MULTILINE)
        objective, count = found.groups() if found else ("", None)
        known = {"binary": 2, "multiclass": int(count or 0), "multiclassova": int(count or 0)}
        self._count = known.get(objective, 0)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        return tuple(range(self._count)) if self._count else None

    def predict(self, x: Any) -> NDArray[Any]:
        shares = self.probabilities(x)
        return self._raw(x) if shares is None else shares.argmax(axis=1)

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        if not self._count:
            return None
        found = self._raw(x).astype(np.float64, copy=False)
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    def _raw(self, x: Any) -> NDArray[Any]:
        # LightGBM knows pandas frames (and their categories) and matrices.
        plain = x.to_numpy() if type(x).__module__.split(".")[0] == "polars" else x
        if type(x).__module__.split(".")[0] == "pyarrow":
            plain = np.column_stack([column.to_numpy() for column in x.columns])
        return np.asarray(self._model.predict(plain))

    def unwrap(self) -> Any:
        return self._model
