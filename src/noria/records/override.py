"""What people decide where a model had answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Override(msgspec.Struct, frozen=True):
    """What a person decided in place of a model's answer. It is no truth: that is a label.

    Attributes:
        id: identifier.
        loop: the loop, or the model's name.
        version: the model version that had answered.
        prediction: the prediction's id.
        at: when it was said. Of several about one prediction the newest holds.
        by: who decided.
        reason: why.
        given: the model's answer.
        value: what holds instead: one of the classes, or a number.
        api_key: name of the key it was sent with; empty where none was needed.
    """

    id: str
    loop: str
    version: int
    prediction: str
    at: datetime
    by: str
    reason: str
    given: Any
    value: Any
    api_key: str = ""
