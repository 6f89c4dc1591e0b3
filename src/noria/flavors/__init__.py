"""Flavors: how a model is saved so that loading it executes nothing, and how it is asked to predict.

Each module has ``matches(model)``, ``save(model) -> {file name: bytes}`` and ``load(files) -> Predictor``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from noria.core.plugins import load_plugin, plugins
from noria.errors import ModelError

__all__ = ["Flavor", "Predictor", "flavor_for"]

_LIBRARIES = ("sklearn", "lightgbm", "xgboost", "torch", "onnx")


class Predictor(Protocol):
    """A loaded model. ``x`` arrives as the kind of frame the model was trained on."""

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """Class labels in the order of the probabilities; None for a regression."""
        ...

    def predict(self, x: Any) -> NDArray[Any]:
        """Labels or numbers, one a row."""
        ...

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        """Class probabilities, rows x classes; None when the model gives none."""
        ...

    def unwrap(self) -> Any:
        """The library's own model object."""
        ...


class Flavor(Protocol):
    """A flavor module."""

    def matches(self, model: Any) -> bool:
        """Whether this flavor saves such a model."""
        ...

    def save(self, model: Any) -> dict[str, bytes]:
        """The model's files.

        Raises:
            ModelError: it holds something that could execute when loaded.
        """
        ...

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """The model back from its files; executes nothing of theirs."""
        ...


def flavor_for(model: Any) -> tuple[str, Flavor]:
    """The name and module of the flavor that saves a model.

    Raises:
        ModelError: none does; says what can be saved.
    """
    for name in plugins("flavor"):
        # A model of a library can only exist once the library is imported, so no other need be.
        absent = name in _LIBRARIES and name not in sys.modules
        if absent and not (name == "onnx" and isinstance(model, (bytes, bytearray))):
            continue
        module: Flavor = load_plugin("flavor", name)
        if module.matches(model):
            return name, module
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise ModelError(
        f"What train returned, a {kind}, cannot be saved safely. Return a scikit-learn estimator or "
        "pipeline, a LightGBM or XGBoost model, a PyTorch module, or an ONNX model (its bytes or ModelProto)."
    )
