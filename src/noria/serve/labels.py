"""Labels as clients post them: checked against the signature before anything is kept."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from noria.errors import RequestError
from noria.records import Signature
from noria.store.ports import Label


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
    if key is not None and not isinstance(key, (str, int, float)):
        return "'key' must be text or a number", None
    value = entry.get("label", entry.get(signature.label) if signature.label else None)
    problem = _problem(value, signature)
    if problem:
        return problem, None
    return "", Label(loop, now, value, prediction, None if prediction is not None or key is None else str(key))


def _problem(value: Any, signature: Signature) -> str:
    if value is None:
        return f"needs 'label'{f' (or {signature.label!r})' if signature.label else ''}"
    if signature.task == "regression":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return f"label {str(value)[:40]!r} is not a finite number"
    elif value not in signature.classes:
        return f"label {str(value)[:40]!r} is not one of {list(signature.classes)[:20]}"
    return ""
