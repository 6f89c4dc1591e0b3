"""The few protocol-buffer messages of event files that matter here, read and written as bytes.

Field numbers are those of TensorFlow's ``event.proto``, ``summary.proto``, ``tensor.proto`` and of the HParams plugin.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from noria.errors import DataError

__all__ = ["Event", "Value", "hparams_event", "read_event", "scalar_event", "version_event"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# tensor.proto's types of numbers: how one is packed, and in which field lists of them are
_NUMBERS = {
    1: ("f", 5), 2: ("d", 6), 3: ("i", 7), 4: ("B", 7), 5: ("h", 7), 6: ("b", 7), 9: ("q", 10), 10: ("?", 11),
    17: ("H", 7), 19: ("e", 13), 22: ("I", 16), 23: ("Q", 17),
}  # fmt: skip
_STRING, _HALF = 7, 19
_WIDE = {5: "f", 6: "d"}
_LAST_INT64 = 2**63


class Value(NamedTuple):
    """One value of a summary: exactly one of ``number``, ``texts``, ``image`` and ``hparams`` is set."""

    tag: str
    number: float | None = None
    texts: tuple[bytes, ...] | None = None
    image: bytes | None = None
    hparams: dict[str, str] | None = None


class Event(NamedTuple):
    """One event: when (seconds since 1970), at which step, and its values."""

    at: float
    step: int
    values: tuple[Value, ...]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise DataError("a number in a record has no end")


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Number, kind and content of each field."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise DataError("a record has a field of an unknown kind")
        if at + size > end:
            raise DataError("a field in a record is cut off")
        yield number, kind, data[at : at + size]
        at += size


def _signed(value: int) -> int:
    return value - 2**64 if value >= _LAST_INT64 else value


def read_event(data: bytes) -> Event:
    """An event, with those of its values that are understood.

    Raises:
        DataError: it is not one.
    """
    at, step, values = 0.0, 0, []
    try:
        for number, kind, value in _fields(data):
            if number == 1 and kind == _FIXED64:
                (at,) = struct.unpack("<d", value)
            elif number == 2 and kind == _VARINT:
                step = _signed(value)
            elif number == 5 and kind == _BYTES:
                for inner, inner_kind, one in _fields(value):
                    if inner == 1 and inner_kind == _BYTES:
                        values.append(_value(one))
    except (IndexError, struct.error, UnicodeDecodeError):
        raise DataError("a record is not an event") from None
    return Event(at, step, tuple(one for one in values if one is not None))


def _value(data: bytes) -> Value | None:
    tag, plugin, content, tensor = "", "", b"", None
    number: float | None = None
    image: bytes | None = None
    for field, kind, value in _fields(data):
        if field == 1 and kind == _BYTES:
            tag = value.decode()
        elif field == 2 and kind == _FIXED32:
            (number,) = struct.unpack("<f", value)
        elif field == 4 and kind == _BYTES:
            image = next((one for inner, of, one in _fields(value) if inner == 4 and of == _BYTES), b"")
        elif field == 8 and kind == _BYTES:
            tensor = value
        elif field == 9 and kind == _BYTES:
            plugin, content = _plugin(value)
    if plugin == "hparams":
        found = _hparams(content)
        return Value(tag, hparams=found) if found else None
    if number is not None:
        return Value(tag, number)
    if image is not None:
        return Value(tag, image=image)
    return None if tensor is None else _of_tensor(tag, plugin, tensor)


def _plugin(metadata: bytes) -> tuple[str, bytes]:
    name, content = "", b""
    for field, kind, value in _fields(metadata):
        if field == 1 and kind == _BYTES:
            for inner, of, one in _fields(value):
                if inner == 1 and of == _BYTES:
                    name = one.decode()
                elif inner == 2 and of == _BYTES:
                    content = one
    return name, content


def _of_tensor(tag: str, plugin: str, data: bytes) -> Value | None:
    type_, content, strings, fields = 0, b"", [], []
    for field, kind, value in _fields(data):
        if field == 1 and kind == _VARINT:
            type_ = value
        elif field == 4 and kind == _BYTES:
            content = value
        elif field == 8 and kind == _BYTES:
            strings.append(value)
        else:
            fields.append((field, kind, value))
    if type_ == _STRING:
        # an image is its width and height, as text, and then its bytes
        if plugin == "images":
            return Value(tag, image=strings[2]) if len(strings) > 2 else None
        return Value(tag, texts=tuple(strings)) if strings else None
    if type_ not in _NUMBERS or plugin not in ("", "scalars"):
        return None
    form, listed = _NUMBERS[type_]
    if content:
        size = struct.calcsize(form)
        return Value(tag, float(struct.unpack(f"<{form}", content)[0])) if len(content) == size else None
    numbers = [one for field, kind, value in fields if field == listed for one in _listed(value, kind, listed, type_)]
    return Value(tag, numbers[0]) if len(numbers) == 1 else None


def _listed(value: Any, kind: int, field: int, type_: int) -> list[float]:
    """The numbers of a list's field, packed or one by one."""
    if field in _WIDE:
        return [one for (one,) in struct.iter_unpack(f"<{_WIDE[field]}", value)]
    if kind == _VARINT:
        whole = [value]
    else:
        whole, at = [], 0
        while at < len(value):
            one, at = _varint(value, at)
            whole.append(one)
    if type_ == _HALF:
        return [struct.unpack("<e", struct.pack("<H", one & 0xFFFF))[0] for one in whole]
    return [float(one if field in (16, 17) else _signed(one)) for one in whole]


def _hparams(content: bytes) -> dict[str, str]:
    """The hyperparameters with which a session began (HParamsPluginData: session_start_info: hparams)."""
    found = {}
    for field, kind, session in _fields(content):
        if field != 3 or kind != _BYTES:
            continue
        for inner, of, entry in _fields(session):
            if inner == 1 and of == _BYTES:
                parts = {number: value for number, _, value in _fields(entry)}
                found[parts.get(1, b"").decode()] = _plain(parts.get(2, b""))
    return found


def _plain(value: bytes) -> str:
    """A ``google.protobuf.Value`` as text."""
    for field, _, content in _fields(value):
        if field == 2:
            (number,) = struct.unpack("<d", content)
            return repr(int(number)) if math.isfinite(number) and number == int(number) else repr(number)
        if field == 3:
            return str(content.decode())
        if field == 4:
            return "true" if content else "false"
    return ""


# -- writing


def _key(number: int, kind: int) -> bytes:
    return _packed(number << 3 | kind)


def _packed(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _bytes(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _packed(len(content)) + content


def _event(at: float, step: int, rest: bytes) -> bytes:
    return _key(1, _FIXED64) + struct.pack("<d", at) + (_key(2, _VARINT) + _packed(step) if step else b"") + rest


def version_event(at: float) -> bytes:
    """What every event file begins with."""
    return _event(at, 0, _bytes(3, b"brain.Event:2"))


def _metadata(plugin: str, content: bytes = b"") -> bytes:
    return _bytes(9, _bytes(1, _bytes(1, plugin.encode()) + (_bytes(2, content) if content else b"")))


def scalar_event(at: float, step: int, tag: str, number: float) -> bytes:
    """A scalar. It is rounded to 32 bits: TensorBoard's loader passes over tensors of 64."""
    try:
        single = struct.pack("<f", number)
    except OverflowError:
        single = struct.pack("<f", math.copysign(math.inf, number))
    return _event(at, step, _bytes(5, _bytes(1, _bytes(1, tag.encode()) + _key(2, _FIXED32) + single)))


def hparams_event(at: float, params: dict[str, str]) -> bytes:
    """The hyperparameters with which a run began."""
    entries = b"".join(
        _bytes(1, _bytes(1, key.encode()) + _bytes(2, _bytes(3, text.encode()))) for key, text in params.items()
    )
    session = entries + _key(5, _FIXED64) + struct.pack("<d", at)
    tag = _bytes(1, b"_hparams_/session_start_info")
    return _event(at, 0, _bytes(5, _bytes(1, tag + _metadata("hparams", _bytes(3, session)))))
