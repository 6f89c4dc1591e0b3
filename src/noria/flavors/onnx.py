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


def matches(model: Any) -> bool:
    """Whether the model is an ONNX ModelProto, or the bytes of one."""
    if isinstance(model, bytes):
        return True
    return type(model).__module__.startswith("onnx") and hasattr(model, "SerializeToString")


def save(model: Any) -> dict[str, bytes]:
    """The model's file.

    Raises:
        ModelError: the bytes are not an ONNX model.
    """
    data = model if isinstance(model, bytes) else model.SerializeToString()
    load({_FILE: data})
    return {_FILE: data}


def load(files: Mapping[str, bytes]) -> _Session:
    """The model back.

    Raises:
        ModelError: the file is damaged.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(files[_FILE], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors share no class of their own
        raise ModelError(f"The ONNX model cannot be read: {str(error)[:300]}.") from error
    return _Session(session, files[_FILE])


class _Session:
    """A model of one matrix, or of one column an input; the first output is the prediction."""

    def __init__(self, session: onnxruntime.InferenceSession, data: bytes) -> None:
        self._session = session
        self._data = data
        outputs = session.get_outputs()
        self._shares = next((o.name for o in outputs[1:] if "float" in o.type or "map" in o.type), None)
        if self._shares is not None and "map" in next(o.type for o in outputs if o.name == self._shares):
            self._shares = None  # a sequence of maps (skl2onnx's zipmap): not a matrix of probabilities
        self._answer = outputs[0].name
        self._classes = int(outputs[1].shape[1]) if self._shares and isinstance(outputs[1].shape[1], int) else 0

    @property
    def classes(self) -> tuple[Any, ...] | None:
        return tuple(range(self._classes)) if self._classes else None

    def _feed(self, x: Any) -> dict[str, NDArray[Any]]:
        inputs = self._session.get_inputs()
        kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64,
                 "tensor(string)": np.str_, "tensor(bool)": np.bool_}  # fmt: skip
        if len(inputs) == 1:
            return {inputs[0].name: np.asarray(x, dtype=kinds.get(inputs[0].type, np.float32))}
        return {i.name: np.asarray(x[i.name]).astype(kinds.get(i.type, np.float32)).reshape(-1, 1) for i in inputs}

    def predict(self, x: Any) -> NDArray[Any]:
        return np.asarray(self._session.run([self._answer], self._feed(x))[0])

    def probabilities(self, x: Any) -> NDArray[np.float64] | None:
        if not self._classes:
            return None
        return np.asarray(self._session.run([self._shares], self._feed(x))[0], dtype=np.float64)

    def unwrap(self) -> Any:
        return self._session
