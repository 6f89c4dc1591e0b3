"""``noria override``: what a person decided in place of a model, put on record from a terminal."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from noria.cli.places import opened
from noria.errors import NotFound, RequestError
from noria.govern import explain
from noria.loop.clock import SystemClock
from noria.records import Signature
from noria.serve.overrides import record


def override_prediction(store: Path | None, prediction: str, value: str, *, by: str | None, reason: str) -> None:
    """Record that something else holds than what a prediction said."""
    with opened(store) as kept:
        found = explain(kept, prediction)
        if found.manifest is None:
            raise NotFound(f"The bundle of version {found.version.version} of '{found.version.loop}' is gone.")
        signature, loop = found.manifest.signature, found.prediction.loop
        entry = {"id": prediction, "value": _value(value, signature), "by": by or getpass.getuser(), "reason": reason}
        try:
            (made,) = record(kept, [entry], loop, signature, SystemClock().now())
        except RequestError as error:
            raise RequestError(f"The override cannot be taken: {error.details[0]['problem']}.") from None
    print(f"Where {loop} version {made.version} said {made.given}, {made.value} holds now, by {made.by}.")


def _value(text: str, signature: Signature) -> Any:
    """The value that was typed, as the model has it; what is none is left to be refused."""
    if signature.task != "regression":
        return next((one for one in signature.classes if str(one) == text), text)
    try:
        return float(text)
    except ValueError:
        return text
