"""PyTorch modules, saved as ONNX by torch's own exporter: loading and predicting need no torch and execute nothing.

A module takes one matrix, rows x features. One number a row is a regression, or, where a sigmoid comes last, the
probability of class 1; several are the scores of the classes 0, 1, 2 ..., of which a softmax is made unless one comes
last.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from noria.errors import MissingExtra, ModelError
from noria.flavors import Predictor
from noria.flavors import onnx as of_onnx

__all__ = ["load", "matches", "save"]

_FILE = "model.onnx"
_RAW = "raw"
_OPSET = 18
_SHAPING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def matches(model: Any) -> bool:
    """Whether the model is a module."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def save(model: Any) -> dict[str, bytes]:
    """The model's file.

    Raises:
        ModelError: torch cannot export it, or how many columns it takes cannot be told.
    """
    torch: Any = sys.modules["torch"]
    kind = type(model).__name__
    example = getattr(model, "example_input_array", None)  # where Lightning keeps it
    if example is None:
        example = torch.zeros((2, _width(model, kind)), dtype=next(model.parameters()).dtype)
    held = io.BytesIO()
    was_training = model.training
    model.eval()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            shape = tuple(model(example).shape[1:])
            torch.onnx.export(
                model, (example,), held, input_names=["x"], output_names=[_RAW], opset_version=_OPSET, dynamo=False,
                dynamic_axes={"x": {0: "rows"}, _RAW: {0: "rows"}},
            )  # fmt: skip
    except Exception as error:
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(
            f"The {kind} cannot be saved: torch cannot export it to ONNX: {said}. "
            "Export it yourself and return the model's bytes."
        ) from error
    finally:
        model.train(was_training)
    return {_FILE: _answering(onnx.load_model_from_string(held.getvalue()), shape, kind)}


def _width(model: Any, kind: str) -> int:
    for part in model.modules():
        for name in ("in_features", "num_features"):
            if isinstance(getattr(part, name, None), int):
                return int(getattr(part, name))
    raise ModelError(
        f"How many columns the {kind} takes cannot be told. Give it an attribute example_input_array, two rows as it "
        "takes them, or export it and return the bytes of the ONNX model."
    )


def _answering(proto: Any, shape: tuple[int, ...], kind: str) -> bytes:
    """The exported module with what a served model answers before its own output."""
    graph = proto.graph
    if len(shape) > 1:
        raise ModelError(
            f"The {kind} gives {len(shape)} numbers a row in several dimensions; a model gives one or a list."
        )
    last = _last(graph)
    raw, width = graph.output[0], shape[0] if shape else 1
    element = raw.type.tensor_type.elem_type
    add = graph.node.append
    if width > 1:
        if last == "Softmax":
            add(helper.make_node("Identity", [_RAW], ["probabilities"]))
        else:
            add(helper.make_node("Softmax", [_RAW], ["probabilities"], axis=1))
    elif last == "Sigmoid":
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.array([-1, 1]), "column"),
                numpy_helper.from_array(np.array(1, dtype=np.float32), "one"),
            ]
        )
        add(helper.make_node("Cast", [_RAW], ["single"], to=TensorProto.FLOAT))
        add(helper.make_node("Reshape", ["single", "column"], ["positive"]))
        add(helper.make_node("Sub", ["one", "positive"], ["negative"]))
        add(helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1))
        width, element = 2, TensorProto.FLOAT
    else:
        return bytes(proto.SerializeToString(deterministic=True))
    add(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    made = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]),
        helper.make_tensor_value_info("probabilities", element, ["rows", width]),
    ]
    del graph.output[:]
    graph.output.extend([*made, raw])
    return bytes(proto.SerializeToString(deterministic=True))


def _last(graph: Any) -> str:
    """The kind of the operator that the output comes from, however it was shaped after it."""
    makes = {name: node for node in graph.node for name in node.output}
    node = makes.get(graph.output[0].name)
    while node is not None and node.op_type in _SHAPING:
        node = makes.get(node.input[0])
    return "" if node is None else str(node.op_type)


def load(files: Mapping[str, bytes]) -> Predictor:
    """The model back; ``unwrap`` gives a module that answers as the one that was saved.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return _Module(of_onnx.load(files))


class _Module:
    def __init__(self, session: Any) -> None:
        self._session = session

    @property
    def classes(self) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._session.classes
        return found

    def predict(self, x: Any) -> Any:
        return self._session.predict(x)

    def probabilities(self, x: Any) -> Any:
        return self._session.probabilities(x)

    def unwrap(self) -> Any:
        """A module over the saved graph: tensor in, what the module itself would give out; it has no weights to train.

        Raises:
            MissingExtra: torch is not installed.
        """
        try:
            import torch
        except ImportError:
            raise MissingExtra("torch", "torch", "to ask this model as a module") from None
        session = self._session.unwrap()
        dtype = torch.float64 if session.get_inputs()[0].type == "tensor(double)" else torch.float32

        class Saved(torch.nn.Module):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                rows = torch.as_tensor(x, dtype=dtype).detach().cpu().numpy()
                return torch.from_numpy(session.run([_RAW], {"x": rows})[0])

        return Saved().eval()
