"""Noria keeps machine-learning models right in real life.

data -> train -> track -> validate -> register -> deploy/serve -> monitor -> retrain, and round again.

The tour:

* Declare a `Loop`: a source (`Csv`, `Parquet`, or a ``@loop.source`` function), what the data must be
  (`Unique`, `Between`, …), a split (`TimeSplit`, …), gates (`AtLeast`, `BeatsChampion`, …), an `Approval`, a
  rollout (`Canary`), watches (`Drift`, `Performance`) and triggers (`Every`, `OnAlarm`).
* Write plain functions under its decorators: ``@loop.feature``, ``@loop.train``, ``@loop.evaluate`` and
  ``@loop.gate``.
  Positional parameters are what a step needs, wired by name; keyword-only parameters are knobs.
* ``loop.check()`` finds every fault at once, before a byte of data is read.
* ``noria up FILE`` trains, gates, serves, watches and retrains.
* `run` tracks any training of your own: ``with noria.run("churn") as run: run.log(loss=0.3)``.

`GateResult` and `Outcome` are what gates answer. Names load when first used: importing this costs next to
nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.data.rules import (
        Between,
        Csv,
        Fresh,
        GroupSplit,
        HasColumns,
        MissingShare,
        NotMissing,
        OneOf,
        Pandera,
        Parquet,
        RandomSplit,
        Rows,
        TimeSplit,
        Unique,
    )
    from noria.deploy.rules import Canary, Direct
    from noria.loop.declare import Loop
    from noria.monitor.rules import Drift, Performance
    from noria.records.validation import GateResult, Outcome
    from noria.register.rules import Approval
    from noria.retrain.rules import Every, OnAlarm, OnNewRows
    from noria.track.client import run
    from noria.validate.rules import AtLeast, AtMost, BeatsChampion, Latency, NoSkew, SliceGap

__version__ = "0.1.0"

_HOMES = {
    "noria.data.rules": (
        "Between", "Csv", "Fresh", "GroupSplit", "HasColumns", "MissingShare", "NotMissing", "OneOf",
        "Pandera", "Parquet", "RandomSplit", "Rows", "TimeSplit", "Unique",
    ),
    "noria.deploy.rules": ("Canary", "Direct"),
    "noria.loop.declare": ("Loop",),
    "noria.monitor.rules": ("Drift", "Performance"),
    "noria.records.validation": ("GateResult", "Outcome"),
    "noria.register.rules": ("Approval",),
    "noria.retrain.rules": ("Every", "OnAlarm", "OnNewRows"),
    "noria.track.client": ("run",),
    "noria.validate.rules": ("AtLeast", "AtMost", "BeatsChampion", "Latency", "NoSkew", "SliceGap"),
}  # fmt: skip

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Approval",
    "AtLeast",
    "AtMost",
    "BeatsChampion",
    "Between",
    "Canary",
    "Csv",
    "Direct",
    "Drift",
    "Every",
    "Fresh",
    "GateResult",
    "GroupSplit",
    "HasColumns",
    "Latency",
    "Loop",
    "MissingShare",
    "NoSkew",
    "NotMissing",
    "OnAlarm",
    "OnNewRows",
    "OneOf",
    "Outcome",
    "Pandera",
    "Parquet",
    "Performance",
    "RandomSplit",
    "Rows",
    "SliceGap",
    "TimeSplit",
    "Unique",
    "__version__",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'noria' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
