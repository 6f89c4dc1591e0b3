"""Logs of the servers: lines for people, or JSON for machines; never what was asked or answered."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["configure", "say"]


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False)


def configure(kind: str) -> None:
    """Log warnings and errors to standard error.

    Args:
        kind: ``text`` or ``json``, one object a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Json() if kind == "json" else logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def say(kind: str, text: str, level: int = logging.INFO) -> None:
    """Tell on standard error, as the logs are written, what is no part of them for people.

    Args:
        kind: ``text`` or ``json``.
        text: what to tell.
        level: its level, for machines.
    """
    record = logging.LogRecord("noria.serve", level, "", 0, text.strip(), None, None)
    print(_Json().format(record) if kind == "json" else text, file=sys.stderr, flush=True)
