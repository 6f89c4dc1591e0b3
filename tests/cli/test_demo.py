"""The demo, cut short after three days: the same code that replays the year."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from noria.cli.demo import run
from noria.cli.demo.figures import CHANGE
from noria.cli.demo.stream import START, STOP, months


@pytest.mark.slow
def test_the_demo_serves_replays_compares_and_writes_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    console = Console(record=True, width=100)
    assert run(tmp_path / "demo", 0, path, False, stop=datetime(2019, 10, 4, tzinfo=UTC), console=console) == 0
    found = json.loads(path.read_text())
    assert set(found) == {"months", "retrainings", "alarms", "promotions", "seconds"}
    (october,) = found["months"]
    assert october["month"] == "2019-10"
    assert october["static"] == october["monthly"] == october["noria"]  # nothing was retrained yet
    assert 2 < october["noria"]["mae"] < 5
    assert found["retrainings"] == {"monthly": 0, "noria": 0}
    assert found["alarms"] == found["promotions"] == []
    assert "left alone" in console.export_text()


def test_the_stream_has_eleven_months_and_the_change_lies_within() -> None:
    found = months(START, STOP)
    assert [f"{m:%Y-%m}" for m in (found[0], found[-1])] == ["2019-10", "2020-08"]
    assert len(found) == 11
    assert found[0] < CHANGE.replace(tzinfo=UTC) < found[-1]
