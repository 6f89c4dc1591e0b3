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


def labels_of(body: Any, loop: str, signature: Signature, now: datetime) -> list[Label]:
    """Labels of ``{"labels": [...]}``, a list, or one object.

    Each has the prediction's ``id`` or the record's ``key`` (or the key column's own name), and the truth as
    ``label`` (or the label column's own name).

    Raises:
        RequestError: names each entry that is wrong; none is kept.
    """
    if isinstance(body, dict):
        body = body["labels"] if isinstance(body.get("labels"), list) else [body]
    if not isinstance(body, list) or not body:
        raise RequestError('The body must be {"labels": [{"key": …, "label": …}, …]}.')
    problems: list[dict[str, object]] = []
    labels: list[Label] = []
    for place, entry in enumerate(body):
        problem, label = _one(entry, loop, signature, now)
        if label is not None:
            labels.append(label)
        else:
            problems.append({"record": place, "problem": problem})
    if problems:
        raise RequestError(f"{len(problems)} of {len(body)} labels cannot be taken; none was kept.", problems[:100])
    return labels


def _one(entry: Any, loop: str, signature: Signature, now: datetime) -> tuple[str, Label | None]:
    if not isinstance(entry, dict):
        return "not an object", None
    prediction = entry.get("id", entry.get("prediction_id"))
    key = entry.get("key", entry.get(signature.key) if signature.key else None)
    if prediction is None and key is None:
        names = f"'key' (or '{signature.key}')" if signature.key else "'id', the prediction's id"
        return f"needs {names}", None
    if prediction is not None and not isinstance(prediction, str):
        return "'id' must be text", None
    if isinstance(key, bool) or (key is not None and not isinstance(key, (str, int, float))):
        return "'key' must be text or a number", None
    if len(prediction or "") > _LONGEST or (isinstance(key, str) and len(key) > _LONGEST):
        return f"'id' and 'key' are at most {_LONGEST} characters long", None
    value = entry.get("label", entry.get(signature.label) if signature.label else None)
    problem = _problem(value, signature)
    if problem:
        return problem, None
    if signature.task != "regression":
        value = next(one for one in signature.classes if one == value)  # true where the classes are 0 and 1
    if prediction is not None:
        return "", Label(loop, now, value, prediction=prediction)
    return "", Label(loop, now, value, key=key_text(key, signature))


def _problem(value: Any, signature: Signature) -> str:
    if value is None:
        return f"needs 'label'{f' (or {signature.label!r})' if signature.label else ''}"
    shown = repr(value)[:60] if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    if signature.task == "regression":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return f"label {shown} is not a finite number"
    elif isinstance(value, (list, dict)) or value not in signature.classes:
        return f"label {shown} is not one of {list(signature.classes)[:20]}"
    return ""
