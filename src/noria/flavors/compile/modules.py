"""PyTorch modules, by torch's own exporter."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.links import Answer, binary

__all__ = ["is_module", "module"]


def is_module(model: Any) -> bool:
    """Whether it is a PyTorch module."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def module(graph: Graph, model: Any, table: Table, classes: Any, ending: str) -> Answer:
    """A module of one matrix, its numbers those of the module's weights.

    Args:
        graph: what it becomes part of.
        model: the module, on the processor.
        table: its features.
        classes: class labels; None for a regression.
        ending: what makes probabilities of what it gives: ``as it is``, ``softmax`` or ``sigmoid``.

    Raises:
        NotCompiled: torch cannot export it.
    """
    torch = sys.modules["torch"]
    weight = next(iter(model.parameters()), None)
    single = weight is None or weight.dtype == torch.float32
    example = torch.zeros((2, len(table.columns)), dtype=torch.float32 if single else torch.float64)
    held = io.BytesIO()
    was_training = model.training
    model.eval()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, (example,), held, input_names=["x"], output_names=["y"], dynamic_axes={"x": [0], "y": [0]},
                opset_version=18, dynamo=False,
            )  # fmt: skip
    except Exception as error:
        raise NotCompiled(f"torch cannot export it: {' '.join(str(error).split())[:200].rstrip('.')}") from error
    finally:
        model.train(was_training)
    proto = onnx.load_model_from_string(held.getvalue())
    x = graph.matrix(table)
    raw = graph.double(graph.inline(proto, {"x": graph.cast(x, TensorProto.FLOAT) if single else x}, alone=True)[0])
    if classes is None:
        return Answer(number=graph.add("Reshape", raw, np.array([-1, 1])))
    if ending == "softmax":
        return Answer(shares=graph.add("Softmax", raw, axis=1), classes=np.asarray(classes))
    if ending == "sigmoid":
        raw = graph.add("Sigmoid", raw)
        return Answer(shares=binary(graph, graph.add("Reshape", raw, np.array([-1, 1]))), classes=np.asarray(classes))
    return Answer(shares=raw, classes=np.asarray(classes))
