"""ONNX models, run by ONNX Runtime on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noria.errors import ModelError

__all__ = ["load", "matches", "save"]

_FILE = "model.onnx"
_TYPES: dict[str, type[np.generic]] = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def matches(model: Any) -> bool:
    """Whether the model is an ONNX ModelProto, or the bytes of one."""
    if isinstance(model, (bytes, bytearray)):
        return True
    return type(model).__module__.split(".")[0] == "onnx" and type(model).__name__ == "ModelProto"


def save(model: Any) -> dict[str, bytes]:
    """The model's file.

    Raises:
        ModelError: it is not an ONNX model that can be run.
    """
    data = bytes(model) if isinstance(model, (bytes, bytearray)) else model.SerializeToString(deterministic=True)
    load({_FILE: data})
    return {_FILE: data}


def load(files: Mapping[str, bytes]) -> _Session:
    """The model back; ``unwrap`` gives its ``onnxruntime.InferenceSession``.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if _FILE not in files:
        raise ModelError(f"The model has no {_FILE}; it has: {', '.join(files) or 'no files'}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they come as exceptions
    try:
        session = onnxruntime.InferenceSession(files[_FILE], options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{_FILE} cannot be read: {str(error)[:300]}") from error
    return _Session(session, _labels(files[_FILE]))


def _labels(data: bytes) -> tuple[Any, ...]:
    """Class labels as a converted classifier names them; empty when the model names none."""
    try:
        import onnx
    except ImportError:
        return ()
    for node in onnx.load_model_from_string(data).graph.node:
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels_"):
                found = [*attribute.ints, *(text.decode() for text in attribute.strings)]
                if found:
                    return tuple(found)
    return ()


class _Session:
    """A model of one matrix, or of one column an input; its first output is the prediction."""

    def __init__(self, session: onnxruntime.InferenceSession, labels: tuple[Any, ...]) -> None:
        self._session = session
        answer, *others = session.get_outputs()
        self._answer = answer.name
        shares = next((o for o in others if "float" in o.type or "double" in o.type), None)
        self._shares = shares.name if shares is not None else None
        width = shares.shape[-1] if shares is not None and shares.shape else None
        self._labels = labels or (tuple(range(width)) if isinstance(width, int) else ())

    @property
    def classes(self) -> tuple[Any, ...] | None:
        return self._labels if self._shares and self._labels else None

    def predict(self, x: Any) -> NDArray[Any]:
        return np.asarray(self._session.run([self._answer], self._feed(x))[0])

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        classes = self.classes
        if classes is None:
            return None
        found = self._session.run([self._shares], self._feed(x))[0]
        if isinstance(found, list):  # a map a row, as skl2onnx writes unless told zipmap=False
            found = [[row[label] for label in classes] for row in found]
        return np.asarray(found, dtype=np.float64)

    def _feed(self, x: Any) -> dict[str, NDArray[Any]]:
        inputs = self._session.get_inputs()
        if len(inputs) == 1:
            return {inputs[0].name: _as_type(x, inputs[0].type)}
        return {given.name: _as_type(x[given.name], given.type).reshape(-1, 1) for given in inputs}

    def unwrap(self) -> Any:
        return self._session


def _as_type(values: Any, kind: str) -> NDArray[Any]:
    if kind == "tensor(string)":
        return np.asarray(values).astype(np.str_).astype(object)
    return np.asarray(values).astype(_TYPES.get(kind, np.float32))
