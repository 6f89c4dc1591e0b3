"""The rest of scikit-learn, by skl2onnx, one estimator at a time; and models that are ONNX already."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.links import Answer, shares_of

__all__ = ["other_predictor", "other_transformer", "ready_made"]

_KEEPS_ROWS = ("GaussianProcess", "KNeighbors", "RadiusNeighbors")
_TAKES_AGES = ("QuantileTransformer",)
_VERSIONS = {"": 20, "ai.onnx.ml": 3}


def _converted(graph: Graph, model: Any, table: Table) -> list[str]:
    name = type(model).__name__
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
    except ImportError:
        raise NotCompiled(f"{name} needs skl2onnx, which is not installed: pip install skl2onnx") from None
    if not type(model).__module__.startswith("sklearn."):
        raise NotCompiled(f"there is no converter for {type(model).__module__.split('.')[0]}'s {name}")
    if name.startswith(_KEEPS_ROWS):
        raise NotCompiled(f"{name} looks through the training rows, in which its own library is quicker")
    if name in _TAKES_AGES:
        raise NotCompiled(f"skl2onnx takes minutes for {name}")
    text = any(column.text for column in table.columns)
    kind = StringTensorType if text else DoubleTensorType
    options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = convert_sklearn(
                model, "part", [("x", kind([None, len(table.columns)]))], target_opset=_VERSIONS, options=options
            )
    except Exception as error:
        if type(error).__name__ == "MissingShapeCalculator":
            raise NotCompiled(f"skl2onnx has no converter for {name}") from error
        text_of = " ".join(str(error).split())
        raise NotCompiled(f"skl2onnx cannot convert {name}: {text_of[:200].rstrip('.')}") from error
    return _joined(graph, proto, {"x": graph.matrix(table)})


def _joined(graph: Graph, proto: Any, feed: dict[str, str], *, alone: bool = False) -> list[str]:
    """The outputs of another model, numbers as float64."""
    made = graph.inline(proto, feed, alone=alone)
    kinds = [output.type.tensor_type.elem_type for output in proto.graph.output]
    return [
        graph.double(name) if kind in (TensorProto.FLOAT, TensorProto.INT32, TensorProto.FLOAT16) else name
        for name, kind in zip(made, kinds, strict=True)
    ]


def other_predictor(graph: Graph, model: Any, table: Table) -> Answer:
    """An estimator that predicts, as skl2onnx converts it."""
    found = _converted(graph, model, table)
    if not hasattr(model, "classes_"):
        return Answer(number=graph.add("Reshape", graph.double(found[0]), np.array([-1, 1])))
    classes = shares_of(model)
    if len(found) > 1 and hasattr(model, "predict_proba"):
        return Answer(shares=graph.double(found[1]), classes=classes)
    raise NotCompiled(f"{type(model).__name__} gives no probabilities")


def other_transformer(graph: Graph, model: Any, table: Table) -> Table:
    """An estimator that transforms, as skl2onnx converts it."""
    (made, *_) = _converted(graph, model, table)
    names = getattr(model, "get_feature_names_out", None)
    try:
        width = len(names()) if names is not None else int(model.n_components)
    except Exception as error:
        raise NotCompiled(f"it is not known how many columns {type(model).__name__} makes") from error
    return graph.table(graph.double(made), width)


def ready_made(graph: Graph, data: bytes, table: Table, classes: Any) -> Answer:
    """A model that is ONNX already: its inputs cast from float64, its outputs to it.

    Raises:
        NotCompiled: it takes or gives something else than numbers and texts.
    """
    proto = onnx.load_model_from_string(data)
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [given for given in proto.graph.input if given.name not in constants]
    feed = {}
    names = list(table.names or ())
    for given in inputs:
        part = table if len(inputs) == 1 else table.take([names.index(given.name)] if given.name in names else [])
        tensor, kind = graph.matrix(part), given.type.tensor_type.elem_type
        feed[given.name] = tensor if kind in (TensorProto.STRING, TensorProto.DOUBLE) else graph.cast(tensor, kind)
    if any(not output.type.HasField("tensor_type") for output in proto.graph.output):
        raise NotCompiled("it gives probabilities as maps; convert it with zipmap off")
    made = _joined(graph, proto, feed, alone=True)
    shares = None
    for name, output in zip(made[1:], proto.graph.output[1:], strict=True):
        if output.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE) and shares is None:
            shares = graph.double(name)
    if shares is not None and classes is not None:
        return Answer(shares=shares, classes=np.asarray(classes))
    if proto.graph.output[0].type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        raise NotCompiled("it gives labels without probabilities")
    return Answer(number=graph.add("Reshape", graph.double(made[0]), np.array([-1, 1])))
