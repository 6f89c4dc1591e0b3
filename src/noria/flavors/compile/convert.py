"""A model of any flavor -> the bytes of its graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto

from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.lightgbm_trees import light
from noria.flavors.compile.links import Answer
from noria.flavors.compile.models import predict
from noria.flavors.compile.others import ready_made
from noria.flavors.compile.xgboost_trees import extreme

__all__ = ["Subject", "convert"]

_NUMBERS = ("Float", "Int", "UInt", "Boolean", "Decimal")
_TEXTS = ("String", "Categorical", "Enum")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compiled.

    Attributes:
        flavor: how the model is saved.
        model: the library's own object, or the bytes of a model that is ONNX already.
        features: its columns, in order, as ``(name, Polars type)``.
        frame: kind of frame it is handed.
        classes: class labels in the order of its probabilities; None for a regression.
    """

    flavor: str
    model: Any
    features: tuple[tuple[str, str], ...]
    frame: str
    classes: tuple[Any, ...] | None

    @property
    def names(self) -> list[str]:
        """The features' names."""
        return [name for name, _ in self.features]

    @property
    def texts(self) -> list[bool]:
        """Which features are texts.

        Raises:
            NotCompiled: a feature is neither text nor number.
        """
        for name, kind in self.features:
            if not kind.startswith((*_NUMBERS, *_TEXTS)):
                raise NotCompiled(f"the feature {name!r} is a {kind.split('(')[0]}")
        return [kind.startswith(_TEXTS) for _, kind in self.features]

    @property
    def is_matrix(self) -> bool:
        """Whether all features go in as one matrix."""
        return not any(self.texts)

    @property
    def is_whole(self) -> bool:
        """Whether LightGBM gets a matrix of whole numbers only, and not a frame."""
        as_matrix = ("ndarray",) if hasattr(self.model, "fit") else ("ndarray", "polars", "pyarrow")
        return self.frame in as_matrix and all(not kind.startswith(("Float", "Decimal")) for _, kind in self.features)

    @property
    def tolerance(self) -> float:
        """How far answers may be apart: libraries that count in float32 do not know theirs better."""
        own = type(self.model).__module__.split(".")[0] in ("sklearn", "lightgbm")
        return 1e-9 if own and not _holds_single(self.model) else 1e-5


def _holds_single(model: Any) -> bool:
    """Whether a part of a scikit-learn model counts in float32."""
    parts = [model]
    while parts:
        one = parts.pop()
        if type(one).__module__.split(".")[0] == "xgboost":
            return True
        for name in ("steps", "transformers_", "estimators_", "transformer_list"):
            held = getattr(one, name, None)
            if isinstance(held, list):
                parts += [part[1] if isinstance(part, tuple) else part for part in held]
        parts += [getattr(one, name, None) for name in ("best_estimator_", "regressor_", "estimator_")]
        parts = [part for part in parts if part is not None]
    return False


def convert(subject: Subject, *, label: bool) -> bytes:
    """The graph of a model.

    Args:
        subject: the model.
        label: whether the predicted label must be given beside the probabilities.

    Raises:
        NotCompiled: there is none; says why.
    """
    graph = Graph()
    names = subject.names
    table = graph.take_matrix(names) if subject.is_matrix else graph.take_columns(names, subject.texts)
    found = _answer(graph, subject, _narrowed(graph, table, subject))
    outputs: dict[str, tuple[str, int, list[int | None]]] = {}
    if found.number is not None:
        number = graph.add("Reshape", found.number, np.array([-1]))
        outputs["prediction"] = (number, TensorProto.DOUBLE, [None])
    if found.shares is not None:
        assert found.classes is not None
        outputs["probabilities"] = (found.shares, TensorProto.DOUBLE, [None, len(found.classes)])
    if found.number is None and (label or found.shares is None):
        outputs["prediction"] = _label(graph, found)
    return graph.finish(outputs)


def _narrowed(graph: Graph, table: Table, subject: Subject) -> Table:
    """Columns of float32 rounded to it, as they are for the model when a request comes."""
    narrow = [kind == "Float32" for _, kind in subject.features]
    if not any(narrow):
        return table
    if not subject.is_matrix:
        pairs = zip(table.columns, narrow, strict=True)
        made = [replace(one, tensor=_rounded(graph, one.tensor)) if is_narrow else one for one, is_narrow in pairs]
        return Table(tuple(made), table.names)
    x = table.columns[0].tensor
    tensor = _rounded(graph, x) if all(narrow) else graph.add("Where", np.array([narrow]), _rounded(graph, x), x)
    return Table(tuple(replace(one, tensor=tensor) for one in table.columns), table.names)


def _rounded(graph: Graph, tensor: str) -> str:
    return graph.double(graph.cast(tensor, TensorProto.FLOAT))


def _label(graph: Graph, found: Answer) -> tuple[str, int, list[int | None]]:
    assert found.classes is not None
    place = found.place
    if place is None:
        assert found.shares is not None
        place = graph.add("ArgMax", found.shares, axis=1, keepdims=0)
    elif found.shares is None and (wrong := graph.wrong()) is not None:
        # A label cannot be NaN: a place that no class has makes the graph fail.
        place = graph.add("Where", graph.add("Reshape", wrong, np.array([-1])), np.int64(len(found.classes)), place)
    kinds = {"b": TensorProto.BOOL, "f": TensorProto.DOUBLE, "i": TensorProto.INT64, "u": TensorProto.INT64}
    kind = kinds.get(found.classes.dtype.kind, TensorProto.STRING)
    classes = found.classes
    if kind == TensorProto.STRING:
        if not all(isinstance(one, str) for one in classes.tolist()):
            raise NotCompiled("its classes are of several types")
        classes = classes.astype(object)
    elif kind != TensorProto.BOOL:
        classes = classes.astype(np.float64 if kind == TensorProto.DOUBLE else np.int64)
    return graph.add("Gather", classes, place, axis=0), kind, [None]


def _answer(graph: Graph, subject: Subject, table: Table) -> Answer:
    model, classes = subject.model, subject.classes
    known = None if classes is None else np.asarray(classes)
    if isinstance(model, bytes):
        return ready_made(graph, model, table, classes)
    kind = f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    if kind == "lightgbm.Booster":
        return light(graph, model, table, known, whole=subject.is_whole)
    if kind == "xgboost.Booster":
        return extreme(graph, model, table, known)
    if not hasattr(model, "predict"):
        raise NotCompiled(f"there is no converter for {kind}")
    if kind.startswith("lightgbm.") and subject.is_whole:
        return light(graph, model.booster_, table, known, whole=True)
    return predict(graph, model, table)
