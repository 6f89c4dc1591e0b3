"""One table of what is loaded by name, and the sentence to say when its package is not installed."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from noria.core.nearest import suggest
from noria.errors import MissingExtra, NotFound

__all__ = ["load_plugin", "plugins"]

# (kind, name): "module" or "module:attribute", the package it needs, the extra that brings it
_BUILT_IN: dict[tuple[str, str], tuple[str, str, str]] = {
    ("flavor", "sklearn"): ("noria.flavors.sklearn", "scikit-learn", ""),
    ("flavor", "lightgbm"): ("noria.flavors.lightgbm", "lightgbm", "lightgbm"),
    ("flavor", "xgboost"): ("noria.flavors.xgboost", "xgboost", "xgboost"),
    ("flavor", "torch"): ("noria.flavors.torch", "onnx", ""),
    ("flavor", "onnx"): ("noria.flavors.onnx", "onnxruntime", ""),
}


def plugins(kind: str) -> list[str]:
    """Names known for a kind: Noria's own, then other packages' (entry points ``noria.<kind>``)."""
    own = [name for k, name in _BUILT_IN if k == kind]
    return own + [point.name for point in entry_points(group=f"noria.{kind}") if point.name not in own]


def load_plugin(kind: str, name: str) -> Any:
    """The module or object behind a name.

    Raises:
        NotFound: nothing has this name; says what is nearest.
        MissingExtra: its package is not installed; says what to install.
    """
    row = _BUILT_IN.get((kind, name))
    if row is None:
        for point in entry_points(group=f"noria.{kind}", name=name):
            return point.load()
        raise NotFound(f"There is no {kind} '{name[:80]}'. {suggest(name, plugins(kind))}")
    place, package, extra = row
    module, _, attribute = place.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("noria"):
            raise
        raise MissingExtra(package, extra, f"for the {kind} '{name}'") from error
    return getattr(found, attribute) if attribute else found
