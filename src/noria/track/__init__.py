"""Tracking: experiments, runs, metrics and artifacts; records and compares what was tried.

Takes what clients say (this package's own, :func:`run`, or MLflow's over the wire); returns runs, histories and
artifacts; promises that what was acknowledged is durable, that nothing is doubled when said again, and that a param is
written once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.track.client import ActiveRun, flush, run
    from noria.track.query import history, search

_HOME_OF = {"ActiveRun": "client", "flush": "client", "history": "query", "run": "client", "search": "query"}

__all__ = ["ActiveRun", "flush", "history", "run", "search"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'noria.track' has no attribute {name!r}")
    return getattr(importlib.import_module(f"noria.track.{_HOME_OF[name]}"), name)
