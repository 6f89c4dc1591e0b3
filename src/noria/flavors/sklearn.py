"""scikit-learn estimators and pipelines, by skops; LightGBM's and XGBoost's scikit-learn classes too.

Every type a file names is checked against a list (`noria.flavors.trusted`) before anything is built.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from noria.errors import MissingExtra, ModelError
from noria.flavors.repeatable import repeatable
from noria.flavors.trusted import find_foreign

__all__ = ["load", "matches", "save"]

_FILE = "model.skops"
_LIKELIEST = ("sklearn.ensemble._hist_gradient_boosting", "sklearn.ensemble._forest", "sklearn.tree._classes")
_ADVICE = (
    "Use types of scikit-learn, NumPy, SciPy, LightGBM or XGBoost in the model, and move code of your own "
    "into a @loop.feature function."
)


def matches(model: Any) -> bool:
    """Whether the model is an estimator."""
    return isinstance(model, BaseEstimator)


def save(model: Any) -> dict[str, bytes]:
    """The model's file; equal models give equal bytes.

    Raises:
        ModelError: it holds types or functions that are not on the list; names them all.
    """
    kind = type(model).__qualname__
    hint = _hint(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = repeatable(skops.io.dumps(model))
            foreign = find_foreign(skops.io.get_untrusted_types(data=data))
    except Exception as error:
        raise ModelError(
            f"The {kind} cannot be saved safely: {type(error).__name__}: {str(error)[:300].rstrip('.')}. "
            f"Keep open files, connections and the like out of the model. {hint or _ADVICE}"
        ) from error
    if foreign:
        raise ModelError(f"The {kind} cannot be saved safely: it holds {', '.join(foreign)}. {hint or _ADVICE}")
    return {_FILE: data}


def _hint(model: Any) -> str:
    """What to do when a search itself cannot be saved, as one over SciPy's distributions cannot."""
    best = getattr(model, "best_estimator_", None)
    return "" if best is None else "Return the search's best_estimator_ from train instead of the search."


def load(files: Mapping[str, bytes]) -> _Estimator:
    """The estimator back.

    Raises:
        ModelError: the file is missing, damaged, or names types that are not on the list.
        MissingExtra: LightGBM or XGBoost is in the model and not installed.
    """
    if _FILE not in files:
        raise ModelError(f"The model has no {_FILE}; it has: {', '.join(files) or 'no files'}.")
    data = files[_FILE]
    try:
        with warnings.catch_warnings():
            # About another version of scikit-learn: what decides is whether stored answers come out again.
            warnings.simplefilter("ignore")
            named = skops.io.get_untrusted_types(data=data)
            foreign = find_foreign(named)
            model = None if foreign else skops.io.loads(data, trusted=named)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        raise MissingExtra(package, package, "to load this model") from error
    except Exception as error:
        raise ModelError(f"{_FILE} cannot be read: {type(error).__name__}: {str(error)[:300]}") from error
    if foreign:
        raise ModelError(f"{_FILE} names {', '.join(foreign)}, which is not loaded: it could run code.")
    if not matches(model):
        raise ModelError(f"{_FILE} holds a {type(model).__qualname__}, which is not an estimator.")
    return _Estimator(model)


class _Estimator:
    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def classes(self) -> tuple[Any, ...] | None:
        found = getattr(self._model, "classes_", None)
        # A list of arrays belongs to a model of several outputs.
        return None if found is None or isinstance(found, list) else tuple(np.asarray(found).tolist())

    @property
    def likeliest(self) -> bool:
        """Whether ``predict`` is, by its own code, the class of the largest probability: it need not be asked twice."""
        last = self._model
        while hasattr(last, "steps"):
            last = last.steps[-1][1]
        return type(last).__module__.startswith(_LIKELIEST) and self.classes is not None

    @property
    def nameless(self) -> bool:
        """Whether it is one of scikit-learn's own estimators, which look at the order of columns, not at their names.

        Asking one with a frame costs a millisecond more than with a matrix.
        """
        return type(self._model).__module__.startswith("sklearn.") and not hasattr(self._model, "steps")

    def predict(self, x: Any) -> NDArray[Any]:
        return np.asarray(self._model.predict(x))

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        if self.classes is None or not hasattr(self._model, "predict_proba"):
            return None
        return np.asarray(self._model.predict_proba(x), dtype=np.float64)

    def unwrap(self) -> Any:
        return self._model
