"""Open Inference Protocol V2, JSON form: tensors to records and answers to tensors.

Source: the Open Inference Protocol specification, "Inference Request/Response JSON Object".
"""

from __future__ import annotations

from typing import Any

from noria.errors import RequestError
from noria.records import BundleManifest, Signature
from noria.serve.plane import Answer

_DATATYPES = {
    "Boolean": "BOOL",
    "Int8": "INT8",
    "Int16": "INT16",
    "Int32": "INT32",
    "Int64": "INT64",
    "UInt8": "UINT8",
    "UInt16": "UINT16",
    "UInt32": "UINT32",
    "UInt64": "UINT64",
    "Float32": "FP32",
    "Float64": "FP64",
}
_KNOWN = {*_DATATYPES.values(), "FP16", "BF16", "BYTES"}


def datatype(dtype: str) -> str:
    """The protocol's datatype for a Polars one; everything else travels as BYTES (text)."""
    return _DATATYPES.get(dtype, "BYTES")


def metadata(name: str, versions: list[int], manifest: BundleManifest) -> dict[str, Any]:
    """The model metadata object."""
    signature = manifest.signature
    outputs = [{"name": "prediction", "datatype": _prediction_type(signature), "shape": [-1]}]
    if signature.classes:
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(signature.classes)]})
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": f"noria_{manifest.flavor}",
        "inputs": [
            {"name": field.name, "datatype": datatype(field.dtype), "shape": [-1]} for field in signature.inputs
        ],
        "outputs": outputs,
    }


def _prediction_type(signature: Signature) -> str:
    if signature.task == "regression":
        return "FP64"
    kinds = {type(value) for value in signature.classes}
    if kinds == {bool}:
        return "BOOL"
    return "INT64" if kinds == {int} else "FP64" if kinds <= {int, float} and kinds else "BYTES"


def records_of(body: Any, signature: Signature) -> list[dict[str, Any]]:
    """Records from a request's tensors: one tensor a column, or one matrix with the columns in order.

    Raises:
        RequestError: says which input is wrong and how.
    """
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise RequestError("The body needs 'inputs': a list of tensors.")
    columns: dict[str, list[Any]] = {}
    names = [field.name for field in signature.inputs]
    for place, tensor in enumerate(inputs):
        name, shape, data = _tensor(tensor, place)
        if len(inputs) == 1 and name not in names and len(shape) == 2:
            required = [field.name for field in signature.inputs if field.required]
            order = names if shape[1] == len(names) else required
            if shape[1] != len(order):
                raise RequestError(f"Input '{name}' has {shape[1]} columns; the model takes {len(names)}: {names}.")
            for index, column in enumerate(order):
                columns[column] = data[index :: len(order)]
            continue
        if (len(shape) == 2 and shape[1] != 1) or len(shape) > 2:
            raise RequestError(f"Input '{name}' has shape {shape}; a column has shape [n] or [n, 1].")
        if name in columns:
            raise RequestError(f"Input '{name[:200]}' is there twice.")
        columns[name] = data
    lengths = {name: len(data) for name, data in columns.items()}
    if len(set(lengths.values())) > 1:
        raise RequestError(f"The inputs differ in their number of rows: {lengths}.")
    rows = next(iter(lengths.values()))
    return [{name: data[row] for name, data in columns.items()} for row in range(rows)]


def _tensor(tensor: Any, place: int) -> tuple[str, list[int], list[Any]]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError(f"Input {place} needs a 'name'.")
    name, shape = tensor["name"][:200], tensor.get("shape")
    whole = isinstance(shape, list) and 0 < len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(shape, list) or not whole:
        raise RequestError(f"Input '{name}' needs a 'shape': a list of whole numbers.")
    if not isinstance(tensor.get("datatype"), str) or tensor["datatype"] not in _KNOWN:
        raise RequestError(f"Input '{name}' needs a 'datatype': one of {', '.join(sorted(_KNOWN))}.")
    if not isinstance(tensor.get("data"), list):
        raise RequestError(f"Input '{name}' needs 'data': a list.")
    data = _flat(tensor["data"], name, len(shape))
    size = 1
    for length in shape:
        size *= length
    if len(data) != size:
        raise RequestError(f"Input '{name}' has {len(data)} values; its shape {shape} needs {size}.")
    return name, shape, data


def _flat(data: list[Any], name: str, depth: int) -> list[Any]:
    """Row-major values of nested or flat data."""
    while any(isinstance(item, list) for item in data):
        depth -= 1
        if depth < 1 or not all(isinstance(item, list) for item in data):
            raise RequestError(f"Input '{name}': 'data' is nested unevenly or deeper than its shape.")
        data = [value for item in data for value in item]
    return data


def outputs_of(body: Any, signature: Signature) -> list[str] | None:
    """Names of the outputs a request asks for; None for all.

    Raises:
        RequestError: the model gives no such output.
    """
    wanted = body.get("outputs") if isinstance(body, dict) else None
    if wanted is None:
        return None
    if not isinstance(wanted, list) or not all(
        isinstance(output, dict) and isinstance(output.get("name"), str) for output in wanted
    ):
        raise RequestError("'outputs' must be a list of objects with a 'name'.")
    there = ["prediction", "probabilities"] if signature.classes else ["prediction"]
    names = [output["name"] for output in wanted]
    unknown = sorted({name[:80] for name in names} - set(there))
    if unknown:
        raise RequestError(f"Unknown output {unknown[:10]}; the model gives {there}.")
    return names


def response(
    name: str, answers: list[Answer], signature: Signature, names: list[str] | None, request_id: Any
) -> dict[str, Any]:
    """The response object.

    Args:
        name: the model's.
        answers: one a row.
        signature: the champion's.
        names: outputs asked for, as `outputs_of` gives them.
        request_id: comes back if it is text.
    """
    values = [answer.value for answer in answers]
    tensor = _prediction_type(signature)
    if tensor == "BYTES":
        values = [str(value) for value in values]
    outputs = [{"name": "prediction", "datatype": tensor, "shape": [len(values)], "data": values}]
    classes = answers[0].classes
    if classes and all(answer.probabilities and answer.classes == classes for answer in answers):
        flat = [p for answer in answers for p in answer.probabilities or ()]
        shape = [len(answers), len(classes)]
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": shape, "data": flat})
    versions = sorted({answer.version for answer in answers})
    found: dict[str, Any] = {"model_name": name, "model_version": str(versions[-1])}
    if isinstance(request_id, str):
        found["id"] = request_id
    found["parameters"] = {"prediction_ids": ",".join(answer.id for answer in answers)}
    found["outputs"] = [output for output in outputs if names is None or output["name"] in names]
    return found
