"""What people decided in place of a model: checked whole, put on record with who and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from noria.core.ids import new_id
from noria.errors import RequestError
from noria.records import Override, Signature
from noria.serve.labels import as_class, name_of, problem_with
from noria.store.ports import Label, Prediction, Store, Transaction

__all__ = ["record"]

_LONGEST = {"by": 200, "reason": 10_000}


def record(
    store: Store, entries: list[Any], loop: str, signature: Signature, now: datetime, api_key: str = ""
) -> list[Override]:
    """Record overrides; durable on return.

    Each has the prediction's ``id``, or the record's ``key`` (or the key column's own name) for the newest prediction
    of that key; what holds instead as ``value``; who decided as ``by``, and why as ``reason``.

    Args:
        store: where predictions and overrides are.
        entries: as above.
        loop: whose predictions.
        signature: the model's.
        now: when it was said.
        api_key: name of the key it was sent with, if one was needed.

    Returns:
        What was recorded, in order.

    Raises:
        RequestError: names each entry that is wrong or whose prediction there is not; none is kept.
        StoreError: it cannot be kept.
    """
    checked = [_checked(entry, loop, signature, now) for entry in entries]
    _refuse(["" if isinstance(one, Label) else one for one in checked])
    found = store.predictions.targets([one for one in checked if isinstance(one, Label)])
    _refuse(["" if target is not None else _nobody(entry) for entry, target in zip(entries, found, strict=True)])
    made = [
        _override(entry, target, as_class(entry["value"], signature), now, api_key)
        for entry, target in zip(entries, found, strict=True)
        if target is not None
    ]

    def change(tx: Transaction) -> None:
        for one in made:
            tx.put(one)
            facts = {name: getattr(one, name) for name in ("id", "loop", "version", "given", "value", "reason")}
            tx.audit(now, one.by, "prediction overridden", f"prediction:{one.prediction}", api_key=api_key, **facts)

    store.ledger.write(change)
    return made


def _checked(entry: Any, loop: str, signature: Signature, now: datetime) -> Label | str:
    """Which prediction an entry is about, as a label would say it; or what is wrong with the entry."""
    if not isinstance(entry, dict):
        return "not an object"
    named = name_of(entry, signature)
    if isinstance(named, str):
        return named
    problem = problem_with(entry.get("value"), "value", signature)
    if problem:
        return problem
    for name, longest in _LONGEST.items():
        said = entry.get(name)
        if not isinstance(said, str) or not said.strip():
            return f"needs '{name}', {'who decided' if name == 'by' else 'why'}"
        if len(said) > longest:
            return f"'{name}' is at most {longest} characters long"
    return Label(loop, now, entry["value"], *named)


def _nobody(entry: dict[str, Any]) -> str:
    prediction = entry.get("id", entry.get("prediction_id"))
    if prediction is not None:
        return f"there is no answered prediction '{prediction[:80]}' of this model"
    return "no prediction of this model has this key"


def _override(entry: dict[str, Any], target: Prediction, value: Any, now: datetime, api_key: str) -> Override:
    return Override(
        id=new_id(), loop=target.loop, version=target.version, prediction=target.id, at=now,
        by=entry["by"].strip(), reason=entry["reason"].strip(), given=target.value, value=value, api_key=api_key,
    )  # fmt: skip


def _refuse(problems: list[str]) -> None:
    found: list[dict[str, object]] = [
        {"record": place, "problem": problem} for place, problem in enumerate(problems) if problem
    ]
    if found:
        raise RequestError(f"{len(found)} of {len(problems)} overrides cannot be taken; none was kept.", found[:100])
