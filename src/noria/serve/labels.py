"""Labels as clients post them: checked against the signature before anything is kept."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from noria.errors import RequestError
from noria.records import Signature
from noria.serve.rules import key_text
from noria.store.ports import Label

_LONGEST = 100_000
_INFINITE = (math.inf, -math.inf)


def labels_of(entries: list[Any], loop: str, signature: Signature, now: datetime) -> list[Label]:
    """The labels of entries.

    Each has the prediction's ``id`` or the record's ``key`` (or the key column's own name), and the truth as
    ``label`` (or the label column's own name).

    Raises:
        RequestError: names each entry that is wrong; none is kept.
    """
    problems: list[dict[str, object]] = []
    labels: list[Label] = []
    for place, entry in enumerate(entries):
        problem, label = _one(entry, loop, signature, now)
        if label is not None:
            labels.append(label)
        else:
            problems.append({"record": place, "problem": problem})
    if problems:
        raise RequestError(f"{len(problems)} of {len(entries)} labels cannot be taken; none was kept.", problems[:100])
    return labels


def _one(entry: Any, loop: str, signature: Signature, now: datetime) -> tuple[str, Label | None]:
    if not isinstance(entry, dict):
        return "not an object", None
    named = name_of(entry, signature)
    if isinstance(named, str):
        return named, None
    value = entry.get("label", entry.get(signature.label) if signature.label else None)
    problem = problem_with(value, "label", signature)
    if problem:
        return problem, None
    return "", Label(loop, now, as_class(value, signature), *named)


def name_of(entry: dict[Any, Any], signature: Signature) -> str | tuple[str | None, str | None]:
    """Which prediction an entry is about: its id, or else its record's key; or what is wrong with either."""
    prediction = entry.get("id", entry.get("prediction_id"))
    key = entry.get("key", entry.get(signature.key) if signature.key else None)
    if prediction is None and key is None:
        names = f"'key' (or '{signature.key}')" if signature.key else "'id', the prediction's id"
        return f"needs {names}"
    if prediction is not None and not isinstance(prediction, str):
        return "'id' must be text"
    if isinstance(key, bool) or (key is not None and not isinstance(key, (str, int, float))) or key in _INFINITE:
        return "'key' must be text or a number"
    if len(prediction or "") > _LONGEST or (isinstance(key, str) and len(key) > _LONGEST):
        return f"'id' and 'key' are at most {_LONGEST} characters long"
    return (prediction, None) if prediction is not None else (None, key_text(key, signature))


def problem_with(value: Any, name: str, signature: Signature) -> str:
    """Why a value is none that the model could have answered; empty if it is one."""
    if value is None:
        other = signature.label if name == "label" != signature.label else None
        return f"needs '{name}'{f' (or {other!r})' if other else ''}"
    shown = repr(value)[:60] if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    if signature.task == "regression":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return f"{name} {shown} is not a finite number"
    elif isinstance(value, (list, dict)) or value not in signature.classes:
        return f"{name} {shown} is not one of {list(signature.classes)[:20]}"
    return ""


def as_class(value: Any, signature: Signature) -> Any:
    """The value as the model has it: ``true`` is 1 where the classes are 0 and 1."""
    return value if signature.task == "regression" else next(one for one in signature.classes if one == value)
