"""A constant as plain text and tuples, equal for equal values on every machine and in every process."""

from __future__ import annotations

import enum
import re
import types
import warnings
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from noria.core.hashing import digest_bytes
from noria.core.ids import new_id
from noria.train.packages import is_user

__all__ = ["Values"]

_PLAIN = (bool, int, float, complex, bytes, type(None), type(...), type(NotImplemented))
_DEEPEST = 100
_MOST = 2_000_000
_SHORT = 200


class Values:
    """Turns values into plain ones, once each; long ones become digests of their own.

    A value too deep (100 levels) or too large (2 million objects) to be looked at whole is never equal to
    another: a step is then run again, as nobody can tell whether it need be.

    Args:
        met: told every function, class and module found inside a value.
        root: the project's folder; paths below it are taken relative to it, so that the project can be moved.
    """

    def __init__(self, met: Callable[[Any], None], root: str) -> None:
        self._met = met
        self._root = root
        self._left = _MOST
        self._inside: dict[int, int] = {}
        self._made: dict[int, tuple[object, Any]] = {}  # holds what it saw: a number freed could name another

    def plain(self, value: Any) -> Any:
        """The value as plain text and tuples."""
        if isinstance(value, str) and type(value) is str:
            return ("str", self._here(value))
        if type(value) in _PLAIN:
            return (type(value).__name__, repr(value))
        number = id(value)
        if number in self._made:
            return self._made[number][1]
        if number in self._inside:
            return ("above", len(self._inside) - self._inside[number])
        self._left -= 1
        if self._left < 0 or len(self._inside) >= _DEEPEST:
            return ("unknown", type(value).__qualname__, new_id())
        self._inside[number] = len(self._inside)
        try:
            found = _shortened(self._collection(value))
        finally:
            del self._inside[number]
        self._made[number] = (value, found)
        return found

    def _here(self, text: str) -> str:
        under = self._root and (text == self._root or text.startswith(self._root + "/"))
        return f"<project>{text.removeprefix(self._root)}" if under else text

    def _collection(self, value: Any) -> Any:
        kind = type(value)
        if kind in (list, tuple):
            return (kind.__name__, *map(self.plain, value))
        if kind in (set, frozenset):
            return (kind.__name__, *sorted(repr(self.plain(item)) for item in value))
        if kind in (dict, types.MappingProxyType):
            return ("dict", *((self.plain(key), self.plain(item)) for key, item in value.items()))
        if isinstance(value, PurePath):
            return ("path", self._here(str(value)))
        if isinstance(value, enum.Enum):
            self._met(kind)
            return ("enum", kind.__qualname__, value.name, self.plain(value.value))
        if isinstance(value, re.Pattern):
            return ("pattern", value.pattern, value.flags)
        if isinstance(value, (type, types.ModuleType)) or _is_named(value):
            self._met(value)
            owner = (self.plain(value.__self__),) if isinstance(value, types.MethodType) else ()
            name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
            return ("named", str(getattr(value, "__module__", "")), str(name), *owner)
        return self._table(value) or self._object(value)

    def _table(self, value: Any) -> Any:
        """Arrays and frames, by their content."""
        kind = type(value)
        package = kind.__module__.split(".")[0]
        self._met(kind)
        if package == "numpy" and hasattr(value, "tobytes"):
            content = self.plain(value.tolist()) if value.dtype.hasobject else digest_bytes(value.tobytes())
            return ("numpy", str(value.dtype), str(value.shape), content)
        if package == "polars" and kind.__name__ in ("DataFrame", "Series"):
            from noria.frames.digest import frame_digest

            return (
                "polars",
                kind.__name__,
                frame_digest(value if kind.__name__ == "DataFrame" else value.to_frame()),
            )
        if package == "pandas" and kind.__name__ in ("DataFrame", "Series"):
            names = value.columns.tolist() if kind.__name__ == "DataFrame" else [value.name]
            kinds = value.dtypes.tolist() if kind.__name__ == "DataFrame" else [value.dtype]
            content = [value.index.tolist(), names, [str(one) for one in kinds], value.to_numpy().tolist()]
            return ("pandas", self.plain(content))
        return None

    def _object(self, value: Any) -> Any:
        """Any other object, by how it says it is put together again; never by a pickle's bytes."""
        kind = type(value)
        if kind.__module__.split(".")[0] == "noria":
            return ("noria", kind.__qualname__)  # a Loop and its policy values are in the plan
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = value.__reduce_ex__(2)
        except Exception:  # noqa: BLE001 - open files, locks, connections and what else cannot be put together
            return ("opaque", kind.__module__, kind.__qualname__)
        if isinstance(made, str):
            return ("global", kind.__module__, made)
        made = tuple(list(part) if hasattr(part, "__next__") else part for part in made)
        return (kind.__module__, kind.__qualname__, *map(self.plain, made))


def _shortened(found: Any) -> Any:
    text = repr(found)
    return found if len(text) <= _SHORT else ("digest", digest_bytes(text.encode()))


def _is_named(value: Any) -> bool:
    """Whether it is a function of some kind, known by its name; not an object of the user's made like one."""
    named = callable(value) and isinstance(getattr(value, "__qualname__", None), str)
    return named and not is_user(type(value).__module__)
