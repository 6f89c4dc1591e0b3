"""Each file in shapes/ is one shape of a fault; its comments say what must be found, and at which line."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from noria.errors import DeclarationError
from noria.loop.check import check, require_sound
from noria.loop.load import load

SHAPES = sorted((Path(__file__).parent / "shapes").glob("*.py"))
COLUMNS = {
    "customer_id": "Int64",
    "as_of": "Datetime",
    "joined": "Datetime",
    "age": "Int64",
    "gender": "String",
    "spend": "Float64",
    "churned": "Int64",
}


def shape(name: str) -> Path:
    return Path(__file__).parent / "shapes" / f"{name}.py"


def expected(path: Path) -> list[tuple[int, str]]:
    """Line and text of each fault that the comments of a shape announce."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.search(r"# fault: (.*)", line):
            found += [(number, text.strip()) for text in match[1].split(" | ")]
        elif match := re.search(r"# faults at (\d+): (.*)", line):
            found.append((int(match[1]), match[2].strip()))
    return found


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_every_fault_of_a_shape_is_found_at_once_at_its_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    faults = list(check(load(path).loop))
    for line, text in expected(path):
        hit = next((fault for fault in faults if fault.where == f"{path.name}:{line}" and text in str(fault)), None)
        assert hit is not None, f"{path.name}:{line}: {text}\nnot among\n" + "\n".join(map(str, faults))
        faults.remove(hit)
    assert faults == []


def test_the_loop_of_the_design_is_sound_with_its_columns_known() -> None:
    loop = load(shape("sound")).loop
    assert loop.check() == ()
    assert loop.check(COLUMNS) == ()
    require_sound(loop, COLUMNS)


def test_unknown_columns_are_found_once_the_columns_are_known() -> None:
    loop = load(shape("sound")).loop
    renamed = {("customer_ID" if name == "customer_id" else name): kind for name, kind in COLUMNS.items()}
    del renamed["gender"]
    texts = [str(fault) for fault in loop.check(renamed)]
    assert len(texts) == 4
    assert 'key column "customer_id" is not in the data. Did you mean "customer_ID"?' in texts[0]
    assert 'sensitive column "gender" is not in the data.' in texts[1]
    assert 'Unique("customer_id"): there is no column "customer_id".' in texts[2]
    assert 'SliceGap("gender", "recall", max_gap=0.05): there is no column "gender".' in texts[3]


def test_a_feature_that_must_not_be_served_is_allowed_where_nothing_is_served() -> None:
    loop = load(shape("window")).loop
    loop.deploy = None
    assert [str(fault).split(": ")[1] for fault in loop.check()] == ["feature odd_window"]


def test_all_faults_are_carried_by_one_error() -> None:
    with pytest.raises(DeclarationError) as raised:
        require_sound(load(shape("cycle")).loop)
    assert len(raised.value.faults) == 2
    assert "a -> c -> b -> a" in str(raised.value)


def test_a_check_takes_milliseconds() -> None:
    loop = load(shape("sound")).loop
    loop.check()
    started = time.perf_counter()
    for _ in range(10):
        loop.check(COLUMNS)
    assert (time.perf_counter() - started) / 10 < 0.05
