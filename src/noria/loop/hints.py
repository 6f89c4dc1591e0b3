"""What a parameter or a result is annotated as, without importing the library it names."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = ["Shape", "fits", "resolve", "shape_of", "shown"]

Shape = str
"""``frame``, ``column``, or empty when it is neither or not known."""

_SHAPES: dict[tuple[str, str], Shape] = {
    ("pandas", "DataFrame"): "frame",
    ("polars", "DataFrame"): "frame",
    ("polars", "LazyFrame"): "frame",
    ("pyarrow", "Table"): "frame",
    ("pyarrow", "RecordBatch"): "frame",
    ("pandas", "Series"): "column",
    ("polars", "Series"): "column",
    ("pyarrow", "Array"): "column",
    ("pyarrow", "ChunkedArray"): "column",
}

_PLAIN = (str, bytes, int, float, bool, list, tuple, set, dict, type(None))


def resolve(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by parameter name (and ``return``); those that cannot be resolved are left out."""
    found: dict[str, Any] = {}
    scope = getattr(function, "__globals__", {})
    for name, annotation in getattr(function, "__annotations__", {}).items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found.update(get_type_hints(holder, globalns=scope))
        except (NameError, AttributeError, TypeError, SyntaxError):
            continue  # such as a name imported under TYPE_CHECKING only: not known is not wrong
    return found


def shape_of(hint: Any) -> Shape:
    """Whether a hint means a frame or a column of one."""
    kind = get_origin(hint) or hint
    if not isinstance(kind, type):
        return ""
    package = kind.__module__.split(".")[0]
    return _SHAPES.get((package, kind.__name__), "")


def fits(given: Any, asked: Any) -> bool:
    """Whether a value annotated ``given`` can be what a parameter annotated ``asked`` wants.

    Hints that are not known fit. Frames fit frames and columns fit columns whatever the library: they are
    converted as the annotation asks.
    """
    if _open(given) or _open(asked):
        return True
    if _union(given):
        return any(fits(part, asked) for part in get_args(given))
    if _union(asked):
        return any(fits(given, part) for part in get_args(asked))
    made, wanted = shape_of(given), shape_of(asked)
    if made or wanted:
        other = given if wanted else asked
        return made == wanted if made and wanted else not _plain(other)
    one, two = get_origin(given) or given, get_origin(asked) or asked
    if not isinstance(one, type) or not isinstance(two, type):
        return True
    if {one, two} <= {int, float}:
        return True
    try:
        return issubclass(one, two) or issubclass(two, one)
    except TypeError:
        return True


def shown(hint: Any) -> str:
    """A hint as people write it, e.g. ``pandas.Series``."""
    if isinstance(hint, type) and get_origin(hint) is None:
        package = hint.__module__.split(".")[0]
        return hint.__qualname__ if package == "builtins" else f"{package}.{hint.__qualname__}"
    return str(hint).removeprefix("typing.")


def _open(hint: Any) -> bool:
    return hint is None or hint is Any or hint is object or isinstance(hint, str)


def _union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _plain(hint: Any) -> bool:
    return (get_origin(hint) or hint) in _PLAIN
