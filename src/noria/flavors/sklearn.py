"""scikit-learn estimators and pipelines, by skops: types are checked against a list before anything is built."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray

from noria.errors import ModelError

__all__ = ["load", "matches", "save"]

_FILE = "model.skops"
# Libraries of numbers: building one of their objects from stored state runs nothing of the user's.
_TRUSTED = ("sklearn.", "numpy.", "scipy.", "lightgbm.", "xgboost.", "collections.OrderedDict", "collections.defaultdict")
# Functions of those libraries that could reach out when called later by a model.
_REFUSED = ("numpy.load", "numpy.save", "numpy.fromfile", "numpy.memmap", "numpy.DataSource", "numpy.f2py",
            "numpy.testing", "numpy.distutils", "numpy.ctypeslib", "scipy.io", "scipy.weave", "sklearn.datasets",
            "numpy.lib", "sklearn.utils._testing", "sklearn.externals")  # fmt: skip


def matches(model: Any) -> bool:
    """Whether the model is an estimator (LightGBM's and XGBoost's scikit-learn classes included)."""
    from sklearn.base import BaseEstimator

    return isinstance(model, BaseEstimator)


def _foreign(data: bytes) -> list[str]:
    """Types in the file that are not on the list."""
    found = skops.io.get_untrusted_types(data=data)
    return [name for name in found if not name.startswith(_TRUSTED) or name.startswith(_REFUSED)]


def save(model: Any) -> dict[str, bytes]:
    """The model's file.

    Raises:
        ModelError: it holds types that are not scikit-learn's, NumPy's or SciPy's; names them.
    """
    kind = type(model).__qualname__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data: bytes = skops.io.dumps(model)
        foreign = _foreign(data)
    except Exception as error:  # noqa: BLE001 - skops meets whatever objects the user put into the model
        raise ModelError(
            f"The {kind} cannot be saved safely: {type(error).__name__}: {str(error)[:300]}. "
            "Keep open files, connections and functions of your own out of the model."
        ) from error
    if foreign:
        listed = ", ".join(sorted(foreign))
        raise ModelError(
            f"The {kind} cannot be saved safely: it holds {listed}. Use types of scikit-learn, NumPy, SciPy, LightGBM "
            "or XGBoost in the model, and move your own code into a @loop.feature function."
        )
    return {_FILE: data}


def load(files: Mapping[str, bytes]) -> _Estimator:
    """The estimator back.

    Raises:
        ModelError: the file is damaged or holds types that are not on the list.
    """
    try:
        data = files[_FILE]
        foreign = _foreign(data)
        if foreign:
            raise ModelError(f"The model file holds {', '.join(sorted(foreign))}, which is not loaded.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a version differing in the patch number: the sample test decides
            model = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile, AttributeError) as error:
        raise ModelError(f"The model file cannot be read: {type(error).__name__}: {str(error)[:300]}.") from error
    return _Estimator(model)


class _Estimator:
    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def classes(self) -> tuple[Any, ...] | None:
        found = getattr(self._model, "classes_", None)
        return None if found is None or isinstance(found, list) else tuple(np.asarray(found).tolist())

    def predict(self, x: Any) -> NDArray[Any]:
        return np.asarray(self._model.predict(x))

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        if self.classes is None or not hasattr(self._model, "predict_proba"):
            return None
        return np.asarray(self._model.predict_proba(x), dtype=np.float64)

    def unwrap(self) -> Any:
        return self._model


