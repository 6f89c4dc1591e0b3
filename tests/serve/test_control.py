"""What the processes of one server tell each other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria.cli.model_server import _publish
from noria.serve.control import Control
from noria.serve.metrics import Snapshot


def test_counts_are_published_again_after_there_was_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Control(tmp_path, 0), Control(tmp_path, 1)
    turns: list[float] = []
    replace = Control._replace

    def full(path: Path, data: bytes) -> None:
        if len(turns) < 3:
            raise OSError(28, "No space left on device")
        replace(path, data)

    async def passed(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 6:
            raise asyncio.CancelledError

    monkeypatch.setattr(Control, "_replace", staticmethod(full))
    monkeypatch.setattr(asyncio, "sleep", passed)
    data = cast("Any", SimpleNamespace(snapshot=lambda: Snapshot(refused={"404": 1})))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_publish(data, one))
    assert [found.refused for found in other.others()] == [{"404": 1}]
