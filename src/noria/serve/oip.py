"""Open Inference Protocol V2: tensors to batches and answers to tensors, in JSON and in binary.

Source: the Open Inference Protocol specification ("Inference Request/Response JSON Object") and Triton's "Binary
Tensor Data Extension": the body is JSON, of the length the header Inference-Header-Content-Length says, then the raw
little-endian tensors in order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from noria.errors import RequestError
from noria.records import BundleManifest, Signature
from noria.serve.batch import Batch, Column, Layout
from noria.serve.plane import Answered, Part
from noria.serve.reading import json_of
from noria.store.segments.rows import joined_ids

__all__ = [
    "InferRequest",
    "Tensor",
    "batch_of",
    "check_codec",
    "datatype",
    "encode",
    "metadata",
    "outputs_of",
    "parse",
    "tensors",
]

_DATATYPES = {
    "Boolean": "BOOL", "Int8": "INT8", "Int16": "INT16", "Int32": "INT32", "Int64": "INT64", "UInt8": "UINT8",
    "UInt16": "UINT16", "UInt32": "UINT32", "UInt64": "UINT64", "Float32": "FP32", "Float64": "FP64",
}  # fmt: skip
NUMPY: dict[str, str] = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_KNOWN = {*NUMPY, "BF16", "BYTES"}
_FLOATS = frozenset(("FP64", "FP32", "FP16", "BF16"))
_TEXT_CODECS = frozenset(("str", "np", "pd", "datetime"))  # MLServer's content types that leave texts as they are
_EXACT = 2.0**53
_MOST_TENSORS = 10_000
_LENGTH = struct.Struct("<I")


class Tensor:
    """One input: its values flat, row-major, an array of numbers or a list of plain values."""

    __slots__ = ("data", "datatype", "name", "shape")

    def __init__(self, name: str, datatype: str, shape: list[int], data: Column) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.data = data


class InferRequest:
    """A request, whichever wire it came by.

    Attributes:
        id: comes back.
        tensors: the inputs.
        outputs: names of the outputs asked for and whether each is to be binary; None for all.
        binary: whether outputs are binary unless they say otherwise.
    """

    __slots__ = ("binary", "id", "outputs", "tensors")

    def __init__(
        self, id: str | None, tensors: list[Tensor], outputs: list[tuple[str, bool | None]] | None, binary: bool
    ) -> None:
        self.id = id
        self.tensors = tensors
        self.outputs = outputs
        self.binary = binary


# what the server says of itself


def datatype(dtype: str) -> str:
    """The protocol's datatype for a Polars one; everything else travels as BYTES (text)."""
    return _DATATYPES.get(dtype, "BYTES")


def outputs(signature: Signature) -> list[dict[str, Any]]:
    """The outputs' metadata."""
    found: list[dict[str, Any]] = [{"name": "prediction", "datatype": prediction_type(signature), "shape": [-1]}]
    if signature.classes:
        found.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(signature.classes)]})
    return found


def metadata(name: str, versions: list[int], manifest: BundleManifest) -> dict[str, Any]:
    """The model metadata object."""
    signature = manifest.signature
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": f"noria_{manifest.flavor}",
        "inputs": [
            {"name": field.name, "datatype": datatype(field.dtype), "shape": [-1]} for field in signature.inputs
        ],
        "outputs": outputs(signature),
    }


def prediction_type(signature: Signature) -> str:
    """The datatype of the output ``prediction``."""
    if signature.task == "regression" or not signature.classes:
        return "FP64"
    kinds = {type(value) for value in signature.classes}
    if kinds == {bool}:
        return "BOOL"
    return "INT64" if kinds == {int} else "FP64" if kinds <= {int, float} else "BYTES"


# requests


class _FastTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: tuple[float, ...]


class _FastRequest(msgspec.Struct):
    inputs: list[_FastTensor]
    id: str | None = None
    outputs: list[Any] | None = None
    parameters: dict[str, Any] | None = None


_fast = msgspec.json.Decoder(_FastRequest)


def parse(body: bytes, header_length: bytes | None) -> InferRequest:
    """A request's body.

    Args:
        body: JSON, or JSON followed by raw tensors.
        header_length: the value of Inference-Header-Content-Length, None without one.

    Raises:
        RequestError: says which input is wrong and how.
    """
    if header_length is None:
        try:
            quick = _fast.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return _parse(json_of(body), b"")
        found = _quick(quick)
        return _parse(json_of(body), b"") if found is None else found
    text = header_length.strip()
    length = int(text) if text.isdigit() and len(text) < 12 else -1
    if not 0 <= length <= len(body):
        raise RequestError(
            f"Inference-Header-Content-Length must be the JSON's length, a whole number from 0 to {len(body)}, "
            f"not '{text.decode('latin-1')[:40]}'."
        )
    if length == 0:
        raise RequestError("A raw request (Inference-Header-Content-Length: 0) names no input; send the JSON too.")
    return _parse(json_of(body[:length]), body[length:])


def _quick(request: _FastRequest) -> InferRequest | None:
    """A request of numbers only; None where it must be looked at more closely."""
    tensors = []
    for one in request.inputs:
        size = math.prod(one.shape)
        if one.datatype not in NUMPY or one.datatype == "BOOL" or size != len(one.data) or not 0 < len(one.shape) <= 8:
            return None
        if size == 0 or any(length < 0 for length in one.shape):
            return None
        values = np.array(one.data, dtype=np.float64)
        if one.datatype not in _FLOATS and ((np.floor(values) != values).any() or (np.abs(values) >= _EXACT).any()):
            return None
        tensors.append(Tensor(one.name, one.datatype, one.shape, values))
    if not tensors:
        return None
    wanted, binary = _wanted(request.outputs), bool((request.parameters or {}).get("binary_data_output"))
    return InferRequest(request.id, tensors, wanted, binary)


def quick(body: bytes, layout: Layout) -> tuple[str | None, Batch] | None:
    """Id and batch of the commonest request: one matrix of floats, every output in JSON; None for any other.

    Raises:
        RequestError: a number does not fit.
    """
    try:
        request = _fast.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if len(request.inputs) != 1 or request.outputs is not None or request.parameters is not None:
        return None
    one = request.inputs[0]
    shape = one.shape
    if one.datatype not in _FLOATS or len(shape) != 2 or shape[1] != len(layout.names) or shape[0] < 1:
        return None
    if shape[0] * shape[1] != len(one.data) or one.name in layout.fields:
        return None
    return request.id, layout.from_numbers(one.data, shape)


def _parse(found: Any, raw: bytes) -> InferRequest:
    if not isinstance(found, dict):
        raise RequestError("The body must be a JSON object with 'inputs'.")
    inputs = found.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError("The body needs 'inputs': a list of tensors.")
    if len(inputs) > _MOST_TENSORS:
        raise RequestError(f"{len(inputs)} inputs; at most {_MOST_TENSORS}.")
    request_id, parameters = found.get("id"), found.get("parameters")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError("'id' must be text.")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError("'parameters' must be an object.")
    tensors, place = [], 0
    for number, tensor in enumerate(inputs):
        one, place = _tensor(tensor, number, raw, place)
        tensors.append(one)
    if place != len(raw):
        raise RequestError(f"{len(raw) - place} bytes are left over after the tensors' binary data.")
    binary = bool((parameters or {}).get("binary_data_output"))
    return InferRequest(request_id, tensors, _wanted(found.get("outputs")), binary)


def _wanted(outputs: Any) -> list[tuple[str, bool | None]] | None:
    if outputs is None:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(output, dict) and isinstance(output.get("name"), str) for output in outputs
    ):
        raise RequestError("'outputs' must be a list of objects with a 'name'.")
    found: list[tuple[str, bool | None]] = []
    for output in outputs:
        parameters = output.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise RequestError(f"The parameters of output '{output['name'][:80]}' must be an object.")
        if parameters.get("classification"):
            raise RequestError("The classification extension is not supported; ask for 'probabilities'.")
        if "shared_memory_region" in parameters:
            raise RequestError("Shared memory is not supported; take the outputs in the reply.")
        flag = parameters.get("binary_data")
        found.append((output["name"], flag if flag is None else bool(flag)))
    return found


def _tensor(tensor: Any, place: int, raw: bytes, at: int) -> tuple[Tensor, int]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError(f"Input {place} needs a 'name'.")
    name, shape, kind = tensor["name"][:200], tensor.get("shape"), tensor.get("datatype")
    whole = isinstance(shape, list) and 0 < len(shape) <= 8 and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    if not isinstance(shape, list) or not whole:
        raise RequestError(f"Input '{name}' needs a 'shape': a list of whole numbers.")
    if not isinstance(kind, str) or kind not in _KNOWN:
        raise RequestError(f"Input '{name}' needs a 'datatype': one of {', '.join(sorted(_KNOWN))}.")
    size, parameters = math.prod(shape), tensor.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError(f"The parameters of input '{name}' must be an object.")
    if "shared_memory_region" in parameters:
        raise RequestError("Shared memory is not supported; send the tensors in the request.")
    check_codec(name, kind, parameters.get("content_type"))
    length = parameters.get("binary_data_size")
    if length is not None:
        if type(length) is not int or not 0 <= length <= len(raw) - at:
            raise RequestError(
                f"Input '{name}' says binary_data_size {str(length)[:40]}; {len(raw) - at} bytes are left."
            )
        return Tensor(name, kind, shape, from_raw(name, kind, size, raw[at : at + length])), at + length
    if not isinstance(tensor.get("data"), list):
        raise RequestError(f"Input '{name}' needs 'data': a list.")
    data = _flat(tensor["data"], name, shape)
    if len(data) != size:
        raise RequestError(f"Input '{name}' has {len(data)} values; its shape {shape} needs {size}.")
    if kind == "BF16":
        raise RequestError(f"Input '{name}': BF16 travels as binary data only.")
    if kind in NUMPY:
        _check_kind(name, kind, data)
    return Tensor(name, kind, shape, data), at


def check_codec(name: str, kind: str, content_type: Any) -> None:
    """Refuse texts that are something else in disguise, as MLServer's clients may send them.

    Raises:
        RequestError: names the input.
    """
    if kind == "BYTES" and content_type is not None and content_type not in _TEXT_CODECS:
        raise RequestError(f"Input '{name}' has content type {content_type!r:.40}; send its texts as they are.")


def _check_kind(name: str, kind: str, data: list[Any]) -> None:
    """That values are of the tensor's own datatype; None is a missing value."""
    kinds = set(map(type, data)) - {type(None)}
    allowed: set[type] = {bool} if kind == "BOOL" else {int, float}
    if kind == "BOOL" and kinds <= {bool, int} and all(value in (0, 1) for value in data if value is not None):
        return
    if not kinds <= allowed:
        row = next(place for place, value in enumerate(data) if value is not None and type(value) not in allowed)
        word = "true or false" if kind == "BOOL" else "a number"
        shown = repr(data[row])[:60]
        raise RequestError(f"Input '{name}' is {kind}, and its value {row}, {shown}, is not {word}.")
    if kind not in _FLOATS and kind != "BOOL":
        bits = int(kind.lstrip("UINT"))
        low, high = (0, 2**bits - 1) if kind.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        for row, value in enumerate(data):
            if value is None:
                continue
            if value != value or not float(value).is_integer() if isinstance(value, float) else False:
                raise RequestError(f"Input '{name}' is {kind}, and its value {row}, {value!r}, is not a whole number.")
            if not low <= value <= high:
                raise RequestError(f"Input '{name}' is {kind}, and its value {row} is outside {low} to {high}.")


def from_raw(name: str, kind: str, size: int, raw: bytes) -> Column:
    """A tensor's values from their bytes.

    Raises:
        RequestError: the bytes are not as many as the shape asks for, or no text.
    """
    if kind == "BYTES":
        return _texts(name, size, raw)
    width = 2 if kind == "BF16" else np.dtype(NUMPY[kind]).itemsize
    if len(raw) != size * width:
        raise RequestError(
            f"Input '{name}' has {len(raw)} bytes of binary data; its shape and {kind} need {size * width}."
        )
    if kind == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    if kind == "BOOL":
        flags = np.frombuffer(raw, dtype=np.uint8)
        if flags.size and flags.max() > 1:
            raise RequestError(f"Input '{name}' is BOOL, and a byte of it is neither 0 nor 1.")
        return flags.astype(bool)
    return np.frombuffer(raw, dtype=NUMPY[kind])


def _texts(name: str, size: int, raw: bytes) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(raw) and len(found) <= size:
        if at + 4 > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, at)
        if at + 4 + length > len(raw):
            break
        try:
            found.append(raw[at + 4 : at + 4 + length].decode())
        except UnicodeDecodeError:
            raise RequestError(f"Input '{name}': value {len(found)} is not UTF-8 text.") from None
        at += 4 + length
    if at != len(raw) or len(found) != size:
        raise RequestError(f"Input '{name}': its binary data are not {size} texts, each after its length.")
    return found


def _flat(data: list[Any], name: str, shape: list[int]) -> list[Any]:
    """Row-major values of flat data, or of data nested as the shape says."""
    depth, rows = 0, 1
    while any(isinstance(item, list) for item in data):
        rows *= shape[depth]
        depth += 1
        if depth == len(shape) or not all(isinstance(item, list) for item in data):
            raise RequestError(f"Input '{name}': 'data' is nested unevenly or deeper than its shape.")
        if len({len(item) for item in data}) > 1:
            raise RequestError(f"Input '{name}': the rows of 'data' differ in length.")
        if len(data) != rows:
            raise RequestError(f"Input '{name}': 'data' is nested otherwise than its shape {shape} says.")
        data = [value for item in data for value in item]
    return data


def batch_of(request: InferRequest, layout: Layout, most: int) -> Batch:
    """The batch of a request's tensors: one tensor a column, or one matrix with the columns in order.

    Raises:
        RequestError: the tensors are not what the model takes.
    """
    tensors = request.tensors
    first = tensors[0]
    if len(tensors) == 1 and len(first.shape) == 2 and (first.name not in layout.fields or first.shape[1] > 1):
        rows, width = first.shape
        _count(rows, most)
        fits = layout.plain and width == len(layout.names)
        if fits and isinstance(first.data, np.ndarray) and first.data.dtype.kind in "fiu":
            matrix = first.data.reshape(rows, width).astype(np.float64, copy=False)
            if first.data.dtype.kind == "f" or first.data.itemsize < 8 or (np.abs(matrix) < _EXACT).all():
                return layout.from_matrix(matrix)
        names = list(layout.fields)
        order = names if width == len(names) else list(layout.required)
        if width != len(order):
            needed = f"{len(order)}" if len(order) == len(names) else f"{len(order)} or {len(names)}"
            raise RequestError(f"Input '{first.name}' has {width} columns; the model takes {needed}: {order[:100]}.")
        return layout.from_columns({name: first.data[place::width] for place, name in enumerate(order)}, rows)
    columns: dict[str, Column] = {}
    for tensor in tensors:
        if (len(tensor.shape) == 2 and tensor.shape[1] != 1) or len(tensor.shape) > 2:
            raise RequestError(f"Input '{tensor.name}' has shape {tensor.shape}; a column has shape [n] or [n, 1].")
        if tensor.name in columns:
            raise RequestError(f"Input '{tensor.name}' is there twice.")
        columns[tensor.name] = tensor.data
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise RequestError(f"The inputs differ in their number of rows: {dict(list(lengths.items())[:20])}.")
    rows = next(iter(lengths.values()))
    _count(rows, most)
    return layout.from_columns(columns, rows)


def _count(rows: int, most: int) -> None:
    if rows == 0:
        raise RequestError("The inputs have no rows.")
    if rows > most:
        raise RequestError(f"{rows} rows in one request; at most {most}.")


# replies


def outputs_of(request: InferRequest, signature: Signature) -> list[tuple[str, bool]]:
    """Names of the outputs a reply must have, and whether each is binary.

    Raises:
        RequestError: the model gives no such output.
    """
    there = ["prediction", "probabilities"] if signature.classes else ["prediction"]
    if not request.outputs:
        return [(name, request.binary) for name in there]
    unknown = sorted({name[:80] for name, _ in request.outputs} - set(there))
    if unknown:
        raise RequestError(f"Unknown output {unknown[:10]}; the model gives {there}.")
    return [(name, request.binary if binary is None else binary) for name, binary in request.outputs]


def tensors(answered: Answered, signature: Signature) -> dict[str, tuple[str, list[int], Any]]:
    """The outputs of an answer: datatype, shape and values (a list, or an array of probabilities) by name."""
    values, shares = merged(answered)
    kind = prediction_type(signature)
    if kind == "BYTES":
        values = [str(value) for value in values]
    found: dict[str, tuple[str, list[int], Any]] = {"prediction": (kind, [answered.rows], values)}
    if shares is not None and shares.shape[1] == len(signature.classes):
        found["probabilities"] = ("FP64", list(shares.shape), shares)
    return found


def merged(answered: Answered) -> tuple[list[Any], NDArray[np.float64] | None]:
    """Values and probabilities of all parts, in the order of the request."""
    if len(answered.parts) == 1 and answered.parts[0].places is None:
        return answered.parts[0].scores.values, answered.parts[0].scores.shares
    values: list[Any] = [None] * answered.rows
    widths = {None if part.scores.shares is None else part.scores.shares.shape[1] for part in answered.parts}
    classes = {part.served.manifest.signature.classes for part in answered.parts}
    width = widths.pop() if len(widths) == 1 and len(classes) == 1 else None
    shares = None if width is None else np.empty((answered.rows, width))
    for part in answered.parts:
        places = range(answered.rows) if part.places is None else part.places
        for place, value in zip(places, part.scores.values, strict=True):
            values[place] = value
        if shares is not None:
            shares[list(places)] = part.scores.shares
    return values, shares


def ids(answered: Answered) -> list[str]:
    """The predictions' ids in the order of the request."""
    if len(answered.parts) == 1 and answered.parts[0].places is None:
        return answered.parts[0].ids()
    found = [""] * answered.rows
    for part in answered.parts:
        places = range(answered.rows) if part.places is None else part.places
        for place, one in zip(places, part.ids(), strict=True):
            found[place] = one
    return found


def encode(
    name: str, answered: Answered, signature: Signature, wanted: Sequence[tuple[str, bool]], request_id: str | None
) -> tuple[bytes, int | None]:
    """The reply's body, and the length of its JSON where raw tensors follow it."""
    made = tensors(answered, signature)
    outputs: list[Mapping[str, Any]] = []
    raw: list[bytes] = []
    for output, binary in wanted:
        if output not in made:
            continue
        kind, shape, values = made[output]
        one: dict[str, Any] = {"name": output, "datatype": kind, "shape": shape}
        if binary:
            data = to_raw(kind, values)
            raw.append(data)
            one["parameters"] = {"binary_data_size": len(data)}
        else:
            one["data"] = values if isinstance(values, list) else values.ravel()
        outputs.append(one)
    given = answered.parts[0]
    every = joined_ids(given.first, answered.rows) if given.places is None else ",".join(ids(answered))
    version = max(part.route.version for part in answered.parts)
    body = {
        "model_name": name,
        "model_version": str(version),
        "id": every.partition(",")[0] if request_id is None else request_id,
        "parameters": {"prediction_ids": every},
        "outputs": outputs,
    }
    head = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((head, *raw)), len(head)) if raw else (head, None)


class Template:
    """The commonest reply: one version's, all its outputs in JSON, with what never changes made once."""

    def __init__(self, name: str, version: int, signature: Signature) -> None:
        kind, shown = prediction_type(signature).encode(), orjson.dumps(name).replace(b"%", b"%%")
        self._classes = len(signature.classes)
        self._text = kind == b"BYTES"
        self._begun = (
            b'{"model_name":%b,"model_version":"%d","id":%%b,"parameters":{"prediction_ids":"%%b"},"outputs":['
            b'{"name":"prediction","datatype":"%b","shape":[%%d],"data":%%b}'
        ) % (shown, version, kind)
        self._shares = b',{"name":"probabilities","datatype":"FP64","shape":[%%d,%d],"data":%%b}' % self._classes
        begun, shares = self._begun.replace(b"[%d]", b"[1]"), self._shares.replace(b"[%d,", b"[1,")
        self._one = begun + shares + b"]}"  # of one row with its probabilities

    def encode(self, part: Part, request_id: str | None) -> bytes:
        """The reply's body."""
        scores, first = part.scores, part.first
        rows = len(scores.values)
        values = orjson.dumps([str(value) for value in scores.values] if self._text else scores.values)
        made = first.encode()
        given = b'"%b"' % made if request_id is None else orjson.dumps(request_id)
        if scores.only is not None and len(scores.only) == self._classes:
            return self._one % (given, made, values, orjson.dumps(scores.only))
        body = self._begun % (given, joined_ids(first, rows).encode(), rows, values)
        if scores.shares is not None and scores.shares.shape[1] == self._classes:
            body += self._shares % (rows, orjson.dumps(scores.shares.ravel(), option=orjson.OPT_SERIALIZE_NUMPY))
        return body + b"]}"


def to_raw(kind: str, values: Any) -> bytes:
    """A tensor's bytes."""
    if kind == "BYTES":
        return b"".join(_LENGTH.pack(len(data)) + data for data in (str(value).encode() for value in values))
    return np.ascontiguousarray(values, dtype=NUMPY[kind]).tobytes()
